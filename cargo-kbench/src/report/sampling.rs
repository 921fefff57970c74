//! Notes on the sampling of times, if a reader needs them: one line for all kernels that were measured together.

use std::collections::BTreeMap;

use kbench_runtime::protocol::{Disturbance, SmClock};

use super::Verbosity;
use crate::record::evaluation::TimingRecord;
use crate::text::count;

/// Share of discarded or kept disturbed samples from which on a note is shown.
const MANY_DISCARDED: f64 = 0.2;
const MANY_KEPT: f64 = 0.05;

/// A reason why a time is less certain than its interval.
struct Finding {
    /// Kind of the finding, which is also the order of the notes.
    kind: u8,
    /// Severity among findings of one kind.
    weight: f64,
    text: String,
}

/// Notes on records with these names: none with `-q`, one line for each record with `-v`, otherwise one line with the
/// worst finding of each kind. `precision` is the requested half width of the intervals of p50.
pub fn lines(timings: &[(&str, &TimingRecord)], precision: f64, verbosity: Verbosity) -> Vec<String> {
    let of_one = |(name, record): &(&str, &TimingRecord)| {
        let place = if name.is_empty() { record.shape.clone() } else { format!("{name} at {}", record.shape) };
        findings(record, precision).into_iter().map(move |finding| (finding, place.clone()))
    };
    let mut all: Vec<(Finding, String)> = timings.iter().flat_map(of_one).collect();
    if all.is_empty() || verbosity == Verbosity::Quiet {
        return Vec::new();
    }
    all.sort_by(|(a, _), (b, _)| a.kind.cmp(&b.kind).then(b.weight.total_cmp(&a.weight)));
    if verbosity == Verbosity::Verbose {
        return all.iter().map(|(finding, place)| format!("{place}: {}", finding.text)).collect();
    }
    let kinds = all.chunk_by(|(a, _), (b, _)| a.kind == b.kind).map(|kind| {
        let (Finding { text, .. }, place) = &kind[0];
        match kind.len() {
            1 => format!("{text} ({place})"),
            many => format!("{text} ({place}, and {} more of {})", many - 1, timings.len()),
        }
    });
    vec![kinds.collect::<Vec<_>>().join("; ")]
}

fn findings(record: &TimingRecord, precision: f64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(sampling) = record.sampling.as_ref().filter(|sampling| !sampling.cut_short) else { return findings };
    let n = record.summary.n as u64;
    let mut say = |kind, weight, text| findings.push(Finding { kind, weight, text });
    if !record.is_known() {
        say(0, 1.0, "p50 is not known, so verdicts are inconclusive".to_owned());
    }
    if !sampling.converged {
        let (half, text) = match record.summary.interval() {
            Some([low, high]) => {
                let half = (high - low) / 2.0 / record.summary.p50;
                let drifts = if half <= precision { ", but it drifts" } else { "" };
                (half, format!("p50 did not converge: ± {:.1} % after {n} samples{drifts}", 100.0 * half))
            }
            None => (f64::INFINITY, format!("p50 has no interval after {}", count(record.summary.n, "sample"))),
        };
        say(1, half, text);
    }
    let discarded: u64 = sampling.discarded.values().sum();
    let share = discarded as f64 / (n + discarded) as f64;
    if share > MANY_DISCARDED {
        let why = words(&sampling.discarded, sampling.sm_clock.as_ref());
        say(2, share, format!("{discarded} of {} samples discarded: {why}", n + discarded));
    }
    let share = |samples: u64| samples as f64 / n as f64;
    let kept: u64 = sampling.disturbed.values().sum();
    if share(kept) > MANY_KEPT {
        let why = words(&sampling.disturbed, sampling.sm_clock.as_ref());
        say(3, share(kept), format!("{kept} of {n} samples disturbed to the end: {why}"));
    }
    let corrected = sampling.corrected;
    if share(corrected) > MANY_KEPT {
        let text = format!("{corrected} of {n} samples lost the core: their time is processor time");
        say(4, share(corrected), text);
    }
    let exposed = sampling.exposed_samples;
    if share(exposed) > MANY_KEPT {
        let text = format!("{exposed} of {n} samples may be too long: the device waited for the host");
        say(5, share(exposed), text);
    }
    if let Some(by) = &sampling.in_use {
        say(6, 1.0, format!("the device was in use by {by}: later runs do not reuse this measurement"));
    }
    if sampling.new_inputs == Some(0) {
        let why = "all inputs are constant, from files or single numbers";
        say(7, 1.0, format!("a test for memoised results was not possible: {why}"));
    }
    findings
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

    fn record(spread: f64, sampling: Sampling) -> TimingRecord {
        let samples: Vec<f64> = (0..100).map(|i| 100.0 + spread * f64::from(i % 10)).collect();
        let (shape, clock) = ("s".into(), "fake".into());
        TimingRecord { shape, summary: Summary::of(&samples).unwrap(), batch: 1, clock, sampling: Some(sampling) }
    }

    fn said(sampling: Sampling) -> Vec<String> {
        lines(&[("a", &record(1.0, sampling))], 0.005, Verbosity::Normal)
    }

    #[test]
    fn kernels_measured_together_share_one_line() {
        let shaky =
            |spread: f64, converged| record(spread, Sampling { converged, exposed_samples: 9, ..Sampling::default() });
        let records = [shaky(1.0, false), shaky(3.0, false), shaky(0.0, true)];
        let named = [("a", &records[0]), ("b", &records[1]), ("c", &records[2])];
        let one = lines(&named, 0.005, Verbosity::Normal);
        assert_eq!(one.len(), 1, "{one:?}");
        assert!(one[0].starts_with("p50 did not converge: ± "), "{one:?}");
        assert!(one[0].contains("(b at s, and 1 more of 3); 9 of 100 samples may be too long"), "{one:?}");
        assert_eq!(lines(&named, 0.005, Verbosity::Verbose).len(), 5);
        assert_eq!(lines(&named, 0.005, Verbosity::Quiet), [""; 0]);
    }

    #[test]
    fn one_sample_is_not_called_precise() {
        let one = TimingRecord { summary: Summary::of(&[5.0]).unwrap(), ..record(0.0, Sampling::default()) };
        assert_eq!(lines(&[("a", &one)], 0.005, Verbosity::Normal), ["p50 has no interval after 1 sample (a at s)"]);
    }

    #[test]
    fn unremarkable_sampling_is_not_reported() {
        let good = Sampling {
            converged: true,
            discarded: [(Disturbance::Steal, 25)].into(),
            disturbed: [(Disturbance::Steal, 5)].into(),
            exposed_samples: 5,
            ..Sampling::default()
        };
        assert_eq!(said(good.clone()), [""; 0]);
        let shaky = said(Sampling { converged: false, ..good.clone() });
        assert!(shaky[0].ends_with(" % after 100 samples (a at s)") && shaky.len() == 1, "{shaky:?}");
        assert_eq!(said(Sampling { converged: false, cut_short: true, ..good.clone() }), [""; 0], "meant to be short");
        let discarded = [(Disturbance::InvoluntaryContextSwitch, 37)].into();
        assert_eq!(
            said(Sampling { discarded, ..good.clone() }),
            ["37 of 137 samples discarded: involuntary context switches (a at s)"]
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
            said(hot),
            [
                "50 of 100 samples disturbed to the end: throttled (SM clock down to 1200 of 1980 MHz, SW_POWER_CAP) (a at s)"
            ]
        );
    }
}
