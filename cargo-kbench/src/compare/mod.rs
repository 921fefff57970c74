//! `cargo kbench compare`: lists the kernels that became faster or slower from one file to another, with the known
//! reasons.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kbench_runtime::stats::{Speedup, Summary};
use serde::Serialize;

use crate::config::DEFAULT;
use crate::gates::performance::{Verdict, is_noise, verdict_within};
use crate::record::evaluation::BuildRecord;
use crate::space::Settings;
use crate::text::dims;

pub use read::{BEST, Device, Measured, Time, read};

pub mod bench;
mod read;
pub mod resource_diff;
#[cfg(test)]
mod tests;

/// A difference of conditions that the user can allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Condition {
    /// Different devices
    Device,
    /// A shape of the same name with other sizes
    Dims,
    /// Another state of the cache, another way to launch, or another clock
    Timing,
}

/// Sizes of a shape by name.
pub type Sizes = BTreeMap<String, i64>;

/// Difference of two files.
#[derive(Debug, Clone, Default, Serialize, schemars::JsonSchema)]
pub struct FileDiff {
    /// Variants and baselines that both files have.
    pub rows: Vec<Row>,
    /// Variants of the old side only.
    pub only_old: Vec<Only>,
    /// Variants of the new side only.
    pub only_new: Vec<Only>,
}

/// One variant or baseline in both files.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct Row {
    /// The kernel.
    pub kernel: String,
    /// The shape.
    pub shape: String,
    /// The device of the new file.
    pub device: String,
    /// Name of the variant or baseline.
    pub name: String,
    /// Toggles of the variant in the new file.
    pub toggles: Option<Settings>,
    /// Median in nanoseconds in the old file.
    pub old: Summary,
    /// Median in nanoseconds in the new file; none if a gate rejected the variant.
    pub new: Option<Summary>,
    /// Old p50 over new p50 with its interval.
    pub speedup: Option<Speedup>,
    /// Verdict by the interval.
    pub verdict: Option<Verdict>,
    /// Whether the variant is certainly slower by more than the threshold, or rejected.
    pub regression: bool,
    /// Basis of the verdict, and other changes, in words.
    pub reasons: Vec<String>,
}

/// A variant or baseline in one file only.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct Only {
    /// The kernel.
    pub kernel: String,
    /// The shape.
    pub shape: String,
    /// The device.
    pub device: String,
    /// Name of the variant or baseline.
    pub name: String,
    /// Median in nanoseconds.
    pub p50: f64,
}

/// Default threshold of a regression, as a share of the old time.
pub const THRESHOLD: f64 = 0.01;

/// Largest difference that two runs of one program on one machine may have as `same`, as a share: addresses and clocks
/// differ between runs.
const MACHINE: f64 = 0.05;

/// Compares the contents of two files. The error lists the differences of conditions and the flag that allows them.
pub fn compare(
    old: &[Measured],
    new: &[Measured],
    allow: &[Condition],
    threshold: f64,
) -> Result<FileDiff, Vec<String>> {
    let places: BTreeSet<(&str, &str)> =
        old.iter().chain(new).map(|measured| (&*measured.kernel, &*measured.shape)).collect();
    let mut compared = FileDiff::default();
    let mut refused = BTreeSet::new();
    for (kernel, shape) in places {
        let here = |measured: &&Measured| measured.kernel == kernel && measured.shape == shape;
        let (old, new): (Vec<_>, Vec<_>) = (old.iter().filter(here).collect(), new.iter().filter(here).collect());
        let on_one_device = old.iter().any(|old| new.iter().any(|new| same_device(&old.device, &new.device)));
        if !on_one_device && !old.is_empty() && !new.is_empty() && !allow.contains(&Condition::Device) {
            let (old, new) = (devices(&old), devices(&new));
            refused.insert(format!("{kernel} at {shape}: OLD is of {old}, NEW is of {new}; --allow device"));
            continue;
        }
        let floor = noise_floor(&old, &new);
        let mut met = vec![false; new.len()];
        let named = places_by_name(&new);
        for before in &old {
            let mut alone = true;
            for place in names(before).iter().filter_map(|name| named.get(name)).flatten().collect::<BTreeSet<_>>() {
                let (after, met) = (new[*place], &mut met[*place]);
                if !same_name(before, after) || on_one_device && !same_device(&before.device, &after.device) {
                    continue;
                }
                (alone, *met) = (false, true);
                let differences = differences(before, after);
                let forbidden = differences.iter().filter(|(what, _)| !allow.contains(what));
                let before_refusals = refused.len();
                refused.extend(forbidden.map(|(what, how)| {
                    let flag = match what {
                        Condition::Device => "device",
                        Condition::Dims => "dims",
                        Condition::Timing => "timing",
                    };
                    format!("{kernel} at {shape}: {how}; --allow {flag}")
                }));
                if refused.len() == before_refusals {
                    let differences = differences.into_iter().map(|(_, how)| how).collect();
                    compared.add(before, after, differences, threshold, floor);
                }
            }
            if alone {
                compared.only_old.extend(only(before));
            }
        }
        let unmet = new.iter().zip(met).filter(|(_, met)| !met);
        compared.only_new.extend(unmet.filter_map(|(after, _)| only(after)));
    }
    if refused.is_empty() { Ok(compared) } else { Err(refused.into_iter().collect()) }
}

/// The verdict on a speed-up of NEW over OLD. `floor` is the noise floor of the measurements, if one is known.
fn judge(speedup: &Speedup, same_program: bool, threshold: f64, floor: Option<f64>) -> Verdict {
    let change = (speedup.ratio - 1.0).abs();
    if same_program {
        // A difference between two runs of one program is due to the machine.
        return if change <= threshold.max(MACHINE) { Verdict::Same } else { Verdict::Inconclusive };
    }
    match verdict_within(speedup, threshold) {
        Verdict::Faster | Verdict::Slower if is_noise(speedup.ratio, 1.0, floor) => Verdict::Inconclusive,
        verdict => verdict,
    }
}

impl FileDiff {
    fn add(
        &mut self,
        before: &Measured,
        after: &Measured,
        mut reasons: Vec<String>,
        threshold: f64,
        floor: Option<f64>,
    ) {
        let same_toggles = match (&before.toggles, &after.toggles) {
            (Some(before), Some(after)) => before.same(after),
            _ => true,
        };
        if before.name == BEST && same_toggles {
            // The best variant has a row of its own.
            return;
        }
        let Ok(old) = &before.result else { return self.only_new.extend(only(after)) };
        let mut row = Row {
            kernel: after.kernel.clone(),
            shape: after.shape.clone(),
            device: after.device.name.clone(),
            name: after.name.clone(),
            toggles: after.toggles.clone(),
            old: old.summary,
            new: None,
            speedup: None,
            verdict: None,
            regression: false,
            reasons: Vec::new(),
        };
        match &after.result {
            Err(_) if !after.is_variant => return self.only_old.extend(only(before)),
            Err(why) => {
                row.regression = true;
                reasons.insert(0, format!("rejected now: {why}"));
            }
            Ok(new) => {
                let (speedup, basis) = speedup(old, new);
                let same_program = is_same_program(before, after);
                let known = speedup.filter(|_| same_program || old.summary.n > 1 && new.summary.n > 1);
                let verdict =
                    known.map_or(Verdict::Inconclusive, |speedup| judge(&speedup, same_program, threshold, floor));
                row.new = Some(new.summary);
                row.speedup = speedup;
                row.verdict = Some(verdict);
                row.regression = after.is_variant
                    && verdict == Verdict::Slower
                    && speedup.is_some_and(|speedup| 1.0 / speedup.ratio > 1.0 + threshold);
                reasons.insert(0, basis);
                for (which, time) in [("OLD", old), ("NEW", new)] {
                    if time.cached {
                        reasons.push(format!("recalled in {which}"));
                    }
                }
            }
        }
        if let Some((before, after)) = before.toggles.as_ref().zip(after.toggles.as_ref()).filter(|_| !same_toggles) {
            reasons.push(format!("was {before}, is {after}"));
        }
        if let Some((before, after)) = before.build.as_ref().zip(after.build.as_ref()) {
            reasons.extend(code_changes(before, after));
        }
        let drivers = before.device.driver.as_ref().zip(after.device.driver.as_ref());
        if let Some((before, after)) = drivers.filter(|(before, after)| before != after) {
            reasons.push(format!("driver {before} → {after}"));
        }
        row.reasons = reasons;
        self.rows.push(row);
    }

    /// Number of rows with a verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict == Some(verdict)).count()
    }

    /// Number of rows that are slower than the threshold allows, or rejected.
    pub fn regressions(&self) -> usize {
        self.rows.iter().filter(|row| row.regression).count()
    }
}

/// Whether two measurements are of the same machine code with the same toggles.
fn is_same_program(old: &Measured, new: &Measured) -> bool {
    let same_toggles = old.toggles.as_ref().zip(new.toggles.as_ref()).is_none_or(|(old, new)| old.same(new));
    let same_code =
        old.build.as_ref().zip(new.build.as_ref()).is_some_and(|(old, new)| old.binary_hash == new.binary_hash);
    same_toggles && same_code && old.device.driver == new.device.driver && differences(old, new).is_empty()
}

/// Largest difference between the two runs of equal programs, by the farthest end of an interval; none if no programs
/// are equal.
fn noise_floor(old: &[&Measured], new: &[&Measured]) -> Option<f64> {
    let pairs = old.iter().flat_map(|old| new.iter().map(move |new| (old, new)));
    let same = pairs.filter(|(old, new)| same_name(old, new) && is_same_program(old, new));
    let speedups =
        same.filter_map(|(before, after)| speedup(before.result.as_ref().ok()?, after.result.as_ref().ok()?).0);
    speedups.map(|speedup| (speedup.high - 1.0).max(1.0 - speedup.low)).reduce(f64::max)
}

/// The speed-up from old to new, and its basis in words.
fn speedup(old: &Time, new: &Time) -> (Option<Speedup>, String) {
    let paired = Speedup::unpaired(&old.samples, &new.samples);
    let samples = format!("{} and {} samples", old.samples.len(), new.samples.len());
    let (old, new) = (&old.summary, &new.summary);
    if let Some(Speedup { ratio, low, high }) = paired {
        // Samples that may be too long widen the intervals of the medians at their lower ends.
        let (low, high) = (low.min(old.p50_low / new.p50), high.max(old.p50 / new.p50_low));
        return (Some(Speedup { ratio, low, high }), samples);
    }
    if !(old.p50_low > 0.0 && new.p50_low > 0.0) {
        return (None, "a time of 0 has no ratio".to_owned());
    }
    // The interval of the ratio uses the opposite ends of the two intervals.
    let speedup =
        Speedup { ratio: old.p50 / new.p50, low: old.p50_low / new.p50_high, high: old.p50_high / new.p50_low };
    if old.n == 1 || new.n == 1 {
        return (Some(speedup), "one sample has no interval".to_owned());
    }
    let apart = old.p50_low > new.p50_high || new.p50_low > old.p50_high;
    (Some(speedup), format!("intervals {}", if apart { "apart" } else { "overlap" }))
}

/// Conditions that differ between two measurements.
fn differences(old: &Measured, new: &Measured) -> Vec<(Condition, String)> {
    let mut found = Vec::new();
    if !same_device(&old.device, &new.device) {
        found.push((Condition::Device, format!("OLD is of {}, NEW is of {}", of(&old.device), of(&new.device))));
    }
    if old.dims.is_none() || old.dims != new.dims {
        let sizes = |sizes: &Option<Sizes>| sizes.as_ref().map_or_else(|| "unknown sizes".to_owned(), dims);
        found.push((Condition::Dims, format!("OLD has {}, NEW has {}", sizes(&old.dims), sizes(&new.dims))));
    }
    let cache = |measured: &Measured| measured.cache.clone().unwrap_or_else(|| "unknown".to_owned());
    if old.cache.is_none() || old.cache != new.cache {
        found.push((Condition::Timing, format!("the cache is {} in OLD, {} in NEW", cache(old), cache(new))));
    }
    if let (Some(old), Some(new)) = (old.launch, new.launch)
        && old != new
    {
        found.push((Condition::Timing, format!("`timing.launch` is {} in OLD, {} in NEW", old.name(), new.name())));
    }
    if let (Ok(old), Ok(new)) = (&old.result, &new.result)
        && old.clock != new.clock
    {
        found.push((Condition::Timing, format!("the clock is {} in OLD, {} in NEW", old.clock, new.clock)));
    }
    found
}

/// Differences between the code of two builds, in words.
fn code_changes(old: &BuildRecord, new: &BuildRecord) -> Vec<String> {
    if old.binary_hash == new.binary_hash {
        return vec!["same binary".to_owned()];
    }
    let mut changes = Vec::new();
    if old.source_hash != new.source_hash {
        changes.push("source changed".to_owned());
    }
    if old.compiler != new.compiler {
        changes.push(format!("compiler {} → {}", old.compiler, new.compiler));
    }
    for (what, old, new) in [
        ("registers", old.resources.registers, new.resources.registers),
        ("static shared", old.resources.static_shared, new.resources.static_shared),
        ("spills", old.resources.spills(), new.resources.spills()),
        ("stack", old.resources.stack, new.resources.stack),
        ("code", old.resources.code_bytes, new.resources.code_bytes),
    ] {
        if let Some((old, new)) = old.zip(new).filter(|(old, new)| old != new) {
            changes.push(format!("{what} {old} → {new}"));
        }
    }
    changes
}

/// Whether two devices are the same, by name, and by the other properties if both files have them.
fn same_device(old: &Device, new: &Device) -> bool {
    let cores = old.multiprocessors.zip(new.multiprocessors);
    old.name == new.name && cores.is_none_or(|(old, new)| old == new)
}

/// The names by which an entry is found. Two entries that [`same_name`] accepts share one of them.
fn names(measured: &Measured) -> Vec<String> {
    let sorted = measured.toggles.as_ref().map(|toggles| {
        let mut settings: Vec<String> = toggles.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        settings.sort();
        settings.join(" ")
    });
    [measured.name.clone()].into_iter().chain(sorted).collect()
}

/// Indices in a list by [names].
fn places_by_name(list: &[&Measured]) -> HashMap<String, Vec<usize>> {
    let mut places: HashMap<String, Vec<usize>> = HashMap::new();
    for (place, measured) in list.iter().enumerate() {
        for name in names(measured) {
            places.entry(name).or_default().push(place);
        }
    }
    places
}

fn same_name(old: &Measured, new: &Measured) -> bool {
    let role = |measured: &Measured| [DEFAULT, BEST].contains(&measured.name.as_str());
    let toggles = old.toggles.as_ref().zip(new.toggles.as_ref()).filter(|_| !role(old) && !role(new));
    // By value, since the table's order of toggles may have changed.
    old.name == new.name || toggles.is_some_and(|(old, new)| old.same(new))
}

fn only(measured: &Measured) -> Option<Only> {
    let time = measured.result.as_ref().ok().filter(|_| measured.name != BEST)?;
    Some(Only {
        kernel: measured.kernel.clone(),
        shape: measured.shape.clone(),
        device: measured.device.name.clone(),
        name: measured.name.clone(),
        p50: time.summary.p50,
    })
}

fn of(device: &Device) -> String {
    match device.multiprocessors {
        Some(cores) => format!("{} with {cores} processors", device.name),
        None => device.name.clone(),
    }
}

fn devices(measured: &[&Measured]) -> String {
    let names: BTreeSet<String> = measured.iter().map(|measured| of(&measured.device)).collect();
    names.into_iter().collect::<Vec<_>>().join(" and ")
}
