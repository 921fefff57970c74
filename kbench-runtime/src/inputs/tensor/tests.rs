use super::*;
use crate::protocol::Role;

fn spec(name: &str, dtype: DType, dims: &[u64], source: Source) -> TensorSpec {
    TensorSpec { name: name.into(), dtype, dims: dims.to_vec(), role: Role::In, source }
}

fn values(spec: &TensorSpec, seed: u64) -> Vec<f64> {
    let inputs = generate(std::slice::from_ref(spec), seed, &Blobs::new()).unwrap();
    codec::decode(spec.dtype, inputs[0].as_ref().unwrap())
}

#[test]
fn normals_have_their_moments_and_depend_on_seed_and_name() {
    let normal = Source::Normal { mean: 3.0, std: 2.0 };
    let x = spec("x", DType::F64, &[100_000], normal.clone());
    let got = values(&x, 1);
    let mean = got.iter().sum::<f64>() / got.len() as f64;
    let var = got.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / got.len() as f64;
    assert!((mean - 3.0).abs() < 0.03 && (var - 4.0).abs() < 0.08, "{mean} {var}");
    assert!(got == values(&x, 1));
    assert!(got != values(&x, 2));
    assert!(got != values(&spec("y", DType::F64, &[100_000], normal), 1));
    // Each chunk has its own random stream.
    assert_ne!(got[..100], got[CHUNK..CHUNK + 100]);
}

#[test]
fn contents_do_not_depend_on_the_number_of_threads() {
    let x = spec("x", DType::F16, &[5, 20_000], Source::Normal { mean: 0.0, std: 1.0 });
    let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| values(&x, 7));
    assert!(on(1) == on(3));
}

#[test]
fn a_prefix_of_the_stream_is_pinned() {
    // Results are kept by seed: if this changes, GENERATION must be raised.
    let x = spec("x", DType::F32, &[4], Source::Uniform { low: 0.0, high: 1.0 });
    let got = values(&x, 0);
    assert_eq!(got.iter().map(|v| (v * 1e6).round() as i64).collect::<Vec<_>>(), PINNED);
}

const PINNED: [i64; 4] = [629_867, 124_293, 822_793, 428_051];

#[test]
fn uniforms_integers_ranges_and_constants() {
    let uniform = values(&spec("x", DType::F64, &[10_000], Source::Uniform { low: -1.0, high: 3.0 }), 0);
    assert!(uniform.iter().all(|v| (-1.0..3.0).contains(v)));
    let integers = values(&spec("x", DType::I8, &[10_000], Source::Integers { low: -2, high: 2 }), 0);
    for want in -2..=2 {
        let share = integers.iter().filter(|v| **v == f64::from(want)).count();
        assert!((1800..2200).contains(&share), "{want}: {share}");
    }
    let far = spec("x", DType::I64, &[1000], Source::Integers { low: i64::MAX - 1, high: i64::MAX });
    let inputs = generate(&[far], 0, &Blobs::new()).unwrap();
    let (got, _) = inputs[0].as_ref().unwrap().as_chunks::<8>();
    assert!(got.iter().all(|b| i64::from_le_bytes(*b) >= i64::MAX - 1));
    assert!(got.iter().any(|b| i64::from_le_bytes(*b) == i64::MAX - 1));
    let range = values(&spec("x", DType::F32, &[2, 3], Source::Arange { start: 1.0, step: 0.5 }), 0);
    assert_eq!(range, [1.0, 1.5, 2.0, 2.5, 3.0, 3.5]);
    assert_eq!(values(&spec("x", DType::F8e4m3, &[2], Source::Constant(0.3)), 0), [0.3125; 2]);
}

/// q of shape [B, H, S] with one scale a head.
fn quantised(dtype: DType) -> (Vec<TensorSpec>, Inputs) {
    let (b, h, s) = (2, 3, 10_000);
    let specs = vec![
        spec("q16", DType::F16, &[b, h, s], Source::Normal { mean: 0.0, std: 1.0 }),
        spec("q", dtype, &[b, h, s], Source::Quantize { from: 0, scale: 2, scale_dims: vec![1] }),
        spec("scale", DType::F32, &[h], Source::Scale),
    ];
    let inputs = generate(&specs, 3, &Blobs::new()).unwrap();
    (specs, inputs)
}

#[test]
fn quantised_values_times_scale_are_near_the_source() {
    for (dtype, max, relative) in
        [(DType::F8e4m3, 448.0, 0.0625), (DType::F8e5m2, 57344.0, 0.125), (DType::I8, 127.0, 0.0)]
    {
        let (specs, inputs) = quantised(dtype);
        let decoded: Vec<Vec<f64>> =
            specs.iter().zip(&inputs).map(|(spec, bytes)| codec::decode(spec.dtype, bytes.as_ref().unwrap())).collect();
        let mut absmax = [0.0_f64; 3];
        for (index, value) in decoded[0].iter().enumerate() {
            let head = index / 10_000 % 3;
            absmax[head] = absmax[head].max(value.abs());
        }
        for (head, absmax) in absmax.iter().enumerate() {
            assert_eq!(decoded[2][head], f64::from((absmax / max) as f32), "{dtype}");
        }
        for (index, value) in decoded[0].iter().enumerate() {
            let scale = decoded[2][index / 10_000 % 3];
            let error = (decoded[1][index] * scale - value).abs();
            let half_step = match dtype {
                DType::I8 => scale * 0.5,
                _ => value.abs() * relative + scale * 2.0_f64.powi(-10),
            };
            assert!(error <= half_step * 1.000_001, "{dtype} {index}");
        }
        let largest = decoded[1].iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        assert_eq!(largest, max, "{dtype}");
    }
}

#[test]
fn scales_may_index_any_dimensions() {
    let from = spec("x", DType::F64, &[2, 3, 4], Source::Arange { start: 1.0, step: 1.0 });
    let scales = |dims: &[u64], scale_dims: &[usize]| {
        let quantize = Source::Quantize { from: 0, scale: 2, scale_dims: scale_dims.to_vec() };
        let specs =
            [from.clone(), spec("q", DType::I8, &[2, 3, 4], quantize), spec("s", DType::F64, dims, Source::Scale)];
        let inputs = generate(&specs, 0, &Blobs::new()).unwrap();
        let scales = codec::decode(DType::F64, inputs[2].as_ref().unwrap());
        scales.into_iter().map(|scale| (scale * 127.0).round()).collect::<Vec<_>>()
    };
    assert_eq!(scales(&[], &[]), [24.0]);
    assert_eq!(scales(&[2], &[0]), [12.0, 24.0]);
    assert_eq!(scales(&[3], &[1]), [16.0, 20.0, 24.0]);
    assert_eq!(scales(&[4], &[2]), [21.0, 22.0, 23.0, 24.0]);
    assert_eq!(scales(&[2, 3], &[0, 1]), [4.0, 8.0, 12.0, 16.0, 20.0, 24.0]);
    // Transposed: the scale tensor's first dimension is the tensor's second.
    assert_eq!(scales(&[3, 2], &[1, 0]), [4.0, 16.0, 8.0, 20.0, 12.0, 24.0]);
}

#[test]
fn a_head_of_zeros_has_scale_one() {
    let specs = [
        spec("x", DType::F32, &[8], Source::Constant(0.0)),
        spec("q", DType::F8e4m3, &[8], Source::Quantize { from: 0, scale: 2, scale_dims: vec![] }),
        spec("s", DType::F32, &[], Source::Scale),
    ];
    let inputs = generate(&specs, 0, &Blobs::new()).unwrap();
    assert_eq!(inputs[2].as_ref().map(|data| &data[..]), Some(&1.0_f32.to_le_bytes()[..]));
    assert_eq!(inputs[1].as_ref().map(|data| &data[..]), Some(&[0; 8][..]));
}

#[test]
fn inputs_that_cannot_be_made_have_a_reason() {
    let message = |specs: &[TensorSpec]| generate(specs, 0, &Blobs::new()).unwrap_err().to_string();
    let x = spec("x", DType::F32, &[8], Source::Constant(0.0));
    let quantize = Source::Quantize { from: 0, scale: 2, scale_dims: vec![0] };
    let scale = spec("s", DType::F32, &[7], Source::Scale);
    assert!(
        message(&[x.clone(), spec("q", DType::F8e4m3, &[8], quantize.clone()), scale]).contains("dimension 0 of `x`")
    );
    let scale = spec("s", DType::F32, &[8], Source::Scale);
    assert!(message(&[x, spec("q", DType::F32, &[8], quantize), scale.clone()]).contains("cannot quantise to f32"));
    assert!(message(&[scale]).contains("no tensor is quantised"));
    assert!(
        message(&[spec("f", DType::F32, &[8], Source::File { hash: "ab".into(), tensor: None })]).contains("not sent")
    );
    let huge = spec("h", DType::F64, &[u64::MAX, 8], Source::Constant(0.0));
    assert!(matches!(generate(&[huge], 0, &Blobs::new()), Err(Failure::OutOfMemory { .. })));
}

#[test]
#[ignore = "prints how long 16 million normals take; run with --release"]
fn normals_are_fast() {
    let x = spec("x", DType::F16, &[16 << 20], Source::Normal { mean: 0.0, std: 1.0 });
    let start = std::time::Instant::now();
    let inputs = generate(&[x], 0, &Blobs::new()).unwrap();
    println!("{} bytes in {:?} on {} threads", bytes(&inputs), start.elapsed(), rayon::current_num_threads());
}

/// The first row starts at 0 and the last one ends with all elements, for any seed.
#[test]
fn offsets_ascend_from_zero_to_the_last() {
    let offsets = |dtype, count, seed| values(&spec("x", dtype, &[count], Source::Offsets { last: 1000 }), seed);
    for dtype in [DType::I32, DType::I64, DType::U16] {
        let of = offsets(dtype, 65, 3);
        assert!(of.is_sorted() && of[0] == 0.0 && of[64] == 1000.0, "{of:?}");
        assert!(of.windows(2).filter(|pair| pair[0] < pair[1]).count() > 32, "rows of many lengths: {of:?}");
    }
    assert_ne!(offsets(DType::I32, 65, 3), offsets(DType::I32, 65, 4));
    assert_eq!(offsets(DType::I32, 2, 3), [0.0, 1000.0]);
}
