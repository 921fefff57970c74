//! The append-only record of a run: one JSON line for each thing that finished, written before the next begins.
//!
//! A resumed run asks for the same things in the same order and finds in the journal what is already known, so there is no
//! second way through the loop. Any other run asks too, and finds the variants that an earlier one measured.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::elite::TimingSettings;
use crate::evaluation::{Evaluation, ExternalRecord, Reason, Rejection, SourceRecord, TimingRecord};
use crate::objective::ObjectiveRecord;
use crate::space::Settings;

/// The version of the lines.
pub const VERSION: u32 = 1;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// A run began.
    Start(Start),
    /// A variant was tried.
    Evaluation(Box<Evaluation>),
    /// Variants and baselines were measured interleaved.
    Comparison(Box<Comparison>),
    /// A variant was run under a sanitizer.
    Sanitized(Box<SanitizedRun>),
    /// A proposer handed in sources.
    Round(Round),
    /// The run ended by itself.
    End {
        /// Variants evaluated.
        evaluations: u64,
    },
}

/// What a run works on. What follows it in the journal was measured under these conditions.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Start {
    /// The version of the lines.
    pub version: u32,
    /// Package and kernel.
    pub kernel: String,
    /// The device's name.
    pub device: String,
    /// Seconds since the epoch.
    pub time: u64,
    /// Whether earlier records were used.
    pub resumed: bool,
    /// The sizes of each shape.
    #[serde(default)]
    pub shapes: BTreeMap<String, BTreeMap<String, i64>>,
    /// How times are taken.
    #[serde(default)]
    pub timing: Option<TimingSettings>,
    /// The default variant.
    #[serde(default)]
    pub default: Settings,
    /// What is minimised; p50 in records of versions that did not say.
    #[serde(default)]
    pub objectives: Vec<ObjectiveRecord>,
}

/// What a proposer handed in at once, and what was tried of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Which, from 1.
    pub round: u64,
    /// Hash of the proposer's command and the kernel's own source: for another proposer or source, these are no proposals.
    pub key: String,
    /// The sources, each with the toggles that it is to be tried with.
    pub proposals: Vec<(SourceRecord, Settings)>,
}

/// An interleaved measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Hash of the job.
    pub key: String,
    /// What was measured, in the job's order.
    pub entries: Vec<ComparisonEntry>,
}

/// One entry of a [`Comparison`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonEntry {
    /// The variant's label, or the baseline's name.
    pub name: String,
    /// Hash of machine code and launch, or of a command: equal for twins.
    pub program: String,
    /// Its time.
    pub timing: TimingRecord,
    /// Nanoseconds a launch; sample i of every entry was taken in the same round.
    pub samples: Vec<f64>,
    /// Where it is a baseline by `command`.
    #[serde(default)]
    pub external: Option<ExternalRecord>,
}

/// One run under a sanitizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SanitizedRun {
    /// Hash of the job and the tool's command; empty where the variant did not get that far.
    pub key: String,
    /// What it found, whatever the gate's level.
    pub finding: Option<Rejection>,
    /// What it only warns of.
    pub warnings: Vec<String>,
}

/// An open journal, locked against other runs.
pub struct Journal {
    path: PathBuf,
    file: File,
}

/// What a run takes over from those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recall {
    /// Nothing.
    Nothing,
    /// Variants that passed and were measured to the end, where nothing about them has changed. The finals are always new.
    Variants,
    /// All that the last run, and those it resumed, finished: this one is the rest of it.
    Run,
}

/// What earlier runs left.
#[derive(Debug, Default)]
pub struct Known {
    /// Evaluations by key.
    pub evaluations: HashMap<String, Evaluation>,
    /// Keys of those that this run has not used yet and that an earlier one, which it does not resume, measured.
    pub recalled: HashSet<String>,
    /// Comparisons by key.
    pub comparisons: HashMap<String, Comparison>,
    /// Runs under sanitizers by key.
    pub sanitized: HashMap<String, SanitizedRun>,
    /// What proposers handed in, in that order.
    pub rounds: Vec<Round>,
    /// Lines that are no record.
    pub damaged: usize,
}

impl Journal {
    /// Opens or creates the journal at `path`; waits for nobody: a second run on it is an error.
    ///
    /// Returns what is to be recalled. A cut last line, as left by a kill, is dropped.
    pub fn open(path: &Path, recall: Recall) -> io::Result<(Self, Known)> {
        let in_context = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(in_context)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(in_context)?;
        match file.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    format!(
                        "{}: another kbench is running on this kernel; wait for it, or give this one a --target-dir of its own",
                        path.display()
                    ),
                ));
            }
            // Where the file system has no locks: go on, as cargo does.
            Ok(()) | Err(std::fs::TryLockError::Error(_)) => {}
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(in_context)?;
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        if whole < text.len() {
            file.set_len(whole as u64).map_err(in_context)?;
            file.seek(SeekFrom::End(0)).map_err(in_context)?;
        }
        let known = Known::parse(&text[..whole], recall);
        Ok((Self { path: path.to_owned(), file }, known))
    }

    /// Appends a line in one write.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display())))
    }

    /// Appends the first line of a run.
    pub fn start(&mut self, start: Start) -> io::Result<()> {
        self.append(&Record::Start(Start { version: VERSION, ..start }))
    }
}

impl Known {
    /// Reads whole lines; a line that is not a record (damaged, or of another version) is counted and passed over. Of runs before the last one
    /// that did not itself resume, only variants are known, and those only where they are asked for.
    fn parse(text: &[u8], recall: Recall) -> Self {
        let mut known = Known::default();
        if recall == Recall::Nothing {
            return known;
        }
        for line in text.split(|&byte| byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(Record::Start(start)) if start.version != VERSION || recall == Recall::Run && !start.resumed => {
                    known = Known::default();
                }
                Ok(Record::Evaluation(evaluation)) => {
                    let serves = match recall {
                        Recall::Run => !evaluation.key.is_empty() && !is_transient(&evaluation),
                        _ => is_settled(&evaluation),
                    };
                    if serves {
                        known.evaluations.insert(evaluation.key.clone(), *evaluation);
                    }
                }
                // What is reported is measured anew, and what was proposed is for that run to try.
                Ok(Record::Comparison(_) | Record::Round(_)) if recall == Recall::Variants => {}
                Ok(Record::Comparison(comparison)) => {
                    known.comparisons.insert(comparison.key.clone(), *comparison);
                }
                Ok(Record::Sanitized(run)) => {
                    known.sanitized.insert(run.key.clone(), *run);
                }
                Ok(Record::Round(round)) => known.rounds.push(round),
                Ok(_) => {}
                Err(_) => known.damaged += usize::from(!line.is_empty()),
            }
        }
        if recall == Recall::Variants {
            known.recalled = known.evaluations.keys().cloned().collect();
        }
        known
    }
}

/// Whether a variant passed and its time was known well enough, or well enough to be out of the race.
fn is_settled(evaluation: &Evaluation) -> bool {
    let settled = |timing: &TimingRecord| timing.sampling.as_ref().is_some_and(|how| how.converged || how.raced);
    let mut timings = evaluation.timing.iter().chain(&evaluation.more_timings);
    evaluation.p50().is_some() && timings.all(settled)
}

/// Whether the outcome says more of the moment than of the variant.
fn is_transient(evaluation: &Evaluation) -> bool {
    matches!(evaluation.rejection(), Some(rejection) if [Reason::OutOfMemory, Reason::Protocol].contains(&rejection.code))
}

#[cfg(test)]
mod tests {
    use kbench_runtime::protocol::Sampling;
    use kbench_runtime::stats::Summary;

    use super::*;
    use crate::evaluation::{Gate, Outcome};

    fn evaluation(key: &str) -> Record {
        let mut evaluation = Evaluation::new(Settings::default(), Vec::new());
        evaluation.key = key.to_owned();
        Record::Evaluation(Box::new(evaluation))
    }

    fn keys(known: &Known) -> Vec<&str> {
        let mut keys: Vec<&str> = known.evaluations.keys().map(String::as_str).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn a_resumed_run_knows_what_the_runs_before_it_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/journal.jsonl");
        let write = |resumed, key| {
            let (mut journal, _) = Journal::open(&path, Recall::Nothing).unwrap();
            journal.start(Start { resumed, ..Start::default() }).unwrap();
            journal.append(&evaluation(key)).unwrap();
        };
        write(false, "a");
        write(true, "b");
        assert_eq!(keys(&Journal::open(&path, Recall::Run).unwrap().1), ["a", "b"]);
        assert_eq!(keys(&Journal::open(&path, Recall::Nothing).unwrap().1), Vec::<&str>::new());
        write(false, "c");
        assert_eq!(keys(&Journal::open(&path, Recall::Run).unwrap().1), ["c"]);
    }

    #[test]
    fn any_run_knows_variants_that_were_measured_to_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let timed = |key: &str, converged, raced, outcome| {
            let mut evaluation = Evaluation::new(Settings::default(), Vec::new());
            let summary = Summary::of(&[100.0; 10]).unwrap();
            let sampling = Some(Sampling { converged, raced, ..Sampling::default() });
            let (shape, clock) = ("s".into(), "fake".into());
            evaluation.timing = Some(TimingRecord { shape, summary, batch: 1, clock, sampling });
            (evaluation.key, evaluation.outcome) = (key.to_owned(), outcome);
            Record::Evaluation(Box::new(evaluation))
        };
        let slow = Outcome::Rejected(Rejection::new(Gate::Performance, Reason::SkipsWork, "", None));
        let round = Record::Round(Round { round: 1, key: String::new(), proposals: Vec::new() });
        let comparison = Record::Comparison(Box::new(Comparison { key: "c".into(), entries: Vec::new() }));
        let sanitized = Record::Sanitized(Box::new(SanitizedRun { key: "s".into(), finding: None, warnings: vec![] }));
        for records in [
            vec![timed("settled", true, false, Outcome::Passed), round, comparison, sanitized],
            vec![timed("raced", false, true, Outcome::Passed), timed("shaky", false, false, Outcome::Passed)],
            vec![timed("rejected", true, false, slow), evaluation("untimed")],
        ] {
            let (mut journal, _) = Journal::open(&path, Recall::Nothing).unwrap();
            journal.start(Start::default()).unwrap();
            for record in &records {
                journal.append(record).unwrap();
            }
        }
        let (_, known) = Journal::open(&path, Recall::Variants).unwrap();
        assert_eq!(keys(&known), ["raced", "settled"]);
        assert_eq!(known.recalled, ["raced", "settled"].map(str::to_owned).into());
        assert_eq!((known.comparisons.len(), known.rounds.len(), known.sanitized.len()), (0, 0, 1));
        let (_, known) = Journal::open(&path, Recall::Run).unwrap();
        assert_eq!((keys(&known), known.recalled.len()), (vec!["rejected", "untimed"], 0), "of the last run alone");
        assert_eq!(known.damaged, 0);
        let text = std::fs::read_to_string(&path).unwrap().replace("\"key\":\"raced\"", "\"key\":\"ra");
        std::fs::write(&path, format!("{text}\nno record\n")).unwrap();
        let (_, known) = Journal::open(&path, Recall::Variants).unwrap();
        assert_eq!((keys(&known), known.damaged), (vec!["settled"], 2));
    }

    #[test]
    fn a_cut_last_line_is_dropped_and_the_next_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let (mut journal, _) = Journal::open(&path, Recall::Nothing).unwrap();
        journal.start(Start::default()).unwrap();
        journal.append(&evaluation("a")).unwrap();
        journal.append(&evaluation("b")).unwrap();
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        for cut in 1..40 {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (mut journal, known) = Journal::open(&path, Recall::Run).unwrap();
            assert_eq!(keys(&known), ["a"]);
            journal.append(&evaluation("c")).unwrap();
            drop(journal);
            assert_eq!(keys(&Journal::open(&path, Recall::Run).unwrap().1), ["a", "c"]);
        }
    }

    #[test]
    fn two_runs_do_not_share_a_journal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let _first = Journal::open(&path, Recall::Nothing).unwrap();
        let error = Journal::open(&path, Recall::Run).err().unwrap().to_string();
        assert!(error.contains("another kbench is running"), "{error}");
    }
}
