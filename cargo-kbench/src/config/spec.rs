//! Arguments of `-p`: a package ID specification or a pattern, as cargo reads them.

use std::path::{Path, PathBuf};

use super::manifest::Member;
use crate::file::same_file;

/// `name`, `name@1.2`, `path+file:///folder#name@1.2.3`, or a pattern of names.
#[derive(Debug)]
pub(super) enum Spec {
    /// `kernel-*`.
    Pattern(glob::Pattern),
    /// A specification, all parts of which must match.
    Id {
        name: Option<String>,
        /// A version: `1`, `1.2` or complete.
        version: Option<String>,
        folder: Option<PathBuf>,
    },
}

impl Spec {
    pub(super) fn parse(text: &str) -> Result<Self, glob::PatternError> {
        if let Some((kind, rest)) = text.split_once("://") {
            let (url, fragment) = rest.split_once('#').map_or((rest, None), |(url, fragment)| (url, Some(fragment)));
            let is_folder = matches!(kind, "file" | "path+file");
            // A package outside of the workspace is not a member: no folder matches.
            let folder = if is_folder { PathBuf::from(decoded(url)) } else { PathBuf::from(text) };
            let (name, version) = match fragment {
                Some(fragment) if fragment.starts_with(|c: char| c.is_ascii_digit()) => (None, Some(fragment)),
                Some(fragment) => name_and_version(fragment),
                None => (None, None),
            };
            return Ok(Self::Id {
                name: name.map(str::to_owned),
                version: version.map(str::to_owned),
                folder: Some(folder),
            });
        }
        if text.contains(['*', '?', '[', ']']) {
            return glob::Pattern::new(text).map(Self::Pattern);
        }
        let (name, version) = name_and_version(text);
        Ok(Self::Id { name: name.map(str::to_owned), version: version.map(str::to_owned), folder: None })
    }

    pub(super) fn matches(&self, member: &Member) -> bool {
        match self {
            Self::Pattern(pattern) => pattern.matches(&member.name),
            Self::Id { name, version, folder } => {
                let directory = member.manifest.parent().unwrap_or(Path::new("."));
                name.as_ref().is_none_or(|name| *name == member.name)
                    && version.as_ref().is_none_or(|version| is_version(version, &member.version))
                    && folder.as_ref().is_none_or(|folder| same_file(folder, directory))
            }
        }
    }
}

fn name_and_version(text: &str) -> (Option<&str>, Option<&str>) {
    match text.split_once(['@', ':']) {
        Some((name, version)) => (Some(name), Some(version)),
        None => (Some(text), None),
    }
}

/// Whether a version matches: omitted parts may have any value, but a pre-release must be named.
fn is_version(asked: &str, version: &str) -> bool {
    asked == version
        || !version.contains('-') && {
            let version = version.split('+').next().unwrap_or_default();
            asked == version || version.strip_prefix(asked).is_some_and(|rest| rest.starts_with('.'))
        }
}

/// The path of a file URL.
fn decoded(url: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), url.as_bytes());
    while let [first, after @ ..] = rest {
        let code = after.get(..2).and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        let code = code.filter(|_| *first == b'%');
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_are_read_as_cargo_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b");
        std::fs::create_dir(&path).unwrap();
        let member = Member {
            name: "case".into(),
            version: "1.2.3+4".into(),
            edition: "2024".into(),
            manifest: path.join("Cargo.toml"),
        };
        let url = format!("file://{}", path.display()).replace(' ', "%20");
        let matches = |text: &str| Spec::parse(text).unwrap().matches(&member);
        for text in
            ["case", "case@1.2.3", "case@1.2", "case@1", "case:1.2.3", "case@1.2.3+4", "ca*", "c?se", "[a-c]ase"]
        {
            assert!(matches(text), "{text}");
        }
        for text in ["", "#1.2.3", "#1.2", "#case", "#case@1.2.3", "#case:1"] {
            assert!(matches(&format!("{url}{text}")) && matches(&format!("path+{url}{text}")), "{text}");
        }
        for text in [
            "cas",
            "case@1.3",
            "case@1.2.30",
            "case@1.",
            "case@",
            "other@1.2.3",
            "cb*",
            "registry+https://example.org/i#case",
        ] {
            assert!(!matches(text), "{text}");
        }
        for text in ["#2", "#other", "/elsewhere", "#case@2"] {
            assert!(!matches(&format!("{url}{text}")), "{text}");
        }
        let member = Member { version: "2.0.0-rc.1".into(), ..member };
        let matches = |text: &str| Spec::parse(text).unwrap().matches(&member);
        assert!(matches("case") && matches("case@2.0.0-rc.1") && !matches("case@2.0.0") && !matches("case@2"));
        assert!(Spec::parse("a**b").is_err());
    }
}
