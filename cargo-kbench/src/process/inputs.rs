//! Inputs that programs of the table write: once for each shape, kept until the command or a file that it names
//! changes.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kbench_runtime::fingerprint;

use crate::config::{Init, Kernel, Shape};
use crate::expr::{Template, Value};
use crate::file;
use crate::process::group::{Finish, GRACE, Output, ProcessGroup};
use crate::process::in_package;

/// Reason why a program has not written an input.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// An error of a file of cargo-kbench.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// An expression among the arguments has no value.
    #[error("the command of `{tensor}` at shape `{shape}`: {why}")]
    Argument {
        /// The tensor.
        tensor: String,
        /// The shape.
        shape: String,
        /// Reason.
        why: String,
    },
    /// The program failed.
    #[error("the command of `{tensor}` at shape `{shape}`, `{command}`, {why}")]
    Program {
        /// The tensor.
        tensor: String,
        /// The shape.
        shape: String,
        /// The program and its arguments.
        command: String,
        /// Description of the failure.
        why: String,
    },
}

/// Runs the programs that write the inputs of a kernel, if the inputs are missing; `tell` gets a message for each.
pub fn make(kernel: &mut Kernel, package: &Path, work_directory: &Path, tell: &dyn Fn(&str)) -> Result<(), InputError> {
    let folder = work_directory.join("inputs");
    let shapes = &kernel.shapes;
    for tensor in &mut kernel.tensors {
        let Init::Command { command, tensor: named, made } = &mut tensor.init else { continue };
        let extension = if named.is_some() { "safetensors" } else { "npy" };
        *made = Vec::new();
        for shape in shapes {
            let words = words(command, shape).map_err(|why| {
                let (tensor, shape) = (tensor.name.clone(), shape.name.clone());
                InputError::Argument { tensor, shape, why }
            })?;
            let path = folder.join(format!("{}.{extension}", key(&words, package)?));
            if !path.is_file() {
                tell(&format!("`{}` at shape `{}`: {}", tensor.name, shape.name, words.join(" ")));
                write(&words, package, &folder, &path, extension).map_err(|error| match error {
                    Failed::Io(error) => InputError::Io(error),
                    Failed::Program(why) => {
                        let (tensor, shape) = (tensor.name.clone(), shape.name.clone());
                        InputError::Program { tensor, shape, command: words.join(" "), why }
                    }
                })?;
            }
            made.push(path);
        }
    }
    Ok(())
}

/// The program and its arguments at a shape.
fn words(command: &[Template], shape: &Shape) -> Result<Vec<String>, String> {
    let size = |name: &str| shape.dims.iter().find(|(dim, _)| dim == name).map(|(_, size)| Value::Int(*size));
    let word = |template: &Template| template.fill(&|expr| expr.eval(&size), ToString::to_string);
    command.iter().map(word).collect::<Result<_, _>>().map_err(|error| error.to_string())
}

/// The key of an input: the words, and the contents of files among them.
fn key(words: &[String], package: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for word in words {
        let path = package.join(word);
        if path.is_file() {
            files.push((word, fingerprint::of_bytes(&file::read_named_bytes(&path)?)));
        }
    }
    Ok(fingerprint::of("input of a command 1", &(words, files))[..32].to_owned())
}

enum Failed {
    Io(io::Error),
    Program(String),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Runs the program in the package's folder, and keeps the file if the program succeeds.
fn write(words: &[String], package: &Path, folder: &Path, path: &Path, extension: &str) -> Result<(), Failed> {
    fs::create_dir_all(folder).map_err(|error| file::in_context(folder, &error))?;
    let scratch = tempfile::Builder::new().prefix(".input-").tempdir_in(folder)?;
    let written = scratch.path().join(format!("input.{extension}"));
    let mut command = Command::new(in_package(&words[0], package));
    command.args(&words[1..]).arg(&written).current_dir(package);
    let mut output = Output::new()?;
    output.capture(&mut command)?;
    let started = ProcessGroup::spawn(&mut command, GRACE);
    let mut program = started.map_err(|error| Failed::Program(format!("does not run: {error}")))?;
    let Finish::Exited(status) = program.finish(Duration::MAX, || false)? else {
        return Err(Failed::Program("was ended by Ctrl-C".to_owned()));
    };
    if !status.success() {
        return Err(Failed::Program(format!("failed: {status}{}", last_lines(&output.text()?))));
    }
    if !written.is_file() {
        return Err(Failed::Program(format!(
            "has not written the file that its last argument names{}",
            last_lines(&output.text()?)
        )));
    }
    fs::rename(&written, path).map_err(|error| file::in_context(path, &error))?;
    Ok(())
}

/// The last lines of a program's output.
fn last_lines(text: &str) -> String {
    const LINES: usize = 10;
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    last.iter().flat_map(|line| ["\n  ", line]).collect()
}
