//! Kernels that harm their process, other kernels or the worker: each causes its own failure, and the next kernel is
//! unaffected.

use super::*;
use crate::device::GUARD;
use crate::protocol::Stage;
use crate::testing::compile_c;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
/* args[0]: one double that is to be 1 after a launch */
#define DONE(args) (*(volatile double *)(args)[0] = 1)
void good(void **args) { DONE(args); }
void crashes(void **args) { (void)args; raise(SIGSEGV); }
void exits(void **args) { (void)args; exit(0); }
void stops(void **args) { DONE(args); raise(SIGSTOP); }
void hangs(void **args) { (void)args; for (volatile int i = 0;; i++) {} }
void far_outside(void **args) { ((volatile char *)args[0])[1 << 20] = 1; }
void unmaps(void **args) { munmap((void *)((unsigned long)args[0] & -4096ul), 4096); DONE(args); }
void closes(void **args) { DONE(args); for (int i = 0; i < 4096; i++) close(i); }
void floods(void **args) { DONE(args); for (int i = 3; i < 4096; i++) (void)!write(i, "{\"Ok\":\"Done\"}", 13); }
/* what is left behind in a process */
void dirties(void **args) {
    DONE(args);
    struct rlimit none = { 0, 0 };
    setrlimit(RLIMIT_NOFILE, &none); setrlimit(RLIMIT_FSIZE, &none);
    umask(0777); (void)!chdir("/proc"); clearenv();
    signal(SIGSEGV, SIG_IGN); signal(SIGALRM, SIG_DFL); alarm(1); nice(19);
}
void is_clean(void **args) {
    struct rlimit limit; getrlimit(RLIMIT_NOFILE, &limit);
    char folder[4096]; mode_t mask = umask(0); umask(mask);
    if (limit.rlim_cur > 0 && getcwd(folder, sizeof folder) && strcmp(folder, "/proc") && mask != 0777 && getenv("PATH") &&
        alarm(0) == 0 && getpriority(PRIO_PROCESS, 0) < 19) DONE(args);
}
/* a thread that goes on after the launch, and does the work then: so late that the judge has stopped it, on a busy machine too */
static void *late(void *at) { while (clock() < CLOCKS_PER_SEC / 2) {} *(volatile double *)at = 1; return 0; }
void works_later(void **args) { pthread_t thread; pthread_create(&thread, 0, late, args[0]); }
void forks_to_work_later(void **args) { if (fork() == 0) { late(args[0]); _exit(0); } }
/* a spinning process in a session of its own, whose id is left in args[0] */
void leaves_a_daemon(void **args) {
    int ends[2]; if (pipe(ends)) return;
    if (fork() == 0) {
        setsid();
        pid_t inner = fork();
        if (inner == 0) for (volatile int i = 0;; i++) {}
        (void)!write(ends[1], &inner, sizeof inner); _exit(0);
    }
    pid_t inner; (void)!read(ends[0], &inner, sizeof inner); wait(0);
    *(double *)args[0] = inner;
}
/* 1 where the judge cannot be reached */
void looks_at_the_judge(void **args) {
    int judge = getppid(), reached = 0; char path[64], word[8];
    struct iovec here = { word, sizeof word }, there = { args[0], sizeof word };
    snprintf(path, sizeof path, "/proc/%d/mem", judge);
    int file = open(path, O_RDONLY); if (file >= 0) reached = 1;
    if (process_vm_readv(judge, &here, 1, &there, 1, 0) >= 0 || errno == EFAULT) reached = 1;
    if (ptrace(PTRACE_SEIZE, judge, 0, 0) == 0) reached = 1;
    *(double *)args[0] = !reached;
}
/* 1 where no descriptor is open but the streams, a socket and the code itself */
void counts_descriptors(void **args) {
    int others = 0;
    for (int i = 3; i < 4096; i++) { struct stat about; if (fstat(i, &about) == 0 && !S_ISSOCK(about.st_mode)) others++; }
    *(double *)args[0] = others == 1;
}
/* takes two milliseconds and a half */
static void work(void) { struct timespec start, now; syscall(228, 1, &start);
    do syscall(228, 1, &now); while ((now.tv_sec - start.tv_sec) * 1000000000L + now.tv_nsec - start.tv_nsec < 2500000); }
void honest(void **args) { DONE(args); work(); }
/* how long before the launch a thread has seen the first byte of args[1] change, in nanoseconds */
static volatile char *watched; static volatile char last; static volatile double seen;
static double now(void) { struct timespec at; clock_gettime(CLOCK_MONOTONIC, &at); return at.tv_sec * 1e9 + at.tv_nsec; }
static void *watch(void *unused) { (void)unused; for (;;) { char byte = *watched; if (byte != last) { seen = now(); last = byte; } } }
void sees_ahead(void **args) {
    double before = 0; pthread_t thread;
    if (watched) { if (last == *watched) before = now() - seen; }
    else { watched = args[1]; last = *watched; pthread_create(&thread, 0, watch, 0); }
    *(double *)args[0] = before;
}
"#;

/// A kernel whose clock runs ten times too slow: it defines `clock_gettime` for its whole process.
const SLOW_CLOCK: &str = r"
#define _GNU_SOURCE
#include <sys/mman.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static int slow(clockid_t id, struct timespec *at) {
    static long first; long result = syscall(SYS_clock_gettime, id, at);
    long now = at->tv_sec * 1000000000L + at->tv_nsec;
    if (id != CLOCK_MONOTONIC) return result;
    if (!first) first = now;
    now = first + (now - first) / 10;
    at->tv_sec = now / 1000000000L; at->tv_nsec = now % 1000000000L;
    return result;
}
/* writes a jump over the C library's own */
__attribute__((constructor)) static void patch(void) {
    unsigned char *at = (unsigned char *)clock_gettime; void *to = (void *)slow;
    mprotect((void *)((uintptr_t)at & ~4095UL), 8192, PROT_READ | PROT_WRITE | PROT_EXEC);
    at[0] = 0x48; at[1] = 0xb8; memcpy(at + 2, &to, 8); at[10] = 0xff; at[11] = 0xe0;
}
void slow_clock(void **args) {
    struct timespec start, now; syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &start);
    do syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - start.tv_sec) * 1000000000L + now.tv_nsec - start.tv_nsec < 2500000);
    *(double *)args[0] = 1;
}
";

fn library() -> &'static [u8] {
    static LIBRARY: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    LIBRARY.get_or_init(|| compile_c(SOURCE, "-pthread"))
}

/// A kernel of one double, and that.
fn bind(device: &mut HostDevice, code: &[u8], entry: &str) -> (Bound, Buffer) {
    let kernel = device.load(code, &[entry], Purpose::Kernel).unwrap();
    let buffer = device.alloc(8).unwrap();
    let args = [BoundArg::Pointer(Region { tensor: 0, buffer: buffer.clone(), offset: 0, bytes: 8 })];
    (device.bind(&kernel, &[BoundLaunch::new(Geometry::default(), args.to_vec())]).unwrap(), buffer)
}

fn left(device: &mut HostDevice, buffer: &Buffer) -> f64 {
    let mut bytes = [0; 8];
    device.download(buffer, 0, &mut bytes).unwrap();
    f64::from_ne_bytes(bytes)
}

/// Value of the double after one launch.
fn launch(device: &mut HostDevice, entry: &str) -> Result<f64, Failure> {
    let (bound, buffer) = bind(device, library(), entry);
    device.run(&bound)?;
    Ok(left(device, &buffer))
}

#[test]
fn the_end_of_a_kernel_is_its_own_failure() {
    type Expected = fn(&Failure) -> bool;
    let mut device = HostDevice::open();
    device.limit(Duration::from_secs(1));
    let expected: [(&str, Expected); 6] = [
        ("crashes", |failure| matches!(failure, Failure::Signal { signal: 11, .. })),
        ("exits", |failure| matches!(failure, Failure::Exited { code: 0, .. })),
        ("stops", |failure| matches!(failure, Failure::Hang { seconds: 1, stage: Stage::Launch })),
        ("hangs", |failure| matches!(failure, Failure::Hang { seconds: 1, stage: Stage::Launch })),
        ("closes", |failure| matches!(failure, Failure::Exited { .. })),
        ("floods", |failure| matches!(failure, Failure::Protocol { .. })),
    ];
    for (entry, expected) in expected {
        let (bound, _) = bind(&mut device, library(), entry);
        let failure = device.run(&bound).expect_err(entry);
        assert!(expected(&failure), "{entry}: {failure:?}");
        assert_eq!(device.run(&bound).unwrap_err(), failure, "{entry} has ended");
        assert_eq!(launch(&mut device, "good"), Ok(1.0), "after {entry}");
    }
    match launch(&mut device, "far_outside").unwrap_err() {
        Failure::IllegalAccess { message } => {
            assert!(message.starts_with("memory ") && message.contains(" past the end"));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn memory_that_a_kernel_unmaps_lies_not_past_its_end() {
    let mut device = HostDevice::open();
    let kernel = device.load(library(), &["unmaps"], Purpose::Kernel).unwrap();
    let buffer = device.alloc(2 * GUARD + 8).unwrap();
    let args = [BoundArg::Pointer(Region { tensor: 0, buffer, offset: GUARD, bytes: 8 })];
    let bound = device.bind(&kernel, &[BoundLaunch::new(Geometry::default(), args.to_vec())]).unwrap();
    let message = "memory that is mapped no more, 0 bytes into a tensor of 8 bytes".to_owned();
    assert_eq!(device.run(&bound), Err(Failure::IllegalAccess { message }));
}

#[test]
fn changes_of_a_kernel_to_its_process_do_not_reach_the_next_kernel() {
    let mut device = HostDevice::open();
    let (bound, buffer) = bind(&mut device, library(), "dirties");
    for _ in 0..3 {
        device.fill(&buffer, 0, 8, 0).unwrap();
        device.run(&bound).unwrap();
        assert_eq!(left(&mut device, &buffer), 1.0);
        assert_eq!(launch(&mut device, "is_clean"), Ok(1.0));
    }
}

#[test]
fn threads_and_processes_of_a_kernel_stop_after_the_launch() {
    let mut device = HostDevice::open();
    for entry in ["works_later", "forks_to_work_later"] {
        let (bound, buffer) = bind(&mut device, library(), entry);
        device.run(&bound).unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(left(&mut device, &buffer), 0.0, "{entry}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_kernel_process_has_no_descriptor_of_the_judge() {
    let mut device = HostDevice::open();
    let _open = tempfile::tempfile().unwrap();
    assert_eq!(launch(&mut device, "counts_descriptors"), Ok(1.0));
}

/// Not a test: a worker of its own for each of the tests below, since they concern the whole process.
#[test]
fn judge() {
    let Some(entry) = std::env::var_os("KBENCH_TEST_JUDGE") else { return };
    crate::process::isolate();
    crate::process::descendants::adopt_orphans();
    let mut device = HostDevice::open();
    let left = launch(&mut device, entry.to_str().unwrap()).unwrap();
    println!("\nleft {left}");
    // As a worker that exits by itself.
    drop(device);
}

#[cfg(target_os = "linux")]
fn left_by_judge(entry: &str) -> f64 {
    let judge = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "device::host::tests::hostile::judge", "--nocapture", "--test-threads=1"])
        .env("KBENCH_TEST_JUDGE", entry)
        .output()
        .unwrap();
    let said = String::from_utf8(judge.stdout).unwrap();
    let left = said.lines().find_map(|line| line.strip_prefix("left "));
    left.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&judge.stderr))).parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn the_judge_cannot_be_reached() {
    assert_eq!(left_by_judge("looks_at_the_judge"), 1.0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_in_a_session_of_its_own_ends_with_the_launch() {
    let daemon = left_by_judge("leaves_a_daemon") as i32;
    assert!(daemon > 1, "{daemon}");
    let stat = std::fs::read_to_string(format!("/proc/{daemon}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z"), "{stat}");
}

/// A flush takes long. The smallest of many samples is compared: on a busy machine a thread may wait for a core as
/// long.
#[cfg(target_arch = "x86_64")]
#[test]
fn no_thread_sees_inputs_before_the_caches_are_flushed() {
    let mut device = HostDevice::open();
    let kernel = device.load(library(), &["sees_ahead"], Purpose::Kernel).unwrap();
    let args = [8, 128 << 20].map(|bytes| Region { tensor: 0, buffer: device.alloc(bytes).unwrap(), offset: 0, bytes });
    let [output, input] = args.each_ref().map(|region| region.buffer.clone());
    let launch = BoundLaunch::new(Geometry::default(), args.map(BoundArg::Pointer).to_vec());
    let mut bound = device.bind(&kernel, &[launch]).unwrap();
    device.run(&bound).unwrap();
    let start = Instant::now();
    bound.flush();
    let flush = start.elapsed().as_nanos() as f64;
    let ahead = (1..33).map(|byte| {
        device.fill(&input, 0, 1, byte).unwrap();
        device.sample(&mut bound, 1, CacheMode::Cold).unwrap();
        left(&mut device, &output)
    });
    let least = ahead.fold(f64::INFINITY, f64::min);
    assert!(least < 0.5 * flush, "{least} ns, and a flush takes {flush} ns");
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn a_clock_that_was_tampered_with_is_not_believed() {
    let mut device = HostDevice::open();
    let mut sampled = |code: &[u8], entry: &str| {
        let (mut bound, _) = bind(&mut device, code, entry);
        (0..3 * clock::SAMPLES).map(|_| device.sample(&mut bound, 1, CacheMode::Cold)).collect::<Result<Vec<f64>, _>>()
    };
    assert!(sampled(library(), "honest").unwrap().iter().all(|sample| *sample >= 2_500_000.0));
    match sampled(&compile_c(SLOW_CLOCK, "-O1"), "slow_clock").unwrap_err() {
        Failure::ForgedTime { claimed, measured } => {
            assert!(claimed < 0.5 * measured && measured >= 2_500_000.0, "{claimed} {measured}");
        }
        other => panic!("{other}"),
    }
}
