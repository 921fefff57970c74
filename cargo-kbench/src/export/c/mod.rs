//! The C header that launches exported kernels, for programs in C and C++.
//!
//! The header has no global variables: a program loads a kernel into a struct of its own, which is only read after
//! that.

use std::fmt::Write as _;

use super::names;
use super::parts::{Number, Parts, narrow};
use super::plan::{Plan, Planned};
use super::{ExportError, File, c_source};
use crate::config::{ArgValue, Backend, Package, Word};
use dialect::C;
use kbench_runtime::dtype::DType;

pub(super) mod build;
mod cuda;
mod dialect;
mod host;
mod pick;

pub(super) use cuda::decoded;

/// Names of arguments and variables of the generated functions.
const TAKEN: &[&str] = &[
    "bad", "choice", "count", "device", "dims", "elements", "kernel", "launches", "sm_count", "status", "stream",
    "variant",
];

/// The header and the code that it includes.
pub(super) fn files(package: &Package, plans: &[Plan]) -> Result<Vec<File>, ExportError> {
    let kernels: Vec<&str> = plans.iter().map(|plan| plan.kernel.name.as_str()).collect();
    let guard = format!("KBENCH_EXPORT_{}_H", names::word(&package.name).to_uppercase());
    let mut text = super::mark("//");
    text.push_str(&super::made_from(plans, "//"));
    let of = |backend| plans.iter().any(|plan| plan.kernel.implementation.backend == backend);
    let _ = write!(text, "{}", DOC.replace("PACKAGE", &package.name));
    let _ = writeln!(text, "#ifndef {guard}\n#define {guard}\n");
    for header in ["math", "stdbool", "stddef", "stdint", "stdio", "stdlib", "string"] {
        let _ = writeln!(text, "#include <{header}.h>");
    }
    text.push_str(if of(Backend::Cuda) { "\n#include <cuda.h>\n\n" } else { "\n" });
    text.push_str(include_str!("common.h"));
    if of(Backend::Cuda) {
        text.push_str(include_str!("cuda.h"));
    }
    if of(Backend::C) {
        text.push_str(include_str!("host.h"));
    }
    let mut files = Vec::new();
    for (plan, name) in plans.iter().zip(names::snake(&kernels, names::C, &["kbench"])) {
        let mut parts = Parts::new(plan, name, &C, &[], TAKEN);
        let kernel = match plan.kernel.implementation.backend {
            Backend::Cuda => {
                files.extend(cuda::code_files(plan)?);
                cuda::kernel(&mut parts)?
            }
            Backend::C => host::kernel(&package.name, &mut parts)?,
            Backend::Fake => return Err(ExportError::unsupported(&plan.kernel, &"it is a model, which has no code")),
        };
        text.push_str(&kernel);
    }
    let _ = writeln!(text, "#endif /* {guard} */");
    files.push(File { name: "kbench.h".into(), bytes: text.into_bytes() });
    Ok(files)
}

const DOC: &str = "\
/* The kernels of `PACKAGE`, as `cargo kbench export --lang c` wrote them. Do not edit: run it again.
 *
 * Each kernel has `NAME_load`, which fills a `NAME_kernel`, and `NAME_launch`, which chooses among the variants by this rule, which
 * `NAME_pick` tells:
 *
 * 1. the winner of elite.json on the device that runs at the very sizes;
 * 2. the winner on that device at the nearest sizes: those whose ratios to the sizes asked for are closest to 1, by the sum of the
 *    logarithms' absolute values;
 * 3. the winner on another device of the architecture, at the nearest sizes;
 * 4. the default of the table.
 *
 * A variable `KBENCH_VARIANT_<KERNEL>`, which `NAME_load` reads, names a variant instead, or `default`. A function returns 0 where it succeeds;
 * `kbench_message` has words for the rest. A loaded kernel may be used by several threads. */
";

/// The start of a kernel's text: its sizes, its variants with their macros, and the sizes of its tensors.
fn head(parts: &mut Parts<'_>) -> Result<String, ExportError> {
    let plan = parts.plan;
    let name = parts.module.clone();
    let upper = name.to_uppercase();
    let mut text = format!(
        "/* `{}`, {} */\n\n\
         /* The sizes of a problem. */\ntypedef struct {{\n",
        plan.kernel.name,
        comment(&parts.checked())
    );
    for (field, dim) in parts.fields.iter().zip(plan.dims()) {
        let _ = writeln!(text, "    /* `{}` of the table. */\n    int64_t {field};", comment(dim));
    }
    if parts.fields.is_empty() {
        // C has no struct without members.
        text.push_str("    char none;\n");
    }
    let _ = writeln!(text, "}} {name}_dims;\n\n#define {upper}_VARIANTS {}", plan.variants.len());
    let _ = writeln!(text, "#define {upper}_LAUNCHES {}\n", plan.stages());
    for (at, planned) in plan.variants.iter().enumerate() {
        let default = if planned.is_default { ", the default" } else { "" };
        let _ = writeln!(text, "/* v{at}: {}{default}.", comment(&planned.label(&plan.kernel)));
        for line in planned.figures.iter().chain(planned.native_note().as_ref()) {
            let _ = writeln!(text, " * {}.", comment(line));
        }
        text.push_str(" */\n");
        for (toggle, value) in &planned.unit.macros {
            let _ = writeln!(text, "#define {upper}_V{at}_{} {value}", names::word(toggle));
        }
    }
    let labels: Vec<String> =
        plan.variants.iter().map(|planned| format!("        {:?},\n", planned.label(&plan.kernel))).collect();
    let _ = writeln!(
        text,
        "\n/* The toggles of a variant. */\nstatic inline const char *{name}_variant(int variant)\n{{\n    \
         static const char *const labels[] = {{\n{}    }};\n    \
         return variant >= 0 && variant < {upper}_VARIANTS ? labels[variant] : \"\";\n}}\n",
        labels.concat()
    );
    text.push_str("/* How many elements each tensor has. */\ntypedef struct {\n");
    let tensors: Vec<(usize, String)> = parts.tensors.iter().chain(&parts.scratch).cloned().collect();
    for (_, tensor) in &tensors {
        let _ = writeln!(text, "    size_t {tensor};");
    }
    let _ = writeln!(text, "}} {name}_elements;\n");
    let body = switch(parts, |parts, planned| {
        let mut body = String::new();
        for (index, tensor) in &tensors {
            let mut product: Option<String> = None;
            for dim in &plan.kernel.tensors[*index].dims {
                let factor = parts.int(planned, dim)?;
                product = Some(match product {
                    None => factor,
                    Some(product) => format!("kbench_mul({product}, {factor}, &bad)"),
                });
            }
            let product = product.unwrap_or_else(|| "1".to_owned());
            let _ = writeln!(body, "        elements->{tensor} = kbench_count({product}, &bad);");
        }
        Ok(body)
    })?;
    let _ = writeln!(
        text,
        "/* The elements of the tensors of a variant. */\nstatic inline int {name}_count(int variant, {name}_dims dims, int64_t sm_count, \
         {name}_elements *elements)\n{{\n    int bad = {};\n    (void)dims;\n    (void)sm_count;\n    \
         memset(elements, 0, sizeof *elements);\n{body}    return bad ? KBENCH_SIZES : 0;\n}}\n",
        negative(parts)
    );
    Ok(text)
}

/// Whether a size is negative.
fn negative(parts: &Parts<'_>) -> String {
    let all: Vec<String> = parts.fields.iter().map(|field| format!("dims.{field} < 0")).collect();
    if all.is_empty() { "0".to_owned() } else { all.join(" || ") }
}

/// A `switch` over the variants, in which equal bodies are shared.
fn switch(
    parts: &mut Parts<'_>,
    mut body: impl FnMut(&mut Parts<'_>, &Planned) -> Result<String, ExportError>,
) -> Result<String, ExportError> {
    let plan = parts.plan;
    let mut bodies: Vec<(String, Vec<usize>)> = Vec::new();
    for (at, planned) in plan.variants.iter().enumerate() {
        let body = body(parts, planned)?;
        match bodies.iter_mut().find(|(known, _)| *known == body) {
            Some((_, variants)) => variants.push(at),
            None => bodies.push((body, vec![at])),
        }
    }
    let mut text = "    switch (variant) {\n".to_owned();
    for (body, variants) in bodies {
        for at in &variants[..variants.len() - 1] {
            let _ = writeln!(text, "    case {at}:");
        }
        let _ = writeln!(text, "    case {}: {{\n{body}        break;\n    }}", variants[variants.len() - 1]);
    }
    Ok(text + "    default: return KBENCH_NO_VARIANT;\n    }\n")
}

/// The type and the value of a passed number.
fn number(parts: &mut Parts<'_>, planned: &Planned, number: Number<'_>) -> Result<(&'static str, String), ExportError> {
    let is_host = parts.kernel().implementation.backend == Backend::C;
    let (dtype, word, value) = match number {
        Number::Offset { elements, .. } => {
            return Ok(("size_t", format!("kbench_count({}, &bad)", parts.int(planned, elements)?)));
        }
        Number::Scalar { dtype, word, value } => (dtype, word, value),
    };
    let ty = scalar_type(dtype, word, is_host);
    if word == Some(Word::Bool) {
        return Ok((ty, format!("{} != 0", parts.truth(planned, value)?)));
    }
    if dtype.is_float() {
        let real = parts.real(planned, value)?;
        return Ok((
            ty,
            match narrow(dtype) {
                Some([mantissa, bias, largest, above]) if ty.starts_with("uint") => {
                    format!("({ty})kbench_narrow({real}, {mantissa}, {bias}, {largest:#x}, {above:#x})")
                }
                _ if dtype == DType::F64 => real,
                _ => format!("({ty})({real})"),
            },
        ));
    }
    let int = parts.int(planned, value)?;
    let (low, high) = match dtype {
        DType::I64 => return Ok((ty, int)),
        DType::U64 => ("0".to_owned(), "INT64_MAX".to_owned()),
        _ if dtype.name().starts_with('u') => ("0".to_owned(), format!("UINT{}_MAX", dtype.size() * 8)),
        _ => (format!("INT{}_MIN", dtype.size() * 8), format!("INT{}_MAX", dtype.size() * 8)),
    };
    Ok((ty, format!("({ty})kbench_within({int}, {low}, {high}, &bad)")))
}

/// The type of a scalar in the signature; on a GPU, types that C lacks are passed as their bits.
fn scalar_type(dtype: DType, word: Option<Word>, is_host: bool) -> &'static str {
    match (word, dtype) {
        (Some(Word::Bool), _) => "bool",
        (Some(Word::Char), _) => "char",
        (None, DType::F16) if !is_host => "uint16_t",
        (None, dtype) => dtype.c_type(),
    }
}

/// The element type of a tensor: types that C or C++ lacks are passed as their bits.
fn element(dtype: DType) -> &'static str {
    if dtype == DType::F16 { "uint16_t" } else { dtype.c_type() }
}

/// The types of the structs among the arguments, inner ones first.
fn structs(parts: &Parts<'_>, arg: &ArgValue, name: &str) -> String {
    let ArgValue::Struct { ty, fields } = arg else { return String::new() };
    let is_host = parts.kernel().implementation.backend == Backend::C;
    let mut text = String::new();
    let of = ty.as_deref().map_or_else(|| "A struct by value".to_owned(), |ty| format!("`{ty}` by value"));
    let mut own = format!("/* {of}. */\ntypedef struct {{\n");
    for (at, field) in fields.iter().enumerate() {
        let inner = format!("{name}_{at}");
        text.push_str(&structs(parts, field, &inner));
        let ty = match field {
            ArgValue::Struct { .. } => inner,
            ArgValue::Scalar { dtype, word, .. } => scalar_type(*dtype, *word, is_host).to_owned(),
            ArgValue::Tensor(tensor) | ArgValue::Offset { tensor, .. } => address_type(parts, *tensor),
        };
        let _ = writeln!(own, "    {ty} field_{at};");
    }
    let _ = writeln!(own, "}} {name};\n");
    text + &own
}

/// The type of a tensor's address.
fn address_type(parts: &Parts<'_>, tensor: usize) -> String {
    match parts.kernel().implementation.backend {
        Backend::C if parts.is_written(tensor) => format!("{} *", element(parts.dtype(tensor))),
        Backend::C => format!("const {} *", element(parts.dtype(tensor))),
        _ => "CUdeviceptr".to_owned(),
    }
}

/// Statements that set the variable of one argument, and the name of the variable.
fn argument(
    parts: &mut Parts<'_>,
    planned: &Planned,
    arg: &ArgValue,
    name: &str,
    text: &mut String,
) -> Result<String, ExportError> {
    if let ArgValue::Tensor(tensor) = arg {
        return Ok(parts.tensor(*tensor).to_owned());
    }
    if let Some((ty, value)) = value(parts, planned, arg)? {
        let _ = writeln!(text, "        {ty} {name} = {value};");
    } else {
        let _ = writeln!(text, "        {}_{name} {name};", parts.module);
        fill(parts, planned, arg, name, text)?;
    }
    Ok(name.to_owned())
}

fn fill(
    parts: &mut Parts<'_>,
    planned: &Planned,
    arg: &ArgValue,
    place: &str,
    text: &mut String,
) -> Result<(), ExportError> {
    if let ArgValue::Struct { fields, .. } = arg {
        for (at, field) in fields.iter().enumerate() {
            fill(parts, planned, field, &format!("{place}.field_{at}"), text)?;
        }
        return Ok(());
    }
    if let Some((_, value)) = value(parts, planned, arg)? {
        let _ = writeln!(text, "        {place} = {value};");
    }
    Ok(())
}

/// The type and the value of a tensor's address or a number; none of a struct, whose fields have one each.
fn value(parts: &mut Parts<'_>, planned: &Planned, arg: &ArgValue) -> Result<Option<(String, String)>, ExportError> {
    Ok(Some(match arg {
        ArgValue::Tensor(tensor) => (address_type(parts, *tensor), parts.tensor(*tensor).to_owned()),
        ArgValue::Offset { tensor, offset } => {
            let of = Number::Offset { tensor: *tensor, elements: offset };
            let (_, elements) = number(parts, planned, of)?;
            let bytes = match parts.kernel().implementation.backend {
                Backend::C => String::new(),
                _ => format!(" * {}", parts.dtype(*tensor).size()),
            };
            (address_type(parts, *tensor), format!("{} + {elements}{bytes}", parts.tensor(*tensor)))
        }
        ArgValue::Scalar { dtype, word, value } => {
            let (ty, value) = number(parts, planned, Number::Scalar { dtype: *dtype, word: *word, value })?;
            (ty.to_owned(), value)
        }
        ArgValue::Struct { .. } => return Ok(None),
    }))
}

/// A text for a comment, without an end of the comment.
fn comment(text: &str) -> String {
    text.replace("*/", "* /").replace("/*", "/ *")
}

/// The name of a variant's function of a launch, in C.
fn symbol(package: &str, parts: &Parts<'_>, variant: usize, planned: &Planned, entry: &str) -> String {
    c_source::symbol(package, parts.kernel(), variant, planned, entry)
}
