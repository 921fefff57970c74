//! A session: the open device, and all state that is kept between jobs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::reference::{self, ReferenceCache, ReferenceInputs, ReferencePools};
use super::results::ResultCache;
use crate::data::fingerprint;
use crate::device::host::HostDevice;
use crate::device::{Device, Purpose};
use crate::inputs::cache::InputCache;
use crate::inputs::tensor::{Blobs, Inputs};
use crate::memory::kernel::KernelMemory;
use crate::memory::pool::Pool;
use crate::protocol::{Case, Counts, DeviceKind, ErrorSizes, Failure, Pattern, Reference, RunJob, Stage, TensorSpec};

/// The share of a GPU's memory that idle buffers may take is one over this number.
const IDLE_SHARE: u64 = 8;

/// Called before each stage, and often enough that silence means a hang.
pub type OnStage<'a> = &'a mut dyn FnMut(Stage);

/// The device and the state that all checks and timings share.
pub struct Resources<D: Device> {
    /// The open device.
    pub device: D,
    /// Buffers of the device.
    pub pool: Pool<D::Buffer>,
    /// Outputs that were fetched and compared before.
    pub results: ResultCache,
}

/// An open device and everything that is kept between jobs.
pub struct Session<D: Device> {
    pub resources: Resources<D>,
    /// Runs references that are C code, if kernels run on another device.
    host: Option<HostDevice>,
    /// Buffers of references that run on this session's device.
    pub(super) reference_pool: Pool<D::Buffer>,
    pub(super) blobs: Blobs,
    pub(super) inputs: InputCache,
    references: ReferenceCache,
    /// Errors of naive implementations, by a fingerprint of everything that they depend on.
    pub(super) naive: HashMap<String, Vec<ErrorSizes>>,
}

impl<D: Device> Session<D> {
    /// A session on a device, with a folder for reference results.
    pub fn new(device: D, cache: Option<PathBuf>) -> Self {
        let mut pool = Pool::default();
        if device.info().kind == DeviceKind::Cuda {
            pool.keep_at_least((device.info().memory_bytes / IDLE_SHARE) as usize);
        }
        Self {
            resources: Resources { device, pool, results: ResultCache::default() },
            host: None,
            reference_pool: Pool::default(),
            blobs: Blobs::new(),
            inputs: InputCache::default(),
            references: ReferenceCache::new(cache),
            naive: HashMap::new(),
        }
    }

    /// Whether the device can measure the energy of a launch; the error is the reason why not.
    pub fn meter(&mut self) -> Result<(), String> {
        self.resources.device.energy().map(|_| ())
    }

    /// Sets the longest time that a launch may take from now on: see [`Device::limit`].
    pub fn limit(&mut self, launch: Duration) {
        self.resources.device.limit(launch);
    }

    /// Keeps a blob. Returns false if `hash` is not the hash of `data`.
    #[must_use]
    pub fn add_blob(&mut self, hash: &str, data: Vec<u8>) -> bool {
        let matches = fingerprint::of_bytes(&data) == hash;
        if matches {
            self.blobs.insert(hash.to_owned(), Arc::new(data));
        }
        matches
    }

    /// Keeps a result of a reference program. Returns false if `data` is no result of that key.
    #[must_use]
    pub fn add_result(&mut self, key: &str, data: Vec<u8>) -> bool {
        self.references.give(key, data)
    }

    /// The machine code with that hash.
    pub fn code(&self, hash: &str) -> Result<Arc<Vec<u8>>, Failure> {
        let missing = || Failure::LoadFailed { message: format!("the machine code (blob {hash}) was not sent") };
        self.blobs.get(hash).cloned().ok_or_else(missing)
    }

    /// Loads a case's kernel and takes its memory on this session's device.
    pub fn load(&mut self, case: &Case, inputs: &Arc<Inputs>) -> Result<KernelMemory<D>, Failure> {
        let (asked, open) = (case.sequence.device, self.resources.device.info().kind);
        if asked != open {
            return Err(Failure::Unsupported { message: format!("a kernel for {asked:?} on a {open:?} device") });
        }
        let code = self.code(&case.sequence.blob)?;
        let Resources { device, pool, .. } = &mut self.resources;
        KernelMemory::new(device, pool, &case.tensors, inputs, &case.sequence, &code, Purpose::Kernel)
    }

    /// The inputs of a seed, in a pattern if there is one, generated at most once.
    pub fn inputs(
        &mut self,
        tensors: &[TensorSpec],
        seed: u64,
        pattern: Option<Pattern>,
    ) -> Result<Arc<Inputs>, Failure> {
        self.inputs.get(tensors, seed, pattern, &self.blobs)
    }

    /// The outputs of the reference: from the cache, or from a run on this session's device or on the host.
    pub fn reference(
        &mut self,
        reference: &Reference,
        tensors: &[TensorSpec],
        inputs: &Inputs,
        of: ReferenceInputs,
    ) -> Result<Arc<reference::Outputs>, Failure> {
        let code = self.code(&reference.sequence.blob);
        let code = code.map_err(|failure| Failure::Reference { message: failure.to_string() });
        let Resources { device, pool, .. } = &mut self.resources;
        if reference.program {
            let key = reference::key(reference, tensors, of, device.info());
            let message = "its program's results were not sent and are not where the worker looks for them";
            return self.references.get(&key, || Err(Failure::Reference { message: message.into() }));
        }
        let code = code?;
        let run = reference::Run { reference, tensors, of, code: &code };
        let inputs = || reference::wide_inputs(reference, tensors, inputs, of.view);
        if reference.sequence.device == device.info().kind {
            let key = reference::key(reference, tensors, of, device.info());
            let mut fresh = Pool::default();
            // On a GPU, allocations and copies take longer than the reference may.
            let pools = if device.info().kind == DeviceKind::Cuda {
                ReferencePools { own: &mut self.reference_pool, copies: Some(pool) }
            } else {
                ReferencePools { own: &mut fresh, copies: None }
            };
            return self.references.get(&key, || run.on(device, pools, inputs()));
        }
        if reference.sequence.device != DeviceKind::Host {
            let message = format!("it needs a {:?} device", reference.sequence.device);
            return Err(Failure::Reference { message });
        }
        let host = self.host.get_or_insert_with(HostDevice::open);
        let key = reference::key(reference, tensors, of, host.info());
        let pools = ReferencePools { own: &mut Pool::default(), copies: None };
        self.references.get(&key, || run.on(host, pools, inputs()))
    }

    /// Runs kernels once each on memory of the tensors' exact sizes, for a sanitizer, and the last a second time if its counters are
    /// to be read. The tool around the worker reports its findings. This is the last job of a session: from here on its
    /// memory has no guard bands. An error has the index of its case.
    pub fn run(
        &mut self,
        job: &RunJob,
        stage: OnStage<'_>,
    ) -> Result<Option<Result<Counts, String>>, (usize, Failure)> {
        let mut counts = None;
        for (at, case) in job.cases.iter().enumerate() {
            let count = job.count && at + 1 == job.cases.len();
            counts = self.run_case(case, job.seed, count, stage).map_err(|failure| (at, failure))?;
        }
        Ok(counts)
    }

    fn run_case(
        &mut self,
        case: &Case,
        seed: u64,
        count: bool,
        stage: OnStage<'_>,
    ) -> Result<Option<Result<Counts, String>>, Failure> {
        stage(Stage::Inputs);
        let inputs = self.inputs(&case.tensors, seed, None)?;
        stage(Stage::Launch);
        self.resources.device.use_plain_allocations();
        // A tool knows memory that was allocated anew.
        self.resources.pool = Pool::without_guard_bands();
        let memory = self.load(case, &inputs)?;
        let device = &mut self.resources.device;
        memory.upload_inputs(device, &inputs)?;
        device.run(&memory.bound)?;
        if !count {
            return Ok(None);
        }
        // Tensors that are read and written get their inputs back.
        memory.upload_inputs(device, &inputs)?;
        match device.count(&memory.bound) {
            Ok(counts) => Ok(Some(Ok(counts))),
            Err(Failure::Unsupported { message }) => Ok(Some(Err(message))),
            Err(failure) => Err(failure),
        }
    }
}
