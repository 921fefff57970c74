use std::io::Cursor;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::protocol::{Bytes, CacheMode, Data, LaunchMode, RunJob, TimeJob, TimedCase};
use crate::testing::{self, FakeCase};

fn hello(device: DeviceKind) -> Request {
    Request::Hello { protocol: VERSION, device, index: 0, cache: None, mutation: None }
}

fn blob(data: &[u8]) -> Request {
    Request::Blob { hash: blake3::hash(data).to_hex().to_string(), data: Data::deflated(data.to_vec()) }
}

fn lines(requests: &[Request]) -> String {
    requests.iter().map(|request| serde_json::to_string(request).unwrap() + "\n").collect()
}

/// Serves the lines; returns the status and the events.
fn serve_lines(lines: String) -> (u8, Vec<Event>) {
    let mut output = Vec::new();
    let status = serve(Cursor::new(lines), &mut output);
    let events = String::from_utf8(output).unwrap();
    (status, events.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// The requests that check a fake case, then time it.
fn both(case: FakeCase<'_>) -> Vec<Request> {
    let [kernel, reference] = case.code();
    let (checked, with) = case.case();
    let check = crate::protocol::CheckJob {
        id: 7,
        case: checked,
        reference: with,
        seeds: vec![0],
        bad_above: 0.1,
        options: crate::protocol::CheckOptions::default(),
    };
    let time = TimeJob {
        id: 8,
        cases: vec![TimedCase { case: check.case.clone(), reference: check.reference.clone() }],
        seed: 0,
        other_seed: None,
        warmup: 2,
        iterations: 10,
        until: None,
        cutoff_ns: None,
        cache: CacheMode::Cold,
        launch: LaunchMode::Graph,
        bad_above: 0.1,
        rank_only: false,
        new_inputs: true,
        slow: Vec::new(),
        announce: false,
        energy: false,
        second_clock: false,
    };
    vec![
        hello(DeviceKind::Fake),
        blob(kernel.as_bytes()),
        blob(reference.as_bytes()),
        Request::Check(Box::new(check)),
        Request::Time(Box::new(time)),
    ]
}

#[test]
fn a_check_and_a_timing_over_the_wire() {
    let (status, events) = serve_lines(lines(&both(FakeCase::default())));
    assert_eq!(status, 0);
    assert!(matches!(&events[0], Event::Hello { protocol: VERSION, device, .. } if device.kind == DeviceKind::Fake));
    let seeds = events.iter().find_map(|event| match event {
        Event::Checked { id: 7, seeds } => Some(seeds),
        _ => None,
    });
    testing::assert_clean(&seeds.unwrap()[0]);
    let Some(Event::Timed { id: 8, timings }) = events.last() else { panic!("{events:?}") };
    assert_eq!(timings[0].samples.len(), 10);
    testing::assert_clean(&timings[0].after);
    assert!(events.iter().any(|event| matches!(event, Event::Stage { id: 8, stage: Stage::Timing })));
}

#[test]
fn a_failure_is_an_event_and_only_a_fatal_one_ends_the_worker() {
    for (fault, fatal) in [("\"launch-refused\"", false), ("\"out-of-memory\"", false), ("\"illegal-access\"", true)] {
        let (status, events) = serve_lines(lines(&both(FakeCase { fault, ..FakeCase::default() })));
        assert_eq!(status, 0);
        let failed: Vec<u64> = events
            .iter()
            .filter_map(|event| match event {
                Event::Failed { id, case: 0, failure } => {
                    assert_eq!(failure.is_fatal(DeviceKind::Fake), fatal);
                    Some(*id)
                }
                _ => None,
            })
            .collect();
        assert_eq!(failed, if fatal { vec![7] } else { vec![7, 8] }, "{fault}");
    }
}

#[test]
fn the_first_line_decides() {
    let other =
        Request::Hello { protocol: VERSION + 1, device: DeviceKind::Fake, index: 0, cache: None, mutation: None };
    let (status, events) = serve_lines(lines(&[other]));
    assert_eq!(status, NO_DEVICE);
    assert!(matches!(&events[..], [Event::NoDevice { message }] if message.contains("protocol")), "{events:?}");
    let third = Request::Hello { protocol: VERSION, device: DeviceKind::Host, index: 2, cache: None, mutation: None };
    assert_eq!(serve_lines(lines(&[third])).0, NO_DEVICE);
    assert_eq!(serve_lines(String::new()), (0, vec![]));
}

#[test]
fn other_lines_than_the_protocols_are_refused() {
    let start = lines(&[hello(DeviceKind::Fake)]);
    assert_eq!(serve_lines("{}\n".into()), (BROKEN, vec![]));
    assert_eq!(serve_lines(lines(&[blob(b"x")])), (BROKEN, vec![]));
    assert_eq!(serve_lines(start.clone() + "nonsense\n").0, BROKEN);
    assert_eq!(serve_lines(start.clone() + &start).0, BROKEN);
    let lie = Request::Blob { hash: "00".into(), data: Data::Plain(Bytes(vec![1])) };
    assert_eq!(serve_lines(start.clone() + &lines(&[lie])).0, BROKEN);
    assert_eq!(serve_lines(start + "\n\n").0, 0);
}

/// Not a test: the program of the worker processes below.
#[test]
fn child() {
    if std::env::var_os("KBENCH_TEST_WORKER").is_some() {
        std::process::exit(
            // SAFETY: the test process was started for this.
            unsafe { run() }.into(),
        );
    }
}

fn worker(requests: &[Request]) -> (Child, std::process::ChildStdin) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "worker::tests::child", "--nocapture", "--test-threads=1"])
        .env("KBENCH_TEST_WORKER", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines(requests).as_bytes()).unwrap();
    (child, stdin)
}

/// Reads events until the expected one; output of the test harness before the first is skipped. Heartbeats are not
/// kept.
fn events_until(child: &mut Child, mut stop: impl FnMut(&Event) -> bool) -> Vec<Event> {
    let mut events = Vec::new();
    let mut started = false;
    for line in BufReader::new(child.stdout.as_mut().unwrap()).lines() {
        let line = line.unwrap();
        started |= line.starts_with('{');
        if started {
            let event = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not an event: {line}"));
            let is_last = stop(&event);
            if event != Event::Heartbeat {
                events.push(event);
            }
            if is_last {
                break;
            }
        }
    }
    events
}

fn wait(mut child: Child) -> (ExitStatus, String) {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            panic!("the worker did not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn host(entry: &str) -> Vec<Request> {
    let mut session = Session::new(FakeDevice::open(0), None);
    let job = testing::host_check(&mut session, entry);
    vec![hello(DeviceKind::Host), blob(testing::c_library()), Request::Check(Box::new(job))]
}

#[test]
fn a_crash_is_a_signal_after_the_launch_was_announced() {
    let fake = |fault| both(FakeCase { fault, ..FakeCase::default() });
    for (requests, signal) in [(fake("\"segfault\""), 11), (fake("\"abort\""), 6)] {
        let (mut child, stdin) = worker(&requests);
        let events = events_until(&mut child, |_| false);
        assert!(matches!(events.last(), Some(Event::Stage { stage: Stage::Launch, .. })), "{events:?}");
        assert_eq!(wait(child).0.signal(), Some(signal));
        drop(stdin);
    }
}

#[test]
fn a_c_kernel_that_crashes_or_hangs_costs_the_worker_nothing() {
    let mut requests = host("kbench_segfaults");
    // On a machine that is busy, a kernel that ends may need seconds.
    requests.insert(1, Request::Limit { seconds: 60.0 });
    for (entry, seconds) in [("kbench_hangs", 3.0), ("kbench_scale", 60.0)] {
        requests.push(Request::Limit { seconds });
        requests.extend(host(entry).into_iter().skip(1));
    }
    let (mut child, stdin) = worker(&requests);
    let events = events_until(&mut child, |event| matches!(event, Event::Checked { .. }));
    let failures: Vec<&Failure> = events
        .iter()
        .filter_map(|event| match event {
            Event::Failed { failure, .. } => Some(failure),
            _ => None,
        })
        .collect();
    assert!(
        matches!(
            failures[..],
            [Failure::Signal { signal: 11, .. }, Failure::Hang { seconds: 3, stage: Stage::Launch }]
        ),
        "{events:?}"
    );
    assert!(matches!(events.last(), Some(Event::Checked { .. })), "{events:?}");
    drop(stdin);
    assert_eq!(wait(child).0.code(), Some(0));
}

#[test]
fn a_worker_sends_heartbeats_during_every_stage() {
    let (mut child, stdin) = worker(&host("kbench_hangs"));
    events_until(&mut child, |event| matches!(event, Event::Stage { stage: Stage::Launch, .. }));
    let mut beats = 0;
    events_until(&mut child, |event| {
        beats += u32::from(*event == Event::Heartbeat);
        beats == 3
    });
    drop(stdin);
    assert_eq!(wait(child).0.code(), Some(0));
}

#[test]
fn the_end_of_the_input_ends_the_worker_though_a_kernel_hangs() {
    for mut requests in [both(FakeCase { fault: "\"hang\"", ..FakeCase::default() }), host("kbench_hangs")] {
        // For any number of requests behind the kernel.
        requests.extend((0..500).map(|i: u32| blob(&i.to_le_bytes())));
        let (mut child, stdin) = worker(&requests);
        events_until(&mut child, |event| matches!(event, Event::Stage { stage: Stage::Launch, .. }));
        thread::sleep(Duration::from_millis(50));
        drop(stdin);
        assert_eq!(wait(child).0.code(), Some(0));
    }
}

#[test]
fn output_of_kernels_goes_to_stderr() {
    let (mut child, stdin) = worker(&host("kbench_prints"));
    let events = events_until(&mut child, |event| matches!(event, Event::Checked { .. }));
    assert!(matches!(events.last(), Some(Event::Checked { .. })), "{events:?}");
    drop(stdin);
    let (status, stderr) = wait(child);
    assert_eq!(status.code(), Some(0));
    assert!(stderr.contains("noise on stdout"), "{stderr}");
}

#[test]
fn a_broken_line_is_reported() {
    let (mut child, mut stdin) = worker(&[hello(DeviceKind::Fake)]);
    stdin.write_all(b"nonsense\n").unwrap();
    events_until(&mut child, |_| false);
    let (status, stderr) = wait(child);
    assert_eq!(status.code(), Some(101));
    assert!(stderr.contains("not a request") && stderr.contains("nonsense"), "{stderr}");
}

#[test]
fn a_run_compares_nothing_and_is_the_last_job() {
    let run = |entry: &str| {
        let mut session = Session::new(FakeDevice::open(0), None);
        let case = testing::host_check(&mut session, entry).case;
        let run = Request::Run(Box::new(RunJob { id: 3, cases: vec![case], seed: 0, count: false }));
        let (mut child, stdin) = worker(&[hello(DeviceKind::Host), blob(testing::c_library()), run.clone(), run]);
        let events = events_until(&mut child, |_| false);
        // The end of a session does not wait for the end of its input.
        assert_eq!(wait(child).0.code(), Some(0));
        drop(stdin);
        events
    };
    let events = run("kbench_off_by_little");
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Ran { id: 3, .. })).count(), 1, "{events:?}");
    let events = run("kbench_nowhere");
    assert!(
        matches!(events.last(), Some(Event::Failed { id: 3, failure, .. }) if !failure.is_fatal(DeviceKind::Host)),
        "{events:?}"
    );
}

#[test]
fn a_run_counts_or_has_a_reason_why_not() {
    let mut session = Session::new(FakeDevice::open(0), None);
    let case = testing::host_check(&mut session, "kbench_off_by_little").case;
    let run = Request::Run(Box::new(RunJob { id: 3, cases: vec![case], seed: 0, count: true }));
    let (mut child, stdin) = worker(&[hello(DeviceKind::Host), blob(testing::c_library()), run]);
    let events = events_until(&mut child, |_| false);
    assert_eq!(wait(child).0.code(), Some(0));
    drop(stdin);
    let counts = events.iter().find_map(|event| match event {
        Event::Ran { counts, .. } => counts.clone(),
        _ => None,
    });
    match counts.expect("asked for") {
        Ok(counts) => assert!(counts.instructions > 100, "{counts:?}"),
        Err(why) => assert!(why.contains("counters") || why.contains("perf_event"), "{why}"),
    }
}
