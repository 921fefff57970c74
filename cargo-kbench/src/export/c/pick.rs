//! The choice of a variant in C.

use std::fmt::Write as _;

use crate::export::ExportError;
use crate::export::parts::Parts;

/// `NAME_pick`.
pub(super) fn pick(parts: &mut Parts<'_>) -> Result<String, ExportError> {
    let plan = parts.plan;
    let name = parts.module.clone();
    let mut usable = Vec::new();
    for planned in &plan.variants {
        let conditions = parts.conditions(planned, |term, value| format!("kbench_same({term}, {value:?})"))?;
        usable.push(if conditions.is_empty() { "1".to_owned() } else { conditions.join(" && ") });
    }
    let mut checks = String::new();
    for (at, condition) in usable.iter().enumerate() {
        let _ = writeln!(checks, "    bad = 0;\n    usable[{at}] = {condition};\n    if (bad) usable[{at}] = 0;");
    }
    let tuned = |tuned: &crate::export::plan::Tuned| {
        let arch = tuned.compute_capability.as_deref().unwrap_or_default();
        format!("        {{{:?}, {arch:?}, {}}},\n", tuned.device, tuned.variant)
    };
    let (table, sizes, winners) = if plan.tuned.is_empty() {
        (String::new(), String::new(), "NULL, NULL, 0".to_owned())
    } else {
        let rows: Vec<String> = plan.tuned.iter().map(tuned).collect();
        let sizes: Vec<String> = plan.tuned.iter().map(|tuned| elements(&tuned.dims)).collect();
        (
            format!("    static const kbench_tuned tuned[] = {{\n{}    }};\n", rows.concat()),
            format!("    static const int64_t tuned_sizes[] = {{\n        {},\n    }};\n", sizes.join(",\n        ")),
            format!("tuned, tuned_sizes, {}", plan.tuned.len()),
        )
    };
    let defaults: Vec<String> = (plan.variants.iter().enumerate())
        .filter(|(_, planned)| planned.is_default)
        .map(|(at, _)| at.to_string())
        .collect();
    let count = parts.fields.len();
    let fields: Vec<String> = parts.fields.iter().map(|field| format!("dims.{field}")).collect();
    let own = elements(&fields);
    Ok(format!(
        "/* The variant for these sizes, and why. */\n\
         static inline int {name}_pick(const {name}_kernel *kernel, {name}_dims dims, kbench_choice *choice)\n{{\n\
         {table}{sizes}    static const int defaults[] = {{{defaults}}};\n    const int64_t sizes[] = {{{own}}};\n    \
         const int64_t sm_count = kernel->device.sm_count;\n    int usable[{variants}];\n    int bad = 0;\n    (void)dims;\n    \
         (void)sm_count;\n{checks}    (void)bad;\n    \
         return kbench_pick(&kernel->device, {winners}, sizes, {count}, usable, defaults, {default_count}, choice);\n}}\n\n",
        default_count = defaults.len(),
        defaults = elements(&defaults),
        variants = plan.variants.len(),
    ))
}

/// The elements of an array, which has at least one in C.
fn elements(items: &[impl ToString]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() { "0".to_owned() } else { items.join(", ") }
}
