//! `cargo kbench new PATH`: a package with one kernel, its reference, its baseline and a table with comments.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::Exit;
use crate::report::{self, Finding, Output};

pub(super) mod membership;

/// The packages that `new` can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Template {
    /// A matrix product in C, for any machine
    #[default]
    C,
    /// A row softmax in CUDA
    Cuda,
    /// Attention in FP8 for Hopper GPUs, in CUDA
    Sdpa,
}

impl Template {
    /// The files of the template: path in the package and contents. In text `{{name}}` stands for the package's name
    /// and `{{ident}}` for the name as part of an identifier.
    ///
    /// The files are embedded, so that an installed binary needs no other files. Names in the folder of templates end
    /// in `.tmpl` if cargo or git would interpret the file: `cargo package` leaves out folders with a Cargo.toml.
    fn files(self) -> &'static [(&'static str, &'static [u8])] {
        match self {
            Template::C => &[
                (".gitignore", include_bytes!("../../../templates/c/gitignore.tmpl")),
                ("Cargo.toml", include_bytes!("../../../templates/c/Cargo.toml.tmpl")),
                ("README.md", include_bytes!("../../../templates/c/README.md.tmpl")),
                ("build.rs", include_bytes!("../../../templates/c/build.rs")),
                ("src/kbench/build.rs", include_bytes!("../../../templates/c/src/kbench/build.rs")),
                ("src/kbench/matmul_v0.c", include_bytes!("../../../templates/c/src/kbench/matmul_v0.c")),
                ("src/kbench/mod.rs", include_bytes!("../../../templates/c/src/kbench/mod.rs")),
                ("src/main.rs", include_bytes!("../../../templates/c/src/main.rs")),
                ("src/matmul.c", include_bytes!("../../../templates/c/src/matmul.c")),
                ("src/naive.c", include_bytes!("../../../templates/c/src/naive.c")),
                ("src/reference.c", include_bytes!("../../../templates/c/src/reference.c")),
            ],
            Template::Cuda => &[
                (".gitignore", include_bytes!("../../../templates/cuda/gitignore.tmpl")),
                ("Cargo.toml", include_bytes!("../../../templates/cuda/Cargo.toml.tmpl")),
                ("README.md", include_bytes!("../../../templates/cuda/README.md.tmpl")),
                ("src/kbench/mod.rs", include_bytes!("../../../templates/cuda/src/kbench/mod.rs")),
                (
                    "src/kbench/softmax_v0.sm_80.ptx",
                    include_bytes!("../../../templates/cuda/src/kbench/softmax_v0.sm_80.ptx"),
                ),
                ("src/main.rs", include_bytes!("../../../templates/cuda/src/main.rs")),
                ("src/naive.cu", include_bytes!("../../../templates/cuda/src/naive.cu")),
                ("src/reference.c", include_bytes!("../../../templates/cuda/src/reference.c")),
                ("src/softmax.cu", include_bytes!("../../../templates/cuda/src/softmax.cu")),
            ],
            Template::Sdpa => &[
                (".gitignore", include_bytes!("../../../templates/sdpa/gitignore.tmpl")),
                ("Cargo.toml", include_bytes!("../../../templates/sdpa/Cargo.toml.tmpl")),
                ("README.md", include_bytes!("../../../templates/sdpa/README.md.tmpl")),
                ("src/hopper.cu", include_bytes!("../../../templates/sdpa/src/hopper.cu")),
                ("src/hopper/async.cuh", include_bytes!("../../../templates/sdpa/src/hopper/async.cuh")),
                ("src/hopper/problem.cuh", include_bytes!("../../../templates/sdpa/src/hopper/problem.cuh")),
                ("src/hopper/softmax.cuh", include_bytes!("../../../templates/sdpa/src/hopper/softmax.cuh")),
                ("src/hopper/split.cuh", include_bytes!("../../../templates/sdpa/src/hopper/split.cuh")),
                ("src/hopper/stream.cuh", include_bytes!("../../../templates/sdpa/src/hopper/stream.cuh")),
                ("src/hopper/tiles.cuh", include_bytes!("../../../templates/sdpa/src/hopper/tiles.cuh")),
                ("src/hopper/wgmma.cuh", include_bytes!("../../../templates/sdpa/src/hopper/wgmma.cuh")),
                ("src/kbench/mod.rs", include_bytes!("../../../templates/sdpa/src/kbench/mod.rs")),
                (
                    "src/kbench/sdpa_v0.sm_90a.cubin",
                    include_bytes!("../../../templates/sdpa/src/kbench/sdpa_v0.sm_90a.cubin"),
                ),
                ("src/main.rs", include_bytes!("../../../templates/sdpa/src/main.rs")),
                ("src/reference.cu", include_bytes!("../../../templates/sdpa/src/reference.cu")),
            ],
        }
    }

    /// The files of a package with this name.
    fn package(self, name: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let filled = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) => text.replace("{{name}}", name).replace("{{ident}}", &name.replace('-', "_")).into_bytes(),
            // Machine code is not text.
            Err(_) => bytes.to_owned(),
        };
        self.files().iter().map(|(path, bytes)| (path.into(), filled(bytes))).collect()
    }
}

/// Arguments of `new`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the package, new or empty, which gives the package its name
    pub path: PathBuf,
    /// Kernel of the package
    #[arg(long, default_value = "c")]
    pub template: Template,
}

/// Runs the verb.
pub fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let Args { path, template } = args;
    let here = std::env::current_dir()?;
    let target = folder(&here, path);
    let written = create(&target, &template.package(&name_of(&target)))?;
    let joined = membership::join(&target)?;
    output.show(&Finding::Created(&written, joined.as_deref()));
    output.status("Created", format_args!("package `{}`", name_of(&target)));
    if let Some(manifest) = joined {
        output.status("Added", format_args!("it to the members of {}", manifest.display()));
    }
    let there = target.strip_prefix(&here).unwrap_or(&target);
    let change = if there.as_os_str().is_empty() {
        String::new()
    } else {
        report::command(["cd", &*there.to_string_lossy()]) + " && "
    };
    output.status("Next", format_args!("{change}cargo kbench gate && cargo kbench autotune"));
    Ok(Exit::Pass)
}

/// The absolute folder of a path, without `.` and `..` if the text allows it.
pub(super) fn folder(here: &Path, path: &Path) -> PathBuf {
    let mut folder = PathBuf::new();
    for part in here.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if folder.file_name().is_some() => drop(folder.pop()),
            part => folder.push(part),
        }
    }
    folder
}

pub(super) fn name_of(target: &Path) -> String {
    target.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Reason why no package was written.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// cargo does not accept the name.
    #[error("`{name}` cannot be a package's name: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Description of the fault.
        reason: &'static str,
    },
    /// The path exists and is not an empty folder.
    #[error("`{}` exists already and is not an empty folder; choose another name or remove it first", .0.display())]
    Exists(PathBuf),
    /// The package was written, but not added to the workspace around it.
    #[error("the package was written, but not added to the workspace: {0}; add it to `members` there")]
    NotAdded(String),
    /// An error of the file system.
    #[error("could not write `{}`: {error}", .path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Reason.
        error: io::Error,
    },
}

/// Writes the files of a package to a new or empty folder, and returns their paths. After an error no file remains.
pub fn create(target: &Path, files: &[(PathBuf, Vec<u8>)]) -> Result<Vec<PathBuf>, NewError> {
    let name = name_of(target);
    if let Some(reason) = name_fault(&name) {
        return Err(NewError::Name { name, reason });
    }
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| NewError::Io { path, error }
    };
    let is_there = target.symlink_metadata().is_ok();
    let entries = || fs::read_dir(target).map(|entries| entries.filter_map(Result::ok).map(|entry| entry.file_name()));
    // A repository may exist before its first package.
    if is_there && !entries().is_ok_and(|mut names| names.all(|name| name == ".git")) {
        return Err(NewError::Exists(target.to_owned()));
    }
    let made: Vec<&Path> = target.ancestors().take_while(|folder| !folder.exists()).collect();
    let written = || {
        fs::create_dir_all(target).map_err(io(target))?;
        // The package is written to a temporary folder and moved, so that it is complete or missing.
        let scratch = tempfile::Builder::new().prefix(".kbench-new-").tempdir_in(target).map_err(io(target))?;
        for (path, bytes) in files {
            write(&scratch.path().join(path), bytes)?;
        }
        for entry in fs::read_dir(scratch.path()).map_err(io(target))?.filter_map(Result::ok) {
            let to = target.join(entry.file_name());
            fs::rename(entry.path(), &to).map_err(io(&to))?;
        }
        Ok(files.iter().map(|(path, _)| target.join(path)).collect())
    };
    let written = written();
    if written.is_err() {
        for folder in made {
            let _ = fs::remove_dir(folder);
        }
    }
    written
}

/// Writes a file and its folders.
fn write(path: &Path, bytes: &[u8]) -> Result<(), NewError> {
    let folder = path.parent().expect("a file lies in a folder");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, bytes))
        .map_err(|error| NewError::Io { path: path.to_owned(), error })
}

/// The fault that `cargo new` would report, or a character outside of ASCII, which some C compilers and linkers cannot
/// handle.
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

    const TEMPLATES: [(Template, &str); 3] = [(Template::C, "c"), (Template::Cuda, "cuda"), (Template::Sdpa, "sdpa")];

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
            let package = parent.path().join("my-kernel");
            let written = create(&package, &template.package("my-kernel")).unwrap();
            let relative = written.iter().map(|path| path.strip_prefix(&package).unwrap().to_str().unwrap().to_owned());
            assert_eq!(files_below(&package), relative.collect::<Vec<_>>());
            for path in &written {
                let bytes = fs::read(path).unwrap();
                let text = String::from_utf8_lossy(&bytes);
                let is_left = ["{{name}}", "{{ident}}"].iter().any(|placeholder| text.contains(placeholder));
                assert!(!is_left, "a placeholder is left in {path:?}");
            }
            // The package gets its own workspace: the temporary folder may lie below a manifest.
            let manifest = package.join("Cargo.toml");
            fs::write(&manifest, fs::read_to_string(&manifest).unwrap() + "\n[workspace]\n").unwrap();
            let metadata = cargo_metadata::MetadataCommand::new().manifest_path(&manifest).no_deps().exec().unwrap();
            assert_eq!(metadata.packages[0].name.as_str(), "my-kernel");
            assert!(metadata.packages[0].metadata["kbench"]["kernels"].is_object());
            // The parent contains no other file.
            assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn every_source_of_the_table_is_written() {
        for (template, _) in TEMPLATES {
            let files = template.files();
            let (_, manifest) = files.iter().find(|(name, _)| *name == "Cargo.toml").unwrap();
            let manifest = std::str::from_utf8(manifest).unwrap();
            let sources: Vec<&str> =
                manifest.split("source = \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
            // The baseline of `sdpa` is a variant of the kernel.
            let expected = if template == Template::Sdpa { 2 } else { 3 };
            assert_eq!(sources.len(), expected, "kernel, reference and baseline");
            for source in sources {
                assert!(files.iter().any(|(name, _)| *name == source), "{source} is not written");
            }
        }
    }

    #[test]
    fn only_empty_folders_are_taken() {
        let parent = tempfile::tempdir().unwrap();
        let taken = parent.path().join("taken");
        fs::create_dir(&taken).unwrap();
        fs::write(taken.join("notes"), "mine").unwrap();
        assert!(matches!(create(&taken, &Template::C.package("any")), Err(NewError::Exists(_))));
        assert_eq!(files_below(parent.path()), ["taken/notes"]);
        let file = taken.join("notes");
        assert!(matches!(create(&file, &Template::C.package("any")), Err(NewError::Exists(_))));

        let empty = parent.path().join("empty");
        fs::create_dir_all(empty.join(".git")).unwrap();
        create(&empty, &Template::C.package("any")).unwrap();
        assert!(empty.join("Cargo.toml").is_file() && empty.join(".git").is_dir());
        assert_eq!(fs::read_dir(&empty).unwrap().count(), 6, "and nothing else");
        create(&parent.path().join("a/b/deep"), &Template::C.package("any")).unwrap();
        assert!(parent.path().join("a/b/deep/src/matmul.c").is_file());
    }

    #[test]
    fn no_file_remains_after_an_error() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["fn", "9lives", "new/fn", "a b"] {
            let result = create(&parent.path().join(name), &Template::C.package("any"));
            assert!(matches!(result, Err(NewError::Name { .. })), "{name}");
        }
        fs::write(parent.path().join("file"), "").unwrap();
        assert!(matches!(
            create(&parent.path().join("file/x/y"), &Template::C.package("any")),
            Err(NewError::Io { .. })
        ));
        assert_eq!(files_below(parent.path()), ["file"]);
    }

    #[test]
    fn paths_name_the_package() {
        let here = Path::new("/a/b");
        for (path, expected) in
            [("k", "/a/b/k"), (".", "/a/b"), ("../k", "/a/k"), ("x/./../k/", "/a/b/k"), ("/k", "/k"), ("..", "/a")]
        {
            assert_eq!(folder(here, Path::new(path)), Path::new(expected), "{path}");
        }
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
