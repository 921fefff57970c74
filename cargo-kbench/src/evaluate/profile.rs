//! One variant under the profiler, beside its measured time and the ceilings; and the counters gate.

use kbench_runtime::protocol::RunJob;

use super::{RunError, Workbench};
use crate::build::profiler::{self, Profiled};
use crate::config::counters::full_name;
use crate::config::{Backend, Level};
use crate::gates::{self, at_level};
use crate::process::executor::{Executor, ExecutorError, WorkerOptions};
use crate::profile::{Counted, METRICS, Profile, Roofline, diagnose, ncu};
use crate::record::elite::{DeviceRecord, TimingSettings};
use crate::record::evaluation::{Evaluation, Rejection, TimingRecord};
use crate::space::Variant;

/// A profiler runs a kernel once for each handful of metrics, saves and restores its memory in between.
const REPLAYS: u32 = 20;

/// What the counters gate found of a variant.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    /// Why it is rejected.
    pub rejection: Option<Rejection>,
    /// What it found at level `warn`.
    pub warnings: Vec<String>,
    /// What it judged, a profile a shape.
    pub profiles: Vec<Profile>,
}

impl Workbench<'_> {
    /// Gate 4 of a variant that passed so far, until one shape rejects it. `None` where the table does not ask for it.
    pub fn judge_counters(&mut self, variant: &Variant, evaluation: &Evaluation) -> Result<Option<Judged>, RunError> {
        let gate = &self.kernel.gates.counters;
        if gate.level == Level::Allow {
            return Ok(None);
        }
        let mut judged = Judged::default();
        for &shape in &gate.shapes {
            let finding = match self.profile(variant, shape, evaluation)? {
                Ok(profile) => {
                    let finding = gates::counters::judge(gate, &profile);
                    judged.profiles.push(profile);
                    finding
                }
                Err(rejection) => Some(rejection),
            };
            judged.rejection = at_level(gate.level, finding, &mut judged.warnings);
            if judged.rejection.is_some() {
                break;
            }
        }
        Ok(Some(judged))
    }

    /// Profiles a variant that passed gates 1 and 2, at one of the shapes it was checked on.
    pub fn profile(
        &mut self,
        variant: &Variant,
        shape: usize,
        evaluation: &Evaluation,
    ) -> Result<Result<Profile, Rejection>, RunError> {
        let kernel = self.kernel;
        let timing = match self.time_at(variant, shape, evaluation)? {
            Ok(timing) => timing,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let counters = match self.count(variant, shape) {
            Ok(counters) => counters,
            Err(error @ RunError::Executor(ExecutorError::Interrupted)) => return Err(error),
            Err(error) => Err(error.to_string()),
        };
        // What takes long is not measured for nothing.
        let (flops, bytes) = self.builder.point(kernel, shape, variant).work();
        let roofline = if flops.is_none() && bytes.is_none() {
            Err("`work` is not in the table".to_owned())
        } else {
            self.ceilings()?.and_then(|ceilings| {
                Roofline::of(kernel, (flops, bytes), timing.summary.p50, &ceilings, counters.as_ref().ok())
            })
        };
        let place = &kernel.shapes[shape];
        let device = self.device.as_ref().expect("profiled on an open bench");
        Ok(Ok(Profile {
            package: kernel.package.clone(),
            kernel: kernel.name.clone(),
            device: DeviceRecord::from(device),
            shape: place.name.clone(),
            dims: place.dims.iter().cloned().collect(),
            toggles: kernel.space.settings(variant),
            source: self.builder.source.as_ref().map(|source| source.record.clone()),
            timing,
            cache: TimingSettings::from(&kernel.timing).cache,
            diagnosis: diagnose(&counters, &roofline),
            counters,
            roofline,
        }))
    }

    /// Its time without a profiler: what was measured already, or measured now.
    fn time_at(
        &mut self,
        variant: &Variant,
        shape: usize,
        evaluation: &Evaluation,
    ) -> Result<Result<TimingRecord, Rejection>, RunError> {
        if let Some(timing) = evaluation.timing.as_ref().filter(|_| shape == self.kernel.search.shape) {
            return Ok(Ok(timing.clone()));
        }
        let entrant = self.entrant(variant);
        let name = self.entrant_name(&entrant);
        let mut compared = self.compare(shape, &[entrant])?;
        Ok(match compared.unavailable.remove(&name) {
            Some(rejection) => Err(rejection),
            None => Ok(compared.entries.remove(0).timing),
        })
    }

    /// Runs a variant once under ncu, or with the CPU's own counters; the inner error is why there are none.
    fn count(&mut self, variant: &Variant, shape: usize) -> Result<Result<Counted, String>, RunError> {
        let kernel = self.kernel;
        let implementation = &self.builder.implementation().clone();
        let built = match self.builder.build_implementation(kernel, implementation, variant, &[shape])? {
            Ok(built) => built,
            Err(rejection) => return Ok(Err(rejection.to_string())),
        };
        let artifact = built.artifact(shape);
        let case = match self.builder.point(kernel, shape, variant).case(implementation, artifact, &self.files) {
            Ok(case) => case,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let of_cpu = implementation.backend == Backend::C;
        let (tool, metrics, log) = if of_cpu {
            (Vec::new(), Vec::new(), None)
        } else {
            let remote = !kernel.runner.is_empty();
            let ncu = match self.builder.compiler.ncu(remote) {
                Ok(ncu) => ncu,
                Err(error) => return Ok(Err(error.to_string())),
            };
            let metrics = self.metrics();
            // Elsewhere, a file would be elsewhere too.
            let log = if remote { None } else { Some(tempfile::tempdir()?) };
            let path = log.as_ref().map_or_else(|| "stderr".into(), |folder| folder.path().join("ncu.csv"));
            let profiled = Profiled {
                metrics: &metrics,
                symbol: &artifact.symbol,
                cache: kernel.timing.cache,
                log: &path.to_string_lossy(),
            };
            (profiler::command(&ncu, &profiled), metrics, log)
        };

        let mut executor = Executor::new(WorkerOptions { tool, ..self.worker_options.clone() });
        executor.add_blob(&artifact.hash, &artifact.code);
        for (path, hash) in &self.files {
            executor.add_blob(hash, path);
        }
        let job = RunJob { id: 0, case, seed: 0, count: of_cpu };
        let watched = match executor.run_to_end(job, self.timeout() * REPLAYS) {
            Ok(watched) => watched,
            Err(error @ ExecutorError::Interrupted) => return Err(error.into()),
            Err(error) => return Ok(Err(error.to_string())),
        };
        if of_cpu {
            let failed =
                || watched.failure.map_or_else(|| "the worker did not answer".to_owned(), |why| why.to_string());
            let counts = watched.counts.unwrap_or_else(|| Err(failed()));
            return Ok(counts.map(|counts| Counted::of_cpu(&counts)));
        }
        let written = log.and_then(|folder| std::fs::read_to_string(folder.path().join("ncu.csv")).ok());
        let text = written.unwrap_or(watched.report);
        Ok(match (ncu::parse(&text, &metrics), watched.failure) {
            (Ok(metrics), None) => Ok(Counted { by: "ncu".to_owned(), metrics }),
            (Ok(_), Some(failure)) => Err(format!("under ncu the kernel did not end well: {failure}")),
            (Err(why), _) => Err(why),
        })
    }

    /// Full names of what is asked of ncu: what the diagnosis and the gate look at, each once.
    fn metrics(&self) -> Vec<String> {
        let own = METRICS.iter().map(|name| full_name(name));
        let conditions = self.kernel.gates.counters.conditions.iter().map(|condition| condition.metric.clone());
        let mut metrics: Vec<String> = Vec::new();
        for metric in own.chain(conditions.filter(|metric| !metric.starts_with("roofline__"))) {
            if !metrics.contains(&metric) {
                metrics.push(metric);
            }
        }
        metrics
    }
}
