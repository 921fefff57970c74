//! The module of a C kernel: safe functions over slices.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::parts::{Parts, rust_type};
use crate::config::Arg;
use crate::export::ExportError;
use crate::export::c_source::symbol;
use crate::export::plan::Plan;

/// The text of the module, and the functions that it calls.
pub(super) fn module(
    package: &str,
    plan: &Plan,
    module: String,
) -> Result<(String, BTreeSet<&'static str>), ExportError> {
    let mut parts = Parts::new(plan, module);
    let mut text = format!(
        "/// `{}`, checked at {}; at other sizes `launch` is as safe as the kernel is right there.\n\
         #[allow(clippy::too_many_arguments, clippy::many_single_char_names, clippy::similar_names)]\npub mod {} {{\n\
         use std::sync::OnceLock;\n\n",
        plan.kernel.name,
        parts.checked(),
        parts.module
    );
    let body = [parts.dims(), parts.variants()?, parts.tuned(), pick(&parts), launches(package, &mut parts)?].concat();
    let shared = ["Choice", "Error", "Rule", "Tuned", "has_length", "named", "processor", "winner"];
    let shared: Vec<&str> = shared.into_iter().chain(parts.called().iter().copied()).collect();
    let _ = writeln!(text, "use super::{{{}}};\n\n{body}}}\n", shared.join(", "));
    Ok((text, parts.called().clone()))
}

fn pick(parts: &Parts<'_>) -> String {
    let fits = |variant: &str| format!("{variant}.fits(dims).unwrap_or(false)");
    let (usable, check, default) = if parts.has_conditions() {
        let check = format!("if !{} {{\nreturn Err(Error::NoVariant);\n}}\n", fits("choice.variant"));
        (format!("|variant| {}", fits("variant")), check, format!("into_iter().find(|variant| {})", fits("variant")))
    } else {
        ("|_| true".to_owned(), String::new(), "first().copied()".to_owned())
    };
    format!(
        "/// The variant for these sizes on this processor, and why.\n///\n/// # Errors\n///\n/// Where no variant is for these sizes, \
         or `{variable}` names none.\npub fn pick(dims: Dims) -> Result<Choice<Variant>, Error> {{\n\
         static NAMED: OnceLock<Option<String>> = OnceLock::new();\n\
         if let Some(choice) = named(\"{variable}\", &NAMED, &Variant::ALL)? {{\n{check}return Ok(choice);\n}}\n\
         let default = || Variant::DEFAULTS.{default}.map(|variant| Choice {{ variant, rule: Rule::Default }});\n\
         winner(&TUNED, (processor(), \"\"), dims.array(), {usable}).or_else(default).ok_or(Error::NoVariant)\n}}\n\n",
        variable = parts.variable(),
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
    let lengths = parts.function(
        "lengths",
        "Elements of each slice.",
        &format!("[usize; {}]", tensors.len()),
        |parts, planned| {
            let lengths: Result<Vec<String>, ExportError> =
                tensors.iter().map(|(index, _)| parts.elements(planned, *index)).collect();
            Ok(format!("[{}]", lengths?.join(", ")))
        },
    )?;
    text.push_str(&lengths.text);
    let names: Vec<String> = tensors.iter().map(|(_, name)| format!("{name}_len")).collect();
    let checks: Vec<String> =
        tensors.iter().map(|(_, name)| format!("has_length({name:?}, {name}.len(), {name}_len)?;")).collect();
    let checks = checks.join("\n");
    let _ = writeln!(
        text,
        "/// Runs the variant that [`pick`] chooses.\n///\n/// # Errors\n///\n/// Where a slice has not the length that the sizes ask for, or \
         [`pick`] fails.\npub fn launch(dims: Dims{slices}) -> Result<(), Error> {{\n{choice}let [{names}] = {lengths};\n{checks}\n\
         // SAFETY: each slice has the elements that the kernel reads or writes at these sizes.\n\
         unsafe {{ launch_raw(dims{passed}) }}\n}}\n",
        choice = if lengths.call.contains("choice.") { "let choice = pick(dims)?;\n" } else { "" },
        names = names.join(", "),
        lengths = lengths.call,
    );
    let mut arms = String::new();
    let mut externs = String::new();
    let mut before = String::new();
    let plan = parts.plan;
    let kernel = &plan.kernel;
    let most = plan.variants.iter().map(|planned| planned.launches(kernel).len()).max().unwrap_or(0);
    if !parts.scratch.is_empty() {
        let scratch = parts.scratch.clone();
        let lengths = parts.function(
            "scratch",
            "Elements of each scratch tensor.",
            &format!("[usize; {}]", scratch.len()),
            |parts, planned| {
                let lengths: Result<Vec<String>, ExportError> =
                    scratch.iter().map(|(index, _)| parts.elements(planned, *index)).collect();
                Ok(format!("[{}]", lengths?.join(", ")))
            },
        )?;
        text.push_str(&lengths.text);
        let names: Vec<String> = scratch.iter().map(|(_, name)| format!("{name}_len")).collect();
        let _ = writeln!(before, "let [{}] = {};", names.join(", "), lengths.call);
        for (index, name) in &scratch {
            let element = rust_type(parts.dtype(*index));
            let zero = if element.starts_with('f') { "0.0" } else { "0" };
            let _ = writeln!(
                before,
                "let mut {name} = vec![{zero}_{element}; {name}_len];\nlet {name} = {name}.as_mut_ptr();"
            );
        }
    }
    let mut scalars_of = Vec::new();
    for at in 0..most {
        let (names, call) = scalars(parts, at, &mut text)?;
        if let Some(call) = call {
            let _ = writeln!(before, "let ({}) = {call};", names.join(", ") + if names.len() == 1 { "," } else { "" });
        }
        scalars_of.push(names);
    }
    for (variant, planned) in plan.variants.iter().enumerate() {
        let mut calls = String::new();
        for (at, (entry, launch)) in planned.launches(kernel).into_iter().enumerate() {
            let name = symbol(package, kernel, variant, planned, entry);
            let (mut declared, mut given) = (Vec::new(), Vec::new());
            let mut scalar = scalars_of[at].iter();
            for arg in &launch.args {
                match arg {
                    Arg::Tensor(tensor) => {
                        let element = rust_type(parts.dtype(*tensor));
                        let pointer = if parts.is_written(*tensor) { "*mut" } else { "*const" };
                        declared.push(format!("{}: {pointer} {element}", parts.tensor(*tensor)));
                        given.push(parts.tensor(*tensor).to_owned());
                    }
                    Arg::Scalar { dtype, .. } => {
                        let name = scalar.next().expect("every scalar has a name");
                        declared.push(format!("{name}: {}", dtype.name()));
                        given.push(name.clone());
                    }
                    Arg::TensorMap { .. } | Arg::Symbol { .. } => {
                        return Err(ExportError::unsupported(kernel, &"a C kernel has tensors and scalars only"));
                    }
                }
            }
            let _ = writeln!(externs, "fn {name}({});", declared.join(", "));
            let _ = writeln!(calls, "{name}({});", given.join(", "));
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

/// The names of the scalars of a launch, and the call that gives their values.
fn scalars(parts: &mut Parts<'_>, at: usize, text: &mut String) -> Result<(Vec<String>, Option<String>), ExportError> {
    let plan = parts.plan;
    let kernel = &plan.kernel;
    let args = plan.variants.iter().find_map(|planned| Some(&planned.launches(kernel).get(at)?.1.args));
    let of = |arg: &'_ Arg| match arg {
        Arg::Scalar { dtype, value } => Some((*dtype, value.text().to_owned())),
        _ => None,
    };
    let (dtypes, texts): (Vec<_>, Vec<_>) = args.into_iter().flatten().filter_map(of).unzip();
    if dtypes.is_empty() {
        return Ok((Vec::new(), None));
    }
    let tuple = |items: Vec<String>| format!("({}{})", items.join(", "), if items.len() == 1 { "," } else { "" });
    let name = if at == 0 { "scalars".to_owned() } else { format!("scalars_{at}") };
    let returned = tuple(dtypes.iter().map(|dtype| rust_type(*dtype).to_owned()).collect());
    let function = parts.function(&name, "Scalars in the order of the signature.", &returned, |parts, planned| {
        let mut values = Vec::new();
        let launches = planned.launches(kernel);
        for arg in launches.get(at).into_iter().flat_map(|(_, launch)| &launch.args) {
            if let Arg::Scalar { dtype, value } = arg {
                values.push(parts.scalar(planned, *dtype, value)?);
            }
        }
        Ok(tuple(values))
    })?;
    text.push_str(&function.text);
    Ok((parts.scalar_names(&texts), Some(function.call)))
}
