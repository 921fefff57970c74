//! Poison for shared memory and registers: a kernel that runs before the launch fills them with one byte.
//!
//! Uninitialised `__shared__` memory is often 0, and no sanitizer reports reads of it. After poisoning, such a read
//! gives NaN, and another number in the next launch.

use std::fmt::Write as _;
use std::rc::Rc;

use super::driver::{Context, Driver, Stream};
use super::launch::CudaLaunch;
use super::limits::DeviceLimits;
use super::memory::CudaBuffer;
use super::module::CudaKernel;
use crate::device::{BoundArg, Region};
use crate::protocol::{Failure, Geometry};

/// Threads of a block: with 255 registers each they use the whole register file of a multiprocessor.
const BLOCK: u32 = 256;

/// Number of registers that are filled in each thread; the rest of 255 is for the computation.
const HELD: u32 = 248;

/// Blocks of a multiprocessor. Each takes all shared memory; the second round reaches multiprocessors that the first
/// missed.
const ROUNDS: u32 = 2;

/// The kernel.
pub(super) struct OnChipPoison {
    kernel: CudaKernel,
    result: CudaBuffer,
    limits: DeviceLimits,
    stream: Rc<Stream>,
}

impl OnChipPoison {
    pub(super) fn new(
        driver: Driver,
        context: &Rc<Context>,
        stream: &Rc<Stream>,
        limits: &DeviceLimits,
    ) -> Result<Self, Failure> {
        Ok(Self {
            kernel: CudaKernel::load(driver, context, code().as_bytes(), "kbench_on_chip_poison")?,
            result: CudaBuffer::new(context, 4)?,
            limits: limits.clone(),
            stream: Rc::clone(stream),
        })
    }

    /// Enqueues the kernel.
    pub(super) fn enqueue(&self, byte: u8) -> Result<(), Failure> {
        let bytes = self.limits.shared / 16 * 16;
        let geometry = Geometry {
            grid: [ROUNDS * self.limits.multiprocessors, 1, 1],
            block: [BLOCK, 1, 1],
            dynamic_shared: bytes,
            ..Geometry::default()
        };
        let args = [
            BoundArg::Scalar([byte; 4].to_vec()),
            BoundArg::Scalar(bytes.to_ne_bytes().to_vec()),
            BoundArg::Pointer(Region { tensor: 0, buffer: self.result.clone(), offset: 0, bytes: 4 }),
        ];
        let bound = CudaLaunch::new(&self.limits, false, &self.stream, &self.kernel, &geometry, &args)?;
        bound.enqueue().map_err(|error| error.failure("when filling shared memory"))
    }
}

/// PTX of an early version, which the driver compiles for the device. The registers are loaded from the filled shared
/// memory. All of them stay live until the last one is loaded, since a sum that starts with the last one uses each.
fn code() -> String {
    let mut code = format!(
        ".version 6.0
.target sm_50
.address_size 64
.extern .shared .align 16 .b8 memory[];
.visible .entry kbench_on_chip_poison(.param .u32 word, .param .u32 bytes, .param .u64 result)
.maxntid {BLOCK}, 1, 1
{{
    .reg .pred %done;
    .reg .b32 %word, %bytes, %at, %address, %start, %sum;
    .reg .b32 %held<{HELD}>;
    .reg .b64 %result;
    ld.param.u32 %word, [word];
    ld.param.u32 %bytes, [bytes];
    ld.param.u64 %result, [result];
    cvta.to.global.u64 %result, %result;
    mov.u32 %start, memory;
    mov.u32 %at, %tid.x;
    shl.b32 %at, %at, 4;
fill:
    setp.ge.u32 %done, %at, %bytes;
    @%done bra filled;
    add.u32 %address, %start, %at;
    st.volatile.shared.v4.u32 [%address], {{%word, %word, %word, %word}};
    add.u32 %at, %at, {};
    bra fill;
filled:
    bar.sync 0;
",
        16 * BLOCK
    );
    for register in 0..HELD {
        let _ = writeln!(code, "    ld.volatile.shared.u32 %held{register}, [%start+{}];", 4 * register);
    }
    let _ = writeln!(code, "    ld.volatile.shared.u32 %sum, [%start+{}];", 4 * HELD);
    for register in 0..HELD {
        let _ = writeln!(code, "    mad.lo.u32 %sum, %sum, 3, %held{register};");
    }
    code + "    st.global.u32 [%result], %sum;
    ret;
}
"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_is_loaded_and_used() {
        let code = code();
        for register in 0..HELD {
            assert!(code.contains(&format!("%held{register}, [")) && code.contains(&format!("3, %held{register};")));
        }
        assert!(code.is_ascii());
    }
}
