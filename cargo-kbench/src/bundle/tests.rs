use std::io::Write as _;
use std::path::PathBuf;

use kbench_runtime::fingerprint;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::read::BundleError;
use super::*;

/// An archive with any entries, types and order.
fn archive(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let compressed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(compressed);
    for (name, kind, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        // `set_path` would refuse such names.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        if kind.is_symlink() {
            header.set_link_name("/etc").unwrap();
            header.set_size(0);
        }
        header.set_cksum();
        let bytes = if kind.is_symlink() { &[][..] } else { bytes };
        archive.append(&header, bytes).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

/// The manifest of a bundle with these files.
fn manifest(files: &[(&str, &[u8])]) -> Value {
    let record = |(path, bytes): &(&str, &[u8])| json!({ "path": path, "bytes": bytes.len(), "hash": fingerprint::of_bytes(bytes) });
    json!({
        "format": FORMAT,
        "version": VERSION,
        "kbench": env!("CARGO_PKG_VERSION"),
        "kernels": [],
        "host": null,
        "files": files.iter().map(record).collect::<Vec<_>>(),
        "units": {},
    })
}

/// A bundle of a manifest and files.
fn bundle(manifest: &Value, files: &[(&str, &[u8])]) -> Vec<u8> {
    let text = manifest.to_string();
    let mut entries = vec![(MANIFEST, tar::EntryType::Regular, text.as_bytes())];
    entries.extend(files.iter().map(|(name, bytes)| (*name, tar::EntryType::Regular, *bytes)));
    archive(&entries)
}

/// The result of opening these bytes, every file below the bundle's folder, and whether a file was written beside that
/// folder.
fn opened(bytes: &[u8]) -> (Result<Bundle, BundleError>, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.bundle");
    std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
    let scratch = folder.path().join("in/scratch");
    let opened = Bundle::open(&path, &scratch, &folder.path().join("work"));
    let pattern = format!("{}/**/*", folder.path().display());
    let all = glob::glob(&pattern).unwrap().map(Result::unwrap);
    let is_outside = |found: &PathBuf| found.is_file() && *found != path && !found.starts_with(&scratch);
    (opened, all.filter(is_outside).collect())
}

fn refused(bytes: &[u8], why: &str) {
    let (opened, outside) = opened(bytes);
    let error = opened.expect_err(why).to_string();
    assert!(error.contains(why), "{why}: {error}");
    assert_eq!(outside, Vec::<PathBuf>::new());
}

#[test]
fn a_bundle_is_unpacked_below_its_folder() {
    let files: [(&str, &[u8]); 2] = [("package/Cargo.toml", b"[workspace]"), ("package/a/b.npy", b"")];
    let (opened, outside) = opened(&bundle(&manifest(&files), &files));
    let opened = opened.unwrap();
    assert!(opened.root.ends_with("package") && outside.is_empty());
    assert!(opened.kernels.is_empty());
}

#[test]
fn paths_out_of_the_folder_are_refused() {
    let absolute = if cfg!(unix) { "/tmp/kbench-escaped" } else { "C:\\escaped" };
    for path in [
        "../escaped",
        "package/../../escaped",
        "package/./x",
        "package//x",
        "package/",
        "package",
        absolute,
        "elsewhere/x",
        "bundle.json",
        "",
        "package/a\0b",
        "package/..",
    ] {
        let files: [(&str, &[u8]); 1] = [(path, b"x")];
        let text = manifest(&files).to_string();
        let named = path.replace('\0', "");
        let entries =
            [(MANIFEST, tar::EntryType::Regular, text.as_bytes()), (named.as_str(), tar::EntryType::Regular, b"x")];
        refused(&archive(&entries), "not a bundle, or damaged");
    }
    assert!(!std::path::Path::new("/tmp/kbench-escaped").exists());
}

#[test]
fn links_and_unlisted_files_are_refused() {
    let files: [(&str, &[u8]); 1] = [("package/x", b"x")];
    let text = manifest(&files).to_string();
    let first = (MANIFEST, tar::EntryType::Regular, text.as_bytes());
    for kind in [
        tar::EntryType::Symlink,
        tar::EntryType::Link,
        tar::EntryType::Directory,
        tar::EntryType::Char,
        tar::EntryType::GNULongName,
    ] {
        refused(&archive(&[first, ("package/x", kind, b"x")]), "is not where it is expected");
    }
    let regular = tar::EntryType::Regular;
    refused(&archive(&[first, ("package/y", regular, b"x")]), "is not where it is expected");
    refused(&archive(&[first, ("package/x", regular, b"y")]), "another hash");
    refused(&archive(&[first, ("package/x", regular, b"xx")]), "an entry of 2 bytes");
    refused(&archive(&[first]), "is missing");
    refused(
        &archive(&[first, ("package/x", regular, b"x"), ("package/y", regular, b"x")]),
        "more than its manifest lists",
    );
    refused(&archive(&[("package/x", regular, b"x"), first]), "is not where it is expected");
    // The same path twice, also in the list, and a file that is a folder of another.
    let twice: [(&str, &[u8]); 2] = [("package/x", b"x"), ("package/x", b"x")];
    refused(&bundle(&manifest(&twice), &twice), "damaged");
    let nested: [(&str, &[u8]); 2] = [("package/x", b"x"), ("package/x/y", b"x")];
    assert!(opened(&bundle(&manifest(&nested), &nested)).0.is_err());
}

#[test]
fn other_versions_hosts_and_sizes_are_refused() {
    let changed = |key: &str, value: Value| {
        let mut manifest = manifest(&[]);
        manifest[key] = value;
        bundle(&manifest, &[])
    };
    refused(&changed("kbench", "9.9.9".into()), "cargo-kbench 9.9.9 wrote it");
    refused(&changed("version", 9.into()), "wrote it");
    refused(&changed("format", "zip".into()), "something else");
    refused(&changed("more", 1.into()), "unknown field");
    refused(&changed("host", json!({ "arch": "pdp11", "os": "linux", "features": [] })), "its C code is for pdp11");
    let arch = std::env::consts::ARCH;
    let features = json!({ "arch": arch, "os": std::env::consts::OS, "features": ["avx9000"] });
    refused(&changed("host", features), "compiled for a processor with avx9000");
    let huge = json!([{ "path": "package/x", "bytes": MOST_BYTES + 1, "hash": "0" }]);
    refused(&changed("files", huge), "bytes");
    let sum = json!([{ "path": "package/x", "bytes": u64::MAX, "hash": "0" }, { "path": "package/y", "bytes": 2, "hash": "0" }]);
    refused(&changed("files", sum), "bytes");
    let misnamed: [(&str, &[u8]); 1] = [("code/0123.so", b"x")];
    refused(&bundle(&manifest(&misnamed), &misnamed), "not named by its hash");
    let record = json!({ "hash": "../../x", "identity": "", "functions": [], "command": [], "link": [], "source_hash": "", "messages": "" });
    refused(&changed("units", json!({ "k": { "code": { "compiler": "c", "record": record } } })), "machine code");
    let mut longer = bundle(&manifest(&[]), &[]);
    let last = longer.len() - 6;
    longer[last] ^= 1;
    refused(&longer, "damaged");
    refused(b"", "damaged");
    refused(b"no archive", "damaged");
}

#[test]
fn features_are_those_that_compilers_use() {
    let intel = "processor : 0\nflags\t\t: fpu vme sse4_2 avx2 hypervisor avx512f\n\nprocessor : 1\nflags : amx_tile\n";
    assert_eq!(features(intel).into_iter().collect::<Vec<_>>(), ["avx2", "avx512f", "sse4_2"]);
    assert_eq!(features("Features : fp asimd\n").into_iter().collect::<Vec<_>>(), ["asimd", "fp"]);
}

proptest! {
    /// A changed bundle is refused or has its original contents; no file is written outside the folder, and no change
    /// causes a panic.
    #[test]
    fn broken_bundles_do_no_harm(
        contents in proptest::collection::vec(any::<u8>(), 0..2000),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        inside in any::<bool>(),
    ) {
        let files: [(&str, &[u8]); 2] = [("package/Cargo.toml", b"[workspace]"), ("package/data.npy", &contents)];
        let mut bytes = bundle(&manifest(&files), &files);
        let change = |bytes: &mut Vec<u8>| {
            for (at, value) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            if let Some(cut) = &cut {
                bytes.truncate(cut.index(bytes.len()));
            }
        };
        if inside {
            // The checksum of the compressed file does not cover these changes.
            let mut plain = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut plain).unwrap();
            change(&mut plain);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&plain).unwrap();
            bytes = encoder.finish().unwrap();
        } else {
            change(&mut bytes);
        }
        let (opened, outside) = opened(&bytes);
        prop_assert_eq!(outside, Vec::<PathBuf>::new());
        if let Ok(bundle) = opened {
            prop_assert!(bundle.kernels.is_empty() && bundle.carried.units.is_empty());
        }
    }
}
