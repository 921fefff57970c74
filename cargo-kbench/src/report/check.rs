//! Text of `check`: summary of a kernel's table. Nothing is compiled.

use std::fmt::{self, Display, Write as _};

use super::style::WARN;
use crate::config::{
    Application, Backend, BaselineKind, Better, DeviceModel, Kernel, Level, Objective, Search, StrategyName,
};
use crate::gates::asked;
use crate::gates::launch::fit;
use crate::space::Counts;
use crate::text::grouped;

/// Space, shapes and gates of the kernel as aligned text, with a newline at the end.
pub fn summary(kernel: &Kernel) -> String {
    let counts = kernel.space.counts();
    let mut rows = Rows::default();
    rows.add("space", space(&counts));
    if !kernel.space.toggles.is_empty() {
        rows.add("macro", format!("{} at the default micro setting", points(counts.macro_points)));
        rows.add("micro", format!("{} at the default macro setting", points(counts.micro_points)));
        rows.add("default", kernel.space.label(&kernel.space.default));
    }
    let removed: Vec<String> = counts.removed.iter().map(|removed| number(*removed)).collect();
    let width = removed.iter().map(String::len).max().unwrap_or(0);
    rows.list("removed by", removed.iter().zip(&kernel.space.constraints), |(removed, constraint)| {
        format!("{removed:>width$}  {constraint}")
    });
    if let Some(DeviceModel { name, sm_count, max_shared }) = &kernel.device {
        rows.add("device", format!("{name}: SM_COUNT={sm_count} MAX_SHARED={max_shared}; the table depends on it"));
    }
    let names = kernel.shapes.iter().map(|shape| shape.name.len()).max().unwrap_or(0);
    rows.list("shapes", &kernel.shapes, |shape| format!("{:names$}  {}", shape.name, super::sizes(shape)));
    rows.list("baselines", &kernel.baselines, |baseline| {
        let kind = match &baseline.kind {
            BaselineKind::Variant(variant) => kernel.space.label(variant),
            BaselineKind::Kernel(name) => format!("kernel {name}"),
            BaselineKind::Implementation(implementation) => format!("function {}", implementation.entries().join(", ")),
            BaselineKind::Command(program) => program.command.join(" "),
        };
        format!("{}: {kind}", baseline.name)
    });
    rows.list("gates", gates(kernel), |gate| gate);
    let search = &kernel.search;
    let tuned = kernel.shapes[search.shape].name.as_str();
    rows.add("tuned at", tuned.to_owned());
    rows.add("objective", objectives(kernel));
    rows.add("strategy", format!("{}, seed {}", search.strategy.name(), search.seed));
    rows.add("budget", budget(search));
    if let Some(proposer) = &search.proposer {
        rows.add("proposer", format!("{}, for half of the budget", proposer.join(" ")));
    }
    rows.add("kept", format!("the {} best", search.elite));

    let backend = match kernel.implementation.backend {
        Backend::Cuda => "cuda",
        Backend::C => "c",
        Backend::Fake => "fake",
    };
    let mut text =
        format!("{} ({backend}, {})\n{rows}", super::title(kernel), kernel.implementation.entries().join(", "));
    for misfit in fit::misfits(kernel) {
        let _ = writeln!(text, "{WARN}warning{WARN:#}: {misfit}");
    }
    text
}

fn objectives(kernel: &Kernel) -> String {
    let one = |objective: &Objective| match objective {
        Objective::Mean(weights) => {
            let parts = weights.iter().map(|(shape, weight)| format!("{weight} x {}", kernel.shapes[*shape].name));
            format!("geometric mean of p50 over {}", parts.collect::<Vec<_>>().join(", "))
        }
        Objective::Application(Application { command, better, .. }) => {
            let better = if *better == Better::Higher { "higher" } else { "lower" };
            format!("the number of `{}`, {better} is better", command.join(" "))
        }
        other => other.name().to_owned(),
    };
    kernel.objectives.iter().map(one).collect::<Vec<_>>().join(" and ")
}

fn budget(search: &Search) -> String {
    let evaluations = search.evaluations.map(|most| format!("{} evaluations", grouped(most.into())));
    let seconds = search.seconds.map(|most| format!("{} s", grouped(most.into())));
    let stated: Vec<String> = evaluations.into_iter().chain(seconds).collect();
    if !stated.is_empty() {
        return stated.join(", ");
    }
    match search.strategy {
        StrategyName::Evo | StrategyName::Exhaustive => "none: it ends by itself".to_owned(),
        _ => format!("{} evaluations, since the table has no budget", crate::search::EVALUATIONS),
    }
}

/// Lines of two columns; the first is empty if it repeats.
#[derive(Default)]
struct Rows(Vec<(&'static str, String)>);

impl Rows {
    fn add(&mut self, title: &'static str, text: String) {
        self.0.push((title, text));
    }

    fn list<T>(&mut self, title: &'static str, items: impl IntoIterator<Item = T>, text: impl Fn(T) -> String) {
        for (index, item) in items.into_iter().enumerate() {
            self.add(if index == 0 { title } else { "" }, text(item));
        }
    }
}

impl Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(title, _)| title.len()).max().unwrap_or(0);
        for (title, text) in &self.0 {
            let start = format!("  {title:width$}  ");
            writeln!(f, "{start}{}", super::hanging(&start, text.trim_end()).trim_end())?;
        }
        Ok(())
    }
}

fn number(count: Option<u128>) -> String {
    count.map_or_else(|| "many".to_owned(), grouped)
}

fn points(count: Option<u128>) -> String {
    if count == Some(1) { "1 point".to_owned() } else { format!("{} points", number(count)) }
}

fn space(counts: &Counts) -> String {
    let cartesian = points(Some(counts.cartesian));
    match counts.valid {
        Some(valid) if valid == counts.cartesian => cartesian,
        Some(valid) => format!(
            "{} of {cartesian}, {} removed by constraints",
            grouped(valid),
            grouped(counts.cartesian.saturating_sub(valid))
        ),
        None => format!("{cartesian}; how many are valid would take too long to count"),
    }
}

/// The gates that the table asks for, with their limits, in the order in which they run.
fn gates(kernel: &Kernel) -> Vec<String> {
    asked(kernel)
        .filter_map(|gate| {
            let (level, limits) = gate.limits(kernel)?;
            let level = match level {
                Level::Allow => "allow: ",
                Level::Warn => "warn: ",
                Level::Deny => "",
            };
            let limits = if limits.is_empty() { "no limits".to_owned() } else { limits.join(", ") };
            Some(format!("{:11}  {level}{limits}", gate.name()))
        })
        .collect()
}
