//! Owner of a target directory. A directory inside the workspace belongs to the workspace; any other may be shared by
//! unrelated projects.

use std::fs;
use std::path::{Path, PathBuf};

/// Whether `path`, whose last components may be missing, lies in the workspace below `root` and in no other project
/// below it. `manifests` are those of the workspace's packages.
pub(super) fn is_within(path: &Path, root: &Path, manifests: &[PathBuf]) -> bool {
    let (path, root) = (real(path), real(root));
    let manifests: Vec<PathBuf> = manifests.iter().map(|manifest| real(manifest)).collect();
    path.starts_with(&root)
        && path.ancestors().take_while(|ancestor| **ancestor != *root).all(|ancestor| {
            let manifest = ancestor.join("Cargo.toml");
            !manifest.is_file() || manifests.contains(&manifest)
        })
}

/// The path with links followed, up to the first missing component.
fn real(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let Ok(real) = fs::canonicalize(ancestor) {
            return match path.strip_prefix(ancestor) {
                Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
                _ => real,
            };
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_the_project_around_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("ws");
        for package in ["ws", "ws/app", "ws/other"] {
            fs::create_dir_all(folder.path().join(package)).unwrap();
            fs::write(folder.path().join(package).join("Cargo.toml"), "").unwrap();
        }
        let manifests = ["Cargo.toml", "app/Cargo.toml"].map(|name| root.join(name));
        let within = |path: &str| is_within(&folder.path().join(path), &root, &manifests);
        assert!(within("ws") && within("ws/target") && within("ws/a/b/c") && within("ws/app/target"));
        assert!(!within("target") && !within("wst") && !within("ws/../target") && !within("."));
        assert!(!within("ws/other") && !within("ws/other/target"), "another project, which is no member");
        std::os::unix::fs::symlink(folder.path(), root.join("out")).unwrap();
        assert!(!within("ws/out/x"), "a link leads out");
    }
}
