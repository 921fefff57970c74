//! Sizes of the globals of a shared object.

use std::collections::HashMap;

use object::{Object as _, ObjectSymbol as _, SymbolKind};

/// Bytes of each global that a shared object defines for others. Formats that give no sizes give none here.
pub(super) fn sizes(code: &[u8]) -> HashMap<String, u64> {
    let Ok(file) = object::File::parse(code) else { return HashMap::new() };
    file.dynamic_symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Data && symbol.is_definition() && symbol.size() > 0)
        .filter_map(|symbol| Some((symbol.name().ok()?.to_owned(), symbol.size())))
        .collect()
}
