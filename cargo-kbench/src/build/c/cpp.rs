//! Callers of C++ functions of the host: they follow the source, and their arguments convert to the declared types
//! only.

use std::fmt::Write as _;

use super::super::generated::{ENTRY_FILE, entry_address};
use super::super::{CompileError, Entry, Param};
use super::{c_type, caller, struct_type, takes_tensor_map};

/// Argument classes. A deleted conversion prevents a second one, such as from `float` to `double`.
const TYPES: &str = "\
namespace kbench_types {
template <class T> struct output {
    void *address;
    operator T *() const { return static_cast<T *>(address); }
    operator void *() const { return address; }
    template <class Other> operator Other() const = delete;
};
template <class T> struct input {
    void *address;
    operator const T *() const { return static_cast<const T *>(address); }
    operator T *() const { return static_cast<T *>(address); }
    operator const void *() const { return address; }
    operator void *() const { return address; }
    template <class Other> operator Other() const = delete;
};
template <class T> struct scalar {
    const void *address;
    operator T() const { return *static_cast<const T *>(address); }
    template <class Other> operator Other() const = delete;
};
}
";

/// Text after a C++ source: the address of each entry, and its caller. An error about a parameter has the parameter's
/// number as its line, in a file named `args`.
pub(super) fn callers(entries: &[Entry]) -> Result<String, CompileError> {
    let mut text = format!("#line 1 \"kbench\"\n{TYPES}");
    for (at, entry) in entries.iter().enumerate() {
        let (name, address, caller) = (&entry.name, entry_address(at), caller(at));
        let _ = writeln!(text, "#line 1 \"{ENTRY_FILE}\"\nauto *{address} = &{name};");
        let _ = writeln!(
            text,
            "extern \"C\" __attribute__((__visibility__(\"default\"))) void {caller}(void **kbench_args)\n\
             {{ (void)kbench_args; (void){address}(\n#line 1 \"args\""
        );
        let last = entry.signature.len().saturating_sub(1);
        for (index, param) in entry.signature.iter().enumerate() {
            let comma = if index < last { "," } else { "" };
            let _ = writeln!(text, "kbench_types::{}{{kbench_args[{index}]}}{comma}", class(param)?);
        }
        text += "); }\n";
        for (index, param) in entry.signature.iter().enumerate() {
            if let Param::Struct { bytes, ty: Some(ty) } = param {
                let said = format!("argument {} of {name}: the table declares {bytes} bytes for `{ty}`", index + 1);
                let _ = writeln!(text, "static_assert(sizeof({ty}) == {bytes}, {said:?});");
            }
        }
    }
    Ok(text)
}

/// The class of an argument.
fn class(param: &Param) -> Result<String, CompileError> {
    Ok(match param {
        Param::Tensor { dtype, writable: Some(true) } => format!("output<{}>", c_type(*dtype)),
        Param::Tensor { dtype, .. } => format!("input<{}>", c_type(*dtype)),
        Param::Scalar(dtype) => format!("scalar<{}>", c_type(*dtype)),
        Param::Bool => "scalar<bool>".to_owned(),
        Param::Char => "scalar<char>".to_owned(),
        Param::Struct { ty, .. } => format!("scalar<{}>", struct_type(ty.as_ref())?),
        Param::TensorMap => return Err(takes_tensor_map()),
    })
}
