//! Reads lines of the protocol. serde looks for the tag of an enum by reading all of a value into a general form first, which takes longer
//! than the rest: the frequent lines are read without it.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{CheckJob, Event, Request, SeedReport, Stage, TimeJob, Timing};

/// The value of a line that begins with this tag, as [`Request`] and [`Event`] are written; `None` for any other line.
fn tagged<T: DeserializeOwned>(line: &[u8], tag: &str) -> Option<T> {
    line.strip_prefix(b"{\"type\":\"")?.strip_prefix(tag.as_bytes())?.strip_prefix(b"\",")?;
    // The tag is a field like others that the type does not have.
    serde_json::from_slice(line).ok()
}

#[derive(Deserialize)]
struct Entered {
    id: u64,
    stage: Stage,
}

#[derive(Deserialize)]
struct Checked {
    id: u64,
    seeds: Vec<SeedReport>,
}

#[derive(Deserialize)]
struct Timed {
    id: u64,
    timings: Vec<Timing>,
}

impl Request {
    /// The request of a line.
    pub fn of_line(line: &[u8]) -> serde_json::Result<Self> {
        let check = || tagged::<CheckJob>(line, "check").map(|job| Self::Check(Box::new(job)));
        let time = || tagged::<TimeJob>(line, "time").map(|job| Self::Time(Box::new(job)));
        check().or_else(time).map_or_else(|| serde_json::from_slice(line), Ok)
    }
}

impl Event {
    /// The event of a line.
    pub fn of_line(line: &[u8]) -> serde_json::Result<Self> {
        let entered = || tagged(line, "stage").map(|Entered { id, stage }| Self::Stage { id, stage });
        let checked = || tagged(line, "checked").map(|Checked { id, seeds }| Self::Checked { id, seeds });
        let timed = || tagged(line, "timed").map(|Timed { id, timings }| Self::Timed { id, timings });
        entered().or_else(checked).or_else(timed).map_or_else(|| serde_json::from_slice(line), Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::protocol::{CacheMode, Case, CheckOptions, DeviceKind, LaunchMode, Reference, Sequence, TimedCase};

    fn sequence() -> Sequence {
        Sequence { device: DeviceKind::Fake, blob: "code".into(), launches: Vec::new() }
    }

    fn check() -> CheckJob {
        let reference =
            Reference { sequence: sequence(), precision: DType::F64, program: false, identity: String::new() };
        CheckJob {
            id: u64::MAX,
            case: Case { tensors: Vec::new(), sequence: sequence() },
            reference,
            seeds: vec![4, 5],
            bad_above: 0.1,
            options: CheckOptions::default(),
        }
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        let CheckJob { case, reference, .. } = check();
        let time = TimeJob {
            id: 3,
            cases: vec![TimedCase { case, reference }],
            seed: 0,
            other_seed: Some(1),
            warmup: 0,
            iterations: 1,
            until: None,
            cutoff_ns: Some(0.1),
            cache: CacheMode::default(),
            launch: LaunchMode::default(),
            bad_above: 0.1,
            rank_only: true,
            new_inputs: false,
            slow: Vec::new(),
            announce: false,
            energy: false,
            second_clock: false,
        };
        let requests =
            [Request::Check(Box::new(check())), Request::Time(Box::new(time)), Request::Limit { seconds: 0.5 }];
        for request in requests {
            let line = serde_json::to_vec(&request).unwrap();
            assert_eq!(Request::of_line(&line).unwrap(), request);
        }
        assert!(
            tagged::<CheckJob>(&serde_json::to_vec(&Request::Check(Box::new(check()))).unwrap(), "check").is_some()
        );
        let timing = Timing::new(vec![0.1, 1e300], "model", SeedReport::new(1));
        let events = [
            Event::Heartbeat,
            Event::Stage { id: 1, stage: Stage::Case(3) },
            Event::Checked { id: 2, seeds: vec![SeedReport::new(7)] },
            Event::Timed { id: 3, timings: vec![timing] },
        ];
        for event in events {
            let line = serde_json::to_vec(&event).unwrap();
            assert_eq!(Event::of_line(&line).unwrap(), event);
        }
    }

    #[test]
    fn other_lines_are_errors_as_they_were() {
        for line in [
            "",
            "{\"type\":\"stage\",",
            "{\"type\":\"stage\",\"id\":1}",
            "{\"type\":\"check\",\"id\":1}",
            "{\"type\":\"x\"}",
        ] {
            let error = serde_json::from_str::<Event>(line).unwrap_err().to_string();
            assert_eq!(Event::of_line(line.as_bytes()).unwrap_err().to_string(), error, "{line}");
        }
        let spaced = b"{ \"id\": 1, \"type\": \"stage\", \"stage\": \"launch\" }";
        assert_eq!(Event::of_line(spaced).unwrap(), Event::Stage { id: 1, stage: Stage::Launch });
    }
}
