//! `cargo kbench check`: what a kernel's table says, without compiling anything.

use std::fmt::{self, Display, Write as _};

use super::style::WARN;
use crate::config::counters::Quantifier;
use crate::config::{Backend, BaselineKind, Kernel, Level, Objective, PerformanceBound, Search, StrategyName};
use crate::gates::fit;
use crate::space::Counts;
use crate::text::grouped;

/// The kernel's space, shapes and gates as aligned text, a newline at its end.
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
    let names = kernel.shapes.iter().map(|shape| shape.name.len()).max().unwrap_or(0);
    rows.list("shapes", &kernel.shapes, |shape| format!("{:names$}  {}", shape.name, super::sizes(shape)));
    rows.list("baselines", &kernel.baselines, |baseline| {
        let kind = match &baseline.kind {
            BaselineKind::Variant(variant) => kernel.space.label(variant),
            BaselineKind::Kernel(name) => format!("kernel {name}"),
            BaselineKind::Implementation(implementation) => format!("function {}", implementation.entry),
            BaselineKind::Command(program) => program.command.join(" "),
        };
        format!("{}: {kind}", baseline.name)
    });
    rows.list("gates", gates(kernel), |gate| gate);
    let search = &kernel.search;
    let tuned = kernel.shapes[search.shape].name.as_str();
    rows.add("tuned at", tuned.to_owned());
    rows.add("objective", objectives(kernel));
    rows.add("strategy", format!("{}, seed {}", strategy(search.strategy), search.seed));
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
    let mut text = format!("{} ({backend}, {})\n{rows}", super::title(kernel), kernel.implementation.entry);
    for misfit in fit::misfits(kernel) {
        let _ = writeln!(text, "{WARN}warning{WARN:#}: {misfit}");
    }
    text
}

fn strategy(name: StrategyName) -> &'static str {
    StrategyName::ALL.iter().find(|(_, strategy)| *strategy == name).map_or("", |(name, _)| name)
}

fn objectives(kernel: &Kernel) -> String {
    let one = |objective: &Objective| match objective {
        Objective::Mean(weights) => {
            let parts = weights.iter().map(|(shape, weight)| format!("{weight} x {}", kernel.shapes[*shape].name));
            format!("geometric mean of p50 over {}", parts.collect::<Vec<_>>().join(", "))
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

/// Lines of two columns; the first is empty where it repeats.
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

fn gates(kernel: &Kernel) -> Vec<String> {
    let shape = |index: usize| kernel.shapes[index].name.as_str();
    let resources = &kernel.gates.resources;
    let mut limits = Limits::default();
    limits.at_most("registers", resources.max_registers);
    limits.at_most("shared bytes", resources.max_shared_bytes);
    limits.at_most("spill bytes", resources.max_spill_bytes);
    limits.at_most("stack bytes", resources.max_stack_bytes);
    limits.at_most("code bytes", resources.max_code_bytes);
    if let Some(occupancy) = resources.min_occupancy {
        limits.0.push(format!("occupancy >= {occupancy}"));
    }
    let mut gates = vec![gate("resources", resources.level, &limits)];

    let correctness = &kernel.gates.correctness;
    let mut limits = Limits::default();
    if correctness.max_bad_fraction > 0.0 {
        limits.at_most("bad fraction", Some(correctness.max_bad_fraction));
    }
    limits.at_most("max abs err", correctness.max_abs_err);
    limits.at_most("mean err", correctness.max_mean_err);
    limits.at_most("rms err", correctness.max_rms_err);
    limits.at_most("bias", correctness.max_bias);
    limits.at_most("bias ratio", correctness.max_bias_ratio);
    limits.at_most("quantization err", correctness.max_quantization_err);
    limits.at_most("total err", correctness.max_total_err);
    if let Some(naive) = correctness.naive {
        limits.0.push(format!("errors <= {} x those of {}", correctness.max_naive_ratio, kernel.baselines[naive].name));
    }
    let stated = correctness.max_abs_err.or(correctness.max_mean_err).or(correctness.max_rms_err);
    if stated.is_none() && correctness.naive.is_none() {
        limits.0.push("errors usual for each output's type".to_owned());
    }
    limits.0.push(crate::text::count(correctness.seeds as usize, "seed"));
    if !correctness.patterns.is_empty() {
        limits.0.push(crate::text::count(correctness.patterns.len(), "pattern"));
    }
    if correctness.shapes.len() < kernel.shapes.len() {
        let names: Vec<&str> = correctness.shapes.iter().map(|&index| shape(index)).collect();
        limits.0.push(format!("at {}", names.join(", ")));
    }
    if !correctness.deterministic {
        limits.0.push("need not be deterministic".to_owned());
    }
    gates.push(gate("correctness", correctness.level, &limits));

    let mut limits = Limits::default();
    for limit in &kernel.gates.performance {
        limits.0.push(match &limit.limit {
            PerformanceBound::MaxP50Us(most) => format!("p50 <= {most} us at {}", shape(limit.shape)),
            PerformanceBound::MinSpeedup { ratio, over } => {
                format!("{ratio} x {} at {}", kernel.baselines[*over].name, shape(limit.shape))
            }
        });
    }
    gates.push(gate("performance", kernel.gates.performance_level, &limits));

    let names = |shapes: &[usize]| shapes.iter().map(|&index| shape(index)).collect::<Vec<_>>().join(", ");
    let sanitize = &kernel.gates.sanitize;
    if sanitize.level != Level::Allow {
        let tools = sanitize.tools.iter().map(|tool| tool.name().to_owned()).collect::<Vec<_>>().join(", ");
        gates.push(gate("sanitize", sanitize.level, &Limits(vec![format!("{tools} at {}", names(&sanitize.shapes))])));
    }
    let counters = &kernel.gates.counters;
    if counters.level != Level::Allow {
        let word = if counters.quantifier == Quantifier::Any { " or " } else { " and " };
        let conditions = counters.conditions.iter().map(ToString::to_string).collect::<Vec<_>>().join(word);
        gates.push(gate(
            "counters",
            counters.level,
            &Limits(vec![format!("{conditions} at {}", names(&counters.shapes))]),
        ));
    }
    gates
}

#[derive(Default)]
struct Limits(Vec<String>);

impl Limits {
    fn at_most<T: Display>(&mut self, what: &str, limit: Option<T>) {
        if let Some(limit) = limit {
            self.0.push(format!("{what} <= {limit}"));
        }
    }
}

fn gate(name: &str, level: Level, limits: &Limits) -> String {
    let mut text = format!("{name:11}  ");
    match level {
        Level::Allow => text.push_str("allow: "),
        Level::Warn => text.push_str("warn: "),
        Level::Deny => {}
    }
    let limits = if limits.0.is_empty() { "no limits".to_owned() } else { limits.0.join(", ") };
    let _ = write!(text, "{limits}");
    text
}
