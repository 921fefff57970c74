//! Text of `merge`.

use std::fmt::Write as _;

use super::table::Table;
use super::{WARN, count, time};
use crate::config::DEFAULT;
use crate::record::elite::EliteEntry;
use crate::space::Partition;
use crate::text::kernel_name;

/// The merged entry as a table, and the missing parts of the space.
pub fn merged(entry: &EliteEntry, missing: &[Partition]) -> String {
    let mut text = String::new();
    let search = &entry.search;
    let title = kernel_name(&entry.package, &entry.kernel);
    let runs = count(search.runs.len().max(1) as u64, "run");
    let variants = count(search.evaluated, "variant");
    let _ = writeln!(text, "{title} at {} on {}: {variants} of {runs}\n", entry.shape, entry.device.name);
    let mut table = Table::new(["rank", "p50", "over default", "variant"]);
    for variant in &entry.elite {
        let over_default = variant.speedups.get(DEFAULT);
        let over_default = over_default.map_or_else(|| "-".to_owned(), |speedup| format!("{:.2}x", speedup.ratio));
        let rank = variant.rank.to_string();
        table.row(vec![rank, time(variant.timing.summary.p50), over_default, variant.label()]);
    }
    let _ = writeln!(text, "{table}");
    if !missing.is_empty() {
        let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "{WARN}missing{WARN:#} no result of part {}", missing.join(", "));
    }
    text
}
