//! What a reader must know of how samples were taken, where it matters.

use std::collections::BTreeMap;

use kbench_runtime::protocol::{Disturbance, SmClock};

use crate::evaluation::TimingRecord;

/// Share of samples from which on it is worth a word that they were taken again, or kept although they should not have been.
const MANY_DISCARDED: f64 = 0.2;
const MANY_KEPT: f64 = 0.05;

/// One line for each thing that makes a record less certain than it looks. `precision` is what was asked for.
pub(super) fn reservations(record: &TimingRecord, precision: f64) -> impl Iterator<Item = String> {
    let mut lines = Vec::new();
    let summary = &record.summary;
    if let Some(sampling) = record.sampling.as_ref().filter(|sampling| !sampling.raced) {
        let n = summary.n as u64;
        if !sampling.converged {
            let half = (summary.p50_high - summary.p50_low) / 2.0 / summary.p50;
            let drifts = if half <= precision { ", but it drifts" } else { "" };
            lines.push(format!("p50 did not converge: ± {:.1} % after {n} samples{drifts}", 100.0 * half));
        }
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
        reservations(&TimingRecord { shape, summary, batch: 1, clock, sampling: Some(sampling) }, 0.005).collect()
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
