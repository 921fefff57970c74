//! `cargo kbench report`, on the model device; the page in a browser where there is one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use browser::Browser;
use model::{MODEL, kbench, package_with, shown};

mod browser;
mod model;

/// A package with a search on record.
fn tuned(table: &str) -> tempfile::TempDir {
    let package = package_with(MODEL, table);
    let output = kbench(package.path(), &["autotune", "-q"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    package
}

/// Its page.
fn page(package: &Path) -> PathBuf {
    let output = kbench(package, &["report", "-q"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    package.join("target/kbench/report/model/model.html")
}

#[test]
fn the_page_and_the_plots_are_files_of_their_own() {
    let package = tuned("");
    let told = shown(package.path(), &["report", "--plots", "plots"]);
    assert!(told.contains("model at only on fake: [FOLDER]/target/kbench/report/model/model.html"), "{told}");
    let page = fs::read_to_string(page(package.path())).unwrap();
    for said in ["A=3 B=2 C=1 D=0", "1.31×", "out of the page", "correctness", "SIGSEGV"] {
        assert_eq!(page.contains(said), said != "out of the page", "{said}");
    }
    assert!(page.len() < 1_000_000);
    // Nothing is fetched: the only addresses are names of formats.
    for place in page.match_indices("http").map(|(at, _)| &page[at..]) {
        assert!(place.starts_with("http://www.w3.org/2000/svg") || place.starts_with("http-equiv"), "{place:.80}");
    }
    let plots: Vec<_> =
        fs::read_dir(package.path().join("plots/model")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(plots.len() > 2, "{plots:?}");
    for plot in plots {
        let plot = fs::read_to_string(plot).unwrap();
        assert!(
            plot.starts_with("<?xml") && plot.contains("<style>") && plot.trim_end().ends_with("</svg>"),
            "{plot:.200}"
        );
    }
}

#[test]
fn a_rank_by_few_samples_has_no_interval() {
    // A launch of 0.1 s and more is ranked by one sample, or by three.
    let package = package_with("time_ns = '200000000 - 1000000 * A - 1000000 * B'\nnoise = 0.0\n", "");
    let output = kbench(package.path(), &["autotune", "-q", "--budget", "3"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let csv = shown(package.path(), &["report", "--format", "csv"]);
    assert!(csv.contains(",measured,200000000,200000000,,,"), "{csv}");
}

/// JSON without what depends on the moment: when the run began, and how its samples were taken.
fn settled(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.retain(|name, _| name != "time" && name != "sampling");
            fields.values_mut().for_each(settled);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(settled),
        _ => {}
    }
}

#[test]
fn every_format_has_the_same_facts() {
    // Few variants, of which a gate rejects one.
    let package = tuned("[package.metadata.kbench.kernels.model.search]\nbudget = { evaluations = 12 }");
    let said = |format: &str| {
        let output = kbench(package.path(), &["report", "--format", format]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // The last digits are the libm's.
    insta::with_settings!({ filters => [(r"(\d\.\d{2})\d+", "$1")] }, {
        for format in ["md", "csv", "junit"] {
            insta::assert_snapshot!(format!("report_{format}"), said(format));
        }
        let mut json = serde_json::from_str(&said("json")).unwrap();
        settled(&mut json);
        insta::assert_snapshot!("report_json", serde_json::to_string_pretty(&json).unwrap());
    });
}

#[test]
fn junit_is_valid_by_its_schema() {
    let package = tuned("");
    let output = kbench(package.path(), &["report", "--format", "junit"]).output().unwrap();
    let file = package.path().join("junit.xml");
    fs::write(&file, output.stdout).unwrap();
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/junit/junit.xsd");
    let valid = Command::new("xmllint").args(["--noout", "--schema", schema]).arg(&file).output();
    match valid {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => eprintln!("skipped: xmllint is not installed (Debian: libxml2-utils)"),
    }
}

#[test]
fn two_files_are_put_side_by_side() {
    let (old, new) = (tuned(""), package_with(&MODEL.replace("20000", "21000"), ""));
    assert!(kbench(new.path(), &["autotune", "-q"]).output().unwrap().status.success());
    let file = |package: &Path| package.join("elite.json").display().to_string();
    let compared = |format: &str| {
        let files = [file(old.path()), file(new.path())];
        let arguments = ["report", "--format", format, "--compare", &files[0], &files[1]];
        shown(new.path(), &arguments).replace(&files[0], "OLD")
    };
    insta::assert_snapshot!("report_compare_md", compared("md"));
    let page = compared("html");
    assert!(page.starts_with("exit 0\n<!doctype html>") && page.contains("slower: a regression"), "{page}");
    let junit = compared("junit");
    assert!(junit.contains("<failure") && junit.contains("classname=\"model at only on fake\""), "{junit}");
    assert!(compared("csv").contains("model at only on fake,default,"));
    assert!(compared("json").contains("\"verdict\": \"slower\""));
}

#[test]
fn variants_are_listed_and_shown() {
    let package = tuned("");
    let told = |arguments: &[&str]| shown(package.path(), arguments);
    insta::assert_snapshot!(
        "list",
        told(&["list", "--where", "A >= 2 and B == 3 or outcome == 'stopped early'", "--sort", "value"])
    );
    let columns = told(&["list", "--columns", "A,p50,message", "--sort", "A", "--reverse", "--limit", "2"]);
    assert!(columns.contains(" A ") && columns.contains("25 of 25 variants; 2 of them listed"), "{columns}");
    for (arguments, said) in [
        (["list", "--sort", "gatee"], "no column `gatee`; did you mean `gate`?"),
        (["list", "--where", "A =="], "--where `A ==`: "),
        (["show", "A=0", "-q"], "variants have `A=0`, such as A=0 B=0 C=0 D=0"),
        (["show", "A=9", "-q"], "no variant `A=9` in this search"),
        (["show", "26", "-q"], "no variant `26` in this search"),
    ] {
        let told = told(&arguments);
        assert!(told.starts_with("exit 2\n") && told.contains(said), "{told}");
    }
    // So wide that the length of the folder's name breaks no line.
    let told_wide = |variant: &str| {
        let output = kbench(package.path(), &["show", variant]).env("COLUMNS", "1000").output().unwrap();
        let folder = package.path().canonicalize().unwrap();
        String::from_utf8(output.stdout).unwrap().replace(&*folder.to_string_lossy(), "[FOLDER]")
    };
    insta::with_settings!({ filters => [(r"[0-9a-f]{64}", "[HASH]")] }, {
        insta::assert_snapshot!("show_rejected", told_wide("A=3 B=3"));
        insta::assert_snapshot!("show_winner", told_wide("A=3,B=2,C=1,D=0"));
    });
    assert!(told(&["show", "1", "-v"]).contains("µs, "), "all samples");
}

/// Names and values of others that would do something if they were not escaped.
const HOSTILE: &str = r#"
toggles.macro = { W = ["plain", "</script><img src=x onerror=boom()>", "`|\\<i>&\"'"] }
toggles.micro = { C = [0, 1] }
toggles.default = { W = "plain" }
[package.metadata.kbench.kernels.model.baselines]
loud = { command = ["sh", "-c", "echo '<svg onload=boom()>|`' >&2; exit 1"] }
"#;

fn hostile() -> tempfile::TempDir {
    let package = package_with(
        "time_ns = \"20000 - 1000 * C\"\n[[fault]]\nwhen = \"C == 1 and W == 'plain'\"\nkind = \"wrong\"",
        "",
    );
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let start = text.find("toggles.macro").unwrap();
    let end = text.find("gates.correctness").unwrap();
    let (own, rest) = HOSTILE.split_once("[package").unwrap();
    fs::write(&manifest, format!("{}{own}{}[package{rest}", &text[..start], &text[end..])).unwrap();
    let output = kbench(package.path(), &["autotune", "-q"]).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    package
}

#[test]
fn names_from_outside_are_escaped_in_every_format() {
    let package = hostile();
    let page = page(package.path());
    let text = fs::read_to_string(&page).unwrap();
    for foreign in ["<img", "<svg onload", "<i>"] {
        assert!(!text.contains(foreign), "{foreign}");
    }
    assert_eq!(text.matches("</script>").count(), 2, "the page's own");
    assert!(text.contains("&#60;svg onload=boom()&#62;"), "the program's message is shown");
    let csv = shown(package.path(), &["report", "--format", "csv"]);
    assert!(csv.contains("onerror=boom()"), "{csv}");
    let Some(mut browser) = Browser::start() else { return };
    browser.load(&page, 1440, "light");
    assert!(
        browser
            .value("document.getElementById('table').textContent")
            .as_str()
            .unwrap()
            .contains("<img src=x onerror=boom()>")
    );
    assert_eq!(browser.value("document.querySelectorAll('img, b:not(.card b), svg:not(.plot svg)').length"), 0);
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
}

#[test]
fn without_a_search_on_record_there_is_nothing_to_report() {
    let package = package_with(MODEL, "");
    let told = shown(package.path(), &["report"]);
    assert!(told.starts_with("exit 2\n") && told.contains("run `cargo kbench autotune` first"), "{told}");
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(mut browser) = Browser::start() else { return };
    let package = tuned("");
    let page = page(package.path());
    for (width, scheme) in [(390, "light"), (390, "dark"), (1440, "light"), (1440, "dark")] {
        browser.load(&page, width, scheme);
        assert_eq!(browser.value("document.getElementById('count').textContent"), "25 of 25 variants");
        let wide = browser.value("document.documentElement.scrollWidth - innerWidth").as_i64().unwrap();
        assert!(wide <= 0, "the page is {wide} pixels wider than a window of {width}");
        if let Some(folder) = std::env::var_os("KBENCH_PICTURES") {
            let name = format!("report-{width}-{scheme}.png.base64");
            fs::write(Path::new(&folder).join(name), browser.picture()).unwrap();
        }
    }
    let marks = "document.querySelectorAll('#plot-convergence .m:not(.out)').length";
    assert_eq!(browser.value(marks), 25);

    // The second filter of a toggle, by keyboard: A = 0.
    browser.press("#filter label:nth-of-type(3) select", "ArrowDown", 40);
    let rows = "[...document.querySelectorAll('#table tbody tr')].map((row) => row.cells[1].textContent)";
    let kept = browser.value(rows);
    let kept = kept.as_array().unwrap();
    assert!(!kept.is_empty() && kept.len() < 25 && kept.iter().all(|value| value == "0"), "{kept:?}");
    assert_eq!(browser.value(marks), kept.len());
    browser.click("#show-all");
    assert_eq!(browser.value("document.getElementById('count').textContent"), "25 of 25 variants");

    // Headers sort; what has no value comes last, whichever way.
    let first = "document.querySelector('#table tbody tr').cells[0].textContent";
    browser.click("#table th:first-child button");
    assert_eq!(browser.value(first), "1");
    browser.click("#table th:first-child button");
    assert_eq!(browser.value(first), "25");
    assert_eq!(browser.value("document.querySelector('#table th').ariaSort"), "descending");
    browser.click("#finals th:nth-child(3) button");
    browser.click("#finals th:nth-child(3) button");
    assert_eq!(browser.value("document.querySelector('#finals tbody tr').cells[1].textContent"), "default");

    // Whatever can be used has a name.
    let nameless = browser.value(
        "[...document.querySelectorAll('button, select, input, svg[role=img], [role=region], section')].filter((of) => \
         !(of.ariaLabel || of.getAttribute('aria-labelledby') || of.textContent.trim() || of.labels?.length)).length",
    );
    assert_eq!(nameless, 0);
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
}
