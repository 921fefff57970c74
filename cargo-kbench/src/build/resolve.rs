//! Evaluates expressions of the table at one shape and variant, for the protocol. Above 400 lines: one type, one method
//! for each part of a job.

use std::collections::HashMap;
use std::path::PathBuf;

use kbench_runtime::dtype::DType;
use kbench_runtime::protocol::{self, Case, Geometry, Number, Sequence, Source, TensorSpec};

use crate::build::{Artifact, Constant, Entry, Param};
use crate::config::{
    Arg, ArgValue, Backend, Implementation, Init, Kernel, Launch, Layout, Shape, TensorMap, Word, Work,
};
use crate::expr::{EvalError, Expr, Template, Value};
use crate::space::{Reach, Toggle, Variant, macro_text};

/// A kernel at one shape and variant: the point at which its expressions are evaluated.
#[derive(Debug, Clone, Copy)]
pub struct Point<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// The shape.
    pub shape: &'a Shape,
    /// The variant.
    pub variant: &'a Variant,
    /// Value of `SM_COUNT`; 1 if no device is open, which affects only the grid.
    pub multiprocessors: u32,
}

/// Reason why a point has no launch: an expression fails, or its value is not allowed.
#[derive(Debug, thiserror::Error)]
#[error("{what} = \"{text}\": {why}")]
pub struct ResolveError {
    what: String,
    text: String,
    why: String,
}

impl Point<'_> {
    fn lookup(&self, name: &str) -> Option<Value> {
        let dim = self.shape.dims.iter().find(|(dim, _)| dim == name).map(|&(_, size)| Value::Int(size));
        dim.or_else(|| self.kernel.space.value(self.variant, name).cloned())
            .or_else(|| (name == "SM_COUNT").then(|| Value::Int(i64::from(self.multiprocessors))))
    }

    fn eval(&self, what: &str, expr: &Expr) -> Result<Value, ResolveError> {
        expr.eval(&|name| self.lookup(name)).map_err(|error: EvalError| resolve_error(what, expr, &error.to_string()))
    }

    fn unsigned(&self, what: &str, expr: &Expr, least: i64) -> Result<u64, ResolveError> {
        let value = match self.eval(what, expr)? {
            Value::Int(value) => value,
            Value::Bool(value) => i64::from(value),
            Value::Float(value) if value.fract() == 0.0 && value.abs() < 9e15 => value as i64,
            other => return Err(resolve_error(what, expr, &format!("{other:?} is not an integer"))),
        };
        if value < least {
            return Err(resolve_error(what, expr, &format!("{value} is less than {least}")));
        }
        Ok(value as u64)
    }

    fn unsigned32(&self, what: &str, expr: &Expr, least: i64) -> Result<u32, ResolveError> {
        let value = self.unsigned(what, expr, least)?;
        u32::try_from(value).map_err(|_| resolve_error(what, expr, &format!("{value} exceeds 32 bits")))
    }

    fn three(&self, what: &str, exprs: &[Expr]) -> Result<[u32; 3], ResolveError> {
        let mut sizes = [1; 3];
        for (size, expr) in sizes.iter_mut().zip(exprs) {
            *size = self.unsigned32(what, expr, 1)?;
        }
        Ok(sizes)
    }

    fn fill(&self, what: &str, template: &Template) -> Result<String, ResolveError> {
        let filled = template.fill(&|expr| expr.eval(&|name| self.lookup(name)), macro_text);
        let wrong = |error: EvalError| ResolveError {
            what: what.to_owned(),
            text: template.text().to_owned(),
            why: error.to_string(),
        };
        filled.map_err(wrong)
    }

    /// The source of this variant.
    pub fn source(&self, implementation: &Implementation) -> Result<PathBuf, ResolveError> {
        match &implementation.source_of {
            Some(template) => Ok(implementation.source_root.join(self.fill("source", template)?)),
            None => Ok(implementation.source.clone()),
        }
    }

    /// The function of a launch with this variant.
    pub fn entry(&self, launch: &Launch) -> Result<String, ResolveError> {
        self.fill("entry", &launch.entry)
    }

    /// The compiler flags of this variant.
    pub fn flags(&self, implementation: &Implementation) -> Result<Vec<String>, ResolveError> {
        let mut flags = Vec::new();
        for flag in &implementation.flags {
            let wanted = match &flag.when {
                Some(when) => self.eval("when", when)?.truth() == Some(true),
                None => true,
            };
            if wanted {
                flags.push(self.fill("flags", &flag.text)?);
            }
        }
        Ok(flags)
    }

    /// The constants of a build: those of the table, and toggles among the template arguments of the entries, since a
    /// template parameter may have the name of a constant and not that of a macro.
    pub fn constants(&self, implementation: &Implementation) -> Vec<Constant> {
        let space = &self.kernel.space;
        let arguments = template_arguments(implementation);
        let mut toggles: Vec<_> = space.reaching(self.variant, Reach::Macro).collect();
        toggles.retain(|(toggle, value)| arguments.contains(&&*toggle.name) && !matches!(value, Value::Str(_)));
        let constants = space.reaching(self.variant, Reach::Constant).chain(toggles);
        constants.map(|(toggle, value)| constant(toggle, value)).collect()
    }

    /// The macros of the toggles.
    pub fn toggles(&self, implementation: &Implementation) -> Vec<(String, String)> {
        let arguments = template_arguments(implementation);
        let toggles = self.kernel.space.reaching(self.variant, Reach::Macro);
        let toggles = toggles.filter(|(toggle, _)| !arguments.contains(&&*toggle.name));
        toggles.map(|(toggle, value)| (toggle.name.clone(), macro_text(value))).collect()
    }

    /// The macros that the table defines.
    pub fn defines(&self, implementation: &Implementation) -> Result<Vec<(String, String)>, ResolveError> {
        let define = |(name, expr): &(String, Expr)| {
            let text = match self.eval(name, expr)? {
                Value::Bool(value) => i32::from(value).to_string(),
                Value::Int(value) => value.to_string(),
                // `{:?}` keeps the point, so that C reads a double.
                Value::Float(value) => format!("{value:?}"),
                Value::Str(value) => value,
            };
            Ok((name.clone(), text))
        };
        implementation.defines.iter().map(define).collect()
    }

    /// The launches at this point, in order; at least one.
    pub fn launches<'i>(&self, implementation: &'i Implementation) -> Result<Vec<&'i Launch>, ResolveError> {
        let mut launches = Vec::new();
        for launch in &implementation.launches {
            let is_made = match &launch.when {
                Some(when) => {
                    let value = self.eval("when", when)?;
                    value.truth().ok_or_else(|| resolve_error("when", when, "it is neither true nor false"))?
                }
                None => true,
            };
            if is_made {
                launches.push(launch);
            }
        }
        match (&launches[..], &implementation.launches[..]) {
            ([], [Launch { when: Some(when), .. }, ..]) => Err(resolve_error("when", when, "no launch is made")),
            _ => Ok(launches),
        }
    }

    /// Grid, block and shared memory of a launch.
    pub fn geometry(&self, launch: &Launch) -> Result<Geometry, ResolveError> {
        let cluster = &launch.cluster;
        Ok(Geometry {
            grid: self.three("grid", &launch.grid)?,
            block: self.three("block", &launch.block)?,
            cluster: if cluster.is_empty() { None } else { Some(self.three("cluster", cluster)?) },
            dynamic_shared: match &launch.dynamic_shared {
                Some(expr) => self.unsigned32("dynamic_shared", expr, 0)?,
                None => 0,
            },
            cooperative: launch.cooperative,
        })
    }

    /// Function and geometry of each launch at this point.
    pub fn geometries(&self, implementation: &Implementation) -> Result<Vec<(String, Geometry)>, ResolveError> {
        let launches = self.launches(implementation)?;
        launches.into_iter().map(|launch| Ok((self.entry(launch)?, self.geometry(launch)?))).collect()
    }

    /// The functions of the launches at this point, each once, in the order of first launch.
    pub fn entry_names(&self, implementation: &Implementation) -> Result<Vec<String>, ResolveError> {
        let entries = self.entries(implementation, None)?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }

    /// The launches of a compiled implementation.
    pub fn sequence(&self, implementation: &Implementation, artifact: &Artifact) -> Result<Sequence, ResolveError> {
        let resolved = |launch: &Launch| {
            Ok(protocol::Launch {
                entry: artifact.function(&self.entry(launch)?).symbol.clone(),
                args: launch.args.iter().map(|arg| self.arg(arg)).collect::<Result<_, _>>()?,
                geometry: self.geometry(launch)?,
                zero: launch.zero.clone(),
            })
        };
        let launches = self.launches(implementation)?.into_iter().map(resolved).collect::<Result<_, _>>()?;
        Ok(Sequence { device: device_kind(implementation.backend), blob: artifact.hash.clone(), launches })
    }

    /// The functions of the launches at this point, each once, with the argument types for the compiler's checks. A
    /// reference gets every floating-point tensor as `precision`.
    pub fn entries(
        &self,
        implementation: &Implementation,
        precision: Option<DType>,
    ) -> Result<Vec<Entry>, ResolveError> {
        // A single launch writes its outputs; of several launches, some read tensors that others wrote.
        let is_alone = implementation.launches.len() == 1;
        let mut entries: Vec<Entry> = Vec::new();
        for launch in self.launches(implementation)? {
            let (name, signature) = (self.entry(launch)?, signature(self.kernel, launch, precision, is_alone));
            match entries.iter_mut().find(|entry| entry.name == name) {
                Some(entry) => read_only_in_either(&mut entry.signature, &signature),
                None => entries.push(Entry { name, signature }),
            }
        }
        Ok(entries)
    }

    fn arg(&self, arg: &Arg) -> Result<protocol::Arg, ResolveError> {
        Ok(match arg {
            Arg::Value(value) => self.value(value)?,
            Arg::TensorMap(map) => protocol::Arg::TensorMap(self.tensor_map(map)?),
            Arg::Symbol { symbol, tensor } => protocol::Arg::Symbol { symbol: symbol.clone(), tensor: *tensor },
        })
    }

    fn value(&self, value: &ArgValue) -> Result<protocol::Arg, ResolveError> {
        Ok(match value {
            ArgValue::Tensor(tensor) => protocol::Arg::Tensor(*tensor),
            ArgValue::Offset { tensor, offset } => {
                protocol::Arg::Offset { tensor: *tensor, elements: self.unsigned("offset", offset, 0)? }
            }
            ArgValue::Struct { fields, .. } => {
                let Layout { bytes, places, .. } = Layout::of(fields);
                let mut flat = Vec::new();
                for (at, field) in places.into_iter().zip(fields) {
                    match self.value(field)? {
                        protocol::Arg::Struct { fields, .. } => {
                            flat.extend(fields.into_iter().map(|(inner, field)| (at + inner, field)));
                        }
                        field => flat.push((at, field)),
                    }
                }
                protocol::Arg::Struct { bytes, fields: flat }
            }
            ArgValue::Scalar { dtype, word: Some(Word::Bool), value } => {
                let truth = self.eval("scalar", value)?.truth();
                let truth = truth.ok_or_else(|| resolve_error("scalar", value, "it is neither true nor false"))?;
                protocol::Arg::Scalar { dtype: *dtype, value: Number::Int(i64::from(truth)) }
            }
            ArgValue::Scalar { dtype, value, .. } => {
                let number = match self.eval("scalar", value)? {
                    Value::Bool(flag) => Number::Int(i64::from(flag)),
                    Value::Int(number) => Number::Int(number),
                    Value::Float(number) if dtype.is_float() => Number::Float(number),
                    Value::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => Number::Int(number as i64),
                    other => return Err(resolve_error("scalar", value, &format!("{other:?} is no {dtype}"))),
                };
                if let Number::Int(number) = number
                    && !fits(*dtype, number)
                {
                    return Err(resolve_error("scalar", value, &format!("{number} does not fit {dtype}")));
                }
                protocol::Arg::Scalar { dtype: *dtype, value: number }
            }
        })
    }

    /// The sizes of a tensor map.
    pub(crate) fn tensor_map(&self, map: &TensorMap) -> Result<protocol::TensorMap, ResolveError> {
        let TensorMap { tensor, dims, r#box, swizzle } = map;
        let own = &self.kernel.tensors[*tensor].dims;
        let dims = if dims.is_empty() { own } else { dims };
        Ok(protocol::TensorMap {
            tensor: *tensor,
            dims: dims.iter().map(|dim| self.unsigned("dims", dim, 1)).collect::<Result<_, _>>()?,
            r#box: r#box.iter().map(|size| self.unsigned32("box", size, 1)).collect::<Result<_, _>>()?,
            swizzle: *swizzle,
        })
    }

    /// The kernel's tensors. `files` holds the blob of each tensor file.
    pub fn tensors(&self, files: &HashMap<PathBuf, String>) -> Result<Vec<TensorSpec>, ResolveError> {
        let mut specs: Vec<TensorSpec> = Vec::new();
        for tensor in &self.kernel.tensors {
            let dims: Vec<u64> =
                tensor.dims.iter().map(|dim| self.unsigned("dims", dim, 1)).collect::<Result<_, _>>()?;
            let bytes = dims.iter().try_fold(tensor.dtype.size() as u64, |bytes, dim| bytes.checked_mul(*dim));
            let wrong = |why: &str| tensor.dims.first().map(|dim| resolve_error(&tensor.name, dim, why));
            if bytes.is_none_or(|bytes| bytes > i64::MAX as u64)
                && let Some(error) = wrong("no memory is that large")
            {
                return Err(error);
            }
            let source = self.contents(&tensor.init, dims.len(), files)?;
            if let Source::Derived(derived) = &source {
                let why = match derived.dims(&specs[derived.from[0]].dims) {
                    Ok(made) if made == dims => None,
                    Ok(made) => Some(format!("its contents have the sizes {made:?}")),
                    Err(why) => Some(why),
                };
                if let Some(error) = why.and_then(|why| wrong(&why)) {
                    return Err(error);
                }
            }
            let (name, dtype, role) = (tensor.name.clone(), tensor.dtype, tensor.role);
            specs.push(TensorSpec { name, dtype, dims, role, source });
        }
        Ok(specs)
    }

    /// The source of a tensor's contents at this point.
    fn contents(&self, init: &Init, axes: usize, files: &HashMap<PathBuf, String>) -> Result<Source, ResolveError> {
        match init {
            Init::Computed(expr) => {
                let value = self.eval("constant", expr)?.as_float();
                Ok(Source::Constant(value.ok_or_else(|| resolve_error("constant", expr, "it is no number"))?))
            }
            Init::Between { low, high } => {
                let bound = |what: &str, expr: &Expr| {
                    let value = self.eval(what, expr)?.as_integer();
                    value.ok_or_else(|| resolve_error(what, expr, "it is no integer"))
                };
                let (least, most) = (bound("low", low)?, bound("high", high)?);
                if least > most {
                    return Err(resolve_error("low", low, &format!("{least} exceeds `high`, {most}")));
                }
                Ok(Source::Integers { low: least, high: most })
            }
            Init::Command { tensor, .. } => {
                let shapes = &self.kernel.shapes;
                let file = shapes.iter().position(|shape| shape.name == self.shape.name).and_then(|at| init.file(at));
                let hash = file.and_then(|(path, _)| files.get(path)).cloned().unwrap_or_default();
                Ok(Source::File { hash, tensor: tensor.clone() })
            }
            Init::Derived(derivation) => {
                let size = |name: &str, expr: &Expr| self.unsigned(name, expr, i64::from(name == "view"));
                Ok(Source::Derived(derivation.resolved(axes, size)?))
            }
            Init::Offsets(last) => Ok(Source::Offsets { last: self.unsigned("offsets", last, 0)? }),
            init => Ok(init.source(files)),
        }
    }

    /// The complete case.
    pub fn case(
        &self,
        implementation: &Implementation,
        artifact: &Artifact,
        files: &HashMap<PathBuf, String>,
    ) -> Result<Case, ResolveError> {
        Ok(Case { tensors: self.tensors(files)?, sequence: self.sequence(implementation, artifact)? })
    }

    /// The amounts of [`Point::work`] that are the same for all variants: those that name no toggle.
    pub fn work_of_any_variant(&self) -> (Option<f64>, Option<f64>) {
        let toggles = &self.kernel.space.toggles;
        let of_any = |expr: &Option<Expr>| {
            expr.as_ref()
                .is_some_and(|expr| !expr.names().iter().any(|name| toggles.iter().any(|toggle| toggle.name == *name)))
        };
        let (flops, bytes) = self.work();
        let Work { flops: stated, bytes: moved } = &self.kernel.work;
        (flops.filter(|_| of_any(stated)), bytes.filter(|_| of_any(moved)))
    }

    /// Floating-point operations and bytes of one run, if the table states them.
    pub fn work(&self) -> (Option<f64>, Option<f64>) {
        let number = |what, expr: &Option<Expr>| match self.eval(what, expr.as_ref()?).ok()? {
            Value::Int(value) => Some(value as f64),
            Value::Float(value) => Some(value),
            _ => None,
        };
        (number("flops", &self.kernel.work.flops), number("bytes", &self.kernel.work.bytes))
    }
}

/// A toggle's value as a constant, of the type of all values of the toggle.
fn constant(toggle: &Toggle, value: &Value) -> Constant {
    let all = |of: fn(&Value) -> bool| toggle.values.iter().all(of);
    let ty = if all(|value| matches!(value, Value::Bool(_))) {
        "bool"
    } else if all(|value| {
        !matches!(value, Value::Int(int) if i32::try_from(*int).is_err()) && !matches!(value, Value::Float(_))
    }) {
        "int"
    } else if all(|value| !matches!(value, Value::Float(_))) {
        "long long"
    } else {
        "double"
    };
    Constant { name: toggle.name.clone(), ty, value: macro_text(value) }
}

fn resolve_error(what: &str, expr: &Expr, why: &str) -> ResolveError {
    ResolveError { what: what.to_owned(), text: expr.text().to_owned(), why: why.to_owned() }
}

fn fits(dtype: DType, number: i64) -> bool {
    match dtype {
        DType::I8 => i8::try_from(number).is_ok(),
        DType::I16 => i16::try_from(number).is_ok(),
        DType::I32 => i32::try_from(number).is_ok(),
        DType::U8 => u8::try_from(number).is_ok(),
        DType::U16 => u16::try_from(number).is_ok(),
        DType::U32 => u32::try_from(number).is_ok(),
        DType::U64 => number >= 0,
        _ => true,
    }
}

/// Kind of device for the code of a backend.
pub fn device_kind(backend: Backend) -> protocol::DeviceKind {
    match backend {
        Backend::Cuda => protocol::DeviceKind::Cuda,
        Backend::C => protocol::DeviceKind::Host,
        Backend::Fake => protocol::DeviceKind::Fake,
    }
}

/// The types of a launch's arguments. `writes`: whether the launch writes every tensor that is not an input.
fn signature(kernel: &Kernel, launch: &Launch, precision: Option<DType>, writes: bool) -> Vec<Param> {
    let parameters = launch.args.iter().filter_map(|arg| match arg {
        Arg::Value(ArgValue::Tensor(tensor) | ArgValue::Offset { tensor, .. }) => {
            let tensor = &kernel.tensors[*tensor];
            let dtype = precision.filter(|_| tensor.dtype.is_float()).unwrap_or(tensor.dtype);
            let writable = match tensor.role {
                protocol::Role::In => Some(false),
                // The kernel may write it, and a reference may not.
                protocol::Role::Clobbered => None,
                _ => writes.then_some(true),
            };
            Some(Param::Tensor { dtype, writable })
        }
        Arg::Value(ArgValue::Scalar { word: Some(Word::Bool), .. }) => Some(Param::Bool),
        Arg::Value(ArgValue::Scalar { word: Some(Word::Char), .. }) => Some(Param::Char),
        Arg::Value(ArgValue::Scalar { dtype, .. }) => Some(Param::Scalar(*dtype)),
        Arg::Value(ArgValue::Struct { ty, fields }) => {
            Some(Param::Struct { bytes: Layout::of(fields).bytes as u64, ty: ty.clone() })
        }
        Arg::TensorMap(_) => Some(Param::TensorMap),
        Arg::Symbol { .. } => None,
    });
    parameters.collect()
}

/// The names of the template arguments of all entries.
fn template_arguments(implementation: &Implementation) -> Vec<&str> {
    implementation.launches.iter().flat_map(|launch| launch.entry.template_arguments()).collect()
}

/// A function that has an input as an argument in one launch must not write to it in another.
fn read_only_in_either(signature: &mut [Param], other: &[Param]) {
    for (param, other) in signature.iter_mut().zip(other) {
        if let (Param::Tensor { writable, .. }, Param::Tensor { writable: Some(false), .. }) = (param, other) {
            *writable = Some(false);
        }
    }
}
