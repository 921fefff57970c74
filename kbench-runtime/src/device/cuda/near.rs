//! The cores near a GPU. A launch from the other socket takes longer, and the threads of several workers on one host
//! would move between cores.

use cudarc::driver::sys::CUdevice;

/// Restricts this thread, and the threads that it starts, to the cores near the GPU, within its allowed cores. Does
/// nothing if the system does not name these cores.
pub(super) fn stay_near(device: CUdevice) {
    #[cfg(target_os = "linux")]
    if let Some(cores) = linux::cores_near(device) {
        let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cores);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = device;
}

#[cfg(target_os = "linux")]
mod linux {
    use nix::sched::{CpuSet, sched_getaffinity};
    use nix::unistd::Pid;

    use super::super::driver;
    use super::CUdevice;

    /// The cores near the GPU among the allowed cores of this thread; `None` if there are none, or if the system does
    /// not name them.
    pub fn cores_near(device: CUdevice) -> Option<CpuSet> {
        let address = driver::bus_id(device)?.to_lowercase();
        // Sysfs has four digits of the domain, the driver may have eight.
        let address = &address[address.len().saturating_sub("0000:00:00.0".len())..];
        let list = std::fs::read_to_string(format!("/sys/bus/pci/devices/{address}/local_cpulist")).ok()?;
        let allowed = sched_getaffinity(Pid::from_raw(0)).ok()?;
        let mut near = CpuSet::new();
        let mut any = false;
        for core in parse(&list)? {
            if allowed.is_set(core).unwrap_or(false) {
                near.set(core).ok()?;
                any = true;
            }
        }
        any.then_some(near)
    }

    /// `0-3,8`
    pub fn parse(list: &str) -> Option<Vec<usize>> {
        let mut cores = Vec::new();
        for part in list.trim().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            cores.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
        }
        Some(cores)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::linux::parse;

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(parse("0-2,8\n"), Some(vec![0, 1, 2, 8]));
        assert_eq!(parse("5"), Some(vec![5]));
        assert_eq!(parse(""), None);
        assert_eq!(parse("0-x"), None);
    }
}
