//! Number of launches of a check; the short check of a kernel that passed before reports the same as the full check.

use super::*;
use crate::memory::poison::LARGE;
use crate::protocol::RunJob;

/// The report on a fake kernel and the number of launches it took: by the full check, or by the short check on a poison.
fn judged(case: FakeCase<'_>, poison: Option<Poison>) -> (SeedReport, usize) {
    let mut session = Session::new(FakeDevice::open(0), None);
    let job = case.check(&mut session);
    let tensors = &job.case.tensors;
    let inputs = session.inputs(tensors, 4, None).unwrap();
    let reference = session.reference(&job.reference, tensors, &inputs, ReferenceInputs::random(4)).unwrap();
    let mut memory = session.load(&job.case, &inputs).unwrap();
    let Resources { device, pool, .. } = &mut session.resources;
    memory.prepare(device, Some(pool), &inputs).unwrap();
    let bad_above = job.bad_above;
    let expected = Expected { tensors, inputs: &inputs, reference: &reference, seed: 4, bad_above };
    let mut launches = 0;
    let mut stage = |stage| launches += usize::from(stage == Stage::Launch);
    let check = SeedCheck::new(expected, &mut session.resources, &mut memory, &mut stage);
    let (report, _) = match poison {
        Some(poison) => check.short(poison),
        None => check.full(),
    }
    .unwrap();
    (report, launches)
}

#[test]
fn the_short_check_takes_one_launch_unless_an_output_is_suspicious() {
    // Launches of the full check, of the short check on mixed poison, and of the short check on finite poison.
    for (fault, launches) in [
        ("null", [2, 1, 1]),
        ("\"wrong\"", [2, 2, 2]),
        ("\"nan\"", [2, 2, 2]),
        ("\"unwritten\"", [2, 2, 2]),
        ("\"out-of-bounds\"", [2, 2, 2]),
        ("\"clobber-input\"", [2, 2, 2]),
        // NaN alone hides that the output depends on earlier contents.
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
fn an_integer_output_on_nan_poison_takes_a_launch_on_the_other_poison() {
    let case = FakeCase { output: DType::I32, ..FakeCase::default() };
    assert_eq!(judged(case, Some(Poison::MIXED)).1, 2);
    assert_eq!(judged(case, Some(Poison::FINITE)).1, 1);
    let unwritten = FakeCase { fault: "\"unwritten\"", ..case };
    for poison in [Poison::MIXED, Poison::FINITE] {
        assert_eq!(judged(unwritten, Some(poison)).0, judged(unwritten, None).0);
    }
}

#[test]
fn on_chip_memory_holds_nan_and_then_large_numbers() {
    let case = FakeCase { fault: "\"uninitialised\"", ..FakeCase::default() };
    let (report, launches) = judged(case, None);
    assert_eq!((report.outputs[0].nonfinite, report.stale, launches), (1000, 1000, 4));
    let large = half::f16::from_le_bytes([LARGE; 2]).to_f64();
    let (report, _) = judged(FakeCase { output: DType::I32, ..case }, Some(Poison::FINITE));
    assert!(report.outputs[0].bad == 1000 && report.stale == 1000 && large > 1e4, "{report:?}");
}

#[test]
fn a_kernel_that_passed_before_takes_one_launch_a_seed() {
    for (fault, clean) in [("null", true), ("\"wrong\"", false)] {
        let case = FakeCase { fault, ..FakeCase::default() };
        let mut session = Session::new(FakeDevice::open(0), None);
        let mut job = case.check(&mut session);
        job.options.passed_before = true;
        let mut launches = 0;
        let mut stage = |stage| launches += usize::from(stage == Stage::Launch);
        let reports = session.check(&job, &mut stage).unwrap();
        // One launch stage before each seed's check, and one for unloading at the end.
        assert_eq!((reports[0].outputs[0].bad == 0, launches), (clean, if clean { 2 + 2 + 1 } else { 2 + 4 + 1 }));
    }
}

#[test]
fn an_element_that_is_off_in_one_launch_is_unrepeatable() {
    let report = host("kbench_off_in_the_third");
    assert_eq!((report.unrepeatable, report.stale, report.outputs[0].unwritten), (1, 1, 0));
}

#[test]
fn a_result_that_looks_like_poison_is_not_unwritten() {
    let mut session = Session::new(HostDevice::open(), None);
    let mut job = testing::host_check(&mut session, "kbench_honest_poison");
    job.case.tensors[1].dtype = DType::U8;
    job.reference.sequence.launches[0].entry = "kbench_honest_poison".into();
    let report = session.check(&job, &mut |_| {}).unwrap().remove(0);
    assert_eq!((report.outputs[0].unwritten, report.stale, report.unrepeatable), (0, 1, 0));
}

#[test]
fn a_run_without_checks_launches_the_kernel_and_counts_when_asked() {
    let run = |fault, count| {
        let case = FakeCase { fault, ..FakeCase::default() };
        let mut session = Session::new(FakeDevice::open(0), None);
        let job = case.check(&mut session);
        let ran = session.run(&RunJob { id: 1, cases: vec![job.case], seed: 4, count }, &mut |_| {});
        (ran, (session.resources.device.energy().unwrap().joules / (1000.0 * 100.0 * 1e-9)).round())
    };
    assert_eq!(run("null", false), (Ok(None), 1.0));
    let (counted, launches) = run("null", true);
    assert!(matches!(counted, Ok(Some(Err(_)))) && launches > 1.5, "a launch to warm up, and the counted launch");
    let failed = run("\"illegal-access\"", false).0.unwrap_err();
    assert!(matches!(failed, (0, Failure::IllegalAccess { .. })));
}

#[test]
fn a_run_of_several_cases_launches_each_once_and_names_the_one_that_failed() {
    let mut session = Session::new(FakeDevice::open(0), None);
    let mut case = |fault| FakeCase { fault, ..FakeCase::default() }.check(&mut session).case;
    let (good, bad) = (case("null"), case("\"illegal-access\""));
    let mut run = |cases| {
        let ran = session.run(&RunJob { id: 1, cases, seed: 4, count: false }, &mut |_| {});
        (ran, (session.resources.device.energy().unwrap().joules / (1000.0 * 100.0 * 1e-9)).round())
    };
    assert_eq!(run(vec![good.clone(), good.clone()]), (Ok(None), 2.0));
    let failed = run(vec![good.clone(), bad, good]).0.unwrap_err();
    assert!(matches!(failed, (1, Failure::IllegalAccess { .. })), "{failed:?}");
}

#[test]
fn a_session_uses_the_energy_counter_and_the_limit_of_its_device() {
    assert_eq!(Session::new(FakeDevice::open(0), None).meter(), Ok(()));
    assert!(Session::new(FakeDevice::open(1), None).meter().is_err());
    let mut session = Session::new(HostDevice::open(), None);
    session.limit(std::time::Duration::from_millis(200));
    let job = testing::host_check(&mut session, "kbench_hangs");
    assert!(session.check(&job, &mut |_| {}).is_err());
}
