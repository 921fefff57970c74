//! A case of a fake kernel during its measurement, for tests: times are those of the model, and draws those of one seed.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::super::adjusted::AdjustedSample;
use super::super::case::MeasuredCase;
use super::super::run::Run;
use super::super::sampling::InputChoice;
use crate::device::fake::FakeDevice;
use crate::protocol::{TimeJob, TimedCase};
use crate::testing::{self, FakeCase};
use crate::verify::session::Session;

/// A job that times a fake kernel with this model, and its session.
pub(in crate::measure) fn job(model: &str) -> (Session<FakeDevice>, TimeJob) {
    let mut session = Session::new(FakeDevice::open(0), None);
    let mut check = FakeCase::default().check(&mut session);
    check.case.sequence.blob = testing::blob(&mut session, model.as_bytes());
    let job = testing::time_job(vec![TimedCase { case: check.case, reference: check.reference }]);
    (session, job)
}

/// Calls `test` with the case of a job after one sample.
pub(in crate::measure) fn sampled<T>(
    (mut session, job): (Session<FakeDevice>, TimeJob),
    test: impl FnOnce(&mut MeasuredCase<FakeDevice>, &mut Run<'_, FakeDevice>) -> T,
) -> T {
    let mut case = session.prepare(&job.cases[0], &job, &mut |_| {}).unwrap();
    let mut stage = |_| {};
    let mut run = Run::new(&mut session.resources, &job, &mut stage);
    run.rng = ChaCha8Rng::seed_from_u64(1);
    let sample = case.take(&mut run.resources.device, job.cache, true, InputChoice::Set(0)).unwrap();
    case.samples.push(AdjustedSample::of(sample, 1, true));
    case.last_outputs = case.outputs(run.resources).unwrap();
    test(&mut case, &mut run)
}

/// Number of launches that a step takes, and its result.
pub(in crate::measure) fn launches<T>(
    run: &mut Run<'_, FakeDevice>,
    step: impl FnOnce(&mut Run<'_, FakeDevice>) -> T,
) -> (u64, T) {
    let before = run.resources.device.launches.get();
    let result = step(run);
    (run.resources.device.launches.get() - before, result)
}
