//! What README.md and the documents promise.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use model::{kbench, shown};

mod model;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The first block of TOML of a document.
fn example(path: &str) -> String {
    let text = read(path);
    let (_, rest) = text.split_once("```toml\n").unwrap_or_else(|| panic!("{path} has no example"));
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn readme_names_only_existing_verbs() {
    let readme = read("README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|row| row.split_once('`'));
    let verbs: Vec<&str> = rows.map(|(verb, _)| verb.split(' ').next().unwrap()).collect();
    let folder = tempfile::tempdir().unwrap();
    assert!(verbs.contains(&"autotune"), "{verbs:?}");
    for verb in verbs {
        let output = kbench(folder.path(), &[verb, "--help"]).output().unwrap();
        assert!(output.status.success(), "README promises `{verb}`");
    }
}

#[test]
fn the_example_of_readme_is_a_valid_table() {
    let table = example("README.md");
    let folder = tempfile::tempdir().unwrap();
    let manifest = "[package]\nname = \"readme\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n";
    fs::create_dir(folder.path().join("src")).unwrap();
    fs::write(folder.path().join("Cargo.toml"), format!("{manifest}{table}")).unwrap();
    for file in ["src/lib.rs", "src/scale.cu", "src/reference.c"] {
        fs::write(folder.path().join(file), "").unwrap();
    }
    let shown = shown(folder.path(), &["check"]);
    assert!(shown.starts_with("exit 0\n") && shown.ends_with("---\n"), "{shown}");
    assert_eq!(table, example("cargo-kbench/docs/table.md"), "both explain the same example");
}

/// The commands of a document: the words after `cargo kbench` in blocks of code.
fn commands(text: &str) -> Vec<Vec<String>> {
    let blocks = text.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(str::lines).map(|line| line.split(" #").next().unwrap_or(line));
    let parts = lines.flat_map(|line| line.split("&&")).filter_map(|part| {
        let (before, command) = part.split_once("cargo kbench ")?;
        // A command, not a word in a table or in output.
        let before = before.trim().trim_start_matches(['$', '-']).trim();
        (before.is_empty() || before == "run:").then_some(command)
    });
    let until = |word: &String| !["|", ">", ">>", "2>"].contains(&word.as_str());
    let words = |part: &str| shlex::split(part).unwrap_or_else(|| panic!("an open quote: {part}"));
    parts.map(|part| words(part).into_iter().take_while(until).collect()).collect()
}

#[test]
fn the_commands_of_every_document_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let pages = fs::read_dir(root().join("cargo-kbench/docs")).unwrap();
    let pages = pages.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|kind| kind == "md"));
    let pages = pages.map(|file| Path::new("cargo-kbench/docs").join(file.unwrap().file_name()).display().to_string());
    let mut tried = 0;
    for document in pages.chain(["README.md".to_owned()]) {
        for command in commands(&read(&document)) {
            // Arguments are parsed up to `--help`, so that an unknown flag before it is an error.
            let args: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
            let output = kbench(folder.path(), &args).output().unwrap();
            assert!(output.status.success(), "{document}: {command:?}: {}", String::from_utf8_lossy(&output.stderr));
            tried += 1;
        }
    }
    assert!(tried > 12, "{tried}");
}

#[test]
fn the_index_and_the_book_list_every_page() {
    let (index, summary) = (read("cargo-kbench/docs/README.md"), read("cargo-kbench/docs/SUMMARY.md"));
    for page in fs::read_dir(root().join("cargo-kbench/docs")).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        let is_page =
            name.rsplit_once('.').is_some_and(|(stem, kind)| kind == "md" && stem != "README" && stem != "SUMMARY");
        let link = format!("({name})");
        assert!(!is_page || index.contains(&link) && summary.contains(&link), "{name}");
    }
}

#[test]
fn readme_stays_short() {
    assert!(read("README.md").lines().count() <= 200);
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let mut documents = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned(), "CHANGELOG.md".to_owned()];
    for folder in [
        "cargo-kbench/docs",
        "cargo-kbench/benches",
        "cargo-kbench/benches/replay",
        "kernels",
        "kernels/matmul",
        "kernels/sdpa",
        "kernels/sdpa-cpu",
        "tests/trust",
    ] {
        let files =
            fs::read_dir(root().join(folder)).unwrap().map(|file| Path::new(folder).join(file.unwrap().file_name()));
        let pages = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
        documents.extend(pages.map(|path| path.display().to_string()));
    }
    let mut broken = Vec::new();
    for document in &documents {
        for link in links(&read(document)).into_iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let beside = Path::new(document).parent().unwrap();
            let target = if path.is_empty() { PathBuf::from(document) } else { beside.join(path) };
            let is_found = match fs::read_to_string(root().join(&target)) {
                Ok(text) => anchor.is_empty() || anchors(&text).contains(anchor),
                Err(_) => root().join(&target).is_dir() && anchor.is_empty(),
            };
            if !is_found {
                broken.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The targets of the links of a text in Markdown, but for those in blocks of code.
fn links(text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// The anchors that a page gets for its headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept =
            heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
        kept.replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn the_fixtures_of_reasons_get_the_reason_code_of_their_section() {
    let expected: toml::Table = read("tests/fixtures/expected.toml").parse().unwrap();
    let reasons = read("cargo-kbench/docs/reasons.md");
    let mut named = 0;
    for section in reasons.split("\n## ").skip(1) {
        let code = section.lines().next().unwrap();
        for fixture in section.split("Fixture: `").skip(1).map(|rest| rest.split('`').next().unwrap()) {
            assert_eq!(expected[fixture]["code"].as_str(), Some(code), "{fixture}");
            named += 1;
        }
    }
    assert!(named > 25, "{named}");
}

/// Files below a folder whose names end in one of these ways, without links and generated code.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap().map(Result::unwrap) {
        let (kind, name) = (entry.file_type().unwrap(), entry.file_name().into_string().unwrap());
        let path = format!("{folder}/{name}");
        if kind.is_dir() {
            found.extend(files(&path, endings));
        } else if kind.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path.into());
        }
    }
    found
}

/// The comments of a source, one text for each run of lines with comments.
fn comments(source: &str) -> Vec<String> {
    let lines: Vec<Option<&str>> = source.lines().map(|line| line.trim().strip_prefix("//")).collect();
    let runs = lines.split(Option::is_none).filter(|run| !run.is_empty());
    let text = |line: Option<&str>| line.unwrap_or_default().trim_start_matches(['/', '!']).trim().to_owned();
    runs.map(|run| run.iter().copied().map(text).collect::<Vec<_>>().join(" ")).collect()
}

/// Documents and comments name the thing, its unit and its range. These phrases leave the reader to find the noun.
#[test]
fn documents_and_comments_use_plain_words() {
    const PHRASES: [&str; 17] = [
        "so many",
        "whoever",
        "whatever",
        "nobody",
        "somebody",
        "that which",
        "what became of",
        "what it ",
        "what they ",
        "what was ",
        "what is left",
        "is told",
        "was told",
        "once more",
        "all the same",
        "in vain",
        "its own affair",
    ];
    const STARTS: [&str; 12] = [
        "Its ",
        "It ",
        "They ",
        "What ",
        "Such ",
        "So many",
        "Why ",
        "Why.",
        "How many",
        "Where.",
        "Likewise",
        "See the module",
    ];
    let mut texts = vec![("README.md".into(), read("README.md")), ("CONTRIBUTING.md".into(), read("CONTRIBUTING.md"))];
    for folder in ["cargo-kbench/docs", "cargo-kbench/benches", "kernels", "templates"] {
        texts.extend(files(folder, &[".md", ".md.tmpl"]).into_iter().map(|path| {
            let text = fs::read_to_string(root().join(&path)).unwrap();
            (path, text)
        }));
    }
    for path in ["cargo-kbench/src", "kbench-runtime/src"].iter().flat_map(|folder| files(folder, &[".rs"])) {
        // Files of this folder are text of exported modules.
        if !path.starts_with("cargo-kbench/src/export/rust") {
            let source = fs::read_to_string(root().join(&path)).unwrap();
            texts.extend(comments(&source).into_iter().map(|comment| (path.clone(), comment)));
        }
    }
    assert!(texts.len() > 5000, "{}", texts.len());
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let faults: Vec<String> = texts
        .iter()
        .map(|(path, text)| (path, words(text)))
        .filter(|(_, text)| {
            STARTS.iter().any(|start| text.starts_with(start))
                || PHRASES.iter().any(|phrase| text.to_lowercase().contains(phrase))
        })
        .map(|(path, text)| format!("{}: {}", path.display(), text.chars().take(100).collect::<String>()))
        .collect();
    assert!(faults.is_empty(), "say it with a noun:\n{}", faults.join("\n"));
}
