//! Parser of ncu's output: messages after `==`, then a table of comma-separated values whose second row holds the
//! units.

use std::collections::HashMap;

use super::Metric;

/// The metrics of each profiled launch, in order; the error is the reason why there are none. `wanted` are full names;
/// metrics that ncu does not print are left out.
pub fn parse(log: &str, wanted: &[String]) -> Result<Vec<Vec<Metric>>, String> {
    let mut lines = log.lines();
    // The last table: ncu prints it after the kernel ended, so that output of the kernel comes before.
    let header = lines.by_ref().enumerate().filter(|(_, line)| line.starts_with("\"ID\",")).last();
    let Some((at, header)) = header else { return Err(failure(log)) };
    let mut rows = log.lines().skip(at + 1).filter(|line| line.starts_with('"')).map(fields);
    let Some(units) = rows.next() else { return Err(failure(log)) };
    let columns: HashMap<String, usize> = fields(header).into_iter().enumerate().map(|(at, name)| (name, at)).collect();
    let metric = |values: &[String], name: &String| {
        let at = *columns.get(name)?;
        let value = number(values.get(at)?)?;
        let unit = units.get(at).cloned().unwrap_or_default();
        Some(Metric { name: name.clone(), value, unit })
    };
    let launches: Vec<Vec<Metric>> =
        rows.map(|values| wanted.iter().filter_map(|name| metric(&values, name)).collect()).collect();
    if launches.is_empty() {
        return Err(failure(log));
    }
    if launches.iter().any(Vec::is_empty) {
        return Err("ncu knows none of the metrics on this device".to_owned());
    }
    Ok(launches)
}

/// Reason why there is no table, with ncu's message if it printed one.
pub fn failure(log: &str) -> String {
    if log.contains("ERR_NVGPUCTRPERM") {
        return "reading GPU counters needs a permission here (ERR_NVGPUCTRPERM): run as root, or load the driver with \
                NVreg_RestrictProfilingToAdminUsers=0"
            .to_owned();
    }
    let said = log.lines().find_map(|line| line.strip_prefix("==ERROR== "));
    let warned =
        || log.lines().filter_map(|line| line.strip_prefix("==WARNING== ")).rfind(|said| !said.starts_with("Note:"));
    let said = said.or_else(warned);
    match said {
        Some(said) => format!("ncu: {}", said.trim()),
        None => "ncu wrote no numbers".to_owned(),
    }
}

/// The number of a field such as `1,596,416` or `16.30`; none for `n/a`, `nan` or a name.
fn number(text: &str) -> Option<f64> {
    let digits: String = text.chars().filter(|&c| c != ',').collect();
    digits.parse().ok().filter(|number: &f64| number.is_finite())
}

/// The fields of a line in which every field is quoted; a quote inside a field is doubled.
fn fields(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut inside = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if inside && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' => inside = !inside,
            ',' if !inside => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::counters::full_name;

    /// Output of ncu 2025.3 on an H200 with fewer columns; three launches.
    const LOG: &str = include_str!("samples/ncu_h200.csv");

    fn parse(log: &str, names: &[&str]) -> Result<Vec<(f64, String)>, String> {
        let wanted: Vec<String> = names.iter().map(|name| full_name(name)).collect();
        Ok(super::parse(log, &wanted)?.remove(0).into_iter().map(|metric| (metric.value, metric.unit)).collect())
    }

    #[test]
    fn numbers_are_found_by_name() {
        let names =
            ["sm__warps_active", "dram__bytes_read", "gpu__time_duration", "l1tex__data_bank_conflicts_pipe_lsu"];
        let unit = |value, unit: &str| (value, unit.to_owned());
        assert_eq!(
            parse(LOG, &names).unwrap(),
            [unit(61.21, "%"), unit(12_613_632.0, "byte"), unit(2_571_680.0, "ns"), unit(461_793_034.0, "")]
        );
    }

    #[test]
    fn each_launch_has_its_numbers() {
        let launches = super::parse(LOG, &[full_name("gpu__time_duration")]).unwrap();
        let durations: Vec<f64> = launches.iter().map(|metrics| metrics[0].value).collect();
        assert_eq!(durations, [2_571_680.0, 12_192.0, 12_320.0]);
    }

    #[test]
    fn a_metric_that_ncu_does_not_know_is_left_out() {
        assert_eq!(parse(LOG, &["sm__nonsense", "dram__throughput"]).unwrap().len(), 1);
        assert!(parse(LOG, &["sm__nonsense"]).unwrap_err().contains("none of the metrics"));
        let text = LOG.replace("\"0.10\"", "\"n/a\"");
        assert_eq!(parse(&text, &["dram__throughput", "sm__warps_active"]).unwrap().len(), 1);
    }

    #[test]
    fn output_of_a_kernel_is_not_read_as_metrics() {
        let forged = "\"ID\",\"dram__bytes_read.sum\"\n\"\",\"\"\n\"0\",\"1\"\n";
        assert_eq!(
            parse(&format!("{forged}{LOG}"), &["dram__bytes_read"]).unwrap()[0],
            (12_613_632.0, "byte".to_owned())
        );
    }

    #[test]
    fn failures_of_ncu_have_plain_messages() {
        let denied = "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters on \
                      the target device 0.\n==WARNING== No kernels were profiled.\n";
        assert!(parse(denied, &["dram__throughput"]).unwrap_err().contains("needs a permission"));
        let none = "==PROF== Connected to process 1\n==WARNING== No kernels were profiled.\n";
        assert_eq!(parse(none, &[]).unwrap_err(), "ncu: No kernels were profiled.");
        assert_eq!(parse("", &[]).unwrap_err(), "ncu wrote no numbers");
        // Output that ends within the table.
        let cut: String = LOG.lines().take(4).collect::<Vec<_>>().join("\n");
        assert!(parse(&cut, &["dram__throughput"]).is_err());
    }

    #[test]
    fn quoted_fields() {
        assert_eq!(fields(r#""a","1,2","say ""x""","""#), ["a", "1,2", "say \"x\"", ""]);
    }
}
