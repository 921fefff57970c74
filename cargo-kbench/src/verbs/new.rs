//! `cargo kbench new NAME`: a package with one kernel, its reference, its baseline and an explained table.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Exit;
use crate::cli::OutputArgs;
use crate::report::{self, Verbosity};

/// What `new` can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Template {
    /// A matrix product in C, for any machine
    #[default]
    C,
    /// A row softmax in CUDA
    Cuda,
}

impl Template {
    /// Its files: path in the package and text, in which `{{name}}` stands for the package's name.
    ///
    /// Embedded, so that an installed binary needs nothing beside it. The names in the folder end in `.tmpl` where cargo
    /// or git would take the file for its own: `cargo package` leaves out folders that hold a Cargo.toml.
    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Template::C => &[
                (".gitignore", include_str!("../../templates/c/gitignore.tmpl")),
                ("Cargo.toml", include_str!("../../templates/c/Cargo.toml.tmpl")),
                ("README.md", include_str!("../../templates/c/README.md.tmpl")),
                ("src/lib.rs", include_str!("../../templates/c/src/lib.rs")),
                ("src/matmul.c", include_str!("../../templates/c/src/matmul.c")),
                ("src/naive.c", include_str!("../../templates/c/src/naive.c")),
                ("src/reference.c", include_str!("../../templates/c/src/reference.c")),
            ],
            Template::Cuda => &[
                (".gitignore", include_str!("../../templates/cuda/gitignore.tmpl")),
                ("Cargo.toml", include_str!("../../templates/cuda/Cargo.toml.tmpl")),
                ("README.md", include_str!("../../templates/cuda/README.md.tmpl")),
                ("src/lib.rs", include_str!("../../templates/cuda/src/lib.rs")),
                ("src/naive.cu", include_str!("../../templates/cuda/src/naive.cu")),
                ("src/reference.c", include_str!("../../templates/cuda/src/reference.c")),
                ("src/softmax.cu", include_str!("../../templates/cuda/src/softmax.cu")),
            ],
        }
    }
}

/// Runs the verb in the current folder.
pub fn run(name: &str, template: Template, output: &OutputArgs) -> anyhow::Result<Exit> {
    let written = create(&std::env::current_dir()?, name, template)?;
    if output.json() {
        report::json::message("created", serde_json::json!({ "files": written }));
    } else if output.verbosity() > Verbosity::Quiet {
        report::status("Created", format_args!("package `{name}`"));
        if let Some(workspace) = workspace_above(&std::env::current_dir()?) {
            let manifest = workspace.display();
            report::status(
                "Note",
                format_args!("add it to the `members` of {manifest}, unless a pattern there has it"),
            );
        }
        report::status("Next", format_args!("cd {name} && cargo kbench gate && cargo kbench autotune"));
    }
    Ok(Exit::Pass)
}

/// The manifest of the workspace that a new package here would be taken for a member of.
fn workspace_above(folder: &Path) -> Option<PathBuf> {
    let manifests = folder.ancestors().map(|folder| folder.join("Cargo.toml"));
    manifests.into_iter().find(|manifest| {
        let text = fs::read_to_string(manifest).unwrap_or_default();
        text.lines().any(|line| line.trim_start().starts_with("[workspace"))
    })
}

/// Why no package was written.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// Not a name that cargo takes for a package.
    #[error("`{name}` cannot be a package's name: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something is there already.
    #[error("`{}` exists already; choose another name or remove it first", .0.display())]
    Exists(PathBuf),
    /// The file system refused.
    #[error("could not write `{}`: {error}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Writes the package `name` to a new folder of that name in `parent`, and returns its files. On an error nothing is left.
pub fn create(parent: &Path, name: &str, template: Template) -> Result<Vec<PathBuf>, NewError> {
    if let Some(reason) = name_fault(name) {
        return Err(NewError::Name { name: name.to_owned(), reason });
    }
    let target = parent.join(name);
    if target.symlink_metadata().is_ok() {
        return Err(NewError::Exists(target));
    }
    // Written beside the target and moved there whole. The package is a folder inside the temporary one, since that one
    // is closed to all other users.
    let scratch = tempfile::Builder::new()
        .prefix(".kbench-new-")
        .tempdir_in(parent)
        .map_err(|error| NewError::Io { path: parent.to_owned(), error })?;
    let package = scratch.path().join(name);
    let mut written = Vec::new();
    for (path, text) in template.files() {
        write(&package.join(path), &text.replace("{{name}}", name))?;
        written.push(target.join(path));
    }
    fs::rename(&package, &target).map_err(|error| NewError::Io { path: target, error })?;
    Ok(written)
}

/// Writes a file and the folders that it lies in.
fn write(path: &Path, text: &str) -> Result<(), NewError> {
    let folder = path.parent().expect("a file lies in a folder");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| NewError::Io { path: path.to_owned(), error })
}

/// What `cargo new` has against a name, and that it is not ASCII, which C compilers and linkers may trip over.
fn name_fault(name: &str) -> Option<&'static str> {
    const KEYWORDS: &[&str] = &[
        "Self", "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do",
        "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
        "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct",
        "super", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while",
        "yield", "_",
    ];
    const BUILD_FOLDERS: &[&str] = &["build", "deps", "examples", "incremental"];
    const STANDARD_LIBRARIES: &[&str] = &["alloc", "core", "proc-macro", "proc_macro", "std", "test"];
    const WINDOWS_DEVICES: &[&str] = &[
        "aux", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9", "con", "lpt1", "lpt2", "lpt3",
        "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9", "nul", "prn",
    ];
    let first = name.chars().next();
    if first.is_none() {
        Some("it is empty")
    } else if first.is_some_and(|c| c.is_ascii_digit()) {
        Some("it starts with a digit")
    } else if !first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_') {
        Some("it must start with an ASCII letter or `_`")
    } else if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        Some("only ASCII letters, digits, `-` and `_` may stand in it")
    } else if KEYWORDS.contains(&name) {
        Some("it is a Rust keyword")
    } else if BUILD_FOLDERS.contains(&name) {
        Some("cargo has a build folder of that name")
    } else if STANDARD_LIBRARIES.contains(&name) {
        Some("a library that comes with Rust has it")
    } else if WINDOWS_DEVICES.contains(&name.to_ascii_lowercase().as_str()) {
        Some("Windows keeps it for a device")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATES: [(Template, &str); 2] = [(Template::C, "c"), (Template::Cuda, "cuda")];

    /// Every file below `folder`, relative to it, sorted.
    fn files_below(folder: &Path) -> Vec<String> {
        fn walk(folder: &Path, prefix: &str, found: &mut Vec<String>) {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
                if entry.path().is_dir() {
                    walk(&entry.path(), &format!("{name}/"), found);
                } else {
                    found.push(name);
                }
            }
        }
        let mut found = Vec::new();
        walk(folder, "", &mut found);
        found.sort();
        found
    }

    #[test]
    fn every_file_of_a_template_is_embedded() {
        for (template, folder) in TEMPLATES {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates").join(folder);
            let mut names: Vec<String> = files_below(&folder)
                .iter()
                .map(|name| {
                    if name == "gitignore.tmpl" { ".gitignore" } else { name.trim_end_matches(".tmpl") }.to_owned()
                })
                .collect();
            names.sort();
            assert_eq!(names, template.files().iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn writes_a_package_that_cargo_reads() {
        for (template, _) in TEMPLATES {
            let parent = tempfile::tempdir().unwrap();
            let written = create(parent.path(), "my-kernel", template).unwrap();
            let package = parent.path().join("my-kernel");
            let relative = written.iter().map(|path| path.strip_prefix(&package).unwrap().to_str().unwrap().to_owned());
            assert_eq!(files_below(&package), relative.collect::<Vec<_>>());
            for path in &written {
                assert!(!fs::read_to_string(path).unwrap().contains("{{"), "a placeholder is left in {path:?}");
            }
            // In a workspace of its own: the temporary folder may lie below a manifest.
            let manifest = package.join("Cargo.toml");
            fs::write(&manifest, fs::read_to_string(&manifest).unwrap() + "\n[workspace]\n").unwrap();
            let metadata = cargo_metadata::MetadataCommand::new().manifest_path(&manifest).no_deps().exec().unwrap();
            assert_eq!(metadata.packages[0].name.as_str(), "my-kernel");
            assert!(metadata.packages[0].metadata["kbench"]["kernels"].is_object());
            // Nothing else is left in the parent.
            assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn every_source_of_the_table_is_written() {
        for (template, _) in TEMPLATES {
            let files = template.files();
            let (_, manifest) = files.iter().find(|(name, _)| *name == "Cargo.toml").unwrap();
            let sources: Vec<&str> =
                manifest.split("source = \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
            assert_eq!(sources.len(), 3, "kernel, reference and baseline");
            for source in sources {
                assert!(files.iter().any(|(name, _)| *name == source), "{source} is not written");
            }
        }
    }

    #[test]
    fn never_overwrites() {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir(parent.path().join("taken")).unwrap();
        assert!(matches!(create(parent.path(), "taken", Template::C), Err(NewError::Exists(_))));
        assert!(files_below(parent.path()).is_empty());
    }

    #[test]
    fn leaves_nothing_behind_on_an_error() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["", "../escape", "a/b", "fn", "9lives"] {
            assert!(matches!(create(parent.path(), name, Template::C), Err(NewError::Name { .. })), "{name}");
        }
        assert!(matches!(create(&parent.path().join("missing"), "x", Template::C), Err(NewError::Io { .. })));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn names_are_judged_as_cargo_judges_them() {
        for name in ["x", "sdpa", "my-kernel", "my_kernel2", "_private", "tests", "c"] {
            assert_eq!(name_fault(name), None, "{name}");
        }
        for name in
            ["", "-x", "2d", "a b", "a.b", "naïve", "fn", "gen", "_", "build", "deps", "test", "std", "NUL", "Self"]
        {
            assert!(name_fault(name).is_some(), "{name}");
        }
    }
}
