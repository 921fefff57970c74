//! The Python package that launches exported kernels, over arrays of `cupy`.

use std::fmt::Write as _;

use kbench_runtime::dtype::DType;

use super::parts::Parts;
use super::plan::{Plan, Planned};
use super::{ExportError, File, names};
use crate::config::{Backend, Package};
use crate::expr::Value;
use dialect::Python;

mod dialect;
mod launch;

/// Names of arguments and variables of the generated functions, and of modules.
const TAKEN: &[&str] = &[
    "arguments",
    "choice",
    "ctypes",
    "cupy",
    "device",
    "dims",
    "functions",
    "loaded",
    "math",
    "module",
    "numpy",
    "shapes",
    "shared",
    "sm_count",
    "stream",
    "variant",
];

/// Names of a kernel's module that no kernel may have.
const MODULES: &[&str] = &["shared"];

/// The package: `__init__.py`, a module for each kernel, shared functions, and the code.
pub(super) fn files(package: &Package, plans: &[Plan]) -> Result<Vec<File>, ExportError> {
    let kernels: Vec<&str> = plans.iter().map(|plan| plan.kernel.name.as_str()).collect();
    let modules = names::snake(&kernels, names::PYTHON, MODULES);
    let mut files = Vec::new();
    let mut add = |name: &str, text: &str| {
        files.push(File { name: name.into(), bytes: text.as_bytes().to_owned() });
    };
    let mut text = super::mark("#") + &super::made_from(plans, "#") + &DOC.replace("PACKAGE", &package.name);
    for module in &modules {
        let _ = writeln!(text, "from . import {module}");
    }
    let _ = writeln!(text, "from .shared import Choice, DriverError, Error");
    let quoted: Vec<String> = modules.iter().map(|module| format!("{module:?}")).collect();
    let _ = writeln!(text, "\n__all__ = [\"Choice\", \"DriverError\", \"Error\", {}]", quoted.join(", "));
    add("__init__.py", &text);
    add("shared.py", &(super::mark("#") + include_str!("shared.py")));
    for (plan, module) in plans.iter().zip(modules) {
        if plan.kernel.implementation.backend != Backend::Cuda {
            let why = "only kernels in CUDA are exported to Python; name those with --kernel, or export to C";
            return Err(ExportError::unsupported(&plan.kernel, &why));
        }
        let mut parts = Parts::new(plan, module, &Python, &["sizes"], TAKEN);
        let text = kernel(&mut parts)?;
        add(&format!("{}.py", parts.module), &text);
    }
    for plan in plans {
        files.extend(plan.code_files()?);
    }
    Ok(files)
}

const DOC: &str = "\
\"\"\"The kernels of `PACKAGE`, as `cargo kbench export --lang python` wrote them. Do not edit: run it again.

Each kernel is a module with `Dims`, `launch`, and `pick`, which tells the variant that `launch` chooses by this rule:

1. the winner of elite.json on the device that runs at the very sizes;
2. the winner on that device at the nearest sizes: those whose ratios to the sizes asked for are closest to 1, by the sum of the
   logarithms' absolute values;
3. the winner on another device of the architecture, at the nearest sizes;
4. the default of the table.

A variable `KBENCH_VARIANT_<KERNEL>` names a variant instead, or `default`.
\"\"\"

";

/// The module of a kernel.
fn kernel(parts: &mut Parts<'_>) -> Result<String, ExportError> {
    let plan = parts.plan;
    let mut body = String::new();
    body.push_str("@dataclasses.dataclass(frozen=True)\nclass Dims:\n    \"\"\"The sizes of a problem, as the table names them.\"\"\"\n\n");
    for (field, dim) in parts.fields.iter().zip(plan.dims()) {
        let _ = writeln!(body, "    {field}: int  # `{dim}`");
    }
    let fields: Vec<String> = parts.fields.iter().map(|field| format!("self.{field},")).collect();
    body.push_str("\n    def __post_init__(self):\n        shared.check_sizes(self.sizes())\n");
    let _ = writeln!(
        body,
        "\n    def sizes(self):\n        \"\"\"In the table's order.\"\"\"\n        return ({})\n\n",
        fields.join(" ")
    );
    body.push_str("# The toggles of each variant.\nVARIANTS = (\n");
    for planned in &plan.variants {
        let _ = writeln!(
            body,
            "    {},{}",
            literal(&planned.label(&plan.kernel)),
            if planned.is_default { "  # the default" } else { "" }
        );
        for figure in &planned.figures {
            let _ = writeln!(body, "    # {figure}");
        }
    }
    body.push_str(")\n\n# The values of the toggles of each variant.\nTOGGLES = (\n");
    for planned in &plan.variants {
        let of = |(name, value): (&str, &Value)| {
            let value = match value {
                Value::Bool(value) => if *value { "True" } else { "False" }.to_owned(),
                Value::Int(value) => value.to_string(),
                Value::Float(value) => format!("{value:?}"),
                Value::Str(value) => literal(value),
            };
            format!("{}: {value}", literal(name))
        };
        let toggles: Vec<String> = plan.kernel.space.get(&planned.candidate.variant).map(of).collect();
        let _ = writeln!(body, "    {{{}}},", toggles.join(", "));
    }
    body.push_str(")\n\n");
    body.push_str(&codes(plan));
    body.push_str(&tuned(parts));
    body.push_str(&fits(parts)?);
    body.push_str(&shapes(parts)?);
    body.push_str(&launch::functions(parts)?);
    let called: Vec<&str> = parts.called(&body).into_iter().filter(|name| SHARED.contains(name)).collect();
    let mut text = super::mark("#");
    let _ = write!(
        text,
        "\"\"\"`{}`, {}\"\"\"\n\nimport ctypes\nimport dataclasses\n",
        plan.kernel.name,
        parts.checked().replace('\\', "\\\\").replace('"', "\\\""),
    );
    if body.contains("math.") {
        text.push_str("import math\n");
    }
    text.push_str("\nimport cupy\n\nfrom . import shared\n");
    if !called.is_empty() {
        let _ = writeln!(text, "from .shared import {}", called.join(", "));
    }
    Ok(text + "\n\n" + body.trim_end() + "\n")
}

/// Functions of `shared` that terms call.
const SHARED: [&str; 8] =
    ["ceil_div", "ceil_div_real", "is_power_of_two", "narrow", "power", "power_real", "shift_left", "whole"];

/// A string in Python's syntax.
fn literal(text: &str) -> String {
    // Python reads the escapes of JSON.
    serde_json::Value::from(text).to_string()
}

fn codes(plan: &Plan) -> String {
    let mut text = "# The code of each variant.\nCODES = (\n".to_owned();
    for planned in &plan.variants {
        text.push_str("    (\n");
        let mut code = |arch: &str, kind: &str, symbols: &[String], file: &str| {
            let mut symbols = symbols.iter();
            let all: Vec<String> = (planned.stages.iter().enumerate())
                .filter_map(|(at, stage)| {
                    stage.as_ref().and_then(|_| symbols.next()).map(|name| format!("({at}, {name:?}),"))
                })
                .collect();
            let (major, minor) = super::arch_numbers(arch);
            let _ = writeln!(text, "        shared.Code(({major}, {minor}), {kind:?}, {file:?}, ({})),", all.join(" "));
        };
        for built in &planned.code {
            let arch = built.arch.as_deref().unwrap_or_default();
            code(arch, if arch.ends_with('a') { "exact" } else { "generation" }, &built.symbols(planned), &built.file);
        }
        if let Some(ptx) = &planned.ptx {
            code(&ptx.arch, "ptx", &planned.code[0].symbols(planned), &ptx.file);
        }
        text.push_str("    ),\n");
    }
    text + ")\n\n"
}

fn tuned(parts: &Parts<'_>) -> String {
    let plan = parts.plan;
    let tuple =
        |items: Vec<String>| format!("({})", items.into_iter().map(|item| item + ",").collect::<Vec<_>>().join(" "));
    let rows = plan.tuned.iter().map(|tuned| {
        let sizes = tuple(tuned.dims.iter().map(i64::to_string).collect());
        let arch = tuned.compute_capability.as_deref().unwrap_or_default();
        format!("        ({}, {arch:?}, {sizes}, {}),\n", literal(&tuned.device), tuned.variant)
    });
    let defaults = plan.variants.iter().enumerate().filter(|(_, planned)| planned.is_default);
    format!(
        "# The winners of elite.json with device, compute capability and sizes; then the defaults.\n_KERNEL = shared.Kernel(\n    {},\n    {:?},\n    \
         VARIANTS,\n    (\n{}    ),\n    {},\n)\n\n\n",
        literal(&plan.kernel.name),
        parts.variable(),
        rows.collect::<String>(),
        tuple(defaults.map(|(at, _)| at.to_string()).collect()),
    )
}

/// `_fits`: whether a variant was compiled for given sizes.
fn fits(parts: &mut Parts<'_>) -> Result<String, ExportError> {
    let body = branches(parts, |parts, planned| {
        let conditions = parts.conditions(planned, |term, value| format!("({term}) == {value:?}"))?;
        Ok(format!("return {}\n", if conditions.is_empty() { "True".to_owned() } else { conditions.join(" and ") }))
    })?;
    Ok(format!(
        "def _fits(variant, dims, sm_count):\n    \"\"\"Whether a variant was compiled for these sizes.\"\"\"\n{body}\n\n"
    ))
}

/// `_shapes`: the shape of each tensor.
fn shapes(parts: &mut Parts<'_>) -> Result<String, ExportError> {
    let plan = parts.plan;
    let tensors: Vec<(usize, String)> = parts.tensors.iter().chain(&parts.scratch).cloned().collect();
    let body = branches(parts, |parts, planned| {
        let mut text = "return {\n".to_owned();
        for (index, name) in &tensors {
            let mut dims = Vec::new();
            for dim in &plan.kernel.tensors[*index].dims {
                dims.push(parts.int(planned, dim)? + ",");
            }
            let _ = writeln!(text, "    {name:?}: ({}),", dims.join(" "));
        }
        Ok(text + "}\n")
    })?;
    Ok(format!("def _shapes(variant, dims, sm_count):\n    \"\"\"The shape of each tensor.\"\"\"\n{body}\n\n"))
}

/// A branch for each variant, in which equal bodies are shared.
fn branches(
    parts: &mut Parts<'_>,
    mut body: impl FnMut(&mut Parts<'_>, &Planned) -> Result<String, ExportError>,
) -> Result<String, ExportError> {
    let plan = parts.plan;
    let mut bodies: Vec<(String, Vec<String>)> = Vec::new();
    for (at, planned) in plan.variants.iter().enumerate() {
        let body = body(parts, planned)?;
        match bodies.iter_mut().find(|(known, _)| *known == body) {
            Some((_, variants)) => variants.push(at.to_string()),
            None => bodies.push((body, vec![at.to_string()])),
        }
    }
    if let [(body, _)] = &bodies[..] {
        return Ok(indented(body, "    "));
    }
    let branch = |(body, variants): &(String, Vec<String>)| {
        format!("    if variant in ({},):\n{}", variants.join(", "), indented(body, "        "))
    };
    let text: String = bodies.iter().map(branch).collect();
    Ok(text + "    raise shared.Error(f\"there is no variant {variant}\")\n")
}

/// Lines, each indented by `by`.
fn indented(lines: &str, by: &str) -> String {
    lines.lines().flat_map(|line| [by, line, "\n"]).collect()
}

/// numpy's type of a tensor's elements; those that numpy lacks are their bits.
fn numpy_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "float64",
        DType::F32 => "float32",
        DType::F16 => "float16",
        DType::Bf16 | DType::U16 => "uint16",
        DType::F8e4m3 | DType::F8e5m2 | DType::U8 => "uint8",
        DType::I8 => "int8",
        DType::I16 => "int16",
        DType::I32 => "int32",
        DType::I64 => "int64",
        DType::U32 => "uint32",
        DType::U64 => "uint64",
    }
}
