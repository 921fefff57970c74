//! The append-only record of a run: one JSON line for each thing that finished, written before the next begins.
//!
//! A resumed run asks for the same things in the same order and finds in the journal what is already known, so there is no
//! second way through the loop. Any other run asks too, and finds the variants that an earlier one measured.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use kbench_runtime::stats::Samples;
use serde::{Deserialize, Serialize};

use crate::record::elite::TimingSettings;
use crate::record::evaluation::{
    Evaluation, ExternalRecord, Reason, Rejection, ShapeErrors, SourceRecord, TimingRecord,
};
use crate::record::objective::ObjectiveRecord;
use crate::space::Settings;
use crate::text;

mod line;

/// The version of the lines.
pub const VERSION: u32 = 2;

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
    /// A variant that may win passed the whole check.
    Checked {
        /// Its evaluation's key.
        key: String,
        /// Its errors.
        errors: Vec<ShapeErrors>,
        /// All that gates at level `warn` found.
        warnings: Vec<String>,
    },
    /// A variant that had passed was rejected in the finals.
    Revoked {
        /// Its evaluation's key.
        key: String,
        /// Why.
        rejection: Rejection,
    },
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
    /// What it was measured as.
    #[serde(default)]
    pub role: EntryRole,
    /// Hash of machine code and launch, or of a command: equal for twins.
    pub program: String,
    /// Its time.
    pub timing: TimingRecord,
    /// Nanoseconds a launch; sample i of every entry was taken in the same round.
    pub samples: Vec<f64>,
    /// By how much they may be too long, in the mean: what context switches may have added.
    #[serde(default)]
    pub slack: f64,
    /// Where it is a baseline by `command`.
    #[serde(default)]
    pub external: Option<ExternalRecord>,
}

/// What an entry of a [`Comparison`] was measured as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryRole {
    /// A variant of the kernel.
    #[default]
    Variant,
    /// A variant that is an entry already, once more, for the noise floor.
    Again,
    /// A baseline.
    Baseline,
}

impl ComparisonEntry {
    /// Its name with its role, where it stands beside an entry of the same name.
    pub fn shown(&self) -> String {
        match self.role {
            EntryRole::Again => format!("{} again", self.name),
            EntryRole::Variant | EntryRole::Baseline => self.name.clone(),
        }
    }

    /// Its samples, with what is not sure of them.
    pub fn taken(&self) -> Samples<'_> {
        Samples { times: &self.samples, slack: self.slack }
    }
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

impl SanitizedRun {
    /// The run of a variant that did not get as far as a launch.
    pub fn rejected(rejection: Rejection) -> Self {
        Self { key: String::new(), finding: Some(rejection), warnings: Vec::new() }
    }
}

/// An open journal, locked against other runs.
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Drop for Journal {
    /// Releases the lock. A child that is being started holds a copy of the descriptor until it runs its own program, and with it
    /// the lock: closing the file here would not release that copy.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

/// What a run takes over from those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recall {
    /// Nothing.
    Nothing,
    /// What earlier runs measured.
    Variants,
    /// That, and all that the last run, and those it resumed, finished: this one is the rest of it.
    Run,
}

/// Bytes of a journal that is read in no time, whatever is in it.
const LARGE: usize = 1 << 20;

/// By how much a p50 that is measured anew may differ from the one recorded. If it is more, the machine is not what it was.
const TOLERANCE: f64 = 0.02;

/// What is known before a run, and what it adds.
///
/// Of runs that this one does not resume only variants are known that passed and were measured to the end, and only as long as those
/// that are measured again, the default first of all, take the time that they took.
#[derive(Debug, Default)]
pub struct RunCache {
    /// Evaluations by key.
    evaluations: HashMap<String, Evaluation>,
    /// Keys of those of earlier runs.
    earlier: HashSet<String>,
    /// Keys of variants that passed and were rejected in the finals.
    revoked: HashSet<String>,
    /// Comparisons by key.
    pub comparisons: HashMap<String, Comparison>,
    /// Runs under sanitizers by key.
    pub sanitized: HashMap<String, SanitizedRun>,
    /// What proposers handed in, in that order.
    pub rounds: Vec<Round>,
    /// Lines that are no record.
    pub damaged: usize,
    /// Why earlier runs count for nothing, where they do not.
    pub machine_changed: Option<String>,
}

impl Journal {
    /// Opens or creates the journal at `path`; waits for nobody: a second run on it is an error.
    ///
    /// Returns what is to be recalled. A cut last line, as left by a kill, is dropped.
    pub fn open(path: &Path, recall: Recall) -> io::Result<(Self, RunCache)> {
        let in_context = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(in_context)?;
        }
        let mut file = loop {
            let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(in_context)?;
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
            // Another run may have replaced it by a shorter one meanwhile.
            if crate::file::is_file_at(&file, path) {
                break file;
            }
        };
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(in_context)?;
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        if whole < text.len() {
            file.set_len(whole as u64).map_err(in_context)?;
            file.seek(SeekFrom::End(0)).map_err(in_context)?;
        }
        text.truncate(whole);
        let (known, kept) = RunCache::parse(&text, recall);
        if kept.is_worth_it(text.len()) {
            // One that cannot be shortened costs time, nothing else.
            file = compact(path, &text, &kept).unwrap_or(file);
        }
        Ok((Self { path: path.to_owned(), file }, known))
    }

    /// Appends a line in one write.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        self.file
            .write_all(&line::encode(record)?)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display())))
    }

    /// Appends the first line of a run.
    pub fn start(&mut self, start: Start) -> io::Result<()> {
        self.append(&Record::Start(Start { version: VERSION, ..start }))
    }
}

impl RunCache {
    /// Reads whole lines; a line that is not what was written, or of another version, is counted and passed over. Also says which
    /// lines later runs need.
    fn parse(text: &[u8], recall: Recall) -> (Self, Kept) {
        let (mut known, mut kept) = (RunCache::default(), Kept::default());
        if recall == Recall::Nothing {
            return (known, kept);
        }
        let mut default = Settings::default();
        let mut places: HashMap<String, Range<usize>> = HashMap::new();
        for (place, line) in lines(text) {
            match line::decode(line) {
                Some(Record::Start(start)) => {
                    if start.version != VERSION {
                        known = RunCache::default();
                    } else if !start.resumed {
                        known.leave_behind();
                    }
                    if !start.resumed || start.version != VERSION {
                        kept.earlier = places
                            .iter()
                            .filter(|(key, _)| known.earlier.contains(*key))
                            .map(|(_, place)| place.clone())
                            .collect();
                        kept.last_run = place.start;
                    }
                    default = start.default;
                }
                Some(Record::Evaluation(evaluation)) => {
                    if !evaluation.key.is_empty() && !is_transient(&evaluation) {
                        let is_default = evaluation.source.is_none() && evaluation.toggles == default;
                        places.insert(evaluation.key.clone(), place);
                        known.add(*evaluation, is_default);
                    }
                }
                Some(Record::Checked { key, errors, warnings }) => known.checked(&key, &errors, &warnings),
                Some(Record::Revoked { key, .. }) => drop(known.revoked.insert(key)),
                Some(Record::Comparison(comparison)) => {
                    known.comparisons.insert(comparison.key.clone(), *comparison);
                }
                Some(Record::Sanitized(run)) => {
                    known.sanitized.insert(run.key.clone(), *run);
                }
                Some(Record::Round(round)) => known.rounds.push(round),
                Some(Record::End { .. }) => {}
                None => known.damaged += 1,
            }
        }
        if recall == Recall::Variants {
            known.leave_behind();
        }
        kept.earlier.sort_by_key(|place| place.start);
        (known, kept)
    }

    /// Makes what is known that of earlier runs. What is reported is always measured anew, and what was proposed is for that run to
    /// try.
    fn leave_behind(&mut self) {
        let RunCache { evaluations, revoked, damaged, comparisons, earlier, .. } = std::mem::take(self);
        (self.evaluations, self.damaged) = (evaluations, damaged);
        let is_new = |key: &String, evaluation: &Evaluation| !evaluation.recalled && !earlier.contains(key);
        let in_use = |timing: Option<&TimingRecord>| timing.is_some_and(TimingRecord::is_in_use);
        let was_in_use = self.evaluations.iter().any(|(key, of)| is_new(key, of) && in_use(of.timing.as_ref()))
            || comparisons.values().flat_map(|comparison| &comparison.entries).any(|entry| entry.timing.is_in_use());
        // Beside another process nothing was as it is.
        self.evaluations.retain(|key, evaluation| !(was_in_use && is_new(key, evaluation)));
        self.evaluations.retain(|key, evaluation| is_settled(evaluation) && !revoked.contains(key));
        self.earlier = self.evaluations.keys().cloned().collect();
    }

    /// Adds what this run measured or recalled.
    pub fn add(&mut self, evaluation: Evaluation, is_default: bool) {
        let was_earlier = self.earlier.remove(&evaluation.key);
        let tells = was_earlier || is_default && !self.earlier.is_empty();
        if !evaluation.recalled && tells {
            let before = self.evaluations.get(&evaluation.key).filter(|_| was_earlier);
            let change = machine_change(before, &evaluation, is_default);
            if change != MachineChange::No {
                for key in self.earlier.drain() {
                    self.evaluations.remove(&key);
                }
            }
            if let (MachineChange::Yes(why), None) = (change, &self.machine_changed) {
                self.machine_changed = Some(why);
            }
        }
        self.revoked.remove(&evaluation.key);
        self.evaluations.insert(evaluation.key.clone(), evaluation);
    }

    /// The variant with this key passed the whole check.
    pub fn checked(&mut self, key: &str, errors: &[ShapeErrors], warnings: &[String]) {
        if let Some(evaluation) = self.evaluations.get_mut(key) {
            evaluation.check_is(errors.to_vec(), warnings.to_vec());
        }
    }

    /// The evaluation with this key, and whether it is an earlier run's.
    pub fn evaluation(&self, key: &str) -> Option<(&Evaluation, bool)> {
        self.evaluations.get(key).map(|evaluation| (evaluation, self.earlier.contains(key)))
    }
}

/// The records of a journal's lines; `None` for each line that is not what was written.
pub fn records(text: &[u8]) -> impl Iterator<Item = Option<Record>> {
    lines(text).map(|(_, line)| line::decode(line))
}

/// The lines that are not empty: each with its place, its end included, and without its end.
fn lines(text: &[u8]) -> impl Iterator<Item = (Range<usize>, &[u8])> {
    let mut start = 0;
    let lines = text.split_inclusive(|&byte| byte == b'\n').map(move |line| {
        let place = start..start + line.len();
        start = place.end;
        (place, line.strip_suffix(b"\n").unwrap_or(line))
    });
    lines.filter(|(_, line)| !line.is_empty())
}

/// The parts of a journal that later runs need.
#[derive(Debug, Default)]
struct Kept {
    /// Of earlier runs, the last line of each variant that still counts.
    earlier: Vec<Range<usize>>,
    /// Where the last run begins, with those that resumed it.
    last_run: usize,
}

impl Kept {
    /// Whether so long a journal would become much shorter by leaving out the rest.
    fn is_worth_it(&self, bytes: usize) -> bool {
        let dropped = self.last_run - self.earlier.iter().map(Range::len).sum::<usize>();
        bytes > LARGE && dropped > bytes / 2
    }
}

/// Replaces a journal by the parts of it that are needed, whole or not at all. The new file is locked before it gets the name.
fn compact(path: &Path, text: &[u8], kept: &Kept) -> io::Result<File> {
    let temporary = path.with_extension("jsonl.new");
    // What a run left that was killed while it wrote it.
    let _ = std::fs::remove_file(&temporary);
    let mut file = OpenOptions::new().read(true).append(true).create_new(true).open(&temporary)?;
    let _ = file.try_lock();
    let mut short = line::encode(&Record::Start(Start { version: VERSION, ..Start::default() }))?;
    for place in &kept.earlier {
        short.extend(&text[place.clone()]);
    }
    short.extend(&text[kept.last_run..]);
    file.write_all(&short)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    Ok(file)
}

/// How to say that lines are none.
pub fn damage(lines: usize) -> String {
    format!("{} of the journal are damaged and were passed over", text::count(lines, "line"))
}

/// Whether a record and a new measurement of the same are of other conditions.
#[derive(Debug, PartialEq)]
enum MachineChange {
    No,
    /// Nobody knows, since the default has changed.
    Unknown,
    /// Yes, and how it shows.
    Yes(String),
}

fn machine_change(before: Option<&Evaluation>, now: &Evaluation, is_default: bool) -> MachineChange {
    match (before.and_then(Evaluation::p50), now.p50()) {
        (Some(before), Some(p50)) => {
            let apart = 100.0 * (p50 / before - 1.0);
            let than = if apart > 0.0 { "longer" } else { "shorter" };
            if apart.abs() <= 100.0 * TOLERANCE {
                return MachineChange::No;
            }
            MachineChange::Yes(format!("{} takes {:.0} % {than} now", now.label(), apart.abs()))
        }
        (None, _) if is_default => MachineChange::Unknown,
        (_, None) if is_default => MachineChange::Yes("the default does not pass any more".to_owned()),
        _ => MachineChange::No,
    }
}

/// Whether a variant passed and its time was known well enough, or well enough to be out of the race.
fn is_settled(evaluation: &Evaluation) -> bool {
    let settled = |timing: &TimingRecord| timing.sampling.as_ref().is_some_and(|how| how.converged || how.raced);
    let mut timings = evaluation.timing.iter().chain(&evaluation.more_timings);
    evaluation.p50().is_some_and(|p50| p50 > 0.0) && timings.all(settled)
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
    use crate::record::evaluation::{Checked, GateName, Judgement};

    fn evaluation(key: &str) -> Record {
        let mut evaluation = Evaluation::new(Settings::default(), Vec::new());
        evaluation.key = key.to_owned();
        Record::Evaluation(Box::new(evaluation))
    }

    fn keys(known: &RunCache) -> Vec<&str> {
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

    /// A variant that was timed, at so many nanoseconds.
    fn timed(key: &str, p50: f64, converged: bool, raced: bool) -> Evaluation {
        let mut evaluation = Evaluation::new(Settings::default(), Vec::new());
        let summary = Summary::of(&[p50; 10]).unwrap();
        let sampling = Some(Sampling { converged, raced, ..Sampling::default() });
        let (shape, clock) = ("s".into(), "fake".into());
        evaluation.timing = Some(TimingRecord { shape, summary, batch: 1, clock, sampling });
        key.clone_into(&mut evaluation.key);
        evaluation
    }

    /// What is known after these runs; the default is that of a fresh record, which all have.
    fn after(runs: &[Vec<Record>], recall: Recall) -> RunCache {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let default = Settings(vec![("A".into(), crate::expr::Value::Int(1))]);
        for records in runs {
            let (mut journal, _) = Journal::open(&path, Recall::Nothing).unwrap();
            journal.start(Start { default: default.clone(), ..Start::default() }).unwrap();
            for record in records {
                journal.append(record).unwrap();
            }
        }
        Journal::open(&path, recall).unwrap().1
    }

    fn passed(evaluation: Evaluation) -> Record {
        Record::Evaluation(Box::new(evaluation))
    }

    #[test]
    fn how_far_a_variant_was_checked_is_known() {
        let once = |key| passed(Evaluation { checked: Checked::OneSeed, ..timed(key, 100.0, true, false) });
        let in_full = |key: &str| Record::Checked {
            key: key.to_owned(),
            errors: vec![ShapeErrors::worst("s", &[])],
            warnings: vec!["w".to_owned()],
        };
        let runs = [vec![once("once"), once("finalist"), in_full("finalist"), in_full("nobody")]];
        for recall in [Recall::Run, Recall::Variants] {
            let known = after(&runs, recall);
            assert_eq!(keys(&known), ["finalist", "once"]);
            let of = |key| known.evaluation(key).unwrap().0;
            assert_eq!((of("once").checked, of("once").errors.len()), (Checked::OneSeed, 0));
            assert_eq!((of("finalist").checked, of("finalist").errors.len()), (Checked::InFull, 1));
            assert_eq!(of("finalist").warnings, ["w"]);
        }
    }

    #[test]
    fn any_run_knows_variants_that_were_measured_to_the_end() {
        let rejection = Rejection::new(GateName::Performance, Reason::SkipsWork, "", None);
        let rejected = |key| {
            let outcome = Judgement::Rejected(rejection.clone());
            passed(Evaluation { outcome, ..timed(key, 100.0, true, false) })
        };
        let settled = |key| passed(timed(key, 100.0, true, false));
        let runs = [
            vec![
                settled("settled"),
                settled("later rejected"),
                settled("revoked"),
                settled("revoked once"),
                Record::Revoked { key: "revoked".into(), rejection: rejection.clone() },
                Record::Revoked { key: "revoked once".into(), rejection: rejection.clone() },
                Record::Round(Round { round: 1, key: String::new(), proposals: Vec::new() }),
                Record::Comparison(Box::new(Comparison { key: "c".into(), entries: Vec::new() })),
                Record::Sanitized(Box::new(SanitizedRun { key: "s".into(), finding: None, warnings: vec![] })),
            ],
            vec![passed(timed("raced", 100.0, false, true)), passed(timed("shaky", 100.0, false, false))],
            vec![settled("revoked once"), rejected("later rejected"), rejected("rejected"), evaluation("untimed")],
        ];
        let known = after(&runs, Recall::Variants);
        assert_eq!(keys(&known), ["raced", "revoked once", "settled"]);
        assert!(keys(&known).iter().all(|key| known.evaluation(key).unwrap().1), "all are earlier runs'");
        assert_eq!((known.comparisons.len(), known.rounds.len(), known.sanitized.len()), (0, 0, 0));
        let known = after(&runs, Recall::Run);
        let all = ["later rejected", "raced", "rejected", "revoked once", "settled", "untimed"];
        assert_eq!(keys(&known), all);
        assert_eq!(all.map(|key| known.evaluation(key).unwrap().1), [false, true, false, false, true, false]);
        assert_eq!(keys(&after(&runs, Recall::Nothing)), [""; 0]);
    }

    #[test]
    fn what_earlier_runs_measured_counts_while_the_machine_is_what_it_was() {
        let earlier = || vec![passed(timed("a", 100.0, true, false)), passed(timed("default", 100.0, true, false))];
        let anew = |p50| {
            let mut known = after(&[earlier()], Recall::Variants);
            known.add(timed("default", p50, true, false), true);
            known
        };
        let same = anew(101.0);
        assert_eq!((keys(&same), &same.machine_changed), (vec!["a", "default"], &None));
        let slower = anew(103.0);
        assert_eq!(
            (keys(&slower), slower.machine_changed.as_deref()),
            (vec!["default"], Some(" takes 3 % longer now"))
        );
        let mut changed = after(&[earlier()], Recall::Variants);
        changed.add(timed("another default", 100.0, true, false), true);
        assert_eq!((keys(&changed), &changed.machine_changed), (vec!["another default"], &None));
        let mut recalled = after(&[earlier()], Recall::Variants);
        recalled.add(Evaluation { recalled: true, ..timed("a", 100.0, true, false) }, false);
        assert_eq!((keys(&recalled), recalled.evaluation("a").unwrap().1), (vec!["a", "default"], false));
        // The run that is resumed had found that already.
        let resumed = after(&[earlier(), vec![passed(timed("default", 50.0, true, false))]], Recall::Run);
        assert_eq!(keys(&resumed), ["default"]);
        let mut first = RunCache::default();
        first.add(timed("default", 100.0, true, false), true);
        assert_eq!(first.machine_changed, None, "there was nothing to count");
    }

    #[test]
    fn damage_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let (mut journal, _) = Journal::open(&path, Recall::Nothing).unwrap();
        for record in [passed(timed("a", 100.0, true, false)), passed(timed("b", 100.0, true, false))] {
            journal.append(&record).unwrap();
        }
        drop(journal);
        let text = std::fs::read_to_string(&path).unwrap().replace("\"key\":\"a\"", "\"key\":\"a");
        std::fs::write(&path, format!("{text}\nno record\n")).unwrap();
        let (_, known) = Journal::open(&path, Recall::Variants).unwrap();
        assert_eq!((keys(&known), known.damaged), (vec!["b"], 2));
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
    fn a_journal_does_not_grow_with_what_is_recalled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let long = |key: String| Evaluation { warnings: vec!["x".repeat(4096)], ..timed(&key, 100.0, true, false) };
        let run = |last: u32| {
            let (mut journal, known) = Journal::open(&path, Recall::Variants).unwrap();
            let default = Settings(vec![("A".into(), crate::expr::Value::Int(1))]);
            journal.start(Start { default, ..Start::default() }).unwrap();
            for number in 0..100 {
                let recalled = known.evaluation(&number.to_string()).is_some();
                journal.append(&passed(Evaluation { recalled, ..long(number.to_string()) })).unwrap();
            }
            journal.append(&passed(long(format!("only {last}")))).unwrap();
            (known.evaluations.len(), std::fs::metadata(&path).unwrap().len())
        };
        let lengths: Vec<(usize, u64)> = (0..12).map(run).collect();
        assert_eq!(lengths[11].0, 100 + 11, "nothing is forgotten");
        let once = lengths[0].1;
        assert!(lengths.iter().all(|(_, bytes)| *bytes < 6 * once), "{lengths:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        // The last run is there in full, for the rest of it.
        let (_, known) = Journal::open(&path, Recall::Run).unwrap();
        assert!(!known.evaluation("only 11").unwrap().1 && known.evaluation("only 3").unwrap().1);
        assert_eq!(known.damaged, 0);
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
