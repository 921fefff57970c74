//! How often a kernel is launched for its verdict, and that one that passed before is judged in one launch as in two.

use super::*;
use crate::memory::kernel::LARGE;

/// What a fake kernel is told, and in how many launches: by the whole check, or once more on a poison.
fn judged(case: FakeCase<'_>, poison: Option<Poison>) -> (SeedReport, usize) {
    let mut session = Session::new(FakeDevice::open(0), None);
    let job = case.check(&mut session);
    let tensors = &job.case.tensors;
    let inputs = session.inputs(tensors, 4).unwrap();
    let reference = session.reference(&job.reference, tensors, &inputs, 4).unwrap();
    let mut rig = session.rig(&job.case, &inputs).unwrap();
    rig.begin(&mut session.device, Some(&mut session.pool), &inputs).unwrap();
    let check = Check { tensors, inputs: &inputs, reference: &reference, seed: 4 };
    let mut launches = 0;
    let mut stage = |stage| launches += usize::from(stage == Stage::Launch);
    let (device, results) = (&mut session.device, &mut session.results);
    let (report, _) = match poison {
        Some(poison) => check.run_again(device, results, &mut rig, poison, job.bad_above, &mut stage),
        None => check.run(device, results, &mut rig, job.bad_above, &mut stage),
    }
    .unwrap();
    (report, launches)
}

#[test]
fn one_launch_clears_a_kernel_and_anything_odd_takes_as_many_as_the_whole_check() {
    // Launches of the whole check; on NaN between finite bands; and on the finite poison.
    for (fault, launches) in [
        ("null", [2, 1, 1]),
        ("\"wrong\"", [2, 2, 2]),
        ("\"nan\"", [2, 2, 2]),
        ("\"unwritten\"", [2, 2, 2]),
        ("\"out-of-bounds\"", [2, 2, 2]),
        ("\"clobber-input\"", [2, 2, 2]),
        // NaN alone hides that it matters what lay there.
        ("\"stale\"", [4, 1, 4]),
    ] {
        let case = FakeCase { fault, ..FakeCase::default() };
        let (whole, of_whole) = judged(case, None);
        let (mixed, on_mixed) = judged(case, Some(Poison::MIXED));
        let (finite, on_finite) = judged(case, Some(Poison::FINITE));
        assert_eq!([of_whole, on_mixed, on_finite], launches, "{fault}");
        assert_eq!(finite, whole, "{fault}");
        if fault != "\"stale\"" {
            assert_eq!(mixed, whole, "{fault}");
        }
    }
}

#[test]
fn an_integer_that_may_be_the_poison_itself_takes_the_other_poison_too() {
    let case = FakeCase { output: DType::I32, ..FakeCase::default() };
    assert_eq!(judged(case, Some(Poison::MIXED)).1, 2);
    assert_eq!(judged(case, Some(Poison::FINITE)).1, 1);
    let unwritten = FakeCase { fault: "\"unwritten\"", ..case };
    for poison in [Poison::MIXED, Poison::FINITE] {
        assert_eq!(judged(unwritten, Some(poison)).0, judged(unwritten, None).0);
    }
}

#[test]
fn memory_that_is_no_tensor_is_full_of_nan_and_then_of_large_numbers() {
    let case = FakeCase { fault: "\"uninitialised\"", ..FakeCase::default() };
    let (report, launches) = judged(case, None);
    assert_eq!((report.outputs[0].nonfinite, report.stale, launches), (1000, 1000, 4));
    let large = half::f16::from_le_bytes([LARGE; 2]).to_f64();
    let (report, _) = judged(FakeCase { output: DType::I32, ..case }, Some(Poison::FINITE));
    assert!(report.outputs[0].bad == 1000 && report.stale == 1000 && large > 1e4, "{report:?}");
}

#[test]
fn a_check_that_is_asked_for_again_takes_one_launch_a_seed() {
    for (fault, clean) in [("null", true), ("\"wrong\"", false)] {
        let case = FakeCase { fault, ..FakeCase::default() };
        let mut session = Session::new(FakeDevice::open(0), None);
        let mut job = case.check(&mut session);
        job.depth.again = true;
        let mut launches = 0;
        let mut stage = |stage| launches += usize::from(stage == Stage::Launch);
        let reports = session.check(&job, &mut stage).unwrap();
        // Each seed begins on the device, and the kernel is unloaded at the end.
        assert_eq!((reports[0].outputs[0].bad == 0, launches), (clean, if clean { 2 + 2 + 1 } else { 2 + 4 + 1 }));
    }
}

#[test]
fn what_is_off_in_one_launch_alone_does_not_repeat() {
    let report = host("kbench_off_in_the_third");
    assert_eq!((report.unrepeatable, report.stale, report.outputs[0].unwritten), (1, 1, 0));
}

#[test]
fn a_result_that_looks_like_poison_is_not_unwritten() {
    let mut session = Session::new(HostDevice::open(), None);
    let mut job = testing::host_check(&mut session, "kbench_honest_poison");
    job.case.tensors[1].dtype = DType::U8;
    job.reference.launch.entry = "kbench_honest_poison".into();
    let report = session.check(&job, &mut |_| {}).unwrap().remove(0);
    assert_eq!((report.outputs[0].unwritten, report.stale, report.unrepeatable), (0, 1, 0));
}

#[test]
fn a_run_without_checks_launches_the_kernel_and_counts_when_asked() {
    let run = |fault, count| {
        let case = FakeCase { fault, ..FakeCase::default() };
        let mut session = Session::new(FakeDevice::open(0), None);
        let job = case.check(&mut session);
        let ran = session.run(&RunJob { id: 1, case: job.case, seed: 4, count }, &mut |_| {});
        (ran, (session.device.energy().unwrap().joules / (1000.0 * 100.0 * 1e-9)).round())
    };
    assert_eq!(run("null", false), (Ok(None), 1.0));
    let (counted, launches) = run("null", true);
    assert!(matches!(counted, Ok(Some(Err(_)))) && launches > 1.5, "one that warms, and one that is counted");
    assert!(matches!(run("\"illegal-access\"", false).0, Err(Failure::IllegalAccess { .. })));
}

#[test]
fn a_session_passes_on_the_energy_counter_and_the_limit() {
    assert_eq!(Session::new(FakeDevice::open(0), None).meter(), Ok(()));
    assert!(Session::new(FakeDevice::open(1), None).meter().is_err());
    let mut session = Session::new(HostDevice::open(), None);
    session.limit(std::time::Duration::from_millis(200));
    let job = testing::host_check(&mut session, "kbench_hangs");
    assert!(session.check(&job, &mut |_| {}).is_err());
}
