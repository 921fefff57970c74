//! The counters gate: conditions on a kernel's metrics.

use std::fmt;

use super::{Backend, Level};

/// The counters gate: variants that passed the earlier gates run again under a profiler.
#[derive(Debug, Clone, PartialEq)]
pub struct Counters {
    /// Severity; `Allow` if the table does not mention the gate.
    pub level: Level,
    /// Number of conditions that must hold.
    pub quantifier: Quantifier,
    /// The conditions.
    pub conditions: Vec<Condition>,
    /// Indices into [`Kernel::shapes`](super::Kernel::shapes); the search's by default.
    pub shapes: Vec<usize>,
}

impl Default for Counters {
    fn default() -> Self {
        Self { level: Level::Allow, quantifier: Quantifier::Any, conditions: Vec::new(), shapes: Vec::new() }
    }
}

/// Number of conditions that must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantifier {
    /// At least one.
    Any,
    /// All.
    All,
}

/// A condition on one metric, `dram__throughput < 50`.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The metric's name in the table.
    pub name: String,
    /// Full name of the metric, see [`full_name`].
    pub metric: String,
    /// The comparison.
    pub relation: Relation,
    /// The number, in the metric's base unit: percent, bytes, nanoseconds.
    pub limit: f64,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.relation.symbol(), self.limit)
    }
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // each name says it all
pub enum Relation {
    AtLeast,
    AtMost,
    Above,
    Below,
}

impl Relation {
    /// All comparisons, longer symbols first.
    pub const ALL: [Self; 4] = [Self::AtLeast, Self::AtMost, Self::Above, Self::Below];

    /// The operator in the table.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::AtLeast => ">=",
            Self::AtMost => "<=",
            Self::Above => ">",
            Self::Below => "<",
        }
    }

    /// Whether the comparison is true.
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::AtLeast => value >= limit,
            Self::AtMost => value <= limit,
            Self::Above => value > limit,
            Self::Below => value < limit,
        }
    }
}

/// Rate of `work` over the measured time, as a share of the measured peak of arithmetic, in percent.
pub const ROOFLINE_COMPUTE: &str = "roofline__compute";
/// Rate of `work` over the measured time, as a share of the measured copy bandwidth, in percent.
pub const ROOFLINE_MEMORY: &str = "roofline__memory";

/// Metrics of C kernels.
pub const OF_C: [&str; 7] = [
    ROOFLINE_COMPUTE,
    ROOFLINE_MEMORY,
    "perf__instructions",
    "perf__cycles",
    "perf__instructions_per_cycle",
    "perf__cache_misses",
    "perf__branch_misses",
];

/// Metrics of ncu for suggestions; ncu has thousands.
pub const OF_CUDA: [&str; 8] = [
    "sm__pipe_tensor_cycles_active",
    "dram__throughput",
    "sm__throughput",
    "lts__throughput",
    "l1tex__throughput",
    "sm__warps_active",
    ROOFLINE_COMPUTE,
    ROOFLINE_MEMORY,
];

/// The default conditions: busy tensor cores, or DRAM that is not the bottleneck. A C kernel is judged by the roofline.
pub fn default_conditions(backend: Backend) -> Vec<Condition> {
    let (compute, memory) = match backend {
        Backend::C => (ROOFLINE_COMPUTE, ROOFLINE_MEMORY),
        Backend::Cuda | Backend::Fake => ("sm__pipe_tensor_cycles_active", "dram__throughput"),
    };
    let condition =
        |name: &str, relation| Condition { name: name.to_owned(), metric: full_name(name), relation, limit: 50.0 };
    vec![condition(compute, Relation::AtLeast), condition(memory, Relation::Below)]
}

/// A metric's full name for ncu. A name with a dot is complete; other names are completed:
///
/// - throughputs become `.avg.pct_of_peak_sustained_elapsed`, active cycles and warps `.avg.pct_of_peak_sustained_active`:
///   percent of the peak;
/// - averages (`smsp__average_…`) become `.ratio`;
/// - constants of the launch (`launch__…`, `sm__maximum_…`) and metrics that are not ncu's keep their name;
/// - everything else becomes `.sum`.
pub fn full_name(name: &str) -> String {
    let (unit, quantity) = name.split_once("__").unwrap_or(("", name));
    let is_whole = name.contains('.') || quantity.starts_with("maximum_");
    let suffix = if is_whole || ["launch", "device", "perf", "roofline", ""].contains(&unit) {
        ""
    } else if quantity.ends_with("throughput") {
        ".avg.pct_of_peak_sustained_elapsed"
    } else if quantity.ends_with("cycles_active") || quantity == "warps_active" || quantity == "issue_active" {
        ".avg.pct_of_peak_sustained_active"
    } else if quantity.starts_with("average_") {
        ".ratio"
    } else {
        ".sum"
    };
    format!("{name}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorthands_have_a_suffix_that_ncu_knows() {
        for (short, full) in [
            ("sm__pipe_tensor_cycles_active", "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active"),
            ("dram__throughput", "dram__throughput.avg.pct_of_peak_sustained_elapsed"),
            ("sm__warps_active", "sm__warps_active.avg.pct_of_peak_sustained_active"),
            ("dram__bytes_read", "dram__bytes_read.sum"),
            ("dram__bytes_read.avg.per_second", "dram__bytes_read.avg.per_second"),
            ("gpu__time_duration", "gpu__time_duration.sum"),
            ("smsp__average_warp_latency", "smsp__average_warp_latency.ratio"),
            ("launch__waves_per_multiprocessor", "launch__waves_per_multiprocessor"),
            ("sm__maximum_warps_per_active_cycle_pct", "sm__maximum_warps_per_active_cycle_pct"),
            ("roofline__memory", "roofline__memory"),
        ] {
            assert_eq!(full_name(short), full);
        }
    }
}
