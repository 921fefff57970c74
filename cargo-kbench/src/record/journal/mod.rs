//! The append-only record of a run: one JSON line for each finished step, written before the next step begins.
//!
//! A resumed run makes the same requests in the same order and finds finished ones in the journal, so the loop is the
//! same. Any other run also looks there, and reuses the variants that an earlier run measured.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::file;
use crate::record::evaluation::Evaluation;
use crate::text;

mod line;
pub mod merge;
mod record;
mod run_cache;

pub use record::{Comparison, ComparisonEntry, EntryRole, Record, Round, SanitizedRun, Start};
pub use run_cache::RunCache;

/// Version of the lines.
pub const VERSION: u32 = 2;

/// An open journal, locked against other runs.
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Drop for Journal {
    /// Releases the lock. A child process holds a copy of the descriptor, and with it the lock, until it runs its own
    /// program: closing the file would not release that copy.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

/// The measurements of earlier runs that a run reuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// A search without measurements.
    Nothing,
    /// Times of variants under the same conditions.
    Variants,
    /// All records of the resumed run, and of the runs that it resumed.
    Run,
}

/// Size of a journal in bytes below which compaction is not worth its time.
const LARGE: usize = 1 << 20;

impl Journal {
    /// Opens or creates the journal at `path`, with the measurements to reuse. A journal that another run has open is
    /// an error. An incomplete last line is removed.
    pub fn open(path: &Path, reuse: Reuse) -> io::Result<(Self, RunCache)> {
        let in_context = |error: io::Error| file::in_context(path, &error);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(in_context)?;
        }
        let mut file = loop {
            let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(in_context)?;
            file::check_ordinary(&file).map_err(in_context)?;
            match file.try_lock() {
                Err(std::fs::TryLockError::WouldBlock) => {
                    return Err(io::Error::new(
                        io::ErrorKind::ResourceBusy,
                        format!(
                            "{}: another kbench is running on this kernel; wait for it, or give this one a --target-dir of its own",
                            path.display()
                        ),
                    ));
                }
                // On a file system without locks the run continues, as cargo does.
                Ok(()) | Err(std::fs::TryLockError::Error(_)) => {}
            }
            // Another run may have replaced the file by a shorter one.
            if crate::file::is_file_at(&file, path) {
                break file;
            }
        };
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(in_context)?;
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        if whole < text.len() {
            file.set_len(whole as u64).map_err(in_context)?;
            file.seek(SeekFrom::End(0)).map_err(in_context)?;
        }
        text.truncate(whole);
        let (known, kept) = RunCache::parse(&text, reuse);
        if kept.is_worth_it(text.len()) {
            // A journal that cannot be compacted only costs time.
            file = compact(path, &text, &kept).unwrap_or(file);
        }
        Ok((Self { path: path.to_owned(), file }, known))
    }

    /// Appends a line in one write. If there is no space for the whole line, the file is cut to its former length, so
    /// that later lines are complete.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        self.append_line(&line::encode(record)?)
    }

    /// Appends an evaluation like [`append`](Self::append).
    pub fn append_evaluation(&mut self, evaluation: &Evaluation) -> io::Result<()> {
        self.append_line(&line::encode_evaluation(evaluation)?)
    }

    fn append_line(&mut self, line: &[u8]) -> io::Result<()> {
        let before = self.file.metadata().map(|metadata| metadata.len());
        self.file.write_all(line).map_err(|error| {
            let _ = before.and_then(|length| self.file.set_len(length));
            crate::file::in_context(&self.path, &error)
        })
    }

    /// Appends the first line of a run.
    pub fn start(&mut self, start: Start) -> io::Result<()> {
        self.append(&Record::Start(Start { version: VERSION, ..start }))
    }
}

/// The records of a journal's lines; `None` for each damaged line.
pub fn records(text: &[u8]) -> impl Iterator<Item = Option<Record>> {
    lines(text).map(|(_, line)| line::decode(line))
}

/// The lines that are not empty: position and length with the newline, and text without it.
fn lines(text: &[u8]) -> impl Iterator<Item = (Range<usize>, &[u8])> {
    let mut start = 0;
    let lines = text.split_inclusive(|&byte| byte == b'\n').map(move |line| {
        let place = start..start + line.len();
        start = place.end;
        (place, line.strip_suffix(b"\n").unwrap_or(line))
    });
    lines.filter(|(_, line)| !line.is_empty())
}

/// The parts of a journal that later runs need.
#[derive(Debug, Default)]
struct Kept {
    /// The last valid line of each variant of earlier runs.
    earlier: Vec<Range<usize>>,
    /// Start of the last run and of the runs that it resumed.
    last_run: usize,
}

impl Kept {
    /// Whether compaction would make a journal of this length much shorter.
    fn is_worth_it(&self, bytes: usize) -> bool {
        let dropped = self.last_run - self.earlier.iter().map(Range::len).sum::<usize>();
        bytes > LARGE && dropped > bytes / 2
    }
}

/// Replaces a journal by the needed parts, completely or not at all. The new file is locked before it gets the name.
fn compact(path: &Path, text: &[u8], kept: &Kept) -> io::Result<File> {
    let temporary = path.with_extension("jsonl.new");
    // Removes the file of a run that was killed during compaction.
    let _ = std::fs::remove_file(&temporary);
    let mut file = OpenOptions::new().read(true).append(true).create_new(true).open(&temporary)?;
    let _ = file.try_lock();
    let mut short = line::encode(&Record::Start(Start { version: VERSION, ..Start::default() }))?;
    for place in &kept.earlier {
        short.extend(&text[place.clone()]);
    }
    short.extend(&text[kept.last_run..]);
    file.write_all(&short)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    Ok(file)
}

/// The message about damaged lines of a journal.
pub fn damaged_lines(lines: usize) -> String {
    let are = if lines == 1 { "is damaged and was" } else { "are damaged and were" };
    format!("{} of the journal {are} passed over", text::count(lines, "line"))
}

#[cfg(test)]
mod tests;
