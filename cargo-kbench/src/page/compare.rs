//! Two files side by side, in every format.

use std::fmt::Write as _;

use askama::Template;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::values::said;
use super::{Format, junit, markdown};
use crate::compare::{FileDiff, Only, Row};
use crate::report;
use crate::text::number;

/// The template.
#[derive(Template)]
#[template(path = "compare.html")]
struct Page<'d> {
    nonce: &'d str,
    style: &'static str,
    script: &'static str,
    old: &'d str,
    new: &'d str,
    summary: String,
    lines: Vec<Line>,
    only: Vec<(&'static str, String, f64, String)>,
    version: &'static str,
}

/// A row with the texts that all formats show.
struct Line {
    place: String,
    name: String,
    old: (f64, String),
    new: (String, String),
    speedup: (String, String),
    verdict: String,
    regression: bool,
    reasons: String,
}

/// The document; `old` and `new` name the files. None in a format that holds one search.
pub fn document(diff: &FileDiff, (old, new): (&str, &str), format: Format) -> Option<String> {
    let lines: Vec<Line> = diff.rows.iter().map(line).collect();
    Some(match format {
        Format::Html => page(diff, (old, new), lines),
        Format::Md => as_markdown(diff, (old, new), &lines),
        Format::Csv => as_csv(&lines),
        Format::Json => serde_json::to_string_pretty(diff).expect("texts and numbers") + "\n",
        Format::Junit => as_junit(&lines),
        Format::T4 | Format::Cachefile => return None,
    })
}

fn line(row: &Row) -> Line {
    let new = row.new.as_ref();
    Line {
        place: said(&format!("{} at {} on {}", row.kernel, row.shape, row.device)),
        name: said(&row.name),
        old: (row.old.p50, report::time(row.old.p50)),
        new: new.map_or_else(|| (String::new(), "rejected".to_owned()), |new| (number(new.p50), report::time(new.p50))),
        speedup: row.speedup.as_ref().map_or_else(Default::default, |speedup| {
            (number(speedup.ratio), format!("{:.3}x ({})", speedup.ratio, report::speedup_interval(speedup)))
        }),
        verdict: row.verdict.map_or_else(|| "rejected".to_owned(), |verdict| verdict.to_string()),
        regression: row.regression,
        reasons: said(&row.reasons.join("; ")),
    }
}

fn summary(diff: &FileDiff) -> String {
    let count = |n: usize, noun: &str| crate::text::count(n, noun);
    format!("{} in both, {}", count(diff.rows.len(), "variant"), count(diff.regressions(), "regression"))
}

fn page(diff: &FileDiff, (old, new): (&str, &str), lines: Vec<Line>) -> String {
    let only = |file: &'static str, only: &Only| {
        let place = format!("{} of {} at {} on {}", only.name, only.kernel, only.shape, only.device);
        (file, said(&place), only.p50, report::time(only.p50))
    };
    let nonce =
        kbench_runtime::fingerprint::of_bytes(serde_json::to_string(diff).expect("texts and numbers").as_bytes());
    let page = Page {
        nonce: &nonce,
        style: include_str!("html/report.css"),
        script: include_str!("html/sort.js"),
        old: &said(old),
        new: &said(new),
        summary: summary(diff),
        lines,
        only: diff
            .only_old
            .iter()
            .map(|of| only("old", of))
            .chain(diff.only_new.iter().map(|of| only("new", of)))
            .collect(),
        version: env!("CARGO_PKG_VERSION"),
    };
    page.render().unwrap_or_else(|error| unreachable!("a template that compiles is rendered: {error}"))
}

fn as_markdown(diff: &FileDiff, (old, new): (&str, &str), lines: &[Line]) -> String {
    let mut text =
        format!("### {} and {}\n\n{}\n\n", markdown::code(&said(old)), markdown::code(&said(new)), summary(diff));
    text.push_str("| kernel | variant or baseline | old p50 | new p50 | speed-up | verdict | remarks |\n");
    text.push_str("| --- | --- | ---: | ---: | ---: | --- | --- |\n");
    for line in lines {
        let Line { place, name, old, new, speedup, verdict, regression, reasons } = line;
        let (place, name) = (markdown::cell(place), markdown::cell(name));
        let verdict = if *regression { format!("**{verdict}: a regression**") } else { verdict.clone() };
        let reasons = if reasons.is_empty() { String::new() } else { markdown::cell(reasons) };
        let _ = writeln!(text, "| {place} | {name} | {} | {} | {} | {verdict} | {reasons} |", old.1, new.1, speedup.1);
    }
    text
}

fn as_csv(lines: &[Line]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let head = ["kernel", "variant", "old_p50_ns", "new_p50_ns", "speedup", "verdict", "regression", "remarks"];
    writer.write_record(head).expect("a text grows");
    for Line { place, name, old, new, speedup, verdict, regression, reasons } in lines {
        let fields = [place, name, &number(old.0), &new.0, &speedup.0, verdict, &regression.to_string(), reasons];
        writer.write_record(fields.map(|field| super::csv::safe(field))).expect("a text grows");
    }
    String::from_utf8(writer.into_inner().expect("a text grows")).expect("it was written from texts")
}

fn as_junit(lines: &[Line]) -> String {
    let mut suite = TestSuite::new("compare");
    for line in lines {
        let mut status = TestCaseStatus::success();
        if line.regression {
            status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(format!("{} to {}: {} {}", line.old.1, line.new.1, line.verdict, line.reasons));
        }
        let mut case = TestCase::new(line.name.clone(), status);
        case.set_classname(line.place.clone());
        case.set_system_out(format!("{} to {}: {}", line.old.1, line.new.1, line.speedup.1));
        suite.add_test_case(case);
    }
    let mut report = Report::new("cargo kbench");
    report.add_test_suite(suite);
    junit::text(&report)
}
