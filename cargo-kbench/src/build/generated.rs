//! What stands around a source in a generated file: constants before it, and what is asked of the compiler after it.

use std::fmt::Write as _;
use std::path::Path;

use super::{Constant, Entry, Unit};

/// The variable that holds the address of the `at`-th entry if that is an instance of a template: the linker's tables name its symbol.
pub(super) fn entry_address(at: usize) -> String {
    format!("kbench_entry_address_{at}")
}

/// The name of the file that compilers say an entry stands in.
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
    /// The languages' names for `-x`.
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

/// Constants, a line each.
pub fn constants(constants: &[Constant], language: Language) -> String {
    let line = |Constant { name, ty, value }: &Constant| match (language, *ty) {
        (Language::Cpp, _) => format!("constexpr {ty} {name} __attribute__((unused)) = {value};\n"),
        (Language::C, "double") => format!("static const double {name} = {value};\n"),
        // The one constant expression that all versions of C have.
        (Language::C, _) => format!("enum {{ {name} = {value} }};\n"),
    };
    constants.iter().map(line).collect()
}

/// The source of a unit, as it can stand in an `#include`.
pub fn quoted(path: &Path) -> Option<&str> {
    path.to_str().filter(|path| !path.contains(['"', '\\', '\n', '\r']))
}

/// The head of a generated CUDA source: constants and the unit's source. `None` where its path cannot be included.
pub(super) fn cuda(unit: &Unit) -> Option<String> {
    let mut text = String::from("/* Written by cargo kbench: the source, and what the table says of it. */\n");
    text += &constants(&unit.constants, Language::Cpp);
    let _ = writeln!(text, "#include \"{}\"", quoted(&unit.source)?);
    Some(text)
}

/// After the source: instances of templates by their addresses.
pub(super) fn cuda_instances(entries: &[Entry]) -> String {
    let mut text = String::new();
    for (at, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.is_instance()) {
        let (name, address) = (&entry.name, entry_address(at));
        let _ = writeln!(text, "#line 1 \"{ENTRY_FILE}\"");
        let _ = writeln!(text, "extern \"C\" {{ __device__ const void *{address} = (const void *)&{name}; }}");
    }
    text
}
