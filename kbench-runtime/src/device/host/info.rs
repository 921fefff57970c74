//! Properties of this machine's CPU, from the system.

use crate::protocol::{DeviceInfo, DeviceKind};

pub(super) fn info() -> DeviceInfo {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let clock = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq").unwrap_or_default();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    DeviceInfo {
        kind: DeviceKind::Host,
        index: 0,
        name: name.map_or(std::env::consts::ARCH, |(_, name)| name.trim()).to_owned(),
        driver: release.trim().to_owned(),
        compute_capability: None,
        multiprocessors: std::thread::available_parallelism().map_or(1, usize::from) as u32,
        memory_bytes: memory("MemTotal:").unwrap_or(0),
        cache_bytes: cache_bytes(),
        max_threads_per_block: 0,
        max_shared_per_block: 0,
        clock_khz: clock.trim().parse().unwrap_or(0),
    }
}

fn memory(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix(key))?.trim().strip_suffix("kB")?.trim();
    Some(kib.parse::<u64>().ok()? * 1024)
}

pub(super) fn available_memory() -> Option<u64> {
    memory("MemAvailable:")
}

/// The largest cache of the first core.
fn cache_bytes() -> u64 {
    let size = |index: u32| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        let text = std::fs::read_to_string(path).ok()?;
        let text = text.trim();
        match text.strip_suffix('K') {
            Some(kib) => Some(kib.parse::<u64>().ok()? << 10),
            None => Some(text.strip_suffix('M')?.parse::<u64>().ok()? << 20),
        }
    };
    (0..8).filter_map(size).max().unwrap_or(0)
}
