//! The part of a module that its kernels share.

use crate::export::plan::Plan;

const COMMON: &str = include_str!("common.rs");
const PROCESSOR: &str = include_str!("processor.rs");
const DEVICE: &str = include_str!("device.rs");
const CLUSTERS: &str = include_str!("clusters.rs");
const TENSOR_MAPS: &str = include_str!("tensor_maps.rs");
const SYMBOLS: &str = include_str!("symbols.rs");
/// Functions that terms call, in blocks.
pub(super) const FUNCTIONS: &str = include_str!("functions.rs");

/// The names of all shared functions.
pub(super) fn functions() -> impl Iterator<Item = &'static str> {
    let lines = [COMMON, PROCESSOR, DEVICE, CLUSTERS, TENSOR_MAPS, SYMBOLS, FUNCTIONS].into_iter().flat_map(str::lines);
    lines.filter_map(|line| {
        let signature = line.strip_prefix("unsafe ").unwrap_or(line).strip_prefix("fn ")?;
        signature.split(['(', '<']).next()
    })
}

/// Parts that the modules of the kernels share.
#[derive(Default, Clone, Copy)]
#[allow(clippy::struct_excessive_bools)] // each is a part
pub(super) struct Shared {
    pub(super) c: bool,
    pub(super) cuda: bool,
    pub(super) clusters: bool,
    pub(super) tensor_maps: bool,
    pub(super) symbols: bool,
}

impl Shared {
    pub(super) fn add(&mut self, other: Self) {
        self.c |= other.c;
        self.cuda |= other.cuda;
        self.clusters |= other.clusters;
        self.tensor_maps |= other.tensor_maps;
        self.symbols |= other.symbols;
    }

    pub(super) fn text(self, plans: &[Plan]) -> String {
        let mut text = String::new();
        let mut common = COMMON.to_owned();
        if self.cuda {
            let mut cudarc = vec!["CudaContext", "CudaFunction", "CudaModule", "DriverError", "sys"];
            if self.clusters {
                cudarc.extend(["CudaStream", "LaunchConfig"]);
            }
            if self.tensor_maps {
                cudarc.push("DeviceRepr");
            }
            if self.symbols {
                cudarc.extend(["CudaStream", "DevicePtrMut"]);
            }
            cudarc.sort_unstable();
            cudarc.dedup();
            common = common.replacen(
                "use std::sync::OnceLock;\n",
                &format!(
                    "use std::sync::{{Arc, OnceLock, PoisonError, RwLock}};\n\nuse cudarc::driver::{{{}}};\nuse cudarc::nvrtc::Ptx;\n",
                    cudarc.join(", ")
                ),
                1,
            );
            common = common
                .replace("    // VARIANTS OF CUDA\n", CUDA_ERRORS)
                .replace("            // ARMS OF CUDA\n", CUDA_ARMS);
            common = common.replace("impl std::error::Error for Error {}\n", CUDA_FROM);
        } else {
            common = common.replace("    // VARIANTS OF CUDA\n", "").replace("            // ARMS OF CUDA\n", "");
        }
        text.push_str(&common);
        if self.c {
            text.push_str(PROCESSOR);
        }
        if self.cuda {
            let mut archs: Vec<&str> = plans
                .iter()
                .flat_map(|plan| &plan.variants)
                .flat_map(|planned| planned.code.iter().filter_map(|code| code.arch.as_deref()))
                .collect();
            archs.sort_unstable();
            archs.dedup();
            let archs: Vec<String> = archs.iter().map(|arch| format!("{arch:?}")).collect();
            text.push_str(&DEVICE.replace("ARCH_LIST", &archs.join(", ")));
        }
        let parts = [(self.clusters, CLUSTERS), (self.tensor_maps, TENSOR_MAPS), (self.symbols, SYMBOLS)];
        text.extend(parts.into_iter().filter_map(|(is_used, part)| is_used.then_some(part)));
        text
    }
}

const CUDA_ERRORS: &str = "    /// There is no code for the device.
    NoCode {
        /// The device's name.
        device: String,
        /// Compute capability of the device, such as `9.0`.
        arch: String,
        /// The architectures of the exported code.
        archs: &'static [&'static str],
    },
    /// An error of the CUDA driver.
    Driver(DriverError),
";

const CUDA_ARMS: &str = "            Self::NoCode { device, arch, archs } => {
                let archs = archs.join(\", \");
                write!(f, \"no code for {device} (compute capability {arch}); there is code for {archs}\")
            }
            Self::Driver(error) => write!(f, \"the CUDA driver failed: {error}\"),
";

const CUDA_FROM: &str = "impl std::error::Error for Error {}

impl From<DriverError> for Error {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}
";
