//! Text of `build --against`: changed resources of variants.

use std::fmt::Write as _;

use super::{BAD, GOOD, NOTE, WARN, listed};
use crate::compare::resource_diff::{Change, ResourceDiff};
use crate::text::kernel_name;

/// A line for each variant that is worse or better, or that was added or removed; changes of the code alone are only
/// counted. `verbose` shows all.
pub fn resource_diff(diff: &ResourceDiff, verbose: bool) -> String {
    let mut text = format!("{} for {}\n", kernel_name(&diff.package, &diff.kernel), diff.arch);
    if let Some((old, new)) = &diff.compiler {
        let _ = writeln!(text, "  {WARN}compiler{WARN:#}  {old} → {new}");
    }
    for (kind, style, word) in
        [(Change::Worse, BAD, "worse"), (Change::Better, GOOD, "better"), (Change::Neutral, NOTE, "changed")]
    {
        let variants =
            diff.variants.iter().filter(|variant| variant.change == kind && (kind > Change::Neutral || verbose));
        // Variants that are worse are shown in full.
        let all = verbose || kind == Change::Worse;
        listed(&mut text, &variants.collect::<Vec<_>>(), all, |variant| {
            format!("  {style}{word:>8}{style:#}  {}: {}", variant.variant, variant.changes.join(", "))
        });
    }
    for (word, variants) in [("added", &diff.added), ("removed", &diff.removed)] {
        listed(&mut text, variants, verbose, |variant| format!("  {NOTE}{word:>8}{NOTE:#}  {variant}"));
    }
    let _ = writeln!(
        text,
        "  {} worse, {} better, {} of other code, {} unchanged, {} added, {} removed",
        diff.count(Change::Worse),
        diff.count(Change::Better),
        diff.count(Change::Neutral),
        diff.unchanged,
        diff.added.len(),
        diff.removed.len()
    );
    text
}
