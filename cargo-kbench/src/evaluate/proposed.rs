//! A source in place of the kernel's own.

use std::io;
use std::path::Path;

use kbench_runtime::fingerprint;

use crate::config::{Implementation, Kernel};
use crate::file;
use crate::record::evaluation::SourceRecord;

/// A source that a proposer handed in. Everything but the source is the kernel's: arguments, launch, flags, gates.
#[derive(Debug, Clone)]
pub struct Proposed {
    /// Its name, hash and file.
    pub record: SourceRecord,
    /// The kernel's function in that file.
    pub implementation: Implementation,
}

impl Proposed {
    /// Keeps a source as `folder/<hash>.<extension>`; its record names the file relative to `root`.
    pub fn keep(kernel: &Kernel, name: &str, text: &str, folder: &Path, root: &Path) -> io::Result<Self> {
        let hash = fingerprint::of_bytes(text.as_bytes());
        let extension = kernel.implementation.source.extension().unwrap_or_default();
        let path = folder.join(&hash).with_extension(extension);
        // Left alone where it is there: its age is part of what the compile cache looks at.
        if std::fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            std::fs::create_dir_all(folder).map_err(|error| file::in_context(folder, &error))?;
            file::write(&path, text.as_bytes())?;
        }
        let record = SourceRecord { name: name.to_owned(), hash, path: file::relative(&path, root) };
        Ok(Self { record, implementation: kernel.implementation.in_source(path) })
    }

    /// The source of a record below `root`. A file that is gone, or is not what was measured, is an error.
    pub fn find(kernel: &Kernel, record: &SourceRecord, root: &Path) -> io::Result<Self> {
        let path = root.join(&record.path);
        let text = std::fs::read(&path).map_err(|error| file::in_context(&path, &error))?;
        if fingerprint::of_bytes(&text) != record.hash {
            return Err(file::invalid(&path, "not the source that was measured: its hash is another"));
        }
        Ok(Self { record: record.clone(), implementation: kernel.implementation.in_source(path) })
    }
}
