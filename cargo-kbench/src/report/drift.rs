//! `cargo kbench build --against`: how the resources of variants drifted.

use std::fmt::Write as _;

use super::{BAD, GOOD, NOTE, WARN, listed};
use crate::compare::drift::{Drift, KernelDrift};
use crate::text::kernel_name;

/// A line for each variant that is worse or better, or came or went; changes of the code alone are only counted. With
/// `verbose`, all of them.
pub fn drift(drift: &KernelDrift, verbose: bool) -> String {
    let mut text = format!("{} for {}\n", kernel_name(&drift.package, &drift.kernel), drift.arch);
    if let Some((old, new)) = &drift.compiler {
        let _ = writeln!(text, "  {WARN}compiler{WARN:#}  {old} → {new}");
    }
    for (kind, style, word) in
        [(Drift::Worse, BAD, "worse"), (Drift::Better, GOOD, "better"), (Drift::Neutral, NOTE, "changed")]
    {
        let variants =
            drift.variants.iter().filter(|variant| variant.drift == kind && (kind > Drift::Neutral || verbose));
        // What fails is shown in full.
        let all = verbose || kind == Drift::Worse;
        listed(&mut text, &variants.collect::<Vec<_>>(), all, |variant| {
            format!("  {style}{word:>8}{style:#}  {}: {}", variant.variant, variant.changes.join(", "))
        });
    }
    for (word, variants) in [("added", &drift.added), ("removed", &drift.removed)] {
        listed(&mut text, variants, verbose, |variant| format!("  {NOTE}{word:>8}{NOTE:#}  {variant}"));
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
