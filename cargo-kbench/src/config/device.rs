//! Properties of the device for expressions: `SM_COUNT`, `MAX_SHARED` and `WARP`.

use kbench_runtime::protocol::DeviceInfo;

use crate::expr::Value;

/// Names of the properties of the device.
pub const DEVICE_NAMES: [&str; 3] = ["SM_COUNT", "MAX_SHARED", "WARP"];

/// Threads of a warp, the same on every architecture so far.
const WARP: i64 = 32;

/// Properties of a device for expressions.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DeviceModel {
    /// Name of the device.
    pub name: String,
    /// Number of streaming multiprocessors.
    pub sm_count: u32,
    /// Largest number of bytes of shared memory that a block may opt in to.
    pub max_shared: u32,
}

/// Architecture, a GPU that has it, its multiprocessors, KiB of shared memory of a block.
///
/// Shared memory: CUDA Programming Guide 13, table "Memory Information per Compute Capability", row "Maximum amount of shared memory per thread
/// block"; for 7.0, which that edition no longer lists, the same row of edition 12. Multiprocessors: CUDA cores of the GPU's data sheet over
/// those of a multiprocessor (64 for 7.0, 7.5 and 8.0, otherwise 128).
const MODELS: [(&str, &str, u32, u32); 10] = [
    ("sm_70", "V100", 80, 96),
    ("sm_75", "T4", 40, 64),
    ("sm_80", "A100", 108, 163),
    ("sm_86", "RTX 3090", 82, 99),
    ("sm_87", "Jetson AGX Orin", 16, 163),
    ("sm_89", "L40S", 142, 99),
    ("sm_90", "H100 SXM", 132, 227),
    ("sm_100", "B200", 148, 227),
    ("sm_120", "RTX 5090", 170, 99),
    ("sm_121", "GB10", 48, 99),
];

impl DeviceModel {
    /// The model of an architecture, `sm_90` or `sm_90a`.
    pub fn of_arch(arch: &str) -> Option<Self> {
        let plain = arch.trim_end_matches(['a', 'f']);
        let (arch, name, sm_count, shared) = MODELS.into_iter().find(|(known, ..)| *known == plain)?;
        Some(Self { name: format!("{arch}, {name}"), sm_count, max_shared: shared * 1024 })
    }

    /// The architectures with a model.
    pub fn archs() -> Vec<&'static str> {
        MODELS.map(|(arch, ..)| arch).to_vec()
    }

    /// The value of one of [`DEVICE_NAMES`].
    pub fn value(&self, name: &str) -> Option<Value> {
        Some(Value::Int(match name {
            "SM_COUNT" => self.sm_count.into(),
            "MAX_SHARED" => self.max_shared.into(),
            "WARP" => WARP,
            _ => return None,
        }))
    }
}

impl From<&DeviceInfo> for DeviceModel {
    fn from(device: &DeviceInfo) -> Self {
        let DeviceInfo { name, multiprocessors, max_shared_per_block, .. } = device;
        Self { name: name.clone(), sm_count: *multiprocessors, max_shared: *max_shared_per_block }
    }
}
