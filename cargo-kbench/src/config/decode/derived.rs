//! Tensors derived from others, and the order in which tensors are made.

use super::super::diagnostics::{Diagnostic, Report};
use super::super::tree::{Entry, Node, Table};
use super::super::{Derivation, Init, Tensor};
use super::env::{Env, Need};
use super::names::find;
use crate::expr::Expr;

/// The keys beside `from`.
pub(super) const BESIDE: [&str; 3] = ["view", "axes", "border"];

/// The names of the tensors that a tensor is made of.
fn sources(entry: &Entry) -> Vec<&Node> {
    let Some(table) = entry.node.table() else { return Vec::new() };
    let within = |key: &str| table.get(key).and_then(Node::table).and_then(|table| table.get("from"));
    let from = within("init").map(Node::elements).unwrap_or_default();
    from.iter().chain(within("quantize")).collect()
}

/// The order in which tensors are made: the table's, except that a tensor follows the tensors that it is derived from.
pub(super) fn in_order(entries: &[Entry], report: &Report) -> Vec<Entry> {
    let mut order = Vec::new();
    let mut state = vec![State::New; entries.len()];
    for index in 0..entries.len() {
        place(index, entries, &mut state, &mut order, report);
    }
    order.into_iter().map(|index| entries[index].clone()).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    Open,
    Placed,
}

fn place(index: usize, entries: &[Entry], state: &mut [State], order: &mut Vec<usize>, report: &Report) {
    if state[index] != State::New {
        return;
    }
    state[index] = State::Open;
    for node in sources(&entries[index]) {
        let scales = |at: &usize| {
            let quantize = entries[*at].node.table().and_then(|table| table.get("quantize")?.table()?.text("scale"));
            quantize.is_some() && quantize == node.text()
        };
        // Scales are made with the tensor that is quantised with them.
        let own = entries.iter().position(|entry| Some(entry.key.as_str()) == node.text());
        for from in own.into_iter().chain((0..entries.len()).filter(scales)) {
            // `tensors.rs` reports a tensor that is quantised from itself.
            let is_told =
                from == index && entries[index].node.table().is_some_and(|table| table.get("quantize").is_some());
            if state[from] == State::Open && !is_told {
                let message = format!("`{}` is made of itself", entries[index].key);
                report.push(
                    Diagnostic::error(message).at(&node.place, format!("`{}` needs it first", entries[from].key)),
                );
            }
            place(from, entries, state, order, report);
        }
    }
    state[index] = State::Placed;
    order.push(index);
}

/// Keys of `init` beside `from`.
pub(super) fn derivation(table: &Table, env: &Env<'_>, report: &Report) -> Option<Init> {
    let sizes =
        |table: &Table, key: &str, need| table.get(key).map_or_else(Vec::new, |node| env.exprs(node, key, need));
    let axes = table.get("axes").map(Node::elements).unwrap_or_default();
    let axes = axes.iter().map(|axis| axis.integer().and_then(|axis| usize::try_from(axis).ok()));
    let border = table.get("border").and_then(Node::table);
    let value = border.and_then(|border| border.get("value")).map_or(Some(0.0), |node| {
        if node.number().is_none() {
            report.error(&node.place, "the `value` of a border is no number", "expected a number, inf, -inf or nan");
        }
        node.number()
    });
    Some(Init::Derived(Derivation {
        from: Vec::new(),
        view: sizes(table, "view", Need::Dimension),
        axes: axes.collect::<Option<_>>()?,
        width: border.map_or_else(Vec::new, |border| sizes(border, "width", Need::Count)),
        border: value?,
        drawn: false,
    }))
}

/// Wires a derived tensor to those that it is made of, and checks the sizes at every shape.
pub(super) fn wire(index: usize, entries: &[Entry], tensors: &mut [Tensor], env: &Env<'_>, report: &Report) {
    let Some(table) = entries[index].node.table() else { return };
    let Some(init) = table.get("init").and_then(Node::table) else { return };
    let (Init::Derived(derivation), Some(from_node)) = (&tensors[index].init, init.get("from")) else { return };
    let names = || entries.iter().map(|entry| entry.key.as_str());
    let mut derivation = derivation.clone();
    for node in from_node.elements() {
        let Some(from) = find(node, "tensor", names(), report) else { return };
        if from >= index {
            // `in_order` has reported a tensor that is made of itself.
            return;
        }
        if !tensors[from].role.is_read() {
            report.error(&node.place, format!("`{}` has no contents", tensors[from].name), "expected an input");
            return;
        }
        derivation.from.push(from);
    }
    let Some(&first) = derivation.from.first() else {
        report.error(&from_node.place, "`from` is empty", "expected one tensor or several");
        return;
    };
    // The border of integers may mark the end of something.
    let is_any_order = derivation.width.is_empty() || tensors[index].dtype.is_float();
    derivation.drawn = is_any_order && derivation.from.iter().all(|&from| is_drawn(&tensors[from].init));
    let before = report.errors();
    let rank = if derivation.view.is_empty() {
        tensors[first].dims.len() + usize::from(derivation.from.len() > 1)
    } else {
        derivation.view.len()
    };
    check_axes(&derivation, rank, init, report);
    if report.errors() == before {
        check_sizes(
            &derivation,
            &tensors[index],
            &derivation.from.iter().map(|&at| &tensors[at]).collect::<Vec<_>>(),
            (table, init),
            env,
            report,
        );
    }
    tensors[index].init = Init::Derived(derivation);
}

/// Whether elements are drawn one by one.
fn is_drawn(init: &Init) -> bool {
    match init {
        Init::Normal { .. }
        | Init::Uniform { .. }
        | Init::Integers { .. }
        | Init::Between { .. }
        | Init::Quantize { .. }
        | Init::Scale => true,
        Init::Derived(derivation) => derivation.drawn,
        _ => false,
    }
}

fn check_axes(derivation: &Derivation, rank: usize, init: &Table, report: &Report) {
    let mut sorted = derivation.axes.clone();
    sorted.sort_unstable();
    if let Some(node) = init.get("axes").filter(|_| !sorted.into_iter().eq(0..rank)) {
        let label = format!("expected each of the numbers 0 to {} once", rank.saturating_sub(1));
        report.error(&node.place, format!("`axes` is not an order of the {}", count_axes(rank)), label);
    }
    let widths = derivation.width.len();
    let width = init.get("border").and_then(Node::table).and_then(|border| border.get("width"));
    if let Some(node) = width.filter(|node| node.elements().len() == widths && widths != 1 && widths != rank) {
        let label = format!("expected one width, or one for each of the {}", count_axes(rank));
        report.error(&node.place, format!("`width` has {widths} widths"), label);
    }
}

fn count_axes(rank: usize) -> String {
    if rank == 1 { "1 axis".to_owned() } else { format!("{rank} axes") }
}

/// At every shape with the default variant.
fn check_sizes(
    derivation: &Derivation,
    tensor: &Tensor,
    from: &[&Tensor],
    (table, init): (&Table, &Table),
    env: &Env<'_>,
    report: &Report,
) {
    let Some(dims_node) = table.get("dims") else { return };
    let from_node = init.get("from").unwrap_or(dims_node);
    for shape in env.all_shapes() {
        let sizes = |dims: &[Expr]| env.sizes(shape, dims);
        let Some(all) = from.iter().map(|from| sizes(&from.dims)).collect::<Option<Vec<_>>>() else { return };
        if let Some(at) = all.iter().position(|dims| *dims != all[0]) {
            let message = format!("`{}` and `{}` have different sizes", from[0].name, from[at].name);
            let label = format!("{:?} and {:?} at shape `{}`", all[0], all[at], shape.name);
            report.error(&from_node.place, message, label);
            return;
        }
        let size = |_: &str, expr: &Expr| env.sizes(shape, std::slice::from_ref(expr)).map(|sizes| sizes[0]).ok_or(());
        let (Ok(derived), Some(own)) = (derivation.resolved(tensor.dims.len(), size), sizes(&tensor.dims)) else {
            return;
        };
        match derived.dims(&all[0]) {
            Err(why) => {
                let node = init.get("view").unwrap_or(from_node);
                report.error(&node.place, why, format!("at shape `{}` with the default variant", shape.name));
                return;
            }
            Ok(dims) if dims != own => {
                let message = format!("the sizes of `{}` are not those of its contents", tensor.name);
                let label = format!("{own:?} at shape `{}`, and the contents have {dims:?}", shape.name);
                let diagnostic = Diagnostic::error(message).at(&dims_node.place, label);
                report.push(
                    diagnostic
                        .help("`axes = [1, 0]` transposes, `view` splits and joins axes, `border` adds to both ends"),
                );
                return;
            }
            Ok(_) => {}
        }
    }
}
