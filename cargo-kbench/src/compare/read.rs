//! The measurements of elite.json, journals and bench files in one form.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use kbench_runtime::protocol::LaunchMode;
use kbench_runtime::stats::Summary;
use serde::Serialize;
use serde_json::Value;

use super::Sizes;
use crate::compare::bench::{self, BenchFile};
use crate::config::DEFAULT;
use crate::file;
use crate::record::elite::{DeviceRecord, EliteFile, EliteVariant, TimingSettings};
use crate::record::evaluation::{BuildRecord, Judgement, TimingRecord};
use crate::record::journal::{self, EntryRole, Record, Start};
use crate::space::Settings;
use crate::text::kernel_name;

/// The name that stands for the best variant.
pub const BEST: &str = "best";

/// One variant or baseline at one shape on one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Package and kernel, as printed for users.
    pub kernel: String,
    /// Name of the shape.
    pub shape: String,
    /// Sizes of the shape; none if the file has none.
    pub dims: Option<Sizes>,
    /// The device.
    pub device: Device,
    /// State of the cache, `cold` or `hot`; none if the file does not name it.
    pub cache: Option<String>,
    /// Meaning of a sample; none if the file does not name it.
    pub launch: Option<LaunchMode>,
    /// `default`, `best`, toggles of the variant, or name of the baseline.
    pub name: String,
    /// Whether the entry is a variant of the kernel and not a baseline.
    pub is_variant: bool,
    /// Toggles of a variant; none if the file does not name them.
    pub toggles: Option<Settings>,
    /// Binary of a variant at this shape.
    pub build: Option<BuildRecord>,
    /// Measured time, or the reason why there is none.
    pub result: Result<Time, String>,
}

/// A device, with the properties that the file has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Device {
    /// Name of the device.
    pub name: String,
    /// Number of streaming multiprocessors, or of logical cores.
    pub multiprocessors: Option<u32>,
    /// CUDA driver version, or operating system.
    pub driver: Option<String>,
}

/// A measured time.
#[derive(Debug, Clone, PartialEq)]
pub struct Time {
    /// Clock of the measurement.
    pub clock: String,
    /// Median with its interval, in nanoseconds.
    pub summary: Summary,
    /// Samples in nanoseconds; empty if the file has none.
    pub samples: Vec<f64>,
    /// Whether the time comes from an earlier run.
    pub cached: bool,
}

/// Reads a file of any of the three kinds. Returns the number of damaged lines of a journal too.
pub fn read(path: &Path) -> io::Result<(Vec<Measured>, usize)> {
    // A damaged line of a journal may be no text.
    let bytes = file::read_named_bytes(path)?;
    let invalid = |error: serde_json::Error| file::invalid(path, error);
    if let Ok(value) = serde_json::from_slice::<Value>(&bytes)
        && value.get("record").is_none()
    {
        return match value.get("format").and_then(Value::as_str) {
            Some(bench::FORMAT) => {
                file::check_version(path, &value, bench::VERSION)?;
                Ok((of_bench(serde_json::from_slice(&bytes).map_err(invalid)?), 0))
            }
            None if value.get("kernels").is_some() => Ok((of_elite(EliteFile::read(path)?), 0)),
            _ => Err(unknown(path)),
        };
    }
    let lines: Vec<Option<Record>> = journal::records(&bytes).collect();
    let damaged = lines.iter().filter(|record| record.is_none()).count();
    if damaged == lines.len() {
        return Err(unknown(path));
    }
    Ok((of_journal(lines.into_iter().flatten()), damaged))
}

fn unknown(path: &Path) -> io::Error {
    file::invalid(path, "neither an elite.json, nor a journal, nor a file of `bench --save`")
}

impl From<DeviceRecord> for Device {
    fn from(device: DeviceRecord) -> Self {
        Self { name: device.name, multiprocessors: Some(device.multiprocessors), driver: Some(device.driver) }
    }
}

fn time(timing: TimingRecord, samples: Vec<f64>) -> Time {
    Time { clock: timing.clock, summary: timing.summary, samples, cached: false }
}

/// An entry of a kernel and shape, without a name and a result.
fn unnamed(kernel: String, shape: String, dims: Sizes, device: DeviceRecord, timing: TimingSettings) -> Measured {
    Measured {
        kernel,
        shape,
        dims: Some(dims),
        device: device.into(),
        cache: Some(timing.cache),
        launch: Some(timing.launch),
        name: String::new(),
        is_variant: false,
        toggles: None,
        build: None,
        result: Err(String::new()),
    }
}

fn build_for(builds: &[BuildRecord], shape: &str) -> Option<BuildRecord> {
    builds.iter().find(|build| build.shapes.iter().any(|served| served == shape)).cloned()
}

fn of_bench(file: BenchFile) -> Vec<Measured> {
    let mut all = Vec::new();
    for entry in file.kernels {
        let kernel = kernel_name(&entry.package, &entry.kernel);
        let common = unnamed(kernel, entry.shape, entry.dims, entry.device, entry.timing);
        all.extend(entry.entries.into_iter().map(|record| Measured {
            name: record.name,
            is_variant: record.toggles.is_some(),
            toggles: record.toggles,
            build: record.build,
            result: Ok(time(record.timing, record.samples)),
            ..common.clone()
        }));
        all.extend(entry.unavailable.into_iter().map(|(name, why)| Measured {
            is_variant: name == entry.candidate || name == DEFAULT,
            name,
            result: Err(why.to_string()),
            ..common.clone()
        }));
    }
    all
}

fn of_elite(file: EliteFile) -> Vec<Measured> {
    let mut all = Vec::new();
    for entry in file.kernels {
        let default = entry.baselines.iter().find_map(|baseline| baseline.toggles.clone());
        let kernel = kernel_name(&entry.package, &entry.kernel);
        let common = unnamed(kernel, entry.shape, entry.dims, entry.device, entry.timing);
        let is_default = |variant: &EliteVariant| {
            variant.source.is_none() && default.as_ref().is_some_and(|default| default.same(&variant.toggles))
        };
        let among_the_best = entry.elite.iter().any(is_default);
        for (rank, variant) in entry.elite.into_iter().enumerate() {
            let variant = Measured {
                name: if is_default(&variant) { DEFAULT.to_owned() } else { variant.label() },
                build: build_for(&variant.builds, &common.shape),
                is_variant: true,
                // Toggles of a proposed source differ from those of the table, so the entry is found by its name.
                toggles: Some(variant.toggles).filter(|_| variant.source.is_none()),
                result: Ok(time(variant.timing, Vec::new())),
                ..common.clone()
            };
            if rank == 0 {
                all.push(Measured { name: BEST.to_owned(), ..variant.clone() });
            }
            all.push(variant);
        }
        for baseline in entry.baselines.into_iter().filter(|baseline| baseline.toggles.is_none() || !among_the_best) {
            all.push(Measured {
                name: baseline.name,
                is_variant: baseline.toggles.is_some(),
                toggles: baseline.toggles,
                result: Ok(time(baseline.timing, Vec::new())),
                ..common.clone()
            });
        }
        all.extend(entry.unavailable.into_iter().map(|(name, why)| Measured {
            is_variant: name == DEFAULT,
            name,
            result: Err(why),
            ..common.clone()
        }));
    }
    all
}

/// The last run and the runs that it resumed; of two measurements of a variant, the later.
fn of_journal(records: impl Iterator<Item = Record>) -> Vec<Measured> {
    let mut start = Start::default();
    let mut all = Latest::default();
    // Labels of variants by key; those of one program share a key.
    let mut labels: HashMap<String, Vec<String>> = HashMap::new();
    for record in records {
        match record {
            Record::Start(begun) => {
                if !begun.goes_on() {
                    all = Latest::default();
                    labels.clear();
                }
                start = begun;
            }
            Record::Evaluation(evaluation) => {
                let label = evaluation.label();
                labels.entry(evaluation.key.clone()).or_default().push(label.clone());
                let result = match (evaluation.outcome, evaluation.timing) {
                    (Judgement::Passed, Some(timing)) => {
                        let cached = evaluation.cached;
                        Ok((timing.shape.clone(), Time { cached, ..time(timing, Vec::new()) }))
                    }
                    (Judgement::Passed, None) => continue,
                    (Judgement::Rejected(why), _) => Err(why.to_string()),
                };
                // A rejected variant has no time at any shape.
                let shapes = match &result {
                    Ok((shape, _)) => vec![shape.clone()],
                    Err(_) => start.shapes.keys().cloned().collect(),
                };
                for shape in shapes {
                    all.put(Measured {
                        build: build_for(&evaluation.builds, &shape),
                        is_variant: true,
                        toggles: Some(evaluation.toggles.clone()).filter(|_| evaluation.source.is_none()),
                        result: result.clone().map(|(_, time)| time),
                        ..started(&start, &label, &shape)
                    });
                }
            }
            Record::Comparison(comparison) => {
                // An entry that was measured twice for the noise floor appears once.
                for entry in comparison.entries.into_iter().filter(|entry| entry.role != EntryRole::Again) {
                    let new = started(&start, &entry.name, &entry.timing.shape);
                    let result = Ok(time(entry.timing, entry.samples));
                    // A variant was evaluated before its comparison; a baseline was not.
                    let measured = match all.get(&new) {
                        Some(old) => Measured { result, ..old.clone() },
                        None => Measured { result, ..new },
                    };
                    all.put(measured);
                }
            }
            Record::Revoked { key, rejection, .. } => {
                for label in labels.get(&key).into_iter().flatten() {
                    for shape in start.shapes.keys() {
                        all.reject(&started(&start, label, shape), &rejection.to_string());
                    }
                }
            }
            Record::Sanitized(_) | Record::Checked { .. } | Record::Round(_) | Record::End { .. } => {}
        }
    }
    let mut all = all.entries;
    let mut best: Vec<Measured> = Vec::new();
    for measured in all.iter().filter(|measured| measured.is_variant) {
        let Some(rank) = rank(measured) else { continue };
        let same = |other: &&mut Measured| other.shape == measured.shape && other.device == measured.device;
        match best.iter_mut().find(same) {
            Some(other) if self::rank(other).is_some_and(|other| other <= rank) => {}
            Some(other) => other.clone_from(measured),
            None => best.push(measured.clone()),
        }
    }
    all.extend(best.into_iter().map(|best| Measured { name: BEST.to_owned(), ..best }));
    all
}

/// Sort key of an entry: finalists, which were measured together, come before all others.
fn rank(measured: &Measured) -> Option<(bool, f64)> {
    let time = measured.result.as_ref().ok()?;
    Some((time.samples.is_empty(), time.summary.p50))
}

fn started(start: &Start, label: &str, shape: &str) -> Measured {
    let kernel = start
        .kernel
        .split_once('/')
        .map_or_else(|| start.kernel.clone(), |(package, kernel)| kernel_name(package, kernel));
    Measured {
        kernel,
        shape: shape.to_owned(),
        dims: start.shapes.get(shape).cloned(),
        device: Device { name: start.device.clone(), multiprocessors: None, driver: None },
        cache: start.timing.as_ref().map(|timing| timing.cache.clone()),
        launch: start.timing.as_ref().map(|timing| timing.launch),
        name: if label == start.default.to_string() { DEFAULT.to_owned() } else { label.to_owned() },
        is_variant: false,
        toggles: None,
        build: None,
        result: Err(String::new()),
    }
}

/// The last measurement for each name, shape and device, in the order of first appearance.
#[derive(Default)]
struct Latest {
    entries: Vec<Measured>,
    places: HashMap<[String; 3], usize>,
}

impl Latest {
    fn key(of: &Measured) -> [String; 3] {
        // A journal has only the names of devices.
        [of.name.clone(), of.shape.clone(), of.device.name.clone()]
    }

    fn get(&self, like: &Measured) -> Option<&Measured> {
        self.places.get(&Self::key(like)).map(|&place| &self.entries[place])
    }

    /// Gives the entry with the name, shape and device of `like`, if there is one, a rejection in place of its time.
    fn reject(&mut self, like: &Measured, why: &str) {
        if let Some(&place) = self.places.get(&Self::key(like)) {
            self.entries[place].result = Err(why.to_owned());
        }
    }

    fn put(&mut self, new: Measured) {
        let place = *self.places.entry(Self::key(&new)).or_insert(self.entries.len());
        if place == self.entries.len() {
            self.entries.push(new);
        } else {
            self.entries[place] = new;
        }
    }
}
