//! Samples on a GPU.
//!
//! A sample lies between two events on the stream. Nothing is subtracted: the cost of the events is part of every
//! sample, divided by the launches of a batch. On an H200 (driver 580, CUDA 13.0) an empty kernel takes 2.6 to 2.8 µs
//! alone, cold or hot, and 0.61 µs a launch in a graph of 400: about 2.2 µs of a sample are the events', 0.6 µs the
//! kernel's with the gap to the next one. A spin of 100 µs is 102.6 µs cold and 101.0 µs hot (5 in a graph).
//!
//! The host's work must not be part of a sample: while the device is busy with untimed work (the flush of a cold
//! sample, an untimed repeat of a hot one), the host enqueues event, launches, event. This is verified: if the first
//! event has completed when the last call returns, the device may have waited for the host, and the sample is taken
//! again behind longer untimed work.
//!
//! The writes before a sample (poison, restored inputs) are untimed work too.
//!
//! - Cold: a memset of at least twice the L2 evicts the inputs; one launch. The lines of the memset are dirty, as in
//!   `NVBench` and Triton's `do_bench`: a kernel that fills the L2 pays for writing them back.
//! - Stream and host ([`LaunchMode`]): one launch on an idle stream, hot or cold; the device waits for the host, and that is part of the sample.
//! - Hot: all launches of a batch are captured in one graph, which runs once untimed and once timed, the writes between the two. Consecutive launches
//!   wait for each other, as they would on a stream; the gap between two nodes of a graph is part of a launch.

use std::rc::Rc;
use std::time::Instant;

use super::CudaDevice;
use super::driver::{Driver, Event, Stream};
use super::error::CudaError;
use super::graph::Graph;
use super::launch::CudaBound;
use super::memory::{self, CudaBuffer};
use crate::device::{Resolution, Sample, Write};
use crate::protocol::{CacheMode, Failure, LaunchMode};

/// Nanoseconds from which on the host's few microseconds are less than a thousandth, so that no untimed work is needed
/// before a sample.
const LONG: f64 = 5e6;

/// Number of attempts to take a sample without a wait for the host. The last one is kept, and counts as exposed.
const ATTEMPTS: u32 = 4;

/// Largest number of flushes before a sample.
const MOST_FLUSHES: u32 = 8;

/// Number of empty intervals that measure the clock.
const EMPTY: usize = 100;

/// Clock, flush buffer and their stream.
pub(super) struct Timer {
    driver: Driver,
    stream: Rc<Stream>,
    start: Event,
    stop: Event,
    flush_bytes: usize,
    flush: Option<CudaBuffer>,
    resolution: Option<Resolution>,
    /// Launch mode of a sample.
    pub(super) launch: LaunchMode,
}

impl Timer {
    /// `cache_bytes` is the size of the L2.
    pub(super) fn new(driver: Driver, stream: &Rc<Stream>, cache_bytes: u64) -> Result<Self, CudaError> {
        // At least 64 MB: the flush must also last long enough to hide the host's work.
        let flush_bytes = (2 * cache_bytes as usize).max(64 << 20);
        let (start, stop) = (Event::new(stream.context())?, Event::new(stream.context())?);
        Ok(Self {
            driver,
            stream: Rc::clone(stream),
            start,
            stop,
            flush_bytes,
            flush: None,
            resolution: None,
            launch: LaunchMode::Graph,
        })
    }

    /// Measures a hundred empty intervals: the median is the cost of two events, the smallest difference between two of
    /// them the step of the clock.
    pub(super) fn resolution(&mut self) -> Result<Resolution, Failure> {
        if let Some(known) = self.resolution {
            return Ok(known);
        }
        let broken = |error: CudaError| error.failure("when timing nothing");
        let mut nothing = Vec::with_capacity(EMPTY);
        for _ in 0..EMPTY {
            // Both events follow other work, as in a sample, so that the device does not wait for the host between
            // them.
            self.enqueue_flushes(1)?;
            self.start.record(&self.stream).map_err(broken)?;
            self.stop.record(&self.stream).map_err(broken)?;
            self.stream.synchronize().map_err(broken)?;
            nothing.push(self.driver.elapsed(&self.start, &self.stop).map_err(broken)?);
        }
        nothing.sort_unstable_by(f64::total_cmp);
        // Less than a tenth of a nanosecond is rounding of the driver's single precision.
        let steps = nothing.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step > 0.1);
        let step = steps.fold(f64::INFINITY, f64::min);
        let overhead = nothing[EMPTY / 2];
        // Without a difference, the step is at most the interval itself.
        let resolution = Resolution { step: if step.is_finite() { step } else { overhead }, overhead };
        self.resolution = Some(resolution);
        Ok(resolution)
    }

    fn enqueue_flushes(&mut self, count: u32) -> Result<(), Failure> {
        if count == 0 {
            return Ok(());
        }
        let buffer = match &self.flush {
            Some(buffer) => buffer,
            None => self.flush.insert(CudaBuffer::new(self.stream.context(), self.flush_bytes)?),
        };
        for _ in 0..count {
            buffer.enqueue_fill(&self.stream, 0, self.flush_bytes, 0)?;
        }
        Ok(())
    }

    /// Nanoseconds between events around the launches that `enqueue` enqueues, and whether the device was busy until all
    /// of them were enqueued.
    fn measure(&self, enqueue: impl FnOnce() -> Result<(), Failure>) -> Result<(f64, bool), Failure> {
        let broken = |error: CudaError| error.failure("when taking a sample");
        self.start.record(&self.stream).map_err(broken)?;
        enqueue()?;
        self.stop.record(&self.stream).map_err(broken)?;
        let hidden = self.start.is_pending();
        self.stream.synchronize().map_err(|error| error.failure("in the kernel"))?;
        Ok((self.driver.elapsed(&self.start, &self.stop).map_err(broken)?, hidden))
    }

    /// Enqueues a batch, as a graph if there is one.
    fn enqueue(&self, bound: &CudaBound, batch: u32) -> Result<(), Failure> {
        if let Some((size, Some(graph))) = &bound.timing.graph
            && *size == batch
        {
            return graph.launch(&self.stream).map_err(|error| bound.refused(error));
        }
        for _ in 0..batch {
            bound.enqueue()?;
        }
        Ok(())
    }

    /// Captures a batch, unless the last one had the same size. A batch that cannot be captured is launched one by one.
    fn capture(&self, bound: &mut CudaBound, batch: u32) -> Result<(), Failure> {
        if batch < 2 || bound.timing.graph.as_ref().is_some_and(|(size, _)| *size == batch) {
            return Ok(());
        }
        bound.timing.graph = None;
        let graph = Graph::capture(&self.stream, || (0..batch).try_for_each(|_| bound.enqueue()));
        // A failed capture leaves nothing on the stream; a fault of an earlier kernel appears here.
        self.stream.synchronize().map_err(|error| error.failure("when capturing launches"))?;
        bound.timing.graph = Some((batch, graph));
        Ok(())
    }
}

impl CudaDevice {
    /// One sample, in nanoseconds a launch. No work is pending on return, also after an error.
    pub(super) fn take_sample(
        &mut self,
        writes: &[Write<CudaBuffer>],
        bound: &mut CudaBound,
        batch: u32,
        cache: CacheMode,
    ) -> Result<Sample, Failure> {
        let sample = self.timer.sample(writes, bound, batch, cache);
        if sample.is_err() {
            let _ = self.stream.synchronize();
        }
        sample
    }
}

impl Timer {
    fn sample(
        &mut self,
        writes: &[Write<CudaBuffer>],
        bound: &mut CudaBound,
        batch: u32,
        cache: CacheMode,
    ) -> Result<Sample, Failure> {
        let hot = cache == CacheMode::Hot;
        if self.launch != LaunchMode::Graph {
            return self.sample_of_launch(writes, bound, hot);
        }
        let batch = if hot { batch.max(1) } else { 1 };
        self.capture(bound, batch)?;
        let mode = usize::from(hot);
        let mut attempt = 0;
        loop {
            attempt += 1;
            if !hot {
                // Before the flush, which evicts the writes from the cache.
                memory::enqueue(&self.stream, writes)?;
            }
            self.enqueue_flushes(bound.timing.flushes[mode])?;
            if hot {
                if bound.timing.last_hot < LONG {
                    self.enqueue(bound, batch)?;
                }
                memory::enqueue(&self.stream, writes)?;
            }
            let (total, hidden) = self.measure(|| self.enqueue(bound, batch))?;
            if hot {
                bound.timing.last_hot = total;
            }
            let exposed = !hidden && total < LONG;
            if !exposed || attempt == ATTEMPTS {
                return Ok(Sample {
                    nanoseconds: total / f64::from(batch),
                    cpu_nanoseconds: None,
                    preemptions: 0,
                    waits: 0,
                    exposed,
                    disturbance: None,
                });
            }
            let flushes = &mut bound.timing.flushes[mode];
            *flushes = (*flushes * 2).clamp(1, MOST_FLUSHES);
        }
    }

    /// One launch on an idle stream, as [`LaunchMode::Stream`] or [`LaunchMode::Host`] defines it. The device waits for
    /// the host, as with a program that launches one kernel.
    fn sample_of_launch(
        &mut self,
        writes: &[Write<CudaBuffer>],
        bound: &mut CudaBound,
        hot: bool,
    ) -> Result<Sample, Failure> {
        if hot {
            bound.enqueue()?;
        }
        memory::enqueue(&self.stream, writes)?;
        self.enqueue_flushes(u32::from(!hot))?;
        self.stream.synchronize().map_err(|error| error.failure("in the kernel"))?;
        let nanoseconds = if self.launch == LaunchMode::Host {
            let started = Instant::now();
            bound.enqueue()?;
            self.stream.synchronize().map_err(|error| error.failure("in the kernel"))?;
            started.elapsed().as_secs_f64() * 1e9
        } else {
            self.measure(|| bound.enqueue())?.0
        };
        Ok(Sample { nanoseconds, cpu_nanoseconds: None, preemptions: 0, waits: 0, exposed: false, disturbance: None })
    }
}
