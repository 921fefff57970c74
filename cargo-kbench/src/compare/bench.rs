//! One variant side by side with the default and the baselines, and the file that keeps it for `compare`.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use kbench_runtime::protocol::DeviceInfo;
use serde::{Deserialize, Serialize};

use crate::config::{BaselineKind, DEFAULT};
use crate::evaluate::{Entrant, RunError, Workbench};
use crate::file;
use crate::record::elite::{DeviceRecord, TimingSettings};
use crate::record::evaluation::{BuildRecord, Evaluation, Rejection, TimingRecord};
use crate::space::Settings;
use crate::tune::Comparison;

/// What the file calls itself.
pub const FORMAT: &str = "kbench-bench";

/// The version of the file.
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchEntry {
    /// Cargo package.
    pub package: String,
    /// Kernel.
    pub kernel: String,
    /// The device that everything here was measured on.
    pub device: DeviceRecord,
    /// Shape.
    pub shape: String,
    /// Its sizes.
    pub dims: BTreeMap<String, i64>,
    /// How times were taken.
    pub timing: TimingSettings,
    /// The name of the variant that was asked for.
    pub candidate: String,
    /// What was measured, the candidate first.
    pub entries: Vec<BenchRecord>,
    /// What was not, and why.
    pub unavailable: BTreeMap<String, Rejection>,
    /// What gates at level `warn` found.
    pub warnings: Vec<String>,
    /// UTC, RFC 3339.
    pub date: String,
    /// Version of cargo-kbench.
    pub kbench: String,
}

/// One of the kernels measured together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchRecord {
    /// The variant's label, `default`, or the baseline's name.
    pub name: String,
    /// A variant's toggles; none for a baseline.
    pub toggles: Option<Settings>,
    /// Its time.
    pub timing: TimingRecord,
    /// Speed-up of the candidate over it; none for the candidate itself.
    pub speedup: Option<Comparison>,
    /// 10^12 floating-point operations a second, where the table says how many there are.
    pub tflops: Option<f64>,
    /// 10^9 bytes a second, where the table says how many are moved.
    pub gbytes: Option<f64>,
    /// A variant's binary at this shape.
    pub build: Option<BuildRecord>,
    /// Nanoseconds a launch; sample i of every entry was taken in the same round.
    pub samples: Vec<f64>,
}

impl BenchEntry {
    /// Why there is no number of the candidate.
    pub fn rejection(&self) -> Option<&Rejection> {
        self.unavailable.get(&self.candidate)
    }
}

impl BenchFile {
    /// A file of these entries.
    pub fn new(kernels: Vec<BenchEntry>) -> Self {
        Self { format: FORMAT.to_owned(), version: VERSION, kernels }
    }

    /// Writes the file whole or not at all.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        file::write(path, (serde_json::to_string(self)? + "\n").as_bytes())
    }
}

/// A kernel on the bench with what is known of its variants.
pub struct SideBySide<'a, 'b> {
    bench: &'b mut Workbench<'a>,
    device: &'b DeviceInfo,
    tried: HashMap<String, Evaluation>,
}

impl<'a, 'b> SideBySide<'a, 'b> {
    /// On an open bench.
    pub fn new(bench: &'b mut Workbench<'a>, device: &'b DeviceInfo) -> Self {
        Self { bench, device, tried: HashMap::new() }
    }

    /// Measures `candidate`, the default and the baselines at a shape, one sample of each in turn. Each variant has passed
    /// gates 1 and 2 before; what has not is named, and not measured.
    pub fn measure(&mut self, shape: usize, candidate: &Entrant) -> Result<BenchEntry, RunError> {
        let kernel = self.bench.kernel;
        let place = &kernel.shapes[shape];
        let mut entry = BenchEntry {
            package: kernel.package.clone(),
            kernel: kernel.name.clone(),
            device: self.device.into(),
            shape: place.name.clone(),
            dims: place.dims.iter().cloned().collect(),
            timing: (&kernel.timing).into(),
            candidate: self.name(candidate),
            entries: Vec::new(),
            unavailable: BTreeMap::new(),
            warnings: Vec::new(),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            kbench: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let default = &kernel.space.default;
        let mut entrants = vec![candidate.clone()];
        if !matches!(candidate, Entrant::Variant(variant) if variant == default) {
            entrants.push(Entrant::Variant(default.clone()));
        }
        entrants.extend((0..kernel.baselines.len()).map(Entrant::Baseline));
        let mut right = Vec::new();
        for entrant in entrants {
            let name = self.name(&entrant);
            let variant = match &entrant {
                Entrant::Baseline(index) => match &kernel.baselines[*index].kind {
                    BaselineKind::Variant(variant) => Some(Entrant::Variant(variant.clone())),
                    _ => None,
                },
                variant => Some(variant.clone()),
            };
            let rejection = match variant {
                Some(variant) => {
                    let evaluation = self.evaluation(&variant)?;
                    entry.warnings.extend(evaluation.warnings.iter().map(|warning| format!("{name}: {warning}")));
                    evaluation.rejection().cloned()
                }
                None => None,
            };
            match rejection {
                Some(rejection) => drop(entry.unavailable.insert(name, rejection)),
                None => right.push((entrant, name)),
            }
            if entry.rejection().is_some() {
                // The others were wanted only to stand beside it.
                return Ok(entry);
            }
        }
        let (right, names): (Vec<Entrant>, Vec<String>) = right.into_iter().unzip();
        let compared = self.bench.compare(shape, &right)?;
        entry.warnings.extend(compared.warnings.iter().cloned());
        let label = self.bench.entrant_name(candidate);
        for (entrant, name) in right.iter().zip(names) {
            let measured_as = self.bench.entrant_name(entrant);
            let Some(measured) = compared.entry(&measured_as) else {
                entry.unavailable.extend(compared.unavailable.get(&measured_as).map(|why| (name, why.clone())));
                continue;
            };
            let variant = match entrant {
                Entrant::Variant(variant) | Entrant::Proposed(_, variant) => Some(variant),
                Entrant::Baseline(_) | Entrant::Again(_) => None,
            };
            let tried = variant.and_then(|_| self.tried.get(&measured_as));
            let builds = tried.map(|evaluation| &evaluation.builds);
            let (flops, bytes) = self.bench.builder.point(kernel, shape, variant.unwrap_or(default)).work();
            let p50 = measured.timing.summary.p50;
            entry.entries.push(BenchRecord {
                toggles: variant.map(|variant| kernel.space.settings(variant)),
                timing: measured.timing.clone(),
                speedup: Comparison::of(&compared, &label, &measured_as).filter(|_| name != entry.candidate),
                // Operations a nanosecond are 10^9 a second.
                tflops: flops.map(|flops| flops / p50 / 1e3),
                gbytes: bytes.map(|bytes| bytes / p50),
                build: builds
                    .and_then(|builds| builds.iter().find(|build| build.shapes.contains(&place.name)))
                    .cloned(),
                samples: measured.samples.clone(),
                name,
            });
        }
        Ok(entry)
    }

    fn name(&self, entrant: &Entrant) -> String {
        match entrant {
            Entrant::Variant(variant) if *variant == self.bench.kernel.space.default => DEFAULT.to_owned(),
            entrant => self.bench.entrant_name(entrant),
        }
    }

    /// What gates 1 and 2 say of a variant, asked once.
    fn evaluation(&mut self, entrant: &Entrant) -> Result<&Evaluation, RunError> {
        let (source, variant) = match entrant {
            Entrant::Variant(variant) => (None, variant),
            Entrant::Proposed(source, variant) => (Some(source), variant),
            Entrant::Baseline(_) | Entrant::Again(_) => unreachable!("judged where it is compared"),
        };
        let label = self.bench.entrant_name(entrant);
        if !self.tried.contains_key(&label) {
            let evaluation = self.bench.on(source, |bench| {
                let attempt = bench.builder.build(variant)?;
                bench.evaluate(variant, attempt, None)
            })?;
            self.tried.insert(label.clone(), evaluation);
        }
        Ok(&self.tried[&label])
    }
}
