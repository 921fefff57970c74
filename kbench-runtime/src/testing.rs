//! Helpers of the tests of several modules: jobs for the fake device, and small C kernels, compiled once.

use std::process::Command;
use std::sync::OnceLock;

use crate::data::dtype::DType;
use crate::device::Device;
use crate::protocol::{
    Arg, CacheMode, Case, CheckJob, CheckOptions, DeviceKind, Geometry, Launch, LaunchMode, Number, Reference, Role,
    SeedReport, Sequence, Source, TensorSpec, TimeJob, TimedCase,
};
use crate::verify::session::Session;

const SOURCE: &str = r#"
#include <stdint.h>
#include <string.h>
#include <stdio.h>
#ifdef FLUSH
/* as crtfastmath.o, which -ffast-math links in, but not every compiler has it */
#include <xmmintrin.h>
__attribute__((constructor)) static void flush(void) { _mm_setcsr(_mm_getcsr() | 0x8040); }
#endif
double shared_value;
void kbench_symbol(void **args) { *(double *)args[0] = shared_value; }
/* float32 kernel: y = a * x */
void kbench_scale(void **args) {
    const float *x = args[0]; float *y = args[1];
    int n = *(int32_t *)args[2]; double a = *(double *)args[3];
    for (int i = 0; i < n; i++) y[i] = (float)(x[i] * a);
}
/* the same in double precision: the reference of every kernel here */
void kbench_reference(void **args) {
    const double *x = args[0]; double *y = args[1];
    int n = *(int32_t *)args[2]; double a = *(double *)args[3];
    for (int i = 0; i < n; i++) y[i] = x[i] * a;
}
/* y = x * scale, in double precision */
void kbench_dequantize(void **args) {
    const double *x = args[0]; double *y = args[1];
    int n = *(int32_t *)args[2]; const double *scale = args[3];
    for (int i = 0; i < n; i++) y[i] = x[i] * *scale;
}
void kbench_past_end(void **args) {
    kbench_scale(args);
    ((float *)args[1])[*(int32_t *)args[2]] = 1;
}
void kbench_before_start(void **args) {
    kbench_scale(args);
    ((float *)args[1])[-3] = 1;
}
void kbench_unwritten_tail(void **args) {
    int32_t n = *(int32_t *)args[2] - 5;
    void *shorter[] = { args[0], args[1], &n, args[3] };
    kbench_scale(shorter);
}
void kbench_off_by_little(void **args) {
    kbench_scale(args);
    ((float *)args[1])[7] += 0.25f;
}
void kbench_accumulates(void **args) {
    float *y = args[1]; y[0] += 1; float first = y[0] > 0.5f ? y[0] : 0;
    kbench_scale(args);
    y[0] = first;
}
/* right, unless something is large */
void kbench_saturates(void **args) {
    kbench_scale(args);
    float *y = args[1]; int n = *(int32_t *)args[2];
    for (int i = 0; i < n; i++) if (y[i] > 50) y[i] = 50;
}
/* one element depends on earlier contents, and another is off in the third launch only */
void kbench_off_in_the_third(void **args) {
    static int calls; float *y = args[1]; int was_nan = y[1] != y[1];
    kbench_scale(args);
    if (!was_nan) y[1] += 1;
    if (++calls == 3) y[0] += 1;
}
/* bytes: both poisons are valid results; the third element depends on earlier contents */
void kbench_honest_poison(void **args) {
    uint8_t *y = args[1]; uint8_t third = y[2] == 0xff ? 1 : 2;
    memset(y, 0, *(int32_t *)args[2]);
    y[0] = 0xff; y[1] = 0x3c; y[2] = third;
}
void kbench_clobbers(void **args) { kbench_scale(args); ((float *)args[0])[2] = -1; }
void kbench_counts(void **args) {
    static int calls;
    kbench_scale(args); ((float *)args[1])[0] = (float)calls++;
}
/* works four times, then does nothing: fast, and right only while it is looked at */
void kbench_gives_up(void **args) {
    static int calls;
    if (calls++ < 4) kbench_scale(args);
}
/* right in five warm-ups and in checks, but not in samples, which begin with outputs of NaN and are taken again where the core was lost */
void kbench_lazy_while_timed(void **args) {
    static int calls; calls++; float *y = args[1];
    if (calls > 6 && y[1] != y[1]) y[0] = 1; else kbench_scale(args);
}
/* bad from the tenth launch on */
void kbench_past_end_later(void **args) {
    static int calls;
    if (++calls < 10) kbench_scale(args); else kbench_past_end(args);
}
void kbench_clobbers_later(void **args) {
    static int calls;
    if (++calls < 10) kbench_scale(args); else kbench_clobbers(args);
}
/* y += x, in place */
void kbench_inout(void **args) {
    const float *x = args[0]; float *y = args[1]; int n = *(int32_t *)args[2];
    for (int i = 0; i < n; i++) y[i] += x[i];
}
void kbench_inout_reference(void **args) {
    const double *x = args[0]; double *y = args[1]; int n = *(int32_t *)args[2];
    for (int i = 0; i < n; i++) y[i] += x[i];
}
/* one double, twice */
void kbench_double(void **args) { *(volatile double *)args[1] = *(volatile double *)args[0] * 2.0; }
#include <fenv.h>
void kbench_rounds_up(void **args) { kbench_double(args); fesetround(FE_UPWARD); }
/* does nothing where its output looks finished */
void kbench_skips(void **args) {
    const float *x = args[0]; float *y = args[1];
    int n = *(int32_t *)args[2]; double a = *(double *)args[3];
    if (y[0] == (float)(x[0] * a) && y[n - 1] == (float)(x[n - 1] * a)) return;
    kbench_scale(args);
}
/* the same, but looks at everything; the work itself is slow */
void kbench_skips_when_all_is_right(void **args) {
    const float *x = args[0]; float *y = args[1];
    int n = *(int32_t *)args[2]; double a = *(double *)args[3];
    int right = 1;
    for (int i = 0; i < n; i++) right &= y[i] == (float)(x[i] * a);
    if (right) return;
    for (volatile int i = 0; i < 100000; i++) {}
    kbench_scale(args);
}
/* works in every third call */
void kbench_skips_now_and_then(void **args) {
    static int calls;
    /* from the first samples to long before the last one */
    if (calls++ % 3 == 0 || calls < 6 || calls > 20) kbench_scale(args);
}
#include <stdlib.h>
/* remembers all inputs that it ever saw, and what came of them */
void kbench_keeps_results(void **args) {
    static struct { float *x, *y; } known[64]; static int kept;
    const float *x = args[0]; int n = *(int32_t *)args[2]; size_t bytes = n * sizeof *x;
    for (int i = 0; i < kept; i++)
        if (!memcmp(known[i].x, x, bytes)) { memcpy(args[1], known[i].y, bytes); return; }
    for (volatile int i = 0; i < 300000; i++) {}
    kbench_scale(args);
    if (kept < 64) {
        known[kept].x = memcpy(malloc(bytes), x, bytes);
        known[kept++].y = memcpy(malloc(bytes), args[1], bytes);
    }
}
/* the same, but takes inputs at the same address for the same inputs: wrong as soon as they are not */
void kbench_keeps_results_too_long(void **args) {
    static const void *known; static float *y; static int calls;
    size_t bytes = *(int32_t *)args[2] * sizeof *y;
    if (calls++ > 5 && known == args[0] && calls < 25) { memcpy(args[1], y, bytes); return; }
    kbench_scale(args);
    known = args[0];
    if (!y) y = malloc(bytes);
    memcpy(y, args[1], bytes);
}
/* remembers what came of inputs whose first elements, or some elements all over them, are the same */
static void keeps(void **args, int looks, int slots) {
    static uint64_t hashes[64]; static float *kept[64]; static int used;
    const float *x = args[0]; int n = *(int32_t *)args[2]; size_t bytes = n * sizeof *x; uint64_t hash = n;
    for (int k = 0; k < looks; k++) {
        uint32_t bits; memcpy(&bits, x + (looks > 3 ? k * (n - 1) / (looks - 1) : k), 4);
        hash = hash * 0x9E3779B97F4A7C15u + bits;
    }
    for (int i = 0; i < slots; i++)
        if (kept[i] && hashes[i] == hash) { memcpy(args[1], kept[i], bytes); return; }
    for (volatile int i = 0; i < 100000; i++) {}
    kbench_scale(args);
    if (!kept[used]) kept[used] = malloc(bytes);
    hashes[used] = hash; memcpy(kept[used], args[1], bytes); used = (used + 1) % slots;
}
void kbench_hashes_the_first(void **args) { keeps(args, 1, 8); }
void kbench_hashes_some(void **args) { keeps(args, 16, 64); }
void kbench_keeps_the_last(void **args) { keeps(args, 3, 1); }
/* does nothing in one launch of sixteen, from the sixtieth on */
void kbench_skips_one_in_sixteen(void **args) {
    static int calls;
    if (++calls < 60 || calls % 16) kbench_scale(args);
}
void kbench_prints(void **args) { kbench_scale(args); printf("noise on stdout\n"); fflush(stdout); }
void kbench_segfaults(void **args) { (void)args; *(volatile int *)8 = 1; }
void kbench_hangs(void **args) { (void)args; for (volatile int i = 0;; i++) {} }
"#;

/// The bytes of a shared object with all of these kernels.
pub fn c_library() -> &'static [u8] {
    static LIBRARY: OnceLock<Vec<u8>> = OnceLock::new();
    LIBRARY.get_or_init(|| compile("-O1"))
}

/// A shared object whose loading makes its thread flush denormals to zero.
pub fn flushing_library() -> &'static [u8] {
    static LIBRARY: OnceLock<Vec<u8>> = OnceLock::new();
    LIBRARY.get_or_init(|| compile("-DFLUSH"))
}

fn compile(flag: &str) -> Vec<u8> {
    compile_c(SOURCE, flag)
}

/// The bytes of a shared object from a C source.
pub fn compile_c(text: &str, flag: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (source, object) = (folder.path().join("kernels.c"), folder.path().join("kernels.so"));
    std::fs::write(&source, text).unwrap();
    let output =
        Command::new("cc").args([flag, "-shared", "-fPIC", "-o"]).args([&object, &source]).arg("-lm").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(object).unwrap()
}

/// Adds a blob and returns its hash.
pub fn blob<D: Device>(session: &mut Session<D>, data: &[u8]) -> String {
    let hash = blake3::hash(data).to_hex().to_string();
    assert!(session.add_blob(&hash, data.to_vec()));
    hash
}

/// A case of a fake kernel, 1000 elements in, 1000 out.
#[derive(Clone, Copy)]
pub struct FakeCase<'a> {
    pub time_ns: f64,
    pub fault: &'a str,
    pub reference_fault: &'a str,
    pub output: DType,
}

impl Default for FakeCase<'_> {
    fn default() -> Self {
        Self { time_ns: 1000.0, fault: "null", reference_fault: "null", output: DType::F16 }
    }
}

impl FakeCase<'_> {
    /// The machine code of the kernel and of the reference.
    pub fn code(&self) -> [String; 2] {
        let model = |fault: &str, time_ns: f64| format!(r#"{{"time_ns":{time_ns:?},"fault":{fault}}}"#);
        [model(self.fault, self.time_ns), model(self.reference_fault, 1.0)]
    }

    /// The case and its reference, blobs by hash.
    pub fn case(&self) -> (Case, Reference) {
        let launch = Launch {
            entry: "k".into(),
            args: vec![Arg::Tensor(0), Arg::Tensor(1)],
            geometry: Geometry::default(),
            zero: Vec::new(),
        };
        let [kernel, reference] = self.code().map(|code| Sequence {
            device: DeviceKind::Fake,
            blob: blake3::hash(code.as_bytes()).to_hex().to_string(),
            launches: vec![launch.clone()],
        });
        let x = Source::Normal { mean: 0.0, std: 1.0 };
        let tensors = vec![tensor("x", DType::F16, Role::In, x), tensor("o", self.output, Role::Out, Source::None)];
        (Case { tensors, sequence: kernel }, function(reference))
    }

    /// A job over two seeds.
    pub fn check<D: Device>(&self, session: &mut Session<D>) -> CheckJob {
        for code in self.code() {
            blob(session, code.as_bytes());
        }
        let (case, reference) = self.case();
        CheckJob { id: 1, case, reference, seeds: vec![4, 5], bad_above: 0.1, options: CheckOptions::default() }
    }
}

fn function(sequence: Sequence) -> Reference {
    Reference { identity: sequence.blob.clone(), sequence, precision: DType::F64, program: false }
}

fn tensor(name: &str, dtype: DType, role: Role, source: Source) -> TensorSpec {
    TensorSpec { name: name.into(), dtype, dims: vec![10, 100], role, source }
}

/// A job for one of the C kernels here, over two seeds.
pub fn host_check<D: Device>(session: &mut Session<D>, entry: &str) -> CheckJob {
    let blob = blob(session, c_library());
    let sequence = |entry: &str| Sequence {
        device: DeviceKind::Host,
        blob: blob.clone(),
        launches: vec![Launch {
            entry: entry.into(),
            args: vec![
                Arg::Tensor(0),
                Arg::Tensor(1),
                Arg::Scalar { dtype: DType::I32, value: Number::Int(1000) },
                Arg::Scalar { dtype: DType::F64, value: Number::Float(2.5) },
            ],
            geometry: Geometry::default(),
            zero: Vec::new(),
        }],
    };
    let tensors = vec![
        tensor("x", DType::F32, Role::In, Source::Normal { mean: 0.0, std: 1.0 }),
        tensor("y", DType::F32, Role::Out, Source::None),
    ];
    let reference = function(sequence("kbench_reference"));
    let case = Case { tensors, sequence: sequence(entry) };
    CheckJob { id: 1, case, reference, seeds: vec![1, 2], bad_above: 0.1, options: CheckOptions::default() }
}

/// A job that times cases with all options of the gates.
pub fn time_job(cases: Vec<TimedCase>) -> TimeJob {
    TimeJob {
        id: 1,
        cases,
        seed: 3,
        other_seed: Some(4),
        warmup: 5,
        iterations: 20,
        until: None,
        cutoff_ns: None,
        cache: CacheMode::Cold,
        launch: LaunchMode::Graph,
        bad_above: 0.1,
        rank_only: false,
        announce: false,
        energy: false,
        second_clock: false,
        new_inputs: true,
        slow: Vec::new(),
    }
}

/// Asserts that there are no findings except rounding errors.
pub fn assert_clean(report: &SeedReport) {
    assert!(report.inputs_changed.is_empty() && report.out_of_bounds.is_empty(), "{report:?}");
    assert_eq!((report.unrepeatable, report.stale), (0, 0), "{report:?}");
    for output in &report.outputs {
        assert_eq!(
            (output.unwritten, output.first_unwritten, output.nonfinite, output.bad),
            (0, None, 0, 0),
            "{output:?}"
        );
        assert!(output.max_abs_err < 1e-5, "{output:?}");
    }
}
