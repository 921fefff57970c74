use super::*;

impl Message for String {}

#[test]
fn lines_that_a_pipe_does_not_take_at_once_arrive_in_order() {
    let words = ["sh", "-c", "sleep 0.1; exec cat"].map(OsString::from);
    let mut worker = Worker::spawn(&words, None, false, u64::MAX).unwrap();
    // Longer than a pipe, so that a thread writes the rest.
    let sent = [String::from("first"), "long".repeat(1 << 18), String::from("last")];
    for line in &sent {
        worker.send(line);
    }
    let wait = |worker: &mut Worker| {
        let answer = worker.wait::<String>(|_| Heard::Answer, &mut |_| Duration::from_secs(60));
        answer.unwrap_or_else(|_| panic!("no answer"))
    };
    assert!(sent.iter().all(|line| wait(&mut worker) == *line));
    assert!(matches!(worker.requests, Requests::Thread(_)));
}

#[test]
fn a_runner_has_time_to_give_its_allocation_back() {
    let folder = tempfile::tempdir().unwrap();
    let given_back = folder.path().join("given-back");
    // Deaf to the end of its input, and slower at TERM than the time before it.
    let script = format!("trap 'sleep 4; touch {}; exit' TERM; while :; do sleep 0.1; done", given_back.display());
    let words = ["sh", "-c", &script].map(OsString::from);
    let mut worker = Worker::spawn(&words, None, true, u64::MAX).unwrap();
    worker.end();
    assert!(given_back.exists());
}
