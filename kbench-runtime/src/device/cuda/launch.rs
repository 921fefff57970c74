//! The launches of a kernel, each bound to its arguments and its geometry.

use std::rc::Rc;

use cudarc::driver::sys::{
    self, CUfunction_attribute, CUlaunchAttribute, CUlaunchAttributeID_enum as AttributeId, CUlaunchAttributeValue,
    CUlaunchConfig,
};

use super::args::{self, Params};
use super::driver::Stream;
use super::error::{CudaError, check};
use super::graph::Graph;
use super::limits::{self, DeviceLimits, KernelLimits};
use super::memory::CudaBuffer;
use super::module::{CudaKernel, CudaKernels};
use crate::device::{BoundArg, BoundLaunch, Region};
use crate::protocol::{Failure, Geometry};

/// The largest cluster that every device with clusters can launch.
const PORTABLE_CLUSTER: u64 = 8;

/// The launches of one run, bound to their arguments. Keeps the module and the buffers alive.
pub struct CudaBound {
    /// State of timing between samples.
    pub(super) timing: TimingState,
    launches: Vec<(Vec<Region<CudaBuffer>>, CudaLaunch)>,
    stream: Rc<Stream>,
}

/// State of timing between samples.
#[derive(Default)]
pub(super) struct TimingState {
    /// The last captured batch; `None` inside if the capture failed.
    pub(super) graph: Option<(u32, Option<Graph>)>,
    /// Number of flushes ahead of a cold and of a hot sample.
    pub(super) flushes: [u32; 2],
    /// Nanoseconds of the last hot sample, all its launches together.
    pub(super) last_hot: f64,
}

/// One launch of a function, with the arguments of the launch call.
pub(super) struct CudaLaunch {
    kernel: CudaKernel,
    params: Params,
    geometry: Geometry,
    limits: KernelLimits,
    /// Bytes that the driver reserves for the threads' stacks.
    local_bytes: u64,
    stream: Rc<Stream>,
    _buffers: Vec<CudaBuffer>,
}

impl CudaBound {
    /// Prepares the launches of these functions.
    pub(super) fn new(
        device: &DeviceLimits,
        tensor_maps: bool,
        stream: &Rc<Stream>,
        kernels: &CudaKernels,
        launches: &[BoundLaunch<CudaBuffer>],
    ) -> Result<Self, Failure> {
        let bind = |(index, (kernel, launch)): (usize, (&CudaKernel, &BoundLaunch<CudaBuffer>))| {
            let bound = CudaLaunch::new(device, tensor_maps, stream, kernel, &launch.geometry, &launch.args);
            let bound = bound.map_err(|failure| named(failure, kernel, index, launches.len()))?;
            Ok((launch.zero.clone(), bound))
        };
        let launches = kernels.all().iter().zip(launches).enumerate().map(bind).collect::<Result<_, Failure>>()?;
        let timing = TimingState { flushes: [1, 0], ..TimingState::default() };
        Ok(Self { timing, launches, stream: Rc::clone(stream) })
    }

    /// Enqueues one run: each launch after the memory that it needs zeroed.
    pub(super) fn enqueue(&self) -> Result<(), Failure> {
        for (index, (zero, launch)) in self.launches.iter().enumerate() {
            for region in zero {
                region.buffer.enqueue_fill(&self.stream, region.offset, region.bytes, 0)?;
            }
            let refused = |error| named(launch.refused(error), &launch.kernel, index, self.launches.len());
            launch.enqueue().map_err(refused)?;
        }
        Ok(())
    }

    /// The function of the first launch.
    pub(super) fn kernel(&self) -> &CudaKernel {
        &self.launches[0].1.kernel
    }

    /// Whether a batch of that size is launched as a graph; false if the capture failed.
    pub(super) fn has_graph(&self, batch: u32) -> bool {
        matches!(self.timing.graph, Some((size, Some(_))) if size == batch)
    }

    /// The failure for a refused graph of all launches.
    pub(super) fn refused(&self, error: CudaError) -> Failure {
        self.launches[0].1.refused(error)
    }
}

/// A refusal that names the launch, if there are several.
fn named(failure: Failure, kernel: &CudaKernel, index: usize, launches: usize) -> Failure {
    match failure {
        Failure::LaunchRefused { message } if launches > 1 => {
            Failure::LaunchRefused { message: format!("launch {}, `{}`: {message}", index + 1, kernel.entry()) }
        }
        failure => failure,
    }
}

impl CudaLaunch {
    /// Checks the launch against all known limits, and prepares it.
    pub(super) fn new(
        device: &DeviceLimits,
        tensor_maps: bool,
        stream: &Rc<Stream>,
        kernel: &CudaKernel,
        geometry: &Geometry,
        arguments: &[BoundArg<CudaBuffer>],
    ) -> Result<Self, Failure> {
        let limits = KernelLimits::query(kernel);
        let exceeded = limits::exceeded(device, &limits, geometry);
        if !exceeded.is_empty() {
            return Err(Failure::LaunchRefused { message: exceeded.join("; ") });
        }
        let (params, buffers) = args::params(kernel.entry(), kernel.parameters(), arguments, tensor_maps)?;
        let resident = u64::from(device.multiprocessors) * u64::from(device.threads_per_multiprocessor);
        let local_bytes = u64::from(limits.local) * resident;
        let launch = Self {
            kernel: kernel.clone(),
            params,
            geometry: geometry.clone(),
            limits,
            local_bytes,
            stream: Rc::clone(stream),
            _buffers: buffers,
        };
        launch.raise_limits(device)?;
        launch.check_residency(device)?;
        Ok(launch)
    }

    /// The failure for a refusal of [`CudaLaunch::enqueue`].
    fn refused(&self, error: CudaError) -> Failure {
        error.launch_failure(&limits::describe(&self.limits, &self.geometry), self.local_bytes)
    }

    /// Requests shared memory and a cluster size beyond the defaults.
    fn raise_limits(&self, device: &DeviceLimits) -> Result<(), Failure> {
        let shared = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        if self.geometry.dynamic_shared > self.kernel.attribute(shared) {
            self.kernel.set_attribute(shared, self.geometry.dynamic_shared).map_err(|error| {
                let message = format!(
                    "{} when asking for {} bytes of dynamic shared memory beside {} static ones; this device has {} a block",
                    error.words(),
                    self.geometry.dynamic_shared,
                    self.limits.shared,
                    device.shared
                );
                Failure::LaunchRefused { message }
            })?;
        }
        let cluster = self.cluster();
        if cluster > PORTABLE_CLUSTER {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED;
            self.kernel.set_attribute(attribute, 1).map_err(|error| {
                let message = format!("{} when asking for clusters of {cluster} blocks", error.words());
                Failure::LaunchRefused { message }
            })?;
        }
        Ok(())
    }

    /// Blocks of a cluster; 1 without clusters.
    fn cluster(&self) -> u64 {
        self.geometry.cluster.or(self.limits.cluster).map_or(1, limits::product)
    }

    /// Whether the blocks that must run at the same time can: those of a cluster, or those of a cooperative grid.
    fn check_residency(&self, device: &DeviceLimits) -> Result<(), Failure> {
        let cluster = self.cluster();
        if self.geometry.cluster.is_some() {
            let mut clusters = 0;
            self.with_config(|config| {
                // SAFETY: the pointer is valid for writes; config and function live.
                check(unsafe { sys::cuOccupancyMaxActiveClusters(&raw mut clusters, self.kernel.raw(), config) })
            })
            .map_err(|error| self.refused(error))?;
            if clusters < 1 {
                let launch = limits::describe(&self.limits, &self.geometry);
                let message = format!("no cluster of {cluster} blocks fits this device: {launch}");
                return Err(Failure::LaunchRefused { message });
            }
        }
        if self.geometry.cooperative && cluster == 1 {
            let threads = limits::product(self.geometry.block) as i32;
            let shared = self.geometry.dynamic_shared as usize;
            let mut blocks = 0;
            // SAFETY: the pointer is valid for writes, the function lives.
            check(unsafe {
                sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(&raw mut blocks, self.kernel.raw(), threads, shared)
            })
            .map_err(|error| self.refused(error))?;
            let most = u64::from(blocks.max(0) as u32) * u64::from(device.multiprocessors);
            let grid = limits::product(self.geometry.grid);
            if grid > most {
                let message = format!(
                    "a cooperative grid of {grid} blocks exceeds the {most} that can be resident at once ({blocks} on \
                     each of {} multiprocessors)",
                    device.multiprocessors
                );
                return Err(Failure::LaunchRefused { message });
            }
        }
        Ok(())
    }

    /// Puts the launch on the stream.
    pub(super) fn enqueue(&self) -> Result<(), CudaError> {
        self.with_config(|config| {
            // SAFETY: the configuration and the attributes it points to live during the call. There is one parameter for
            // each of the kernel's (checked by `args::params` where the driver can tell), in memory that `self` owns;
            // the driver copies them before it returns. Nulls end nothing: `extra` is unused.
            check(unsafe {
                sys::cuLaunchKernelEx(config, self.kernel.raw(), self.params.as_ptr(), std::ptr::null_mut())
            })
        })
    }

    fn with_config<R>(&self, call: impl FnOnce(*const CUlaunchConfig) -> R) -> R {
        let attribute = |id, value| CUlaunchAttribute { id, pad: [0; 4], value };
        let mut attributes = Vec::new();
        if let Some([x, y, z]) = self.geometry.cluster {
            let mut value = CUlaunchAttributeValue { pad: [0; 64] };
            value.clusterDim = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x, y, z };
            attributes.push(attribute(AttributeId::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, value));
        }
        if self.geometry.cooperative {
            let mut value = CUlaunchAttributeValue { pad: [0; 64] };
            value.cooperative = 1;
            attributes.push(attribute(AttributeId::CU_LAUNCH_ATTRIBUTE_COOPERATIVE, value));
        }
        let [grid_x, grid_y, grid_z] = self.geometry.grid;
        let [block_x, block_y, block_z] = self.geometry.block;
        let config = CUlaunchConfig {
            gridDimX: grid_x,
            gridDimY: grid_y,
            gridDimZ: grid_z,
            blockDimX: block_x,
            blockDimY: block_y,
            blockDimZ: block_z,
            sharedMemBytes: self.geometry.dynamic_shared,
            hStream: self.stream.raw(),
            attrs: if attributes.is_empty() { std::ptr::null_mut() } else { attributes.as_mut_ptr() },
            numAttrs: attributes.len() as u32,
        };
        call(&raw const config)
    }
}
