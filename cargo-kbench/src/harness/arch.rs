//! The architecture to compile for.

use kbench_runtime::protocol::{DeviceInfo, DeviceKind};

use super::RunError;

/// The listed architecture for a device; without a list, the device's own.
pub(super) fn arch_for(listed: &[String], device: &DeviceInfo) -> Result<String, RunError> {
    let Some((major, minor)) = device.compute_capability.filter(|_| device.kind == DeviceKind::Cuda) else {
        return Err(RunError::NoArch(format!("{} has no compute capability", device.name)));
    };
    let own = format!("sm_{major}{minor}");
    if listed.is_empty() {
        // The architecture-specific target runs on exactly this device and has all its instructions.
        return Ok(if major >= 9 { format!("{own}a") } else { own });
    }
    let exact = listed.iter().find(|arch| **arch == format!("{own}a")).or(listed.iter().find(|arch| **arch == own));
    let older = || {
        let number = |arch: &String| arch.strip_prefix("sm_")?.parse::<u32>().ok();
        let fits = |&(number, _): &(u32, &String)| number / 10 == major && number % 10 <= minor;
        listed.iter().filter_map(|arch| Some((number(arch)?, arch))).filter(fits).max()
    };
    exact.or_else(|| older().map(|(_, arch)| arch)).cloned().ok_or_else(|| {
        RunError::NoArch(format!(
            "none of arch = {listed:?} runs on {} ({own}); add \"{own}\" to arch, or leave arch out",
            device.name
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(compute_capability: (u32, u32)) -> DeviceInfo {
        DeviceInfo {
            kind: DeviceKind::Cuda,
            index: 0,
            name: "GPU".into(),
            driver: "13.0".into(),
            compute_capability: Some(compute_capability),
            multiprocessors: 132,
            memory_bytes: 1 << 36,
            cache_bytes: 1 << 25,
            max_threads_per_block: 1024,
            max_shared_per_block: 232_448,
            clock_khz: 0,
        }
    }

    #[test]
    fn the_arch_is_the_devices_or_an_older_one_of_its_generation() {
        let arch = |listed: &[&str], cc| {
            arch_for(&listed.iter().map(|&arch| arch.to_owned()).collect::<Vec<_>>(), &device(cc)).ok()
        };
        assert_eq!(arch(&[], (9, 0)).as_deref(), Some("sm_90a"));
        assert_eq!(arch(&[], (8, 9)).as_deref(), Some("sm_89"));
        assert_eq!(arch(&["sm_80", "sm_90a"], (9, 0)).as_deref(), Some("sm_90a"));
        assert_eq!(arch(&["sm_80", "sm_86"], (8, 9)).as_deref(), Some("sm_86"));
        assert_eq!(arch(&["sm_80"], (9, 0)), None);
        assert_eq!(arch(&["sm_90a"], (8, 9)), None);
    }
}
