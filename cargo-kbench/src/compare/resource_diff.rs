//! The resources of every variant as a file to commit, and the changes since: a check of a pull request that needs no
//! device.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{Backend, Kernel};
use crate::evaluate::BuildOutcome;
use crate::file;
use crate::gates::resources::occupancy;
use crate::harness::{Builder, Built};
use crate::space::{Space, Variant};

const FORMAT: &str = "kbench-resources";

const VERSION: u32 = 1;

/// The whole file, sorted, so that equal builds give equal files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceFile {
    /// `kbench-resources`.
    pub format: String,
    /// Version of this format.
    pub version: u32,
    /// One entry for each kernel and architecture.
    pub kernels: Vec<KernelUsage>,
}

/// Resources of the variants of a kernel, compiled for one architecture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelUsage {
    /// Cargo package.
    pub package: String,
    /// Kernel.
    pub kernel: String,
    /// Architecture, such as `sm_90a`; for C the architecture of the CPU.
    pub arch: String,
    /// Version line of the compiler; empty if no variant compiled.
    pub compiler: String,
    /// Resources by toggles, sorted by name.
    pub variants: BTreeMap<String, Usage>,
}

/// Resources of one variant: the largest values of its builds, and the smallest occupancy. Absent values do not apply.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Usage {
    /// Registers a thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registers: Option<u64>,
    /// Spill stores plus spill loads, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spills: Option<u64>,
    /// Static plus dynamic shared memory a block, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared: Option<u64>,
    /// Stack, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<u64>,
    /// Theoretical occupancy, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occupancy: Option<f64>,
    /// Machine code in bytes, which is not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u64>,
    /// Gate and reason of a rejected variant: `gate/reason`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl Usage {
    /// The resources of a built variant.
    pub fn of(builder: &Builder<'_>, variant: &Variant, built: Option<&Built>) -> Self {
        let builds = || built.iter().flat_map(|built| &built.builds);
        let resources = || builds().map(|build| build.artifact.resources());
        let mut launches = Vec::new();
        for build in builds() {
            let at = build.shapes.iter().filter_map(|&shape| builder.geometries(variant, shape)).flatten();
            launches.extend(at.map(|(entry, geometry)| (build.artifact.function(&entry).resources, geometry)));
        }
        let arch = builder.arch.as_deref();
        let occupancy = launches.iter().filter_map(|(resources, geometry)| occupancy(resources, geometry, arch));
        Self {
            registers: resources().filter_map(|resources| resources.registers).max(),
            spills: resources().filter_map(|resources| resources.spills()).max(),
            shared: launches.iter().filter_map(|(resources, geometry)| resources.shared_bytes(geometry)).max(),
            stack: resources().filter_map(|resources| resources.stack).max(),
            occupancy: occupancy.min_by(f64::total_cmp),
            code: resources().filter_map(|resources| resources.code_bytes).max(),
            failed: None,
        }
    }
}

impl KernelUsage {
    /// The resources of variants, from the outcomes of their builds.
    pub fn of(builder: &Builder<'_>, variants: &[Variant], outcomes: &[BuildOutcome]) -> Self {
        let kernel = builder.kernel;
        let built = |outcome: &BuildOutcome| match &outcome.result {
            Ok(built) => Some(built.clone()),
            Err(failure) => failure.built.clone(),
        };
        let compiler = outcomes.iter().filter_map(built).flat_map(|built| built.builds).next();
        let variants = variants.iter().zip(outcomes).map(|(variant, outcome)| {
            let mut usage = Usage::of(builder, variant, built(outcome).as_ref());
            usage.occupancy = usage.occupancy.map(rounded);
            if let Err(failure) = &outcome.result
                && failure.built.is_none()
            {
                usage.failed = Some(format!("{}/{}", failure.rejection.gate, failure.rejection.code));
            }
            (key(&kernel.space, variant), usage)
        });
        Self {
            package: kernel.package.clone(),
            kernel: kernel.name.clone(),
            arch: arch(kernel, builder),
            compiler: compiler.map(|build| build.artifact.compiler).unwrap_or_default(),
            variants: variants.collect(),
        }
    }
}

/// Four digits of an occupancy, so that the file does not depend on the rounding of a quotient.
fn rounded(occupancy: f64) -> f64 {
    (occupancy * 1e4).round() / 1e4
}

fn arch(kernel: &Kernel, builder: &Builder<'_>) -> String {
    match kernel.implementation.backend {
        Backend::Cuda => builder.arch.clone().unwrap_or_default(),
        Backend::C => std::env::consts::ARCH.to_owned(),
        Backend::Fake => "fake".to_owned(),
    }
}

/// The toggles of a variant, sorted by name, so that the order in the table does not matter.
fn key(space: &Space, variant: &Variant) -> String {
    let mut words: Vec<String> = space.get(variant).map(|(name, value)| format!("{name}={value}")).collect();
    words.sort_unstable();
    words.join(" ")
}

impl ResourceFile {
    /// A file of these entries.
    pub fn new(mut kernels: Vec<KernelUsage>) -> Self {
        kernels.sort_by(|a, b| (&a.package, &a.kernel, &a.arch).cmp(&(&b.package, &b.kernel, &b.arch)));
        Self { format: FORMAT.to_owned(), version: VERSION, kernels }
    }

    /// Reads a file.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = file::read(path)?;
        let value: Value = serde_json::from_str(&text).map_err(|error| file::invalid(path, error))?;
        if value.get("format").and_then(Value::as_str) != Some(FORMAT) {
            return Err(file::invalid(path, "not a file of `build --save`"));
        }
        file::check_version(path, &value, VERSION)?;
        serde_json::from_value(value).map_err(|error| file::invalid(path, error))
    }

    /// Writes the file completely or leaves the old one.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        file::write(path, self.text()?.as_bytes())
    }

    /// A line for each variant, so that a diff shows the variants that changed.
    fn text(&self) -> serde_json::Result<String> {
        let mut text = format!("{{\n  \"format\": \"{FORMAT}\",\n  \"version\": {VERSION},\n  \"kernels\": [");
        for (index, kernel) in self.kernels.iter().enumerate() {
            text.push_str(if index == 0 { "\n    {" } else { ",\n    {" });
            for (name, value) in [
                ("package", &kernel.package),
                ("kernel", &kernel.kernel),
                ("arch", &kernel.arch),
                ("compiler", &kernel.compiler),
            ] {
                let _ = write!(text, "\n      \"{name}\": {},", serde_json::to_string(value)?);
            }
            text.push_str("\n      \"variants\": {");
            for (index, (variant, usage)) in kernel.variants.iter().enumerate() {
                text.push_str(if index == 0 { "\n" } else { ",\n" });
                let (variant, usage) = (serde_json::to_string(variant)?, serde_json::to_string(usage)?);
                let _ = write!(text, "        {variant}: {usage}");
            }
            text.push_str("\n      }\n    }");
        }
        text.push_str("\n  ]\n}\n");
        Ok(text)
    }
}

/// Changes of one kernel and architecture.
#[derive(Debug, Clone, Default, PartialEq, Serialize, schemars::JsonSchema)]
pub struct ResourceDiff {
    /// Cargo package.
    pub package: String,
    /// Kernel.
    pub kernel: String,
    /// Architecture.
    pub arch: String,
    /// Old and new version line, where they differ.
    pub compiler: Option<(String, String)>,
    /// The changed variants.
    pub variants: Vec<VariantDiff>,
    /// Variants that are missing in the file.
    pub added: Vec<String>,
    /// Variants that only the file has.
    pub removed: Vec<String>,
    /// Number of unchanged variants.
    pub unchanged: usize,
}

/// Changes of one variant.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct VariantDiff {
    /// Toggles of the variant.
    pub variant: String,
    /// Kind of the change; worse resources outweigh better ones.
    #[serde(rename = "drift")]
    pub change: Change,
    /// The changed resources, such as `registers 40 → 44`.
    pub changes: Vec<String>,
}

/// Kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Only the size of the code changed, or a value appeared or disappeared.
    Neutral,
    /// The variant uses less, or has a higher occupancy.
    Better,
    /// The variant uses more, has a lower occupancy, or no longer builds.
    Worse,
}

impl ResourceDiff {
    /// The difference between the entry of the file and the present one; either may be missing.
    pub fn between(old: Option<&KernelUsage>, new: Option<&KernelUsage>) -> Self {
        let Some(named) = new.or(old) else { return Self::default() };
        let nothing = BTreeMap::new();
        let before = old.map_or(&nothing, |old| &old.variants);
        let after = new.map_or(&nothing, |new| &new.variants);
        let mut diff = Self {
            package: named.package.clone(),
            kernel: named.kernel.clone(),
            arch: named.arch.clone(),
            compiler: old.zip(new).map(|(old, new)| (old.compiler.clone(), new.compiler.clone())),
            added: after.keys().filter(|variant| !before.contains_key(*variant)).cloned().collect(),
            removed: before.keys().filter(|variant| !after.contains_key(*variant)).cloned().collect(),
            ..Self::default()
        };
        diff.compiler = diff.compiler.filter(|(old, new)| old != new);
        for (variant, after) in after {
            match before.get(variant).map(|before| changed(before, after)) {
                Some(Some((kind, changes))) => {
                    diff.variants.push(VariantDiff { variant: variant.clone(), change: kind, changes });
                }
                Some(None) => diff.unchanged += 1,
                None => {}
            }
        }
        diff.variants.sort_by_key(|variant| std::cmp::Reverse(variant.change));
        diff
    }

    /// Number of variants with this kind of change.
    pub fn count(&self, change: Change) -> usize {
        self.variants.iter().filter(|variant| variant.change == change).count()
    }
}

fn changed(old: &Usage, new: &Usage) -> Option<(Change, Vec<String>)> {
    match (&old.failed, &new.failed) {
        (None, Some(why)) => return Some((Change::Worse, vec![format!("built, now fails with {why}")])),
        (Some(why), None) => return Some((Change::Better, vec![format!("failed with {why}, now builds")])),
        _ => {}
    }
    let mut diff = Change::Neutral;
    let mut changes = Vec::new();
    for (what, old, new, judged) in [
        ("registers", old.registers, new.registers, true),
        ("spill bytes", old.spills, new.spills, true),
        ("shared bytes", old.shared, new.shared, true),
        ("stack bytes", old.stack, new.stack, true),
        ("code bytes", old.code, new.code, false),
    ] {
        if old == new {
            continue;
        }
        let text = |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
        changes.push(format!("{what} {} → {}", text(old), text(new)));
        if let Some((old, new)) = old.zip(new).filter(|_| judged) {
            diff = diff.max(if new > old { Change::Worse } else { Change::Better });
        }
    }
    if old.occupancy != new.occupancy {
        let text =
            |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), |value| format!("{:.1} %", value * 100.0));
        changes.push(format!("occupancy {} → {}", text(old.occupancy), text(new.occupancy)));
        if let Some((old, new)) = old.occupancy.zip(new.occupancy) {
            diff = diff.max(if new < old { Change::Worse } else { Change::Better });
        }
    }
    (!changes.is_empty()).then_some((diff, changes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(registers: u64) -> Usage {
        Usage { registers: Some(registers), spills: Some(0), occupancy: Some(0.5), code: Some(100), ..Usage::default() }
    }

    fn kernel(name: &str, variants: &[(&str, Usage)]) -> KernelUsage {
        KernelUsage {
            package: "p".into(),
            kernel: name.into(),
            arch: "sm_90a".into(),
            compiler: "13.0".into(),
            variants: variants.iter().map(|(name, usage)| ((*name).to_owned(), usage.clone())).collect(),
        }
    }

    fn diff(new: &Usage) -> Option<Change> {
        changed(&usage(40), new).map(|(diff, _)| diff)
    }

    #[test]
    fn more_resources_are_worse_and_code_size_is_neutral() {
        assert_eq!(diff(&usage(40)), None);
        assert_eq!(diff(&usage(41)), Some(Change::Worse));
        assert_eq!(diff(&usage(39)), Some(Change::Better));
        assert_eq!(diff(&Usage { spills: Some(4), ..usage(32) }), Some(Change::Worse), "worse outweighs better");
        assert_eq!(diff(&Usage { occupancy: Some(0.4), ..usage(40) }), Some(Change::Worse));
        assert_eq!(diff(&Usage { occupancy: Some(0.6), ..usage(40) }), Some(Change::Better));
        assert_eq!(diff(&Usage { code: Some(900), ..usage(40) }), Some(Change::Neutral));
        assert_eq!(diff(&Usage { spills: None, ..usage(40) }), Some(Change::Neutral));
        let failed = Usage { failed: Some("compile/compile-failed".into()), ..Usage::default() };
        assert_eq!(diff(&failed), Some(Change::Worse));
        assert_eq!(changed(&failed, &usage(99)).unwrap().0, Change::Better);
    }

    #[test]
    fn new_and_removed_variants_are_listed() {
        let old = kernel("k", &[("A=0", usage(40)), ("A=1", usage(40)), ("A=2", usage(40))]);
        let new = kernel("k", &[("A=1", usage(40)), ("A=2", usage(48)), ("A=3", usage(99))]);
        let diff = ResourceDiff::between(Some(&old), Some(&new));
        assert_eq!((diff.added, diff.removed, diff.unchanged), (vec!["A=3".into()], vec!["A=0".into()], 1));
        assert_eq!(diff.variants.len(), 1);
        assert_eq!(diff.variants[0].changes, ["registers 40 → 48"]);
    }

    #[test]
    fn files_are_sorted_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resources.json");
        let entries = [kernel("b", &[("A=1", usage(1)), ("A=0", usage(2))]), kernel("a", &[])];
        let file = ResourceFile::new(entries.to_vec());
        file.write(&path).unwrap();
        assert_eq!(ResourceFile::read(&path).unwrap(), file);
        let text = std::fs::read_to_string(&path).unwrap();
        let line = "\n        \"A=0\": {\"registers\":2,\"spills\":0,\"occupancy\":0.5,\"code\":100},\n        \"A=1\"";
        assert!(text.contains(line), "{text}");
        ResourceFile::new(entries.into_iter().rev().collect()).write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_difference_names_its_kernel_and_counts_its_changes() {
        let old = kernel("k", &[("A=0", usage(40)), ("A=1", usage(40)), ("A=2", usage(40))]);
        let mut new = kernel("k", &[("A=0", usage(32)), ("A=1", usage(48)), ("A=2", usage(64))]);
        let diff = ResourceDiff::between(Some(&old), Some(&new));
        assert_eq!((&*diff.package, &*diff.kernel, &*diff.arch, diff.compiler.clone()), ("p", "k", "sm_90a", None));
        assert_eq!([Change::Worse, Change::Better, Change::Neutral].map(|change| diff.count(change)), [2, 1, 0]);
        assert_eq!(diff.variants[2].variant, "A=0", "what is better comes last");
        new.compiler = "13.1".into();
        let other = ResourceDiff::between(Some(&old), Some(&new));
        assert_eq!(other.compiler, Some(("13.0".into(), "13.1".into())));
        let gone = ResourceDiff::between(Some(&old), None);
        assert_eq!((&*gone.kernel, gone.compiler, gone.removed.len()), ("k", None, 3));
    }

    #[test]
    fn a_key_names_the_toggles_and_an_occupancy_has_four_digits() {
        let project = crate::config::fixture::project("");
        let keys = [0, 2].map(|place| key(&project.packages[0].kernels[0].space, &Variant(vec![place])));
        assert_eq!(keys, ["T=1", "T=3"]);
        assert_eq!([2.0 / 3.0, 0.5, 1.0].map(|share| rounded(share).to_string()), ["0.6667", "0.5", "1"]);
    }
}
