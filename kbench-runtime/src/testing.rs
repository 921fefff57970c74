//! What the tests of several modules share: tiny C kernels, compiled once for all of them.

use std::process::Command;
use std::sync::OnceLock;

const SOURCE: &str = r#"
#include <stdint.h>
#include <string.h>
#include <stdio.h>
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
void kbench_past_end(void **args) {
    kbench_scale(args);
    ((float *)args[1])[*(int32_t *)args[2]] = 1;
}
void kbench_before_start(void **args) {
    kbench_scale(args);
    ((float *)args[1])[-3] = 1;
}
void kbench_unwritten_tail(void **args) {
    int32_t n = *(int32_t *)args[2] - 5; args[2] = &n;
    kbench_scale(args);
}
void kbench_off_by_little(void **args) {
    kbench_scale(args);
    ((float *)args[1])[7] += 0.25f;
}
void kbench_accumulates(void **args) {
    float *y = args[1]; y[0] += 1; float first = y[0] > 1 ? y[0] : 0;
    kbench_scale(args);
    y[0] = first;
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
/* y += x, in place */
void kbench_inout(void **args) {
    const float *x = args[0]; float *y = args[1]; int n = *(int32_t *)args[2];
    for (int i = 0; i < n; i++) y[i] += x[i];
}
void kbench_inout_reference(void **args) {
    const double *x = args[0]; double *y = args[1]; int n = *(int32_t *)args[2];
    for (int i = 0; i < n; i++) y[i] += x[i];
}
void kbench_prints(void **args) { kbench_scale(args); printf("noise on stdout\n"); fflush(stdout); }
void kbench_segfaults(void **args) { (void)args; *(volatile int *)8 = 1; }
void kbench_hangs(void **args) { (void)args; for (volatile int i = 0;; i++) {} }
"#;

/// The bytes of a shared object with all of these kernels.
pub fn c_library() -> &'static [u8] {
    static LIBRARY: OnceLock<Vec<u8>> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let (source, object) = (folder.path().join("kernels.c"), folder.path().join("kernels.so"));
        std::fs::write(&source, SOURCE).unwrap();
        let output =
            Command::new("cc").args(["-O1", "-shared", "-fPIC", "-o"]).args([&object, &source]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read(object).unwrap()
    })
}
