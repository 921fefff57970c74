//! The module of a CUDA kernel: functions over cudarc's types.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::dialect::Rust;
use super::lints;
use super::parts::{rust_type, taken};
use super::shared::Shared;
use super::structs::{self, Given};
use super::variants::choosing;
use crate::config::{Arg, ArgValue, TensorMap};
use crate::export::parts::Parts;
use crate::export::plan::{Plan, Planned};
use crate::export::{ExportError, arch_numbers, tensor_map_type};
use crate::expr::Expr;

/// The text of the module, the functions that it calls, and the parts that it needs of the shared module.
pub(super) fn module(plan: &Plan, module: String) -> Result<(String, BTreeSet<&'static str>, Shared), ExportError> {
    let mut parts = Parts::new(plan, module, &Rust, &taken(), &taken());
    let mut shared = Shared { cuda: true, ..Shared::default() };
    let kernel = &plan.kernel;
    for planned in &plan.variants {
        for (_, launch) in (0..plan.stages()).filter_map(|at| planned.stage(kernel, at)) {
            shared.clusters |= !launch.cluster.is_empty();
            shared.tensor_maps |= launch.args.iter().any(|arg| matches!(arg, Arg::TensorMap(_)));
            shared.symbols |= launch.args.iter().any(|arg| matches!(arg, Arg::Symbol { .. }));
        }
    }
    let mut body = [parts.dims(), parts.variants()?, parts.tuned(), codes(plan)].concat();
    body.push_str(&pick(&parts));
    body.push_str(&launches(&mut parts)?);
    let mut cudarc = vec!["CudaContext", "CudaStream", "LaunchConfig"];
    cudarc.extend(body.contains(".launch_builder(").then_some("PushKernelArg"));
    cudarc.push("sys");
    cudarc.extend(body.contains("unsafe impl DeviceRepr").then_some("DeviceRepr"));
    if parts.tensors.iter().any(|(tensor, _)| !parts.is_written(*tensor)) {
        cudarc.push("DevicePtr");
    }
    if parts.tensors.iter().any(|(tensor, _)| parts.is_written(*tensor)) || !parts.scratch.is_empty() {
        cudarc.push("DevicePtrMut");
    }
    let mut used =
        vec!["Choice", "Code", "Contexts", "Device", "Error", "Kind", "Rule", "Tuned", "code_for", "has_length"];
    used.extend(["Named", "named", "winner"]);
    used.extend(shared.clusters.then_some("launch_in_clusters"));
    used.extend(shared.tensor_maps.then_some("tensor_map"));
    used.extend(shared.symbols.then_some("copy_to_symbol"));
    let called = parts.called(&body);
    used.extend(called.iter().copied());
    let text = format!(
        "/// `{}`, {}\n{}pub mod {} {{\n\
         use std::sync::{{Arc, OnceLock}};\n\nuse cudarc::driver::{{{}}};\n\nuse super::{{{}}};\n\n{body}}}\n\n",
        kernel.name,
        parts.checked(),
        lints::attribute(&body, &parts.fields),
        parts.module,
        cudarc.join(", "),
        used.join(", ")
    );
    Ok((text, called, shared))
}

/// The code of each variant.
fn codes(plan: &Plan) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "static CONTEXTS: Contexts<{}> = Contexts::new();\n\nimpl Variant {{\n/// Its code for each architecture.\n\
         fn codes(self) -> &'static [Code] {{\nmatch self {{",
        plan.variants.len()
    );
    // Variants that differ in their launches alone have the same code.
    let mut arms: Vec<(String, Vec<String>)> = Vec::new();
    for (variant, planned) in plan.variants.iter().enumerate() {
        let mut list = String::new();
        let mut code = |arch: &str, kind: &str, symbols: &[String], file: &str| {
            let (major, minor) = arch_numbers(arch);
            let _ = writeln!(
                list,
                "Code {{ arch: ({major}, {minor}), kind: Kind::{kind}, symbols: &{symbols:?}, bytes: include_bytes!({file:?}) }},",
            );
        };
        for built in &planned.code {
            let arch = built.arch.as_deref().unwrap_or_default();
            let kind = if arch.ends_with('a') { "Exact" } else { "Generation" };
            code(arch, kind, &built.symbols(planned), &built.file);
        }
        if let Some(ptx) = &planned.ptx {
            code(&ptx.arch, "Ptx", &planned.code[0].symbols(planned), &ptx.file);
        }
        let pattern = format!("Self::V{variant}");
        match arms.iter_mut().find(|(known, _)| *known == list) {
            Some((_, patterns)) => patterns.push(pattern),
            None => arms.push((list, vec![pattern])),
        }
    }
    for (list, patterns) in arms {
        let _ = writeln!(text, "{} => &[{list}],", patterns.join(" | "));
    }
    text + "}\n}\n}\n\n"
}

fn pick(parts: &Parts<'_>) -> String {
    format!(
        "/// The variant for these sizes on the device of a context, and why.\n///\n/// # Errors\n///\n/// Where no variant is for these \
         sizes or this device, `{variable}` names none, or the driver fails.\n\
         pub fn pick(context: &Arc<CudaContext>, dims: Dims) -> Result<Choice<Variant>, Error> {{\n\
         choose(&CONTEXTS.get(context)?.device, dims)\n}}\n\n\
         fn choose(device: &Device, dims: Dims) -> Result<Choice<Variant>, Error> {{\n\
         {}}}\n\n",
        choosing(
            parts,
            "&device.name",
            "&device.arch",
            "// Each variant has code for the same architectures.\ncode_for(Variant::V0.codes(), device)?;\n"
        ),
        variable = parts.variable(),
    )
}

/// `launch` and `launch_raw`, with the functions of sizes that they call.
fn launches(parts: &mut Parts<'_>) -> Result<String, ExportError> {
    let mut text = String::new();
    let tensors = parts.tensors.clone();
    let (mut slices, mut addresses, mut passed, mut pointers, mut checks) = Default::default();
    for (index, name) in &tensors {
        let element = rust_type(parts.dtype(*index));
        let (reference, of, method) = if parts.is_written(*index) {
            ("&mut ", "DevicePtrMut", "device_ptr_mut")
        } else {
            ("&", "DevicePtr", "device_ptr")
        };
        write(&mut slices, format_args!(", {name}: {reference}impl {of}<{element}>"));
        write(&mut addresses, format_args!(", {name}: sys::CUdeviceptr"));
        write(&mut pointers, format_args!("let ({name}, _{name}) = {name}.{method}(stream);\n"));
        let length = parts.length(*index);
        write(&mut checks, format_args!("has_length({name:?}, {name}.len(), {length})?;\n"));
        write(&mut passed, format_args!(", {name}"));
    }
    let lengths = parts.lengths("lengths", "Elements of each argument.", &tensors)?;
    text.push_str(&lengths.text);
    let names: Vec<String> = tensors.iter().map(|(index, _)| parts.length(*index)).collect();
    let loaded = "let loaded = CONTEXTS.get(stream.context())?;\n";
    let choice = "let choice = choose(&loaded.device, dims)?;\n";
    let needed = match (lengths.call.contains("choice."), lengths.call.contains("loaded.")) {
        (true, _) => format!("{loaded}{choice}"),
        (false, true) => loaded.to_owned(),
        (false, false) => String::new(),
    };
    let _ = writeln!(
        text,
        "/// Launches the variant that [`pick`] chooses, on a stream.{spoiled}\n///\n/// # Errors\n///\n/// Where an argument has not the length \
         that the sizes ask for, [`pick`] fails, or the driver does.\n\
         pub fn launch(stream: &Arc<CudaStream>, dims: Dims{slices}) -> Result<(), Error> {{\n{needed}\
         let [{}] = {};\n{checks}{pointers}\
         // SAFETY: each argument has the elements that the kernel reads or writes at these sizes.\n\
         unsafe {{ launch_raw(stream, dims{passed}) }}\n}}\n",
        names.join(", "),
        lengths.call,
        spoiled = parts.spoiled(),
    );
    let mut before = parts.needed_lengths(&lengths.call);
    for (index, name) in parts.bind_scratch(&mut text, &mut before)? {
        let (element, length) = (rust_type(parts.dtype(index)), parts.length(index));
        let _ = writeln!(
            before,
            "// SAFETY: the kernel writes what it reads of it.\nlet mut {name} = unsafe {{ stream.alloc::<{element}>({length})? }};\n\
             let ({name}, _{name}) = {name}.device_ptr_mut(stream);"
        );
    }
    let plan = parts.plan;
    // Functions of the sizes, each with the call in a launch.
    let mut stages = Vec::new();
    for at in 0..plan.stages() {
        stages.push(stage(parts, at, &mut text)?);
    }
    let mut bodies: Vec<(String, Vec<usize>)> = Vec::new();
    for (variant, planned) in plan.variants.iter().enumerate() {
        let mut body = String::new();
        for (at, stage) in stages.iter().enumerate().filter(|(at, _)| planned.stage(&plan.kernel, *at).is_some()) {
            body.push_str(&run(parts, planned, at, stage));
        }
        match bodies.iter_mut().find(|(known, _)| *known == body) {
            Some((_, variants)) => variants.push(variant),
            None => bodies.push((body, vec![variant])),
        }
    }
    let calls = match &bodies[..] {
        [(body, _)] => body.clone(),
        bodies => {
            let arm = |(body, variants): &(String, Vec<usize>)| {
                let patterns: Vec<String> = variants.iter().map(|at| format!("Variant::V{at}")).collect();
                format!("{} => {{\n{body}}}\n", patterns.join(" | "))
            };
            format!("match choice.variant {{\n{}}}\n", bodies.iter().map(arm).collect::<Vec<_>>().concat())
        }
    };
    let _ = writeln!(
        text,
        "/// The same for device memory of the caller's own.\n///\n/// # Safety\n///\n/// Each address is valid in the stream's context for as \
         many elements as [`launch`] asks of its argument, until the launch has ended.\n///\n/// # Errors\n///\n/// Where [`pick`] or the \
         driver fails.\npub unsafe fn launch_raw(stream: &Arc<CudaStream>, dims: Dims{addresses}) -> Result<(), Error> {{\n{loaded}{choice}\
         let functions = loaded.functions(choice.variant as usize, choice.variant.codes())?;\n{before}{calls}Ok(())\n}}\n"
    );
    Ok(text)
}

fn write(text: &mut String, what: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(what);
}

/// The calls for the values of one launch.
struct Stage {
    /// Call for the geometry.
    config: String,
    cluster: Option<String>,
    /// Names of numbers, and the call for their values.
    numbers: (Vec<String>, Option<String>),
    /// Call for each tensor map, by index of the argument.
    maps: Vec<(usize, String)>,
}

/// The functions of the sizes for the launch at an index.
fn stage(parts: &mut Parts<'_>, at: usize, text: &mut String) -> Result<Stage, ExportError> {
    let suffix = |name: &str| if at == 0 { name.to_owned() } else { format!("{name}_{at}") };
    let plan = parts.plan;
    let kernel = &plan.kernel;
    let config = parts.function(
        &suffix("config"),
        "Grid, block and dynamic shared memory.",
        "LaunchConfig",
        |parts, planned| {
            let Some((_, launch)) = planned.stage(kernel, at) else { return Ok(String::new()) };
            let grid = triple(parts, planned, &launch.grid)?;
            let block = triple(parts, planned, &launch.block)?;
            let shared = match &launch.dynamic_shared {
                Some(expr) => parts.integer(planned, expr, "u32")?,
                None => "0".to_owned(),
            };
            Ok(format!("LaunchConfig {{ grid_dim: {grid}, block_dim: {block}, shared_mem_bytes: {shared} }}"))
        },
    )?;
    text.push_str(&config.text);
    let has_clusters = plan
        .variants
        .iter()
        .any(|planned| planned.stage(kernel, at).is_some_and(|(_, launch)| !launch.cluster.is_empty()));
    let cluster =
        if has_clusters {
            let cluster =
                parts.function(&suffix("cluster"), "Blocks a cluster.", "(u32, u32, u32)", |parts, planned| {
                    match planned.stage(kernel, at) {
                        Some((_, launch)) => triple(parts, planned, &launch.cluster),
                        None => Ok(String::new()),
                    }
                })?;
            text.push_str(&cluster.text);
            Some(cluster.call)
        } else {
            None
        };
    let numbers = parts.numbers(at, text)?;
    let mut maps = Vec::new();
    let first = plan.variants.iter().find_map(|planned| planned.stage(kernel, at));
    for (place, arg) in first.into_iter().flat_map(|(_, launch)| &launch.args).enumerate() {
        if let Arg::Value(value) = arg {
            text.push_str(&structs::definitions(parts, value, &structs::name(at, place)));
        }
        let Arg::TensorMap(TensorMap { tensor, r#box, .. }) = arg else { continue };
        let name = format!("map_{}_{place}", parts.tensor(*tensor));
        let rank = r#box.len();
        let doc = format!("Sizes and box of the tensor map of `{}`, innermost first.", kernel.tensors[*tensor].name);
        let map =
            parts.function(&suffix(&name), &doc, &format!("([u64; {rank}], [u32; {rank}])"), |parts, planned| {
                let launch = planned.stage(kernel, at);
                let Some(Arg::TensorMap(TensorMap { tensor, dims, r#box, .. })) =
                    launch.and_then(|(_, launch)| launch.args.get(place))
                else {
                    return Ok(String::new());
                };
                let dims = if dims.is_empty() { &kernel.tensors[*tensor].dims } else { dims };
                let mut list = |exprs: &[Expr], of: &str| {
                    let all: Result<Vec<String>, ExportError> =
                        exprs.iter().rev().map(|expr| parts.integer(planned, expr, of)).collect();
                    all.map(|all| format!("[{}]", all.join(", ")))
                };
                Ok(format!("({}, {})", list(dims, "u64")?, list(r#box, "u32")?))
            })?;
        text.push_str(&map.text);
        maps.push((place, map.call));
    }
    Ok(Stage { config: config.call, cluster, numbers, maps })
}

fn triple(parts: &mut Parts<'_>, planned: &Planned, exprs: &[Expr]) -> Result<String, ExportError> {
    let mut sizes = vec!["1".to_owned(); 3];
    for (size, expr) in sizes.iter_mut().zip(exprs) {
        *size = parts.integer(planned, expr, "u32")?;
    }
    Ok(format!("({})", sizes.join(", ")))
}

/// One launch of a variant.
fn run(parts: &Parts<'_>, planned: &Planned, at: usize, stage: &Stage) -> String {
    let kernel = &parts.plan.kernel;
    let Some((_, launch)) = planned.stage(kernel, at) else { return String::new() };
    let mut text = String::new();
    let mut given: Vec<String> = Vec::new();
    let (names, call) = &stage.numbers;
    if let Some(call) = call {
        let _ = writeln!(text, "let ({}{}) = {call};", names.join(", "), if names.len() == 1 { "," } else { "" });
    }
    let mut values = Given::new(names);
    for (place, arg) in launch.args.iter().enumerate() {
        match arg {
            Arg::Value(value @ (ArgValue::Tensor(_) | ArgValue::Scalar { .. })) => {
                values.add(parts, value, "");
                given.extend(values.values.pop());
            }
            Arg::Value(value @ (ArgValue::Offset { .. } | ArgValue::Struct { .. })) => {
                values.add(parts, value, &structs::name(at, place));
                let name = format!("argument_{at}_{place}");
                let _ = writeln!(text, "let {name} = {};", values.values.pop().unwrap_or_default());
                given.push(name);
            }
            Arg::TensorMap(TensorMap { tensor, swizzle, .. }) => {
                let name = format!("map_{at}_{place}");
                let dtype = parts.dtype(*tensor);
                let sizes = stage.maps.iter().find(|(of, _)| *of == place).map_or("", |(_, call)| call);
                let swizzle = match swizzle {
                    0 => "NONE".to_owned(),
                    bytes => format!("{bytes}B"),
                };
                let _ = writeln!(
                    text,
                    "let {name} = tensor_map((sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_{}, {}), {}, {sizes}, \
                     sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_{swizzle})?;",
                    tensor_map_type(dtype),
                    dtype.size(),
                    parts.tensor(*tensor)
                );
                given.push(name);
            }
            Arg::Symbol { symbol, tensor } => {
                let address = parts.tensor(*tensor);
                let length = parts.length(*tensor);
                let _ = writeln!(
                    text,
                    "// SAFETY: the caller's.\nunsafe {{ copy_to_symbol(stream, &functions.module, {symbol:?}, {address}, \
                     {length} * {}) }}?;",
                    parts.dtype(*tensor).size()
                );
            }
        }
    }
    for tensor in &launch.zero {
        let (address, length) = (parts.tensor(*tensor), parts.length(*tensor));
        let bytes = parts.dtype(*tensor).size();
        let _ = writeln!(
            text,
            "// SAFETY: the caller's, or the module's own.\nunsafe {{ cudarc::driver::result::memset_d8_async({address}, 0, {length} * {bytes}, \
             stream.cu_stream()) }}?;"
        );
    }
    let place = planned.stages[..at].iter().flatten().count();
    let function = format!("&functions.all[{place}]");
    if let Some(cluster) = &stage.cluster {
        let pointers: Vec<String> = given.iter().map(|name| format!("(&raw const {name}).cast_mut().cast()")).collect();
        let _ = writeln!(
            text,
            "// SAFETY: the arguments are those of the kernel's signature, and the caller's are valid.\nunsafe {{ launch_in_clusters(stream, \
             {function}, {}, {cluster}, {}, &mut [{}]) }}?;",
            stage.config,
            launch.cooperative,
            pointers.join(", ")
        );
    } else {
        let arguments: Vec<String> = given.iter().map(|name| format!(".arg(&{name})")).collect();
        let method = if launch.cooperative { "launch_cooperative" } else { "launch" };
        let _ = writeln!(
            text,
            "// SAFETY: the arguments are those of the kernel's signature, and the caller's are valid.\nunsafe {{ \
             stream.launch_builder({function}){}.{method}({}) }}?;",
            arguments.concat(),
            stage.config
        );
    }
    text
}
