//! The module of a C kernel: safe functions over slices.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use kbench_runtime::dtype::DType;

use super::dialect::Rust;
use super::lints;
use super::parts::{rust_type, taken};
use super::structs::{self, Given};
use super::variants::choosing;
use crate::export::ExportError;
use crate::export::c_source::symbol;
use crate::export::parts::{Number, Parts, numbers};
use crate::export::plan::Plan;

/// The text of the module, and the functions that it calls.
pub(super) fn module(
    package: &str,
    plan: &Plan,
    module: String,
) -> Result<(String, BTreeSet<&'static str>), ExportError> {
    let args = plan.kernel.implementation.launches.iter().flat_map(numbers);
    if args.into_iter().any(|number| matches!(number, Number::Scalar { dtype: DType::F16, .. })) {
        // 16 bits as an integer would be passed in another register than the kernel reads.
        let why =
            "it takes an f16 by value, a type that Rust lacks; take an f32 or a pointer, or export with `--lang c`";
        return Err(ExportError::unsupported(&plan.kernel, &why));
    }
    let mut parts = Parts::new(plan, module, &Rust, &taken(), &taken());
    let body = [parts.dims(), parts.variants()?, parts.tuned(), pick(&parts), launches(package, &mut parts)?].concat();
    let shared = ["Choice", "Error", "Named", "Rule", "Tuned", "has_length", "named", "processor", "winner"];
    let called = parts.called(&body);
    let shared: Vec<&str> = shared.into_iter().chain(called.iter().copied()).collect();
    let text = format!(
        "/// `{}`, {}\n{}pub mod {} {{\n\
         use std::sync::OnceLock;\n\nuse super::{{{}}};\n\n{body}}}\n\n",
        plan.kernel.name,
        parts.checked(),
        lints::attribute(&body, &parts.fields),
        parts.module,
        shared.join(", ")
    );
    Ok((text, called))
}

fn pick(parts: &Parts<'_>) -> String {
    format!(
        "/// The variant for these sizes on this processor, and why.\n///\n/// # Errors\n///\n/// Where no variant is for these sizes, \
         or `{}` names none.\npub fn pick(dims: Dims) -> Result<Choice<Variant>, Error> {{\n{}}}\n\n",
        parts.variable(),
        choosing(parts, "processor()", "\"\"", "")
    )
}

/// `launch` and `launch_raw`, with the functions of sizes that they call.
fn launches(package: &str, parts: &mut Parts<'_>) -> Result<String, ExportError> {
    let mut text = String::new();
    let tensors = parts.tensors.clone();
    let mut slices = String::new();
    let mut pointers = String::new();
    let mut passed = String::new();
    for (index, name) in &tensors {
        let (element, is_written) = (rust_type(parts.dtype(*index)), parts.is_written(*index));
        let (reference, pointer, method) =
            if is_written { ("&mut ", "*mut", "as_mut_ptr") } else { ("&", "*const", "as_ptr") };
        let _ = write!(slices, ", {name}: {reference}[{element}]");
        let _ = write!(pointers, ", {name}: {pointer} {element}");
        let _ = write!(passed, ", {name}.{method}()");
    }
    let lengths = parts.lengths("lengths", "Elements of each slice.", &tensors)?;
    text.push_str(&lengths.text);
    let names: Vec<String> = tensors.iter().map(|(index, _)| parts.length(*index)).collect();
    let check =
        |((_, name), length): (&(usize, String), &String)| format!("has_length({name:?}, {name}.len(), {length})?;");
    let checks: Vec<String> = tensors.iter().zip(&names).map(check).collect();
    let checks = checks.join("\n");
    let _ = writeln!(
        text,
        "/// Runs the variant that [`pick`] chooses.{spoiled}\n///\n/// # Errors\n///\n/// Where a slice has not the length that the sizes ask for, or \
         [`pick`] fails.\npub fn launch(dims: Dims{slices}) -> Result<(), Error> {{\n{choice}let [{names}] = {lengths};\n{checks}\n\
         // SAFETY: each slice has the elements that the kernel reads or writes at these sizes.\n\
         unsafe {{ launch_raw(dims{passed}) }}\n}}\n",
        choice = if lengths.call.contains("choice.") { "let choice = pick(dims)?;\n" } else { "" },
        spoiled = parts.spoiled(),
        names = names.join(", "),
        lengths = lengths.call,
    );
    let mut arms = String::new();
    let mut externs = String::new();
    let mut before = parts.needed_lengths(&lengths.call);
    let plan = parts.plan;
    let kernel = &plan.kernel;
    for (index, name) in parts.bind_scratch(&mut text, &mut before)? {
        let element = rust_type(parts.dtype(index));
        let zero = if element.starts_with('f') { "0.0" } else { "0" };
        let length = parts.length(index);
        let _ =
            writeln!(before, "let mut {name} = vec![{zero}_{element}; {length}];\nlet {name} = {name}.as_mut_ptr();");
    }
    let mut scalars_of = Vec::new();
    for at in 0..plan.stages() {
        scalars_of.push(parts.numbers(at, &mut text)?);
    }
    for (variant, planned) in plan.variants.iter().enumerate() {
        let mut calls = String::new();
        for (at, (scalars, values)) in scalars_of.iter().enumerate() {
            let Some((entry, launch)) = planned.stage(kernel, at) else { continue };
            let name = symbol(package, kernel, variant, planned, entry);
            let mut given = Given::new(scalars);
            for (place, arg) in launch.values() {
                let name = structs::name(at, place);
                let definition = structs::definitions(parts, arg, &name);
                if !text.contains(&definition) {
                    text.push_str(&definition);
                }
                given.add(parts, arg, &name);
            }
            if !externs.contains(&format!("fn {name}(")) {
                let is_name = |value: &str| value.bytes().all(|c| c == b'_' || c.is_ascii_alphanumeric());
                let of = |(at, (value, ty)): (usize, (&String, &String))| {
                    if is_name(value) { format!("{value}: {ty}") } else { format!("argument_{at}: {ty}") }
                };
                let declared: Vec<String> = given.values.iter().zip(&given.types).enumerate().map(of).collect();
                let _ = writeln!(externs, "fn {name}({});", declared.join(", "));
            }
            for tensor in &launch.zero {
                let (pointer, length) = (parts.tensor(*tensor), parts.length(*tensor));
                let _ = writeln!(calls, "{pointer}.write_bytes(0, {length});");
            }
            if let Some(values) = values {
                let comma = if scalars.len() == 1 { "," } else { "" };
                let _ = writeln!(calls, "let ({}{comma}) = {values};", scalars.join(", "));
            }
            let _ = writeln!(calls, "{name}({});", given.values.join(", "));
        }
        let _ = writeln!(arms, "Variant::V{variant} => {{\n{calls}}}");
    }
    let _ = writeln!(
        text,
        "/// The same for pointers of the caller's own.\n///\n/// # Safety\n///\n/// Each pointer is valid for as many elements as [`launch`] asks \
         of its slice, and no other thread uses what is written.\n///\n/// # Errors\n///\n/// Where [`pick`] fails.\n\
         pub unsafe fn launch_raw(dims: Dims{pointers}) -> Result<(), Error> {{\nlet choice = pick(dims)?;\n{before}\
         // SAFETY: the caller's, and the variant was compiled for these sizes.\nunsafe {{\nmatch choice.variant {{\n{arms}}}\n}}\nOk(())\n}}\n"
    );
    let _ = writeln!(text, "unsafe extern \"C\" {{\n{externs}}}");
    Ok(text)
}
