//! The two forms of the sanitizer gate, and its default.

use super::*;

fn of(table: &str) -> Sanitize {
    let text = format!("{}\n{table}\n", MINIMAL.replace("small = {", "large = { N = 4096 }, small = {"));
    let (project, warnings) = Fixture::new(&text).load().unwrap_or_else(|error| panic!("{error}"));
    assert!(warnings.is_empty());
    project.packages[0].kernels[0].gates.sanitize.clone()
}

#[test]
fn a_level_alone_is_a_gate_with_defaults() {
    use SanitizeTool::{Initcheck, Memcheck, Racecheck, Synccheck};
    assert_eq!(of("").level, Level::Allow);
    let deny = of("gates.sanitize = 'deny'");
    assert_eq!((deny.level, deny.timeout_seconds), (Level::Deny, 120));
    let endless = of("gates.sanitize = { timeout_seconds = 9223372036854775807 }");
    assert_eq!(endless.timeout_seconds, 365 * 24 * 60 * 60, "multiples of the deadline are valid times");
    assert_eq!(deny.tools, [Memcheck, Racecheck, Initcheck, Synccheck]);
    assert_eq!(deny.shapes, [1], "the smallest, not the first");
    assert_eq!(of("gates.sanitize = {}"), deny);
    assert_eq!(of("gates.sanitize = 'warn'"), of("gates.sanitize.level = 'warn'"));
}

#[test]
fn tools_shapes_and_timeouts_of_sanitizers_are_read() {
    let table =
        "gates.sanitize = { tools = ['synccheck', 'memcheck'], shapes = ['small', 'large'], timeout_seconds = 5 }";
    let sanitize = of(table);
    // In the order they are run, cheapest first.
    assert_eq!(sanitize.tools, [SanitizeTool::Memcheck, SanitizeTool::Synccheck]);
    assert_eq!((sanitize.level, sanitize.shapes, sanitize.timeout_seconds), (Level::Deny, vec![0, 1], 5));
}
