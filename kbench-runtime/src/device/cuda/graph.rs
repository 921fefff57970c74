//! CUDA graphs: many launches, started by one call.

use std::rc::Rc;

use cudarc::driver::sys::{self, CUgraph, CUgraphExec, CUstreamCaptureMode};

use super::driver::{Context, Stream};
use super::error::{CudaError, check};
use crate::protocol::Failure;

/// A graph ready to be launched.
pub(super) struct Graph {
    raw: CUgraphExec,
    _context: Rc<Context>,
}

/// A graph as captured; null if the capture failed.
struct Template(CUgraph);

impl Drop for Template {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: made by a capture, destroyed once. An error leaves nothing to do.
            let _ = unsafe { sys::cuGraphDestroy(self.0) };
        }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: instantiated by `capture`, destroyed once. An error leaves nothing to do.
        let _ = unsafe { sys::cuGraphExecDestroy(self.raw) };
    }
}

impl Graph {
    /// Captures the work that `enqueue` puts on the stream, and uploads the graph to the device; `None` for work that
    /// cannot be captured.
    pub(super) fn capture(stream: &Stream, enqueue: impl FnOnce() -> Result<(), Failure>) -> Option<Self> {
        // SAFETY: the stream lives and is not capturing.
        check(unsafe {
            sys::cuStreamBeginCapture_v2(stream.raw(), CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
        })
        .ok()?;
        let enqueued = enqueue();
        let mut raw = std::ptr::null_mut();
        // SAFETY: the pointer is valid for writes; ends the capture begun above, also an invalidated one (null then).
        let ended = check(unsafe { sys::cuStreamEndCapture(stream.raw(), &raw mut raw) });
        let template = Template(raw);
        enqueued.ok()?;
        ended.ok()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the pointer is valid for writes, the template lives; no flags.
        check(unsafe { sys::cuGraphInstantiateWithFlags(&raw mut raw, template.0, 0) }).ok()?;
        let graph = Self { raw, _context: Rc::clone(stream.context()) };
        // SAFETY: graph and stream live.
        check(unsafe { sys::cuGraphUpload(graph.raw, stream.raw()) }).ok()?;
        Some(graph)
    }

    /// Enqueues the whole graph.
    pub(super) fn launch(&self, stream: &Stream) -> Result<(), CudaError> {
        // SAFETY: graph and stream live.
        check(unsafe { sys::cuGraphLaunch(self.raw, stream.raw()) })
    }
}
