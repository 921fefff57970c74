//! Text of `profile`: the bottleneck of a kernel.

use std::fmt::Write as _;

use super::table::Table;
use super::{GOOD, NOTE, WARN, figures, p50, time};
use crate::config::counters::full_name;
use crate::profile::{Counted, DURATION, Profile, Roofline, Share};
use crate::record::evaluation::SourceRecord;
use crate::text::{dims, kernel_name};

/// Metrics that are shown for each of several launches.
const SHOWN: [&str; 4] = [DURATION, "sm__throughput", "dram__throughput", "sm__pipe_tensor_cycles_active"];

/// The variant, its measured time, the counters, the shares of the ceilings, and advice.
pub fn profiled(profile: &Profile) -> String {
    let mut text = format!(
        "{} at {} ({}) on {}\n\n",
        kernel_name(&profile.package, &profile.kernel),
        profile.shape,
        dims(&profile.dims),
        profile.device.name
    );
    let mut line = |label: &str, said: String| {
        let _ = writeln!(text, "  {label:<10} {said}");
    };
    line("variant", SourceRecord::label(profile.source.as_ref(), &profile.toggles.to_string()));
    let timing = &profile.timing;
    line("time", format!("p50 {}, {}", p50(timing), profile.cache));
    match &profile.counters {
        Ok(counted) => {
            let mut table = Table::new(["", "", ""]);
            for metric in counted.metrics.iter().filter(|metric| metric.name != full_name(DURATION)) {
                table.row(vec![value(metric.value), metric.unit.clone(), format!(" {}", metric.name)]);
            }
            let of =
                counted.launch.as_ref().map_or_else(String::new, |launch| format!(", of the longest launch, {launch}"));
            line("counters", format!("by {}{of}", counted.by));
            for row in table.in_width(super::width().saturating_sub(13)).lines().skip(1) {
                line("", row.trim_end().to_owned());
            }
            for launch in &counted.launches {
                let said = |name: &str| {
                    let metric = launch.metrics.iter().find(|metric| metric.name == full_name(name))?;
                    Some(format!("{} {} {name}", value(metric.value), metric.unit))
                };
                let shown: Vec<String> = SHOWN.iter().copied().filter_map(said).collect();
                line("", format!("{}: {}", launch.entry, shown.join(", ")));
            }
            if let Some(duration) = counted.value(DURATION) {
                let said = format!(
                    "{} by {}, in its own conditions: no measurement of the kernel",
                    time(duration),
                    counted.by
                );
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
            text.push_str("; more than that is served from a cache, or `work` is too large");
        }
    }
    text
}

fn of_ceiling(share: &Share) -> String {
    format!("{:.1} % of {}; {}", share.percent, share.ceiling, share.because)
}

/// Whole numbers in groups of three digits, others with two decimals.
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
        crate::report::style::plain(&profiled(profile))
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
        insta::assert_snapshot!(plain(&profile(&metrics, Some((12.5, 40.0)))), @r#"
        p/k at small (N=64) on NVIDIA H200

          variant    default
          time       p50 1.000 µs (1.000 µs to 1.000 µs), cold
          counters   by ncu
                          16.30   sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustaine
                                  d_active
                           2.73   dram__throughput.avg.pct_of_peak_sustained_elapsed
                          28.57   sm__throughput.avg.pct_of_peak_sustained_elapsed
                      1,596,416   dram__bytes_read.sum
                           0.24   launch__waves_per_multiprocessor
                     12.19 µs by ncu, in its own conditions: no measurement of the kernel
          roofline   125 GFLOP/s, 400 GB/s, 1.00 FLOP a byte: 40.0 % of the roof there, which is copy
                     12.5 % of tensor f16 1.0 TFLOP/s (a test); a test
                     40.0 % of copy 1000 GB/s (a test); a test
          limit      latency-bound by the counters: tensor cores 16.3 %, SM 28.6 %, DRAM 2.7 %: no unit is busy
          next       the grid fills 0.24 of one wave: more and smaller blocks, or a split of the longest loop over blocks
        "#);
    }

    #[test]
    fn a_profile_without_counters_has_a_note() {
        insta::assert_snapshot!(plain(&profile(&[], Some((12.5, 140.0)))), @r#"
        p/k at small (N=64) on NVIDIA H200

          variant    default
          time       p50 1.000 µs (1.000 µs to 1.000 µs), cold
          counters   unavailable: no ncu
          roofline   125 GFLOP/s, 1400 GB/s, 1.00 FLOP a byte: 140.0 % of the roof there, which is copy; more than that is served from a cache, or `work` is too large
                     12.5 % of tensor f16 1.0 TFLOP/s (a test); a test
                     140.0 % of copy 1000 GB/s (a test); a test
          limit      memory-bound by the roofline: 140.0 % of the measured copy bandwidth, 12.5 % of the measured peak of arithmetic
          next       fewer bytes: smaller types, reuse through tiles, wider accesses
        "#);
        insta::assert_snapshot!(plain(&profile(&[], None)), @r#"
        p/k at small (N=64) on NVIDIA H200

          variant    default
          time       p50 1.000 µs (1.000 µs to 1.000 µs), cold
          counters   unavailable: no ncu
          roofline   unavailable: `work` is not in the table
          limit      unknown: neither counters nor a roofline: `work` is not in the table
          next       give the table `work = { flops = …, bytes = … }`, or let the counters be read
        "#);
    }
}
