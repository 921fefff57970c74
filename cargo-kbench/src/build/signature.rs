//! Checks that a CUDA kernel's parameters have the types of the table.
//!
//! A cubin has only the size of each parameter. The symbol of a C++ kernel contains their types; for an `extern "C"`
//! kernel the compiler tests them, by assertions after the source. Only arithmetic types are distinguished: the
//! contents of a `half`, a `float4` or a struct are unknown, and raw integers of the same width may hold a 16-bit or
//! 8-bit float.

use std::fmt::Write as _;

use cpp_demangle::{DemangleOptions, Symbol};
use kbench_runtime::dtype::DType;

use super::{Entry, Param, Unit, generated};

/// Arithmetic types as C++ demanglers print them.
const ARITHMETIC: [&str; 15] = [
    "bool",
    "char",
    "signed char",
    "unsigned char",
    "short",
    "unsigned short",
    "int",
    "unsigned int",
    "long",
    "unsigned long",
    "long long",
    "unsigned long long",
    "float",
    "double",
    "wchar_t",
];

/// Prefix of the message of a failing assertion.
const MARK: &str = "kbench: ";

/// A parameter with another type than the table's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mismatch {
    /// Index in the signature, from 0.
    pub(super) index: usize,
    /// Type of the parameter.
    pub(super) found: String,
}

/// Whether elements or scalars of this type may be declared as `dtype`.
fn holds(name: &str, dtype: DType) -> bool {
    let names: &[&str] = match dtype {
        DType::F64 => &["double"],
        DType::F32 => &["float"],
        DType::F16 | DType::Bf16 => &["unsigned short", "short"],
        DType::F8e4m3 | DType::F8e5m2 => &["unsigned char", "signed char", "char"],
        DType::I8 => &["signed char", "char"],
        DType::U8 => &["unsigned char", "char", "bool"],
        DType::I16 => &["short"],
        DType::U16 => &["unsigned short"],
        DType::I32 => &["int"],
        DType::U32 => &["unsigned int"],
        DType::I64 => &["long", "long long"],
        DType::U64 => &["unsigned long", "unsigned long long"],
    };
    names.contains(&name)
}

/// The declared type for messages.
pub(super) fn declared(param: &Param) -> String {
    match param {
        Param::Tensor { dtype, writable: Some(true) } => format!("a tensor of {dtype} that is written"),
        Param::Tensor { dtype, .. } => format!("a tensor of {dtype}"),
        Param::Scalar(dtype) => format!("a scalar of {dtype}"),
        Param::Bool => "a bool".to_owned(),
        Param::Char => "a char".to_owned(),
        Param::Struct { bytes, .. } => format!("a struct of {bytes} bytes"),
        Param::TensorMap => "a tensor map".to_owned(),
    }
}

/// The source, followed by an assertion for each type that a parameter may not have. Only for entries in the global
/// namespace.
pub(super) fn asserting(unit: &Unit) -> Option<String> {
    let mut text = generated::cuda(unit)?;
    // For any names of the source's macros and toggles.
    for word in WORDS.iter().copied().chain(ARITHMETIC.iter().flat_map(|name| name.split(' '))) {
        let _ = writeln!(text, "#undef {word}");
    }
    text += TYPES;
    for (at, entry) in unit.entries.iter().enumerate() {
        assert_types(&mut text, at, entry);
    }
    Some(text)
}

/// The assertions of one entry of a unit.
fn assert_types(text: &mut String, at: usize, entry: &Entry) {
    let mut assert = |index: usize, kind: &str, ty: &str, found: &str| {
        let parameter = format!("kbench_types::parameter<{index}, decltype({})>::type", entry.name);
        let _ = writeln!(
            text,
            "static_assert(!kbench_types::{kind}<{parameter}, {ty}>::is, \"{MARK}{at} {index} {found}\");"
        );
    };
    for (index, param) in entry.signature.iter().enumerate() {
        for name in ARITHMETIC {
            match scalar_of(param) {
                Param::Tensor { dtype, writable } => {
                    assert(index, "same", name, name);
                    if !holds(name, dtype) {
                        assert(index, "points_to", name, &format!("{name} *"));
                    } else if writable == Some(true) {
                        assert(index, "points_to_const", name, &format!("const {name} *"));
                    }
                }
                Param::Scalar(dtype) => {
                    assert(index, "points_to", name, &format!("{name} *"));
                    if !holds(name, dtype) {
                        assert(index, "same", name, name);
                    }
                }
                Param::Bool | Param::Char | Param::Struct { .. } | Param::TensorMap => {}
            }
        }
    }
}

/// A parameter with `bool` and `char` as numbers of their size.
fn scalar_of(param: &Param) -> Param {
    match param {
        Param::Bool => Param::Scalar(DType::U8),
        Param::Char => Param::Scalar(DType::I8),
        param => param.clone(),
    }
}

/// Names in the text after the source.
const WORDS: [&str; 26] = [
    "namespace",
    "template",
    "class",
    "struct",
    "static",
    "constexpr",
    "const",
    "void",
    "using",
    "decltype",
    "static_assert",
    "true",
    "kbench_types",
    "same",
    "is",
    "points_to",
    "points_to_const",
    "parameter",
    "type",
    "A_",
    "B_",
    "P_",
    "Ps_",
    "E_",
    "I_",
    "F_",
];

const TYPES: &str = "\
namespace kbench_types {
template <class A_, class B_> struct same { static constexpr bool is = !true; };
template <class A_> struct same<A_, A_> { static constexpr bool is = true; };
template <class P_, class E_> struct points_to { static constexpr bool is = !true; };
template <class E_> struct points_to<E_ *, E_> { static constexpr bool is = true; };
template <class E_> struct points_to<const E_ *, E_> { static constexpr bool is = true; };
template <class P_, class E_> struct points_to_const : same<P_, const E_ *> {};
template <int I_, class F_> struct parameter { struct type {}; };
template <class P_, class... Ps_> struct parameter<0, void(P_, Ps_...)> { using type = P_; };
template <int I_, class P_, class... Ps_> struct parameter<I_, void(P_, Ps_...)> : parameter<I_ - 1, void(Ps_...)> {};
}
";

/// The finding of an assertion, from the compiler's message, with its entry.
pub(super) fn asserted(stderr: &str) -> Option<(usize, Mismatch)> {
    // Compilers repeat the line below the error.
    let line = stderr.lines().find(|line| line.contains("error") && line.contains(MARK))?;
    let (_, rest) = line.split_once(MARK)?;
    let (entry, rest) = rest.split_once('"')?.0.split_once(' ')?;
    let (index, found) = rest.split_once(' ')?;
    Some((entry.parse().ok()?, Mismatch { index: index.parse().ok()?, found: found.to_owned() }))
}

/// The first parameter that differs from its declaration, by the kernel's symbol; `None` also if the symbol has no
/// types.
pub(super) fn of_symbol(symbol: &str, signature: &[Param]) -> Option<Mismatch> {
    let options = DemangleOptions::new().no_return_type();
    let readable = Symbol::new(symbol).ok()?.demangle_with_options(&options).ok()?;
    let parameters = parameters(&readable)?;
    signature.iter().zip(parameters).enumerate().find_map(|(index, (param, found))| {
        let value = found.trim_end_matches(" const");
        let element = value.strip_suffix('*').map(|element| element.trim_end_matches(" const"));
        let is_const = value.ends_with(" const*");
        let wrong = match scalar_of(param) {
            Param::Tensor { dtype, writable } => match element {
                None => ARITHMETIC.contains(&value),
                Some(element) if ARITHMETIC.contains(&element) => {
                    !holds(element, dtype) || writable == Some(true) && is_const
                }
                Some(_) => false,
            },
            Param::Scalar(dtype) => match element {
                None => ARITHMETIC.contains(&value) && !holds(value, dtype),
                Some(element) => ARITHMETIC.contains(&element),
            },
            Param::Bool | Param::Char | Param::Struct { .. } | Param::TensorMap => false,
        };
        wrong.then(|| Mismatch { index, found: found.to_owned() })
    })
}

/// The parameters of `ns::k<f(int)>(float*, int)`.
fn parameters(readable: &str) -> Option<Vec<&str>> {
    let inner = readable.strip_suffix(')')?;
    // The bracket that this one closes.
    let mut depth = 0usize;
    let open = inner.char_indices().rev().find_map(|(at, c)| match c {
        ')' | '>' => {
            depth += 1;
            None
        }
        '(' | '<' if depth > 0 => {
            depth -= 1;
            None
        }
        '(' => Some(at),
        _ => None,
    })?;
    let mut depth = 0usize;
    let list = inner[open + 1..].split(move |c| {
        match c {
            '(' | '<' => depth += 1,
            ')' | '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    Some(list.map(str::trim).filter(|parameter| !parameter.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN: Param = Param::Tensor { dtype: DType::F32, writable: Some(false) };
    const OUT: Param = Param::Tensor { dtype: DType::F32, writable: Some(true) };
    const N: Param = Param::Scalar(DType::I32);

    fn found(symbol: &str, signature: &[Param]) -> Option<(usize, String)> {
        of_symbol(symbol, signature).map(|mismatch| (mismatch.index, mismatch.found))
    }

    #[test]
    fn a_symbol_names_types() {
        assert_eq!(found("_Z1kPKfPfi", &[IN, OUT, N]), None);
        assert_eq!(found("_Z1kPfPfi", &[IN, OUT, N]), None, "an input need not be const");
        assert_eq!(found("_Z1kPKdPfi", &[IN, OUT, N]), Some((0, "double const*".into())));
        assert_eq!(found("_Z1kPKfPKfi", &[IN, OUT, N]), Some((1, "float const*".into())));
        assert_eq!(found("_Z1kPKfPff", &[IN, OUT, N]), Some((2, "float".into())));
        assert_eq!(found("_Z1kPKfPfj", &[IN, OUT, N]), Some((2, "unsigned int".into())));
        assert_eq!(found("_Z1kPKfmi", &[IN, OUT, N]), Some((1, "unsigned long".into())));
        assert_eq!(found("_Z1kPKfPfPi", &[IN, OUT, Param::Scalar(DType::I64)]), Some((2, "int*".into())));
        // The contents of the user's types are unknown: float4, __half, void, a struct.
        for symbol in ["_Z1kPK6float4P6__halfi", "_Z1kPvS_i", "_Z1k4ViewS_i"] {
            assert_eq!(found(symbol, &[IN, OUT, N]), None, "{symbol}");
        }
        let half = Param::Tensor { dtype: DType::F16, writable: Some(true) };
        assert_eq!(found("_Z1kPt", std::slice::from_ref(&half)), None, "as bits");
        assert_eq!(found("_Z1kPf", std::slice::from_ref(&half)), Some((0, "float*".into())));
        assert_eq!(found("_ZN2ns4sdpaILi64EEEvPd", &[OUT]), Some((0, "double*".into())), "of a template");
        assert_eq!(found("_Z3addIfEvPT_", &[OUT]), None);
        assert_eq!(found("plain", &[OUT]), None, "extern \"C\"");
    }

    #[test]
    fn parameters_of_a_readable_name() {
        assert_eq!(parameters("ns::k<(int)64>(float*, int)").unwrap(), ["float*", "int"]);
        assert_eq!(parameters("k(a<b, c>*, void (*)(int, int))").unwrap(), ["a<b, c>*", "void (*)(int, int)"]);
        assert_eq!(parameters("k()").unwrap(), [""; 0]);
        assert_eq!(parameters("k"), None);
    }

    #[test]
    fn no_macro_reaches_the_assertions() {
        let text = TYPES.to_owned() + "static_assert decltype";
        let words = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
        let known = |word: &str| WORDS.contains(&word) || ["bool", "int", "0", "1"].contains(&word);
        assert_eq!(words.filter(|word| !known(word)).collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn an_assertion_is_read_back() {
        let stderr = "/c/1.cu(40): error: static assertion failed with \"kbench: 2 1 double *\"\n";
        assert_eq!(asserted(stderr), Some((2, Mismatch { index: 1, found: "double *".into() })));
        let stderr =
            "/c/1.cu(40): error: identifier \"k\" is undefined\n  static_assert(k, \"kbench: 0 1 double *\");\n";
        assert_eq!(asserted(stderr), None, "another error in the line");
    }
}
