//! A machine that lacks something: room, threads, a clock that is set. An error that says so, or the result; never a panic, and never a
//! verdict about a kernel.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::fs;
use std::path::Path;
use std::process::Command;

use model::{MODEL, kbench, package_with};

mod model;

/// Stands before the C library: the clock of the day is `CLOCK_AT`, and a process has its first `THREADS` threads only.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int (*real)(clockid_t, struct timespec *) = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    const char *at = getenv("CLOCK_AT");
    if (at && clock == CLOCK_REALTIME)
        time->tv_sec = atoll(at);
    return result;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
{
    static int started;
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
        (int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))dlsym(RTLD_NEXT, "pthread_create");
    const char *threads = getenv("THREADS");
    if (threads && __sync_fetch_and_add(&started, 1) >= atoi(threads))
        return EAGAIN;
    return real(thread, attributes, start, argument);
}
"#;

/// The tool with [`LIBRARY`] before the C library. Cargo runs without it: what it does there is not ours.
fn with_library(folder: &Path, args: &[&str]) -> Command {
    let (source, library) = (folder.join("library.c"), folder.join("library.so"));
    if !library.exists() {
        fs::write(&source, LIBRARY).unwrap();
        let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status();
        assert!(built.unwrap().success());
    }
    let mut command = kbench(folder, args);
    let cargo = folder.join("cargo.sh");
    fs::write(&cargo, format!("#!/bin/sh\nunset LD_PRELOAD\nexec {} \"$@\"\n", env!("CARGO"))).unwrap();
    fs::set_permissions(&cargo, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    command.env("LD_PRELOAD", library).env("CARGO", cargo);
    command
}

/// The exit code, and what was said.
fn said(mut command: Command) -> (i32, String) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(!said.contains("panicked"), "{command:?}: {said}");
    (output.status.code().unwrap_or_else(|| panic!("{command:?}: {said}")), said)
}

#[test]
fn a_clock_before_1970_or_after_9999_changes_no_result() {
    let package = package_with(MODEL, "");
    for (at, date) in [("-5000", "1970-01-01T00:00:00Z"), ("253402300900", "9999-12-31T23:59:59Z")] {
        for args in [["autotune", "-q", "--fresh", "--iters", "10"], ["bench", "-q", "--variant", "A=1", "--iters=10"]]
        {
            let mut command = with_library(package.path(), &args);
            command.env("CLOCK_AT", at);
            let (exit, said) = said(command);
            assert_eq!(exit, 0, "{said}");
        }
        let elite = fs::read_to_string(package.path().join("elite.json")).unwrap();
        assert!(elite.contains(date), "{elite}");
    }
}

#[test]
fn without_threads_the_run_ends_with_an_error() {
    let package = package_with(MODEL, "");
    let mut errors = 0;
    for threads in 0..16 {
        let mut command = with_library(package.path(), &["autotune", "-q", "--fresh", "--iters", "10"]);
        command.env("THREADS", threads.to_string());
        match said(command) {
            (0, _) => {}
            (3, said) if said.contains("Resource temporarily unavailable") => errors += 1,
            (exit, said) => panic!("{threads} threads, exit {exit}: {said}"),
        }
    }
    assert!(errors > 2, "{errors} errors");
}

const KERNEL: &str = r#"
[package]
name = "small"
version = "0.0.0"
edition = "2024"

[workspace]

[package.metadata.kbench.kernels.copy]
backend = "c"
source = "copy.c"
entry = "copy"
args = ["x", "y"]
shapes.only = { N = 3000 }
timing = { warmup = 1, iterations = 10, max_seconds = 0.1, cache = "hot" }
gates.correctness.seeds = 1
gates.resources.max_code_bytes = 100000

[package.metadata.kbench.kernels.copy.tensors]
x = { dtype = "f32", dims = ["N"] }
y = { dtype = "f32", dims = ["N"], role = "out" }

[package.metadata.kbench.kernels.copy.reference]
backend = "c"
source = "reference.c"
entry = "reference"
"#;

/// A limit on the size of each file, in 512 or 1024 bytes as the shell has it, stands for a disk without room: any user can have it.
fn limited(command: &Command, blocks: u32) -> Command {
    let mut shell = Command::new("sh");
    // What writes more gets an error, not a signal.
    shell.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"")).arg("sh");
    shell.arg(command.get_program()).args(command.get_args()).current_dir(command.get_current_dir().unwrap());
    shell.env_remove("CARGO_TARGET_DIR").stdin(std::process::Stdio::null());
    shell
}

#[test]
fn a_disk_without_room_judges_no_kernel() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("Cargo.toml"), KERNEL).unwrap();
    fs::write(at("copy.c"), "void copy(const float *x, float *y) { for (int i = 0; i < 3000; i++) y[i] = x[i]; }\n")
        .unwrap();
    let reference = "void reference(const double *x, double *y) { for (int i = 0; i < 3000; i++) y[i] = x[i]; }\n";
    fs::write(at("reference.c"), reference).unwrap();
    fs::create_dir(at("src")).unwrap();
    fs::write(at("src/lib.rs"), "").unwrap();
    let mut errors = 0;
    // Sources, objects, shared objects and tensors are each the first that has no room.
    for blocks in [0, 1, 4, 8, 16, 24, 40, 200] {
        let _ = fs::remove_dir_all(at("target"));
        match said(limited(&kbench(folder.path(), &["gate", "-q"]), blocks)) {
            (0, _) => {}
            (3, said) if said.contains("File too large") => errors += 1,
            (exit, said) => panic!("{blocks} blocks, exit {exit}: {said}"),
        }
    }
    assert!(errors >= 2, "{errors} errors");
}

#[test]
fn a_journal_on_a_full_disk_keeps_its_lines() {
    let package = package_with(MODEL, "");
    let tune = || kbench(package.path(), &["autotune", "-q", "--iters", "10"]);
    let journal = package.path().join("target/kbench/journal/model/model.jsonl");
    let mut lines = 0;
    for blocks in [8, 24, 48] {
        let (exit, said) = said(limited(&tune(), blocks));
        assert!(exit == 3 && said.contains("model.jsonl") && said.contains("File too large"), "exit {exit}: {said}");
        let text = fs::read_to_string(&journal).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "a cut line: {text}");
        let before = std::mem::replace(&mut lines, text.lines().count());
        assert!(lines >= before, "{before} lines, then {lines}");
    }
    let (exit, said) = said(tune());
    assert!(exit == 0 && !said.contains("damaged"), "exit {exit}: {said}");
}
