//! The processor's own counters, through `perf_event` where the system has it.

#[cfg(target_os = "linux")]
use std::path::Path;
#[cfg(target_os = "linux")]
use std::time::Duration;

use crate::protocol::Counts;

/// Reads counters around `call`, which runs in any case; the error is the reason why there are none.
#[cfg(target_os = "linux")]
pub(super) fn around(call: impl FnOnce()) -> Result<Counts, String> {
    use perf_event::events::Hardware;
    use perf_event::{Builder, Group};

    // One group: all counters cover the same time, or none does.
    let opened = Group::new().and_then(|mut group| {
        let instructions = group.add(&Builder::new(Hardware::INSTRUCTIONS))?;
        let mut optional = |event| group.add(&Builder::new(event)).ok();
        let others = [Hardware::CPU_CYCLES, Hardware::CACHE_MISSES, Hardware::BRANCH_MISSES].map(&mut optional);
        Ok((group, instructions, others))
    });
    let (mut group, instructions, others) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            call();
            return Err(refused(&error));
        }
    };
    if let Err(error) = group.enable() {
        call();
        return Err(refused(&error));
    }
    call();
    let data = group.disable().and_then(|()| group.read()).map_err(|error| refused(&error))?;
    if !is_whole(data.time_enabled(), data.time_running()) {
        return Err(of_a_part(kinds_of_cores(Path::new("/sys/bus/event_source/devices"))).to_owned());
    }
    let [cycles, cache_misses, branch_misses] = others.map(|counter| Some(data[&counter?]));
    Ok(Counts { instructions: data[&instructions], cycles, cache_misses, branch_misses })
}

/// Whether the counters ran all the time: the kernel of the system takes them away for milliseconds, to give them to others, and switches them on
/// in less than a microsecond.
#[cfg(target_os = "linux")]
fn is_whole(enabled: Option<Duration>, running: Option<Duration>) -> bool {
    const SWITCH: Duration = Duration::from_micros(100);
    let times = enabled.zip(running);
    times.is_some_and(|(enabled, running)| !running.is_zero() && enabled.saturating_sub(running) <= SWITCH)
}

/// Reason why the counters ran for a part of the launch, on a CPU with this number of kinds of cores.
#[cfg(target_os = "linux")]
fn of_a_part(kinds: usize) -> &'static str {
    if kinds > 1 {
        "this CPU has cores of several kinds, and the launch was not on cores of the kind that is counted all the time, or another \
         program uses the counters"
    } else {
        "the counters of this CPU are taken by another program"
    }
}

/// Number of kinds of cores: each has counters of its own, with a list of these cores.
#[cfg(target_os = "linux")]
fn kinds_of_cores(devices: &Path) -> usize {
    let devices = std::fs::read_dir(devices).into_iter().flatten().flatten();
    devices.filter(|device| device.path().join("cpus").exists()).count().max(1)
}

/// Counts nothing.
#[cfg(not(target_os = "linux"))]
pub(super) fn around(call: impl FnOnce()) -> Result<Counts, String> {
    call();
    Err("only Linux has perf_event".to_owned())
}

#[cfg(target_os = "linux")]
fn refused(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    let level = || std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    match error.kind() {
        ErrorKind::PermissionDenied => format!(
            "perf_event is not permitted here (kernel.perf_event_paranoid is {}; 2 or less lets a program count itself)",
            level().trim()
        ),
        ErrorKind::NotFound => "this CPU shows no hardware counters (many virtual machines have none)".to_owned(),
        _ => format!("perf_event does not work here: {error}"),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_blamed_for_a_launch_on_cores_of_another_kind() {
        let devices = tempfile::tempdir().unwrap();
        let add = |device: &str, file: &str| {
            std::fs::create_dir(devices.path().join(device)).unwrap();
            std::fs::write(devices.path().join(device).join(file), "0-15").unwrap();
        };
        add("uncore_imc", "cpumask");
        assert_eq!((kinds_of_cores(devices.path()), kinds_of_cores(Path::new("/nowhere"))), (1, 1));
        add("cpu_core", "cpus");
        add("cpu_atom", "cpus");
        assert_eq!(kinds_of_cores(devices.path()), 2);
        assert!(of_a_part(1).contains("taken by another program") && of_a_part(2).contains("cores of several kinds"));
    }

    #[test]
    fn counts_of_a_part_of_a_launch_are_none() {
        let of = |enabled: u64, running: u64| {
            is_whole(Some(Duration::from_micros(enabled)), Some(Duration::from_micros(running)))
        };
        assert!(of(5, 5) && of(12, 11) && of(20_000, 19_990));
        assert!(!of(5, 0) && !of(20_000, 16_000) && !of(2_000, 1_000));
        assert!(!is_whole(None, Some(Duration::from_secs(1))) && !is_whole(Some(Duration::from_secs(1)), None));
    }
}
