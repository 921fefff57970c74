//! Object files: equality of their code, and their symbols.
//!
//! The *identity* of a binary is a hash of everything that can change its behaviour, and of nothing else: loaded
//! sections, and in a cubin the symbols that the loader resolves. Left out are notes (a build id; in a cubin
//! `.note.nv.tkinfo` holds the command line), debugging information, comments and names of source files. Two variants
//! with equal identities have identical code: a toggle between them reached the compiler and changed nothing.

use kbench_runtime::fingerprint;
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionFlags, SectionKind, SymbolFlags,
    SymbolKind,
};

/// `SHF_ALLOC`: the section is in memory at run time.
const ALLOCATED: u64 = 2;

/// The identity of a shared object.
pub(super) fn shared_object_identity(bytes: &[u8]) -> object::Result<String> {
    let file = object::File::parse(bytes)?;
    let mut identity = Identity::new("shared object");
    for section in file.sections() {
        let name = section.name_bytes()?;
        let loaded = match section.flags() {
            SectionFlags::Elf { sh_flags, .. } => sh_flags.0 & ALLOCATED != 0 && !name.starts_with(b".note"),
            _ => !matches!(section.kind(), SectionKind::Debug | SectionKind::Metadata | SectionKind::Note),
        };
        if loaded {
            identity.section(&section)?;
        }
    }
    Ok(identity.finish())
}

/// The identity of a cubin, without the symbols of its entries: the symbol of a template's instance contains the
/// arguments.
pub(super) fn cubin_identity(bytes: &[u8], entries: &[&str]) -> object::Result<String> {
    let file = object::File::parse(bytes)?;
    let mut identity = Identity::new("cubin");
    identity.entries = entries.iter().map(|&entry| entry.to_owned()).collect();
    if let object::FileFlags::Elf { e_flags, .. } = file.flags() {
        identity.number(u64::from(e_flags.0));
    }
    for section in file.sections() {
        let name = section.name()?;
        let tables = [".symtab", ".strtab", ".shstrtab", ".comment"];
        if !tables.contains(&name) && !name.starts_with(".note") && !name.contains("debug") {
            identity.section(&section)?;
        }
    }
    for symbol in file.symbols() {
        if matches!(symbol.kind(), SymbolKind::File | SymbolKind::Section) {
            continue;
        }
        let name = identity.neutral(symbol.name()?);
        identity.field(name.as_bytes());
        identity.number(symbol.section_index().map_or(0, |index| index.0 as u64));
        identity.number(symbol.address());
        identity.number(symbol.size());
        if let SymbolFlags::Elf { st_info, st_other, .. } = symbol.flags() {
            identity.number(u64::from(st_info.0));
            identity.number(u64::from(st_other.0));
        }
    }
    Ok(identity.finish())
}

/// Hash of the code of a cubin without its tables: with `-lineinfo` only the numbers of sections and symbols differ.
pub(super) fn cubin_code(bytes: &[u8]) -> object::Result<String> {
    let file = object::File::parse(bytes)?;
    let mut identity = Identity::new("cubin code");
    for section in file.sections() {
        let name = section.name()?;
        if matches!(section.flags(), SectionFlags::Elf { sh_flags, .. } if sh_flags.0 & ALLOCATED != 0) {
            identity.field(without_path_hashes(name).as_bytes());
            identity.number(section.size());
            identity.field(section.data()?);
        }
    }
    Ok(identity.finish())
}

/// A fingerprint under construction, from numbers and hashes of bytes.
struct Identity {
    kind: &'static str,
    /// Symbols whose names are left out.
    entries: Vec<String>,
    fields: Vec<String>,
}

impl Identity {
    fn new(kind: &'static str) -> Self {
        Self { kind, entries: Vec::new(), fields: Vec::new() }
    }

    fn field(&mut self, bytes: &[u8]) {
        self.fields.push(fingerprint::of_bytes(bytes));
    }

    /// A name without the parts that differ between identical code.
    fn neutral(&self, name: &str) -> String {
        // The symbol of a function-local variable contains the function's symbol: `_ZZ1kILi64EEvPfE4tile`.
        let mangled = |entry: &String| Some(entry.strip_prefix("_Z")?.to_owned());
        let mut name = name.to_owned();
        for (at, entry) in self.entries.iter().enumerate() {
            if let Some(mangled) = mangled(entry) {
                name = name.replace(&mangled, &format!("entry {at}"));
            }
        }
        without_path_hashes(&name)
    }

    fn number(&mut self, number: u64) {
        self.fields.push(number.to_string());
    }

    fn section<'data>(&mut self, section: &impl object::ObjectSection<'data>) -> object::Result<()> {
        let name = self.neutral(&String::from_utf8_lossy(section.name_bytes()?));
        self.field(name.as_bytes());
        self.number(section.address());
        self.number(section.size());
        if let SectionFlags::Elf { sh_flags, .. } = section.flags() {
            self.number(sh_flags.0);
        }
        self.field(section.data()?); // empty for .bss and its like
        Ok(())
    }

    fn finish(self) -> String {
        fingerprint::of(self.kind, &self.fields)
    }
}

/// The name with zeros in place of a hash: nvcc's names of symbols with internal linkage contain a hash of the source's
/// path (`_GLOBAL__N__5299b3d1_7_anon_cu_…`).
fn without_path_hashes(name: &str) -> String {
    let mut name = name.to_owned();
    for marker in ["_GLOBAL__N__", "_INTERNAL_"] {
        let mut from = 0;
        while let Some(at) = name[from..].find(marker) {
            from += at + marker.len();
            if let Some(hash) = name.get(from..from + 8)
                && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
            {
                name.replace_range(from..from + 8, "00000000");
            }
        }
    }
    name
}

/// The symbol whose address a variable is initialised with.
pub(super) fn pointed_to(bytes: &[u8], variable: &str) -> object::Result<Option<String>> {
    let file = object::File::parse(bytes)?;
    let Some(variable) = file.symbols().find(|symbol| symbol.name() == Ok(variable)) else { return Ok(None) };
    let Some(index) = variable.section_index() else { return Ok(None) };
    let section = file.section_by_index(index)?;
    let target = section.relocations().find(|(offset, _)| *offset == variable.address() - section.address());
    let Some((_, relocation)) = target else { return Ok(None) };
    let RelocationTarget::Symbol(index) = relocation.target() else { return Ok(None) };
    Ok(Some(file.symbol_by_index(index)?.name()?.to_owned()))
}

/// State of `entry` in the function table of an object file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Definition {
    /// The file defines the function.
    Defined {
        /// Size of its machine code, if the format records it.
        code_bytes: Option<u64>,
    },
    /// The file uses the function and does not define it.
    Undefined {
        /// Global functions that the file defines.
        candidates: Vec<String>,
    },
    /// The file does not name it.
    Unknown,
}

/// Looks up a C function in an object file.
pub(super) fn definition(bytes: &[u8], entry: &str) -> object::Result<Definition> {
    let file = object::File::parse(bytes)?;
    // Names in Mach-O files begin with an underscore.
    let named = |name: &str| name == entry || (!is_elf(&file) && name.strip_prefix('_') == Some(entry));
    let mut found = Definition::Unknown;
    for symbol in file.symbols() {
        if symbol.name().is_ok_and(named) {
            if symbol.is_definition() {
                let code_bytes = Some(symbol.size()).filter(|&size| size > 0);
                return Ok(Definition::Defined { code_bytes });
            }
            found = Definition::Undefined { candidates: Vec::new() };
        }
    }
    if let Definition::Undefined { candidates } = &mut found {
        let functions = file
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition() && symbol.is_global());
        candidates.extend(functions.filter_map(|symbol| Some(symbol.name().ok()?.to_owned())));
        candidates.sort_unstable();
    }
    Ok(found)
}

/// The C names of functions and objects that an object or a library defines, sorted, without those of the compiler and of the
/// C library.
pub(super) fn defined_names(bytes: &[u8]) -> object::Result<Vec<String>> {
    const STARTUP: [&str; 3] = ["deregister_tm_clones", "register_tm_clones", "frame_dummy"];
    let file = object::File::parse(bytes)?;
    let kinds = [SymbolKind::Text, SymbolKind::Data, SymbolKind::Tls];
    let symbols = file.symbols().filter(|symbol| symbol.is_definition() && kinds.contains(&symbol.kind()));
    let names = symbols.filter_map(|symbol| Some(symbol.name().ok()?.to_owned()));
    // A name with a point belongs to a part of a function that the compiler made.
    let is_own = |name: &String| {
        !name.starts_with('_')
            && !STARTUP.contains(&name.as_str())
            && name != "kbench_entry"
            && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
    };
    let mut names: Vec<String> = names.filter(is_own).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn is_elf(file: &object::File<'_>) -> bool {
    matches!(file.flags(), object::FileFlags::Elf { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_only_the_hash_of_the_path() {
        let name = ".text._ZN39_GLOBAL__N__5299b3d1_7_anon_cu_7dce726b2kkEPf";
        assert_eq!(without_path_hashes(name), ".text._ZN39_GLOBAL__N__00000000_7_anon_cu_7dce726b2kkEPf");
        assert_eq!(without_path_hashes("_Z1kPf"), "_Z1kPf");
        assert_eq!(without_path_hashes("_GLOBAL__N__xyz"), "_GLOBAL__N__xyz");
        assert_eq!(without_path_hashes("_GLOBAL__N__12é45678"), "_GLOBAL__N__12é45678");
    }

    #[test]
    fn rubbish_is_an_error() {
        assert!(shared_object_identity(b"not an object").is_err());
        assert!(cubin_identity(b"\x7fELF", &["k"]).is_err());
        assert!(definition(b"", "f").is_err());
    }
}
