use super::run::CaseFailure;
use crate::device::fake::FakeDevice;
use crate::device::host::HostDevice;
use crate::measure::statistics::Summary;
use crate::protocol::{CacheMode, Convergence, Disturbance, Failure, Role, Source, Stage, TimeJob, TimedCase, Timing};
use crate::testing::{self, FakeCase};
use crate::verify::session::Session;

pub(super) mod fake_case;

fn job(cases: Vec<TimedCase>, cache: CacheMode) -> TimeJob {
    TimeJob { cache, ..testing::time_job(cases) }
}

fn fake(cases: &[FakeCase<'_>], cache: CacheMode) -> Result<Vec<Timing>, CaseFailure> {
    let mut session = Session::new(FakeDevice::open(0), None);
    let cases = cases.iter().map(|case| {
        let job = case.check(&mut session);
        TimedCase { case: job.case, reference: job.reference }
    });
    let job = job(cases.collect(), cache);
    session.time(&job, &mut |_| {})
}

fn host(entry: &str, cache: CacheMode) -> Timing {
    of_host(entry, |job| job.cache = cache)
}

fn of_host(entry: &str, change: impl Fn(&mut TimeJob)) -> Timing {
    let mut session = Session::new(HostDevice::open(), None);
    let check = testing::host_check(&mut session, entry);
    let mut job = job(vec![TimedCase { case: check.case, reference: check.reference }], CacheMode::Cold);
    change(&mut job);
    session.time(&job, &mut |_| {}).unwrap().remove(0)
}

#[test]
fn cases_get_their_own_times_and_the_same_each_run() {
    let slow = FakeCase { time_ns: 2000.0, ..FakeCase::default() };
    for cache in [CacheMode::Cold, CacheMode::Hot] {
        let timings = fake(&[FakeCase::default(), slow], cache).unwrap();
        assert_eq!(timings, fake(&[FakeCase::default(), slow], cache).unwrap());
        for (timing, want) in timings.iter().zip([1000.0, 2000.0]) {
            assert_eq!((timing.samples.len(), timing.batch, &*timing.clock), (20, 1, "fake"));
            assert!((Summary::of(&timing.samples).unwrap().p50 / want - 1.0).abs() < 0.01);
            testing::assert_clean(&timing.after);
        }
    }
}

#[test]
fn the_check_afterwards_sees_faults_and_failures_name_their_case() {
    let bad = |fault| FakeCase { fault, ..FakeCase::default() };
    let timings = fake(&[bad("null"), bad("\"wrong\""), bad("\"out-of-bounds\"")], CacheMode::Hot).unwrap();
    testing::assert_clean(&timings[0].after);
    assert_eq!(timings[1].after.outputs[0].bad, 1000);
    assert_eq!(timings[2].after.out_of_bounds.len(), 1);
    let CaseFailure { case, failure } = fake(&[bad("null"), bad("\"launch-refused\"")], CacheMode::Cold).unwrap_err();
    assert_eq!(case, 1);
    assert!(matches!(failure, Failure::LaunchRefused { .. }));
}

#[test]
fn stages_are_announced_in_order() {
    use Stage::{Compare, Inputs, Launch, Reference, Timing, Warmup};
    let mut session = Session::new(FakeDevice::open(0), None);
    let check = FakeCase::default().check(&mut session);
    let cases = vec![TimedCase { case: check.case, reference: check.reference }];
    let job = TimeJob { other_seed: None, ..job(cases, CacheMode::Cold) };
    let mut stages = Vec::new();
    session.time(&job, &mut |stage| stages.push(stage)).unwrap();
    stages.retain(|stage| !matches!(stage, Stage::Case(_)));
    stages.dedup();
    assert_eq!(stages[..6], [Inputs, Reference, Launch, Warmup, Timing, Compare]);
    let (looks_back, after) = stages[6..].split_at(stages.len() - 11);
    assert!(looks_back.chunks(2).all(|pair| pair == [Timing, Compare]), "{looks_back:?}");
    assert_eq!(after, [Launch, Compare, Launch, Compare, Launch], "a fresh load, and the last one unloads");
}

#[test]
fn small_host_kernels_are_batched_when_the_cache_may_be_hot() {
    let cold = host("kbench_scale", CacheMode::Cold);
    assert_eq!((cold.batch, &*cold.clock), (1, "monotonic"));
    testing::assert_clean(&cold.after);
    let hot = host("kbench_scale", CacheMode::Hot);
    assert!(hot.batch > 1, "{}", hot.batch);
    assert!(hot.samples.iter().all(|sample| *sample > 0.0));
    testing::assert_clean(&hot.after);
}

#[test]
fn a_kernel_that_stops_working_after_some_launches_is_caught() {
    let gave_up = host("kbench_gives_up", CacheMode::Cold).after;
    assert_eq!(gave_up.outputs[0].unwritten, 1000);
    assert!(host("kbench_counts", CacheMode::Cold).after.unrepeatable > 0);
    assert!(host("kbench_accumulates", CacheMode::Hot).after.unrepeatable > 0, "the last sample is a batch");
    assert_eq!(host("kbench_clobbers", CacheMode::Cold).after.inputs_changed, ["x"]);
}

#[test]
fn every_sample_starts_from_poison_and_skipping_is_seen() {
    for cache in [CacheMode::Cold, CacheMode::Hot] {
        assert_eq!(host("kbench_scale", cache).skips_work, None, "{cache:?}");
        let skips = host("kbench_skips", cache);
        testing::assert_clean(&skips.after);
        assert!(skips.skips_work.unwrap().left_alone > 0, "{cache:?}");
        // The work of this job takes a hundred times as long as the test.
        let careful = host("kbench_skips_when_all_is_right", cache);
        testing::assert_clean(&careful.after);
        let skips = careful.skips_work.unwrap();
        assert!(skips.left_alone == 0 && skips.ratio > 3.0, "{skips:?}");
        assert_eq!(careful.batch, 1);
        assert!(Summary::of(&careful.samples).unwrap().p50 > 20_000.0, "{:?}", careful.samples);
    }
}

#[test]
fn outputs_of_the_last_sample_are_judged_too() {
    let after = host("kbench_lazy_while_timed", CacheMode::Cold).after;
    assert_eq!((after.outputs[0].unwritten, after.outputs[0].first_unwritten), (999, Some(1)));
    assert!(after.unrepeatable > 0);
}

#[test]
fn damage_to_shared_memory_is_attributed_to_its_kernel() {
    for (entry, at) in [("kbench_past_end_later", 0), ("kbench_past_end_later", 2), ("kbench_clobbers_later", 1)] {
        let mut session = Session::new(HostDevice::open(), None);
        let mut cases = Vec::new();
        for index in 0..3 {
            let check = testing::host_check(&mut session, if index == at { entry } else { "kbench_scale" });
            cases.push(TimedCase { case: check.case, reference: check.reference });
        }
        let timings = session.time(&job(cases, CacheMode::Cold), &mut |_| {}).unwrap();
        for (index, timing) in timings.iter().enumerate() {
            let blamed = !timing.after.out_of_bounds.is_empty() || !timing.after.inputs_changed.is_empty();
            assert_eq!(blamed, index == at, "{entry} {index} {:?}", timing.after);
        }
    }
}

#[test]
fn cases_with_the_same_tensors_get_the_same_memory() {
    let mut session = Session::new(HostDevice::open(), None);
    let checks = ["kbench_scale", "kbench_scale"].map(|entry| testing::host_check(&mut session, entry));
    let memories = checks.map(|check| {
        let timed = TimedCase { case: check.case, reference: check.reference };
        session.prepare(&timed, &job(Vec::new(), CacheMode::Cold), &mut |_| {}).unwrap().memory
    });
    assert!(memories[0].shares_all_memory_with(&memories[1]));
}

#[test]
fn a_tensor_read_and_written_starts_each_sample_from_its_inputs() {
    let mut session = Session::new(HostDevice::open(), None);
    let mut check = testing::host_check(&mut session, "kbench_inout");
    check.case.tensors[1].role = Role::Inout;
    check.case.tensors[1].source = Source::Constant(1.0);
    check.reference.sequence.launches[0].entry = "kbench_inout_reference".into();
    for cache in [CacheMode::Hot, CacheMode::Cold] {
        let cases = vec![TimedCase { case: check.case.clone(), reference: check.reference.clone() }];
        let timing = session.time(&job(cases, cache), &mut |_| {}).unwrap().remove(0);
        assert_eq!((timing.batch, timing.samples.len()), (1, 20));
        testing::assert_clean(&timing.after);
    }
}

/// A fake kernel of that model, timed until it converges.
fn model(model: &str, change: impl FnOnce(&mut TimeJob)) -> Timing {
    let mut session = Session::new(FakeDevice::open(0), None);
    let mut check = FakeCase::default().check(&mut session);
    check.case.sequence.blob = testing::blob(&mut session, model.as_bytes());
    let cases = vec![TimedCase { case: check.case, reference: check.reference }];
    let until = Some(Convergence { precision: 0.005, max_seconds: 1e6, max_samples: 1000, decides: false });
    let mut job = TimeJob { iterations: 100, until, ..job(cases, CacheMode::Cold) };
    change(&mut job);
    session.time(&job, &mut |_| {}).unwrap().remove(0)
}

fn p50(timing: &Timing) -> f64 {
    Summary::of(&timing.samples).unwrap().p50
}

#[test]
fn sampling_goes_on_until_the_median_is_known() {
    let calm = model(r#"{"time_ns":1000}"#, |_| {});
    assert_eq!((calm.samples.len(), calm.sampling.converged, calm.sampling.input_sets), (100, true, 2));
    let noisy = model(r#"{"time_ns":1000,"noise":0.03}"#, |_| {});
    assert!(noisy.sampling.converged && noisy.samples.len() > 100, "{}", noisy.samples.len());
    let drifts = model(r#"{"time_ns":1000,"drift":0.001}"#, |_| {});
    assert_eq!((drifts.samples.len(), drifts.sampling.converged), (1000, false));
    let late = |job: &mut TimeJob| job.until = Some(Convergence { max_seconds: 0.0, ..job.until.unwrap() });
    let late = model(r#"{"time_ns":1000}"#, late);
    assert_eq!((late.samples.len(), late.sampling.converged), (7, false));
}

#[test]
fn rank_only_takes_fewer_samples_of_a_long_kernel() {
    let samples = |time_ns: f64| {
        let timing = model(&format!(r#"{{"time_ns":{time_ns}}}"#), |job| job.rank_only = true);
        assert!(timing.sampling.converged);
        timing.samples.len()
    };
    assert_eq!([1e3, 2e5, 9e7, 1e9].map(samples), [100, 50, 7, 3]);
}

#[test]
fn a_search_checks_a_long_kernel_by_its_last_sample() {
    let timed = |time_ns: f64, fault: &str, rank_only: bool| {
        let model = format!(r#"{{"time_ns":{time_ns},"fault":{fault}}}"#);
        let mut session = Session::new(FakeDevice::open(0), None);
        let mut check = FakeCase::default().check(&mut session);
        check.case.sequence.blob = testing::blob(&mut session, model.as_bytes());
        let cases = vec![TimedCase { case: check.case, reference: check.reference }];
        let mut launches = 0;
        let count = &mut |stage| launches += u32::from(stage == Stage::Launch);
        let timing = session.time(&TimeJob { rank_only, ..job(cases, CacheMode::Cold) }, count).unwrap().remove(0);
        (timing, launches)
    };
    let (long, before) = timed(6e7, "null", true);
    testing::assert_clean(&long.after);
    assert_eq!(timed(6e7, r#""wrong""#, true).0.after.outputs[0].bad, 1000);
    // Loading and unloading the kernel; in the finals also launches after the samples.
    assert_eq!(before, 2);
    assert!(timed(6e7, "null", false).1 > 2 && timed(4e7, "null", true).1 > 2);
}

#[test]
fn cases_stop_together() {
    let mut session = Session::new(FakeDevice::open(0), None);
    let mut case = |model: &str| {
        let mut check = FakeCase::default().check(&mut session);
        check.case.sequence.blob = testing::blob(&mut session, model.as_bytes());
        TimedCase { case: check.case, reference: check.reference }
    };
    let cases = vec![case(r#"{"time_ns":1000}"#), case(r#"{"time_ns":900,"noise":0.03}"#)];
    let until = Some(Convergence { precision: 0.005, max_seconds: 1e6, max_samples: 5000, decides: false });
    let timings =
        session.time(&TimeJob { iterations: 100, until, ..job(cases, CacheMode::Cold) }, &mut |_| {}).unwrap();
    assert!(timings[0].samples.len() > 100 && timings[0].samples.len() == timings[1].samples.len());
    assert!(timings.iter().all(|timing| timing.sampling.converged));
}

#[test]
fn throttled_samples_are_taken_again_and_counted() {
    let timing = model(r#"{"time_ns":1000,"throttled":[30,60]}"#, |_| {});
    assert_eq!((timing.samples.len(), timing.sampling.converged), (100, true));
    assert!(timing.samples.iter().all(|sample| *sample < 1100.0), "{:?}", timing.samples);
    assert!(timing.sampling.discarded[&Disturbance::Throttled] >= 30, "{:?}", timing.sampling);
    assert!(timing.sampling.disturbed.is_empty());
    let clock = timing.sampling.sm_clock.unwrap();
    assert_eq!((clock.min_mhz, clock.max_mhz), (500, 1000));
}

#[test]
fn samples_that_stay_throttled_are_kept_and_counted() {
    let timing = model(r#"{"time_ns":1000,"throttled":[0,1000000]}"#, |_| {});
    assert_eq!(timing.samples.len(), 100);
    assert_eq!(timing.sampling.discarded[&Disturbance::Throttled], 100);
    assert_eq!(timing.sampling.disturbed[&Disturbance::Throttled], 100);
    assert!((p50(&timing) / 2000.0 - 1.0).abs() < 0.01);
    let preempted = model(r#"{"time_ns":1000,"preempted":1,"threads":2}"#, |_| {});
    assert_eq!(preempted.samples.len(), 100);
    let counts = |of: &std::collections::BTreeMap<_, u64>| of.get(&Disturbance::InvoluntaryContextSwitch).copied();
    assert_eq!(counts(&preempted.sampling.discarded), Some(100));
    assert_eq!(counts(&preempted.sampling.disturbed), Some(100));
    assert!((p50(&preempted) / 3000.0 - 1.0).abs() < 0.01);
}

#[test]
fn a_kernel_that_always_loses_its_core_is_known_by_its_processor_time() {
    let timing = model(r#"{"time_ns":10000000,"preempted":1}"#, |_| {});
    assert!((p50(&timing) / 1e7 - 1.0).abs() < 0.01, "{}", p50(&timing));
    assert_eq!((timing.sampling.corrected, timing.sampling.disturbed.len()), (100, 0));
    assert!(timing.sampling.discarded[&Disturbance::InvoluntaryContextSwitch] < 10, "to take them again is no use");
    assert!((1.9e5..=2.01e5).contains(&timing.slack), "{}", timing.slack);
    assert!(!timing.sampling.converged, "2 % is more than was asked for");
}

#[test]
fn a_disturbed_sample_is_taken_again() {
    let timing = model(r#"{"time_ns":1000,"preempted":5}"#, |_| {});
    assert!(timing.samples.len() == 100 && timing.samples.iter().all(|sample| *sample < 1100.0));
    assert!(timing.slack.abs() < 1.0 && timing.sampling.corrected == 0);
    assert!(timing.sampling.discarded[&Disturbance::InvoluntaryContextSwitch] >= 20, "{:?}", timing.sampling);
}

#[test]
fn a_variant_that_is_cut_short_is_still_checked() {
    let lost = model(r#"{"time_ns":1000}"#, |job| job.cutoff_ns = Some(900.0));
    assert_eq!((lost.samples.len(), lost.sampling.cut_short, lost.sampling.converged), (7, true, false));
    testing::assert_clean(&lost.after);
    let closer = model(r#"{"time_ns":1000}"#, |job| job.cutoff_ns = Some(960.0));
    assert_eq!((closer.samples.len(), closer.sampling.cut_short), (10, true));
    let close = model(r#"{"time_ns":1000}"#, |job| job.cutoff_ns = Some(990.0));
    assert_eq!((close.samples.len(), close.sampling.cut_short), (100, false));
    let torn = model(r#"{"time_ns":1000,"noise":0.05}"#, |job| job.cutoff_ns = Some(950.0));
    assert!(torn.sampling.cut_short && torn.samples.len() > 10, "{}", torn.samples.len());
    let wrong = model(r#"{"time_ns":1000,"fault":"wrong"}"#, |job| job.cutoff_ns = Some(900.0));
    assert_eq!(wrong.after.outputs[0].bad, 1000, "checked though it lost");
    // A throttled device gives no verdict.
    let hot = model(r#"{"time_ns":1000,"throttled":[0,15]}"#, |job| job.cutoff_ns = Some(1500.0));
    assert_eq!((hot.samples.len(), hot.sampling.cut_short), (100, false));
}

#[test]
fn a_kernel_that_skips_now_and_then_is_seen() {
    // Two of three samples do nothing.
    let after = host("kbench_skips_now_and_then", CacheMode::Cold).after;
    assert!(after.outputs[0].unwritten > 0, "{after:?}");
}

#[test]
fn a_kernel_that_keeps_results_is_seen() {
    for cache in [CacheMode::Cold, CacheMode::Hot] {
        let keeps = host("kbench_keeps_results", cache);
        testing::assert_clean(&keeps.after);
        assert!(keeps.memoises.is_some_and(|ratio| ratio > 3.0), "{cache:?} {keeps:?}");
        assert_eq!(host("kbench_scale", cache).memoises, None);
    }
    let fooled = host("kbench_keeps_results_too_long", CacheMode::Cold).after;
    assert!(fooled.outputs[0].bad > 0 || fooled.unrepeatable > 0, "{fooled:?}");
}

#[test]
fn a_kernel_that_hashes_a_few_inputs_is_seen() {
    for entry in ["kbench_hashes_the_first", "kbench_hashes_some", "kbench_keeps_the_last"] {
        for cache in [CacheMode::Cold, CacheMode::Hot] {
            let keeps = host(entry, cache);
            assert!(keeps.memoises.is_some_and(|ratio| ratio > 3.0), "{entry} {cache:?} {:?}", keeps.memoises);
        }
    }
}

#[test]
fn a_launch_skipped_now_and_then_is_seen_late_too() {
    for cache in [CacheMode::Cold, CacheMode::Hot] {
        let timing = of_host("kbench_skips_one_in_sixteen", |job| (job.cache, job.iterations) = (cache, 150));
        assert!(timing.after.outputs[0].unwritten > 0, "{cache:?} {:?}", timing.after);
    }
}

#[test]
fn results_on_new_inputs_are_those_of_a_fresh_load() {
    let new_inputs = |entry| host(entry, CacheMode::Cold).sampling.new_inputs.unwrap();
    // Half of the samples, and the examinations.
    assert!(new_inputs("kbench_scale") >= 11, "{}", new_inputs("kbench_scale"));
    testing::assert_clean(&host("kbench_scale", CacheMode::Cold).after);
    testing::assert_clean(&of_host("kbench_scale", |job| job.other_seed = None).after);
    let not_asked = of_host("kbench_scale", |job| job.new_inputs = false);
    assert_eq!(not_asked.sampling.new_inputs, None);
    let constant = of_host("kbench_scale", |job| {
        job.cases[0].case.tensors[0].source = Source::Constant(2.0);
    });
    assert_eq!(constant.sampling.new_inputs, Some(0), "nothing to make new inputs of");
}

#[test]
fn a_device_in_use_is_reported() {
    assert_eq!(model(r#"{"time_ns":1000}"#, |_| {}).sampling.in_use, None);
    let beside = model(r#"{"time_ns":1000,"beside_others":true}"#, |_| {});
    assert_eq!(beside.sampling.in_use.as_deref(), Some("another process"));
}

#[test]
fn a_single_number_is_of_the_same_inputs_as_the_rest() {
    use crate::data::dtype::DType;
    use crate::protocol::{Arg, TensorSpec};
    // A constant cannot be rotated. If it were that of the other set, the fresh load would compute other outputs.
    for _ in 0..4 {
        let timing = of_host("kbench_dequantize", |job| {
            let TimedCase { case, reference } = &mut job.cases[0];
            case.tensors.iter_mut().for_each(|spec| spec.dtype = DType::F64);
            let (name, source) = ("scale".to_owned(), Source::Uniform { low: 1.0, high: 2.0 });
            case.tensors.push(TensorSpec { name, dtype: DType::F64, dims: vec![], role: Role::In, source });
            case.sequence.launches[0].args[3] = Arg::Tensor(2);
            reference.sequence = case.sequence.clone();
        });
        testing::assert_clean(&timing.after);
    }
}

#[test]
fn the_record_has_cache_mode_input_sets_and_clock() {
    let host = host("kbench_scale", CacheMode::Hot).sampling;
    assert_eq!((host.cache, host.input_sets), (CacheMode::Hot, 2));
    assert!(host.resolution_ns.unwrap() > 0.0 && host.overhead_ns.unwrap() >= 0.0);
    assert_eq!(host.sm_clock, None);
}

#[test]
fn energy_is_measured_where_it_is_asked_for() {
    assert!(model(r#"{"time_ns":1000}"#, |_| {}).energy.is_empty());
    let timing = model(r#"{"time_ns":2000,"power_w":300}"#, |job| job.energy = true);
    assert_eq!(timing.energy.len(), crate::measure::statistics::FEWEST_ROUNDS);
    assert!(timing.energy.iter().all(|joules| (joules / 6e-4 - 1.0).abs() < 1e-6), "{:?}", timing.energy);
}
