//! What a reader must know of how samples were taken, where it matters.

use std::collections::BTreeMap;
use std::fmt;

use kbench_runtime::protocol::{Disturbance, SmClock};

use crate::evaluation::TimingRecord;

/// Share of samples from which on it is worth a word that they were taken again, or kept although they should not have been.
const MANY_DISCARDED: f64 = 0.2;
const MANY_KEPT: f64 = 0.05;

/// One line for each thing that makes a record less certain than it looks. `precision` is what was asked for.
pub(super) fn of_one(record: &TimingRecord, precision: f64) -> impl Iterator<Item = String> {
    unsettled(record, precision)
        .map(|unsettled| format!("p50 did not converge: {unsettled}"))
        .into_iter()
        .chain(more(record))
}

/// The same of what was measured together at one shape; where several did not converge, one line for them, which names the worst.
pub(super) fn of_all(timings: &[(&str, &TimingRecord)], shape: &str, precision: f64) -> Vec<String> {
    let unsettled = timings.iter().filter_map(|(name, record)| Some((*name, unsettled(record, precision)?)));
    let mut unsettled: Vec<(&str, Unsettled)> = unsettled.collect();
    unsettled.sort_by(|(_, one), (_, other)| other.half.total_cmp(&one.half));
    let mut lines: Vec<String> = match &unsettled[..] {
        [] => Vec::new(),
        [(name, one)] => vec![format!("{name} at {shape}: p50 did not converge: {one}")],
        [(name, worst), ..] => {
            let (some, all) = (unsettled.len(), timings.len());
            vec![format!("at {shape}: p50 of {some} of {all} did not converge, least of all that of {name}: {worst}")]
        }
    };
    for (name, record) in timings {
        lines.extend(more(record).map(|line| format!("{name} at {shape}: {line}")));
    }
    lines
}

/// How far a p50 is known that did not converge.
#[derive(Debug)]
struct Unsettled {
    /// Half of its interval, relative.
    half: f64,
    samples: u64,
    drifts: bool,
}

impl fmt::Display for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let drifts = if self.drifts { ", but it drifts" } else { "" };
        write!(f, "± {:.1} % after {} samples{drifts}", 100.0 * self.half, self.samples)
    }
}

fn unsettled(record: &TimingRecord, precision: f64) -> Option<Unsettled> {
    let summary = &record.summary;
    record.sampling.as_ref().filter(|sampling| !sampling.raced && !sampling.converged)?;
    let half = (summary.p50_high - summary.p50_low) / 2.0 / summary.p50;
    Some(Unsettled { half, samples: summary.n as u64, drifts: half <= precision })
}

/// What else there is to be said.
fn more(record: &TimingRecord) -> impl Iterator<Item = String> {
    let mut lines = Vec::new();
    if let Some(sampling) = record.sampling.as_ref().filter(|sampling| !sampling.raced) {
        let n = record.summary.n as u64;
        let discarded: u64 = sampling.discarded.values().sum();
        if discarded as f64 > MANY_DISCARDED * (n + discarded) as f64 {
            let why = words(&sampling.discarded, sampling.sm_clock.as_ref());
            lines.push(format!("{discarded} of {} samples discarded: {why}", n + discarded));
        }
        let kept: u64 = sampling.disturbed.values().sum();
        if kept as f64 > MANY_KEPT * n as f64 {
            let why = words(&sampling.disturbed, sampling.sm_clock.as_ref());
            lines.push(format!("{kept} of {n} samples disturbed to the end: {why}"));
        }
        let corrected = sampling.corrected;
        if corrected as f64 > MANY_KEPT * n as f64 {
            lines.push(format!("{corrected} of {n} samples lost the core: their time is processor time"));
        }
        if !record.is_known() {
            lines.push("so p50 is not known, and decides nothing".to_owned());
        }
        let exposed = sampling.exposed_samples;
        if exposed as f64 > MANY_KEPT * n as f64 {
            lines.push(format!("{exposed} of {n} samples may be too long: the device waited for the host"));
        }
    }
    lines.into_iter()
}

fn words(counts: &BTreeMap<Disturbance, u64>, clock: Option<&SmClock>) -> String {
    let word = |why: &Disturbance| match (why, clock) {
        (Disturbance::Throttled, Some(clock)) => {
            let clocks = format!("SM clock down to {} of {} MHz", clock.min_mhz, clock.max_mhz);
            let reasons = clock.reasons.iter().map(String::as_str);
            format!("{why} ({})", std::iter::once(&*clocks).chain(reasons).collect::<Vec<_>>().join(", "))
        }
        _ => why.to_string(),
    };
    counts.keys().map(word).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use kbench_runtime::protocol::Sampling;
    use kbench_runtime::stats::Summary;

    use super::*;

    fn lines(sampling: Sampling) -> Vec<String> {
        let samples: Vec<f64> = (0..100).map(|i| 100.0 + f64::from(i % 10)).collect();
        let summary = Summary::of(&samples).unwrap();
        let (shape, clock) = ("s".into(), "fake".into());
        of_one(&TimingRecord { shape, summary, batch: 1, clock, sampling: Some(sampling) }, 0.005).collect()
    }

    #[test]
    fn several_that_did_not_converge_are_one_line() {
        let record = |spread: f64, converged| {
            let samples: Vec<f64> = (0..100).map(|i| 100.0 + spread * f64::from(i % 10)).collect();
            let sampling = Some(Sampling { converged, exposed_samples: 9, ..Sampling::default() });
            let (shape, clock) = ("s".into(), "fake".into());
            TimingRecord { shape, summary: Summary::of(&samples).unwrap(), batch: 1, clock, sampling }
        };
        let records = [record(1.0, false), record(3.0, false), record(0.0, true)];
        let named = [("a", &records[0]), ("b", &records[1]), ("c", &records[2])];
        let lines = of_all(&named, "s", 0.005);
        assert!(lines[0].starts_with("at s: p50 of 2 of 3 did not converge, least of all that of b: ± "), "{lines:?}");
        assert_eq!(lines.len(), 4, "{lines:?}");
        let alone = of_all(&named[..1], "s", 0.005);
        assert!(alone[0].starts_with("a at s: p50 did not converge: ± "), "{alone:?}");
    }

    #[test]
    fn only_what_matters_is_said() {
        let good = Sampling {
            converged: true,
            discarded: [(Disturbance::Steal, 25)].into(),
            disturbed: [(Disturbance::Steal, 5)].into(),
            exposed_samples: 5,
            ..Sampling::default()
        };
        assert_eq!(lines(good.clone()), [""; 0]);
        let shaky = lines(Sampling { converged: false, ..good.clone() });
        assert!(shaky[0].starts_with("p50 did not converge: ± "), "{shaky:?}");
        assert!(shaky[0].ends_with(" % after 100 samples") && shaky.len() == 1, "{shaky:?}");
        assert_eq!(lines(Sampling { converged: false, raced: true, ..good.clone() }), [""; 0], "meant to be short");
        let discarded = [(Disturbance::InvoluntaryContextSwitch, 37)].into();
        assert_eq!(
            lines(Sampling { discarded, ..good.clone() }),
            ["37 of 137 samples discarded: involuntary context switches"]
        );
        let clock = SmClock {
            median_mhz: 1980,
            min_mhz: 1200,
            max_mhz: 1980,
            readings: 9,
            reasons: vec!["SW_POWER_CAP".into()],
        };
        let hot = Sampling { disturbed: [(Disturbance::Throttled, 50)].into(), sm_clock: Some(clock), ..good };
        assert_eq!(
            lines(hot),
            ["50 of 100 samples disturbed to the end: throttled (SM clock down to 1200 of 1980 MHz, SW_POWER_CAP)"]
        );
    }
}
