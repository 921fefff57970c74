//! Finds the symbol in a cubin for the name of a kernel in the table.

use cpp_demangle::{DemangleOptions, Symbol};

/// Reason why a name does not select one kernel. Both lists are readable names, each followed by its symbol if the two
/// differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// No kernel has the name; the list has all kernels.
    NotFound(Vec<String>),
    /// Several kernels have the name.
    Ambiguous(Vec<String>),
}

/// Finds the kernel with a name among symbols.
///
/// The first of these forms that any kernel matches must match exactly one: the symbol itself; the C++ name with its
/// parameters, `ns::k<64>(float*)`; the qualified name, `ns::k<64>`; the name without template arguments, `ns::k`; and
/// the last two without the namespace, `k<64>` and `k`. White space does not count.
pub(super) fn resolve<'a>(symbols: &[&'a str], name: &str) -> Result<&'a str, Unresolved> {
    if let Some(exact) = symbols.iter().find(|symbol| **symbol == name) {
        return Ok(exact);
    }
    let kernels: Vec<Kernel<'a>> = symbols.iter().map(|symbol| Kernel::new(symbol)).collect();
    let wanted = squeeze(name);
    let ways: [fn(&Kernel, &str) -> bool; 5] = [
        |kernel, name| squeeze(&kernel.readable) == name,
        |kernel, name| kernel.qualified == name,
        |kernel, name| without_template_arguments(&kernel.qualified) == name,
        |kernel, name| ends_with_path(&kernel.qualified, name),
        |kernel, name| ends_with_path(&without_template_arguments(&kernel.qualified), name),
    ];
    for matches in ways {
        let found: Vec<_> = kernels.iter().filter(|kernel| matches(kernel, &wanted)).collect();
        match found[..] {
            [] => {}
            [one] => return Ok(one.symbol),
            _ => return Err(Unresolved::Ambiguous(found.iter().map(|kernel| kernel.describe()).collect())),
        }
    }
    Err(Unresolved::NotFound(kernels.iter().map(Kernel::describe).collect()))
}

struct Kernel<'a> {
    symbol: &'a str,
    /// `ns::k<64>(float*)`, without the return type.
    readable: String,
    /// `ns::k<64>`, without white space.
    qualified: String,
}

impl<'a> Kernel<'a> {
    fn new(symbol: &'a str) -> Self {
        let demangle = |options: DemangleOptions| Symbol::new(symbol).ok()?.demangle_with_options(&options).ok();
        // Literals as users write them: `k<64>`, not `k<(int)64>`.
        let options = || DemangleOptions::new().no_return_type().hide_expression_literal_types();
        let readable = demangle(options()).unwrap_or_else(|| symbol.to_owned());
        let qualified = demangle(options().no_params()).unwrap_or_else(|| symbol.to_owned());
        Self { symbol, readable, qualified: squeeze(&qualified) }
    }

    fn describe(&self) -> String {
        if self.readable == self.symbol {
            self.symbol.to_owned()
        } else {
            format!("{} ({})", self.readable, self.symbol)
        }
    }
}

fn squeeze(name: &str) -> String {
    name.chars().filter(|c| !c.is_whitespace()).collect()
}

/// `ns::k<a<b>>` as `ns::k`: every list in angle brackets is removed.
fn without_template_arguments(name: &str) -> String {
    let mut depth = 0usize;
    name.chars()
        .filter(|c| match c {
            '<' => {
                depth += 1;
                false
            }
            '>' => {
                depth = depth.saturating_sub(1);
                false
            }
            _ => depth == 0,
        })
        .collect()
}

/// Whether `path` ends with `::name`, or is `name`.
fn ends_with_path(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYMBOLS: [&str; 7] = [
        "plain",
        "_ZN2ns4sdpaILi128EEEvPf",
        "_ZN2ns4sdpaILi64EEEvPf",
        "_ZN2ns5otherEPf",
        "_ZN39_GLOBAL__N__5299b3d1_7_anon_cu_7dce726b2kkEPf",
        "_Z3addPf",
        "_Z3addPd",
    ];

    #[test]
    fn every_spelling_of_an_entry_is_found() {
        for (name, symbol) in [
            ("plain", "plain"),
            ("_ZN2ns5otherEPf", "_ZN2ns5otherEPf"),
            ("other", "_ZN2ns5otherEPf"),
            ("ns::other", "_ZN2ns5otherEPf"),
            ("sdpa<64>", "_ZN2ns4sdpaILi64EEEvPf"),
            ("ns::sdpa< 128 >", "_ZN2ns4sdpaILi128EEEvPf"),
            ("ns::sdpa<64>(float*)", "_ZN2ns4sdpaILi64EEEvPf"),
            ("add(double *)", "_Z3addPd"),
            ("kk", "_ZN39_GLOBAL__N__5299b3d1_7_anon_cu_7dce726b2kkEPf"),
        ] {
            assert_eq!(resolve(&SYMBOLS, name), Ok(symbol), "{name}");
        }
    }

    #[test]
    fn ambiguous_entries_are_listed() {
        let Err(Unresolved::Ambiguous(candidates)) = resolve(&SYMBOLS, "sdpa") else { panic!() };
        let expected =
            ["ns::sdpa<128>(float*) (_ZN2ns4sdpaILi128EEEvPf)", "ns::sdpa<64>(float*) (_ZN2ns4sdpaILi64EEEvPf)"];
        assert_eq!(candidates, expected);
        let Err(Unresolved::Ambiguous(candidates)) = resolve(&SYMBOLS, "add") else { panic!() };
        assert_eq!(candidates.len(), 2);
    }

    #[test]
    fn a_suffix_of_a_name_does_not_match() {
        for name in ["dpa<64>", "ther", "s::other", "sdpa<32>", "lain", ""] {
            let Err(Unresolved::NotFound(candidates)) = resolve(&SYMBOLS, name) else { panic!("{name}") };
            assert_eq!(candidates.len(), SYMBOLS.len());
            assert_eq!(candidates[0], "plain");
        }
    }

    #[test]
    fn a_global_name_takes_precedence_over_a_namespace() {
        let symbols = ["_ZN2ns1kEPf", "_Z1kPf"];
        assert_eq!(resolve(&symbols, "k"), Ok("_Z1kPf"));
    }
}
