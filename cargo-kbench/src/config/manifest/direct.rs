//! Workspaces without cargo: `[workspace] members` (patterns) and `exclude`, the root package, `CARGO_TARGET_DIR` and
//! `build.target-dir`. Not supported: path dependencies that are members without being listed.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::super::error::LoadError;
use super::{Member, Workspace};
use crate::file::{self, normalized};

pub(super) fn workspace(manifest: &Path, directory: &Path) -> Result<Workspace, LoadError> {
    let own = read(manifest)?;
    let root = root(manifest, &own)?;
    let table = if root == manifest { own } else { read(&root)? };
    let members = members(&root, &table)?;
    // A package that is not in the workspace above it stands alone.
    let (root, members) = if root == manifest || members.iter().any(|member| member.manifest == manifest) {
        (root, members)
    } else {
        (manifest.to_owned(), member(manifest, &table)?.into_iter().collect())
    };
    let own = root.parent().unwrap_or(Path::new(".")).join("target");
    Ok(Workspace { target_directory: target_directory(directory, &variable).unwrap_or(own), root, members })
}

fn read(manifest: &Path) -> Result<Table, LoadError> {
    let text = file::read_text(manifest).map_err(|error| LoadError::Read(manifest.to_owned(), error))?;
    text.parse().map_err(|error: toml::de::Error| LoadError::Cargo(format!("{}: {error}", manifest.display())))
}

fn root(manifest: &Path, own: &Table) -> Result<PathBuf, LoadError> {
    if own.contains_key("workspace") {
        return Ok(manifest.to_owned());
    }
    let directory = manifest.parent().unwrap_or(Path::new("."));
    if let Some(path) = own.get("package").and_then(|package| package.get("workspace")).and_then(Value::as_str) {
        return Ok(normalized(&directory.join(path).join("Cargo.toml")));
    }
    for ancestor in directory.ancestors().skip(1) {
        let candidate = ancestor.join("Cargo.toml");
        if candidate.is_file() && read(&candidate)?.contains_key("workspace") {
            return Ok(candidate);
        }
    }
    Ok(manifest.to_owned())
}

fn members(root: &Path, table: &Table) -> Result<Vec<Member>, LoadError> {
    let directory = root.parent().unwrap_or(Path::new("."));
    let list = |key: &str| -> Vec<&str> {
        let list = table.get("workspace").and_then(|workspace| workspace.get(key)).and_then(Value::as_array);
        list.map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
    };
    let excluded: Vec<PathBuf> = list("exclude").iter().map(|path| normalized(&directory.join(path))).collect();
    let mut folders = vec![directory.to_owned()];
    for pattern in list("members") {
        for folder in expand(directory, pattern) {
            if !folders.contains(&folder) && !excluded.iter().any(|excluded| folder.starts_with(excluded)) {
                folders.push(folder);
            }
        }
    }
    let mut members = Vec::new();
    for folder in folders {
        let manifest = folder.join("Cargo.toml");
        if manifest.is_file() {
            members.extend(member(&manifest, table)?);
        }
    }
    Ok(members)
}

/// The package of a manifest; `root` is the manifest that its version and edition may be inherited from.
fn member(manifest: &Path, root: &Table) -> Result<Option<Member>, LoadError> {
    let table = read(manifest)?;
    let package = table.get("package");
    let text = |key: &str| package?.get(key)?.as_str();
    let inherited = |key: &str| root.get("workspace")?.get("package")?.get(key)?.as_str();
    let own = |key: &str, default: &str| text(key).or_else(|| inherited(key)).unwrap_or(default).to_owned();
    let (version, edition) = (own("version", ""), own("edition", "2015"));
    Ok(text("name").map(|name| Member { name: name.to_owned(), version, edition, manifest: manifest.to_owned() }))
}

/// The folders that a pattern matches, sorted.
fn expand(directory: &Path, pattern: &str) -> Vec<PathBuf> {
    let directory = glob::Pattern::escape(&directory.to_string_lossy());
    let Ok(paths) = glob::glob(&format!("{directory}/{pattern}")) else { return Vec::new() };
    paths.filter_map(Result::ok).filter(|path| path.is_dir()).map(|folder| normalized(&folder)).collect()
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The target directory of variables or configuration, as cargo finds it from `directory`.
fn target_directory(directory: &Path, variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(target) = variable("CARGO_TARGET_DIR").or_else(|| variable("CARGO_BUILD_TARGET_DIR")) {
        return Some(normalized(&directory.join(target)));
    }
    let home = variable("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&variable("HOME")?).join(".cargo")));
    let folders = directory.ancestors().map(|ancestor| ancestor.join(".cargo")).chain(home);
    folders.into_iter().find_map(|folder| configured_target(&folder))
}

/// `build.target-dir` in the configuration of a folder, relative to the folder of the configuration. Of two files cargo
/// takes the one without an extension.
fn configured_target(folder: &Path) -> Option<PathBuf> {
    let text = ["config", "config.toml"].iter().find_map(|name| fs::read_to_string(folder.join(name)).ok())?;
    let config: Table = text.parse().ok()?;
    let target = config.get("build")?.get("target-dir")?.as_str()?;
    Some(normalized(&folder.parent()?.join(target)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_their_detours() {
        assert_eq!(normalized(Path::new("/a/./b/../c")), Path::new("/a/c"));
    }

    #[test]
    fn a_workspace_is_read_without_cargo() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "Cargo.toml",
            "[workspace]\nmembers = [\"app\", \"kernels/*\"]\nexclude = [\"kernels/old\"]\n[workspace.package]\nversion = \"1.2.3\"\n",
        );
        write("app/Cargo.toml", "[package]\nname = \"app\"\n");
        write("kernels/b/Cargo.toml", "[package]\nname = \"b\"\nversion.workspace = true\n");
        write("kernels/a/Cargo.toml", "[package]\nname = \"a\"\n");
        write("kernels/old/Cargo.toml", "[package]\nname = \"old\"\n");
        write("kernels/notes/README", "");
        write(".cargo/config.toml", "[build]\ntarget-dir = \"out\"\n");
        let names = |manifest: &str| {
            let workspace = workspace(&folder.path().join(manifest), folder.path()).unwrap();
            let root = workspace.root.strip_prefix(folder.path()).unwrap().to_owned();
            (root, workspace.members.into_iter().map(|member| member.name).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(names("Cargo.toml"), ("Cargo.toml".into(), "app a b".into()));
        assert_eq!(names("kernels/a/Cargo.toml"), ("Cargo.toml".into(), "app a b".into()));
        assert_eq!(names("kernels/old/Cargo.toml"), ("kernels/old/Cargo.toml".into(), "old".into()));
        let members = workspace(&folder.path().join("Cargo.toml"), folder.path()).unwrap().members;
        assert_eq!(members.iter().find(|member| member.name == "b").unwrap().version, "1.2.3");
    }

    #[test]
    fn the_target_directory_is_the_one_that_cargo_finds_from_here() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let config = |folder: &str, text: &str| {
            fs::create_dir_all(root.join(folder)).unwrap();
            fs::write(root.join(folder).join("config.toml"), text).unwrap();
        };
        config("ws/.cargo", "[build]\ntarget-dir = \"out\"\n");
        config("ws/app/.cargo", "[net]\noffline = true\n");
        config("home", "[build]\ntarget-dir = \"of-home\"\n");
        let find = |from: &str, variables: &[(&str, &str)]| {
            let home = root.join("home");
            let variable = |name: &str| {
                let found = variables.iter().find(|(other, _)| *other == name).map(|(_, value)| OsString::from(value));
                found.or_else(|| (name == "CARGO_HOME").then(|| home.clone().into()))
            };
            target_directory(&root.join(from), &variable)
        };
        assert_eq!(find("ws/app", &[]), Some(root.join("ws/out")), "the nearest that names one");
        assert_eq!(find("elsewhere", &[]), Some(root.join("of-home")));
        assert_eq!(find("ws/app", &[("CARGO_TARGET_DIR", "../t")]), Some(root.join("ws/t")));
        assert_eq!(find("ws/app", &[("CARGO_BUILD_TARGET_DIR", "b")]), Some(root.join("ws/app/b")));
        assert_eq!(find("ws", &[("CARGO_TARGET_DIR", "/t"), ("CARGO_BUILD_TARGET_DIR", "/b")]), Some("/t".into()));
    }
}
