//! The variants of a kernel in its module, and the choice among them.

use std::fmt::Write as _;

use super::dialect;
use crate::export::ExportError;
use crate::export::arithmetic::Kind;
use crate::export::parts::Parts;
use crate::expr::Value;

impl Parts<'_> {
    /// `Variant`, and the table of winners.
    pub(super) fn variants(&mut self) -> Result<String, ExportError> {
        let plan = self.plan;
        let mut text =
            "/// The exported variants.\n#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]\npub enum Variant {\n"
                .to_owned();
        for (at, planned) in plan.variants.iter().enumerate() {
            let default = if planned.is_default { ", the default" } else { "" };
            let _ = writeln!(text, "/// `{}`{default}.", planned.label(&plan.kernel));
            for figure in &planned.figures {
                let _ = writeln!(text, "///\n/// {figure}.");
            }
            let _ = writeln!(text, "V{at},");
        }
        text.push_str("}\n\n");
        let all = |item: &dyn Fn(usize) -> String| (0..plan.variants.len()).map(item).collect::<Vec<_>>().join("\n");
        let defaults: Vec<String> = (plan.variants.iter().enumerate())
            .filter(|(_, planned)| planned.is_default)
            .map(|(at, _)| format!("Self::V{at}"))
            .collect();
        let _ = writeln!(
            text,
            "impl Variant {{\n/// All of them, with what `{}` calls each.\npub const ALL: [(Self, &'static str); {}] = [{}];\n\n\
             /// The default, for each set of sizes that it was compiled for.\nconst DEFAULTS: [Self; {}] = [{}];\n",
            self.variable(),
            plan.variants.len(),
            all(&|at| format!("(Self::V{at}, \"v{at}\"),")),
            defaults.len(),
            defaults.join(", "),
        );
        if plan.variants.iter().any(|planned| !planned.conditions.is_empty()) {
            text.push_str(&self.fits()?);
        }
        text.push_str("}\n\n");
        let _ = writeln!(
            text,
            "impl std::fmt::Display for Variant {{\n/// Its toggles.\nfn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{\n\
             f.pad(match self {{\n{}\n}})\n}}\n}}\n",
            all(&|at| format!("Self::V{at} => {:?},", plan.variants[at].label(&plan.kernel)))
        );
        Ok(text)
    }

    /// Whether the code of a variant is for given sizes.
    fn fits(&mut self) -> Result<String, ExportError> {
        let function = self.function("fits", "", "bool", |parts, planned| {
            let mut conditions = Vec::new();
            for condition in &planned.conditions {
                let term = parts.term(planned, &condition.expr)?;
                conditions.push(match condition.value {
                    Value::Bool(true) if term.kind == Kind::Bool => term.text,
                    Value::Bool(false) if term.kind == Kind::Bool => parts.opposite(planned, &condition.expr)?.text,
                    Value::Float(value) => {
                        let real = parts.translation.real(&term);
                        parts.translation.called.insert("same");
                        format!("same({real}, {})", dialect::literal(&format!("{value:?}")))
                    }
                    _ => {
                        let value = condition.integer(&parts.plan.kernel)?;
                        format!("{} == {}", parts.translation.int(&term), dialect::literal(&value.to_string()))
                    }
                });
            }
            Ok(match &conditions[..] {
                [] => "true".to_owned(),
                [one] => one.clone(),
                several => {
                    let grouped = several.iter().map(|one| {
                        let is_joined = [" && ", " || "].iter().any(|word| one.contains(word));
                        if is_joined { format!("({one})") } else { one.clone() }
                    });
                    grouped.collect::<Vec<_>>().join(" && ")
                }
            })
        })?;
        // A method of `Variant` that takes all sizes, for any needed ones.
        let body = function.text.split_once("{\n").map(|(_, body)| body).unwrap_or_default();
        let body = body.replace("match variant", "match self").replace("Variant::", "Self::");
        Ok(format!(
            "/// Whether it was compiled for these sizes; none where they overflow.\n#[allow(clippy::unnecessary_wraps, clippy::unused_self)]\n\
             fn fits(self, dims: Dims) -> Option<bool> {{\n{body}\n"
        ))
    }

    /// The table of winners.
    pub(super) fn tuned(&self) -> String {
        let count = self.fields.len();
        let mut text = format!(
            "/// The winners of elite.json, and where they won.\nconst TUNED: [Tuned<{count}, Variant>; {}] = [\n",
            self.plan.tuned.len()
        );
        for tuned in &self.plan.tuned {
            let dims: Vec<String> = tuned.dims.iter().map(|size| dialect::literal(&size.to_string())).collect();
            let _ = writeln!(
                text,
                "Tuned {{ device: {:?}, arch: {:?}, dims: [{}], variant: Variant::V{} }},",
                tuned.device,
                tuned.compute_capability.as_deref().unwrap_or_default(),
                dims.join(", "),
                tuned.variant
            );
        }
        text + "];\n\n"
    }
}

/// The body of a function that chooses a variant for `dims` on a device; `first` is its start.
pub(super) fn choosing(parts: &Parts<'_>, device: &str, arch: &str, first: &str) -> String {
    let fits = |variant: &str| format!("{variant}.fits(dims).unwrap_or(false)");
    let (usable, check, default) = if parts.has_conditions() {
        let check = format!("if !{} {{\nreturn Err(Error::NoVariant);\n}}\n", fits("choice.variant"));
        (format!("|variant| {}", fits("variant")), check, format!("into_iter().find(|variant| {})", fits("variant")))
    } else {
        ("|_| true".to_owned(), String::new(), "first().copied()".to_owned())
    };
    format!(
        "static NAMED: OnceLock<Option<String>> = OnceLock::new();\n{first}\
         let tuned: &[_] = match named({:?}, &NAMED, &Variant::ALL)? {{\n\
         Named::Variant(choice) => {{\n{check}return Ok(choice);\n}}\nNamed::Default => &[],\nNamed::Free => &TUNED,\n}};\n\
         let default = || Variant::DEFAULTS.{default}.map(|variant| Choice {{ variant, rule: Rule::Default }});\n\
         winner(tuned, ({device}, {arch}), dims.array(), {usable}).or_else(default).ok_or(Error::NoVariant)\n",
        parts.variable(),
    )
}
