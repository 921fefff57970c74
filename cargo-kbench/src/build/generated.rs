//! Text around a source in a generated file: constants before it, and requests to the compiler after it.

use std::fmt::Write as _;
use std::path::Path;

use super::{Constant, Entry, Unit};

/// Name of the variable with the address of entry `at`, for an instance of a template: the linker's tables have its
/// symbol.
pub(super) fn entry_address(at: usize) -> String {
    format!("kbench_entry_address_{at}")
}

/// File name in compilers' messages about entries.
pub(super) const ENTRY_FILE: &str = "entry";

/// The languages of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// C.
    C,
    /// C++.
    Cpp,
}

impl Language {
    /// Names of the languages for `-x`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::C => "c",
            Self::Cpp => "c++",
        }
    }

    /// The language of a source for the host, by its extension.
    pub(super) fn of(source: &Path) -> Self {
        if crate::config::is_cpp(source) { Self::Cpp } else { Self::C }
    }
}

/// Constants, one for each line.
pub fn constants(constants: &[Constant], language: Language) -> String {
    let line = |Constant { name, ty, value }: &Constant| match (language, *ty) {
        (Language::Cpp, _) => format!("constexpr {ty} {name} __attribute__((unused)) = {value};\n"),
        (Language::C, "double") => format!("static const double {name} = {value};\n"),
        // The only constant expression in all versions of C.
        (Language::C, _) => format!("enum {{ {name} = {value} }};\n"),
    };
    constants.iter().map(line).collect()
}

/// The path of a unit's source for an `#include`.
pub fn quoted(path: &Path) -> Option<&str> {
    path.to_str().filter(|path| !path.contains(['"', '\\', '\n', '\r']))
}

/// The start of a generated CUDA source: constants and the unit's source. `None` if its path cannot be included.
pub(super) fn cuda(unit: &Unit) -> Option<String> {
    let mut text = String::from("/* Written by cargo kbench: the source, and what the table says of it. */\n");
    text += &constants(&unit.constants, Language::Cpp);
    let _ = writeln!(text, "#include \"{}\"", quoted(&unit.source)?);
    Some(text)
}

/// Text after the source: the addresses of instances of templates.
pub(super) fn cuda_instances(entries: &[Entry]) -> String {
    let mut text = String::new();
    for (at, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.is_instance()) {
        let (name, address) = (&entry.name, entry_address(at));
        let _ = writeln!(text, "#line 1 \"{ENTRY_FILE}\"");
        let _ = writeln!(text, "extern \"C\" {{ __device__ const void *{address} = (const void *)&{name}; }}");
    }
    text
}
