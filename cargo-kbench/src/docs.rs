//! The documents of `cargo-kbench/docs`, embedded in the program.

/// The pages: name and text.
pub const PAGES: &[(&str, &str)] = &[
    ("getting-started", include_str!("../docs/getting-started.md")),
    ("table", include_str!("../docs/table.md")),
    ("gates", include_str!("../docs/gates.md")),
    ("reasons", include_str!("../docs/reasons.md")),
    ("timing", include_str!("../docs/timing.md")),
    ("search", include_str!("../docs/search.md")),
    ("profile", include_str!("../docs/profile.md")),
    ("counters", include_str!("../docs/counters.md")),
    ("audit", include_str!("../docs/audit.md")),
    ("results", include_str!("../docs/results.md")),
    ("merge", include_str!("../docs/merge.md")),
    ("bundle", include_str!("../docs/bundle.md")),
    ("clusters", include_str!("../docs/clusters.md")),
    ("costs", include_str!("../docs/costs.md")),
    ("report", include_str!("../docs/report.md")),
    ("export", include_str!("../docs/export.md")),
    ("ci", include_str!("../docs/ci.md")),
    ("proposers", include_str!("../docs/proposers.md")),
    ("cuda", include_str!("../docs/cuda.md")),
    ("security", include_str!("../docs/security.md")),
    ("troubleshooting", include_str!("../docs/troubleshooting.md")),
    ("warp-specialization", include_str!("../docs/warp-specialization.md")),
    ("kernel-tuner", include_str!("../docs/kernel-tuner.md")),
    ("glossary", include_str!("../docs/glossary.md")),
    ("decisions", include_str!("../docs/decisions.md")),
];

/// The text of a page.
pub fn page(name: &str) -> Option<&'static str> {
    PAGES.iter().find(|(page, _)| *page == name).map(|(_, text)| *text)
}

/// The sections of a page: heading and text. Headings of the second level begin sections.
pub fn sections(page: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    page.split("\n## ").skip(1).map(|section| {
        let (heading, text) = section.split_once('\n').unwrap_or((section, ""));
        (heading.trim(), text.trim())
    })
}

/// The section of a page under a heading, such as a reason code or a metric.
pub fn section(page: &str, heading: &str) -> Option<&'static str> {
    sections(self::page(page)?).find(|(found, _)| *found == heading).map(|(_, text)| text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_page_of_the_folder_is_embedded() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        let pages = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let pages: BTreeSet<String> = pages.filter_map(|name| Some(name.strip_suffix(".md")?.to_owned())).collect();
        let embedded =
            PAGES.iter().map(|(name, _)| (*name).to_owned()).chain(["README".to_owned(), "SUMMARY".to_owned()]);
        assert_eq!(pages, embedded.collect());
    }

    #[test]
    fn a_section_ends_at_the_next_heading() {
        let text = section("reasons", "wrong").unwrap();
        assert!(text.starts_with("Gate: correctness.") && !text.contains("impossible"), "{text}");
        assert_eq!(section("reasons", "right"), None);
    }
}
