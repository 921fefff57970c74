//! The GPU's clock during sampling, by NVML, if it is installed.
//!
//! NVML is asked between samples, never during one, and seldom: a call takes up to a millisecond. A GPU counts as
//! throttled when it says so (heat, power brake, hardware slowdown) or when its multiprocessors run at less than three
//! quarters of their fastest clock since the device was opened, which is `NVBench`'s threshold. Under a power cap a
//! heavy kernel settles at a lower clock; the power cap alone is recorded and does not count as throttling.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use cudarc::driver::sys::CUdevice;
use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::Clock;
use nvml_wrapper::error::NvmlError;

use super::driver;
use crate::device::{DisturbanceCheck, Energy};
use crate::protocol::{Disturbance, SmClock};

/// Time between two readings.
const WINDOW: Duration = Duration::from_millis(50);

/// Length of the windows over which energy is measured: the counter moves every 20 to 100 ms.
const ENERGY_WINDOW: Duration = Duration::from_millis(250);

/// Time without samples after throttling.
const RECOVERY: Duration = Duration::from_millis(50);

/// Share of the fastest clock below which the GPU is throttled.
const SLOW: f64 = 0.75;

/// Paths of the driver's library: by name, and mount points of clusters.
const LIBRARIES: [&str; 2] = ["libnvidia-ml.so.1", "/usr/local/nvidia/lib64/libnvidia-ml.so.1"];

/// One handle for the process, opened in the background, since that takes a while.
static NVML: OnceLock<Option<Nvml>> = OnceLock::new();

/// Reads one GPU's clock.
pub(super) struct Clocks {
    bus_id: String,
    gpu: Option<nvml_wrapper::Device<'static>>,
    since: Instant,
    judge: Judge,
    others: Others,
}

/// Processes that used the GPU.
#[derive(Debug, Default)]
struct Others {
    /// Process numbers in the numbering of the host.
    busy: BTreeSet<u32>,
    /// Time of the last query, in microseconds.
    until: u64,
}

/// Meaning of the readings, separate from NVML, so that it can be tested without a GPU.
#[derive(Debug, Default)]
struct Judge {
    readings: Vec<u32>,
    reasons: Vec<String>,
    fastest: u32,
    max: u32,
}

impl Clocks {
    /// The clock of the GPU with this index.
    pub(super) fn new(device: CUdevice) -> Self {
        // Without a thread, the first use opens NVML.
        let _ = thread::Builder::new().spawn(|| NVML.get_or_init(open));
        let (since, judge) = (Instant::now(), Judge::default());
        Self { bus_id: driver::bus_id(device).unwrap_or_default(), gpu: None, since, judge, others: Others::default() }
    }

    pub(super) fn check_disturbance(&mut self, now: bool) -> DisturbanceCheck {
        if !now && self.since.elapsed() < WINDOW {
            return DisturbanceCheck::NotDue;
        }
        self.since = Instant::now();
        match self.read() {
            Some((mhz, reasons)) => {
                let watch = self.judge.hear(mhz, reasons);
                if watch != DisturbanceCheck::Undisturbed {
                    thread::sleep(RECOVERY);
                }
                watch
            }
            None => DisturbanceCheck::Undisturbed,
        }
    }

    fn read(&mut self) -> Option<(u32, ThrottleReasons)> {
        let gpu = self.gpu(NVML.get()?.as_ref()?).ok()?;
        let mhz = gpu.clock_info(Clock::SM).ok()?;
        let reasons = gpu.current_throttle_reasons().unwrap_or(ThrottleReasons::NONE);
        let until = self.others.until;
        let processes = self.gpu.as_ref()?.process_utilization_stats(until).unwrap_or_default();
        self.others.hear(processes.iter().map(|process| (process.pid, process.timestamp, process.sm_util)));
        Some((mhz, reasons))
    }

    fn gpu(&mut self, nvml: &'static Nvml) -> Result<&nvml_wrapper::Device<'static>, NvmlError> {
        let gpu = if let Some(gpu) = self.gpu.take() {
            gpu
        } else {
            // CUDA's order of devices is not NVML's, and CUDA_VISIBLE_DEVICES applies to CUDA alone.
            let gpu = nvml.device_by_pci_bus_id(&*self.bus_id)?;
            self.judge.max = gpu.max_clock_info(Clock::SM).unwrap_or(0);
            gpu
        };
        Ok(self.gpu.insert(gpu))
    }

    /// Number of other processes that used the GPU since the last call.
    pub(super) fn in_use(&mut self) -> Option<String> {
        let others = self.others.taken(std::process::id());
        (others > 0)
            .then(|| if others == 1 { "another process".to_owned() } else { format!("{others} other processes") })
    }

    pub(super) fn taken(&mut self) -> Option<SmClock> {
        self.judge.taken()
    }

    /// The energy counter of the whole board, which includes other users of the GPU.
    pub(super) fn energy(&mut self) -> Result<Energy, String> {
        let nvml = NVML.get_or_init(open).as_ref().ok_or("NVML, which reads the GPU's energy, is not installed")?;
        let millijoules = self.gpu(nvml).and_then(nvml_wrapper::Device::total_energy_consumption);
        let millijoules =
            millijoules.map_err(|error| format!("NVML does not report the energy of this GPU: {error}"))?;
        Ok(Energy { joules: millijoules as f64 / 1e3, window: ENERGY_WINDOW })
    }
}

impl Others {
    /// Usage of the multiprocessors by process and time.
    fn hear(&mut self, processes: impl Iterator<Item = (u32, u64, u32)>) {
        for (process, until, share) in processes.filter(|(_, until, _)| *until > self.until).collect::<Vec<_>>() {
            self.until = self.until.max(until);
            if share > 0 {
                self.busy.insert(process);
            }
        }
    }

    /// Number of other processes. In a container this process has another number on the host: one of the active
    /// processes is then this one.
    /// this one then.
    fn taken(&mut self, own: u32) -> usize {
        let busy = std::mem::take(&mut self.busy);
        let own = usize::from(busy.contains(&own) || !busy.is_empty());
        busy.len() - own
    }
}

impl Judge {
    fn hear(&mut self, mhz: u32, reasons: ThrottleReasons) -> DisturbanceCheck {
        let idle = reasons.contains(ThrottleReasons::GPU_IDLE);
        self.readings.push(mhz);
        self.fastest = self.fastest.max(mhz);
        for (name, _) in (reasons - ThrottleReasons::GPU_IDLE).iter_names() {
            if !self.reasons.iter().any(|known| known == name) {
                self.reasons.push(name.to_owned());
            }
        }
        let forced = ThrottleReasons::HW_SLOWDOWN
            | ThrottleReasons::HW_THERMAL_SLOWDOWN
            | ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN
            | ThrottleReasons::SW_THERMAL_SLOWDOWN;
        // The clock of an idle GPU has no relation to the samples before.
        let slow = !idle && f64::from(mhz) < SLOW * f64::from(self.fastest);
        if slow || reasons.intersects(forced) {
            DisturbanceCheck::Disturbed(Disturbance::Throttled)
        } else {
            DisturbanceCheck::Undisturbed
        }
    }

    fn taken(&mut self) -> Option<SmClock> {
        SmClock::of(&mut std::mem::take(&mut self.readings), self.max, std::mem::take(&mut self.reasons))
    }
}

fn open() -> Option<Nvml> {
    LIBRARIES.iter().find_map(|path| Nvml::builder().lib_path(OsStr::new(path)).init().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_users_of_the_gpu_since_the_last_check_are_found() {
        let mut others = Others::default();
        others.hear([(7, 100, 90), (8, 100, 0)].into_iter());
        assert_eq!(others.taken(7), 0, "idle ones do not count");
        others.hear([(7, 200, 50), (8, 200, 40), (9, 90, 99)].into_iter());
        assert_eq!(others.taken(7), 1);
        others.hear([(7, 300, 50), (8, 300, 40)].into_iter());
        assert_eq!(others.taken(1), 1, "in a container one of the two is this process");
        assert_eq!(others.taken(7), 0);
    }

    const THROTTLED: DisturbanceCheck = DisturbanceCheck::Disturbed(Disturbance::Throttled);

    #[test]
    fn a_gpu_is_throttled_by_its_flags_or_a_much_lower_clock() {
        let mut judge = Judge { max: 1980, ..Judge::default() };
        assert_eq!(
            judge.hear(1200, ThrottleReasons::NONE),
            DisturbanceCheck::Undisturbed,
            "locked to it, for all that is known"
        );
        assert_eq!(judge.hear(1980, ThrottleReasons::NONE), DisturbanceCheck::Undisturbed);
        assert_eq!(judge.hear(1500, ThrottleReasons::SW_POWER_CAP), DisturbanceCheck::Undisturbed);
        assert_eq!(judge.hear(1400, ThrottleReasons::SW_POWER_CAP), THROTTLED);
        assert_eq!(judge.hear(345, ThrottleReasons::GPU_IDLE), DisturbanceCheck::Undisturbed);
        assert_eq!(judge.hear(1980, ThrottleReasons::SW_THERMAL_SLOWDOWN), THROTTLED);
        let clock = judge.taken().unwrap();
        assert_eq!((clock.median_mhz, clock.min_mhz, clock.max_mhz, clock.readings), (1500, 345, 1980, 6));
        assert_eq!(clock.reasons, ["SW_POWER_CAP", "SW_THERMAL_SLOWDOWN"]);
        assert_eq!(judge.taken(), None, "begun anew");
        assert_eq!(judge.hear(1400, ThrottleReasons::NONE), THROTTLED, "what it ran at is remembered");
    }

    #[test]
    fn without_nvml_no_sample_is_discarded() {
        let mut clocks = Clocks {
            bus_id: "no such bus".into(),
            gpu: None,
            since: Instant::now(),
            judge: Judge::default(),
            others: Others::default(),
        };
        assert_eq!(clocks.check_disturbance(true), DisturbanceCheck::Undisturbed);
        assert_eq!(clocks.taken(), None);
        assert!(clocks.energy().unwrap_err().contains("NVML"));
    }
}
