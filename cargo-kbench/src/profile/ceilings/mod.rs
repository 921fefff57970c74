//! The ceilings of a device for the roofline, measured by kernels of this crate and kept in a file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::file;
use crate::record::elite::DeviceRecord;
use crate::record::sealed;

pub(crate) mod micro;

/// Version of the method of measurement; increase it when the method changes.
pub const METHOD: u32 = 1;

/// The measured quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Peak {
    /// Bytes read and written by a copy far larger than the last cache.
    Copy,
    /// Operations of fused multiply-adds on 32-bit floats, without tensor cores.
    Fp32,
    /// Operations of tensor cores on 16-bit floats, sums in 32 bits.
    TensorF16,
    /// Operations of tensor cores on 8-bit floats, sums in 32 bits.
    TensorF8,
}

impl fmt::Display for Peak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Peak::Copy => "copy",
            Peak::Fp32 => "fp32",
            Peak::TensorF16 => "tensor f16",
            Peak::TensorF8 => "tensor fp8",
        })
    }
}

/// A ceiling of a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Ceiling {
    /// The measured quantity.
    pub peak: Peak,
    /// Bytes or operations a second, in the fastest sample.
    pub rate: f64,
    /// Kernel that measured the ceiling.
    pub how: String,
}

impl fmt::Display for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peak, rate, how } = self;
        match peak {
            Peak::Copy => write!(f, "{peak} {:.0} GB/s ({how})", rate / 1e9),
            _ if *rate < 1e12 => write!(f, "{peak} {:.1} GFLOP/s ({how})", rate / 1e9),
            _ => write!(f, "{peak} {:.1} TFLOP/s ({how})", rate / 1e12),
        }
    }
}

/// The ceilings of a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(clippy::struct_field_names, reason = "the keys of the format")]
pub struct Ceilings {
    /// Value of [`METHOD`] at the measurement.
    pub method: u32,
    /// Version of cargo-kbench at the measurement.
    pub kbench: String,
    /// The device, with its driver.
    pub device: DeviceRecord,
    /// The measured ceilings.
    pub ceilings: Vec<Ceiling>,
    /// Date of the measurement, UTC, RFC 3339.
    pub date: String,
}

impl Ceilings {
    /// Ceilings that this version measured.
    pub fn new(device: DeviceRecord, ceilings: Vec<Ceiling>, date: String) -> Self {
        Self { method: METHOD, kbench: env!("CARGO_PKG_VERSION").to_owned(), device, ceilings, date }
    }

    /// A ceiling; none if it was not measured.
    pub fn of(&self, peak: Peak) -> Option<&Ceiling> {
        self.ceilings.iter().find(|ceiling| ceiling.peak == peak)
    }

    /// These ceilings, each replaced by that of `other` where `other` has a higher one.
    #[must_use]
    pub fn or_higher(mut self, other: &Self) -> Self {
        for ceiling in &mut self.ceilings {
            if let Some(higher) = other.of(ceiling.peak).filter(|other| other.rate > ceiling.rate) {
                *ceiling = higher.clone();
            }
        }
        self
    }

    /// The ceilings of a device in `folder`. A file that is damaged, or of another device, driver, method or version, counts as missing.
    pub fn load(folder: &Path, device: &DeviceRecord) -> Option<Self> {
        let text = file::read(&path(folder, device)).ok()?;
        let fields = sealed::open(text.strip_suffix('\n')?.as_bytes())?;
        let kept: Self = serde_json::from_slice(&[fields, b"}"].concat()).ok()?;
        let measured = Self::new(device.clone(), kept.ceilings.clone(), kept.date.clone());
        (kept == measured).then_some(kept)
    }

    /// Writes the ceilings to `folder`.
    pub fn store(&self, folder: &Path) -> io::Result<()> {
        std::fs::create_dir_all(folder).map_err(|error| file::in_context(folder, &error))?;
        file::write(&path(folder, &self.device), &sealed::seal(serde_json::to_vec(self)?))
    }
}

/// Path of the file: one for each device and driver.
fn path(folder: &Path, device: &DeviceRecord) -> PathBuf {
    let text = format!("{} {}", device.name, device.driver);
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '-' };
    folder.join(format!("{}.json", text.chars().map(plain).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ceilings() -> Ceilings {
        let device = DeviceRecord {
            kind: "cuda".into(),
            name: "NVIDIA H200".into(),
            driver: "13.0".into(),
            compute_capability: Some("9.0".into()),
            multiprocessors: 132,
            clock_khz: 1_980_000,
        };
        let copy = Ceiling { peak: Peak::Copy, rate: 4.1e12, how: "512 MiB".into() };
        Ceilings::new(device, vec![copy], "2026-01-01T00:00:00Z".into())
    }

    #[test]
    fn ceilings_are_kept_by_device_and_driver() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("ceilings");
        let kept = ceilings();
        kept.store(&folder).unwrap();
        assert_eq!(Ceilings::load(&folder, &kept.device).as_ref(), Some(&kept));
        assert!(folder.join("NVIDIA-H200-13.0.json").is_file());
        let other = DeviceRecord { multiprocessors: 114, ..kept.device.clone() };
        assert_eq!(Ceilings::load(&folder, &other), None);
    }

    #[test]
    fn the_higher_of_two_measurements_counts() {
        let kept = ceilings();
        let of = |rates: &[(Peak, f64)]| {
            let ceilings = rates.iter().map(|&(peak, rate)| Ceiling { peak, rate, how: format!("{rate}") }).collect();
            Ceilings::new(kept.device.clone(), ceilings, String::new())
        };
        let (low, mixed) =
            (of(&[(Peak::Copy, 1e12), (Peak::Fp32, 5e13)]), of(&[(Peak::Copy, 2e12), (Peak::Fp32, 4e13)]));
        let highest = of(&[(Peak::Copy, 2e12), (Peak::Fp32, 5e13)]);
        assert_eq!(low.clone().or_higher(&mixed), highest);
        assert_eq!(mixed.or_higher(&low), highest);
    }

    #[test]
    fn a_file_of_other_conditions_or_a_damaged_one_counts_as_missing() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, kept) = (folder.path(), ceilings());
        let other = |change: &dyn Fn(&mut Ceilings)| {
            let mut other = kept.clone();
            change(&mut other);
            other.store(folder).unwrap();
            let stored = path(folder, &other.device);
            let asked = path(folder, &kept.device);
            if stored != asked {
                std::fs::rename(stored, asked).unwrap();
            }
            Ceilings::load(folder, &kept.device)
        };
        assert_eq!(other(&|_| ()).as_ref(), Some(&kept));
        assert_eq!(other(&|other| other.method += 1), None);
        assert_eq!(other(&|other| other.kbench = "0.0.1".into()), None);
        assert_eq!(other(&|other| other.device.driver = "12.9".into()), None);
        assert_eq!(other(&|other| other.device.name = "NVIDIA H100".into()), None);
        kept.store(folder).unwrap();
        let path = path(folder, &kept.device);
        let text = std::fs::read(&path).unwrap();
        // The rate of 4.1e12 becomes 5.1e12, and so on.
        for at in 0..text.len() {
            let mut damaged = text.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(Ceilings::load(folder, &kept.device), None, "byte {at}");
        }
    }

    #[test]
    fn ceilings_have_their_unit() {
        let ceiling = |peak, rate| Ceiling { peak, rate, how: "x".into() }.to_string();
        assert_eq!(ceiling(Peak::Copy, 4.1e12), "copy 4100 GB/s (x)");
        assert_eq!(ceiling(Peak::Fp32, 61.2e12), "fp32 61.2 TFLOP/s (x)");
        assert_eq!(ceiling(Peak::Fp32, 98.76e9), "fp32 98.8 GFLOP/s (x)");
    }
}
