//! The table test for CUDA. Passes with a word where there is no device. The machine that has one may lack cargo:
//! build with `cargo test --no-run`, take the test, the tool and the tree there, and set `KBENCH_ROOT` (the tree),
//! `KBENCH_BIN` (the tool) and `KBENCH_REQUIRE_GPU` (to fail rather than skip, where a GPU is known to be).

use std::env;

use verdicts::{expected, kbench};

mod verdicts;

/// The exit code for a needed tool or device that is missing.
const MISSING: i32 = 3;

#[test]
fn cuda_fixtures_get_their_verdicts() {
    let expected = expected("cuda-");
    let good = kbench("gate", [&"cuda-good".to_owned()]);
    if good.exit == Some(MISSING) && env::var_os("KBENCH_REQUIRE_GPU").is_none() {
        println!("skipped: no CUDA device\n{}", good.stderr);
        return;
    }
    good.assert_exit(0);
    let run = kbench("gate", expected.keys());
    run.assert_verdicts(&expected);
    run.assert_exit(1);
}
