//! `cargo kbench explain WHAT`: reason codes, keys of the table, counters and pages of the documentation.

use std::fmt::Write as _;

use anyhow::anyhow;

use super::Exit;
use crate::config::{KeyDescription, describe_keys, find_keys};
use crate::docs;
use crate::record::evaluation::{GateName, Reason};
use crate::report::outln;
use crate::text::{count, did_you_mean, list};

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A reason code (`unwritten`), a key of the table (`gates.correctness.max_rms_err`), a counter, or a page of the
    /// documentation; without it, all of them are listed
    pub what: Option<String>,
}

/// Runs the verb.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let Some(what) = &args.what else {
        outln!("{}", overview().trim_end());
        return Ok(Exit::Pass);
    };
    let text = explain(what).ok_or_else(|| {
        let all = names();
        let hint = did_you_mean(what, all.iter().map(String::as_str)).map_or_else(
            || "`cargo kbench explain` lists all names".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        anyhow!("`{what}` is no reason code, key, counter or page; {hint}")
    })?;
    outln!("{text}");
    Ok(Exit::Pass)
}

/// The text for a name. A name may have several meanings: `reference` is a reason code and a key.
fn explain(what: &str) -> Option<String> {
    // A verdict has the form `gate/code`.
    let is_gate = |name: &str| GateName::ALL.iter().any(|gate| gate.to_string() == name);
    let code = what.split_once('/').filter(|(gate, _)| is_gate(gate)).map_or(what, |(_, code)| code);
    // A counter may have ncu's suffix.
    let metric = what.split('.').next().unwrap_or(what);
    let mut parts = Vec::new();
    for (page, heading) in [("reasons", code), ("counters", metric)] {
        parts.extend(docs::section(page, heading).map(|text| format!("# {heading}\n\n{text}")));
    }
    let keys = find_keys(what);
    if !keys.is_empty() {
        parts.push(of_keys(what, &keys).trim_end().to_owned());
    }
    let page = if is_gate(what) { "gates" } else { what.trim_end_matches(".md") };
    // A gate without a table of limits may have the name of another key, such as `launch`.
    let is_unsaid = page == "gates" && !keys.iter().any(|key| key.path == format!("gates.{what}"));
    if let Some(text) = docs::page(page).filter(|_| parts.is_empty() || page == what || is_unsaid) {
        parts.push(text.trim_end().to_owned());
    }
    (!parts.is_empty()).then(|| parts.join("\n\n"))
}

fn of_keys(what: &str, keys: &[KeyDescription]) -> String {
    /// Number of keys with one name above which only their paths are listed.
    const SHOWN: usize = 4;
    let mut text = String::new();
    if keys.len() > SHOWN {
        let _ = writeln!(text, "`{what}` is the end of {}:\n", count(keys.len(), "key"));
        for key in keys {
            let _ = writeln!(text, "- `{}`: {}", key.path, key.meaning);
        }
        return text;
    }
    for key in keys {
        let _ = writeln!(text, "# {}\n\n{}.\n", key.path, key.meaning.trim_end_matches('.'));
        let required = if key.required { " Required." } else { "" };
        let _ = writeln!(text, "Value: {}.{required}\n", key.kind);
        for (name, meaning) in &key.keys {
            let _ = writeln!(text, "- `{name}`: {meaning}");
        }
        if !key.keys.is_empty() {
            text.push('\n');
        }
        let pages = mentions(key, what);
        if !pages.is_empty() {
            let _ = writeln!(text, "See also: `cargo kbench explain PAGE` for {}.\n", list(&pages));
        }
    }
    text
}

/// The pages that mention a key.
fn mentions(key: &KeyDescription, what: &str) -> Vec<&'static str> {
    let name = key.path.rsplit('.').next().unwrap_or(&key.path);
    let forms = [format!("`{}", key.path), format!("`{name}`"), format!("`{name} =")];
    let pages = docs::PAGES.iter().filter(|(page, text)| *page != what && forms.iter().any(|form| text.contains(form)));
    pages.map(|(page, _)| *page).collect()
}

/// All names that can be explained.
fn names() -> Vec<String> {
    let sections = ["reasons", "counters"].into_iter().filter_map(docs::page).flat_map(docs::sections);
    let sections = sections.map(|(heading, _)| heading.to_owned());
    let pages = docs::PAGES.iter().map(|(page, _)| (*page).to_owned());
    sections.chain(pages).chain(describe_keys().into_iter().map(|key| key.path)).collect()
}

fn overview() -> String {
    let mut text = String::from("Reason codes:\n");
    for code in Reason::ALL {
        let first = docs::section("reasons", &code.to_string()).unwrap_or_default();
        let gate = first.split_once('.').map_or("", |(gate, _)| gate.trim_start_matches("Gate: "));
        let _ = writeln!(text, "  {code:16} {gate}");
    }
    text.push_str("\nCounters:\n");
    for (metric, _) in docs::page("counters").into_iter().flat_map(docs::sections) {
        let _ = writeln!(text, "  {metric}");
    }
    text.push_str("\nPages:\n");
    for (page, contents) in docs::PAGES {
        let title = contents.lines().next().unwrap_or_default().trim_start_matches("# ");
        let _ = writeln!(text, "  {page:20} {title}");
    }
    text.push_str(
        "\nKeys of the table, by path or by their last name: gates.correctness.max_rms_err, init, max_seconds\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_code_is_explained_with_an_example_and_a_remedy() {
        for code in Reason::ALL {
            let text = docs::section("reasons", &code.to_string()).unwrap_or_else(|| panic!("no section for {code}"));
            for part in ["Gate: ", "Example: ", "To fix: "] {
                assert!(text.contains(part), "{code} has no `{part}`");
            }
        }
        let sections = docs::sections(docs::page("reasons").unwrap()).count();
        assert_eq!(sections, Reason::ALL.len(), "a section explains no reason code");
    }

    #[test]
    fn every_metric_of_a_profile_is_explained() {
        for metric in crate::profile::METRICS {
            assert!(docs::section("counters", metric).is_some(), "no section for {metric}");
        }
    }

    #[test]
    fn every_key_is_explained_by_its_path() {
        for key in describe_keys() {
            let text = explain(&key.path).unwrap_or_else(|| panic!("no text for {}", key.path));
            assert!(text.contains(key.meaning.trim_end_matches('.')), "{}", key.path);
        }
    }

    #[test]
    fn names_are_found_as_they_are_printed() {
        assert!(explain("correctness/unwritten").unwrap().starts_with("# unwritten"));
        assert!(
            explain("dram__throughput.avg.pct_of_peak_sustained_elapsed").unwrap().starts_with("# dram__throughput")
        );
        assert!(explain("max_rms_err").unwrap().contains("# gates.correctness.max_rms_err"));
        assert!(explain("launch").unwrap().contains("The kernel loads, launches"));
        let both = explain("reference").unwrap();
        assert!(both.contains("The reference failed") && both.contains("Value: a table"), "{both}");
        assert_eq!(explain("nothing-of-this-name"), None);
    }
}
