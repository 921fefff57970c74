//! Workspaces as cargo sees them, without cargo: `[workspace] members` (patterns) and `exclude`, the root package,
//! `CARGO_TARGET_DIR` and `build.target-dir`. Not followed: path dependencies that are members without being listed.

use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use toml::{Table, Value};

use super::super::load::LoadError;
use super::{Member, Workspace};

pub(super) fn workspace(manifest: &Path) -> Result<Workspace, LoadError> {
    let own = read(manifest)?;
    let root = root(manifest, &own)?;
    let table = if root == manifest { own } else { read(&root)? };
    let members = members(&root, &table)?;
    // A package outside the workspace above it is one by itself.
    let (root, members) = if root == manifest || members.iter().any(|member| member.manifest == manifest) {
        (root, members)
    } else {
        (manifest.to_owned(), member(manifest, &table)?.into_iter().collect())
    };
    Ok(Workspace { target_directory: target_directory(&root), root, members })
}

fn read(manifest: &Path) -> Result<Table, LoadError> {
    let text = fs::read_to_string(manifest).map_err(|error| LoadError::Read(manifest.to_owned(), error))?;
    text.parse().map_err(|error: toml::de::Error| LoadError::Cargo(format!("{}: {error}", manifest.display())))
}

fn root(manifest: &Path, own: &Table) -> Result<PathBuf, LoadError> {
    if own.contains_key("workspace") {
        return Ok(manifest.to_owned());
    }
    let directory = manifest.parent().unwrap_or(Path::new("."));
    if let Some(path) = own.get("package").and_then(|package| package.get("workspace")).and_then(Value::as_str) {
        return Ok(normalize(&directory.join(path).join("Cargo.toml")));
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
    let excluded: Vec<PathBuf> = list("exclude").iter().map(|path| normalize(&directory.join(path))).collect();
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

/// The package of a manifest; `root` is the manifest that it may inherit its version from.
fn member(manifest: &Path, root: &Table) -> Result<Option<Member>, LoadError> {
    let table = read(manifest)?;
    let package = table.get("package");
    let text = |key: &str| package?.get(key)?.as_str();
    let inherited = || root.get("workspace")?.get("package")?.get("version")?.as_str();
    let version = text("version").or_else(inherited).unwrap_or_default().to_owned();
    Ok(text("name").map(|name| Member { name: name.to_owned(), version, manifest: manifest.to_owned() }))
}

/// The folders that a pattern names, sorted.
fn expand(directory: &Path, pattern: &str) -> Vec<PathBuf> {
    let directory = glob::Pattern::escape(&directory.to_string_lossy());
    let Ok(paths) = glob::glob(&format!("{directory}/{pattern}")) else { return Vec::new() };
    paths.filter_map(Result::ok).filter(|path| path.is_dir()).map(|folder| normalize(&folder)).collect()
}

/// Without `.` and `..`, by text alone.
fn normalize(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

fn target_directory(root: &Path) -> PathBuf {
    let directory = root.parent().unwrap_or(Path::new("."));
    let variable = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    if let Some(target) = variable("CARGO_TARGET_DIR").or_else(|| variable("CARGO_BUILD_TARGET_DIR")) {
        return std::path::absolute(&target).unwrap_or_else(|_| target.into());
    }
    configured_target(directory).unwrap_or_else(|| directory.join("target"))
}

/// `build.target-dir` of the nearest `.cargo/config.toml`, relative to the folder that holds `.cargo`.
fn configured_target(directory: &Path) -> Option<PathBuf> {
    directory.ancestors().find_map(|ancestor| {
        let config: Table = fs::read_to_string(ancestor.join(".cargo/config.toml")).ok()?.parse().ok()?;
        Some(ancestor.join(config.get("build")?.get("target-dir")?.as_str()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_their_detours() {
        assert_eq!(normalize(Path::new("/a/./b/../c")), Path::new("/a/c"));
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
            let workspace = workspace(&folder.path().join(manifest)).unwrap();
            let root = workspace.root.strip_prefix(folder.path()).unwrap().to_owned();
            (root, workspace.members.into_iter().map(|member| member.name).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(names("Cargo.toml"), ("Cargo.toml".into(), "app a b".into()));
        assert_eq!(names("kernels/a/Cargo.toml"), ("Cargo.toml".into(), "app a b".into()));
        assert_eq!(names("kernels/old/Cargo.toml"), ("kernels/old/Cargo.toml".into(), "old".into()));
        let members = workspace(&folder.path().join("Cargo.toml")).unwrap().members;
        assert_eq!(members.iter().find(|member| member.name == "b").unwrap().version, "1.2.3");
        assert_eq!(configured_target(&folder.path().join("app")), Some(folder.path().join("out")));
    }
}
