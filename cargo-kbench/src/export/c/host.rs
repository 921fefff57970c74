//! A C kernel in a header: the functions of its variants, which `build.sh` compiles, and the choice among them.

use std::fmt::Write as _;

use super::pick::pick;
use super::{address_type, element, head, structs, switch, symbol, value};
use crate::config::ArgValue;
use crate::export::ExportError;
use crate::export::parts::Parts;
use crate::export::plan::Planned;

/// The text of a kernel.
pub(super) fn kernel(package: &str, parts: &mut Parts<'_>) -> Result<String, ExportError> {
    let mut text = head(parts)?;
    let name = parts.module.clone();
    let upper = name.to_uppercase();
    let variable = parts.variable();
    let _ = writeln!(
        text,
        "/* A kernel on this processor. */\ntypedef struct {{\n    kbench_device device;\n}} {name}_kernel;\n\n\
         /* Looks at the processor; `{variable}` may name a variant to be chosen always. */\n\
         static inline int {name}_load({name}_kernel *kernel)\n{{\n    kbench_processor(&kernel->device);\n    \
         return kbench_named({variable:?}, {upper}_VARIANTS, &kernel->device.named);\n}}\n"
    );
    text.push_str(&pick(parts)?);
    text.push_str(&launch(package, parts)?);
    Ok(text)
}

/// The functions of the variants, `NAME_launch_variant` and `NAME_launch`.
fn launch(package: &str, parts: &mut Parts<'_>) -> Result<String, ExportError> {
    let plan = parts.plan;
    let name = parts.module.clone();
    let mut types = String::new();
    let mut prototypes = Vec::new();
    let mut names = plan.variants.iter().enumerate();
    let mut body = switch(parts, |parts, planned| {
        let (variant, _) = names.next().expect("each variant is asked for once");
        let (mut values, mut calls) = (String::new(), String::new());
        for at in 0..plan.stages() {
            stage(package, parts, (variant, planned, at), &mut types, &mut prototypes, &mut values, &mut calls)?;
        }
        let checked = if values.contains("&bad") {
            format!("{values}        if (bad) {{\n            status = KBENCH_SIZES;\n            break;\n        }}\n")
        } else {
            values
        };
        Ok(checked + &calls)
    })?;
    body = body.replace("default: return KBENCH_NO_VARIANT;", "default: status = KBENCH_NO_VARIANT; break;");
    let (mut taken, mut passed) = (String::new(), String::new());
    for (index, tensor) in &parts.tensors {
        let _ = write!(taken, ", {}{tensor}", spaced(&address_type(parts, *index)));
        let _ = write!(passed, ", {tensor}");
    }
    let (mut scratch, mut allocated, mut freed) = (String::new(), String::new(), String::new());
    for (index, tensor) in &parts.scratch {
        let element = element(parts.dtype(*index));
        let _ = writeln!(scratch, "    {element} *{tensor};");
        let _ = writeln!(
            allocated,
            "    {tensor} = ({element} *)calloc(elements.{tensor} > 0 ? elements.{tensor} : 1, sizeof *{tensor});\n    \
             if ({tensor} == NULL) status = KBENCH_MEMORY;"
        );
        let _ = writeln!(freed, "    free({tensor});");
    }
    let bad = if body.contains("bad") { "    int bad = 0;\n" } else { "" };
    let prototypes: String = prototypes.into_iter().map(|prototype| prototype + ";\n").collect();
    let guarded = if scratch.is_empty() { body } else { format!("    if (status == 0) {{\n{body}    }}\n") };
    Ok(format!(
        "{types}#ifdef __cplusplus\nextern \"C\" {{\n#endif\n{prototypes}#ifdef __cplusplus\n}}\n#endif\n\n\
         /* Runs a variant. Each pointer is valid for as many elements as `{name}_count` says. */\n\
         static inline int {name}_launch_variant(const {name}_kernel *kernel, int variant, {name}_dims dims{taken})\n{{\n    \
         {name}_elements elements;\n{scratch}    const int64_t sm_count = kernel->device.sm_count;\n{bad}    \
         int status = {name}_count(variant, dims, sm_count, &elements);\n    if (status != 0) return status;\n{allocated}\
         {guarded}{freed}    return status;\n}}\n\n\
         /* Runs the variant that `{name}_pick` chooses. */\n\
         static inline int {name}_launch(const {name}_kernel *kernel, {name}_dims dims{taken})\n{{\n    \
         kbench_choice choice;\n    const int status = {name}_pick(kernel, dims, &choice);\n    if (status != 0) return status;\n    \
         return {name}_launch_variant(kernel, choice.variant, dims{passed});\n}}\n\n",
    ))
}

/// A type before a name: a pointer's star stands at the name.
fn spaced(ty: &str) -> String {
    if ty.ends_with('*') { ty.to_owned() } else { format!("{ty} ") }
}

/// One call of a variant.
fn stage(
    package: &str,
    parts: &mut Parts<'_>,
    (variant, planned, at): (usize, &Planned, usize),
    types: &mut String,
    prototypes: &mut Vec<String>,
    values: &mut String,
    calls: &mut String,
) -> Result<(), ExportError> {
    let Some((entry, launch)) = planned.stage(&parts.plan.kernel, at) else { return Ok(()) };
    let function = symbol(package, parts, variant, planned, entry);
    let (mut declared, mut given) = (Vec::new(), Vec::new());
    for (place, arg) in launch.values() {
        let variable = format!("argument_{at}_{place}");
        if let Some((ty, value)) = value(parts, planned, arg)? {
            if let ArgValue::Tensor(_) = arg {
                given.push(value);
            } else {
                let _ = writeln!(values, "        {}{variable} = {value};", spaced(&ty));
                given.push(variable);
            }
            declared.push(ty);
        } else {
            let ty = format!("{}_{variable}", parts.module);
            let definition = structs(parts, arg, &ty);
            if !types.contains(&definition) {
                types.push_str(&definition);
            }
            given.push(super::argument(parts, planned, arg, &variable, values)?);
            declared.push(ty);
        }
    }
    let parameters = if declared.is_empty() { "void".to_owned() } else { declared.join(", ") };
    let prototype = format!("void {function}({parameters})");
    if !prototypes.contains(&prototype) {
        prototypes.push(prototype);
    }
    for tensor in &launch.zero {
        let tensor = parts.tensor(*tensor);
        let _ = writeln!(calls, "        memset({tensor}, 0, elements.{tensor} * sizeof *{tensor});");
    }
    let _ = writeln!(calls, "        {function}({});", given.join(", "));
    Ok(())
}
