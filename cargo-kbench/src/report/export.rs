//! Text of `export`: files written, or the result of a comparison with existing files.

use std::fmt::Write as _;

use super::count;
use super::style::WARN;
use crate::export::Export;
use crate::text::grouped;

/// The written files with their sizes and warnings; or, with `stale`, whether the existing files are current.
pub fn exported(package: &str, export: &Export, stale: Option<&[String]>) -> String {
    let mut text = String::new();
    for warning in &export.warnings {
        let _ = writeln!(text, "{WARN}warning{WARN:#}: {warning}");
    }
    let bytes: usize = export.files.iter().map(|file| file.bytes.len()).sum();
    let what = match stale {
        None => "exported to",
        Some([]) => "current in",
        Some(_) => "stale in",
    };
    let folder = export.folder.display();
    let _ = writeln!(
        text,
        "{package}: {} {what} {folder}: {}, {} bytes",
        count(export.variants as u64, "variant"),
        count(export.files.len() as u64, "file"),
        grouped(bytes as u128)
    );
    text
}
