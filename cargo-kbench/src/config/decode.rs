//! Decodes tables to validated types. Every mistake of a package is reported, not only the first; a kernel with a
//! mistake becomes `None`.

use std::path::PathBuf;

use kbench_runtime::fingerprint;

use super::check::{check, unknown_key};
use super::diagnostics::{Diagnostic, Place, Report};
use super::keys::{KERNEL, Kind, PACKAGE_KERNELS};
use super::tree::{Entry, Item, Node, Table};
use super::{Backend, DeviceModel, Implementation, Kernel, Package, Tensor, Work};
use crate::text::did_you_mean;
use correctness::Parts;
use device::Device;
use env::{Env, Need};
use slot::Slot;

pub(crate) use settings::arch_flag;

mod args;
mod baselines;
mod correctness;
mod counters;
mod derived;
mod device;
mod env;
mod gates;
mod implementation;
mod launches;
mod names;
mod objectives;
mod sanitize;
mod settings;
mod shapes;
mod slot;
mod tensors;
mod toggles;

/// A selected package: its own table, and the defaults of its workspace.
pub(super) struct Input<'i> {
    pub(super) name: &'i str,
    pub(super) edition: &'i str,
    pub(super) directory: PathBuf,
    /// The package's table and the place of its key.
    pub(super) table: &'i Node,
    pub(super) place: &'i Place,
    /// The workspace's table.
    pub(super) workspace: Option<&'i Node>,
    /// The device for expressions; by default a model of the table's first architecture.
    pub(super) device: Option<&'i DeviceModel>,
}

/// Decodes a package; without errors in the report every kernel is present.
pub(super) fn package(input: &Input<'_>, report: &Report) -> Package {
    let mut kernels = Vec::new();
    let mut defaults = Node { place: input.place.clone(), item: Item::Table(Table::default()) };
    if let Item::Table(table) = &input.table.item {
        let of_kernels = kernels_of(table, report);
        let is_default = |entry: &&Entry| of_kernels.is_none_or(|kernels| kernels.key != entry.key);
        let own = table.entries.iter().filter(is_default).cloned().collect();
        defaults.item = Item::Table(Table { entries: own });
        if let Some(workspace) = input.workspace {
            defaults.inherit(workspace, &Kind::Within(&KERNEL));
            // Where they were reported.
            if let Item::Table(table) = &mut defaults.item {
                table.entries.retain(|entry| entry.key != PACKAGE_KERNELS.name);
            }
        }
        kernels = kernel_entries(table, of_kernels, input.place, report);
    } else {
        report.error(&input.table.place, "`kbench` must be a table", format!("this is {}", input.table.describe()));
    }
    let kernels: Vec<Entry> = kernels
        .into_iter()
        .map(|mut entry| {
            entry.node.inherit(&defaults, &Kind::Within(&KERNEL));
            entry
        })
        .collect();
    let decoded = kernels.iter().filter_map(|entry| kernel(entry, &kernels, input, report)).collect();
    let (name, edition) = (input.name.to_owned(), input.edition.to_owned());
    Package { name, edition, directory: input.directory.clone(), kernels: decoded }
}

/// The entry `kernels`, or an entry with a similar name.
fn kernels_of<'t>(table: &'t Table, report: &Report) -> Option<&'t Entry> {
    let meant = |entry: &&Entry| {
        KERNEL.get(&entry.key).is_none()
            && entry.node.table().is_some()
            && did_you_mean(&entry.key, [PACKAGE_KERNELS.name]).is_some()
    };
    table.entry(PACKAGE_KERNELS.name).or_else(|| {
        let entry = table.entries.iter().find(meant)?;
        let message = format!("unknown key `{}` in the table of a package", entry.key);
        report.error(&entry.key_place, message, format!("did you mean `{}`?", PACKAGE_KERNELS.name));
        Some(entry)
    })
}

fn kernel_entries(table: &Table, kernels: Option<&Entry>, place: &Place, report: &Report) -> Vec<Entry> {
    let Some(entry) = kernels else {
        let help = "describe each kernel in a table of its own: `[package.metadata.kbench.kernels.NAME]`";
        report.push(Diagnostic::error("no kernels").at(place, "this table has no `kernels`").help(help));
        // Present keys are checked too: a misspelt `kernels` may be among them.
        for entry in &table.entries {
            if KERNEL.get(&entry.key).is_none() {
                report.push(unknown_key(&entry.key, &entry.key_place, &KERNEL, &[PACKAGE_KERNELS.name]));
            }
        }
        return Vec::new();
    };
    match &entry.node.item {
        Item::Table(kernels) if kernels.entries.is_empty() => {
            report.error(&entry.key_place, "no kernels", "this table is empty");
            Vec::new()
        }
        Item::Table(kernels) => kernels.entries.clone(),
        _ => {
            let label = format!("this is {}", entry.node.describe());
            report.error(&entry.node.place, "`kernels` must be a table", label);
            Vec::new()
        }
    }
}

/// Checks the defaults of a workspace that no kernel inherits.
pub(super) fn workspace(table: &Node, place: &Place, report: &Report) {
    let Some(entries) = table.table() else {
        report.error(&table.place, "`kbench` must be a table", format!("this is {}", table.describe()));
        return;
    };
    if let Some(kernels) = entries.entry(PACKAGE_KERNELS.name) {
        let diagnostic = Diagnostic::error("kernels in the table of a workspace")
            .at(&kernels.key_place, "")
            .at(place, "this table holds defaults for the packages of the workspace")
            .help("a kernel belongs to a package: move it to `[package.metadata.kbench.kernels.NAME]` there");
        report.push(diagnostic);
    }
}

fn kernel(entry: &Entry, siblings: &[Entry], input: &Input<'_>, report: &Report) -> Option<Kernel> {
    let before = report.errors();
    names::check_name("kernel", &entry.key, &entry.key_place, report);
    let mut entry = entry.clone();
    check(&mut entry.node, &Kind::Within(&KERNEL), &entry.key, &entry.key_place, report);
    let entry = &entry;
    let table = entry.node.table()?;

    let toggle_names = toggles::names(table);
    let device = device_of(table, input.device);
    let space = toggles::space(table, &device, report);
    let shapes = shapes::shapes(table, &toggle_names, report);
    let env = Env::new(shapes, toggle_names, space, before, &device, report);

    let tensors = tensors::tensors(table, &env, report);
    let slot = Slot { noun: "kernel", entry, env: &env, tensors: &tensors, report };
    let implementation = implementation::implementation(table, &slot);
    let reference = baselines::reference(entry, &env, &tensors, report);
    let baselines = baselines::baselines(entry, siblings, &env, &tensors, report);
    let arch = settings::arch(table, report);
    let functions = table.entries_of("baselines").iter().map(|entry| &entry.node).chain(table.get("reference"));
    for function in functions.filter_map(Node::table).chain([table]) {
        if implementation::stated_backend(function).or(implementation::stated_backend(table)) == Some(Backend::Cuda) {
            settings::arch_flags(function, &arch, report);
        }
    }
    let mut search = settings::search(table, &env, report);
    let backend = implementation.as_ref().map(|implementation| implementation.backend);
    let work = work(table, &env);
    let objectives = objectives::objectives(table, &env, &mut search, &work, backend, report);
    let gates =
        gates::gates(table, &env, &search, &Parts { backend, tensors: &tensors, baselines: &baselines }, report);
    let timing = settings::timing(table, report);
    let runner = table.get("runner").map(Node::texts).unwrap_or_default();
    let workers = settings::workers(table, &runner, backend, report);
    if report.errors() > before {
        return None;
    }
    let (implementation, reference) = (implementation?, reference?);
    tensors::warn_unused(&tensors, &implementation, &reference, &baselines, report);
    let mut used = implementation.names();
    used.extend(reference.function().into_iter().flat_map(Implementation::names));
    used.extend(tensors.list.iter().flat_map(Tensor::names));
    toggles::warn_unused(table, &used, report);
    let (shapes, space) = (env.shapes, env.space?);
    let device = device.into_model();
    Some(Kernel {
        name: entry.key.clone(),
        package: input.name.to_owned(),
        implementation,
        arch,
        shapes,
        tensors: tensors.list,
        space,
        reference,
        baselines,
        gates: gates?,
        timing,
        search,
        objectives,
        work,
        runner,
        workers,
        device,
        table: fingerprint::of("table 1", &measured(table)),
    })
}

/// The device for a kernel's expressions: the present one, or a model of the table's first architecture.
fn device_of(table: &Table, there: Option<&DeviceModel>) -> Device {
    const FALLBACK: &str = "sm_90";
    let first = table.get("arch").map(Node::texts).unwrap_or_default().into_iter().next();
    let of_table = || first.and_then(|arch| DeviceModel::of_arch(&arch));
    let model = there.cloned().or_else(of_table).or_else(|| DeviceModel::of_arch(FALLBACK));
    Device::new(model.expect("it has a model"), implementation::stated_backend(table) != Some(Backend::C))
}

/// The entries of the table that measurements depend on.
fn measured(table: &Table) -> Vec<(&str, &Node)> {
    let is_measured = |entry: &&Entry| !["search", "runner", "workers"].contains(&&*entry.key);
    table.entries.iter().filter(is_measured).map(|entry| (&*entry.key, &entry.node)).collect()
}

fn work(table: &Table, env: &Env<'_>) -> Work {
    let Some(work) = table.get("work").and_then(Node::table) else { return Work::default() };
    let expr = |key| work.get(key).and_then(|node| env.expr(node, key, Need::Rate));
    Work { flops: expr("flops"), bytes: expr("bytes") }
}
