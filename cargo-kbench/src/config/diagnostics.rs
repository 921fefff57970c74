//! Mistakes in a manifest, drawn at their place in rustc's style.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use schemars::JsonSchema;
use serde::Serialize;

use crate::text::{count, printable, steers};

/// A manifest that was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// Absolute path of the file.
    pub path: PathBuf,
    /// Path in messages.
    pub shown: String,
    /// Contents of the file.
    pub text: String,
}

impl Source {
    /// The folder that paths in this manifest are relative to.
    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }
}

/// A part of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The manifest.
    pub source: Arc<Source>,
    /// Bytes of its text.
    pub range: Range<usize>,
}

impl Place {
    /// Line and column of a byte of the text, each from 1; columns count characters.
    fn line_and_column(&self, byte: usize) -> (usize, usize) {
        let before = &self.source.text[..byte];
        let line = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line..].chars().count() + 1)
    }

    /// The place of a mistake outside of any manifest.
    #[cfg(test)]
    pub fn nowhere() -> Self {
        let source = Source { path: PathBuf::new(), shown: String::new(), text: String::new() };
        Self { source: Arc::new(source), range: 0..0 }
    }
}

/// Severity of a [`Diagnostic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// An error: no verb runs.
    Error,
    /// A warning: verbs run.
    Warning,
}

/// A place of a diagnostic for programs, with the names of rustc's JSON messages.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Span<'a> {
    /// Path of the manifest, relative to the current folder where the manifest is below it.
    pub file_name: &'a str,
    /// First byte, from 0.
    pub byte_start: usize,
    /// The byte after the last.
    pub byte_end: usize,
    /// Line of the first byte, from 1.
    pub line_start: usize,
    /// Line of the end, from 1.
    pub line_end: usize,
    /// Column of the first byte, from 1; columns count characters.
    pub column_start: usize,
    /// Column of the end, from 1.
    pub column_end: usize,
    /// Whether this is the place of the mistake; other places explain it.
    pub is_primary: bool,
    /// Explanation of the place; may be empty.
    pub label: &'a str,
}

/// One mistake, with its place and a remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Severity.
    pub severity: Severity,
    /// The mistake: a lowercase fragment.
    pub message: String,
    /// Places, each with a label; the first is the place of the mistake, the others explain it.
    pub places: Vec<(Place, String)>,
    /// The remedy.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error without a place.
    pub fn error(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), places: Vec::new(), help: Vec::new() }
    }

    /// A warning without a place.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    /// Adds a place.
    #[must_use]
    pub fn at(mut self, place: &Place, label: impl Into<String>) -> Self {
        self.places.push((place.clone(), label.into()));
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Adds "did you mean" with a similar name, or else the list of all names.
    #[must_use]
    pub fn suggest<'c>(self, word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Self {
        let candidates: Vec<&str> = candidates.into_iter().collect();
        match crate::text::did_you_mean(word, candidates.iter().copied()) {
            Some(near) => self.help(format!("did you mean `{near}`?")),
            None if candidates.is_empty() => self,
            None if candidates.len() == 1 => self.help(format!("there is {}", crate::text::list(&candidates))),
            None => self.help(format!("there are {}", crate::text::list(&candidates))),
        }
    }

    /// Places of the mistake for programs, the main one first.
    pub fn spans<'s>(&'s self) -> Vec<Span<'s>> {
        let span = |(index, (place, label)): (usize, &'s (Place, String))| {
            let Range { start, end } = place.range;
            let ((line_start, column_start), (line_end, column_end)) =
                (place.line_and_column(start), place.line_and_column(end));
            Span {
                file_name: &place.source.shown,
                byte_start: start,
                byte_end: end,
                line_start,
                line_end,
                column_start,
                column_end,
                is_primary: index == 0,
                label,
            }
        };
        self.places.iter().enumerate().map(span).collect()
    }

    /// The drawing in rustc's style, without a newline at the end; with ANSI colours if `color`.
    pub fn render(&self, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(printable(&self.message)));
        for (index, (place, _)) in self.places.iter().enumerate() {
            let first = self.places.iter().position(|(other, _)| other.source == place.source);
            if first == Some(index) {
                group = group.element(self.snippet(&place.source));
            }
        }
        for help in &self.help {
            group = group.element(Level::HELP.message(printable(help)));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        // The renderer replaces most control characters in the lines that it draws. The remaining ones have the width
        // of one column.
        renderer.render(&[group]).replace(|c| c != '\u{1b}' && steers(c), "\u{fffd}")
    }

    /// The diagnostics of one manifest.
    fn snippet<'a>(&'a self, source: &'a Arc<Source>) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let annotations = self.places.iter().enumerate().filter(|(_, (place, _))| place.source == *source);
        let annotations = annotations.map(|(index, (place, label))| {
            let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            let annotation = kind.span(place.range.clone());
            if label.is_empty() { annotation } else { annotation.label(printable(label)) }
        });
        Snippet::source(source.text.as_str()).path(printable(&source.shown)).annotations(annotations)
    }
}

/// Every configuration error of a run; at least one.
#[derive(Debug, Clone)]
pub struct ConfigErrors {
    /// Errors and warnings, in the order of the manifest.
    pub diagnostics: Vec<Diagnostic>,
}

impl ConfigErrors {
    /// Number of errors among them.
    pub fn count(&self) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count()
    }

    /// All diagnostics, with a blank line after each; with ANSI colours if `color`.
    pub fn render(&self, color: bool) -> String {
        self.diagnostics.iter().map(|diagnostic| diagnostic.render(color) + "\n\n").collect()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in the configuration", count(self.count(), "error"))
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects the diagnostics of all readers of a manifest, so that one mistake hides no other.
#[derive(Debug, Default)]
pub(super) struct Report {
    diagnostics: RefCell<Vec<Diagnostic>>,
    errors: Cell<usize>,
}

impl Report {
    /// Adds a diagnostic, unless it is present: a default is read once for every kernel that inherits it.
    pub(super) fn push(&self, diagnostic: Diagnostic) {
        if diagnostic.severity == Severity::Error {
            self.errors.set(self.errors.get() + 1);
        }
        let mut diagnostics = self.diagnostics.borrow_mut();
        if !diagnostics.contains(&diagnostic) {
            diagnostics.push(diagnostic);
        }
    }

    /// Adds a diagnostic, or adds its place to the same error at another place.
    pub(super) fn gather(&self, diagnostic: Diagnostic) {
        let mut diagnostics = self.diagnostics.borrow_mut();
        let is_same =
            |other: &Diagnostic| (other.severity, &other.message) == (diagnostic.severity, &diagnostic.message);
        let same = diagnostics.iter_mut().find(|other| is_same(other));
        let Some(same) = same else {
            drop(diagnostics);
            return self.push(diagnostic);
        };
        for (place, _) in diagnostic.places {
            if same.places.iter().all(|(other, _)| *other != place) {
                same.places.push((place, String::new()));
            }
        }
        self.errors.set(self.errors.get() + 1);
    }

    /// Adds an error at one place.
    pub(super) fn error(&self, place: &Place, message: impl Into<String>, label: impl Into<String>) {
        self.push(Diagnostic::error(message).at(place, label));
    }

    /// Number of errors so far, repeated ones included. A caller compares two values to learn whether a part was free
    /// of errors.
    pub(super) fn errors(&self) -> usize {
        self.errors.get()
    }

    /// All diagnostics, sorted by place within each manifest.
    pub(super) fn finish(self) -> Vec<Diagnostic> {
        let mut diagnostics = self.diagnostics.into_inner();
        diagnostics.sort_by_key(|diagnostic| {
            diagnostic.places.first().map(|(place, _)| (place.source.path.clone(), place.range.start))
        });
        diagnostics
    }
}
