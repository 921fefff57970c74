//! A time job in progress: state that its cases share.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::device::Device;
use crate::protocol::{Failure, Stage, TimeJob};
use crate::verify::session::{OnStage, Resources};

/// The longest time between two messages of a heartbeat, plus the time of one launch.
const INTERVAL: Duration = Duration::from_millis(200);

/// The failure of one of the cases of a job.
#[derive(Debug)]
pub struct CaseFailure {
    /// Index of the case.
    pub case: usize,
    /// Reason why the job cannot be finished.
    pub failure: Failure,
}

impl CaseFailure {
    /// Makes failures of a case, for `map_err`.
    pub fn of(case: usize) -> impl Fn(Failure) -> Self + Copy {
        move |failure| Self { case, failure }
    }
}

/// A time job in progress.
pub struct Run<'a, D: Device> {
    pub resources: &'a mut Resources<D>,
    pub job: &'a TimeJob,
    /// Draws inputs, and the elements to inspect. The seed is new in each run, so that no kernel can predict the draws.
    pub rng: ChaCha8Rng,
    pub heartbeat: Heartbeat<'a>,
}

impl<'a, D: Device> Run<'a, D> {
    pub fn new(resources: &'a mut Resources<D>, job: &'a TimeJob, stage: OnStage<'a>) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(RandomState::new().build_hasher().finish());
        Self { resources, job, rng, heartbeat: Heartbeat { stage, last: None, announces: job.announce } }
    }
}

/// Reports the stage of the job, without a message for every launch.
pub struct Heartbeat<'a> {
    stage: OnStage<'a>,
    last: Option<(Stage, Instant)>,
    /// Whether the case is reported before each of its launches.
    announces: bool,
}

impl Heartbeat<'_> {
    /// Reports a stage if it is new, or if the last message is older than [`INTERVAL`].
    pub fn enter(&mut self, stage: Stage) {
        if self.last.is_none_or(|(of, at)| of != stage || at.elapsed() >= INTERVAL) {
            (self.stage)(stage);
            self.last = Some((stage, Instant::now()));
        }
    }

    /// Reports the case whose launches follow, if the job asks for that.
    pub fn announce(&mut self, case: usize) {
        if self.announces {
            (self.stage)(Stage::Case(case));
        }
    }

    /// Calls back with every stage, whether it is new or not.
    pub fn every(&mut self) -> OnStage<'_> {
        self.stage
    }
}
