//! `geometry`, `pick` and `launch` of a kernel's module.

use std::fmt::Write as _;

use kbench_runtime::dtype::DType;

use super::{branches, indented, numpy_type};
use crate::config::{Arg, ArgValue, TensorMap, Word};
use crate::export::parts::{Parts, narrow};
use crate::export::plan::Planned;
use crate::export::{ExportError, tensor_map_type};
use crate::expr::Expr;

pub(super) fn functions(parts: &mut Parts<'_>) -> Result<String, ExportError> {
    let plan = parts.plan;
    let mut text = String::new();
    for at in 0..plan.stages() {
        let first = plan.variants.iter().find_map(|planned| planned.stage(&plan.kernel, at));
        for (place, arg) in first.into_iter().flat_map(|(_, launch)| launch.values()) {
            text.push_str(&structs(arg, &format!("_Struct{at}_{place}")));
        }
    }
    let geometry = branches(parts, |parts, planned| {
        let mut body = "return [\n".to_owned();
        for at in 0..plan.stages() {
            let Some((_, launch)) = planned.stage(&plan.kernel, at) else { continue };
            let mut triple = |exprs: &[Expr]| {
                let sizes: Result<Vec<String>, ExportError> =
                    exprs.iter().map(|expr| parts.int(planned, expr)).collect();
                sizes.map(|mut sizes| {
                    sizes.resize(3, "1".to_owned());
                    format!("({})", sizes.join(", "))
                })
            };
            let (grid, block) = (triple(&launch.grid)?, triple(&launch.block)?);
            let cluster = if launch.cluster.is_empty() { "None".to_owned() } else { triple(&launch.cluster)? };
            let shared = launch.dynamic_shared.as_ref().map(|expr| parts.int(planned, expr)).transpose()?;
            let _ = writeln!(
                body,
                "    shared.Launch({at}, {grid}, {block}, {cluster}, {}, {}),",
                shared.as_deref().unwrap_or("0"),
                if launch.cooperative { "True" } else { "False" }
            );
        }
        Ok(body + "]\n")
    })?;
    let _ = write!(
        text,
        "def geometry(variant, dims, sm_count):\n    \"\"\"The launches of a variant, in order.\"\"\"\n{geometry}\n\n"
    );
    let arguments = branches(parts, arguments)?;
    let _ = write!(
        text,
        "def _launches(variant, dims, sm_count, stream, shapes, addresses, module):\n    \"\"\"Prepares each launch, and yields its place and its arguments.\"\"\"\n{arguments}\n\n"
    );
    let taken: Vec<&str> = parts.tensors.iter().flat_map(|(_, name)| [name.as_str(), ", "]).collect();
    let taken = taken.concat();
    text.push_str(
        "def pick(dims):\n    \"\"\"The variant for these sizes on the current device, and why.\"\"\"\n    return _pick(_KERNEL.loaded(), dims)\n\n\n\
         def _pick(loaded, dims):\n    loaded.code(CODES[0])  # each variant has code for the same architectures\n\n    \
         def fits(variant):\n        try:\n            return _fits(variant, dims, loaded.sm_count)\n        \
         except (ArithmeticError, ValueError):\n            return False\n\n    \
         return _KERNEL.pick(loaded, dims.sizes(), fits)\n\n\n",
    );
    let mut body = String::new();
    for (index, name) in &parts.tensors {
        let dtype = numpy_type(parts.dtype(*index));
        let _ = writeln!(
            body,
            "    addresses[{name:?}] = shared.check({name:?}, {name}, {dtype:?}, shapes[{name:?}], loaded.device)"
        );
    }
    for (index, name) in &parts.scratch {
        let dtype = numpy_type(parts.dtype(*index));
        let _ = writeln!(
            body,
            "    {name} = cupy.empty(shapes[{name:?}], {dtype:?})\n    addresses[{name:?}] = {name}.data.ptr"
        );
    }
    let body = indented(&body, "    ");
    let what: Vec<String> = (parts.tensors.iter())
        .map(|(index, name)| {
            let access = parts.access(*index);
            format!("    {name}: {} ({}), {access}\n", numpy_type(parts.dtype(*index)), parts.dtype(*index))
        })
        .collect();
    let _ = write!(
        text,
        "def launch(dims, {taken}stream=None, variant=None):\n    \"\"\"Launches the variant that `pick` chooses, or one that is named, on a stream of the current device; by default \
         the current stream.\n\n    Arrays have the shapes that the table says at these sizes:\n\n{}    \"\"\"\n    \
         loaded = _KERNEL.loaded()\n    stream = stream or cupy.cuda.get_current_stream()\n    \
         if variant is None:\n        variant = _pick(loaded, dims).variant\n    sm_count = loaded.sm_count\n    \
         with shared.sizes_of({}):\n        shapes = _shapes(variant, dims, sm_count)\n        launches = geometry(variant, dims, sm_count)\n    \
         module, functions = loaded.functions(variant, CODES[variant])\n    addresses = {{}}\n    with stream:\n{body}        \
         with shared.sizes_of({}):\n            \
         prepared = _launches(variant, dims, sm_count, stream, shapes, addresses, module)\n            \
         for one, arguments in zip(launches, prepared):\n                \
         shared.run(functions[one.stage], one, stream, arguments)\n",
        what.concat(),
        super::literal(&plan.kernel.name),
        super::literal(&plan.kernel.name),
    );
    Ok(text)
}

/// Classes of the structs among the arguments, inner ones first.
fn structs(arg: &ArgValue, name: &str) -> String {
    let ArgValue::Struct { ty, fields } = arg else { return String::new() };
    let mut text = String::new();
    let mut list = String::new();
    for (at, field) in fields.iter().enumerate() {
        let inner = format!("{name}_{at}");
        text.push_str(&structs(field, &inner));
        let ty = match field {
            ArgValue::Struct { .. } => inner,
            ArgValue::Scalar { dtype, word, .. } => ctypes_type(*dtype, *word).to_owned(),
            _ => "ctypes.c_uint64".to_owned(),
        };
        let _ = writeln!(list, "        (\"field_{at}\", {ty}),");
    }
    let of = ty.as_deref().map_or_else(|| "A struct by value.".to_owned(), |ty| format!("`{ty}` by value."));
    let _ =
        write!(text, "class {name}(ctypes.Structure):\n    \"\"\"{of}\"\"\"\n\n    _fields_ = [\n{list}    ]\n\n\n");
    text
}

/// Statements that prepare and yield each launch of a variant.
fn arguments(parts: &mut Parts<'_>, planned: &Planned) -> Result<String, ExportError> {
    let kernel = &parts.plan.kernel;
    let mut text = String::new();
    for at in 0..parts.plan.stages() {
        let Some((_, launch)) = planned.stage(kernel, at) else { continue };
        let mut values = Vec::new();
        for (place, arg) in launch.args.iter().enumerate() {
            match arg {
                Arg::TensorMap(TensorMap { tensor, dims, r#box, swizzle }) => {
                    let dims = if dims.is_empty() { &kernel.tensors[*tensor].dims } else { dims };
                    let mut list = |exprs: &[Expr]| {
                        let sizes: Result<Vec<String>, ExportError> =
                            exprs.iter().rev().map(|expr| parts.int(planned, expr)).collect();
                        sizes.map(|sizes| format!("[{}]", sizes.join(", ")))
                    };
                    let (dims, sides) = (list(dims)?, list(r#box)?);
                    let dtype = parts.dtype(*tensor);
                    values.push(format!(
                        "shared.tensor_map({}, {}, addresses[{:?}], {dims}, {sides}, {swizzle})",
                        data_type(dtype),
                        dtype.size(),
                        parts.tensor(*tensor),
                    ));
                }
                Arg::Symbol { symbol, tensor } => {
                    let name = parts.tensor(*tensor);
                    let _ = writeln!(
                        text,
                        "shared.copy_to_symbol(module, {symbol:?}, addresses[{name:?}], math.prod(shapes[{name:?}]) * {}, stream)",
                        parts.dtype(*tensor).size()
                    );
                }
                Arg::Value(arg) => values.push(value(parts, planned, arg, &format!("_Struct{at}_{place}"), true)?),
            }
        }
        for tensor in &launch.zero {
            let name = parts.tensor(*tensor);
            let _ = writeln!(
                text,
                "shared.zero(addresses[{name:?}], math.prod(shapes[{name:?}]) * {}, stream)",
                parts.dtype(*tensor).size()
            );
        }
        let _ = writeln!(text, "yield [\n{}]", indented(&values.join(",\n"), "    "));
    }
    Ok(text)
}

/// An argument as an object of ctypes; a field of a struct is given as it is.
fn value(
    parts: &mut Parts<'_>,
    planned: &Planned,
    arg: &ArgValue,
    name: &str,
    wrapped: bool,
) -> Result<String, ExportError> {
    let address = |parts: &Parts<'_>, tensor: usize| format!("addresses[{:?}]", parts.tensor(tensor));
    let pointer = |text: String| if wrapped { format!("ctypes.c_uint64({text})") } else { text };
    Ok(match arg {
        ArgValue::Tensor(tensor) => pointer(address(parts, *tensor)),
        ArgValue::Offset { tensor, offset } => {
            let elements = parts.int(planned, offset)?;
            let size = parts.dtype(*tensor).size();
            pointer(format!("{} + ({elements}) * {size}", address(parts, *tensor)))
        }
        ArgValue::Scalar { dtype, word, value } => scalar(parts, planned, *dtype, *word, value)?,
        ArgValue::Struct { fields, .. } => {
            let mut values = Vec::new();
            for (at, field) in fields.iter().enumerate() {
                values.push(value(parts, planned, field, &format!("{name}_{at}"), false)?);
            }
            format!("{name}({})", values.join(", "))
        }
    })
}

fn scalar(
    parts: &mut Parts<'_>,
    planned: &Planned,
    dtype: DType,
    word: Option<Word>,
    value: &Expr,
) -> Result<String, ExportError> {
    let ty = ctypes_type(dtype, word);
    if word == Some(Word::Bool) {
        return Ok(format!("{ty}({})", parts.truth(planned, value)?));
    }
    if let Some([mantissa, bias, largest, above]) = narrow(dtype) {
        parts.translation.called.insert("narrow");
        let real = parts.real(planned, value)?;
        return Ok(format!("narrow({ty}, {real}, {mantissa}, {bias}, {largest:#x}, {above:#x})"));
    }
    if dtype.is_float() {
        return Ok(format!("{ty}({})", parts.real(planned, value)?));
    }
    Ok(format!("shared.integer({ty}, {})", parts.int(planned, value)?))
}

/// The type of a scalar; those that C lacks are their bits.
fn ctypes_type(dtype: DType, word: Option<Word>) -> &'static str {
    match (word, dtype) {
        (Some(Word::Bool), _) => "ctypes.c_bool",
        (_, DType::F64) => "ctypes.c_double",
        (_, DType::F32) => "ctypes.c_float",
        (_, DType::F16 | DType::Bf16 | DType::U16) => "ctypes.c_uint16",
        (_, DType::F8e4m3 | DType::F8e5m2 | DType::U8) => "ctypes.c_uint8",
        (_, DType::I8) => "ctypes.c_int8",
        (_, DType::I16) => "ctypes.c_int16",
        (_, DType::I32) => "ctypes.c_int32",
        (_, DType::I64) => "ctypes.c_int64",
        (_, DType::U32) => "ctypes.c_uint32",
        (_, DType::U64) => "ctypes.c_uint64",
    }
}

/// The driver's number of a tensor map's type.
fn data_type(dtype: DType) -> usize {
    let names = ["UINT8", "UINT16", "UINT32", "INT32", "UINT64", "INT64", "FLOAT16", "FLOAT32", "FLOAT64", "BFLOAT16"];
    names.iter().position(|name| *name == tensor_map_type(dtype)).expect("each name is there")
}
