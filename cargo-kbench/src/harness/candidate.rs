//! A candidate: a variant of the kernel's own source, or of a proposed source.

use std::io;
use std::path::Path;
use std::sync::Arc;

use kbench_runtime::fingerprint;

use crate::config::{Implementation, Kernel};
use crate::file;
use crate::record::evaluation::SourceRecord;
use crate::space::Variant;

/// A variant and its source, which together distinguish it from others of the same kernel.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The toggles.
    pub variant: Variant,
    /// A proposed source; none for the kernel's own.
    pub source: Option<Arc<Proposed>>,
}

impl Candidate {
    /// The function to build.
    pub fn implementation<'a>(&'a self, kernel: &'a Kernel) -> &'a Implementation {
        self.source.as_ref().map_or(&kernel.implementation, |source| &source.implementation)
    }

    /// Record of the proposed source; none for the kernel's own.
    pub fn source_record(&self) -> Option<SourceRecord> {
        self.source.as_ref().map(|source| source.record.clone())
    }

    /// Label: toggles, and the name of a proposed source.
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

/// A source that a proposer sent. Arguments, launch, flags and gates are the kernel's.
#[derive(Debug, Clone)]
pub struct Proposed {
    /// Name, hash and file of the source.
    pub record: SourceRecord,
    /// The kernel's function in that file.
    pub implementation: Implementation,
}

impl Proposed {
    /// Writes a source to `folder/<hash>.<extension>`; its record names the file relative to `root`.
    pub fn keep(kernel: &Kernel, name: &str, text: &str, folder: &Path, root: &Path) -> io::Result<Self> {
        let hash = fingerprint::of_bytes(text.as_bytes());
        let extension = kernel.implementation.source.extension().unwrap_or_default();
        let path = folder.join(&hash).with_extension(extension);
        // An existing file is not written again: the compile cache looks at its age.
        if std::fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            std::fs::create_dir_all(folder).map_err(|error| file::in_context(folder, &error))?;
            file::write(&path, text.as_bytes())?;
        }
        let record = SourceRecord { name: name.to_owned(), hash, path: file::relative(&path, root) };
        Ok(Self { record, implementation: kernel.implementation.in_source(path) })
    }

    /// The source of a record below `root`. A missing or changed file is an error.
    pub fn find(kernel: &Kernel, record: &SourceRecord, root: &Path) -> io::Result<Self> {
        let path = root.join(&record.path);
        let text = std::fs::read(&path).map_err(|error| file::in_context(&path, &error))?;
        if fingerprint::of_bytes(&text) != record.hash {
            return Err(file::invalid(&path, "not the source that was measured: the hash differs"));
        }
        Ok(Self { record: record.clone(), implementation: kernel.implementation.in_source(path) })
    }
}
