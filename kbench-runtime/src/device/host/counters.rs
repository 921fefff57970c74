//! The processor's own counters, through `perf_event` where the system has it.

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
    if data.time_running().is_none_or(|time| time.is_zero()) {
        return Err("the counters of this CPU are taken by another program".to_owned());
    }
    let [cycles, cache_misses, branch_misses] = others.map(|counter| Some(data[&counter?]));
    Ok(Counts { instructions: data[&instructions], cycles, cache_misses, branch_misses })
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
