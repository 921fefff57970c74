//! The ceilings of the open device: from their file, or measured by the worker as a kernel is.

use std::fs;
use std::path::PathBuf;

use kbench_runtime::protocol::{CacheMode, DeviceKind, LaunchMode, TimeJob};

use super::arch::arch_for;
use super::{Halt, Harness, Notice, caught};
use crate::config::Backend;
use crate::file::in_context;
use crate::process::executor::ExecutorError;
use crate::profile::ceilings::micro::{self, Micro};
use crate::profile::ceilings::{Ceiling, Ceilings};
use crate::record::elite::DeviceRecord;
use crate::text;

/// Number of samples of each ceiling, of which the fastest counts.
const SAMPLES: u32 = 30;

impl Harness<'_> {
    /// Ceilings of this device, or the reason why they are not known.
    pub fn ceilings(&mut self) -> Result<Ceilings, Halt<String>> {
        if self.ceilings.is_none() {
            self.ceilings = Some(caught(self.find_ceilings())?);
        }
        self.ceilings.clone().expect("just set").map_err(Halt::Variant)
    }

    /// Ceilings of this device that an earlier run measured.
    pub fn known_ceilings(&self) -> Option<Ceilings> {
        if let Some(known) = &self.ceilings {
            return known.clone().ok();
        }
        Ceilings::load(&self.ceilings_folder(), &DeviceRecord::from(&self.context.device))
    }

    fn ceilings_folder(&self) -> PathBuf {
        self.context.setup.work_directory.join("ceilings")
    }

    /// Ceilings of this device, none of them below a second measurement in this run: the known ones may have been measured on a busy machine.
    pub fn confirmed_ceilings(&mut self) -> Result<Ceilings, Halt<String>> {
        let known = self.ceilings()?;
        if self.has_confirmed_ceilings {
            return Ok(known);
        }
        let confirmed = self.measure_ceilings()?.or_higher(&known);
        confirmed.store(&self.ceilings_folder())?;
        self.ceilings = Some(Ok(confirmed.clone()));
        self.has_confirmed_ceilings = true;
        Ok(confirmed)
    }

    /// Ceilings of this device that end a search: where known ones can be measured again, none of them below the new measurement.
    pub fn ceilings_to_reach(&mut self) -> Result<Ceilings, Halt<String>> {
        if self.known_ceilings().is_none() {
            return self.ceilings();
        }
        match self.confirmed_ceilings() {
            Err(Halt::Variant(_)) => self.ceilings(),
            confirmed => confirmed,
        }
    }

    fn find_ceilings(&mut self) -> Result<Ceilings, Halt<String>> {
        if let Some(kept) = self.known_ceilings() {
            return Ok(kept);
        }
        let measured = self.measure_ceilings()?;
        measured.store(&self.ceilings_folder())?;
        Ok(measured)
    }

    fn measure_ceilings(&mut self) -> Result<Ceilings, Halt<String>> {
        let info = self.context.device.clone();
        let device = DeviceRecord::from(&info);
        // The device's own architecture, not that of the table.
        let arch = (info.kind == DeviceKind::Cuda).then(|| arch_for(&[], &info)).transpose()?;
        let all = micro::all(&info, arch.as_deref());
        if all.is_empty() {
            return Err(Halt::Variant(format!("{} has no measured ceilings", device.name)));
        }
        (self.context.setup.notify)(&Notice::Ceilings { device: device.name.clone() });
        let mut ceilings = Vec::new();
        for micro in &all {
            let rate = caught(self.ceiling(micro, info.kind, arch.as_deref()))?
                .map_err(|why| Halt::Variant(format!("the ceiling `{}` could not be measured: {why}", micro.peak)))?;
            ceilings.push(Ceiling { peak: micro.peak, rate, how: micro.how.clone() });
        }
        Ok(Ceilings::new(device, ceilings, text::now()))
    }

    /// Measures a ceiling, in bytes or operations a second.
    fn ceiling(&mut self, micro: &Micro, kind: DeviceKind, arch: Option<&str>) -> Result<f64, Halt<String>> {
        let backend = if arch.is_some() { Backend::Cuda } else { Backend::C };
        let folder = self.context.setup.work_directory.join("ceilings");
        let (name, text) = micro::source(backend);
        let source = folder.join(name);
        if fs::read(&source).ok().as_deref() != Some(text.as_bytes()) {
            fs::create_dir_all(&folder).map_err(|error| in_context(&folder, &error))?;
            crate::file::write(&source, text.as_bytes())?;
        }
        let mut artifacts = Vec::new();
        for unit in micro.units(&source, arch) {
            artifacts.push(self.context.setup.compiler.compile(&unit).map_err(Halt::because)?);
        }
        for artifact in &artifacts {
            self.worker.add_blob(&artifact.hash, &artifact.code);
        }
        let artifacts = <[_; 2]>::try_from(artifacts).expect("two units");
        let job = TimeJob {
            id: 0,
            cases: vec![micro.case(kind, &artifacts)],
            seed: 0,
            other_seed: None,
            warmup: 3,
            iterations: SAMPLES,
            until: None,
            cutoff_ns: None,
            // Launches follow each other: the next launch writes back the lines that a copy leaves dirty in a cache.
            cache: CacheMode::Hot,
            launch: LaunchMode::Graph,
            bad_above: 0.0,
            rank_only: false,
            new_inputs: false,
            slow: Vec::new(),
            announce: false,
            energy: false,
            second_clock: false,
        };
        let timing = match self.worker.time(job, self.context.timeout()) {
            Ok(mut timings) if timings.len() == 1 => timings.remove(0),
            Ok(_) => return Err(Halt::because("the worker timed nothing")),
            Err(ExecutorError::Job { failure, .. }) => return Err(Halt::because(failure)),
            Err(error) => return Err(error.into()),
        };
        let wrong =
            timing.after.outputs.iter().find(|output| output.bad > 0 || output.unwritten + output.nonfinite > 0);
        if let Some(wrong) = wrong {
            let (output, reference) = (wrong.output_at, wrong.reference_at);
            return Err(Halt::Variant(format!("its result is wrong: {output} in place of {reference}")));
        }
        let best = timing.samples.iter().copied().fold(f64::INFINITY, f64::min);
        if !best.is_finite() || best <= 0.0 {
            return Err(Halt::because("its samples are not numbers"));
        }
        Ok(micro.amount / best * 1e9)
    }
}
