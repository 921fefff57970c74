//! The standard errors of all workers, which one thread reads: a worker must be able to write at any time, and few do.

use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::process::ChildStderr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kbench_runtime::driver::threads;
use rustix::event::{PollFd, PollFlags, poll};

use super::line::{self, Lines};
use super::tool;

/// The last lines of a worker's standard error.
#[derive(Debug, Default)]
pub(super) struct Tail {
    lines: Mutex<VecDeque<String>>,
    has_ended: AtomicBool,
}

/// A pipe that the thread reads.
struct Source {
    pipe: ChildStderr,
    lines: Lines,
    tail: Arc<Tail>,
}

/// The driver's end of the thread.
struct Listener {
    /// A byte here wakes the thread up.
    wake: PipeWriter,
    new: Arc<Mutex<Vec<Source>>>,
}

/// The thread, once it was started.
static LISTENER: Mutex<Option<Listener>> = Mutex::new(None);

const NO_PANIC: &str = "no panic while held";

impl Tail {
    /// The lines that come through a pipe from now on.
    pub(super) fn of(pipe: ChildStderr) -> io::Result<Arc<Self>> {
        let tail = Arc::new(Self::default());
        let mut listener = LISTENER.lock().expect(NO_PANIC);
        let listener = match &mut *listener {
            Some(listener) => listener,
            none => none.insert(Listener::start()?),
        };
        // A line that is too long continues in the next one.
        let source = Source { pipe, lines: Lines::new(line::LONGEST), tail: Arc::clone(&tail) };
        listener.new.lock().expect(NO_PANIC).push(source);
        listener.wake.write_all(&[0])?;
        Ok(tail)
    }

    /// Forgets all lines so far.
    pub(super) fn forget(&self) {
        self.lines.lock().expect(NO_PANIC).clear();
    }

    /// The last lines.
    pub(super) fn last(&self, lines: usize) -> String {
        let kept = self.lines.lock().expect(NO_PANIC);
        kept.iter().skip(kept.len().saturating_sub(lines)).cloned().collect::<Vec<_>>().join("\n")
    }

    /// Waits for the end of the stream. A grandchild that holds the pipe open must not block this process.
    pub(super) fn wait_for_end(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while !self.has_ended.load(Ordering::Acquire) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn push(&self, line: &[u8]) {
        let mut kept = self.lines.lock().expect(NO_PANIC);
        if kept.len() == tool::LINES {
            kept.pop_front();
        }
        kept.push_back(String::from_utf8_lossy(line).into_owned());
    }
}

impl Listener {
    fn start() -> io::Result<Self> {
        let (woken, wake) = io::pipe()?;
        let new = Arc::default();
        let news = Arc::clone(&new);
        threads::spawn(move || listen(woken, &news))?;
        Ok(Self { wake, new })
    }
}

fn listen(mut woken: PipeReader, new: &Mutex<Vec<Source>>) {
    let mut sources: Vec<Source> = Vec::new();
    loop {
        let pipes = sources.iter().map(|source| PollFd::new(&source.pipe, PollFlags::IN));
        let mut polled: Vec<PollFd<'_>> = pipes.chain([PollFd::new(&woken, PollFlags::IN)]).collect();
        if poll(&mut polled, None).is_err() {
            // A signal came.
            continue;
        }
        let mut ready: Vec<bool> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
        if ready.pop() == Some(true) {
            let _ = woken.read(&mut [0; 64]);
            // Of a worker that is gone, a process that it left behind may hold the pipe.
            sources.retain(|source| Arc::strong_count(&source.tail) > 1);
            sources.append(&mut new.lock().expect(NO_PANIC));
            continue;
        }
        for (source, _) in sources.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            source.lines.read(&mut source.pipe);
            while let Some(line) = source.lines.next() {
                source.tail.push(line.unwrap_or_else(|cut| cut));
            }
            source.tail.has_ended.store(source.lines.has_ended(), Ordering::Release);
        }
        sources.retain(|source| !source.lines.has_ended());
    }
}
