//! Runs as `JUnit` XML, for servers of continuous integration: a suite for each run, a case for its result and for each
//! variant.
//!
//! A rejected variant is a skipped case, since rejections are part of every search. The case `winner` fails if the run
//! fails.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::facts::{Facts, Fate, Tried};
use crate::report;

/// The runs as one document.
pub fn runs(all: &[&Facts]) -> String {
    let mut report = Report::new("cargo kbench");
    report.add_test_suites(all.iter().map(|facts| suite(facts)));
    text(&report)
}

/// The report as XML. Characters that XML cannot hold are left out. The total number of skipped cases is left out too,
/// since the schema of Jenkins has no such attribute.
pub(super) fn text(report: &Report) -> String {
    let text = report.to_string().unwrap_or_else(|error| unreachable!("a text grows: {error}"));
    let skipped = report.test_suites.iter().map(|suite| suite.skipped).sum::<usize>();
    text.replacen(&format!(" skipped=\"{skipped}\""), "", 1)
}

fn suite(facts: &Facts) -> TestSuite {
    let mut suite = TestSuite::new(facts.title());
    suite.add_test_case(result(facts));
    suite.add_test_cases(facts.variants.iter().map(|variant| case(facts, variant)));
    suite
}

fn result(facts: &Facts) -> TestCase {
    let status = if facts.fails() {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        let why = match (&facts.winner, facts.ended) {
            (Some(_), _) => facts.missed.join("; "),
            (None, true) => "no variant passed the gates".to_owned(),
            (None, false) => "the run was cut off before its finals".to_owned(),
        };
        status.set_message(why);
        status
    } else {
        TestCaseStatus::success()
    };
    let mut case = TestCase::new("winner", status);
    case.set_classname(facts.kernel.clone());
    if let (Some(winner), Some(row)) = (&facts.winner, facts.finals.first()) {
        case.set_system_out(format!("{}: {}", winner.variant, report::p50(&row.timing)));
    }
    case
}

fn case(facts: &Facts, variant: &Tried) -> TestCase {
    let status = match (variant.fate, variant.gate, variant.reason) {
        (Fate::Rejected, Some(gate), Some(reason)) => {
            let mut status = TestCaseStatus::skipped();
            status.set_type(format!("{gate}/{reason}"));
            status.set_message(variant.message.clone().unwrap_or_default());
            status
        }
        _ => TestCaseStatus::success(),
    };
    let mut case = TestCase::new(variant.variant.clone(), status);
    case.set_classname(facts.kernel.clone());
    if let Some(timing) = &variant.timing {
        let about = if variant.fate == Fate::Stopped { "stopped early, about " } else { "" };
        case.set_system_out(format!("{about}{}", report::time(timing.summary.p50)));
    }
    case
}
