//! Structs by value: a type for each, and arguments of a launch that need statements.

use std::fmt::Write as _;

use super::parts::rust_type;
use crate::config::{ArgValue, Backend};
use crate::export::parts::Parts;

/// The passed arguments of one launch.
pub(super) struct Given<'n> {
    /// Value of each parameter of the signature.
    pub(super) values: Vec<String>,
    /// Type of each parameter.
    pub(super) types: Vec<String>,
    /// Names of numbers that no argument has taken.
    numbers: std::slice::Iter<'n, String>,
}

impl<'n> Given<'n> {
    pub(super) fn new(numbers: &'n [String]) -> Self {
        Self { values: Vec::new(), types: Vec::new(), numbers: numbers.iter() }
    }

    /// Adds an argument; `name` is that of its type where it is a struct. Tensor maps and symbols are the caller's.
    pub(super) fn add(&mut self, parts: &Parts<'_>, arg: &ArgValue, name: &str) {
        let (value, ty) = self.of(parts, arg, name);
        self.values.push(value);
        self.types.push(ty);
    }

    fn number(&mut self) -> String {
        self.numbers.next().expect("every number has a name").clone()
    }

    fn of(&mut self, parts: &Parts<'_>, arg: &ArgValue, name: &str) -> (String, String) {
        match arg {
            ArgValue::Tensor(tensor) => (parts.tensor(*tensor).to_owned(), pointer(parts, *tensor)),
            ArgValue::Offset { tensor, .. } => {
                let (address, offset) = (parts.tensor(*tensor), self.number());
                let value = match parts.kernel().implementation.backend {
                    Backend::C => format!("{address}.wrapping_add({offset})"),
                    _ => format!("{address} + {offset} * {}", parts.dtype(*tensor).size()),
                };
                (value, pointer(parts, *tensor))
            }
            ArgValue::Scalar { dtype, .. } => (self.number(), rust_type(*dtype).to_owned()),
            ArgValue::Struct { fields, .. } => {
                let of = |(at, field)| self.of(parts, field, &format!("{name}At{at}")).0;
                let values: Vec<String> = fields.iter().enumerate().map(of).collect();
                (format!("{name}({})", values.join(", ")), name.to_owned())
            }
        }
    }
}

/// The types of the structs among arguments, inner ones first.
pub(super) fn definitions(parts: &Parts<'_>, arg: &ArgValue, name: &str) -> String {
    let ArgValue::Struct { ty, fields } = arg else { return String::new() };
    let mut text = String::new();
    let mut own = format!(
        "/// {} as C lays it out.\n#[derive(Clone, Copy)]\n#[repr(C)]\nstruct {name}(\n",
        ty.as_deref().map_or_else(|| "A struct".to_owned(), |ty| format!("`{ty}`"))
    );
    for (at, field) in fields.iter().enumerate() {
        let inner = format!("{name}At{at}");
        text.push_str(&definitions(parts, field, &inner));
        let ty = match field {
            ArgValue::Struct { .. } => inner,
            ArgValue::Scalar { dtype, .. } => rust_type(*dtype).to_owned(),
            ArgValue::Tensor(tensor) | ArgValue::Offset { tensor, .. } => pointer(parts, *tensor),
        };
        let _ = writeln!(own, "{ty},");
    }
    own.push_str(");\n\n");
    if parts.kernel().implementation.backend == Backend::Cuda {
        let _ = writeln!(
            own,
            "// SAFETY: it is plain data, laid out as the kernel's.\nunsafe impl DeviceRepr for {name} {{}}\n"
        );
    }
    text + &own
}

/// The name of the type of a struct that a launch passes.
pub(super) fn name(launch: usize, place: usize) -> String {
    format!("Struct{launch}At{place}")
}

/// The type of a tensor's address.
fn pointer(parts: &Parts<'_>, tensor: usize) -> String {
    match parts.kernel().implementation.backend {
        Backend::C if parts.is_written(tensor) => format!("*mut {}", rust_type(parts.dtype(tensor))),
        Backend::C => format!("*const {}", rust_type(parts.dtype(tensor))),
        _ => "sys::CUdeviceptr".to_owned(),
    }
}
