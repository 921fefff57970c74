//! A second clock beside CUDA events: the register `%globaltimer`, which counts nanoseconds, read by a kernel before and after the launches.
//!
//! Both clocks are read around the same launches, and again around no launch: the difference is the launches' time. On an H100 the register moves
//! in steps of 32 ns, on older GPUs of up to 1 µs.

use std::rc::Rc;

use super::driver::{Context, Driver, Event, Stream};
use super::error::CudaError;
use super::launch::{CudaBound, CudaLaunch};
use super::limits::DeviceLimits;
use super::memory::CudaBuffer;
use super::module::CudaKernel;
use crate::data::quantile::quantile;
use crate::device::{BoundArg, Region};
use crate::protocol::{Failure, Geometry, TwoClocks};

/// The kernel.
const CODE: &[u8] = include_bytes!("global_timer.ptx");

/// Readings, of which the median counts.
const READINGS: usize = 11;

/// The kernel, twice: each writes to a place of its own.
pub(super) struct GlobalTimer {
    driver: Driver,
    begin: CudaLaunch,
    end: CudaLaunch,
    times: CudaBuffer,
    start: Event,
    stop: Event,
    stream: Rc<Stream>,
}

impl GlobalTimer {
    pub(super) fn new(
        driver: Driver,
        context: &Rc<Context>,
        stream: &Rc<Stream>,
        limits: &DeviceLimits,
    ) -> Result<Self, Failure> {
        let kernel = CudaKernel::load(driver, context, CODE, "kbench_global_timer")?;
        let times = CudaBuffer::new(context, 16)?;
        let geometry = Geometry { grid: [1, 1, 1], block: [1, 1, 1], ..Geometry::default() };
        let launch = |offset| {
            let place = BoundArg::Pointer(Region { tensor: 0, buffer: times.clone(), offset, bytes: 8 });
            CudaLaunch::new(limits, false, stream, &kernel, &geometry, &[place])
        };
        let broken = |error: CudaError| error.failure("when making an event");
        Ok(Self {
            driver,
            begin: launch(0)?,
            end: launch(8)?,
            start: Event::new(context).map_err(broken)?,
            stop: Event::new(context).map_err(broken)?,
            stream: Rc::clone(stream),
            times,
        })
    }

    /// Times launches back to back by both clocks.
    pub(super) fn time(&self, bound: &CudaBound, launches: u32) -> Result<TwoClocks, Failure> {
        // The first reading warms up.
        self.reading(bound, launches)?;
        let mut readings = [Vec::new(), Vec::new()];
        for _ in 0..READINGS {
            let (with, without) = (self.reading(bound, launches)?, self.reading(bound, 0)?);
            for clock in 0..2 {
                readings[clock].push((with[clock] - without[clock]) / f64::from(launches));
            }
        }
        let [first_ns, second_ns] = readings.map(|readings| quantile(&readings, 0.5));
        let (first, second) = ("cuda-event".to_owned(), "globaltimer".to_owned());
        Ok(TwoClocks { first, first_ns, second, second_ns, launches })
    }

    /// Nanoseconds of some launches by events and by the register.
    fn reading(&self, bound: &CudaBound, launches: u32) -> Result<[f64; 2], Failure> {
        let broken = |error: CudaError| error.failure("when reading two clocks");
        self.start.record(&self.stream).map_err(broken)?;
        self.begin.enqueue().map_err(broken)?;
        for _ in 0..launches {
            bound.enqueue()?;
        }
        self.end.enqueue().map_err(broken)?;
        self.stop.record(&self.stream).map_err(broken)?;
        self.stream.synchronize().map_err(|error| error.failure("in the kernel"))?;
        let mut times = [0; 16];
        self.times.download(&self.stream, 0, &mut times)?;
        let time = |at: usize| u64::from_ne_bytes(times[at..at + 8].try_into().expect("eight bytes"));
        let by_register = time(8).saturating_sub(time(0)) as f64;
        Ok([self.driver.elapsed(&self.start, &self.stop).map_err(broken)?, by_register])
    }
}
