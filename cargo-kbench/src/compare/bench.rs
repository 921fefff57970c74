//! Measures one variant side by side with the default and the baselines, and writes the file for `compare`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::{BaselineKind, DEFAULT};
use crate::evaluate::{evaluate, try_build};
use crate::file;
use crate::gates::performance::{Controls, Entrant, EntrantId, JudgedSpeedup, compare, controls};
use crate::harness::{Candidate, Harness, RunError, caught};
use crate::record::elite::{DeviceRecord, TimingSettings};
use crate::record::evaluation::{BuildRecord, Evaluation, Rejection, TimingRecord};
use crate::record::journal::ComparisonEntry;
use crate::space::Settings;
use crate::text;

/// Name of the format in the file.
pub const FORMAT: &str = "kbench-bench";

/// Version of the format.
pub const VERSION: u32 = 1;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchFile {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// One entry for each kernel and shape.
    pub kernels: Vec<BenchEntry>,
}

/// Kernels measured together at one shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchEntry {
    /// Cargo package.
    pub package: String,
    /// Kernel.
    pub kernel: String,
    /// The device of all measurements.
    pub device: DeviceRecord,
    /// Name of the shape.
    pub shape: String,
    /// Sizes of the shape by dimension.
    pub dims: BTreeMap<String, i64>,
    /// Settings of timing.
    pub timing: TimingSettings,
    /// Name of the requested variant.
    pub candidate: String,
    /// The measured kernels, the requested variant first.
    pub entries: Vec<BenchRecord>,
    /// Kernels without a measurement, with the reason.
    pub unavailable: BTreeMap<String, Rejection>,
    /// Largest relative difference between measurements of identical machine code, 0.004 for 0.4 %; none if nothing was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_floor: Option<f64>,
    /// Findings of gates at level `warn`.
    pub warnings: Vec<String>,
    /// The controls of the candidate's time; only with `-v`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controls: Option<Controls>,
    /// Date of the measurement, UTC, RFC 3339.
    pub date: String,
    /// Version of cargo-kbench.
    pub kbench: String,
}

/// One of the kernels measured together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchRecord {
    /// Label of the variant, `default`, or name of the baseline.
    pub name: String,
    /// Toggles of a variant; none for a baseline.
    pub toggles: Option<Settings>,
    /// Median time with its interval.
    pub timing: TimingRecord,
    /// Speed-up of the candidate over this kernel; none for the candidate itself.
    pub speedup: Option<JudgedSpeedup>,
    /// 10^12 floating-point operations a second; none if the table states no operations.
    pub tflops: Option<f64>,
    /// 10^9 bytes a second; none if the table states no bytes.
    pub gbytes: Option<f64>,
    /// Binary of a variant at this shape; none for a baseline.
    pub build: Option<BuildRecord>,
    /// Samples in nanoseconds a launch; sample i of every entry was taken in the same round.
    pub samples: Vec<f64>,
}

impl BenchEntry {
    /// Reason why the candidate has no time.
    pub fn rejection(&self) -> Option<&Rejection> {
        self.unavailable.get(&self.candidate)
    }
}

impl BenchFile {
    /// A file of these entries.
    pub fn new(kernels: Vec<BenchEntry>) -> Self {
        Self { format: FORMAT.to_owned(), version: VERSION, kernels }
    }

    /// Writes the file completely or leaves the old one.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        file::write(path, (serde_json::to_string(self)? + "\n").as_bytes())
    }
}

/// A kernel on an open device, with the evaluations of its candidates.
pub struct SideBySide<'a, 'b> {
    harness: &'b mut Harness<'a>,
    tried: Vec<(Candidate, Evaluation)>,
}

impl<'a, 'b> SideBySide<'a, 'b> {
    /// Side-by-side measurements on an open device.
    pub fn new(harness: &'b mut Harness<'a>) -> Self {
        Self { harness, tried: Vec::new() }
    }

    /// Measures `candidate`, the default and the baselines at a shape, one sample of each in turn. Each kernel has to
    /// pass the gates up to correctness first; a kernel that fails is named and not measured. With `with_controls` the
    /// [`Controls`] of the candidate are measured too.
    pub fn measure(
        &mut self,
        shape: usize,
        candidate: &Candidate,
        with_controls: bool,
    ) -> Result<BenchEntry, RunError> {
        let kernel = self.harness.kernel();
        let place = &kernel.shapes[shape];
        let mut entry = BenchEntry {
            package: kernel.package.clone(),
            kernel: kernel.name.clone(),
            device: (&self.harness.context.device).into(),
            shape: place.name.clone(),
            dims: place.dims.iter().cloned().collect(),
            timing: (&kernel.timing).into(),
            candidate: self.name(&candidate.clone().into()),
            entries: Vec::new(),
            unavailable: BTreeMap::new(),
            noise_floor: None,
            warnings: Vec::new(),
            controls: None,
            date: text::now(),
            kbench: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let right = self.right_entrants(candidate, &mut entry)?;
        if entry.rejection().is_some() {
            return Ok(entry);
        }
        let mut entrants = right.clone();
        if right.len() > 1 {
            // The difference of identical machine code is the noise floor.
            entrants.insert(1, Entrant::Again(candidate.clone()));
        }
        let compared = compare(self.harness, shape, &entrants)?;
        entry.noise_floor = compared.noise_floor();
        entry.warnings.extend(compared.warnings.iter().cloned());
        let asked = EntrantId::from(candidate.clone());
        for entrant in &right {
            let id = entrant.id();
            match compared.entry(&id) {
                Some(measured) => {
                    let speedup = JudgedSpeedup::of(&compared, &asked, &id).filter(|_| id != asked);
                    entry.entries.push(self.record(shape, entrant, measured, speedup));
                }
                None => entry.unavailable.extend(compared.rejection(&id).map(|why| (self.name(&id), why.clone()))),
            }
        }
        if with_controls {
            match caught(controls(self.harness, shape, candidate))? {
                Ok(controls) => entry.controls = Some(controls),
                Err(why) => entry.warnings.push(format!("no second clock and no inputs of zeros: {why}")),
            }
        }
        Ok(entry)
    }

    /// The entrants that passed the gates up to correctness; `entry` gets the rejections of the others, and all
    /// warnings. Ends early if the candidate is rejected: the others are measured only for comparison with it.
    fn right_entrants(&mut self, candidate: &Candidate, entry: &mut BenchEntry) -> Result<Vec<Entrant>, RunError> {
        let kernel = self.harness.kernel();
        let default = &kernel.space.default;
        let mut entrants = vec![Entrant::Candidate(candidate.clone())];
        if !candidate.is(default) {
            entrants.push(Entrant::Candidate(default.into()));
        }
        entrants.extend((0..kernel.baselines.len()).map(Entrant::Baseline));
        let mut right = Vec::new();
        for entrant in entrants {
            let name = self.name(&entrant.id());
            let judged = match &entrant {
                Entrant::Baseline(index) => match &kernel.baselines[*index].kind {
                    BaselineKind::Variant(variant) => Some(variant.into()),
                    _ => None,
                },
                Entrant::Candidate(candidate) | Entrant::Again(candidate) => Some(candidate.clone()),
            };
            let rejection = match judged {
                Some(candidate) => {
                    let evaluation = self.evaluation(&candidate)?;
                    entry.warnings.extend(evaluation.warnings.iter().map(|warning| format!("{name}: {warning}")));
                    evaluation.rejection().cloned()
                }
                None => None,
            };
            match rejection {
                Some(rejection) => drop(entry.unavailable.insert(name, rejection)),
                None => right.push(entrant),
            }
            if entry.rejection().is_some() {
                break;
            }
        }
        Ok(right)
    }

    /// The record of a measured entrant. `speedup` is that of the candidate over the entrant.
    fn record(
        &self,
        shape: usize,
        entrant: &Entrant,
        measured: &ComparisonEntry,
        speedup: Option<JudgedSpeedup>,
    ) -> BenchRecord {
        let kernel = self.harness.kernel();
        let of_kernel = match entrant {
            Entrant::Candidate(candidate) => Some(candidate),
            Entrant::Baseline(_) | Entrant::Again(_) => None,
        };
        let variant = of_kernel.map(|candidate| &candidate.variant);
        let builds = of_kernel.and_then(|candidate| self.known(candidate)).map(|evaluation| &evaluation.builds);
        let serves = |build: &&BuildRecord| build.shapes.contains(&kernel.shapes[shape].name);
        let (flops, bytes) = self.harness.context.point(shape, variant.unwrap_or(&kernel.space.default)).work();
        let p50 = measured.timing.summary.p50;
        BenchRecord {
            name: self.name(&entrant.id()),
            toggles: variant.map(|variant| kernel.space.settings(variant)),
            timing: measured.timing.clone(),
            speedup,
            // Operations a nanosecond are 10^9 operations a second.
            tflops: flops.map(|flops| flops / p50 / 1e3),
            gbytes: bytes.map(|bytes| bytes / p50),
            build: builds.and_then(|builds| builds.iter().find(serves)).cloned(),
            samples: measured.samples.clone(),
        }
    }

    fn name(&self, id: &EntrantId) -> String {
        let kernel = self.harness.kernel();
        match id {
            EntrantId::Candidate(candidate) if candidate.is_default(kernel) => DEFAULT.to_owned(),
            id => id.name(kernel),
        }
    }

    /// The evaluation of a candidate by the gates up to correctness, which is made once.
    fn evaluation(&mut self, candidate: &Candidate) -> Result<&Evaluation, RunError> {
        if self.known(candidate).is_none() {
            let outcome = try_build(&self.harness.context.builder, candidate)?;
            let evaluation = evaluate(self.harness, candidate, outcome, None)?;
            self.tried.push((candidate.clone(), evaluation));
        }
        Ok(self.known(candidate).expect("evaluated above"))
    }

    fn known(&self, candidate: &Candidate) -> Option<&Evaluation> {
        self.tried.iter().find(|(tried, _)| tried == candidate).map(|(_, evaluation)| evaluation)
    }
}
