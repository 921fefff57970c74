//! Comparisons of candidates and baselines, which are measured together, one sample of each in turn.

use kbench_runtime::fingerprint;
use kbench_runtime::protocol::{Convergence, TimeJob};

pub(super) use contender::Contender;
use contender::Participant;
use measure::Measurement;
use rival::Rival;

use super::timing::time_job;
use crate::build::CompileError;
use crate::config::Kernel;
use crate::harness::{Halt, Harness, Named, RunError};
use crate::record::evaluation::{GateName, Reason, Rejection};
use crate::record::journal::{Comparison, ComparisonEntry, EntryRole};

#[cfg(test)]
pub(super) use compared::tests::{ONE, TWO};
pub use compared::{Compared, Measured};
pub use entrant::{Entrant, EntrantId};

mod compared;
mod contender;
mod entrant;
mod measure;
mod rival;

/// [`compare`](super::compare); its duration is not counted as measuring time.
pub fn compare_uncounted(harness: &mut Harness<'_>, shape: usize, entrants: &[Entrant]) -> Result<Compared, RunError> {
    let fewest = harness.kernel().timing.iterations;
    compare_until(harness, shape, entrants, Extent { fewest, slow: None, decides: false })
}

/// The extent of a comparison.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent<'e> {
    /// Smallest number of samples.
    pub fewest: u32,
    /// An entrant that cannot be the fastest.
    pub slow: Option<&'e EntrantId>,
    /// Whether sampling ends when the verdicts are certain.
    pub decides: bool,
}

/// The same of another extent.
pub(super) fn compare_until(
    harness: &mut Harness<'_>,
    shape: usize,
    entrants: &[Entrant],
    extent: Extent<'_>,
) -> Result<Compared, RunError> {
    let kernel = harness.kernel();
    let mut compared = Compared::default();
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    let mut rivals: Vec<Rival<'_>> = Vec::new();
    // The variant that is judged, or leads a search.
    let first = entrants.iter().find_map(|entrant| match entrant {
        Entrant::Candidate(candidate) => Some(&candidate.variant),
        Entrant::Again(_) | Entrant::Baseline(_) => None,
    });
    let first = first.unwrap_or(&kernel.space.default);
    for entrant in entrants {
        let function = match Participant::new(harness, entrant, shape, first) {
            Participant::Function(function) => function,
            Participant::Program(rival) => {
                rivals.push(rival);
                continue;
            }
        };
        match Contender::new(harness, entrant, function, &mut compared.warnings) {
            Ok(contender) => contenders.push(contender),
            Err(Halt::Variant(rejection)) => compared.unavailable.push((entrant.id(), rejection)),
            Err(Halt::Run(error)) => {
                let why = left_out(error, entrant, &kernel.shapes[shape].name)?;
                compared.unavailable.push((entrant.id(), why));
            }
        }
    }
    let mut inputs = None;
    while !contenders.is_empty() {
        let job = comparison_job(kernel, &contenders, extent);
        let key = key(harness, &contenders, &rivals, shape, &job)?;
        let known = harness.results.comparison(&key).cloned();
        compared.resumed = known.is_some();
        let comparison = if let Some(known) = known {
            known
        } else {
            let all = rivals.len();
            rival::start(harness, &mut rivals, shape, &mut inputs, &mut compared.unavailable)?;
            if rivals.len() < all {
                // The comparison of the remaining entrants may be recorded.
                continue;
            }
            let measurement = Measurement { shape, job, contenders: &contenders, inputs: inputs.as_ref() };
            let comparison = measurement.record(harness, &mut rivals, key)?;
            if is_kept(&comparison, contenders.len()) {
                harness.results.keep_comparison(comparison.clone())?;
            }
            comparison
        };
        add_new(&mut compared.warnings, comparison.warnings);
        let Some((place, rejection)) = comparison.rejected else {
            compared.entries = measured(&contenders, &rivals, comparison.entries);
            return Ok(compared);
        };
        let loser = remove(&mut contenders, &mut rivals, place, rejection.code);
        compared.unavailable.extend(loser.map(|loser| (loser, rejection)));
    }
    Ok(compared)
}

/// The reason why a baseline with a missing reference or compiler is left out, while the run continues. Every other error, such as a full disk, ends the run.
fn left_out(error: RunError, entrant: &Entrant, shape: &str) -> Result<Rejection, RunError> {
    match (entrant, error) {
        (
            Entrant::Baseline(_),
            error @ (RunError::Inputs { .. }
            | RunError::Reference { .. }
            | RunError::Unavailable { .. }
            | RunError::Tool(CompileError::NoCompiler { .. } | CompileError::Unsupported { .. })),
        ) => Ok(Rejection::new(GateName::Compile, Reason::Reference, error.to_string(), Some(shape))),
        (_, error) => Err(error),
    }
}

/// Whether the record keeps a comparison; `kernels` is the number of its kernels, which come before programs. A program may have failed only at that moment: a resumed run tries it
/// again.
fn is_kept(comparison: &Comparison, kernels: usize) -> bool {
    comparison.rejected.as_ref().is_none_or(|(place, _)| *place < kernels)
}

/// Adds the warnings of a comparison. Measured without a rejected entrant, the others may show the same again.
fn add_new(warnings: &mut Vec<String>, more: Vec<String>) {
    let new: Vec<String> = more.into_iter().filter(|warning| !warnings.contains(warning)).collect();
    warnings.extend(new);
}

/// Removes the entrant that a comparison rejected, by its place among kernels and programs. Returns its identity, unless it is still measured.
fn remove(
    contenders: &mut Vec<Contender<'_>>,
    rivals: &mut Vec<Rival<'_>>,
    place: usize,
    code: Reason,
) -> Option<EntrantId> {
    let Some(contender) = contenders.get(place) else { return Some(rivals.remove(place - contenders.len()).id()) };
    let id = contender.id.clone();
    let has_control = contenders.iter().any(|other| other.role == EntryRole::Again);
    contenders.retain(|other| !leaves((&other.id, other.role), &id, code, has_control));
    contenders.iter().all(|other| other.id != id).then_some(id)
}

/// Whether an entrant leaves a comparison that rejected one. A variant with two measurements fails as a whole. Where the device has no memory for all
/// entrants, the second measurement leaves, whichever entrant found no memory.
fn leaves(other: (&EntrantId, EntryRole), rejected: &EntrantId, code: Reason, has_control: bool) -> bool {
    if code == Reason::OutOfMemory && has_control { other.1 == EntryRole::Again } else { other.0 == rejected }
}

/// Entries with the identities of their entrants: kernels, then programs, in the order of the measurement.
fn measured(contenders: &[Contender<'_>], rivals: &[Rival<'_>], entries: Vec<ComparisonEntry>) -> Vec<Measured> {
    let ids = contenders.iter().map(|contender| contender.id.clone()).chain(rivals.iter().map(Rival::id));
    ids.zip(entries).map(|(id, entry)| Measured { id, entry }).collect()
}

/// The numbers come from a record, so all of them are tested.
fn comparison_job(kernel: &Kernel, contenders: &[Contender<'_>], extent: Extent<'_>) -> TimeJob {
    let cases = contenders.iter().map(|contender| contender.case.clone()).collect();
    let slow = (0..contenders.len()).filter(|&at| extent.slow == Some(&contenders[at].id)).collect();
    let job = time_job(kernel, cases);
    let until = job.until.map(|until| Convergence { decides: extent.decides, ..until });
    TimeJob { new_inputs: true, iterations: extent.fewest, slow, until, ..job }
}

/// Everything that a comparison depends on.
fn key(
    harness: &mut Harness<'_>,
    contenders: &[Contender<'_>],
    rivals: &[Rival<'_>],
    shape: usize,
    job: &TimeJob,
) -> Result<String, RunError> {
    let kernel = harness.kernel();
    let shape = &kernel.shapes[shape].name;
    let mut answers = Vec::new();
    for contender in contenders {
        answers.extend(harness.refer_timed(contender.kernel, shape, &contender.case, job)?);
    }
    let job = Named { built: &[] }.time(job);
    let names: Vec<(&String, EntryRole)> =
        contenders.iter().map(|contender| (&contender.name, contender.role)).collect();
    let context = &harness.context;
    let programs: Vec<(&str, String)> = rivals.iter().map(|rival| (rival.name, rival.key(context))).collect();
    Ok(fingerprint::of("comparison 2", &(context.circumstances(), &names, &job, answers, programs)))
}

#[cfg(test)]
mod tests {
    use kbench_runtime::dtype::DType;
    use kbench_runtime::protocol::{Case, DeviceKind, Reference, Sequence, TimedCase};

    use super::super::impossible::Demand;
    use super::measure::Loser;
    use super::*;
    use crate::config::{ProgramBaseline, fixture};
    use crate::harness::Candidate;
    use crate::space::Variant;

    #[test]
    fn a_variant_fails_as_a_whole_and_its_control_leaves_where_memory_is_short() {
        let others = [(&ONE, EntryRole::Variant), (&ONE, EntryRole::Again), (&TWO, EntryRole::Baseline)];
        let of = |rejected, code, has_control| others.map(|other| leaves(other, rejected, code, has_control));
        for rejected in [&ONE, &TWO] {
            assert_eq!(of(rejected, Reason::OutOfMemory, true), [false, true, false]);
        }
        for code in [Reason::Wrong, Reason::Signal] {
            assert_eq!(of(&ONE, code, true), [true, true, false], "{code}");
            assert_eq!(of(&TWO, code, true), [false, false, true], "{code}");
        }
        let alone = [others[0], others[2]];
        let of = |rejected| alone.map(|other| leaves(other, rejected, Reason::OutOfMemory, false));
        assert_eq!([of(&ONE), of(&TWO)], [[true, false], [false, true]]);
    }

    #[test]
    fn a_comparison_takes_the_stated_number_of_samples_on_new_inputs() {
        let project = fixture::project("");
        for decides in [false, true] {
            let extent = Extent { fewest: 7, slow: None, decides };
            let job = comparison_job(&project.packages[0].kernels[0], &[], extent);
            assert_eq!((job.iterations, job.new_inputs, job.until.unwrap().decides), (7, true, decides));
        }
    }

    #[test]
    fn entries_have_the_identities_of_their_entrants_in_order() {
        let config = ProgramBaseline { command: Vec::new(), correctness: None };
        let rivals = [4, 2].map(|index| Rival::new(index, "p", &config));
        let entries = [ONE, TWO].map(|id| Measured::of_two_modes(id, 0, 0.0, 10).entry);
        let of = |measured: Vec<Measured>| measured.into_iter().map(|it| (it.id, it.entry.program)).collect::<Vec<_>>();
        let programs = entries.each_ref().map(|entry| entry.program.clone());
        let ids = [EntrantId::Baseline(4), EntrantId::Baseline(2)];
        let expected: Vec<(EntrantId, String)> = ids.into_iter().zip(programs).collect();
        assert_eq!(of(measured(&[], &rivals, entries.to_vec())), expected);
    }

    fn contender<'k>(kernel: &'k Kernel, id: &EntrantId, role: EntryRole) -> Contender<'k> {
        let sequence = Sequence { device: DeviceKind::Fake, blob: String::new(), launches: Vec::new() };
        let reference =
            Reference { sequence: sequence.clone(), precision: DType::F64, program: false, identity: String::new() };
        Contender {
            id: id.clone(),
            name: format!("{id:?}"),
            role,
            kernel,
            case: TimedCase { case: Case { tensors: Vec::new(), sequence }, reference },
            program: String::new(),
            demand: Demand::new(&[], (None, None)),
        }
    }

    /// [`ONE`], its control, and [`TWO`].
    fn contenders(kernel: &Kernel) -> Vec<Contender<'_>> {
        [(&ONE, EntryRole::Variant), (&ONE, EntryRole::Again), (&TWO, EntryRole::Baseline)]
            .map(|(id, role)| contender(kernel, id, role))
            .into()
    }

    #[test]
    fn a_rejected_entrant_leaves_and_is_named_unless_it_is_still_measured() {
        let project = fixture::project("");
        let config = ProgramBaseline { command: Vec::new(), correctness: None };
        let after = |place, code, count| {
            let mut kernels = contenders(&project.packages[0].kernels[0]);
            kernels.truncate(count);
            let mut programs: Vec<Rival<'_>> = [4, 5].map(|index| Rival::new(index, "p", &config)).into();
            let named = remove(&mut kernels, &mut programs, place, code);
            let left: Vec<EntrantId> =
                kernels.iter().map(|it| it.id.clone()).chain(programs.iter().map(Rival::id)).collect();
            (named, left)
        };
        let [four, five] = [4, 5].map(EntrantId::Baseline);
        let all = |left: &[&EntrantId]| left.iter().map(|id| (*id).clone()).collect::<Vec<_>>();
        assert_eq!(after(0, Reason::Wrong, 3), (Some(ONE), all(&[&TWO, &four, &five])));
        assert_eq!(after(1, Reason::Wrong, 3), (Some(ONE), all(&[&TWO, &four, &five])));
        assert_eq!(after(2, Reason::Wrong, 3), (Some(TWO), all(&[&ONE, &ONE, &four, &five])));
        assert_eq!(after(3, Reason::Wrong, 3), (Some(four.clone()), all(&[&ONE, &ONE, &TWO, &five])));
        assert_eq!(after(4, Reason::Wrong, 3), (Some(five.clone()), all(&[&ONE, &ONE, &TWO, &four])));
        // Where memory is short, the control makes room first, and no entrant is named.
        assert_eq!(after(2, Reason::OutOfMemory, 3), (None, all(&[&ONE, &TWO, &four, &five])));
        assert_eq!(after(0, Reason::OutOfMemory, 3), (None, all(&[&ONE, &TWO, &four, &five])));
        assert_eq!(after(0, Reason::OutOfMemory, 1), (Some(ONE), all(&[&four, &five])));
    }

    #[test]
    fn kernels_come_before_programs_and_the_first_of_them_has_controls() {
        let project = fixture::project("");
        let kernel = &project.packages[0].kernels[0];
        let mut contenders = contenders(kernel);
        let job = time_job(kernel, Vec::new());
        let of = |contenders: &[Contender<'_>]| {
            let measurement = Measurement { shape: 0, job: job.clone(), contenders, inputs: None };
            let places = [Loser::Kernel(0), Loser::Kernel(2), Loser::Kernel(3), Loser::Program(0), Loser::Program(2)];
            (places.map(|loser| measurement.place(loser)), measurement.controls())
        };
        assert_eq!(of(&contenders), ([0, 2, 2, 3, 5], vec![1, 2]), "a worker named a kernel that does not exist");
        contenders[1].program = "another".into();
        assert_eq!(of(&contenders).1, [2]);
    }

    #[test]
    fn a_comparison_that_a_program_ended_is_not_recorded() {
        let why = Rejection::new(GateName::Performance, Reason::Protocol, "no", Some("s"));
        let kept = |place: Option<usize>| {
            is_kept(&Comparison { rejected: place.map(|place| (place, why.clone())), ..Comparison::default() }, 2)
        };
        assert_eq!([None, Some(0), Some(1), Some(2), Some(3)].map(kept), [true, true, true, false, false]);
    }

    #[test]
    fn a_baseline_without_reference_or_compiler_is_left_out() {
        let text = || "no".to_owned();
        let missing = || {
            [
                RunError::Inputs { kernel: "k".into(), message: text() },
                RunError::Reference { kernel: "k".into(), message: text() },
                RunError::Unavailable { kernel: "k".into(), message: text() },
                RunError::Tool(CompileError::NoCompiler { what: text(), help: text() }),
                RunError::Tool(CompileError::Unsupported { what: text() }),
            ]
        };
        let variant = Candidate::from(&Variant(vec![0]));
        for (error, said) in missing().into_iter().zip(missing()) {
            let why = left_out(error, &Entrant::Baseline(0), "s").unwrap();
            assert_eq!((why.code, why.message, why.shape.as_deref()), (Reason::Reference, said.to_string(), Some("s")));
        }
        for entrant in [Entrant::Candidate(variant.clone()), Entrant::Again(variant)] {
            for error in missing() {
                left_out(error, &entrant, "s").unwrap_err();
            }
        }
        let full = || RunError::Io(std::io::ErrorKind::StorageFull.into());
        let failed = RunError::Tool(CompileError::TooLong { command: Vec::new(), seconds: 1 });
        for error in [full(), failed, RunError::NoArch(text())] {
            left_out(error, &Entrant::Baseline(0), "s").unwrap_err();
        }
    }

    #[test]
    fn a_warning_that_is_shown_again_is_said_once() {
        let mut warnings = ["a", "b"].map(str::to_owned).to_vec();
        add_new(&mut warnings, ["b", "c"].map(str::to_owned).into());
        assert_eq!(warnings, ["a", "b", "c"]);
    }

    #[test]
    fn the_entrant_that_cannot_be_the_fastest_is_slow_in_the_job() {
        let project = fixture::project("");
        let kernel = &project.packages[0].kernels[0];
        let slow = |slow| {
            let extent = Extent { fewest: 7, slow, decides: false };
            comparison_job(kernel, &contenders(kernel), extent).slow
        };
        assert_eq!([slow(None), slow(Some(&TWO)), slow(Some(&ONE))], [vec![], vec![2], vec![0, 1]]);
    }
}
