//! Tests of where results come from and what they depend on.

#![allow(clippy::float_cmp)]

use super::*;
use crate::data::digest::Bytes;
use crate::device::fake::FakeDevice;
use crate::protocol::{Number, TensorMap};
use crate::testing::FakeCase;
use crate::verify::check::Session;

fn outputs() -> Outputs {
    [(2, (DType::F64, vec![1; 24])), (5, (DType::I32, vec![2; 8]))].into()
}

#[test]
fn results_are_kept_on_disk_and_damage_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/for/it");
    let fresh = || References::new(Some(path.clone()));
    let known = |references: &mut References| {
        references.get("k", || Err(Failure::Reference { message: "run".into() })).map(|outputs| (*outputs).clone())
    };
    assert!(known(&mut fresh()).is_err());
    let mut references = fresh();
    references.get("k", || Ok(outputs())).unwrap();
    assert_eq!(known(&mut references), Ok(outputs()), "from memory");
    references.settle();
    assert_eq!(known(&mut fresh()), Ok(outputs()), "from disk");

    let file = path.join("k.ref");
    let good = std::fs::read(&file).unwrap();
    for length in 0..good.len() {
        std::fs::write(&file, &good[..length]).unwrap();
        assert!(known(&mut fresh()).is_err(), "cut at {length}");
    }
    let mut bad = good.clone();
    bad[40] ^= 1;
    std::fs::write(&file, &bad).unwrap();
    assert!(known(&mut fresh()).is_err());
    fresh().get("k", || Ok(outputs())).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), good, "written anew");

    fresh().get("other", || Ok([(2, (DType::F64, vec![9; 24])), (5, (DType::I32, vec![9; 8]))].into())).unwrap();
    std::fs::copy(path.join("other.ref"), &file).unwrap();
    assert!(known(&mut fresh()).is_err(), "a result of another key");
}

#[test]
fn the_folder_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let write = |name: &str, age: u64| {
        let path = folder.path().join(name);
        std::fs::write(&path, [0; 100]).unwrap();
        let file = std::fs::File::options().append(true).open(path).unwrap();
        file.set_modified(now - Duration::from_secs(age)).unwrap();
    };
    for (name, age) in [
        ("a.ref", 30),
        ("b.ref", 10),
        ("c.ref", 20),
        (".tmpold", 4000),
        (".tmpnew", 5),
        ("passing-a.ref", 4000),
        ("passing-b.ref", 5),
        ("other", 9000),
    ] {
        write(name, age);
    }
    tidy(folder.path(), 200, ABANDONED).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".tmpnew", "b.ref", "c.ref", "other", "passing-b.ref"]);

    References::new(Some(folder.path().to_owned())).get("d", || Ok(outputs())).unwrap();
    std::fs::File::options()
        .append(true)
        .open(folder.path().join("d.ref"))
        .and_then(|file| file.set_modified(now - Duration::from_secs(50)))
        .unwrap();
    References::new(Some(folder.path().to_owned())).get("d", || unreachable!("it is on disk")).unwrap();
    let used = std::fs::metadata(folder.path().join("d.ref")).unwrap().modified().unwrap();
    assert!(used >= now, "its use is remembered");
}

#[test]
fn what_is_computed_sooner_than_it_is_read_is_not_written() {
    assert!(is_worth_writing(SMALL, Duration::ZERO));
    assert!(!is_worth_writing(64 << 20, Duration::from_millis(100)));
    assert!(is_worth_writing(64 << 20, Duration::from_millis(200)));

    let folder = tempfile::tempdir().unwrap();
    let mut references = References::new(Some(folder.path().to_owned()));
    references.put("given", outputs());
    references.settle();
    let mut others = References::new(Some(folder.path().to_owned()));
    assert_eq!(*others.get("given", || unreachable!("it is on disk")).unwrap(), outputs());
}

#[test]
fn a_folder_that_cannot_be_written_is_no_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut references = References::new(Some(file.path().join("below a file")));
    assert_eq!(*references.get("k", || Ok(outputs())).unwrap(), outputs());
}

#[test]
fn the_folder_is_emptied_no_further_than_it_must() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.ref", "b.ref", "c.ref", "d.ref", "e.ref"] {
        std::fs::write(folder.path().join(name), [0; 100]).unwrap();
    }
    let left = |most| {
        tidy(folder.path(), most, ABANDONED).unwrap();
        std::fs::read_dir(folder.path()).unwrap().count()
    };
    assert_eq!([500, 499, 250, 0].map(left), [5, 4, 2, 0]);
}

#[test]
fn results_are_known_and_as_large_as_their_tensors() {
    assert_eq!(size(&outputs()), 32);
    let mut references = References::new(None);
    assert!(!references.knows("k"));
    references.put("k", outputs());
    assert!(references.knows("k") && !references.knows("other"));
}

#[test]
fn results_on_disk_are_not_written_again_and_all_are_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut references = References::new(Some(folder.path().to_owned()));
    // The second is asked for while the first is on its way.
    references.put("large", [(0, (DType::U8, vec![7; 16 << 20]))].into());
    references.put("small", outputs());
    references.settle();
    let mut others = References::new(Some(folder.path().to_owned()));
    for key in ["large", "small"] {
        others.get(key, || unreachable!("it is on disk")).unwrap();
    }
    assert!(others.storing.is_empty());
}

/// A tensor that nothing says more of.
fn tensor(dtype: DType, role: Role, source: Source) -> TensorSpec {
    TensorSpec { name: "t".into(), dtype, dims: vec![64], role, source }
}

#[test]
fn a_key_names_what_a_result_depends_on_and_nothing_else() {
    let (case, reference) = FakeCase::default().case();
    let info = FakeDevice::open(0).info().clone();
    let of = |reference: &Reference, tensors: &[TensorSpec], info: &DeviceInfo| {
        key(reference, tensors, Asked::seed(1), info)
    };
    let usual = of(&reference, &case.tensors, &info);
    assert_ne!(usual, key(&reference, &case.tensors, Asked::seed(2), &info));

    let mut other = reference.clone();
    other.launch.blob = "other bytes".into();
    assert_eq!(of(&other, &case.tensors, &info), usual, "machine code is known by its identity");
    other.launch.entry = "other".into();
    assert_ne!(of(&other, &case.tensors, &info), usual);

    let scratch = |elements| {
        let scratch = TensorSpec { dims: vec![elements], ..tensor(DType::F32, Role::Scratch, Source::None) };
        [case.tensors.clone(), vec![scratch]].concat()
    };
    assert_eq!(of(&reference, &scratch(1), &info), of(&reference, &scratch(2), &info), "scratch that it does not take");
    let mut takes = reference.clone();
    takes.launch.args.push(Arg::Tensor(2));
    assert_ne!(of(&takes, &scratch(1), &info), of(&takes, &scratch(2), &info));
    let mut inputs = case.tensors.clone();
    inputs[0].dims = vec![20, 50];
    assert_ne!(of(&reference, &inputs, &info), usual);

    let elsewhere = DeviceInfo { name: "another device".into(), ..info.clone() };
    assert_ne!(of(&reference, &case.tensors, &elsewhere), usual);
    let program = Reference { program: true, ..reference.clone() };
    assert_eq!(of(&program, &case.tensors, &elsewhere), of(&program, &case.tensors, &info), "it knows what it runs on");

    let passing = Reference { identity: format!("{PASSING}1"), ..reference };
    assert!(of(&passing, &case.tensors, &info).starts_with(PASSING) && !usual.starts_with(PASSING));
}

#[test]
fn a_launch_takes_the_tensors_of_its_arguments() {
    let map = TensorMap { tensor: 3, dims: vec![64], r#box: vec![8], swizzle: 0 };
    let launch = Launch {
        args: vec![
            Arg::Tensor(1),
            Arg::Symbol { symbol: "s".into(), tensor: 2 },
            Arg::TensorMap(map),
            Arg::Scalar { dtype: DType::I32, value: Number::Int(4) },
        ],
        ..FakeCase::default().case().0.launch
    };
    assert_eq!([0, 1, 2, 3, 4].map(|tensor| takes(&launch, tensor)), [false, true, true, true, false]);
}

#[test]
fn a_reference_sees_each_input_as_it_was_asked_to() {
    let specs = [
        tensor(DType::F32, Role::In, Source::None),
        tensor(DType::I32, Role::In, Source::None),
        tensor(DType::F32, Role::In, Source::Scale),
        tensor(DType::F32, Role::In, Source::Scale),
        tensor(DType::F8e4m3, Role::In, Source::Quantize { from: 0, scale: 2, scale_dims: vec![] }),
    ];
    let values = |value: f64| vec![value; 64];
    let input = |index: usize, value| Some(Arc::new(Bytes::from(codec::encode(specs[index].dtype, &values(value)))));
    let inputs: Inputs = [3.0, 100.0, 0.5, 0.25, 6.0].into_iter().enumerate().map(|(at, v)| input(at, v)).collect();
    let (_, mut reference) = FakeCase::default().case();
    reference.launch.args = (0..5).map(Arg::Tensor).collect();
    let seen = |view| -> Vec<Vec<f64>> {
        let wide = wide_inputs(&reference, &specs, &inputs, view);
        let types = wide_specs(&reference, &specs);
        wide.iter().zip(types).map(|(data, spec)| codec::decode(spec.dtype, data.as_ref().unwrap())).collect()
    };
    assert_eq!(seen(View::Given), [3.0, 100.0, 0.5, 0.25, 6.0].map(values));
    // What was quantised is as it was before, with a scale of 1; a scale of nothing stays.
    assert_eq!(seen(View::Unquantized), [3.0, 100.0, 1.0, 0.25, 3.0].map(values));
    let perturbed = seen(View::Perturbed(0.125));
    assert_eq!(perturbed[1], values(100.0), "integers are exact");
    assert!(perturbed[0].iter().all(|&seen| seen == 3.0 * 1.125 || seen == 3.0 * 0.875), "{perturbed:?}");
}

#[test]
fn a_perturbation_is_relative_goes_both_ways_and_flushes_what_is_subnormal() {
    let perturbed = |dtype, value| {
        let mut values = vec![value; 1000];
        perturb(dtype, &mut values, 0.25);
        values
    };
    let values = perturbed(DType::F64, 8.0);
    let up = values.iter().filter(|&&value| value == 10.0).count();
    assert!((400..600).contains(&up) && values.iter().all(|&value| value == 10.0 || value == 6.0), "{up}");
    // Results on disk depend on which way each value goes.
    assert_eq!(values[..8], [10.0, 6.0, 6.0, 6.0, 10.0, 10.0, 10.0, 10.0]);
    let smallest = DType::F32.smallest_normal();
    assert!(perturbed(DType::F32, smallest).iter().all(|&value| value > 0.0));
    assert!(perturbed(DType::F32, -smallest * 0.99).iter().all(|&value| value == 0.0));
    assert!(perturbed(DType::F16, DType::F16.smallest_normal() / 2.0).iter().all(|&value| value > 0.0));
}

#[test]
fn a_reference_is_launched_once_unless_poison_may_be_its_result() {
    let launches = |reference_fault, output| {
        let case = FakeCase { reference_fault, output, ..FakeCase::default() };
        let mut session = Session::new(FakeDevice::open(0), None);
        let job = case.check(&mut session);
        let inputs = session.inputs(&job.case.tensors, 4).unwrap();
        let _ = session.reference(&job.reference, &job.case.tensors, &inputs, 4);
        // 100 W for the nanosecond that each takes.
        (session.device.energy().unwrap().joules / 100e-9).round()
    };
    assert_eq!(launches("null", DType::F16), 1.0);
    assert_eq!(launches("\"unwritten\"", DType::F16), 2.0);
    assert_eq!(launches("\"nan\"", DType::I32), 2.0);
}
