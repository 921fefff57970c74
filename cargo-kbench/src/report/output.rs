//! The only place that chooses a format: results of verbs and searches come in, text for a terminal or JSON lines go
//! out.

use std::fmt::Display;
use std::path::Path;

use super::messages::{Message, Status};
use super::terminal::Terminal;
use super::{Verbosity, json, out, outln};
use crate::audit::{Audited, Report};
use crate::bundle::KernelRecord;
use crate::compare::FileDiff;
use crate::compare::bench::BenchEntry;
use crate::compare::resource_diff::ResourceDiff;
use crate::config::{Diagnostic, Kernel};
use crate::doctor::{Examination, Need};
use crate::export::Export;
use crate::gates::Trial;
use crate::harness::{Builder, Reporter};
use crate::import::Note;
use crate::profile::Profile;
use crate::record::elite::{EliteEntry, PortfolioRecord};
use crate::record::evaluation::Evaluation;
use crate::replay::{Options, Overall, Replayed};
use crate::report;
use crate::space::{Partition, Settings};
use crate::tune::repeat::Repeated;
use crate::tune::{Plan, Tuned};

/// Format of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Text for a terminal.
    Human,
    /// JSON lines.
    Json,
}

/// Destination of results and progress, chosen once from the command line.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    format: Format,
    verbosity: Verbosity,
}

/// A result of a verb.
pub enum Finding<'f> {
    /// The table of a kernel.
    Space(&'f Kernel),
    /// The builds of variants, for one architecture.
    Builds(&'f report::builds::Builds<'f>),
    /// Changes of the resources of a kernel's variants.
    ResourceDiff(&'f ResourceDiff),
    /// A candidate that went through the gates.
    Gated(&'f Kernel, &'f Trial),
    /// A variant that went through the gates that need no device, for an architecture if there are several.
    WithoutDevice(&'f Kernel, &'f Trial, Option<&'f str>),
    /// Number of kernels that passed, and number of all.
    Passed(u32, u32),
    /// A variant beside the default and the baselines.
    SideBySide(&'f BenchEntry),
    /// The bottleneck of a variant.
    Profile(&'f Profile),
    /// A variant that was not profiled, since a gate rejected it.
    NotProfiled(&'f Kernel, &'f Evaluation),
    /// A mutant of an audit, its place, and the width of the mutants' names.
    Mutant(&'f Kernel, &'f Audited, (usize, usize), usize),
    /// An audit.
    Audited(&'f Report),
    /// A kernel that fails its own gates, so that an audit is impossible.
    Unfit(&'f Kernel, &'f Evaluation),
    /// Differences of two files, and the smallest difference that counts as a regression.
    FileDiff(&'f FileDiff, f64),
    /// A search: its kernel, the file with its elites, and the flags that a `gate` of the winner needs.
    Tuned(&'f Tuned, &'f Kernel, &'f Path, &'f [String]),
    /// Merged results of several searches: their entry, the missing parts, and whether a file was changed.
    Merged(&'f EliteEntry, &'f [Partition], bool),
    /// The plan of a search.
    Planned(&'f Kernel, &'f Plan),
    /// The smallest set of variants that serves all shapes.
    Portfolio(&'f PortfolioRecord),
    /// Results of one search with several seeds.
    Repeated(&'f Repeated),
    /// The runs of a strategy on one record.
    Replayed(&'f Replayed, &'f Options),
    /// The runs on all records.
    AllReplayed(&'f [Replayed], &'f Overall, &'f Options),
    /// Tools and devices of the machine, and the needs of the selected kernels.
    Examined(&'f Examination, Option<&'f [Need]>),
    /// A package that was written: its files, and the manifest that it was added to.
    Created(&'f [std::path::PathBuf], Option<&'f Path>),
    /// A package that was made from a file of another tuner: its files, the manifest that it was added to, and the
    /// notes.
    Imported(&'f [std::path::PathBuf], Option<&'f Path>, &'f [Note]),
    /// A bundle: its file, its size in bytes and its kernels.
    Bundled(&'f Path, u64, &'f [KernelRecord]),
    /// A winner that became the default of a manifest.
    Applied(&'f Kernel, &'f Settings, &'f Path, bool),
    /// An export of a package; after `--check` the stale files.
    Exported(&'f str, &'f Export, Option<&'f [String]>),
}

impl Output {
    /// An output in a format.
    pub fn new(format: Format, verbosity: Verbosity) -> Self {
        Self { format, verbosity }
    }

    /// Verbosity.
    pub fn verbosity(self) -> Verbosity {
        self.verbosity
    }

    /// This output with results as JSON lines.
    pub fn in_json(self) -> Self {
        Self { format: Format::Json, ..self }
    }

    /// Whether results are JSON lines.
    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// The reporter of events while a kernel is built, gated or searched.
    pub fn reporter<'k>(self, kernel: &'k Kernel) -> Box<dyn Reporter + 'k> {
        match self.format {
            Format::Json => Box::new(json::Json::new(kernel)),
            Format::Human => Box::new(Terminal::new(self.verbosity)),
        }
    }

    /// Writes a mistake in a manifest: to stderr, or as a message.
    pub fn diagnostic(self, diagnostic: &Diagnostic) {
        match self.format {
            Format::Json => json::write(Message::Diagnostic {
                level: diagnostic.severity,
                message: &diagnostic.message,
                spans: diagnostic.spans(),
                help: &diagnostic.help,
                rendered: diagnostic.render(false),
            }),
            Format::Human => super::to_stderr(&format!("{}\n\n", diagnostic.render(true))),
        }
    }

    /// Writes a status line, if the format is text and not quiet.
    pub fn status(self, verb: &str, what: impl Display) {
        self.status_from(Verbosity::Normal, verb, what);
    }

    /// Writes a status line, if the format is text with at least this verbosity.
    pub fn status_from(self, verbosity: Verbosity, verb: &str, what: impl Display) {
        if self.format == Format::Human && self.verbosity >= verbosity {
            report::status(verb, what);
        }
    }

    /// Writes a result.
    pub fn show(self, finding: &Finding<'_>) {
        match self.format {
            Format::Json => show_json(finding),
            Format::Human => self.show_text(finding),
        }
    }

    fn show_text(self, finding: &Finding<'_>) {
        let verbosity = self.verbosity;
        let is_verbose = verbosity == Verbosity::Verbose;
        match *finding {
            Finding::Space(kernel) => {
                let summary = report::check::summary(kernel);
                // A count that was not finished does not mean that there are too many variants.
                if !crate::interrupt::is_interrupted() {
                    out!("{summary}");
                }
            }
            Finding::Builds(builds) => out!("{}", report::builds::shown(builds, is_verbose)),
            Finding::ResourceDiff(diff) => outln!("{}", report::resource_diff::resource_diff(diff, is_verbose)),
            Finding::Gated(kernel, trial) => outln!("{}", report::gate::gated(trial, kernel, verbosity)),
            Finding::WithoutDevice(kernel, trial, arch) => {
                let label =
                    trial.candidate.label(kernel) + &arch.map_or_else(String::new, |arch| format!(" for {arch}"));
                outln!("{}", report::gate::without_device(trial, kernel, &label));
            }
            Finding::Passed(passed, total) => outln!("{passed} of {total} kernels pass"),
            Finding::SideBySide(entry) => {
                outln!("{}\n", report::bench::side_by_side(entry, verbosity).trim_end());
            }
            Finding::Profile(profile) => outln!("{}", report::profile::profiled(profile)),
            Finding::NotProfiled(kernel, evaluation) => {
                let why = evaluation.rejection().map(report::rejection).unwrap_or_default();
                outln!("{} {}: not profiled: {why}", report::title(kernel), evaluation.label());
            }
            Finding::Mutant(_, audited, _, width) => {
                out!("{}", report::audit::mutant(audited, width));
                if let Some(message) = report::audit::message(audited).filter(|_| is_verbose) {
                    outln!("{:>10}{message}", "");
                }
            }
            Finding::Audited(found) => out!("{}", report::audit::summary(found)),
            Finding::Unfit(kernel, evaluation) => {
                let why = evaluation.rejection().map(report::rejection).unwrap_or_default();
                report::error(format_args!(
                    "{} does not pass its own gates, so that an audit is not possible: {why}",
                    report::title(kernel)
                ));
            }
            Finding::FileDiff(diff, threshold) => {
                out!("{}", report::compare::compared(diff, threshold, is_verbose));
            }
            Finding::Tuned(tuned, kernel, path, flags) => {
                out!("{}", report::tuned::tuned(tuned, kernel, path, flags, verbosity));
            }
            Finding::Repeated(repeated) => out!("{}", report::repeated::repeated(repeated)),
            Finding::Merged(entry, missing, _) => out!("{}", report::merged::merged(entry, missing)),
            Finding::Portfolio(portfolio) => out!("{}", report::portfolio::portfolio(portfolio)),
            Finding::AllReplayed(all, overall, options) => {
                out!("{}", report::replay::table(all, overall, options));
            }
            Finding::Examined(found, needs) => out!("{}", report::doctor::examined(found, needs)),
            Finding::Bundled(path, bytes, kernels) => {
                for KernelRecord { package, kernel, archs, variants } in kernels {
                    let title = crate::text::kernel_name(package, kernel);
                    let archs = if archs.is_empty() { String::new() } else { format!(" for {}", archs.join(", ")) };
                    outln!("{title}: {}{archs}", report::count(*variants, "variant"));
                }
                outln!("{}: {:.1} MB", path.display(), bytes as f64 / 1e6);
            }
            Finding::Applied(kernel, toggles, manifest, changed) => {
                let how = if changed { "is the default in" } else { "was the default already in" };
                outln!("{}: {toggles} {how} {}", report::title(kernel), manifest.display());
            }
            Finding::Exported(package, export, stale) => {
                out!("{}", report::export::exported(package, export, stale));
            }
            Finding::Imported(_, _, notes) => notes.iter().for_each(|Note { place, what }| outln!("{place}: {what}")),
            Finding::Planned(_, plan) => out!("{}", report::plan::planned(plan)),
            // The table of all records has a row for each record; status lines name the files.
            Finding::Replayed(..) | Finding::Created(..) => {}
        }
    }
}

fn show_json(finding: &Finding<'_>) {
    match *finding {
        Finding::Space(kernel) => json::space(kernel),
        Finding::Builds(builds) => {
            for (evaluation, rejection) in report::builds::evaluations(builds) {
                let status = if rejection.is_some() { Status::Fail } else { Status::Pass };
                json::verdict(builds.builder.kernel, &evaluation, status, rejection);
            }
        }
        Finding::ResourceDiff(diff) => json::write(Message::Drift(diff)),
        Finding::Gated(kernel, trial) => {
            json::comparisons(kernel, trial);
            json::gated(kernel, trial);
        }
        Finding::WithoutDevice(kernel, Trial { evaluation, .. }, _) => {
            let rejection = evaluation.rejection();
            json::verdict(kernel, evaluation, if rejection.is_some() { Status::Fail } else { Status::Skip }, rejection);
        }
        Finding::SideBySide(entry) => json::write(Message::Bench(entry)),
        Finding::Profile(profile) => json::write(Message::Profile { variant: None, profile }),
        Finding::NotProfiled(kernel, evaluation) | Finding::Unfit(kernel, evaluation) => {
            json::verdict(kernel, evaluation, Status::Fail, evaluation.rejection());
        }
        Finding::Mutant(kernel, audited, (done, total), _) => json::mutant(kernel, audited, done, total),
        Finding::Audited(found) => json::audited(found),
        Finding::FileDiff(diff, _) => json::write(Message::Compared(diff)),
        Finding::Tuned(tuned, ..) => json::write(Message::Tuned(tuned)),
        Finding::Repeated(repeated) => json::write(Message::Repeated(repeated)),
        Finding::Merged(entry, missing, changed) => json::write(Message::Merged { changed, missing, entry }),
        Finding::Planned(kernel, Plan { first, most, seconds, .. }) => {
            json::write(Message::Planned { of: json::of(kernel), first, most: *most, seconds: *seconds });
        }
        Finding::Portfolio(portfolio) => json::write(Message::Portfolio(portfolio)),
        Finding::Replayed(replayed, options) => json::replayed(replayed, options),
        Finding::AllReplayed(_, overall, options) => json::overall(overall, options),
        Finding::Created(files, member_of) => {
            json::write(Message::Created { files, member_of });
        }
        Finding::Imported(files, member_of, notes) => json::write(Message::Imported { files, member_of, notes }),
        Finding::Examined(found, needs) => json::write(Message::Examined { found, needs }),
        Finding::Bundled(path, bytes, kernels) => json::write(Message::Bundled { path, bytes, kernels }),
        Finding::Applied(kernel, toggles, manifest, changed) => {
            json::write(Message::Applied { of: json::of(kernel), toggles, manifest, changed });
        }
        Finding::Exported(package, export, stale) => json::exported(package, export, stale),
        // Each kernel has had its verdict.
        Finding::Passed(..) => {}
    }
}

impl Builder<'_> {
    /// ` for sm_90a`; empty without an architecture.
    pub(super) fn target(&self) -> String {
        self.arch.as_ref().map_or_else(String::new, |arch| format!(" for {arch}"))
    }
}
