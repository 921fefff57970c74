//! A CUDA kernel in C: its code, its geometry, and its launches by the driver API.

use std::fmt::Write as _;

use super::pick::pick;
use super::{argument, comment, head, negative, structs, switch};
use crate::config::{Arg, TensorMap};
use crate::export::parts::Parts;
use crate::export::plan::{Plan, Planned};
use crate::export::{ExportError, File, tensor_map_type};
use crate::file;

/// The text of a kernel.
pub(super) fn kernel(parts: &mut Parts<'_>) -> Result<String, ExportError> {
    let mut text = head(parts)?;
    let name = parts.module.clone();
    let upper = name.to_uppercase();
    let _ = writeln!(
        text,
        "/* A kernel in a context. */\ntypedef struct {{\n    kbench_device device;\n    CUmodule modules[{upper}_VARIANTS];\n    \
         CUfunction functions[{upper}_VARIANTS * {upper}_LAUNCHES];\n}} {name}_kernel;\n"
    );
    text.push_str(&load(parts));
    text.push_str(&pick(parts)?);
    text.push_str(&geometry(parts)?);
    text.push_str(&launch(parts)?);
    Ok(text)
}

/// The files of numbers that the header includes, eight bytes in each number; zeros end them.
pub(super) fn code_files(plan: &Plan) -> Result<Vec<File>, ExportError> {
    let of = |name: &str, bytes: &[u8]| {
        let mut text = format!("/* {name}, {} bytes; written by `cargo kbench export`. */\n", bytes.len());
        // At least one zero ends PTX, which is text.
        for row in bytes.iter().copied().chain([0; 8]).collect::<Vec<u8>>().as_chunks::<8>().0.chunks(4) {
            let words: Vec<String> =
                row.iter().map(|word| format!("{:#018x}ULL,", u64::from_le_bytes(*word))).collect();
            let _ = writeln!(text, "{}", words.join(" "));
        }
        File { name: included(name).into(), bytes: text.into_bytes() }
    };
    let mut files: Vec<File> = Vec::new();
    for planned in &plan.variants {
        let code =
            planned.code.iter().map(|code| (&code.file, std::fs::read(&code.artifact.code), &code.artifact.code));
        for (name, bytes, path) in code {
            let bytes = bytes.map_err(|error| file::in_context(path, &error))?;
            files.push(of(name, &bytes));
        }
        if let Some(ptx) = &planned.ptx {
            files.push(of(&ptx.file, &ptx.text));
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files.dedup_by(|a, b| a.name == b.name);
    Ok(files)
}

/// The bytes in a file of numbers, with the zeros at the end; none for another file.
pub(in crate::export) fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let words = text.lines().filter(|line| !line.starts_with("/*")).flat_map(str::split_whitespace);
    let word = |word: &str| {
        let digits = word.strip_prefix("0x")?.strip_suffix("ULL,")?;
        u64::from_str_radix(digits, 16).ok().map(u64::to_le_bytes)
    };
    Some(words.map(word).collect::<Option<Vec<[u8; 8]>>>()?.concat())
}

fn included(file: &str) -> String {
    format!("{file}.inc")
}

/// `NAME_load` and `NAME_unload`, with the code.
fn load(parts: &Parts<'_>) -> String {
    let (plan, name, upper) = (parts.plan, &parts.module, parts.module.to_uppercase());
    let mut text = String::new();
    let mut declared: Vec<String> = Vec::new();
    let mut rows = String::new();
    let mut symbols = String::new();
    for (variant, planned) in plan.variants.iter().enumerate() {
        let mut row = |arch: &str, kind: &str, of: &[String], file: &str| {
            let array = format!("{name}_{}", crate::export::names::word(file));
            if !declared.contains(&array) {
                let _ = writeln!(
                    text,
                    "static const unsigned long long {array}[] = {{\n#include {:?}\n}};\n",
                    included(file)
                );
                declared.push(array.clone());
            }
            let (major, minor) = crate::export::arch_numbers(arch);
            let place = rows.lines().count();
            let mut of = of.iter();
            let all: Vec<String> = (planned.stages.iter())
                .map(|stage| {
                    stage.as_ref().and_then(|_| of.next()).map_or("NULL".to_owned(), |name| format!("{name:?}"))
                })
                .collect();
            let _ = writeln!(symbols, "    static const char *const symbols_{place}[] = {{{}}};", all.join(", "));
            let _ = writeln!(rows, "        {{{variant}, {major}, {minor}, KBENCH_{kind}, {array}, symbols_{place}}},");
        };
        for code in &planned.code {
            let arch = code.arch.as_deref().unwrap_or_default();
            let kind = if arch.ends_with('a') { "EXACT" } else { "GENERATION" };
            row(arch, kind, &code.symbols(planned), &code.file);
        }
        if let Some(ptx) = &planned.ptx {
            row(&ptx.arch, "PTX", &planned.code[0].symbols(planned), &ptx.file);
        }
    }
    let count = rows.lines().count();
    let variable = parts.variable();
    let _ = writeln!(
        text,
        "/* Loads all variants into the current context; `{variable}` may name one to be chosen always. */\n\
         static inline int {name}_load({name}_kernel *kernel)\n{{\n{symbols}    static const kbench_code codes[] = {{\n{rows}    }};\n    \
         int status;\n    memset(kernel, 0, sizeof *kernel);\n    \
         status = kbench_named({variable:?}, {upper}_VARIANTS, &kernel->device.named);\n    if (status != 0) return status;\n    \
         return kbench_load(codes, {count}, {upper}_VARIANTS, {upper}_LAUNCHES, &kernel->device, kernel->modules, kernel->functions);\n}}\n\n\
         /* Unloads it from its context. */\nstatic inline void {name}_unload({name}_kernel *kernel)\n{{\n    int at;\n    \
         for (at = 0; at < {upper}_VARIANTS; at++) {{\n        if (kernel->modules[at] != NULL) (void)cuModuleUnload(kernel->modules[at]);\n        \
         kernel->modules[at] = NULL;\n    }}\n}}\n"
    );
    text
}

/// `NAME_geometry`.
fn geometry(parts: &mut Parts<'_>) -> Result<String, ExportError> {
    let plan = parts.plan;
    let name = parts.module.clone();
    let body = switch(parts, |parts, planned| {
        let mut body = String::new();
        for at in 0..plan.stages() {
            let Some((_, launch)) = planned.stage(&plan.kernel, at) else { continue };
            let place = planned.stages[..at].iter().flatten().count();
            let symbol = &planned.code[0].symbols(planned)[place];
            let _ = writeln!(body, "        launches[{at}].entry = {symbol:?};");
            for (what, exprs) in [("grid", &launch.grid), ("block", &launch.block), ("cluster", &launch.cluster)] {
                for axis in 0..3 {
                    let size = match exprs.get(axis) {
                        Some(expr) => format!("kbench_unsigned({}, &bad)", parts.int(planned, expr)?),
                        None if exprs.is_empty() && what == "cluster" => continue,
                        None => "1".to_owned(),
                    };
                    let _ = writeln!(body, "        launches[{at}].{what}[{axis}] = {size};");
                }
            }
            if let Some(expr) = &launch.dynamic_shared {
                let bytes = parts.int(planned, expr)?;
                let _ = writeln!(body, "        launches[{at}].dynamic_shared = kbench_unsigned({bytes}, &bad);");
            }
            if launch.cooperative {
                let _ = writeln!(body, "        launches[{at}].cooperative = 1;");
            }
        }
        Ok(body)
    })?;
    Ok(format!(
        "/* The launches of a variant, in order. */\nstatic inline int {name}_geometry(int variant, {name}_dims dims, int64_t sm_count, \
         kbench_launch launches[{}_LAUNCHES])\n{{\n    int bad = {};\n    (void)dims;\n    (void)sm_count;\n    \
         memset(launches, 0, {}_LAUNCHES * sizeof *launches);\n{body}    return bad ? KBENCH_SIZES : 0;\n}}\n\n",
        name.to_uppercase(),
        negative(parts),
        name.to_uppercase(),
    ))
}

/// `NAME_launch_variant` and `NAME_launch`.
fn launch(parts: &mut Parts<'_>) -> Result<String, ExportError> {
    let plan = parts.plan;
    let name = parts.module.clone();
    let mut types = String::new();
    for at in 0..plan.stages() {
        let first = plan.variants.iter().find_map(|planned| planned.stage(&plan.kernel, at));
        for (place, arg) in first.into_iter().flat_map(|(_, launch)| launch.values()) {
            types.push_str(&structs(parts, arg, &format!("{name}_argument_{at}_{place}")));
        }
    }
    let body = switch(parts, |parts, planned| {
        let (mut values, mut calls) = (String::new(), String::new());
        for at in 0..plan.stages() {
            stage(parts, planned, at, &mut values, &mut calls)?;
        }
        let bad = if values.contains("&bad") { "        if (bad) status = KBENCH_SIZES;\n" } else { "" };
        Ok(format!("{values}{bad}{calls}"))
    })?;
    let (mut taken, mut passed) = (String::new(), String::new());
    for (index, tensor) in &parts.tensors {
        let access = parts.access(*index);
        let _ = write!(taken, ",\n    /* {}, {access} */ CUdeviceptr {tensor}", parts.dtype(*index));
        let _ = write!(passed, ", {tensor}");
    }
    let (mut scratch, mut allocated, mut freed) = (String::new(), String::new(), String::new());
    for (index, tensor) in &parts.scratch {
        let bytes = parts.dtype(*index).size();
        let _ = writeln!(scratch, "    CUdeviceptr {tensor} = 0;");
        let _ = writeln!(
            allocated,
            "    if (status == 0) status = (int)cuMemAllocAsync(&{tensor}, elements.{tensor} * {bytes}, stream);"
        );
        let _ = writeln!(freed, "    if ({tensor} != 0) (void)cuMemFreeAsync({tensor}, stream);");
    }
    // The variant is checked before anything has to be freed.
    let body = body.replace("default: return KBENCH_NO_VARIANT;", "default: break;");
    let bad = if body.contains("bad") { "    int bad = 0;\n" } else { "" };
    Ok(format!(
        "{types}/* Launches a variant on a stream of the kernel's context. Each address is valid for as many elements as `{name}_count` says. */\n\
         static inline int {name}_launch_variant(const {name}_kernel *kernel, int variant, CUstream stream, {name}_dims dims{taken})\n{{\n    \
         kbench_launch launches[{upper}_LAUNCHES];\n    {name}_elements elements;\n{scratch}    \
         const int64_t sm_count = kernel->device.sm_count;\n{bad}    \
         int status = {name}_geometry(variant, dims, sm_count, launches);\n    \
         if (status == 0) status = {name}_count(variant, dims, sm_count, &elements);\n    if (status != 0) return status;\n{allocated}\
         {body}{freed}    return status;\n}}\n\n\
         /* Launches the variant that `{name}_pick` chooses. */\n\
         static inline int {name}_launch(const {name}_kernel *kernel, CUstream stream, {name}_dims dims{taken})\n{{\n    \
         kbench_choice choice;\n    const int status = {name}_pick(kernel, dims, &choice);\n    if (status != 0) return status;\n    \
         return {name}_launch_variant(kernel, choice.variant, stream, dims{passed});\n}}\n\n",
        upper = name.to_uppercase(),
    ))
}

/// One launch of a variant: its values and calls.
fn stage(
    parts: &mut Parts<'_>,
    planned: &Planned,
    at: usize,
    values: &mut String,
    calls: &mut String,
) -> Result<(), ExportError> {
    let kernel = &parts.plan.kernel;
    let Some((entry, launch)) = planned.stage(kernel, at) else { return Ok(()) };
    let mut given = Vec::new();
    let mut prepared = String::new();
    for (place, arg) in launch.args.iter().enumerate() {
        let variable = format!("argument_{at}_{place}");
        match arg {
            Arg::TensorMap(TensorMap { tensor, dims, r#box, swizzle }) => {
                let dims = if dims.is_empty() { &kernel.tensors[*tensor].dims } else { dims };
                let (mut sizes, mut sides) = (Vec::new(), Vec::new());
                for dim in dims.iter().rev() {
                    sizes.push(format!("(cuuint64_t)kbench_count({}, &bad)", parts.int(planned, dim)?));
                }
                for side in r#box.iter().rev() {
                    sides.push(format!("kbench_unsigned({}, &bad)", parts.int(planned, side)?));
                }
                let _ = writeln!(values, "        CUtensorMap {variable};");
                let _ = writeln!(values, "        const cuuint64_t {variable}_dims[] = {{{}}};", sizes.join(", "));
                let _ = writeln!(values, "        const cuuint32_t {variable}_box[] = {{{}}};", sides.join(", "));
                let dtype = parts.dtype(*tensor);
                let swizzle = if *swizzle == 0 { "NONE".to_owned() } else { format!("{swizzle}B") };
                let _ = writeln!(
                    prepared,
                    "        if (status == 0) {{\n            status = kbench_tensor_map(&{variable}, \
                     CU_TENSOR_MAP_DATA_TYPE_{}, {}, {}, {}, {variable}_dims, {variable}_box, CU_TENSOR_MAP_SWIZZLE_{swizzle});\n        }}",
                    tensor_map_type(dtype),
                    dtype.size(),
                    parts.tensor(*tensor),
                    dims.len(),
                );
                given.push(variable);
            }
            Arg::Symbol { symbol, tensor } => {
                let tensor_name = parts.tensor(*tensor);
                let _ = writeln!(
                    prepared,
                    "        if (status == 0) {{\n            status = kbench_copy_to_symbol(kernel->modules[variant], {symbol:?}, \
                     {tensor_name}, elements.{tensor_name} * {}, stream);\n        }}",
                    parts.dtype(*tensor).size(),
                );
            }
            Arg::Value(arg) => given.push(argument(parts, planned, arg, &variable, values)?),
        }
    }
    for tensor in &launch.zero {
        let (tensor_name, bytes) = (parts.tensor(*tensor), parts.dtype(*tensor).size());
        let _ = writeln!(
            prepared,
            "        if (status == 0) status = (int)cuMemsetD8Async({tensor_name}, 0, elements.{tensor_name} * {bytes}, stream);"
        );
    }
    let pointers: Vec<String> = given.iter().map(|name| format!("&{name}, ")).collect();
    let _ = writeln!(values, "        void *arguments_{at}[] = {{{}NULL}};", pointers.concat());
    let _ = writeln!(
        calls,
        "        /* {} */\n{prepared}        if (status == 0) {{\n            status = kbench_run(kernel->functions[variant * {} + {at}], \
         &launches[{at}], stream, arguments_{at});\n        }}",
        comment(entry),
        parts.plan.stages(),
    );
    Ok(())
}
