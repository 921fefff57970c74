//! Baselines and references by `command`: programs beside the kernels, each in a process of its own.
//! [`protocol::external`](kbench_runtime::protocol::external) has the messages of both sides.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kbench_runtime::driver::tensor;
use kbench_runtime::protocol::external::{Answer, Prepare, Request, Tensor, VERSION};
use kbench_runtime::protocol::{Bytes, DeviceInfo, Failure, Role, Stage, TensorSpec};
use tempfile::TempDir;

use crate::process::executor::{Heard, LONGEST_LINE, Message, PATIENCE, WaitError, Worker};

/// Reason why a program gives no answer.
#[derive(Debug)]
pub enum Refusal {
    /// The user pressed Ctrl-C.
    Interrupted,
    /// The program cannot be measured on this machine.
    Unavailable(String),
    /// The program hung, crashed, or wrote an unexpected answer.
    Failure(Failure),
}

impl Refusal {
    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Refusal::Failure(Failure::Protocol { message: message.into() })
    }

    pub(crate) fn of(error: WaitError) -> Self {
        match error {
            WaitError::Interrupted => Refusal::Interrupted,
            WaitError::Failure(failure) | WaitError::Lost(failure) => Refusal::Failure(failure),
        }
    }
}

/// The contents of a case's tensors in files, which are removed when this is dropped.
#[derive(Debug)]
pub struct Inputs {
    folder: TempDir,
    specs: Vec<TensorSpec>,
    files: Vec<Option<PathBuf>>,
}

impl Inputs {
    /// Writes these contents below `folder`, bit for bit as the kernels get them.
    pub fn of(specs: Vec<TensorSpec>, inputs: tensor::Inputs, folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let folder = TempDir::new_in(folder)?;
        let mut files = Vec::new();
        for (index, input) in inputs.into_iter().enumerate() {
            let Some(data) = input else {
                files.push(None);
                continue;
            };
            let path = folder.path().join(format!("in-{index}.bin"));
            fs::write(&path, &data[..])?;
            // Several programs read the same file.
            let mut permissions = fs::metadata(&path)?.permissions();
            permissions.set_readonly(true);
            fs::set_permissions(&path, permissions)?;
            files.push(Some(path));
        }
        Ok(Self { folder, specs, files })
    }

    /// The tensors.
    pub fn specs(&self) -> &[TensorSpec] {
        &self.specs
    }

    /// Descriptions of the tensors for the program `name`.
    fn tensors(&self, name: &str) -> Vec<Tensor> {
        let specs = self.specs.iter().zip(&self.files).enumerate();
        specs
            .map(|(index, (spec, input))| Tensor {
                name: spec.name.clone(),
                dtype: spec.dtype,
                dims: spec.dims.clone(),
                role: spec.role,
                input: input.clone(),
                output: matches!(spec.role, Role::Out | Role::Inout)
                    .then(|| self.folder.path().join(format!("out-{index}-{name}.bin"))),
            })
            .filter(|tensor| tensor.input.is_some() || tensor.output.is_some())
            .collect()
    }
}

/// Settings of a program.
#[derive(Debug)]
pub struct ProgramOptions<'a> {
    /// Command prefix that starts the worker, which the program needs too.
    pub runner: &'a [String],
    /// The program and its arguments.
    pub command: &'a [String],
    /// Folder in which the program is started.
    pub directory: &'a Path,
    /// The device for the program.
    pub device: &'a DeviceInfo,
    /// Longest silence.
    pub timeout: Duration,
}

impl Message for Answer {}

/// Starts a program in `directory`. `remote`: through a runner; `longest`: largest number of bytes of a line.
pub(crate) fn start(command: &[&String], directory: &Path, remote: bool, longest: u64) -> Result<Worker, Refusal> {
    let mut words: Vec<OsString> = command.iter().map(OsString::from).collect();
    // A relative path of a program lies in the package; a plain name is searched on the PATH.
    if Path::new(&words[0]).components().count() > 1 {
        words[0] = directory.join(&words[0]).into_os_string();
    }
    Worker::spawn(&words, Some(directory), remote, longest)
        .map_err(|error| Refusal::Unavailable(format!("could not start `{}`: {error}", words[0].to_string_lossy())))
}

/// The measured problem, beside the tensors.
#[derive(Debug)]
pub struct Problem<'a> {
    /// Name of the shape.
    pub shape: &'a str,
    /// Sizes of the shape by dimension.
    pub dims: BTreeMap<String, i64>,
    /// Seed of the tensors.
    pub seed: u64,
    /// Number of untimed runs before the first sample.
    pub warmup: u32,
    /// State of the cache before each sample.
    pub cache: kbench_runtime::protocol::CacheMode,
    /// Launch mode of a sample on a GPU.
    pub launch: kbench_runtime::protocol::LaunchMode,
}

/// A running program; dropping it ends its process group.
pub struct Program {
    worker: Worker,
    /// Whether the hello of the program has not been read.
    is_new: bool,
    /// Identity in the hello.
    identity: Option<String>,
    timeout: Duration,
    /// Index, file and size in bytes of each output.
    outputs: Vec<(usize, PathBuf, usize)>,
    /// Clock that the program reads.
    pub clock: String,
    /// Number of runs in a sample.
    pub batch: u32,
    /// Versions that the program states.
    pub versions: BTreeMap<String, String>,
}

impl Program {
    /// Starts a program; its hello is read together with the first answer.
    pub fn open(options: &ProgramOptions<'_>) -> Result<Self, Refusal> {
        let words: Vec<&String> = options.runner.iter().chain(options.command).collect();
        let mut worker = start(&words, options.directory, !options.runner.is_empty(), LONGEST_LINE)?;
        worker.send(&Request::Hello { protocol: VERSION, device: options.device.clone() });
        Ok(Self {
            worker,
            is_new: true,
            identity: None,
            timeout: options.timeout,
            outputs: Vec::new(),
            clock: String::new(),
            batch: 1,
            versions: BTreeMap::new(),
        })
    }

    fn greet(&mut self) -> Result<(), Refusal> {
        if !std::mem::take(&mut self.is_new) {
            return Ok(());
        }
        match self.hear()? {
            Answer::Hello { protocol: VERSION, identity } => {
                self.identity = identity;
                Ok(())
            }
            Answer::Hello { protocol, .. } => {
                Err(Refusal::protocol(format!("it speaks protocol {protocol}, this is {VERSION}")))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// The identity that the program states, if any.
    pub fn identity(&mut self) -> Result<Option<String>, Refusal> {
        self.greet()?;
        Ok(self.identity.clone())
    }

    /// Prepares a problem; a reference prepares many.
    pub fn prepare(
        &mut self,
        name: &str,
        device: &DeviceInfo,
        problem: &Problem<'_>,
        inputs: &Inputs,
    ) -> Result<(), Refusal> {
        self.greet()?;
        let tensors = inputs.tensors(name);
        let outputs = tensors.iter().filter_map(|tensor| {
            let index = inputs.specs.iter().position(|spec| spec.name == tensor.name)?;
            Some((index, tensor.output.clone()?, inputs.specs[index].bytes()))
        });
        self.outputs = outputs.collect();
        let prepare = Prepare {
            shape: problem.shape.to_owned(),
            dims: problem.dims.clone(),
            tensors,
            seed: problem.seed,
            warmup: problem.warmup,
            cache: problem.cache,
            launch: problem.launch,
        };
        match self.ask(&Request::Prepare(prepare))? {
            Answer::Prepared { device: Some(theirs), .. } if theirs != device.name => {
                let own = &device.name;
                Err(Refusal::Unavailable(format!("it runs on {theirs}, the kernels on {own}")))
            }
            Answer::Prepared { launch, .. } if launch != problem.launch => {
                let (theirs, own) = (launch.name(), problem.launch.name());
                Err(Refusal::Unavailable(format!(
                    "its samples are of launch \"{theirs}\", `timing.launch` is \"{own}\""
                )))
            }
            Answer::Prepared { batch: 0, .. } => Err(Refusal::protocol("samples of 0 runs")),
            Answer::Prepared { clock, batch, versions, .. } => {
                (self.clock, self.batch, self.versions) = (clock, batch, versions);
                Ok(())
            }
            other => Err(unexpected(&other)),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, Refusal> {
        self.worker.send(request);
        self.hear()
    }

    fn hear(&mut self) -> Result<Answer, Refusal> {
        let heard_in = |answer: &Answer| match answer {
            Answer::Stage { stage } => Heard::Stage(*stage),
            _ => Heard::Answer,
        };
        let timeout = self.timeout;
        let deadline = &mut |stage: Option<Stage>| match stage {
            Some(stage) if !stage.runs_kernel() => PATIENCE,
            _ => timeout,
        };
        match self.worker.wait(heard_in, deadline) {
            Ok(Answer::Unavailable { message }) => Err(Refusal::Unavailable(message)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(Refusal::of(error)),
        }
    }

    /// Runs the program once; returns the bytes of every output with the tensor's index.
    pub fn check(&mut self) -> Result<Vec<(usize, Bytes)>, Refusal> {
        for (_, path, _) in &self.outputs {
            // Outputs of an earlier run are removed.
            let _ = fs::remove_file(path);
        }
        match self.ask(&Request::Check)? {
            Answer::Checked => {}
            other => return Err(unexpected(&other)),
        }
        let read = |(index, path, bytes): &(usize, PathBuf, usize)| {
            let missing = |error| Refusal::protocol(format!("an output was not written: {}: {error}", path.display()));
            let contents = crate::file::read_at_most(path, *bytes as u64);
            let lacks = bytes - contents.as_ref().map_or(0, Vec::len).min(*bytes);
            if lacks > 0 && crate::file::room(path).is_some_and(|room| room < lacks as u64) {
                let message = format!("no room for an output: {}", path.display());
                return Err(Refusal::Failure(Failure::Machine { message }));
            }
            Ok((*index, Bytes(contents.map_err(missing)?)))
        };
        self.outputs.iter().map(read).collect()
    }

    /// Takes samples, in nanoseconds for a run.
    pub fn time(&mut self, samples: u32) -> Result<Vec<f64>, Refusal> {
        match self.ask(&Request::Time { samples })? {
            Answer::Timed { samples: taken } if taken.len() != samples as usize => {
                Err(Refusal::protocol(format!("{} samples where {samples} were asked for", taken.len())))
            }
            Answer::Timed { samples } if samples.iter().any(|sample| !sample.is_finite() || *sample <= 0.0) => {
                Err(Refusal::protocol("samples that are no times"))
            }
            Answer::Timed { samples } => Ok(samples),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(answer: &Answer) -> Refusal {
    Refusal::protocol(format!("unexpected answer {answer:?}"))
}
