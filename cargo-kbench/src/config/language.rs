//! The languages of programs that an export is written for.

use std::path::Path;

/// A language of programs that launch kernels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// A Rust module over cudarc's types, or over slices
    #[default]
    Rust,
    /// A header for C and C++ over the CUDA driver API, or over pointers
    C,
    /// A Python package over arrays of `cupy`
    Python,
}

impl Language {
    /// The languages by their names in the table and on the command line.
    pub const NAMES: [(&'static str, Language); 3] = [("rust", Self::Rust), ("c", Self::C), ("python", Self::Python)];

    /// The folder in the package that an export is written to.
    pub fn folder(self) -> &'static Path {
        Path::new(match self {
            Language::Rust => "src/kbench",
            Language::C => "include/kbench",
            Language::Python => "python/kbench",
        })
    }

    /// The file that a program includes. Its first lines have the hashes of the sources and of the entries of
    /// elite.json.
    pub(crate) fn module(self) -> &'static str {
        match self {
            Language::Rust => "mod.rs",
            Language::C => "kbench.h",
            Language::Python => "__init__.py",
        }
    }

    /// Prefix of a comment.
    pub(crate) fn comment(self) -> &'static str {
        match self {
            Language::Rust | Language::C => "//",
            Language::Python => "#",
        }
    }

    /// Extensions of the files that an export writes.
    pub(crate) fn extensions(self) -> &'static [&'static str] {
        match self {
            Language::Rust => &["rs", "c", "inc", "cubin", "ptx"],
            Language::C => &["h", "c", "inc", "sh"],
            Language::Python => &["py", "cubin", "ptx"],
        }
    }
}
