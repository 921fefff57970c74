//! The worker: runs the jobs that it reads from standard input and writes events to standard output. [`run`] is the whole program behind
//! `cargo kbench worker`.
//!
//! Exit status:
//!
//! - 0 at the end of the input, at once, even while a kernel runs: the driver has exited;
//! - 0 after the event of a [fatal](Failure::is_fatal) failure: the driver starts another worker;
//! - 0 after [`Event::Ran`], with all destructors run: a tool around the worker reports at its exit;
//! - [`NO_DEVICE`] after [`Event::NoDevice`]: no device, or a driver of another protocol version;
//! - [`BROKEN`] after a panic, an I/O error, or a line that violates the protocol. Standard error has the message.
//!
//! A C kernel has a process of its own, and its end is an event of the worker. A CUDA kernel that crashes the CUDA driver crashes the worker:
//! the driver of the worker sees the signal, and ends a worker that hangs.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::unistd::Pid;

pub use crate::device::host::run_kernel_process;

use crate::device::Device;
use crate::device::cuda::CudaDevice;
use crate::device::fake::FakeDevice;
use crate::device::host::HostDevice;
use crate::device::mutant::MutantDevice;
use crate::measure::CaseFailure;
use crate::process::{descendants, isolate, threads};
use crate::protocol::{DeviceKind, Event, Failure, HEARTBEAT, Mutation, Request, Stage, VERSION};
use crate::verify::session::Session;

/// Exit status after [`Event::NoDevice`].
pub const NO_DEVICE: u8 = 3;

/// Exit status after a panic, an I/O error, or a line that violates the protocol.
pub const BROKEN: u8 = 101;

/// Requests from the reader thread; an error describes an invalid line.
type Requests = Receiver<Result<Request, String>>;

/// Reason why a worker ends before its input does.
#[derive(Debug, thiserror::Error)]
enum WorkerError {
    /// No device could be opened.
    #[error("{0}")]
    NoDevice(String),
    /// The driver violated the protocol.
    #[error("{0}")]
    Protocol(String),
    /// The driver cannot be reached.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl WorkerError {
    /// The exit status.
    fn status(&self) -> u8 {
        match self {
            WorkerError::NoDevice(_) => NO_DEVICE,
            WorkerError::Protocol(_) | WorkerError::Io(_) => BROKEN,
        }
    }
}

/// Serves this process's standard input and output. Returns the exit status.
///
/// Kernels get an empty standard input, and their standard output goes to standard error: the protocol has both streams to itself.
/// Jobs run on the calling thread, which should be the main thread, because kernels may need its stack.
///
/// # Safety
///
/// The jobs contain machine code, which this process loads and runs (CUDA code on the GPU, C code in child processes). It must be trusted as
/// much as any native library: it has full access to the user's files and to the CUDA driver in this process. Call this function once, at
/// the start of a process that does nothing else.
pub unsafe fn run() -> u8 {
    isolate();
    let streams = || -> io::Result<_> {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        let output = io::stdout().as_fd().try_clone_to_owned()?;
        nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
        nix::unistd::dup2_stdout(io::stderr())?;
        Ok((File::from(input), File::from(output)))
    };
    let started = || -> io::Result<_> {
        threads::start_pool()?;
        let (input, output) = streams()?;
        let requests = read(BufReader::with_capacity(1 << 16, input), || {
            descendants::end_below(Pid::this());
            // SAFETY: exiting is always allowed. Destructors are left out because they could wait for a kernel that hangs.
            unsafe { nix::libc::_exit(0) }
        })?;
        let output = SharedOutput(Arc::new(Mutex::new(output)));
        beat(output.clone())?;
        Ok((requests, output))
    };
    match started() {
        Ok((requests, output)) => answer(&requests, output),
        Err(error) => report(&error.into()),
    }
}

/// The output, to which two threads write whole lines.
#[derive(Clone)]
struct SharedOutput(Arc<Mutex<File>>);

impl Write for SharedOutput {
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

/// Sends [`Event::Heartbeat`] from a thread of its own until the output is closed.
fn beat(mut output: SharedOutput) -> io::Result<()> {
    let beating = threads::spawn(move || {
        while send(&mut output, &Event::Heartbeat).is_ok() {
            thread::sleep(HEARTBEAT);
        }
    });
    beating.map(drop)
}

/// Serves requests until the end of the input and finishes those that were read. Returns the exit status.
#[cfg(test)]
fn serve(input: impl BufRead + Send + 'static, output: impl Write) -> u8 {
    answer(&read(input, || {}).expect("threads can be had"), output)
}

/// Reads requests on a thread of its own, so that the end of the input is seen while a kernel runs.
fn read(input: impl BufRead + Send + 'static, at_end: impl FnOnce() + Send + 'static) -> io::Result<Requests> {
    // Unbounded: a reader that waits for space in the channel would not see the end of the input.
    let (sender, requests) = channel();
    threads::spawn(move || {
        for line in input.lines() {
            let request = match line {
                Ok(line) if line.trim().is_empty() => continue,
                Ok(line) => Request::of_line(line.as_bytes()).map_err(|error| {
                    let start: String = line.chars().take(80).collect();
                    format!("not a request: {error} in `{start}`")
                }),
                // The driver has exited.
                Err(_) => break,
            };
            if sender.send(request).is_err() {
                return;
            }
        }
        at_end();
    })?;
    Ok(requests)
}

fn send(output: &mut impl Write, event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}

/// Serves requests. Returns the exit status.
fn answer(requests: &Requests, mut output: impl Write) -> u8 {
    match open(requests, &mut output) {
        Ok(()) => 0,
        Err(error) => report(&error),
    }
}

/// Prints an error that the driver did not get as an event. Returns the exit status.
fn report(error: &WorkerError) -> u8 {
    if !matches!(error, WorkerError::NoDevice(_)) {
        eprintln!("kbench worker: {error}");
    }
    error.status()
}

/// The next request; `None` at the end of the input.
fn next(requests: &Requests) -> Result<Option<Request>, WorkerError> {
    requests.recv().ok().transpose().map_err(WorkerError::Protocol)
}

/// Opens the device that the first request names, then runs the jobs.
fn open(requests: &Requests, output: &mut impl Write) -> Result<(), WorkerError> {
    let Some(first) = next(requests)? else { return Ok(()) };
    let Request::Hello { protocol, device, index, cache, mutation } = first else {
        return Err(WorkerError::Protocol("the first request was not `hello`".to_owned()));
    };
    let opened = if protocol == VERSION {
        match device {
            DeviceKind::Fake => return start(FakeDevice::open(index), Vec::new(), mutation, cache, requests, output),
            DeviceKind::Host if index == 0 => {
                descendants::adopt_orphans();
                return start(HostDevice::open(), Vec::new(), mutation, cache, requests, output);
            }
            DeviceKind::Host => Err(format!("there is no host device {index}, only 0")),
            DeviceKind::Cuda => CudaDevice::open(index),
        }
    } else {
        Err(format!(
            "the driver speaks protocol {protocol}, this worker {VERSION}: install the same cargo-kbench on both sides"
        ))
    };
    match opened {
        Ok(device) => start(device, CudaDevice::visible(), mutation, cache, requests, output),
        Err(message) => {
            send(output, &Event::NoDevice { message: message.clone() })?;
            Err(WorkerError::NoDevice(message))
        }
    }
}

/// Runs the jobs on a device, or on a device that an audit has given a fault.
fn start<D: Device>(
    device: D,
    visible: Vec<String>,
    mutation: Option<Mutation>,
    cache: Option<PathBuf>,
    requests: &Requests,
    output: &mut impl Write,
) -> Result<(), WorkerError> {
    send(output, &Event::Hello { protocol: VERSION, device: device.info().clone(), visible })?;
    match mutation {
        None => serve_jobs(device, cache, requests, output),
        Some(mutation) => serve_jobs(MutantDevice::new(device, mutation), cache, requests, output),
    }
}

/// Action of the worker after a request.
enum Next {
    /// Read the next request.
    Request,
    /// End, with all destructors run.
    End,
    /// End without destructors: the device's context is lost.
    Abandon,
}

fn serve_jobs<D: Device>(
    device: D,
    cache: Option<PathBuf>,
    requests: &Requests,
    output: &mut impl Write,
) -> Result<(), WorkerError> {
    let mut session = Session::new(device, cache);
    while let Some(request) = next(requests)? {
        match handle(&mut session, request, output)? {
            Next::Request => {}
            Next::End => break,
            Next::Abandon => {
                std::mem::forget(session);
                break;
            }
        }
    }
    Ok(())
}

/// Handles one request and sends its last event.
fn handle<D: Device>(session: &mut Session<D>, request: Request, output: &mut impl Write) -> Result<Next, WorkerError> {
    let kind = session.resources.device.info().kind;
    let violated = |message: String| Err(WorkerError::Protocol(message));
    let is_last = matches!(request, Request::Run(_));
    let mut kernel_stage = Stage::Launch;
    // A stage that cannot be sent means that the driver has exited; sending the next event fails too.
    let mut enter = |id: u64, stage: Stage| {
        if stage.runs_kernel() {
            kernel_stage = stage;
        }
        drop(send(output, &Event::Stage { id, stage }));
    };
    let failed = |id: u64| move |failure: Failure| (id, CaseFailure { case: 0, failure });
    let ended = match request {
        Request::Hello { .. } => return violated("a second hello".to_owned()),
        Request::Blob { hash, data } => {
            if data.into_bytes().is_ok_and(|data| session.add_blob(&hash, data)) {
                return Ok(Next::Request);
            }
            return violated(format!("the data of blob {hash} has another hash"));
        }
        Request::Result { key, data } => {
            if data.into_bytes().is_ok_and(|data| session.add_result(&key, data)) {
                return Ok(Next::Request);
            }
            return violated(format!("the data of result {key} is no result of that key"));
        }
        Request::Limit { seconds } => {
            let Ok(limit) = Duration::try_from_secs_f64(seconds) else {
                return violated(format!("a limit of {seconds} seconds"));
            };
            session.limit(limit);
            return Ok(Next::Request);
        }
        Request::Check(job) => {
            let (id, checked) = (job.id, session.check(&job, &mut |stage| enter(job.id, stage)));
            checked.map(|seeds| Event::Checked { id, seeds }).map_err(failed(id))
        }
        Request::Inspect(job) => {
            let (id, checked) = (job.id, session.inspect(&job, &mut |stage| enter(job.id, stage)));
            checked.map(|seed| Event::Checked { id, seeds: vec![seed] }).map_err(failed(id))
        }
        Request::Time(job) => {
            let (id, timed) = (job.id, session.time(&job, &mut |stage| enter(job.id, stage)));
            timed.map(|timings| Event::Timed { id, timings }).map_err(|failure| (id, failure))
        }
        Request::Meter { id } => Ok(Event::Metered { id, energy: session.meter() }),
        Request::Run(job) => {
            let (id, ran) = (job.id, session.run(&job, &mut |stage| enter(job.id, stage)));
            ran.map(|counts| Event::Ran { id, counts }).map_err(|(case, failure)| (id, CaseFailure { case, failure }))
        }
    };
    let is_fatal = ended.as_ref().is_err_and(|(_, failed)| failed.failure.is_fatal(kind));
    let event = ended.unwrap_or_else(|(id, CaseFailure { case, failure })| {
        let failure = match failure {
            // A device does not know the stage of the job.
            Failure::Hang { seconds, .. } => Failure::Hang { seconds, stage: kernel_stage },
            other => other,
        };
        Event::Failed { id, case, failure }
    });
    send(output, &event)?;
    Ok(match (is_fatal, is_last) {
        (true, _) => Next::Abandon,
        (false, true) => Next::End,
        (false, false) => Next::Request,
    })
}

#[cfg(test)]
mod tests;
