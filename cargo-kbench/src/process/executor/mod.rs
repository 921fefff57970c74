//! The driver's end of the worker: starts the process, sends jobs, and replaces the process when it fails.
//!
//! A kernel may hang, crash or corrupt its CUDA context. That costs one job: at the deadline the worker's process group
//! is ended, the reason becomes a [`Failure`], and the next job starts a new worker.
//!
//! Above 400 lines: one type, one method for each kind of job.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kbench_runtime::driver::reference::{self, Outputs};
use kbench_runtime::protocol::{
    self, Bytes, Case, CheckJob, Data, DeviceInfo, DeviceKind, Event, Failure, InspectJob, Reference, Request,
    SeedReport, Source, Stage, TensorSpec, TimeJob, Timing,
};

pub use options::{ExecutorError, WorkerOptions};
pub use tool::Watched;
pub(crate) use worker::{Heard, Message, WaitError, Worker};

mod answer;
mod line;
mod options;
mod ship;
mod stderr;
mod tool;
mod worker;

/// Deadline of stages that the kernel does not cause: opening a device, making inputs, a slow reference.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);
/// Time beyond the kernel's deadline for a worker that runs the kernel in a process of its own.
const BEYOND: Duration = Duration::from_secs(2);
/// Largest number of bytes of a worker's line, which has room for the samples of every contender.
pub(crate) const LONGEST_LINE: u64 = 64 << 20;
/// Number of lines of a kernel's output that are added to its failure.
const WORDS: usize = 20;
/// Number of lost workers after which the variant is rejected.
const MOST_LOST: u32 = 2;
/// Smallest number of bytes that are compressed: a compressor begins with the allocation of large tables.
const PACKED: usize = 4096;
/// Interval between two checks for [an interrupt](crate::interrupt): with many workers, most of them wait.
const TICK: Duration = Duration::from_millis(200);

/// A supervised worker.
pub struct Executor {
    options: WorkerOptions,
    worker: Option<Worker>,
    info: Option<DeviceInfo>,
    /// UUIDs of the devices; see [`visible`](Self::visible).
    visible: Vec<String>,
    /// Files by hash, shared by the executors of one harness.
    blobs: Arc<Mutex<HashMap<String, PathBuf>>>,
    /// Hashes of files and keys of results that the running worker has.
    sent: HashSet<String>,
    /// Results of reference programs that the next job needs, for a worker that may not see their folder.
    results: BTreeMap<String, Arc<Outputs>>,
    /// Deadline of launches that the worker has.
    limit: Option<Duration>,
    /// Number of workers that the current evaluation has cost; `None` outside of an evaluation, where each job is
    /// counted separately.
    lost: Option<u32>,
    /// Flag that ends the wait for a worker that is not open yet.
    ended: Arc<AtomicBool>,
    /// Whether the worker's machine lacks this program.
    ships: bool,
}

impl Executor {
    /// A worker that is started on first use.
    pub fn new(options: WorkerOptions) -> Self {
        Self {
            options,
            worker: None,
            info: None,
            visible: Vec::new(),
            blobs: Arc::default(),
            sent: HashSet::new(),
            results: BTreeMap::new(),
            limit: None,
            lost: None,
            ended: Arc::default(),
            ships: false,
        }
    }

    /// Another worker that gets the same files and is started on first use.
    #[must_use]
    pub fn beside(&self, options: WorkerOptions) -> Self {
        let ships = self.ships && options.runner == self.options.runner && options.path == self.options.path;
        Self { blobs: Arc::clone(&self.blobs), ships, ..Self::new(options) }
    }

    /// Another worker for the same device and files, under a tool that observes it; an empty tool is none.
    #[must_use]
    pub fn under(&self, tool: Vec<String>) -> Self {
        self.beside(WorkerOptions { tool, ..self.options.clone() })
    }

    /// Settings of the worker.
    pub fn options(&self) -> &WorkerOptions {
        &self.options
    }

    /// UUIDs of the CUDA devices on the worker's machine, by index, once the worker was started.
    pub fn visible(&self) -> &[String] {
        &self.visible
    }

    /// The device, if it was opened before.
    pub fn opened(&self) -> Option<&DeviceInfo> {
        self.info.as_ref()
    }

    /// Sets a flag that ends the wait for a worker that is not open yet.
    pub fn until(&mut self, ended: Arc<AtomicBool>) {
        self.ended = ended;
    }

    /// Starts an evaluation that has cost `lost` workers elsewhere; `None` ends it.
    pub fn evaluates(&mut self, lost: Option<u32>) {
        self.lost = lost;
        // A worker that ended since then ended for an earlier job. An evaluation that cost a worker gets a new one,
        // without damage by earlier kernels.
        if lost > Some(0) || self.worker.as_mut().is_some_and(Worker::has_ended) {
            self.worker = None;
        }
    }

    /// Number of workers that the current evaluation has cost.
    pub fn lost(&self) -> u32 {
        self.lost.unwrap_or(0)
    }

    /// Adds a file by its hash; it is sent to a worker when a job first names it.
    pub fn add_blob(&mut self, hash: &str, path: &Path) {
        let mut blobs = self.blobs.lock().expect("no panic while held");
        blobs.entry(hash.to_owned()).or_insert_with(|| path.to_owned());
    }

    /// Sends a result of a reference program before the next job, to a worker that may be on another machine.
    pub fn provide(&mut self, key: &str, outputs: &Arc<Outputs>) {
        if !self.options.runner.is_empty() {
            self.results.insert(key.to_owned(), Arc::clone(outputs));
        }
    }

    /// The device, opened on first use.
    pub fn device(&mut self) -> Result<DeviceInfo, ExecutorError> {
        if self.worker.is_none() || self.info.is_none() {
            self.start()?;
        }
        Ok(self.info.clone().expect("set by start"))
    }

    /// Compares a kernel with its reference. `timeout` is the deadline of one launch.
    pub fn check(&mut self, mut job: CheckJob, timeout: Duration) -> Result<Vec<SeedReport>, ExecutorError> {
        job.id = Self::id();
        let request = Request::Check(Box::new(job));
        let Request::Check(job) = &request else { unreachable!("made above") };
        let mut blobs = case_blobs(&job.case);
        blobs.extend(reference_blob(&job.reference));
        blobs.extend(job.options.naive.as_ref().map(|naive| &naive.blob));
        match self.submit(&blobs, job.id, &request, timeout)? {
            Event::Checked { seeds, .. } => self.accept(answer::check(job, &seeds), seeds),
            other => Err(protocol_error(&other)),
        }
    }

    /// Compares outputs of another program with the reference.
    pub fn inspect(&mut self, mut job: InspectJob, timeout: Duration) -> Result<Vec<SeedReport>, ExecutorError> {
        job.id = Self::id();
        let request = Request::Inspect(Box::new(job));
        let Request::Inspect(job) = &request else { unreachable!("made above") };
        let mut blobs = tensor_blobs(&job.tensors);
        blobs.extend(reference_blob(&job.reference));
        match self.submit(&blobs, job.id, &request, timeout)? {
            Event::Checked { seeds, .. } => self.accept(answer::inspect(job, &seeds), seeds),
            other => Err(protocol_error(&other)),
        }
    }

    /// Measures cases interleaved. `timeout` is the deadline of one launch or sample.
    pub fn time(&mut self, mut job: TimeJob, timeout: Duration) -> Result<Vec<Timing>, ExecutorError> {
        job.id = Self::id();
        let request = Request::Time(Box::new(job));
        let Request::Time(job) = &request else { unreachable!("made above") };
        let mut blobs = Vec::new();
        for timed in &job.cases {
            blobs.extend(case_blobs(&timed.case));
            blobs.extend(reference_blob(&timed.reference));
        }
        match self.submit(&blobs, job.id, &request, timeout)? {
            Event::Timed { timings, .. } => self.accept(answer::time(job, &timings), timings),
            other => Err(protocol_error(&other)),
        }
    }

    /// Reason why the device cannot measure the energy of a launch; `None` if it can.
    pub fn lacks_energy(&mut self) -> Result<Option<String>, ExecutorError> {
        let id = Self::id();
        match self.submit(&[], id, &Request::Meter { id }, PATIENCE)? {
            Event::Metered { energy, .. } => Ok(energy.err()),
            other => Err(protocol_error(&other)),
        }
    }

    /// Ends the workers of many, all at the same time.
    pub fn end_all<'e>(executors: impl IntoIterator<Item = &'e mut Self>) {
        let executors: Vec<&mut Self> = executors.into_iter().collect();
        let mut workers: Vec<Worker> = executors.into_iter().filter_map(|executor| executor.worker.take()).collect();
        worker::end_all(&mut workers.iter_mut().collect::<Vec<_>>());
    }

    /// An unpredictable number.
    fn id() -> u64 {
        RandomState::new().build_hasher().finish()
    }

    /// The answer, if it belongs to its question.
    fn accept<T>(&mut self, verdict: Result<(), String>, answer: T) -> Result<T, ExecutorError> {
        verdict.map(|()| answer).map_err(|message| {
            self.worker = None;
            ExecutorError::Job { case: 0, failure: Failure::Protocol { message } }
        })
    }

    /// Starts a worker, and starts it again if another process ended or stopped the first, or sends the program if the
    /// command ended by itself: the program may not be there.
    fn start(&mut self) -> Result<(), ExecutorError> {
        let first = match self.open() {
            Err(ExecutorError::Lost(failure)) => failure,
            opened => return opened,
        };
        let ships = self.ships;
        self.ships |= self.options.may_ship() && matches!(first, Failure::Exited { .. });
        let failed = match self.open() {
            Err(ExecutorError::Lost(failure)) => failure,
            opened => return opened,
        };
        let refused = matches!(failed, Failure::Exited { code: ship::REFUSED, .. }) && self.ships;
        // If no shell answered, the first attempt says more.
        let (ships, failure) = if refused { (true, failed) } else { (ships, first) };
        self.ships = ships;
        Err(ExecutorError::Start { command: self.options.describe(ships), message: failure.to_string() })
    }

    /// Starts a worker and has it open its device. [`ExecutorError::Lost`]: another process ended or stopped it.
    fn open(&mut self) -> Result<(), ExecutorError> {
        self.worker = None;
        self.limit = None;
        self.sent.clear();
        let command = self.options.describe(self.ships);
        let start_error = |message: String| ExecutorError::Start { command: command.clone(), message };
        let remote = !self.options.runner.is_empty();
        // This prevents a C kernel of the same user from reading or tracing this process.
        #[cfg(target_os = "linux")]
        let _ = nix::sys::prctl::set_dumpable(false);
        let started =
            self.options.command(self.ships).and_then(|words| Worker::spawn(&words, None, remote, LONGEST_LINE));
        let worker = started.map_err(|error| start_error(error.to_string()))?;
        let hello = Request::Hello {
            protocol: protocol::VERSION,
            device: self.options.device,
            index: self.options.index,
            // On another machine the folders differ too.
            cache: (self.options.path.is_none() && !self.ships).then(|| self.options.cache.clone()),
            mutation: self.options.mutation.clone(),
        };
        let worker = self.worker.insert(worker);
        // The heartbeat starts with the worker; a runner before it may take time.
        worker.beats = self.options.runner.is_empty() && self.options.tool.is_empty();
        // On another machine there may be a queue, for an unknown time.
        let patience = if self.options.runner.is_empty() { PATIENCE } else { Duration::MAX };
        let ended = Arc::clone(&self.ended);
        let mut queue = || if ended.load(Ordering::Relaxed) { Duration::ZERO } else { patience };
        let ready = if self.ships { ship::ship(worker, &self.options.tool, &mut queue) } else { Ok(()) };
        let answer = ready.and_then(|()| {
            worker.send(&hello);
            worker.wait(heard_in, &mut |_| queue())
        });
        match answer {
            Ok(Event::Hello { protocol: protocol::VERSION, device, visible }) => match &self.info {
                Some(before) if !before.is_same_model(&device) => {
                    self.worker = None;
                    let (before, after) = (&before.name, &device.name);
                    Err(start_error(format!("it opened another device than before: {before}, now {after}")))
                }
                _ => {
                    self.info = Some(device);
                    self.visible = visible;
                    Ok(())
                }
            },
            Ok(Event::Hello { protocol, .. }) => {
                self.worker = None;
                Err(start_error(format!("it speaks protocol {protocol}, this is {}", protocol::VERSION)))
            }
            Ok(Event::NoDevice { message }) => {
                self.worker = None;
                Err(ExecutorError::NoDevice(message))
            }
            Ok(other) => {
                self.worker = None;
                Err(start_error(format!("unexpected answer {other:?}")))
            }
            Err(WaitError::Interrupted) => {
                self.worker = None;
                Err(ExecutorError::Interrupted)
            }
            Err(WaitError::Lost(failure)) => {
                self.worker = None;
                Err(ExecutorError::Lost(failure))
            }
            Err(WaitError::Failure(failure)) => {
                self.worker = None;
                Err(start_error(failure.to_string()))
            }
        }
    }

    /// Runs a job with the provided results.
    fn submit(
        &mut self,
        blobs: &[&String],
        id: u64,
        request: &Request,
        timeout: Duration,
    ) -> Result<Event, ExecutorError> {
        let answer = self.run_job(blobs, id, request, timeout);
        self.results.clear();
        answer
    }

    /// Runs a job. Two kinds of failures cost another attempt: a worker that another process ended, and a worker that
    /// died after it had run other jobs, since an earlier kernel may have left damage or a timer.
    fn run_job(
        &mut self,
        blobs: &[&String],
        id: u64,
        request: &Request,
        timeout: Duration,
    ) -> Result<Event, ExecutorError> {
        let mut lost = self.lost();
        loop {
            self.device()?;
            let fresh = !self.worker.as_ref().is_some_and(|worker| worker.ran_a_kernel);
            let ended = self.run_once(blobs, id, request, timeout)?;
            let is_own = fresh && matches!(ended, JobEnd::Died(_));
            let is_lost = matches!(ended, JobEnd::Lost(_));
            let (case, failure) = match ended {
                JobEnd::Answered(event) => return Ok(event),
                JobEnd::Failed(case, failure) => return Err(ExecutorError::Job { case, failure }),
                JobEnd::Lost(of) | JobEnd::Died(of) => of,
            };
            lost += 1;
            self.lost = self.lost.map(|_| lost);
            if is_own || lost >= MOST_LOST {
                return Err(ExecutorError::Job { case, failure });
            }
            if is_lost && self.lost.is_some() {
                return Err(ExecutorError::Lost(failure));
            }
        }
    }

    /// Sends a job, after the files that the worker does not have yet.
    fn send(&mut self, blobs: &[&String], request: &Request) -> Result<&mut Worker, ExecutorError> {
        self.device()?;
        let worker = self.worker.as_mut().expect("started by device");
        // One write, so that a worker wakes up once for all.
        let mut lines = Vec::with_capacity(worker::USUAL);
        let mut fresh: Vec<&String> = Vec::new();
        for &hash in blobs {
            if self.sent.contains(hash) || fresh.contains(&hash) {
                continue;
            }
            let load_failed = |message| ExecutorError::Job { case: 0, failure: Failure::LoadFailed { message } };
            let path = self.blobs.lock().expect("no panic while held").get(hash).cloned();
            let path = path.ok_or_else(|| load_failed(format!("blob {hash} was never added")))?;
            let unread = |error| ExecutorError::Machine(format!("could not read {}: {error}", path.display()));
            let data = std::fs::read(&path).map_err(unread)?;
            worker::add_line(&Request::Blob { hash: hash.clone(), data: packed(data, worker.is_remote()) }, &mut lines);
            fresh.push(hash);
        }
        self.sent.extend(fresh.into_iter().cloned());
        for (key, outputs) in &self.results {
            if self.sent.insert(key.clone()) {
                let mut data = Vec::new();
                reference::encode(key, outputs, &mut data).expect("memory can be written");
                let data = packed(data, worker.is_remote());
                worker::add_line(&Request::Result { key: key.clone(), data }, &mut lines);
            }
        }
        worker::add_line(request, &mut lines);
        worker.send_bytes(lines);
        Ok(worker)
    }

    fn run_once(
        &mut self,
        blobs: &[&String],
        id: u64,
        request: &Request,
        timeout: Duration,
    ) -> Result<JobEnd, ExecutorError> {
        let device = self.options.device;
        let is_apart = device == DeviceKind::Host;
        if is_apart && self.limit != Some(timeout) {
            self.limit = Some(timeout);
            let limit = Request::Limit { seconds: timeout.as_secs_f64() };
            self.worker.as_mut().expect("started by submit").send(&limit);
        }
        let worker = self.send(blobs, request)?;
        worker.forget_words();
        // The worker ends a kernel's process in time; this deadline ends a worker that does not.
        let of_launch = if is_apart { timeout * 2 + BEYOND } else { timeout };
        let waited = worker.wait(heard_in, &mut |stage| patience(stage, of_launch));
        let (stage, case) = (worker.stage, worker.case);
        let ended = match waited {
            Ok(event) if answer::job_of(&event) != Some(id) => {
                let message = format!("an answer to another question: {event:?}").chars().take(200).collect();
                JobEnd::Lost((0, Failure::Protocol { message }))
            }
            Ok(Event::Failed { failure: Failure::Machine { message }, .. }) => {
                return Err(ExecutorError::Machine(message));
            }
            Ok(Event::Failed { case, failure, .. }) => {
                let failure = match failure {
                    Failure::Exited { code, stderr } if stderr.is_empty() => {
                        Failure::Exited { code, stderr: worker.says(WORDS) }
                    }
                    other => other,
                };
                if !failure.is_fatal(device) {
                    let is_lost = worker::is_from_outside(&failure);
                    return Ok(if is_lost { JobEnd::Lost((case, failure)) } else { JobEnd::Failed(case, failure) });
                }
                JobEnd::Failed(case, failure)
            }
            Ok(event) => return Ok(JobEnd::Answered(event)),
            Err(WaitError::Interrupted) => {
                self.worker = None;
                return Err(ExecutorError::Interrupted);
            }
            Err(WaitError::Lost(failure)) => JobEnd::Lost((case, failure)),
            // The worker died or hung while no variant ran: the table's reference is the cause.
            Err(WaitError::Failure(failure)) if stage == Some(Stage::Reference) && !worker.ran_a_kernel => {
                JobEnd::Failed(0, Failure::Reference { message: failure.to_string() })
            }
            Err(WaitError::Failure(failure @ (Failure::Signal { .. } | Failure::Exited { .. }))) => {
                JobEnd::Died((case, failure))
            }
            Err(WaitError::Failure(failure)) => JobEnd::Failed(case, failure),
        };
        self.worker = None;
        Ok(ended)
    }
}

/// Data for a worker, compressed for a worker on another machine unless compression takes longer than it saves.
fn packed(data: Vec<u8>, remote: bool) -> Data {
    if remote && data.len() >= PACKED { Data::deflated(data) } else { Data::Plain(Bytes(data)) }
}

/// End of a job in one worker; a failure has the index of its case.
enum JobEnd {
    Answered(Event),
    Failed(usize, Failure),
    /// The worker died.
    Died((usize, Failure)),
    /// Another process ended or stopped the worker.
    Lost((usize, Failure)),
}

/// Longest silence of a worker in a stage.
fn patience(stage: Option<Stage>, timeout: Duration) -> Duration {
    if stage.is_some_and(Stage::runs_kernel) { timeout } else { PATIENCE }
}

/// Every blob that a case names.
fn case_blobs(case: &Case) -> Vec<&String> {
    let mut blobs = tensor_blobs(&case.tensors);
    blobs.push(&case.sequence.blob);
    blobs
}

/// The machine code of a reference; none for a program.
fn reference_blob(reference: &Reference) -> Option<&String> {
    (!reference.program).then_some(&reference.sequence.blob)
}

fn tensor_blobs(tensors: &[TensorSpec]) -> Vec<&String> {
    let files = tensors.iter().filter_map(|tensor| match &tensor.source {
        Source::File { hash, .. } => Some(hash),
        _ => None,
    });
    files.collect()
}

fn heard_in(event: &Event) -> Heard {
    match event {
        Event::Stage { stage, .. } => Heard::Stage(*stage),
        Event::Heartbeat => Heard::Beat,
        _ => Heard::Answer,
    }
}

fn protocol_error(event: &Event) -> ExecutorError {
    ExecutorError::Job { case: 0, failure: Failure::Protocol { message: format!("unexpected answer {event:?}") } }
}
