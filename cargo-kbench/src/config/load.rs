//! Loads and validates a [`Project`] from a folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::decode;
use super::diagnostics::{ConfigErrors, Diagnostic, Place, Report, Source};
use super::error::LoadError;
use super::manifest::{self, Member};
use super::spec::Spec;
use super::tree::{self, Entry, Node, Table};
use super::{DeviceModel, Package, Project};
use crate::file::{self, same_file};
use crate::text::{did_you_mean, list};

/// Packages to load. The default is cargo's choice in the current directory.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// `--manifest-path`.
    pub manifest_path: Option<PathBuf>,
    /// All `-p` arguments: package ID specifications and patterns.
    pub packages: Vec<String>,
    /// `--target-dir`.
    pub target_dir: Option<PathBuf>,
    /// The folder to start from; the current directory by default.
    pub directory: Option<PathBuf>,
    /// The device for expressions; by default a model of each kernel's first architecture.
    pub device: Option<DeviceModel>,
    /// The cargo executable; `$CARGO` or `cargo` by default. Without one, manifests are read directly.
    pub cargo: Option<OsString>,
}

/// Loads the selected packages, with the warnings about them.
///
/// `-p` selects packages; without it, the package of this folder is loaded, or, at the root of a virtual workspace,
/// every member that has a table.
pub fn load(options: &LoadOptions) -> Result<(Project, Vec<Diagnostic>), LoadError> {
    let directory = match &options.directory {
        Some(directory) => std::path::absolute(directory),
        None => std::env::current_dir(),
    };
    let directory = directory.map_err(|error| LoadError::Read(PathBuf::from("."), error))?;
    let manifest = match &options.manifest_path {
        Some(path) => directory.join(path),
        None => manifest::find(&directory)?,
    };
    let loader = Loader { directory: &directory, report: Report::default() };
    let here = loader.read(&manifest)?;
    let loader = loader.stop_at_errors()?;

    let cargo = options.cargo.clone().or_else(|| std::env::var_os("CARGO")).unwrap_or_else(|| "cargo".into());
    let workspace = manifest::workspace(&manifest, &directory, &cargo)?;
    let selection = select(&workspace.members, options, &here, &manifest)?;
    let root = if same_file(&workspace.root, &manifest) { here } else { loader.read(&workspace.root)? };
    let packages = loader.packages(&workspace.members, &selection, &root, options.device.as_ref())?;
    let target_directory = match &options.target_dir {
        Some(target) => directory.join(target),
        None => workspace.target_directory,
    };
    let warnings = loader.finish()?;
    let root = workspace.root.parent().unwrap_or(Path::new(".")).to_owned();
    let manifests = workspace.members.into_iter().map(|member| member.manifest).collect();
    Ok((Project { packages, target_directory, root, manifests }, warnings))
}

/// The packages to read.
struct Selection {
    /// Indices of members, ascending.
    indices: Vec<usize>,
    /// Packages that were named, which must have a table. Other packages without a table are skipped.
    named: Vec<usize>,
}

impl Selection {
    fn named(index: usize) -> Self {
        Self { indices: vec![index], named: vec![index] }
    }
}

fn select(members: &[Member], options: &LoadOptions, here: &Manifest, manifest: &Path) -> Result<Selection, LoadError> {
    if options.packages.is_empty() {
        let own = members.iter().position(|member| same_file(&member.manifest, manifest));
        return Ok(match own {
            Some(own) if here.table.get("package").is_some() => Selection::named(own),
            _ => Selection { indices: (0..members.len()).collect(), named: Vec::new() },
        });
    }
    let mut selection = Selection { indices: Vec::new(), named: Vec::new() };
    for text in &options.packages {
        let spec = Spec::parse(text).map_err(|error| LoadError::Pattern { pattern: text.clone(), error })?;
        let found: Vec<usize> = (0..members.len()).filter(|&index| spec.matches(&members[index])).collect();
        if found.is_empty() {
            return Err(unknown_package(text, members));
        }
        // A package that a pattern matches counts as named if it is the only one.
        if found.len() == 1 {
            selection.named.extend(&found);
        }
        selection.indices.extend(found);
    }
    selection.indices.sort_unstable();
    selection.indices.dedup();
    Ok(selection)
}

fn unknown_package(text: &str, members: &[Member]) -> LoadError {
    let has_version = text.contains(['@', ':', '#']);
    let shown = |member: &Member| {
        if has_version { format!("{}@{}", member.name, member.version) } else { member.name.clone() }
    };
    let known: Vec<String> = members.iter().map(shown).collect();
    let suggestion = did_you_mean(text, known.iter().map(String::as_str)).map(str::to_owned);
    LoadError::UnknownPackage { name: text.to_owned(), suggestion, known }
}

/// A manifest that was read.
struct Manifest {
    source: Arc<Source>,
    table: Table,
}

/// The kbench tables of a manifest, each with its entry.
struct Tables<'m> {
    package: Option<&'m Entry>,
    workspace: Option<&'m Entry>,
}

impl Manifest {
    fn tables(&self, report: &Report) -> Tables<'_> {
        let metadata = |of: &str| self.table.get(of)?.table()?.get("metadata")?.table()?.entry("kbench");
        let (package, workspace, bare) = (metadata("package"), metadata("workspace"), self.table.entry("kbench"));
        if let (Some(bare), Some(other)) = (bare, package.or(workspace)) {
            let diagnostic = Diagnostic::error("two kbench tables in one manifest")
                .at(&bare.key_place, "the bare `[kbench]`")
                .at(&other.key_place, "and the one in `metadata`")
                .help("keep one; cargo warns of the bare form, not of the other");
            report.push(diagnostic);
        }
        if self.table.get("package").is_some() {
            Tables { package: package.or(bare), workspace }
        } else {
            Tables { package: None, workspace: workspace.or(bare) }
        }
    }

    /// The place of the package's name.
    fn name_place(&self) -> Place {
        let package = self.table.get("package").and_then(Node::table);
        match package.and_then(|package| package.entry("name")) {
            Some(name) => name.node.place.clone(),
            None => Place { source: Arc::clone(&self.source), range: 0..0 },
        }
    }
}

struct Loader<'d> {
    directory: &'d Path,
    report: Report,
}

impl Loader<'_> {
    fn read(&self, path: &Path) -> Result<Manifest, LoadError> {
        let text = file::read_text(path).map_err(|error| LoadError::Read(path.to_owned(), error))?;
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let shown = path.strip_prefix(self.directory).unwrap_or(&path).display().to_string();
        let source = Arc::new(Source { path, shown, text });
        Ok(Manifest { table: tree::parse(&source, &self.report), source })
    }

    fn stop_at_errors(self) -> Result<Self, LoadError> {
        if self.report.errors() == 0 {
            return Ok(self);
        }
        Err(ConfigErrors { diagnostics: self.report.finish() }.into())
    }

    /// The warnings, or all diagnostics if there is an error.
    fn finish(self) -> Result<Vec<Diagnostic>, LoadError> {
        Ok(self.stop_at_errors()?.report.finish())
    }

    fn packages(
        &self,
        members: &[Member],
        selection: &Selection,
        root: &Manifest,
        device: Option<&DeviceModel>,
    ) -> Result<Vec<Package>, LoadError> {
        let defaults = root.tables(&self.report).workspace;
        if let Some(defaults) = defaults {
            decode::workspace(&defaults.node, &defaults.key_place, &self.report);
        }
        let mut packages = Vec::new();
        for &index in &selection.indices {
            let member = &members[index];
            let manifest = self.read(&member.manifest)?;
            let Some(table) = manifest.tables(&self.report).package else {
                if selection.named.contains(&index) {
                    self.no_table(member, &manifest, members)?;
                }
                continue;
            };
            let input = decode::Input {
                name: &member.name,
                edition: &member.edition,
                directory: manifest.source.directory().to_owned(),
                table: &table.node,
                place: &table.key_place,
                workspace: defaults.map(|defaults| &defaults.node),
                device,
            };
            packages.push(decode::package(&input, &self.report));
        }
        if packages.is_empty() && selection.named.is_empty() {
            let place = Place { source: Arc::clone(&root.source), range: 0..0 };
            let help = "describe a package's kernels in its manifest, under `[package.metadata.kbench.kernels.NAME]`";
            let all = selection.indices.len() == members.len();
            let which = if all { "package of this workspace" } else { "package that `-p` names" };
            let diagnostic = Diagnostic::error(format!("no {which} has a kbench table"));
            self.report.push(diagnostic.at(&place, "").help(help));
        }
        Ok(packages)
    }

    /// Reports a selected package without kernels.
    fn no_table(&self, member: &Member, manifest: &Manifest, members: &[Member]) -> Result<(), LoadError> {
        let mut others = Vec::new();
        for other in members.iter().filter(|other| other.name != member.name) {
            // Reports of packages that were not selected are dropped.
            let quiet = Loader { directory: self.directory, report: Report::default() };
            if quiet.read(&other.manifest)?.tables(&quiet.report).package.is_some() {
                others.push(other.name.as_str());
            }
        }
        let diagnostic = Diagnostic::error(format!("package `{}` has no kbench table", member.name));
        let metadata = manifest.table.get("package").and_then(Node::table).and_then(|package| package.get("metadata"));
        let mut keys = metadata.and_then(Node::table).into_iter().flat_map(|metadata| &metadata.entries);
        let diagnostic = match keys.find(|entry| did_you_mean(&entry.key, ["kbench"]).is_some()) {
            Some(meant) => diagnostic.at(&meant.key_place, "did you mean `kbench`?"),
            None => diagnostic
                .at(&manifest.name_place(), "")
                .help("describe its kernels under `[package.metadata.kbench.kernels.NAME]`"),
        };
        self.report.push(match others[..] {
            [] => diagnostic,
            _ => diagnostic.help(format!("packages with one, for `-p`: {}", list(&others))),
        });
        Ok(())
    }
}
