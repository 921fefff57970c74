//! The two forms of the counters gate, and its default.

use super::*;
use crate::config::counters::{Counters, Quantifier};

fn of(table: &str) -> Counters {
    let text = format!("{}\n{table}\n", MINIMAL.replace("small = {", "large = { N = 4096 }, small = {"));
    let (project, warnings) = Fixture::new(&text).load().unwrap_or_else(|error| panic!("{error}"));
    assert!(warnings.is_empty());
    project.packages[0].kernels[0].gates.counters.clone()
}

fn shown(counters: &Counters) -> Vec<String> {
    counters.conditions.iter().map(|condition| format!("{condition} ({})", condition.metric)).collect()
}

#[test]
fn a_level_has_the_default_conditions_at_the_shape_of_the_search() {
    assert_eq!(of("").level, Level::Allow);
    let deny = of("gates.counters = 'deny'\nsearch.shape = 'small'");
    assert_eq!((deny.level, deny.quantifier, &deny.shapes), (Level::Deny, Quantifier::Any, &vec![1]));
    assert_eq!(
        shown(&deny),
        [
            "sm__pipe_tensor_cycles_active >= 50 (sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active)",
            "dram__throughput < 50 (dram__throughput.avg.pct_of_peak_sustained_elapsed)"
        ]
    );
    assert_eq!(of("gates.counters = {}"), of("gates.counters.level = 'deny'"));
    assert_eq!(of("gates.counters = 'warn'"), of("gates.counters.level = 'warn'"));
}

#[test]
fn conditions_and_shapes_of_counters_are_read() {
    let counters =
        of("gates.counters = { all = ['sm__throughput>60', ' dram__bytes_read.sum <= 1e6 '], shapes = ['small'] }");
    assert_eq!((counters.quantifier, &counters.shapes), (Quantifier::All, &vec![1]));
    assert_eq!(
        shown(&counters),
        [
            "sm__throughput > 60 (sm__throughput.avg.pct_of_peak_sustained_elapsed)",
            "dram__bytes_read.sum <= 1000000 (dram__bytes_read.sum)"
        ]
    );
}
