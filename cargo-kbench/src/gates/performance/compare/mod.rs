//! Candidates and baselines measured together, one sample of each in turn.

use kbench_runtime::fingerprint;
use kbench_runtime::protocol::TimeJob;

use contender::Contender;
use measure::{Loser, Measurement};
use rival::Rival;

use super::timing::time_job;
use crate::build::CompileError;
use crate::config::Kernel;
use crate::harness::{Candidate, Harness, Named, RunError, caught};
use crate::record::evaluation::{GateName, Reason, Rejection};
use crate::record::journal::{Comparison, EntryRole};

pub use compared::Compared;

mod compared;
mod contender;
mod measure;
mod rival;

/// What is timed in a comparison.
#[derive(Debug, Clone)]
pub enum Entrant {
    /// A candidate.
    Candidate(Candidate),
    /// A candidate that is an entrant already, measured once more as if it were another: what is found between the two is noise.
    Again(Candidate),
    /// A baseline: an index into [`Kernel::baselines`].
    Baseline(usize),
}

impl Entrant {
    fn role(&self) -> EntryRole {
        match self {
            Entrant::Candidate(_) => EntryRole::Variant,
            Entrant::Again(_) => EntryRole::Again,
            Entrant::Baseline(_) => EntryRole::Baseline,
        }
    }

    /// Its name in a comparison.
    pub fn name(&self, kernel: &Kernel) -> String {
        match self {
            Entrant::Candidate(candidate) | Entrant::Again(candidate) => candidate.label(kernel),
            Entrant::Baseline(index) => kernel.baselines[*index].name.clone(),
        }
    }
}

/// [`compare`](super::compare); its time is not counted as that of timing.
pub fn compare_uncounted(harness: &mut Harness<'_>, shape: usize, entrants: &[Entrant]) -> Result<Compared, RunError> {
    let kernel = harness.kernel();
    let mut compared = Compared::default();
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    let mut rivals: Vec<Rival<'_>> = Vec::new();
    for entrant in entrants {
        if let Entrant::Baseline(index) = entrant
            && let Some(rival) = Rival::new(&kernel.baselines[*index])
        {
            rivals.push(rival);
            continue;
        }
        let name = entrant.name(kernel);
        match caught(Contender::new(harness, entrant, shape, &mut compared.warnings)) {
            Ok(Ok(contender)) => contenders.push(contender),
            Ok(Err(rejection)) => {
                compared.unavailable.insert(name, rejection);
            }
            // A baseline whose reference or compiler is missing is one baseline fewer, not the end of the run. A full disk is.
            Err(
                error @ (RunError::Reference { .. }
                | RunError::Unavailable { .. }
                | RunError::Tool(CompileError::NoCompiler { .. } | CompileError::Unsupported { .. })),
            ) if matches!(entrant, Entrant::Baseline(_)) => {
                let shape = &kernel.shapes[shape].name;
                let why = Rejection::new(GateName::Compile, Reason::Reference, error.to_string(), Some(shape));
                compared.unavailable.insert(name, why);
            }
            Err(error) => return Err(error),
        }
    }
    let mut inputs = None;
    while !contenders.is_empty() {
        let key = key(harness, &contenders, &rivals, shape)?;
        if let Some(known) = harness.results.comparison(&key) {
            compared.entries.clone_from(&known.entries);
            compared.resumed = true;
            return Ok(compared);
        }
        let all = rivals.len();
        rival::start(harness, &mut rivals, shape, &mut inputs, &mut compared.unavailable)?;
        if rivals.len() < all {
            // What is left may be known.
            continue;
        }
        let job = comparison_job(kernel, &contenders);
        let measurement = Measurement { shape, job, contenders: &contenders, inputs: inputs.as_ref() };
        match caught(measurement.run(harness, &mut rivals, &mut compared.warnings))? {
            Ok(entries) => {
                harness.results.keep_comparison(Comparison { key, entries: entries.clone() })?;
                compared.entries = entries;
                return Ok(compared);
            }
            Err((Loser::Kernel(index), rejection)) => {
                let loser = contenders.remove(index.min(contenders.len() - 1));
                // Whatever it was measured as, it is the same variant that failed.
                contenders.retain(|other| !other.is_same_variant(&loser));
                compared.unavailable.insert(loser.name, rejection);
            }
            Err((Loser::Program(index), rejection)) => {
                let loser = rivals.remove(index);
                compared.unavailable.insert(loser.name.to_owned(), rejection);
            }
        }
    }
    Ok(compared)
}

/// What is compared is in the record, so it is looked at in every way.
fn comparison_job(kernel: &Kernel, contenders: &[Contender<'_>]) -> TimeJob {
    let cases = contenders.iter().map(|contender| contender.case.clone()).collect();
    TimeJob { new_inputs: true, ..time_job(kernel, cases) }
}

/// Everything that a comparison depends on.
fn key(
    harness: &mut Harness<'_>,
    contenders: &[Contender<'_>],
    rivals: &[Rival<'_>],
    shape: usize,
) -> Result<String, RunError> {
    let kernel = harness.kernel();
    let job = comparison_job(kernel, contenders);
    let shape = &kernel.shapes[shape].name;
    let mut answers = Vec::new();
    for contender in contenders {
        answers.extend(harness.refer_timed(contender.kernel, shape, &contender.case, &job)?);
    }
    let job = Named { built: &[] }.time(&job);
    let names: Vec<(&String, EntryRole)> =
        contenders.iter().map(|contender| (&contender.name, contender.role)).collect();
    let context = &harness.context;
    let programs: Vec<(&str, String)> = rivals.iter().map(|rival| (rival.name, rival.key(context))).collect();
    let limits = &kernel.gates.correctness;
    Ok(fingerprint::of("comparison", &(context.circumstances(), &names, &job, answers, limits, programs)))
}
