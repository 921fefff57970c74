//! The table test for CUDA. Passes with a word where there is no device. The machine that has one may lack cargo:
//! build with `cargo test --no-run`, take the test, the tool and the tree there, and set `KBENCH_ROOT` (the tree),
//! `KBENCH_BIN` (the tool) and `KBENCH_REQUIRE_GPU` (to fail rather than skip, where a GPU is known to be).

use std::env;

use verdicts::{expected, kbench};

mod verdicts;

/// The exit code for a needed tool or device that is missing.
const MISSING: i32 = 3;

/// Whether a run shows that there is no device; says so.
fn is_skipped(run: &verdicts::Run) -> bool {
    let skipped = run.exit == Some(MISSING) && env::var_os("KBENCH_REQUIRE_GPU").is_none();
    if skipped {
        println!("skipped: no CUDA device\n{}", run.stderr);
    }
    skipped
}

#[test]
fn cuda_fixtures_get_their_verdicts() {
    let expected = expected("cuda-");
    let good = kbench("gate", [&"cuda-good".to_owned()]);
    if is_skipped(&good) {
        return;
    }
    good.assert_exit(0);
    let run = kbench("gate", expected.keys());
    run.assert_verdicts(&expected);
    run.assert_exit(1);
}

#[test]
fn a_finalist_that_a_sanitizer_rejects_is_found_among_others_in_one_process() {
    let run = kbench("autotune", [&"cuda-reads-past-the-end-when-wide".to_owned()]);
    if is_skipped(&run) {
        return;
    }
    run.assert_exit(0);
    let tuned = run.message("tuned");
    assert_eq!(tuned["entry"]["search"]["rejected"], serde_json::json!({ "sanitize/memcheck": 1 }));
    let elite = tuned["entry"]["elite"].as_array().expect("a list");
    assert_eq!((elite.len(), &elite[0]["toggles"]["WIDE"]), (1, &serde_json::json!(0)));
}
