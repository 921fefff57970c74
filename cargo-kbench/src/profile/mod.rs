//! The bottleneck of one variant at one shape: hardware counters if they can be read, the roofline if the table has
//! `work`, and advice.

use std::collections::BTreeMap;

use kbench_runtime::protocol::Counts;
use serde::{Serialize, Serializer};

use crate::config::counters::{Condition, ROOFLINE_COMPUTE, ROOFLINE_MEMORY, full_name};
use crate::record::elite::DeviceRecord;
use crate::record::evaluation::{SourceRecord, TimingRecord};
use crate::space::Settings;
pub use diagnosis::{Diagnosis, diagnose};
pub use roofline::{Roofline, Share};

pub mod ceilings;
mod diagnosis;
pub mod ncu;
mod roofline;

/// Metrics of every profile, by the names of the table: the input of [`diagnose`].
pub const METRICS: [&str; 18] = [
    "sm__pipe_tensor_cycles_active",
    "dram__throughput",
    "sm__throughput",
    "lts__throughput",
    "l1tex__throughput",
    "sm__warps_active",
    "sm__maximum_warps_per_active_cycle_pct",
    "launch__waves_per_multiprocessor",
    "dram__bytes_read",
    "dram__bytes_write",
    "l1tex__data_bank_conflicts_pipe_lsu",
    "sm__ops_path_tensor_src_fp8",
    "sm__ops_path_tensor_src_fp16",
    "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active",
    "smsp__average_warps_issue_stalled_barrier_per_issue_active",
    "smsp__average_warps_issue_stalled_short_scoreboard_per_issue_active",
    "smsp__average_warps_issue_stalled_math_pipe_throttle_per_issue_active",
    DURATION,
];

/// Time of the launch under the profiler, in nanoseconds. It is not a measurement of the kernel: the profiler changes
/// caches and clocks and replays launches.
pub const DURATION: &str = "gpu__time_duration";

/// One number of a profiler.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Metric {
    /// Full name.
    pub name: String,
    /// Value in the base unit of the metric.
    pub value: f64,
    /// Unit; empty for a count.
    pub unit: String,
}

/// Counters of a launch.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Counted {
    /// Profiler: `ncu` or `perf_event`.
    pub by: String,
    /// The metrics, in the requested order. Of several launches, the metrics of the longest.
    pub metrics: Vec<Metric>,
    /// Function of the longest launch, if ncu saw several launches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch: Option<String>,
    /// Metrics of every launch, in order, if ncu saw several launches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub launches: Vec<LaunchCounts>,
}

/// Metrics of one of several launches.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct LaunchCounts {
    /// Function of the launch.
    pub entry: String,
    /// The metrics, in the requested order.
    pub metrics: Vec<Metric>,
}

impl Counted {
    /// Value of a metric, by its short or full name.
    pub fn value(&self, name: &str) -> Option<f64> {
        let name = full_name(name);
        self.metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value)
    }

    /// Metrics of the launches of these functions, from ncu.
    pub fn of_launches(entries: &[String], launches: Vec<Vec<Metric>>) -> Self {
        let by = "ncu".to_owned();
        let launches = entries.iter().zip(launches);
        let mut launches: Vec<LaunchCounts> =
            launches.map(|(entry, metrics)| LaunchCounts { entry: entry.clone(), metrics }).collect();
        if launches.len() == 1 {
            return Self { by, metrics: launches.remove(0).metrics, launch: None, launches };
        }
        let name = full_name(DURATION);
        let duration = |launch: &&LaunchCounts| {
            launch.metrics.iter().find(|metric| metric.name == name).map_or(0.0, |metric| metric.value)
        };
        let longest = launches.iter().max_by(|a, b| duration(a).total_cmp(&duration(b)));
        let (launch, metrics) = longest.map(|longest| (longest.entry.clone(), longest.metrics.clone())).unzip();
        Self { by, metrics: metrics.unwrap_or_default(), launch, launches }
    }

    /// The counters of a CPU.
    pub fn of_cpu(counts: &Counts) -> Self {
        let per_cycle = counts.cycles.filter(|&cycles| cycles > 0);
        let per_cycle = per_cycle.map(|cycles| counts.instructions as f64 / cycles as f64);
        let number = |count: Option<u64>| count.map(|count| count as f64);
        let metrics = [
            ("perf__instructions", Some(counts.instructions as f64)),
            ("perf__cycles", number(counts.cycles)),
            ("perf__instructions_per_cycle", per_cycle),
            ("perf__cache_misses", number(counts.cache_misses)),
            ("perf__branch_misses", number(counts.branch_misses)),
        ];
        let metric = |(name, value): (&str, Option<f64>)| {
            Some(Metric { name: name.to_owned(), value: value?, unit: String::new() })
        };
        let metrics = metrics.into_iter().filter_map(metric).collect();
        Self { by: "perf_event".to_owned(), metrics, launch: None, launches: Vec::new() }
    }
}

/// Profile of one variant at one shape.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Profile {
    /// Cargo package.
    pub package: String,
    /// Kernel.
    pub kernel: String,
    /// The device.
    pub device: DeviceRecord,
    /// Shape.
    pub shape: String,
    /// Sizes of the shape by dimension.
    pub dims: BTreeMap<String, i64>,
    /// The variant.
    pub toggles: Settings,
    /// The source, if a proposer wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRecord>,
    /// Median time with its interval, measured without a profiler.
    pub timing: TimingRecord,
    /// State of the cache before each sample: `cold` or `hot`.
    pub cache: String,
    /// The counters, or the reason why there are none.
    #[serde(serialize_with = "or_unavailable")]
    #[schemars(with = "Available<Counted>")]
    pub counters: Result<Counted, String>,
    /// The roofline, or the reason why there is none.
    #[serde(serialize_with = "or_unavailable")]
    #[schemars(with = "Available<Roofline>")]
    pub roofline: Result<Roofline, String>,
    /// The bottleneck.
    pub diagnosis: Diagnosis,
}

/// A value, or the reason why there is none.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(untagged)]
enum Available<T> {
    Yes(T),
    No { unavailable: String },
}

fn or_unavailable<T: Serialize, S: Serializer>(value: &Result<T, String>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Ok(value) => Available::Yes(value),
        Err(why) => Available::No { unavailable: why.clone() },
    }
    .serialize(serializer)
}

/// Source of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The counters.
    Counters,
    /// The roofline, if the table names it or there are no counters.
    Roofline,
}

impl Profile {
    /// The value of a condition's metric; the error is the reason why there is none.
    ///
    /// Without counters the roofline estimates three metrics: its share of the tensor peak replaces the activity of the
    /// tensor pipe, its share of the peak replaces that of the SM, and its share of the copy bandwidth replaces the
    /// throughput of DRAM.
    pub fn value(&self, condition: &Condition) -> Result<(f64, Source), String> {
        let share = |pick: fn(&Roofline) -> Option<&Share>, key: &str| match &self.roofline {
            Ok(roofline) => pick(roofline)
                .map(|share| (share.percent, Source::Roofline))
                .ok_or_else(|| format!("`work.{key}` is not in the table, or this device has no ceiling for it")),
            Err(why) => Err(why.clone()),
        };
        let compute = || share(|roofline| roofline.compute.as_ref(), "flops");
        let memory = || share(|roofline| roofline.memory.as_ref(), "bytes");
        match (condition.metric.as_str(), &self.counters) {
            (ROOFLINE_COMPUTE, _) => compute(),
            (ROOFLINE_MEMORY, _) => memory(),
            (metric, Ok(counted)) => counted
                .value(metric)
                .map(|value| (value, Source::Counters))
                .ok_or_else(|| format!("{} does not know it on this device", counted.by)),
            (metric, Err(why)) => {
                let stands_in = match metric.split('.').next().unwrap_or(metric) {
                    "sm__pipe_tensor_cycles_active" => match &self.roofline {
                        Ok(roofline) if !roofline.uses_tensor_cores() => {
                            Err("the roofline does not show the activity of the tensor cores".to_owned())
                        }
                        _ => compute(),
                    },
                    "sm__throughput" => compute(),
                    "dram__throughput" => memory(),
                    _ => Err("the roofline has no such number".to_owned()),
                };
                stands_in.map_err(|reason| format!("{why}; {reason}"))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::profile::ceilings::{Ceiling, Peak};
    use kbench_runtime::stats::Summary;

    /// A profile with these metrics, or without any, and shares of the ceilings.
    pub(crate) fn profile(metrics: &[(&str, f64)], shares: Option<(f64, f64)>) -> Profile {
        let counters = if metrics.is_empty() {
            Err("no ncu".to_owned())
        } else {
            let metric = |&(name, value): &(&str, f64)| Metric { name: full_name(name), value, unit: String::new() };
            Ok(Counted::of_launches(&["k".into()], vec![metrics.iter().map(metric).collect()]))
        };
        let ceiling = |peak| Ceiling { peak, rate: 1e12, how: "a test".to_owned() };
        let share = |peak, percent| Some(Share { ceiling: ceiling(peak), percent, because: "a test".to_owned() });
        let roofline = shares
            .map(|(compute, memory)| Roofline {
                tflops: Some(compute / 100.0),
                gbytes: Some(memory * 10.0),
                intensity: Some(1.0),
                compute: share(Peak::TensorF16, compute),
                memory: share(Peak::Copy, memory),
            })
            .ok_or_else(|| "`work` is not in the table".to_owned());
        let diagnosis = diagnose(&counters, &roofline);
        Profile {
            package: "p".into(),
            kernel: "k".into(),
            device: DeviceRecord {
                kind: "cuda".into(),
                name: "NVIDIA H200".into(),
                driver: "13.0".into(),
                compute_capability: Some("9.0".into()),
                multiprocessors: 132,
                clock_khz: 1_980_000,
            },
            shape: "small".into(),
            dims: BTreeMap::from([("N".into(), 64)]),
            toggles: Settings::default(),
            source: None,
            timing: TimingRecord {
                shape: "small".into(),
                summary: Summary::of(&[1000.0; 20]).unwrap(),
                batch: 1,
                clock: "cuda-event".into(),
                sampling: None,
            },
            cache: "cold".into(),
            counters,
            roofline,
            diagnosis,
        }
    }

    #[test]
    fn the_counters_of_a_cpu_are_metrics() {
        let counts = Counts { instructions: 300, cycles: Some(100), ..Counts::default() };
        let counted = Counted::of_cpu(&counts);
        assert_eq!(counted.value("perf__instructions_per_cycle"), Some(3.0));
        assert_eq!(counted.value("perf__cache_misses"), None);
        assert_eq!(Counted::of_cpu(&Counts { cycles: Some(0), ..counts }).metrics.len(), 2);
    }
}
