use super::*;
use crate::data::dtype::DType;
use crate::device::fake::FakeDevice;
use crate::device::host::HostDevice;
use crate::protocol::{Bytes, OutOfBounds, Pattern, Role, Source};
use crate::testing::{self, FakeCase};

mod options;
mod short;

fn fake(fault: &str) -> Result<SeedReport, Failure> {
    let case = FakeCase { fault, ..FakeCase::default() };
    let mut session = Session::new(FakeDevice::open(0), None);
    let mut stages = Vec::new();
    let job = case.check(&mut session);
    let reports = session.check(&job, &mut |stage| stages.push(stage))?;
    assert_eq!(stages[..3], [Stage::Inputs, Stage::Reference, Stage::Launch]);
    assert_eq!(stages[stages.len() - 2..], [Stage::Compare, Stage::Launch], "unloading is the kernel's own time");
    assert_eq!(reports.len(), 2);
    let seeds: Vec<u64> = reports.iter().map(|report| report.seed).collect();
    assert_eq!(seeds, [4, 5]);
    Ok(reports[0].clone())
}

#[test]
fn a_right_kernel_has_no_findings() {
    let report = fake("null").unwrap();
    testing::assert_clean(&report);
    assert_eq!(report.outputs[0].elements, 1000);
}

#[test]
fn each_fault_shows_where_it_should_and_nowhere_else() {
    let clean = fake("null").unwrap();
    let wrong = fake("\"wrong\"").unwrap();
    assert!(wrong.outputs[0].max_abs_err > 2.0 && wrong.outputs[0].bad == 1000 && wrong.outputs[0].bias > 2.0);
    assert_eq!(SeedReport { outputs: vec![], ..wrong }, SeedReport { outputs: vec![], ..clean.clone() });

    let nan = fake("\"nan\"").unwrap();
    assert_eq!((nan.outputs[0].nonfinite, nan.outputs[0].unwritten), (1000, 0));
    assert_eq!((nan.stale, nan.unrepeatable), (0, 0));

    let unwritten = fake("\"unwritten\"").unwrap();
    assert_eq!((unwritten.outputs[0].unwritten, unwritten.outputs[0].first_unwritten), (252, Some(748)));
    assert_eq!((unwritten.outputs[0].nonfinite, unwritten.stale, unwritten.unrepeatable), (252, 0, 0));

    let past = fake("\"out-of-bounds\"").unwrap();
    assert_eq!(past.out_of_bounds, [OutOfBounds { tensor: "o".into(), offset: 2000, bytes: 16 }]);
    assert_eq!(SeedReport { out_of_bounds: vec![], ..past }, clean);

    let clobbered = fake("\"clobber-input\"").unwrap();
    assert_eq!(clobbered.inputs_changed, ["x"]);
    assert_eq!(SeedReport { inputs_changed: vec![], ..clobbered }, clean);

    let stale = fake("\"stale\"").unwrap();
    assert_eq!((stale.stale, stale.unrepeatable), (1000, 0));
    assert_eq!(SeedReport { stale: 0, ..stale }, clean);

    let unrepeatable = fake("\"unrepeatable\"").unwrap();
    assert_eq!((unrepeatable.stale, unrepeatable.unrepeatable), (0, 1));
}

#[test]
fn failures_come_through() {
    assert!(matches!(fake("\"launch-refused\""), Err(Failure::LaunchRefused { .. })));
    assert!(matches!(fake("\"illegal-access\""), Err(Failure::IllegalAccess { .. })));
    assert!(matches!(fake("\"out-of-memory\""), Err(Failure::OutOfMemory { .. })));
    assert!(matches!(fake("\"no such fault\""), Err(Failure::LoadFailed { .. })));
}

#[test]
fn a_bad_reference_is_the_references_failure() {
    for (fault, words) in [
        ("\"out-of-bounds\"", "out of bounds"),
        ("\"unwritten\"", "250 elements of `o` unwritten, first 750"),
        ("\"nan\"", "it gives no finite number in `o`"),
        ("\"launch-refused\"", "launch refused"),
        ("\"nonsense\"", "could not be loaded"),
    ] {
        let case = FakeCase { reference_fault: fault, ..FakeCase::default() };
        let mut session = Session::new(FakeDevice::open(0), None);
        let job = case.check(&mut session);
        let failure = session.check(&job, &mut |_| {}).unwrap_err();
        let Failure::Reference { message } = &failure else { panic!("{fault}: {failure}") };
        assert!(message.contains(words), "{message}");
        assert!(failure.is_fatal(DeviceKind::Fake));
    }
}

#[test]
fn every_output_type_can_be_judged() {
    for dtype in DType::ALL {
        for (fault, good) in [("null", true), ("\"wrong\"", false), ("\"unwritten\"", false)] {
            let case = FakeCase { fault, output: dtype, ..FakeCase::default() };
            let mut session = Session::new(FakeDevice::open(0), None);
            let job = case.check(&mut session);
            let reports = session.check(&job, &mut |_| {}).unwrap();
            let output = &reports[0].outputs[0];
            let clean = output.max_abs_err == 0.0 && output.nonfinite == 0 && output.unwritten == 0;
            assert_eq!(clean, good, "{dtype} {fault} {output:?}");
            let unwritten =
                if fault == "\"unwritten\"" { 1000 - 1000 * 3 * dtype.size() / 4 / 8 * 8 / dtype.size() } else { 0 };
            assert_eq!(output.unwritten, unwritten as u64, "{dtype} {fault}");
        }
    }
}

#[test]
fn missing_or_mismatched_data_are_typed_errors() {
    let case = FakeCase::default();
    let mut session = Session::new(FakeDevice::open(0), None);
    let mut job = case.check(&mut session);
    job.case.sequence.device = DeviceKind::Cuda;
    assert!(matches!(session.check(&job, &mut |_| {}), Err(Failure::Unsupported { .. })));
    let mut job = case.check(&mut session);
    job.case.sequence.blob = "00".into();
    assert!(matches!(session.check(&job, &mut |_| {}), Err(Failure::LoadFailed { .. })));
    let mut job = case.check(&mut session);
    job.case.tensors[0].source = Source::File { hash: "00".into(), tensor: None };
    assert!(matches!(session.check(&job, &mut |_| {}), Err(Failure::Inputs { .. })));
    let mut job = case.check(&mut session);
    job.case.sequence.launches[0].args.push(crate::protocol::Arg::Tensor(9));
    assert!(matches!(session.check(&job, &mut |_| {}), Err(Failure::Inputs { .. })));
    assert!(!session.add_blob("00", vec![1]));
}

fn host(entry: &str) -> SeedReport {
    let mut session = Session::new(HostDevice::open(), None);
    let job = testing::host_check(&mut session, entry);
    session.check(&job, &mut |_| {}).unwrap().remove(0)
}

#[test]
fn c_kernels_against_a_c_reference() {
    testing::assert_clean(&host("kbench_scale"));
    testing::assert_clean(&host("kbench_prints"));

    let off = host("kbench_off_by_little").outputs.remove(0);
    assert!((off.max_abs_err - 0.25).abs() < 1e-4 && off.max_abs_err_at == 7 && off.bad == 1, "{off:?}");
    assert!((off.bias - 0.00025).abs() < 1e-5 && off.rms_ref > 1.0);

    let past = host("kbench_past_end");
    assert_eq!(past.out_of_bounds, [OutOfBounds { tensor: "y".into(), offset: 4000, bytes: 4 }]);
    let before = host("kbench_before_start");
    assert_eq!(before.out_of_bounds, [OutOfBounds { tensor: "y".into(), offset: -9, bytes: 4 }]);

    let tail = host("kbench_unwritten_tail").outputs.remove(0);
    assert_eq!((tail.unwritten, tail.first_unwritten, tail.nonfinite), (5, Some(995), 5));
    assert_eq!(host("kbench_clobbers").inputs_changed, ["x"]);
    let counts = host("kbench_counts");
    assert_eq!((counts.unrepeatable, counts.stale), (1, 0));
    let accumulates = host("kbench_accumulates");
    assert_eq!((accumulates.unrepeatable, accumulates.stale), (0, 1));
}

#[test]
fn inout_tensors_are_restored_before_each_launch() {
    let mut session = Session::new(HostDevice::open(), None);
    let mut job = testing::host_check(&mut session, "kbench_inout");
    job.case.tensors[1].role = Role::Inout;
    job.case.tensors[1].source = Source::Arange { start: 0.0, step: 1.0 };
    job.reference.sequence.launches[0].entry = "kbench_inout_reference".into();
    let report = session.check(&job, &mut |_| {}).unwrap().remove(0);
    assert_eq!((report.unrepeatable, report.stale, report.outputs[0].unwritten), (0, 0, 0));
    assert!(report.outputs[0].max_abs_err < 1e-3 && report.outputs[0].rms_ref > 100.0, "{report:?}");
}

#[test]
fn a_host_reference_serves_a_kernel_elsewhere() {
    // The fake kernel writes zeros; the C reference multiplies by a = 0.
    let case = FakeCase::default();
    let mut session = Session::new(FakeDevice::open(0), None);
    let mut job = case.check(&mut session);
    let mut other = Session::new(HostDevice::open(), None);
    job.reference = testing::host_check(&mut other, "kbench_scale").reference;
    job.reference.sequence.launches[0].args[3] =
        crate::protocol::Arg::Scalar { dtype: DType::F64, value: crate::protocol::Number::Float(0.0) };
    assert!(session.add_blob(&job.reference.sequence.blob.clone(), testing::c_library().to_vec()));
    testing::assert_clean(&session.check(&job, &mut |_| {}).unwrap()[0]);
}

#[test]
fn references_are_kept_between_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let mut reports = Vec::new();
    for _ in 0..2 {
        let mut session = Session::new(HostDevice::open(), Some(folder.path().to_owned()));
        let job = testing::host_check(&mut session, "kbench_off_by_little");
        reports.push(session.check(&job, &mut |_| {}).unwrap());
    }
    assert_eq!(reports[0], reports[1]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "one file a seed");
}

#[test]
fn outputs_made_elsewhere_are_compared_with_the_reference() {
    let mut session = Session::new(FakeDevice::open(0), None);
    let job = FakeCase::default().check(&mut session);
    let mut inspect = |index: usize, bytes: Vec<u8>| {
        let job = InspectJob {
            id: 2,
            tensors: job.case.tensors.clone(),
            reference: job.reference.clone(),
            seed: 4,
            pattern: None,
            outputs: vec![(index, Bytes(bytes))],
            bad_above: 0.1,
        };
        let mut stages = Vec::new();
        let report = session.inspect(&job, &mut |stage| stages.push(stage))?;
        assert_eq!(stages, [Stage::Inputs, Stage::Reference, Stage::Compare]);
        Ok::<_, Failure>(report)
    };
    let right = inspect(1, vec![0; 2000]).unwrap();
    testing::assert_clean(&right);
    assert_eq!((right.seed, right.outputs[0].elements), (4, 1000));
    assert_eq!(inspect(1, vec![0x40; 2000]).unwrap().outputs[0].bad, 1000);
    assert_eq!(inspect(1, vec![0xff; 2000]).unwrap().outputs[0].nonfinite, 1000);
    // The driver knows the sizes, so these are its mistakes.
    assert!(matches!(inspect(1, vec![0; 1999]), Err(Failure::Inputs { .. })));
    assert!(matches!(inspect(2, vec![]), Err(Failure::Inputs { .. })));
    assert!(matches!(inspect(0, vec![0; 2000]), Err(Failure::Reference { .. })));
}

#[test]
fn a_check_uses_references_that_were_computed_before() {
    let folder = tempfile::tempdir().unwrap();
    let references = || std::fs::read_dir(folder.path()).unwrap().count();
    let session = || Session::new(HostDevice::open(), Some(folder.path().to_owned()));
    let mut before = session();
    let mut job = testing::host_check(&mut before, "kbench_off_by_little");
    job.options.patterns = vec![Pattern::Large];
    let asked: Vec<_> = job.asked().collect();
    assert_eq!(asked.last(), Some(&(0, Some(Pattern::Large))));
    for &(seed, pattern) in &asked {
        let (tensors, reference) = (job.case.tensors.clone(), job.reference.clone());
        let inspect = InspectJob { id: 3, tensors, reference, seed, pattern, outputs: Vec::new(), bad_above: 0.1 };
        let report = before.inspect(&inspect, &mut |_| {}).unwrap();
        assert_eq!((report.seed, report.pattern, report.outputs.len()), (seed, pattern, 0));
    }
    // The end of a session waits until all results are written.
    drop(before);
    assert_eq!(references(), asked.len());
    let mut after = session();
    testing::host_check(&mut after, "kbench_off_by_little");
    after.check(&job, &mut |_| {}).unwrap();
    drop(after);
    assert_eq!(references(), asked.len(), "the check computed none");
}
