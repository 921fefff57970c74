//! Energy of the processor's packages, by RAPL, if Linux lets this user read it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::device::Energy;

/// Folder of the counters in Linux, also for AMD.
pub(super) const ROOT: &str = "/sys/class/powercap";

/// The counters move about every millisecond.
const WINDOW: Duration = Duration::from_millis(50);

/// The counters of all packages.
#[derive(Debug)]
pub(super) struct Rapl {
    packages: Vec<Counter>,
}

#[derive(Debug)]
struct Counter {
    path: PathBuf,
    /// Microjoules at which the counter wraps.
    range: u64,
    last: u64,
    /// Microjoules since it was opened.
    total: u64,
}

impl Rapl {
    /// Finds the counters below `root`, or returns the reason why there are none.
    pub(super) fn open(root: &Path) -> Result<Self, String> {
        let mut packages = Vec::new();
        for folder in fs::read_dir(root).into_iter().flatten().flatten() {
            let folder = folder.path();
            // Cores and memory are parts of a package, or zones with names of their own.
            let name = fs::read_to_string(folder.join("name")).unwrap_or_default();
            if !name.starts_with("package") {
                continue;
            }
            let path = folder.join("energy_uj");
            let last = number(&path).map_err(|error| match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    format!("{} may be read by root alone: `sudo chmod a+r` it to measure energy", path.display())
                }
                _ => format!("{}: {error}", path.display()),
            })?;
            let range = number(&folder.join("max_energy_range_uj")).unwrap_or(u64::from(u32::MAX));
            packages.push(Counter { path, range, last, total: 0 });
        }
        if packages.is_empty() {
            return Err(format!("this processor has no energy counter that Linux shows below {}", root.display()));
        }
        Ok(Self { packages })
    }

    pub(super) fn read(&mut self) -> Result<Energy, String> {
        let mut microjoules = 0;
        for counter in &mut self.packages {
            let now = number(&counter.path).map_err(|error| format!("{}: {error}", counter.path.display()))?;
            counter.total += if now >= counter.last { now - counter.last } else { now + counter.range - counter.last };
            counter.last = now;
            microjoules += counter.total;
        }
        Ok(Energy { joules: microjoules as f64 / 1e6, window: WINDOW })
    }
}

fn number(path: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("`{text}`: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_of_packages_is_summed_across_counter_overflow() {
        let root = tempfile::tempdir().unwrap();
        let write = |zone: &str, file: &str, text: &str| {
            fs::create_dir_all(root.path().join(zone)).unwrap();
            fs::write(root.path().join(zone).join(file), text).unwrap();
        };
        for (zone, name) in [("a", "package-0\n"), ("b", "package-1\n"), ("c", "core\n")] {
            write(zone, "name", name);
            write(zone, "max_energy_range_uj", "1000000\n");
            write(zone, "energy_uj", "900000\n");
        }
        let mut rapl = Rapl::open(root.path()).unwrap();
        let read = |rapl: &mut Rapl| (rapl.read().unwrap().joules * 1e6).round();
        assert_eq!(read(&mut rapl).to_bits(), 0f64.to_bits());
        write("a", "energy_uj", "950000\n");
        write("b", "energy_uj", "100000\n");
        write("c", "energy_uj", "999999\n");
        assert_eq!(read(&mut rapl).to_bits(), 250_000f64.to_bits());
        write("b", "energy_uj", "?\n");
        assert!(rapl.read().unwrap_err().contains("energy_uj"));
    }

    #[test]
    fn a_missing_energy_counter_is_named() {
        let root = tempfile::tempdir().unwrap();
        assert!(Rapl::open(root.path()).unwrap_err().contains("no energy counter"));
        assert!(Rapl::open(&root.path().join("none")).is_err());
    }
}
