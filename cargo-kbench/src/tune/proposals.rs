//! Proposed sources, tried after the toggles, in rounds of proposals and verdicts.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kbench_runtime::fingerprint;
use kbench_runtime::protocol::DeviceInfo;
use rayon::prelude::*;

use super::TuneOptions;
use super::pipeline::CompileTimes;
use super::rejects::{rejects, short};
use super::search::{Search, Tried};
use crate::config::{Backend, Kernel};
use crate::evaluate::{BuildOutcome, evaluate, try_build};
use crate::gates::counters::profile;
use crate::gates::sanitize::Sanitize;
use crate::gates::{Gate, Trial};
use crate::harness::{Builder, Candidate, Event, Halt, Harness, Proposed, Reporter, RunError, caught};
use crate::interrupt::is_interrupted;
use crate::process::executor::{ExecutorError, PATIENCE};
use crate::process::program::Refusal;
use crate::record::conclusion::Stopped;
use crate::record::elite::ProposerRecord;
use crate::record::evaluation::SourceRecord;
use crate::record::journal::{Record, Round};
use crate::search::EVALUATIONS;
use crate::space::Variant;
use crate::tune::proposer::Proposer;
use crate::tune::proposer::protocol::{self, LONGEST, Propose, Refused, Status, Verdict};

/// The rounds of one proposer.
pub(super) struct Proposals<'r> {
    pub(super) options: &'r TuneOptions<'r>,
    pub(super) device: &'r DeviceInfo,
    pub(super) started: Instant,
    pub(super) reporter: &'r mut dyn Reporter,
    record: ProposerRecord,
    /// Number of variants of the search that were sent to the proposer.
    told: usize,
    /// Hashes of sources with their variants.
    seen: HashSet<(String, Variant)>,
    /// Time by activity.
    thinking: Duration,
}

/// Record of the rounds, beside the evaluations in the search.
pub(super) struct Rounds {
    pub(super) record: ProposerRecord,
    /// Time in which the search waited for the proposer.
    pub(super) thinking: Duration,
}

impl<'r> Proposals<'r> {
    pub(super) fn new(
        options: &'r TuneOptions<'r>,
        device: &'r DeviceInfo,
        started: Instant,
        reporter: &'r mut dyn Reporter,
    ) -> Self {
        let record = ProposerRecord {
            command: Vec::new(),
            rounds: 0,
            evaluated: 0,
            refused: 0,
            rejected: BTreeMap::new(),
            failed: None,
        };
        Self { options, device, started, reporter, record, told: 0, seen: HashSet::new(), thinking: Duration::ZERO }
    }

    /// Runs rounds until the proposer proposes nothing, the budget ends, or the proposer fails; none if the table names
    /// no proposer.
    pub(super) fn run(
        mut self,
        search: &mut Search<'_>,
        harness: &mut Harness<'_>,
        times: &mut CompileTimes,
    ) -> Result<Option<Rounds>, RunError> {
        let kernel = search.kernel;
        let Some(command) = &kernel.search.proposer else { return Ok(None) };
        self.record.command.clone_from(command);
        let source = &kernel.implementation.source;
        let text = std::fs::read(source).map_err(|error| crate::file::in_context(source, &error))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let key = fingerprint::of("proposer", &(command, &text));

        let until = self.until(kernel);
        let hello = protocol::Kernel::of(kernel, &text);
        let directory = &harness.context.builder.package.directory;
        let asked = Instant::now();
        let proposer = Proposer::start(command, directory, hello, self.device, until);
        self.thinking += asked.elapsed();
        let ended = match proposer {
            Ok(mut proposer) => self.rounds(search, harness, &mut proposer, &text, &key, times)?,
            Err(refusal) => Some(refusal),
        };
        if let Some(refusal) = ended {
            let (code, message) = refusal.reason().ok_or(ExecutorError::Interrupted)?;
            // Without time left, the proposer could not answer.
            if self.out_of_time(kernel) {
                search.stopped = Some(Stopped::Seconds);
            } else {
                self.record.failed = Some(format!("{code}: {message}"));
            }
        }
        Ok(Some(Rounds { record: self.record, thinking: self.thinking }))
    }

    /// Reason why the proposer's failure ended the rounds, if it did.
    fn rounds(
        &mut self,
        search: &mut Search<'_>,
        harness: &mut Harness<'_>,
        proposer: &mut Proposer,
        text: &str,
        key: &str,
        times: &mut CompileTimes,
    ) -> Result<Option<Refusal>, RunError> {
        let kernel = search.kernel;
        // Proposals of the resumed run are tried again, and found in its journal.
        let known: Vec<Round> = harness.results.rounds().iter().filter(|round| round.key == key).cloned().collect();
        for round in known {
            let mut proposals = Vec::new();
            for (record, toggles) in &round.proposals {
                let found = Proposed::find(kernel, record, self.options.root);
                if let (Ok(source), Ok(variant)) = (found, kernel.space.variant(toggles)) {
                    self.seen.insert((record.hash.clone(), variant.clone()));
                    proposals.push(Candidate { source: Some(Arc::new(source)), variant });
                }
            }
            self.record.rounds = round.round;
            self.told = search.tried.len();
            self.try_all(search, harness, &proposals, proposer, times)?;
        }
        loop {
            let left = left(search);
            if left == 0 || self.out_of_time(kernel) {
                search.stopped = Some(if left == 0 { Stopped::Evaluations } else { Stopped::Seconds });
                return Ok(None);
            }
            let number = self.record.rounds + 1;
            let round = self.round(number, left, search, harness)?;
            let asked = Instant::now();
            let proposed = proposer.round(round, self.until(kernel));
            self.thinking += asked.elapsed();
            let proposed = match proposed {
                Ok(proposed) => proposed,
                Err(refusal) => return Ok(Some(refusal)),
            };
            let mut proposals = Vec::new();
            for propose in proposed {
                match caught(self.accept(search, text, propose, left - proposals.len() as u64))? {
                    Ok(proposal) => proposals.push(proposal),
                    Err(mut verdict) => {
                        verdict.round = number;
                        self.record.refused += 1;
                        proposer.tell(*verdict);
                    }
                }
            }
            if proposals.is_empty() {
                return Ok(None);
            }
            self.record.rounds = number;
            self.reporter.event(Event::Proposed { round: number, proposals: proposals.len() });
            let sources = proposals
                .iter()
                .filter_map(|proposal| Some((proposal.source_record()?, kernel.space.settings(&proposal.variant))));
            harness.record(&Record::Round(Round {
                round: number,
                key: key.to_owned(),
                proposals: sources.collect(),
            }))?;
            self.try_all(search, harness, &proposals, proposer, times)?;
        }
    }

    /// State of the search.
    fn round(
        &mut self,
        round: u64,
        left: u64,
        search: &Search<'_>,
        harness: &mut Harness<'_>,
    ) -> Result<protocol::Round, RunError> {
        let kernel = search.kernel;
        let best = search.best_distinct();
        let mut elite = Vec::new();
        for tried in &best {
            let Some(timing) = &tried.evaluation.timing else { continue };
            let source = tried.candidate.source.as_ref();
            let text = source.map(|source| std::fs::read_to_string(&source.implementation.source)).transpose()?;
            elite.push(protocol::Elite {
                toggles: tried.evaluation.toggles.clone(),
                source: tried.evaluation.source.clone(),
                text,
                p50_ns: timing.summary.p50,
                p50_low_ns: timing.summary.p50_low,
                p50_high_ns: timing.summary.p50_high,
                objectives: tried.evaluation.objectives.clone(),
                resources: search.resources(&tried.evaluation).unwrap_or_default(),
            });
        }
        let profile = match best.first() {
            // A model has no bottleneck.
            Some(best) if kernel.implementation.backend != Backend::Fake => {
                let profiled = harness.counted_as(
                    |times| &mut times.tools,
                    |harness| profile(harness, &best.candidate, kernel.search.shape, &best.evaluation),
                );
                caught(profiled)?.ok()
            }
            _ => None,
        };
        let rejects = rejects(&search.tried[self.told..]);
        self.told = search.tried.len();
        Ok(protocol::Round { round, left, elite, rejects, profile })
    }

    /// A proposal that can be tried, or the reason why not.
    fn accept(
        &mut self,
        search: &Search<'_>,
        own: &str,
        propose: Propose,
        left: u64,
    ) -> Result<Candidate, Halt<Box<Verdict>>> {
        let kernel = search.kernel;
        let Propose { name, source, toggles } = propose;
        let hash = fingerprint::of_bytes(source.as_bytes());
        let variant = match &toggles {
            Some(toggles) => kernel.space.variant(toggles),
            None => {
                Ok(search.best_distinct().first().map_or(&kernel.space.default, |best| &best.candidate.variant).clone())
            }
        };
        let named = (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte));
        let (refusal, message) = match &variant {
            _ if !named => (Refused::Name, "a name is 1 to 64 letters, digits and `._+-`".to_owned()),
            _ if source.is_empty() || source.len() > LONGEST => {
                (Refused::Size, format!("{} bytes; a source has 1 to {LONGEST}", source.len()))
            }
            Err(error) => (Refused::Toggles, error.to_string()),
            Ok(_) if source == own => (Refused::Duplicate, "it is the kernel's own source".to_owned()),
            Ok(variant) if self.seen.contains(&(hash.clone(), variant.clone())) => {
                (Refused::Duplicate, "it was proposed before, with the same toggles".to_owned())
            }
            Ok(_) if left == 0 => (Refused::Budget, "the budget is used up".to_owned()),
            Ok(variant) => {
                let kept = Proposed::keep(kernel, &name, &source, self.options.proposed, self.options.root)?;
                self.seen.insert((hash, variant.clone()));
                return Ok(Candidate { source: Some(Arc::new(kept)), variant: variant.clone() });
            }
        };
        let name = name.chars().take(64).collect();
        Err(Halt::Variant(Box::new(Verdict {
            refusal: Some(refusal),
            message: Some(message),
            ..verdict(name, hash, Status::Refused)
        })))
    }

    /// Tries proposals in order, and sends their verdicts.
    fn try_all(
        &mut self,
        search: &mut Search<'_>,
        harness: &mut Harness<'_>,
        proposals: &[Candidate],
        proposer: &mut Proposer,
        times: &mut CompileTimes,
    ) -> Result<(), RunError> {
        let began = Instant::now();
        let builder = &harness.context.builder;
        let builds: Vec<(BuildOutcome, Duration)> =
            proposals.par_iter().map(|proposal| build(builder, proposal)).collect::<Result<_, _>>()?;
        let waited = began.elapsed();
        let busy: Duration = builds.iter().map(|(_, busy)| *busy).sum();
        times.waited += waited;
        times.busy_while_waited += busy.min(waited * times.threads as u32);

        for (proposal, (outcome, _)) in proposals.iter().zip(builds) {
            // A proposal that is clearly slower than the elite need not be measured to the end.
            let race = search.race();
            let reporter = &mut *self.reporter;
            let evaluation = evaluate(harness, proposal, outcome, Some(race))?;
            let is_better = |p50: f64| race.bar.is_none_or(|bar| p50 < bar);
            let may_win = evaluation.p50().is_some_and(is_better) && !evaluation.is_cut_short();
            let mut trial = Trial::new(proposal.clone(), evaluation);
            if may_win {
                trial.run([&Sanitize as &dyn Gate], harness, reporter)?;
            }
            let evaluation = trial.evaluation;
            if let Some(rejection) = evaluation.rejection() {
                let reason = format!("{}/{}", rejection.gate, rejection.code);
                *self.record.rejected.entry(reason).or_default() += 1;
            }
            self.record.evaluated += 1;
            let evaluation = Arc::new(evaluation);
            search.keep(Tried { candidate: proposal.clone(), evaluation: Arc::clone(&evaluation) }, self.reporter);
            let SourceRecord { name, hash, .. } = proposal.source_record().expect("a proposal has a source");
            let status = if evaluation.rejection().is_some() { Status::Rejected } else { Status::Passed };
            let timing = evaluation.timing.as_ref().filter(|_| status == Status::Passed).map(|timing| timing.summary);
            let rank = search.best_distinct().iter().position(|best| best.candidate == *proposal);
            proposer.tell(Verdict {
                round: self.record.rounds,
                toggles: Some(evaluation.toggles.clone()),
                p50_ns: timing.map(|summary| summary.p50),
                p50_low_ns: timing.map(|summary| summary.p50_low),
                p50_high_ns: timing.map(|summary| summary.p50_high),
                objectives: evaluation.objectives.clone(),
                cut_short: evaluation.is_cut_short(),
                identical_code: evaluation.identical_code.is_some(),
                rank: rank.map(|rank| rank + 1),
                resources: search.resources(&evaluation),
                rejection: evaluation.rejection().cloned().map(short),
                ..verdict(name, hash, status)
            });
        }
        // The proposer knows its own proposals.
        self.told = search.tried.len();
        Ok(())
    }

    fn out_of_time(&self, kernel: &Kernel) -> bool {
        kernel.search.seconds.is_some_and(|seconds| self.started.elapsed() >= Duration::from_secs(seconds))
    }

    /// Deadline of a silent proposer, from now.
    fn until(&self, kernel: &Kernel) -> Instant {
        let patient = Instant::now() + PATIENCE;
        let end = kernel.search.seconds.and_then(|seconds| self.started.checked_add(Duration::from_secs(seconds)));
        end.map_or(patient, |end| patient.min(end))
    }
}

/// Largest number of proposals that will still be tried.
fn left(search: &Search<'_>) -> u64 {
    let most = search.kernel.search.evaluations.unwrap_or(search.variants() + EVALUATIONS);
    most.saturating_sub(search.evaluated)
}

fn build(builder: &Builder<'_>, proposal: &Candidate) -> Result<(BuildOutcome, Duration), RunError> {
    if is_interrupted() {
        return Err(ExecutorError::Interrupted.into());
    }
    let began = Instant::now();
    let outcome = try_build(builder, proposal)?;
    // A compiler that died of Ctrl-C is not a verdict on the source.
    if is_interrupted() { Err(ExecutorError::Interrupted.into()) } else { Ok((outcome, began.elapsed())) }
}

fn verdict(name: String, hash: String, status: Status) -> Verdict {
    Verdict {
        round: 0,
        name,
        hash,
        status,
        toggles: None,
        refusal: None,
        message: None,
        rejection: None,
        p50_ns: None,
        p50_low_ns: None,
        p50_high_ns: None,
        objectives: Vec::new(),
        cut_short: false,
        identical_code: false,
        rank: None,
        resources: None,
    }
}
