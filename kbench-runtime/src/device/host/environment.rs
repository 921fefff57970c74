//! The floating-point environment of a thread: rounding, traps, denormals flushed to zero. A kernel's changes must not
//! affect a reference or another kernel.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::arch::asm;

/// The control registers of this thread. Nothing on processors other than `x86_64` and `aarch64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Environment {
    #[cfg(target_arch = "x86_64")]
    mxcsr: u32,
    #[cfg(target_arch = "x86_64")]
    x87: u16,
    #[cfg(target_arch = "aarch64")]
    fpcr: u64,
}

impl Environment {
    /// Reads the registers.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn get() -> Self {
        /// The exception flags, which control nothing.
        const STICKY: u32 = 0x3f;
        let (mut mxcsr, mut x87) = (0_u32, 0_u16);
        // SAFETY: both instructions store a control register in a variable of its size, and every x86-64 has them.
        unsafe {
            asm!("stmxcsr [{}]", in(reg) &raw mut mxcsr, options(nostack, preserves_flags));
            asm!("fnstcw [{}]", in(reg) &raw mut x87, options(nostack, preserves_flags));
        }
        Self { mxcsr: mxcsr & !STICKY, x87 }
    }

    /// Sets the registers.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn set(self) {
        // SAFETY: the values came from these very registers. While a kernel's are set, no other code than the kernel computes.
        unsafe {
            asm!("ldmxcsr [{}]", in(reg) &raw const self.mxcsr, options(nostack, readonly, preserves_flags));
            asm!("fldcw [{}]", in(reg) &raw const self.x87, options(nostack, readonly, preserves_flags));
        }
    }

    /// Reads the register.
    #[cfg(target_arch = "aarch64")]
    pub(super) fn get() -> Self {
        let fpcr;
        // SAFETY: user code may read this register.
        unsafe { asm!("mrs {}, fpcr", out(reg) fpcr, options(nomem, nostack, preserves_flags)) };
        Self { fpcr }
    }

    /// Sets the register.
    #[cfg(target_arch = "aarch64")]
    pub(super) fn set(self) {
        // SAFETY: the value came from this very register. While a kernel's is set, no other code than the kernel computes.
        unsafe { asm!("msr fpcr, {}", in(reg) self.fpcr, options(nomem, nostack, preserves_flags)) };
    }

    /// Reads nothing.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub(super) fn get() -> Self {
        Self {}
    }

    /// Sets nothing.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub(super) fn set(self) {
        let Self {} = self;
    }
}
