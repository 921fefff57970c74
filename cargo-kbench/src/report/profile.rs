//! `cargo kbench profile`: what limits a kernel.

use std::fmt::Write as _;

use super::table::Table;
use super::{GOOD, NOTE, WARN, dims, figures, interval, name, time};
use crate::config::counters::full_name;
use crate::profile::{Counted, DURATION, Profile, Roofline, Share};

/// The variant, its measured time, the counters, its place below the ceilings, and what to try.
pub fn profiled(profile: &Profile) -> String {
    let mut text = format!(
        "{} at {} ({}) on {}\n\n",
        name(&profile.package, &profile.kernel),
        profile.shape,
        dims(&profile.dims),
        profile.device.name
    );
    let mut line = |label: &str, said: String| {
        let _ = writeln!(text, "  {label:<10} {said}");
    };
    if !profile.toggles.0.is_empty() {
        line("variant", profile.toggles.to_string());
    }
    let timing = &profile.timing;
    line("time", format!("p50 {} ({}), {}", time(timing.summary.p50), interval(timing), profile.cache));
    match &profile.counters {
        Ok(counted) => {
            let mut table = Table::new(["", "", ""]);
            for metric in counted.metrics.iter().filter(|metric| metric.name != full_name(DURATION)) {
                table.row(vec![value(metric.value), metric.unit.clone(), format!(" {}", metric.name)]);
            }
            line("counters", format!("by {}", counted.by));
            for row in table.to_string().lines().skip(1) {
                line("", row.trim_end().to_owned());
            }
            if let Some(duration) = counted.value(DURATION) {
                let said = format!("{} by {}, in its own conditions: no measurement of the kernel", time(duration), counted.by);
                line("", said);
            }
        }
        Err(why) => line("counters", format!("{WARN}unavailable{WARN:#}: {why}")),
    }
    match &profile.roofline {
        Ok(roofline) => {
            line("roofline", rates(roofline));
            for share in [&roofline.compute, &roofline.memory].into_iter().flatten() {
                line("", of_ceiling(share));
            }
        }
        Err(why) => line("roofline", format!("{WARN}unavailable{WARN:#}: {why}")),
    }
    let diagnosis = &profile.diagnosis;
    let by = diagnosis.by.map_or_else(String::new, |by| format!(" by the {by}"));
    line("limit", format!("{GOOD}{}{GOOD:#}{by}: {}", diagnosis.limiter, diagnosis.because));
    line("next", format!("{NOTE}{}{NOTE:#}", diagnosis.next));
    text
}

/// One line for a gate's verdict.
pub fn in_short(profile: &Profile) -> String {
    let diagnosis = &profile.diagnosis;
    let by = match (&profile.counters, diagnosis.by) {
        (Err(why), _) => format!(" (no counters: {why})"),
        (Ok(Counted { by, .. }), Some("counters")) => format!(" (by {by})"),
        _ => String::new(),
    };
    format!("{}: {}, {}{by}", profile.shape, diagnosis.limiter, diagnosis.because)
}

fn rates(roofline: &Roofline) -> String {
    let rate = |rate: Option<f64>, unit: &str| rate.map(|rate| format!("{} {unit}", figures(rate)));
    let small = roofline.tflops.is_some_and(|tflops| tflops < 1.0);
    let flops = if small {
        rate(roofline.tflops.map(|tflops| tflops * 1e3), "GFLOP/s")
    } else {
        rate(roofline.tflops, "TFLOP/s")
    };
    let parts = [flops, rate(roofline.gbytes, "GB/s"), rate(roofline.intensity, "FLOP a byte")];
    let mut text = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    if let Some(nearest) = roofline.nearest() {
        let _ = write!(text, ": {:.1} % of the roof there, which is {}", nearest.percent, nearest.ceiling.peak);
        if nearest.percent > 100.0 {
            text.push_str("; more than that is served from a cache, or `work` says too much");
        }
    }
    text
}

fn of_ceiling(share: &Share) -> String {
    format!("{:.1} % of {}; {}", share.percent, share.ceiling, share.because)
}

/// Whole numbers in groups of three, others with two decimals.
fn value(value: f64) -> String {
    if value.fract() == 0.0 && (0.0..1e15).contains(&value) {
        crate::text::grouped(value as u128)
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::profile;

    fn plain(profile: &Profile) -> String {
        anstream::adapter::strip_str(&profiled(profile)).to_string()
    }

    #[test]
    fn counters_roofline_limit_and_advice() {
        let metrics = [
            ("sm__pipe_tensor_cycles_active", 16.3),
            ("dram__throughput", 2.73),
            ("sm__throughput", 28.57),
            ("dram__bytes_read", 1_596_416.0),
            ("launch__waves_per_multiprocessor", 0.24),
            ("gpu__time_duration", 12_192.0),
        ];
        insta::assert_snapshot!(plain(&profile(&metrics, Some((12.5, 40.0)))), @"");
    }

    #[test]
    fn without_counters_it_says_so() {
        insta::assert_snapshot!(plain(&profile(&[], Some((12.5, 140.0)))), @"");
        insta::assert_snapshot!(plain(&profile(&[], None)), @"");
    }
}
