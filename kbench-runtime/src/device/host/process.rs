//! A kernel process: holds one loaded kernel and runs the worker's commands. It is this program, started anew. Above
//! 400 lines: the start of the process, its isolation and every command, in the order in which they happen.
//!
//! The process has nothing of the worker's except one end of a [channel](super::channel) and the memory of the kernel's
//! tensors. Effects of the user's code on the process (limits, handlers, descriptors, threads) end with it.

use std::ffi::c_void;
use std::fs::File;
#[cfg(not(target_os = "linux"))]
use std::io::Write as _;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Instant;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use nix::libc;

use super::channel::{Answer, Answered, Argument, Caches, Call, Channel, Command, Frame, Stretch};
use super::environment::Environment;
use super::memory::{ALIGN, GUARD_PAGES, Mapping};
use super::threads;
use super::{caches, counters, guard_pages};
use crate::protocol::Failure;

/// Variable in the environment of a program that is to become a kernel process; its value is the worker's process id.
pub(super) const MARK: &str = "KBENCH_KERNEL_PROCESS";

/// Number of the channel's descriptor, beyond the numbers of code that counts from 3.
const CHANNEL_AT: libc::c_int = 900;

type Entry = unsafe extern "C" fn(*mut *mut c_void);

/// Serves as a kernel process and never returns, if a worker started this program as one. Otherwise returns at once.
///
/// # Safety
///
/// Call this first in `main`, before any other thread exists: it changes the environment and the file descriptors of the process. A kernel
/// process then loads and runs the machine code that the worker sends, which may do anything to this process.
pub unsafe fn run_kernel_process() {
    let Some(judge) = std::env::var(MARK).ok().and_then(|judge| judge.parse().ok()) else { return };
    // SAFETY: nothing else runs in this process yet.
    unsafe { std::env::remove_var(MARK) };
    end_with(judge);
    let error = claim_channel().and_then(|channel| serve(&channel)).err();
    // Closing the channel ends the worker's wait.
    if let Some(error) = error.filter(|error| error.kind() != std::io::ErrorKind::UnexpectedEof) {
        eprintln!("kernel process: {error}");
    }
    // SAFETY: always allowed. Destructors and exit handlers would be the kernel's.
    unsafe { libc::_exit(1) }
}

/// Ends this process when the worker ends, and protects the worker from it as far as the system can.
fn end_with(judge: libc::pid_t) {
    #[cfg(target_os = "linux")]
    {
        /// The capability by which root can read any process.
        const CAP_SYS_PTRACE: libc::c_ulong = 19;
        // SAFETY: these take integers.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            // Only root may do this; others do not need it.
            libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_PTRACE);
        }
        drop_capability(CAP_SYS_PTRACE);
    }
    // The worker may have ended before.
    // SAFETY: always allowed.
    unsafe {
        if libc::getppid() != judge {
            libc::_exit(0);
        }
    }
}

/// Removes a capability from this process, if it has it.
#[cfg(target_os = "linux")]
fn drop_capability(capability: libc::c_ulong) {
    // `_LINUX_CAPABILITY_VERSION_3`, for this process: two words each of effective, permitted and inheritable ones.
    let header = [0x2008_0522_u32, 0];
    let mut sets = [[0_u32; 3]; 2];
    // SAFETY: header and sets are of the sizes that this version has.
    unsafe {
        if libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) == 0 {
            for set in &mut sets[(capability / 32) as usize] {
                *set &= !(1 << (capability % 32));
            }
            libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr());
        }
    }
}

/// The channel is standard input; moves it and closes all other descriptors that are not for the kernel.
fn claim_channel() -> std::io::Result<ManuallyDrop<Channel>> {
    // SAFETY: the calls take integers; a process that has just begun owns no descriptors from 3 on.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        let at = CHANNEL_AT.min(libc::c_int::try_from(limit.rlim_cur).unwrap_or(CHANNEL_AT) - 1).max(3);
        let channel = libc::fcntl(0, libc::F_DUPFD_CLOEXEC, at);
        if channel < 0 {
            return Err(std::io::Error::last_os_error());
        }
        for descriptor in open_descriptors().into_iter().filter(|open| *open > 2 && *open != channel) {
            libc::close(descriptor);
        }
        nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
        guard_pages::CHANNEL.store(channel, Ordering::Relaxed);
        // Never closed: the kernel may have closed it.
        Ok(ManuallyDrop::new(Channel::of(OwnedFd::from_raw_fd(channel))))
    }
}

/// All descriptors, also the one by which they are listed.
fn open_descriptors() -> Vec<libc::c_int> {
    let listed = std::fs::read_dir(if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" });
    match listed {
        Ok(listed) => listed.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect(),
        Err(_) => (0..1024).collect(),
    }
}

/// Answers the worker until the channel closes.
fn serve(channel: &Channel) -> std::io::Result<()> {
    guard_pages::install();
    let mut state = State::default();
    loop {
        let frame: Frame<Command> = channel.receive(&mut || Ok(()))?;
        guard_pages::COMMAND.store(frame.number, Ordering::Relaxed);
        let number = frame.number;
        let answer: Answered = state.obey(frame);
        channel.send(number, &answer, &[], &[])?;
    }
}

/// State of a kernel process.
#[derive(Default)]
struct State {
    loaded: Option<Loaded>,
}

impl State {
    fn obey(&mut self, frame: Frame<Command>) -> Answered {
        let Frame { value, bytes, descriptors, .. } = frame;
        match value {
            Command::Load { entries } => {
                for code in descriptors {
                    // An earlier instance stays loaded.
                    std::mem::forget(self.loaded.replace(Loaded::new(&entries, code)?));
                }
            }
            Command::SetSymbol { symbol, offset } => self.loaded()?.set_symbol(&symbol, offset, &bytes)?,
            Command::Bind { sizes, calls, watched } => {
                let bound = Bound::new(&sizes, &descriptors, calls, watched)?;
                self.loaded()?.bound.push(bound);
            }
            Command::Run { bound, times } => {
                let loaded = self.loaded()?;
                let bound = loaded.bound(bound)?;
                bound.enter();
                let ((), used) = threads::used(true, || loaded.launch(bound, times));
                bound.leave();
                return Ok(Answer::Ran(used));
            }
            Command::Count { bound } => {
                let loaded = self.loaded()?;
                let bound = loaded.bound(bound)?;
                let counted = loaded.in_environment(|| counters::around(|| loaded.call(bound)));
                return Ok(Answer::Counted(counted));
            }
            Command::Prepare { bound, cache } => self.loaded()?.bound(bound)?.prepare(&cache),
            Command::Sample { bound, batch, lead } => {
                let loaded = self.loaded()?;
                let bound = loaded.bound(bound)?;
                let ((clock, processor), used) = threads::used(false, || loaded.sample(bound, batch, lead));
                return Ok(Answer::Sampled { clock, processor, used });
            }
            Command::Forget => caches::forget_branches(),
            Command::Wake => {}
            Command::Spin { nanoseconds } => {
                let ((clock, processor), used) = threads::used(false, || timed(|| spin(nanoseconds)));
                return Ok(Answer::Sampled { clock, processor, used });
            }
        }
        Ok(Answer::Done)
    }

    fn loaded(&mut self) -> Result<&mut Loaded, Failure> {
        self.loaded.as_mut().ok_or_else(|| Failure::Protocol { message: "no kernel is loaded".to_owned() })
    }
}

/// Nanoseconds by the clock and of processor time.
fn timed(run: impl FnOnce()) -> (u64, u64) {
    let (before, start) = (threads::process_time(), Instant::now());
    run();
    let elapsed = start.elapsed();
    (elapsed.as_nanos() as u64, threads::process_time().saturating_sub(before))
}

fn spin(nanoseconds: u64) {
    let start = Instant::now();
    while start.elapsed().as_nanos() < u128::from(nanoseconds) {
        std::hint::spin_loop();
    }
}

/// A loaded shared object and the function of each call of a run. It is never unloaded: the process ends.
struct Loaded {
    entries: Vec<Entry>,
    object: Library,
    /// The floating-point environment after loading. `-ffast-math` has a constructor that flushes denormals to zero.
    environment: Environment,
    bound: Vec<Bound>,
}

impl Loaded {
    fn new(entries: &[String], code: OwnedFd) -> Result<Self, Failure> {
        let refused = |error: &dyn std::error::Error| {
            // The dynamic linker's own words are the source.
            let causes = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
            Failure::LoadFailed { message: causes.collect::<Vec<_>>().join(": ") }
        };
        // Left open: tools find source lines by this name. The field is a number, since the kernel may close the file.
        #[cfg(target_os = "linux")]
        let path = format!("/proc/self/fd/{}", std::os::fd::IntoRawFd::into_raw_fd(code));
        #[cfg(not(target_os = "linux"))]
        let (path, _file) = named_file(code).map_err(|error| refused(&error))?;
        let own = Environment::get();
        // SAFETY: constructors of the shared object run here; it is the user's own code, in a process kept for it.
        let library = in_one_process(|| unsafe { Library::open(Some(&*path), RTLD_NOW | RTLD_LOCAL) });
        let environment = Environment::get();
        own.set();
        let library = library.map_err(|error| refused(&error))?;
        let find = |entry: &String| {
            // SAFETY: the symbol is a generated shim of this signature, and the library stays loaded.
            let found = unsafe { library.get::<Entry>(entry) };
            Ok(*found.map_err(|_| Failure::SymbolNotFound { symbol: entry.clone() })?)
        };
        let entries = entries.iter().map(find).collect::<Result<_, Failure>>()?;
        Ok(Self { entries, object: library, environment, bound: Vec::new() })
    }

    /// Writes to a global, whose size the worker has checked.
    fn set_symbol(&self, symbol: &str, offset: usize, data: &[u8]) -> Result<(), Failure> {
        // SAFETY: only the address is taken.
        let address = *unsafe { self.object.get::<*mut u8>(symbol) }
            .map_err(|_| Failure::SymbolNotFound { symbol: symbol.to_owned() })?;
        // SAFETY: the symbol holds as many bytes, unless the machine code does not say; then the table is believed.
        unsafe { address.add(offset).copy_from_nonoverlapping(data.as_ptr(), data.len()) };
        Ok(())
    }

    /// Calls `calls` with the floating-point environment after loading, for any later changes by the kernel.
    fn in_environment<R>(&self, calls: impl FnOnce() -> R) -> R {
        let own = Environment::get();
        self.environment.set();
        let result = in_one_process(calls);
        own.set();
        result
    }

    fn launch(&self, bound: &Bound, times: u32) {
        self.in_environment(|| self.calls(bound, times));
    }

    fn bound(&self, index: usize) -> Result<&Bound, Failure> {
        self.bound.get(index).ok_or_else(|| Failure::Protocol { message: "no such binding".to_owned() })
    }

    /// Nanoseconds of launches back to back, by the clock and of processor time. With `lead`, an untimed launch and
    /// this number of nanoseconds come before.
    fn sample(&self, bound: &Bound, batch: u32, lead: Option<u64>) -> (u64, u64) {
        self.in_environment(|| {
            let Some(nanoseconds) = lead else { return timed(|| self.calls(bound, batch)) };
            unheard(|| {
                self.calls(bound, 1);
                spin(nanoseconds);
                timed(|| self.calls(bound, batch))
            })
        })
    }

    /// Runs `count` times. All runs are made here, so that a kernel cannot distinguish timed runs by their return
    /// address.
    #[inline(never)]
    fn calls(&self, bound: &Bound, times: u32) {
        for _ in 0..times {
            self.call(bound);
        }
    }

    /// One run. It allocates and copies nothing, since it is timed.
    #[inline]
    fn call(&self, bound: &Bound) {
        for (entry, call) in self.entries.iter().zip(&bound.calls) {
            for (start, bytes) in &call.zero {
                // SAFETY: the stretch is inside memory that `bound` owns.
                unsafe { start.write_bytes(0, *bytes) };
            }
            // SAFETY: the entry is a shim of this signature that only reads the array, and each address in it stays valid as long
            // as `bound` does. The user's code behind the shim may do anything; therefore it has this process for itself.
            unsafe { entry(call.args.as_ptr().cast_mut()) }
        }
    }
}

/// Runs code and discards its output: a reader of the output would sleep in a pause, and waking it takes longer than a
/// short kernel.
fn unheard<R>(code: impl FnOnce() -> R) -> R {
    const OUTPUTS: [libc::c_int; 2] = [libc::STDOUT_FILENO, libc::STDERR_FILENO];
    let Ok(sink) = File::options().write(true).open("/dev/null") else { return code() };
    // SAFETY: plain calls on descriptors.
    let kept = OUTPUTS.map(|output| unsafe { libc::fcntl(output, libc::F_DUPFD_CLOEXEC, 3) });
    for (output, kept) in OUTPUTS.into_iter().zip(kept) {
        if kept >= 0 {
            // SAFETY: as above.
            unsafe { libc::dup2(sink.as_raw_fd(), output) };
        }
    }
    let result = code();
    for (output, kept) in OUTPUTS.into_iter().zip(kept) {
        if kept >= 0 {
            // SAFETY: as above.
            unsafe {
                libc::dup2(kept, output);
                libc::close(kept);
            }
        }
    }
    result
}

/// Runs the user's code. If it forks and returns twice, the copy ends here: otherwise it would continue as a second
/// process on the same channel.
fn in_one_process<R>(code: impl FnOnce() -> R) -> R {
    let process = std::process::id();
    let result = code();
    if std::process::id() != process {
        // SAFETY: always allowed.
        unsafe { libc::_exit(0) }
    }
    result
}

/// A call with its addresses.
struct BoundCall {
    /// Argument array of the shim: addresses inside `memory` and `scalars`.
    args: Vec<*mut c_void>,
    /// Memory that is zeroed before the call.
    zero: Vec<(*mut u8, usize)>,
}

/// The calls of a run.
struct Bound {
    calls: Vec<BoundCall>,
    /// Memory of the tensors among the arguments.
    ranges: Vec<(*mut u8, usize)>,
    memory: Vec<Mapping>,
    /// Under a tool: allocated memory, whose bounds the tool knows, with the memory that it replaces.
    watched: Vec<(*mut u8, usize)>,
    /// Eight-byte words, so that each scalar is aligned for its type; moving the vector does not move them.
    scalars: Vec<Box<[u64]>>,
}

impl Bound {
    fn new(sizes: &[usize], descriptors: &[OwnedFd], calls: Vec<Call>, watched: bool) -> Result<Self, Failure> {
        let mut bound = Self {
            calls: Vec::new(),
            ranges: Vec::new(),
            memory: Vec::new(),
            watched: Vec::new(),
            scalars: Vec::new(),
        };
        for (bytes, descriptor) in sizes.iter().zip(descriptors) {
            let out_of_memory = Failure::OutOfMemory { bytes: *bytes as u64 };
            let mapping = Mapping::new(descriptor.as_raw_fd(), *bytes, GUARD_PAGES).ok_or(out_of_memory.clone())?;
            guard_pages::register(&mapping, *bytes);
            if watched {
                let layout = std::alloc::Layout::from_size_align((*bytes).max(1), ALIGN).map_err(|_| out_of_memory)?;
                // SAFETY: the layout's size is not zero. Never freed: the process ends.
                bound.watched.push((unsafe { std::alloc::alloc(layout) }, *bytes));
            }
            bound.memory.push(mapping);
        }
        for Call { arguments, zero } in calls {
            let args = arguments.into_iter().map(|argument| bound.argument(argument)).collect();
            let zero = zero.into_iter().map(|stretch| (bound.at(stretch), stretch.bytes)).collect();
            bound.calls.push(BoundCall { args, zero });
        }
        Ok(bound)
    }

    /// The address that a shim gets for an argument.
    fn argument(&mut self, argument: Argument) -> *mut c_void {
        match argument {
            Argument::Pointer(stretch) => self.pointer(stretch).cast(),
            Argument::Scalar(bytes) => self.value(&bytes),
            Argument::Struct { mut bytes, pointers } => {
                for (at, stretch) in pointers {
                    let address = (self.pointer(stretch) as usize).to_ne_bytes();
                    bytes[at..at + address.len()].copy_from_slice(&address);
                }
                self.value(&bytes)
            }
        }
    }

    /// The address of a range for the kernel.
    fn pointer(&mut self, stretch: Stretch) -> *mut u8 {
        let start = self.at(stretch);
        if !self.ranges.contains(&(start, stretch.bytes)) {
            self.ranges.push((start, stretch.bytes));
        }
        start
    }

    /// The address of a copy of these bytes.
    fn value(&mut self, bytes: &[u8]) -> *mut c_void {
        let word = |bytes: &[u8]| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_ne_bytes(word)
        };
        let mut words: Box<[u64]> = bytes.chunks(8).map(word).collect();
        let address = words.as_mut_ptr().cast();
        self.scalars.push(words);
        address
    }

    /// The address of a range of memory in this process.
    fn at(&self, stretch: Stretch) -> *mut u8 {
        let start =
            self.watched.get(stretch.memory).map_or_else(|| self.memory[stretch.memory].start.as_ptr(), |at| at.0);
        // SAFETY: the worker requests addresses in memory that it sent.
        unsafe { start.add(stretch.offset) }
    }

    fn prepare(&self, cache: &Caches) {
        match cache {
            Caches::Flushed => caches::flush(&self.ranges),
            Caches::Holding(written) => {
                for stretch in written {
                    caches::own(self.at(*stretch), stretch.bytes);
                }
            }
        }
    }

    /// Copies the contents of the replaced memory to the memory that a tool observes.
    fn enter(&self) {
        for (mapping, (memory, bytes)) in self.memory.iter().zip(&self.watched) {
            // SAFETY: both have the same size, and neither overlaps the other.
            unsafe { memory.copy_from_nonoverlapping(mapping.start.as_ptr(), *bytes) };
        }
    }

    /// Copies the kernel's results back.
    fn leave(&self) {
        for (mapping, (memory, bytes)) in self.memory.iter().zip(&self.watched) {
            // SAFETY: as in `enter`.
            unsafe { mapping.start.as_ptr().copy_from_nonoverlapping(*memory, *bytes) };
        }
    }
}

/// A file with a name that holds the machine code.
#[cfg(not(target_os = "linux"))]
fn named_file(code: OwnedFd) -> std::io::Result<(std::path::PathBuf, tempfile::NamedTempFile)> {
    let mut file = tempfile::Builder::new().prefix("kbench-").suffix(".so").tempfile()?;
    std::io::copy(&mut File::from(code), &mut file)?;
    file.flush()?;
    Ok((file.path().to_owned(), file))
}

#[cfg(test)]
mod tests {
    /// Not a test: the program of the kernel processes that the tests of this crate start.
    #[test]
    fn kernel_process() {
        // SAFETY: the test process was started for this.
        unsafe { super::run_kernel_process() };
    }
}
