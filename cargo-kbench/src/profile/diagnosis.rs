//! The bottleneck of a kernel by its counters or the roofline, and advice.

use std::fmt;

use serde::Serialize;

use super::{Counted, Roofline};

/// DRAM throughput in percent of its peak from which on a kernel is memory-bound.
const DRAM_BOUND: f64 = 70.0;
/// Activity of the tensor cores in percent from which on a kernel is compute-bound.
const TENSOR_BOUND: f64 = 50.0;
/// Throughput of another pipe of the SM, or of a cache, in percent of its peak, from which on it is the bottleneck.
const PIPE_BOUND: f64 = 60.0;

/// Bottleneck of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Limiter {
    /// Arithmetic.
    Compute,
    /// Bandwidth: of DRAM, or of a cache.
    Memory,
    /// Neither: warps wait.
    Latency,
    /// There are neither counters nor a roofline.
    Unknown,
}

impl fmt::Display for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Limiter::Compute => "compute-bound",
            Limiter::Memory => "memory-bound",
            Limiter::Latency => "latency-bound",
            Limiter::Unknown => "unknown",
        })
    }
}

/// Bottleneck of a kernel, and the advice for it.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Diagnosis {
    /// The bottleneck.
    pub limiter: Limiter,
    /// Source of the diagnosis: `counters`, `roofline` or none.
    pub by: Option<&'static str>,
    /// The numbers of the diagnosis, in words.
    pub because: String,
    /// Advice.
    pub next: String,
}

/// The first rule that applies: DRAM above 70 % of its peak is memory-bound; tensor cores active 50 % of the time, or
/// another pipe of the SM at 60 %, compute-bound; a cache above 60 % memory-bound; otherwise latency-bound. Without
/// counters the same rules apply to the shares of the measured ceilings.
pub fn diagnose(counters: &Result<Counted, String>, roofline: &Result<Roofline, String>) -> Diagnosis {
    if let Ok(counted) = counters
        && let Some(diagnosis) = by_counters(counted)
    {
        return diagnosis;
    }
    by_roofline(roofline)
}

fn by_counters(counted: &Counted) -> Option<Diagnosis> {
    let dram = counted.value("dram__throughput")?;
    let sm = counted.value("sm__throughput").unwrap_or(0.0);
    let tensor = counted.value("sm__pipe_tensor_cycles_active");
    let l2 = counted.value("lts__throughput").unwrap_or(0.0);
    let l1 = counted.value("l1tex__throughput").unwrap_or(0.0);
    let tensor_text = tensor.map_or_else(String::new, |tensor| format!("tensor cores {tensor:.1} %, "));
    let diagnosis =
        |limiter, because: String, next: String| Some(Diagnosis { limiter, by: Some("counters"), because, next });
    if dram > DRAM_BOUND {
        let because = format!("DRAM at {dram:.1} % of its peak, {tensor_text}SM {sm:.1} %");
        let next = "revisit the copies: fewer bytes (smaller types, reuse through tiles), coalesced 16-byte accesses, cp.async or \
                    TMA with more stages"
            .to_owned();
        return diagnosis(Limiter::Memory, because, next);
    }
    if let Some(tensor) = tensor.filter(|&tensor| tensor >= TENSOR_BOUND) {
        let because = format!("tensor cores active {tensor:.1} % of the time, DRAM at {dram:.1} %");
        let next = "overlap what is left with the tensor cores: warp specialization, larger tiles, wgmma in place of mma.sync; \
                    or compute less"
            .to_owned();
        return diagnosis(Limiter::Compute, because, next);
    }
    // Caches come first: the busiest pipe of the SM may be the one that waits for them.
    let (cache, name, advice) = if l1 >= l2 {
        (l1, "L1 and shared memory", "keep more in registers, use wider accesses, and remove bank conflicts")
    } else {
        (l2, "L2", "reuse through shared memory, and order blocks so that neighbours share tiles")
    };
    if cache >= PIPE_BOUND && cache > sm {
        let conflicts = counted.value("l1tex__data_bank_conflicts_pipe_lsu").filter(|&conflicts| conflicts > 0.0);
        let conflicts = conflicts.map_or_else(String::new, |count| format!(", {count:.0} bank conflicts"));
        let because = format!("{name} at {cache:.1} % of the peak, DRAM {dram:.1} %, SM {sm:.1} %{conflicts}");
        return diagnosis(Limiter::Memory, because, advice.to_owned());
    }
    if sm >= PIPE_BOUND {
        let because = format!("the busiest pipe of the SM at {sm:.1} %, {tensor_text}DRAM {dram:.1} %");
        let next =
            "fewer instructions: more results a thread, wider loads, and tensor cores where the types allow".to_owned();
        return diagnosis(Limiter::Compute, because, next);
    }
    let because = format!("{tensor_text}SM {sm:.1} %, DRAM {dram:.1} %: no unit is busy");
    diagnosis(Limiter::Latency, because, waiting(counted))
}

/// The cause of the waits of a latency-bound kernel.
fn waiting(counted: &Counted) -> String {
    if let Some(waves) = counted.value("launch__waves_per_multiprocessor").filter(|&waves| waves < 1.0) {
        return format!(
            "the grid fills {waves:.2} of one wave: more and smaller blocks, or a split of the longest loop over blocks"
        );
    }
    let stall = |(name, advice): (&str, &'static str)| {
        let metric = format!("smsp__average_warps_issue_stalled_{name}_per_issue_active");
        Some((counted.value(&metric)?, advice))
    };
    let stalls = [
        ("long_scoreboard", "warps wait for global memory: prefetch (cp.async, TMA), more loads in flight, more warps"),
        ("barrier", "warps wait at barriers: split roles, or synchronise fewer threads at a time"),
        ("short_scoreboard", "warps wait for shared memory or special functions: remove bank conflicts, interleave"),
        ("math_pipe_throttle", "warps wait for a busy pipe: mix other instructions in between"),
    ];
    let worst = stalls.into_iter().filter_map(stall).max_by(|a, b| a.0.total_cmp(&b.0));
    let occupancy = counted.value("sm__warps_active").filter(|&active| active < 25.0);
    let occupancy = occupancy
        .map(|active| format!("{active:.0} % of the warps are there: fewer registers or less shared memory a block"));
    let worst = worst.filter(|&(stalled, _)| stalled >= 1.0).map(|(_, advice)| advice.to_owned());
    let advice: Vec<String> = worst.into_iter().chain(occupancy).collect();
    if advice.is_empty() {
        return "more parallelism: more warps, more independent instructions in each".to_owned();
    }
    advice.join("; ")
}

fn by_roofline(roofline: &Result<Roofline, String>) -> Diagnosis {
    let unknown = |because: String| Diagnosis {
        limiter: Limiter::Unknown,
        by: None,
        because,
        next: "give the table `work = { flops = …, bytes = … }`, or let the counters be read".to_owned(),
    };
    let roofline = match roofline {
        Ok(roofline) => roofline,
        Err(why) => return unknown(format!("neither counters nor a roofline: {why}")),
    };
    let percent = |share: &Option<super::Share>| share.as_ref().map(|share| share.percent);
    let (compute, memory) = (percent(&roofline.compute), percent(&roofline.memory));
    let text = |name: &str, share: Option<f64>| share.map(|share| format!("{share:.1} % of {name}"));
    let shares: Vec<String> =
        [text("the measured copy bandwidth", memory), text("the measured peak of arithmetic", compute)]
            .into_iter()
            .flatten()
            .collect();
    if shares.is_empty() {
        return unknown("neither counters nor a ceiling of this device".to_owned());
    }
    let (limiter, next) = if memory.is_some_and(|memory| memory > DRAM_BOUND) {
        (Limiter::Memory, "fewer bytes: smaller types, reuse through tiles, wider accesses")
    } else if compute.is_some_and(|compute| compute >= TENSOR_BOUND) {
        (Limiter::Compute, "overlap the rest with arithmetic, or compute less")
    } else if compute.is_some() && memory.is_some() {
        (
            Limiter::Latency,
            "more work in flight: longer vectors, more independent chains, prefetching; then look at the counters",
        )
    } else {
        return Diagnosis { because: shares.join(", "), by: Some("roofline"), ..unknown(String::new()) };
    };
    Diagnosis { limiter, by: Some("roofline"), because: shares.join(", "), next: next.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::profile;
    use super::*;

    fn of(metrics: &[(&str, f64)]) -> (Limiter, String) {
        let diagnosis = profile(metrics, None).diagnosis;
        assert_eq!(diagnosis.by, Some("counters"));
        (diagnosis.limiter, diagnosis.next)
    }

    #[test]
    fn counters_decide_the_diagnosis() {
        const TENSOR: &str = "sm__pipe_tensor_cycles_active";
        assert_eq!(of(&[(TENSOR, 50.0), ("dram__throughput", 49.0)]).0, Limiter::Compute);
        assert_eq!(of(&[(TENSOR, 80.0), ("dram__throughput", 70.0)]).0, Limiter::Compute);
        assert_eq!(of(&[(TENSOR, 80.0), ("dram__throughput", 70.1)]).0, Limiter::Memory);
        assert_eq!(of(&[(TENSOR, 0.0), ("dram__throughput", 2.0), ("sm__throughput", 81.0)]).0, Limiter::Compute);
        let (limiter, next) = of(&[("dram__throughput", 2.0), ("sm__throughput", 40.0), ("l1tex__throughput", 90.0)]);
        assert!(limiter == Limiter::Memory && next.contains("bank conflicts"), "{next}");
        assert_eq!(of(&[("dram__throughput", 2.0), ("lts__throughput", 75.0)]).0, Limiter::Memory);
        // Numbers of sdpa at its mission shape on an H200.
        let quiet = [(TENSOR, 16.3), ("dram__throughput", 2.7), ("sm__throughput", 28.6)];
        assert_eq!(of(&quiet).0, Limiter::Latency);
        let with = |metric| of(&[quiet[0], quiet[1], quiet[2], metric]).1;
        assert!(with(("launch__waves_per_multiprocessor", 0.24)).contains("0.24 of one wave"));
        let stalled = "smsp__average_warps_issue_stalled_barrier_per_issue_active";
        assert!(with((stalled, 3.0)).contains("barriers"));
        assert!(with(("sm__warps_active", 6.0)).contains("6 % of the warps"));
    }

    #[test]
    fn without_counters_the_roofline_decides() {
        let of = |shares| profile(&[], shares).diagnosis;
        assert_eq!(of(Some((10.0, 71.0))).limiter, Limiter::Memory);
        assert_eq!(of(Some((50.0, 70.0))).limiter, Limiter::Compute);
        let latency = of(Some((10.0, 20.0)));
        assert_eq!((latency.limiter, latency.by), (Limiter::Latency, Some("roofline")));
        let unknown = of(None);
        assert_eq!((unknown.limiter, unknown.by), (Limiter::Unknown, None));
        assert!(unknown.because.contains("`work` is not in the table"));
    }
}
