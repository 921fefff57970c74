//! `cargo kbench build --against`: how the resources of variants drifted.

use std::fmt::Write as _;

use super::{BAD, GOOD, NOTE, WARN, name};
use crate::drift::{Drift, KernelDrift};

/// A line for each variant that is worse or better, or came or went. Changes of the code alone are counted, or shown with
/// `verbose`.
pub fn drift(drift: &KernelDrift, verbose: bool) -> String {
    let mut text = format!("{} for {}\n", name(&drift.package, &drift.kernel), drift.arch);
    if let Some((old, new)) = &drift.compiler {
        let _ = writeln!(text, "  {WARN}compiler{WARN:#}  {old} → {new}");
    }
    for variant in drift.variants.iter().filter(|variant| variant.drift > Drift::Neutral || verbose) {
        let (style, word) = match variant.drift {
            Drift::Worse => (BAD, "worse"),
            Drift::Better => (GOOD, "better"),
            Drift::Neutral => (NOTE, "changed"),
        };
        let _ = writeln!(text, "  {style}{word:>8}{style:#}  {}: {}", variant.variant, variant.changes.join(", "));
    }
    for (word, variants) in [("added", &drift.added), ("removed", &drift.removed)] {
        for variant in variants {
            let _ = writeln!(text, "  {NOTE}{word:>8}{NOTE:#}  {variant}");
        }
    }
    let _ = writeln!(
        text,
        "  {} worse, {} better, {} of other code, {} unchanged, {} added, {} removed",
        drift.count(Drift::Worse),
        drift.count(Drift::Better),
        drift.count(Drift::Neutral),
        drift.unchanged,
        drift.added.len(),
        drift.removed.len()
    );
    text
}
