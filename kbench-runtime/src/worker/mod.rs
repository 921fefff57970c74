//! The worker: serves jobs over JSON lines. [`run`] is the whole program behind `cargo kbench worker`.
//!
//! How it ends, and with which status:
//!
//! - 0 at the end of its input, at once, whatever a kernel is doing: the driver has gone;
//! - 0 after the event of a [fatal](Failure::is_fatal) failure: the driver starts another worker;
//! - 0 after [`Event::Ran`], in good order: a tool around the worker reports when it ends;
//! - [`NO_DEVICE`] after [`Event::NoDevice`]: no device, or a driver of another protocol version;
//! - 101 when something is wrong with the worker or the driver: a panic, or a line that is not the protocol. Stderr says what.
//!
//! A C kernel has a process of its own, and what becomes of that is an event like any other. A CUDA kernel that crashes its driver
//! takes the worker with it: the signal is the driver's to see, and one that hangs is the driver's to end.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::unistd::Pid;

use crate::device::Device;
use crate::device::cuda::CudaDevice;
use crate::device::fake::FakeDevice;
use crate::device::host::HostDevice;
use crate::device::mutant::MutantDevice;
use crate::process::descendants;
use crate::protocol::{BEAT, DeviceKind, Event, Failure, Mutation, Request, Stage, VERSION};
use crate::verify::check::Session;

/// Exit status after [`Event::NoDevice`].
pub const NO_DEVICE: u8 = 3;

/// Exit status after a line that is not the protocol.
pub const BROKEN: u8 = 101;

type Requests = Receiver<Result<Request, String>>;

/// Serves this process's standard input and output; gives the exit status.
///
/// Kernels see an empty standard input, and what they print goes to standard error: the protocol has both streams for itself.
/// Jobs run on the calling thread, which should be the main thread, since kernels may need its stack.
pub fn run() -> u8 {
    keep_to_itself();
    let streams = || -> io::Result<_> {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        let output = io::stdout().as_fd().try_clone_to_owned()?;
        nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
        nix::unistd::dup2_stdout(io::stderr())?;
        Ok((File::from(input), File::from(output)))
    };
    let ended = streams().and_then(|(input, output)| {
        let requests = read(BufReader::with_capacity(1 << 16, input), || {
            descendants::end_below(Pid::this());
            // SAFETY: always allowed. Destructors are left out on purpose: they could wait for the kernel that hangs.
            unsafe { nix::libc::_exit(0) }
        });
        let output = Shared(Arc::new(Mutex::new(output)));
        beat(output.clone());
        answer(&requests, output)
    });
    ended.unwrap_or_else(|error| {
        eprintln!("kbench worker: {error}");
        BROKEN
    })
}

/// Keeps C kernels from this process and from each other, and their traces from the user's folders: no core files, no address that
/// differs from kernel to kernel, no look into this process, and no process that outlives it. What a system does not permit is left.
pub(crate) fn keep_to_itself() {
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    #[cfg(target_os = "linux")]
    // SAFETY: these take integers.
    unsafe {
        nix::libc::prctl(nix::libc::PR_SET_DUMPABLE, 0);
        nix::libc::personality(nix::libc::ADDR_NO_RANDOMIZE as nix::libc::c_ulong);
    }
}

/// The output, of which two threads write whole lines.
#[derive(Clone)]
struct Shared(Arc<Mutex<File>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().expect("no panic while held").write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says that the worker lives, on a thread of its own, until nobody listens.
fn beat(mut output: Shared) {
    thread::spawn(move || {
        while send(&mut output, &Event::Beat).is_ok() {
            thread::sleep(BEAT);
        }
    });
}

/// Serves requests until their end, finishing those already read; gives the exit status of a process that did.
pub fn serve(input: impl BufRead + Send + 'static, output: impl Write) -> io::Result<u8> {
    answer(&read(input, || {}), output)
}

/// Reads requests on a thread of its own, so that the end of the input is seen while a kernel runs.
fn read(input: impl BufRead + Send + 'static, at_end: impl FnOnce() + Send + 'static) -> Requests {
    // Unbounded: a reader that waits for room would not see the end.
    let (sender, requests) = channel();
    thread::spawn(move || {
        for line in input.lines() {
            let request = match line {
                Ok(line) if line.trim().is_empty() => continue,
                Ok(line) => serde_json::from_str(&line).map_err(|error| {
                    let start: String = line.chars().take(80).collect();
                    format!("not a request: {error} in `{start}`")
                }),
                // The other side is gone.
                Err(_) => break,
            };
            if sender.send(request).is_err() {
                return;
            }
        }
        at_end();
    });
    requests
}

fn send(output: &mut impl Write, event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}

fn broken(what: &str) -> u8 {
    eprintln!("kbench worker: {what}");
    BROKEN
}

/// The first line, then the jobs.
fn answer(requests: &Requests, output: impl Write) -> io::Result<u8> {
    let (protocol, device, index, cache, mutation) = match requests.recv() {
        Ok(Ok(Request::Hello { protocol, device, index, cache, mutation })) => {
            (protocol, device, index, cache, mutation)
        }
        Ok(Ok(_)) => return Ok(broken("the first request was no hello")),
        Ok(Err(error)) => return Ok(broken(&error)),
        Err(_) => return Ok(0),
    };
    let no_device = |mut output, message: String| {
        send(&mut output, &Event::NoDevice { message })?;
        Ok(NO_DEVICE)
    };
    if protocol != VERSION {
        let message = format!(
            "the driver speaks protocol {protocol}, this worker {VERSION}: install the same cargo-kbench on both sides"
        );
        return no_device(output, message);
    }
    match device {
        DeviceKind::Fake => open(FakeDevice::open(index), mutation, cache, requests, output),
        DeviceKind::Host if index == 0 => {
            descendants::adopt_orphans();
            open(HostDevice::open(), mutation, cache, requests, output)
        }
        DeviceKind::Host => no_device(output, format!("there is no host device {index}, only 0")),
        DeviceKind::Cuda => match CudaDevice::open(index) {
            Ok(device) => open(device, mutation, cache, requests, output),
            Err(message) => no_device(output, message),
        },
    }
}

/// The jobs on a device as it is, or on one that an audit has made wrong.
fn open<D: Device>(
    device: D,
    mutation: Option<Mutation>,
    cache: Option<PathBuf>,
    requests: &Requests,
    output: impl Write,
) -> io::Result<u8> {
    match mutation {
        None => jobs(device, cache, requests, output),
        Some(mutation) => jobs(MutantDevice::new(device, mutation), cache, requests, output),
    }
}

fn jobs<D: Device>(device: D, cache: Option<PathBuf>, requests: &Requests, mut output: impl Write) -> io::Result<u8> {
    let kind = device.info().kind;
    send(&mut output, &Event::Hello { protocol: VERSION, device: device.info().clone() })?;
    let mut session = Session::new(device, cache);
    while let Ok(request) = requests.recv() {
        let last = matches!(request, Ok(Request::Run(_)));
        let mut entered = Stage::Launch;
        let ended = {
            // A stage that cannot be sent means that the driver has gone; the next event says so too.
            let mut say = |id: u64, stage: Stage| {
                if stage.runs_kernel() {
                    entered = stage;
                }
                drop(send(&mut output, &Event::Stage { id, stage }));
            };
            match request {
                Err(error) => return Ok(broken(&error)),
                Ok(Request::Hello { .. }) => return Ok(broken("a second hello")),
                Ok(Request::Blob { hash, data }) => {
                    if !session.add_blob(&hash, data.0) {
                        return Ok(broken(&format!("blob {hash} is not what its hash says")));
                    }
                    continue;
                }
                Ok(Request::Limit { seconds }) => {
                    let Ok(limit) = Duration::try_from_secs_f64(seconds) else {
                        return Ok(broken("a limit that is no time"));
                    };
                    session.limit(limit);
                    continue;
                }
                Ok(Request::Check(job)) => {
                    let id = job.id;
                    let checked = session.check(&job, &mut |stage| say(id, stage));
                    checked.map(|seeds| Event::Checked { id, seeds }).map_err(|failure| (id, 0, failure))
                }
                Ok(Request::Inspect(job)) => {
                    let id = job.id;
                    let checked = session.inspect(&job, &mut |stage| say(id, stage));
                    checked.map(|seed| Event::Checked { id, seeds: vec![seed] }).map_err(|failure| (id, 0, failure))
                }
                Ok(Request::Time(job)) => {
                    let id = job.id;
                    let timed = session.time(&job, &mut |stage| say(id, stage));
                    timed.map(|timings| Event::Timed { id, timings }).map_err(|(case, failure)| (id, case, failure))
                }
                Ok(Request::Meter { id }) => Ok(Event::Metered { id, energy: session.meter() }),
                Ok(Request::Run(job)) => {
                    let id = job.id;
                    let ran = session.run(&job, &mut |stage| say(id, stage));
                    ran.map(|counts| Event::Ran { id, counts }).map_err(|failure| (id, 0, failure))
                }
            }
        };
        let is_fatal = matches!(&ended, Err((.., failure)) if failure.is_fatal(kind));
        let event = ended.unwrap_or_else(|(id, case, failure)| {
            let failure = match failure {
                // A device does not know its part of a job.
                Failure::Hang { seconds, .. } => Failure::Hang { seconds, stage: entered },
                other => other,
            };
            Event::Failed { id, case, failure }
        });
        send(&mut output, &event)?;
        if is_fatal {
            // Destructors would only meet the lost context again.
            std::mem::forget(session);
            return Ok(0);
        }
        if last {
            // Destructors and exit handlers run: the tool around this process may wait for them.
            return Ok(0);
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests;
