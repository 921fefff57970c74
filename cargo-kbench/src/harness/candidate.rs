//! A candidate: a variant of the kernel's own source, or of a proposed source.

use std::io;
use std::path::Path;
use std::sync::Arc;

use kbench_runtime::fingerprint;

use crate::config::{Implementation, Kernel};
use crate::file;
use crate::record::evaluation::SourceRecord;
use crate::space::Variant;

/// A variant and its source: all that tells it from others of the same kernel.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The toggles.
    pub variant: Variant,
    /// The source, where it is not the kernel's own.
    pub source: Option<Arc<Proposed>>,
}

impl Candidate {
    /// The function that it is built from.
    pub fn implementation<'a>(&'a self, kernel: &'a Kernel) -> &'a Implementation {
        self.source.as_ref().map_or(&kernel.implementation, |source| &source.implementation)
    }

    /// The record of its source, where that is not the kernel's own.
    pub fn source_record(&self) -> Option<SourceRecord> {
        self.source.as_ref().map(|source| source.record.clone())
    }

    /// Its name: its toggles, and its source where that is not the kernel's own.
    pub fn label(&self, kernel: &Kernel) -> String {
        SourceRecord::label(self.source_record().as_ref(), &kernel.space.label(&self.variant))
    }

    /// Whether it is the default variant of the kernel's own source.
    pub fn is_default(&self, kernel: &Kernel) -> bool {
        self.is(&kernel.space.default)
    }

    /// Whether it is this variant of the kernel's own source.
    pub fn is(&self, variant: &Variant) -> bool {
        self.source.is_none() && self.variant == *variant
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.variant == other.variant && self.source_record() == other.source_record()
    }
}

impl Eq for Candidate {}

impl From<&Variant> for Candidate {
    /// A variant of the kernel's own source.
    fn from(variant: &Variant) -> Self {
        Self { variant: variant.clone(), source: None }
    }
}

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
