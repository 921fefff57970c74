//! The mutants of a kernel.

use std::path::Path;

use kbench_runtime::dtype::DType;
use kbench_runtime::fingerprint;
use kbench_runtime::protocol::{Fault, Role};

use super::source::{self, Lack, SourceMutant};
use crate::build::resolve::Point;
use crate::config::{Arg, Backend, CorrectnessLimits, Init, Kernel};
use crate::expr::Expr;
use crate::file;
use crate::gates::correctness::{WORST_ELEMENT, usual_rms_err};
use crate::record::evaluation::ShapeErrors;
use crate::space::Variant;

/// Largest number of swapped toggles.
const SWAPS: usize = 6;

/// Number of variants that are searched for one that swaps a toggle.
const LOOKED_AT: usize = 10_000;

/// A planned mutant.
#[derive(Debug, Clone)]
pub struct Mutant {
    /// Name of the mutant.
    pub name: String,
    /// Description of the fault.
    pub what: String,
    /// Way to make the mutant.
    pub make: Make,
}

/// Kind of a mutant, with its data.
#[derive(Debug, Clone)]
pub enum Make {
    /// The worker spoils the results of each launch.
    Wrapper {
        /// The fault that the worker makes.
        fault: Fault,
        /// The spoilt outputs: indices of tensors, with their types.
        outputs: Vec<(usize, DType)>,
        /// Index of the spoilt input, for a fault that spoils an input.
        input: Option<usize>,
    },
    /// A changed copy of the source.
    Source(SourceMutant),
    /// The code of one variant, launched with the geometry of another.
    Toggles(Variant),
}

/// The mutants of a kernel, and the reasons why some kinds have none.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The mutants to run.
    pub mutants: Vec<Mutant>,
    /// Kinds without a mutant, with the reason.
    pub absent: Vec<String>,
}

/// A tensor among the arguments, with its index.
struct Place<'k> {
    at: usize,
    tensor: &'k crate::config::Tensor,
}

/// Every mutant of a variant with the errors `own`.
pub fn plan(kernel: &Kernel, variant: &Variant, own: &[ShapeErrors]) -> std::io::Result<Plan> {
    let mut plan = Plan::default();
    plan.wrappers(kernel);
    plan.launches(kernel, variant);
    plan.off(kernel, own);
    plan.leave_models_alone(kernel);
    plan.sources(kernel, variant)?;
    plan.swaps(kernel, variant);
    Ok(plan)
}

/// The tensors of the signatures with a role, each once.
fn places<'k>(kernel: &'k Kernel, roles: &[Role]) -> Vec<Place<'k>> {
    let mut places: Vec<Place<'k>> = Vec::new();
    for arg in kernel.implementation.args().filter(|arg| !matches!(arg, Arg::Symbol { .. })) {
        for at in arg.tensors() {
            let tensor = &kernel.tensors[at];
            if roles.contains(&tensor.role) && !places.iter().any(|place| place.at == at) {
                places.push(Place { at, tensor });
            }
        }
    }
    places
}

impl Plan {
    fn add(&mut self, name: impl Into<String>, what: impl Into<String>, make: Make) {
        self.mutants.push(Mutant { name: name.into(), what: what.into(), make });
    }

    fn wrappers(&mut self, kernel: &Kernel) {
        let outputs: Vec<(usize, DType)> =
            places(kernel, &[Role::Out, Role::Inout]).iter().map(|place| (place.at, place.tensor.dtype)).collect();
        if outputs.is_empty() {
            self.absent.push("wrapper mutants: no output is among the arguments".to_owned());
        }
        for (name, what, fault) in [
            ("no-op", "writes nothing", Fault::NoOp),
            ("stale-output", "repeats the outputs of the first launch", Fault::First),
            ("side-stream", "returns before its work is done, which lands at the next launch", Fault::Late),
            ("half-written-tail", "leaves the last elements, 16 at most, as they were", Fault::Tail),
            ("constant-zero", "writes 0 everywhere", Fault::Zeros),
            ("constant-mean", "writes its outputs' mean everywhere", Fault::Mean),
        ] {
            if !outputs.is_empty() {
                self.add(name, what, Make::Wrapper { fault, outputs: outputs.clone(), input: None });
            }
        }
        let inputs = places(kernel, &[Role::In, Role::Inout, Role::Clobbered]);
        match inputs.iter().find(|input| can_be_new(&input.tensor.init)).filter(|_| !outputs.is_empty()) {
            Some(input) => self.add(
                "memoised",
                format!("keeps the outputs of eight inputs, told apart by a few elements of `{}`", input.tensor.name),
                Make::Wrapper { fault: Fault::Memoised, outputs: outputs.clone(), input: Some(input.at) },
            ),
            None => {
                self.absent.push("memoised: the kernel has no input that can be made new in every element".to_owned());
            }
        }
        match places(kernel, &[Role::In]).first() {
            Some(input) => self.add(
                "clobbered-input",
                format!("changes the last byte of `{}`", input.tensor.name),
                Make::Wrapper { fault: Fault::Clobber, outputs: Vec::new(), input: Some(input.at) },
            ),
            None => self.absent.push("clobbered-input: the kernel has no input that must stay as it is".to_owned()),
        }
    }

    /// One mutant for each launch of a variant with several: that launch left out.
    fn launches(&mut self, kernel: &Kernel, variant: &Variant) {
        let shape = &kernel.shapes[kernel.search.shape];
        // The choice of launches does not depend on the device.
        let point = Point { kernel, shape, variant, multiprocessors: 1 };
        let launches = point.launches(&kernel.implementation).unwrap_or_default();
        if launches.len() < 2 {
            return;
        }
        for (at, launch) in launches.iter().enumerate() {
            let make = Make::Wrapper { fault: Fault::Skipped(at), outputs: Vec::new(), input: None };
            self.add(format!("skipped-launch:{}", at + 1), format!("does not launch `{}`", launch.entry.text()), make);
        }
    }

    /// Mutants with an error just over each limit in force. The kernel's own errors are added, so that they cannot hide
    /// the mutant's.
    fn off(&mut self, kernel: &Kernel, own: &[ShapeErrors]) {
        let limits = &kernel.gates.correctness;
        let places = places(kernel, &[Role::Out, Role::Inout]);
        let several = places.len() > 1;
        for place in places {
            for (limit, what, fault) in just_over(limits, place.tensor.dtype, own) {
                let of = if several { format!(" of `{}`", place.tensor.name) } else { String::new() };
                let suffix = if several { format!("-{}", place.tensor.name) } else { String::new() };
                let outputs = vec![(place.at, place.tensor.dtype)];
                let make = Make::Wrapper { fault, outputs, input: None };
                self.add(format!("off-{limit}{suffix}"), format!("{what}{of}"), make);
            }
        }
    }

    /// Removes mutants that only change values, for a model: the outputs of a model are 0 for all inputs.
    fn leave_models_alone(&mut self, kernel: &Kernel) {
        if kernel.implementation.backend != Backend::Fake {
            return;
        }
        let planned = self.mutants.len();
        self.mutants.retain(|mutant| match &mutant.make {
            Make::Wrapper { fault, .. } => match fault {
                Fault::First | Fault::Zeros | Fault::Mean | Fault::Scale { .. } | Fault::Skipped(_) => false,
                Fault::Some { by, .. } | Fault::All { by, .. } => *by != 0.0,
                Fault::NoOp | Fault::Late | Fault::Tail | Fault::Clobber | Fault::Memoised => true,
            },
            Make::Source(_) | Make::Toggles(_) => true,
        });
        if self.mutants.len() < planned {
            self.absent.push("mutants of values: a model's outputs are 0, which they leave as it is".to_owned());
        }
    }

    fn sources(&mut self, kernel: &Kernel, variant: &Variant) -> std::io::Result<()> {
        let implementation = &kernel.implementation;
        if implementation.backend == Backend::Fake {
            self.absent.push("source mutants: a model has no source".to_owned());
            return Ok(());
        }
        let point = Point { kernel, shape: &kernel.shapes[kernel.search.shape], variant, multiprocessors: 1 };
        let resolved = point.source(implementation).and_then(|path| Ok((path, point.entry_names(implementation)?)));
        let (path, entries) = resolved.map_err(std::io::Error::other)?;
        let path = &path;
        let named = |error: std::io::Error| file::in_context(path, &error);
        // Bytes that are not UTF-8 occur in comments and strings only.
        let text = String::from_utf8_lossy(&std::fs::read(path).map_err(named)?).into_owned();
        let entries: Vec<&str> = entries.iter().map(|entry| plain_name(entry)).collect();
        let made = source::mutants(&text, &std::path::absolute(path)?, &entries);
        let file =
            path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
        for lack in Lack::ALL {
            // Only CUDA has shared memory.
            if lack == Lack::Initialisation && implementation.backend != Backend::Cuda {
                continue;
            }
            let name = lack.name();
            if !made.iter().any(|mutant| mutant.lack == lack) {
                let sought = lack.sought();
                self.absent.push(format!("{name}: no {sought} was found in {file} (headers are not mutated)"));
            }
            for mutant in made.iter().filter(|mutant| mutant.lack == lack) {
                let what = format!("{file}:{} {}", mutant.line, mutant.what);
                self.add(format!("{name}:{}", mutant.line), what, Make::Source(mutant.clone()));
            }
        }
        Ok(())
    }

    /// For each toggle that the launch depends on, the nearest variant in which it differs.
    fn swaps(&mut self, kernel: &Kernel, variant: &Variant) {
        let names = names_in_launch(kernel);
        let space = &kernel.space;
        let mut chosen: Vec<Variant> = Vec::new();
        for (toggle, _) in space.toggles.iter().enumerate().filter(|(_, toggle)| names.contains(&toggle.name)) {
            let changes = |other: &Variant| other.0.iter().zip(&variant.0).filter(|(a, b)| a != b).count();
            let differs =
                |other: &Variant| other.0[toggle] != variant.0[toggle] && same_functions(kernel, other, variant);
            let others = space.variants().take(LOOKED_AT).filter(differs);
            let Some(nearest) = others.min_by_key(changes) else { continue };
            if chosen.len() < SWAPS && !chosen.contains(&nearest) {
                chosen.push(nearest);
            }
        }
        if chosen.is_empty() {
            self.absent.push(
                "swapped-toggle: no toggle enters the launch, so every other value is a valid variant of its own"
                    .to_owned(),
            );
        }
        for other in chosen {
            let differs = space.get(&other).zip(space.get(variant)).filter(|(other, own)| other != own);
            let words: Vec<String> = differs.map(|((name, value), _)| format!("{name}={value}")).collect();
            let words = words.join(" ");
            self.add(
                format!("swapped-toggle:{}", words.replace(' ', ",")),
                format!("compiled with {words}, launched without"),
                Make::Toggles(other),
            );
        }
    }
}

/// Whether the contents of a tensor are drawn element by element.
fn can_be_new(init: &Init) -> bool {
    matches!(
        init,
        Init::Normal { .. }
            | Init::Uniform { .. }
            | Init::Integers { .. }
            | Init::Between { .. }
            | Init::Quantize { .. }
    )
}

/// The name of a function without namespaces and template arguments.
fn plain_name(entry: &str) -> &str {
    let name = entry.split('<').next().unwrap_or(entry).trim_end();
    name.rsplit("::").next().unwrap_or(name).trim_start()
}

/// Whether the code of `one` has the functions that `other` launches.
fn same_functions(kernel: &Kernel, one: &Variant, other: &Variant) -> bool {
    kernel.shapes.iter().all(|shape| {
        let names = |variant| {
            let point = Point { kernel, shape, variant, multiprocessors: 1 };
            point.entry_names(&kernel.implementation).ok()
        };
        names(one) == names(other)
    })
}

/// Names in the expressions of grid, block, shared memory, arguments and tensors.
fn names_in_launch(kernel: &Kernel) -> Vec<String> {
    let mut exprs = kernel.implementation.launch_exprs();
    exprs.extend(kernel.tensors.iter().flat_map(|tensor| &tensor.dims));
    exprs.into_iter().flat_map(Expr::names).map(str::to_owned).collect()
}

/// For each limit that holds for an output of type `dtype`: name of the limit, description, and the fault that just
/// exceeds the limit.
fn just_over(limits: &CorrectnessLimits, dtype: DType, own: &[ShapeErrors]) -> Vec<(&'static str, String, Fault)> {
    let worst = |of: fn(&ShapeErrors) -> f64| own.iter().map(of).fold(0.0, f64::max);
    let (max, mean, rms) = (worst(|own| own.max_abs_err), worst(|own| own.mean_abs_err), worst(|own| own.rms_err));
    // One percent more, for rounding in sums.
    let over = |limit: f64, own: f64| (limit + own) * 1.01;
    let mut off = Vec::new();
    if !dtype.is_float() && limits.max_abs_err.is_none() {
        off.push((
            "one-element",
            "one element is off by 1".to_owned(),
            Fault::Some { share: 0.0, by: 1.0, of_rms: 0.0 },
        ));
        return off;
    }
    let stated = limits.max_abs_err.or(limits.max_mean_err).or(limits.max_rms_err).is_some();
    let rms_limit = limits.max_rms_err.or((!stated).then(|| usual_rms_err(dtype)));
    if let Some(limit) = limits.max_abs_err {
        let (by, share) = (over(limit, max), limits.max_bad_fraction);
        let which =
            if share > 0.0 { format!("{share} of the elements and one more are") } else { "one element is".into() };
        off.push(("one-element", format!("{which} off by {by:.2e}"), Fault::Some { share, by, of_rms: 0.0 }));
    } else {
        let of_rms = rms_limit.unwrap_or_else(|| usual_rms_err(dtype)) * WORST_ELEMENT * 1.05;
        let by = max * 1.01;
        let what = format!("one element is off by {of_rms:.2e} of the outputs' rms, or of itself");
        off.push(("one-element", what, Fault::Some { share: 0.0, by, of_rms }));
    }
    if let Some(limit) = limits.max_mean_err {
        let by = over(limit, mean);
        off.push(("mean", format!("every element is off by {by:.2e}"), Fault::All { by, of_rms: 0.0 }));
    }
    if let Some(limit) = rms_limit {
        let by = over(limit, rms) / (1.0 - rms).max(0.1);
        off.push(("scale", format!("every element is {by:.2e} of itself too large"), Fault::Scale { by }));
    }
    if let Some(limit) = limits.max_bias {
        let of_rms = over(limit, worst(|own| own.bias.abs())) / (1.0 - rms).max(0.1);
        let what = format!("every element is off by {of_rms:.2e} of the outputs' rms");
        off.push(("bias", what, Fault::All { by: 0.0, of_rms }));
    }
    off
}

/// File for the changed source of a mutant; equal texts have equal paths.
pub fn source_file(folder: &Path, kernel: &Kernel, mutant: &Mutant, text: &str) -> std::path::PathBuf {
    let hash = fingerprint::of_bytes(text.as_bytes());
    let extension =
        kernel.implementation.source.extension().map_or_else(String::new, |e| format!(".{}", e.to_string_lossy()));
    let name = mutant.name.replace(':', "-");
    folder.join(format!("{}-{}", kernel.package, kernel.name)).join(format!("{name}-{}{extension}", &hash[..8]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<ShapeErrors> {
        let errors = |shape: &str, max_abs_err| ShapeErrors {
            shape: shape.into(),
            seeds: 2,
            max_abs_err,
            mean_abs_err: 1e-3,
            rms_err: 1e-2,
            bias: -1e-3,
            naive_rms_err: None,
            quantization: None,
            patterns: Vec::new(),
        };
        vec![errors("small", 0.01), errors("large", 0.02)]
    }

    fn names(limits: &CorrectnessLimits, dtype: DType) -> Vec<(&'static str, Fault)> {
        just_over(limits, dtype, &own()).into_iter().map(|(name, _, fault)| (name, fault)).collect()
    }

    #[test]
    fn mutants_of_values_exceed_each_limit() {
        let limits = CorrectnessLimits {
            max_abs_err: Some(0.06),
            max_mean_err: Some(0.02),
            max_rms_err: Some(0.1),
            max_bias: Some(0.01),
            ..CorrectnessLimits::default()
        };
        let made = names(&limits, DType::F16);
        assert_eq!(made.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["one-element", "mean", "scale", "bias"]);
        let Fault::Some { share, by, of_rms } = made[0].1 else { panic!("{made:?}") };
        assert!(share == 0.0 && of_rms == 0.0 && by > 0.08 && by < 0.085, "{made:?}");
        assert!(matches!(made[1].1, Fault::All { by, .. } if by > 0.021 && by < 0.022), "{made:?}");
        assert!(matches!(made[2].1, Fault::Scale { by } if by > 0.11 && by < 0.12), "{made:?}");
    }

    #[test]
    fn mutants_of_values_exceed_default_limits_of_the_type() {
        let none = CorrectnessLimits::default();
        assert_eq!(names(&none, DType::I32), [("one-element", Fault::Some { share: 0.0, by: 1.0, of_rms: 0.0 })]);
        let made = names(&none, DType::F32);
        assert_eq!(made.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["one-element", "scale"]);
        // A limit on the mean alone does not limit the rms error; the type limits one element.
        let mean = CorrectnessLimits { max_mean_err: Some(0.1), ..none };
        let made = names(&mean, DType::F32);
        assert_eq!(made.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["one-element", "mean"]);
    }
}
