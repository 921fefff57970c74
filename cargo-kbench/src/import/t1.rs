//! The T1 format of a tuning problem, which Kernel Tuner, KTT and BAT share.

use std::path::Path;

use kbench_runtime::dtype::DType;
use serde::Deserialize;

use super::ImportError;
use super::problem::{self, Argument, Code, Parameter, Problem, Size, Tensor};
use super::python;
use crate::expr::Value;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    configuration_space: ConfigurationSpace,
    kernel_specification: KernelSpecification,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigurationSpace {
    tuning_parameters: Vec<TuningParameter>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TuningParameter {
    name: String,
    /// A Python expression, or the values themselves.
    values: serde_json::Value,
    #[serde(default)]
    default: serde_json::Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Condition {
    expression: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KernelSpecification {
    language: String,
    #[serde(default)]
    compiler_options: Vec<String>,
    kernel_name: String,
    kernel_file: String,
    #[serde(default)]
    global_size_type: Option<String>,
    #[serde(default)]
    global_size: Axes,
    #[serde(default)]
    local_size: Axes,
    #[serde(default)]
    grid_div_x: Option<Vec<String>>,
    #[serde(default)]
    grid_div_y: Option<Vec<String>>,
    #[serde(default)]
    grid_div_z: Option<Vec<String>>,
    #[serde(default)]
    problem_size: serde_json::Value,
    #[serde(default)]
    shared_memory: serde_json::Value,
    #[serde(default)]
    arguments: Vec<T1Argument>,
    #[serde(default)]
    reference_arguments: Vec<serde_json::Value>,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

/// Expressions by axis.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Axes {
    #[serde(default)]
    x: serde_json::Value,
    #[serde(default)]
    y: serde_json::Value,
    #[serde(default)]
    z: serde_json::Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct T1Argument {
    #[serde(default)]
    name: Option<String>,
    #[serde(rename = "Type")]
    type_name: String,
    memory_type: String,
    /// `Constant` for a `__constant__` array, as `benchmark_hub` writes it.
    #[serde(default)]
    mem_type: Option<String>,
    #[serde(default)]
    access_type: Option<String>,
    #[serde(default)]
    fill_type: Option<String>,
    #[serde(default)]
    fill_value: Option<f64>,
    #[serde(default)]
    size: serde_json::Value,
    #[serde(default)]
    output: serde_json::Value,
}

/// Keys that control the run or the report and are not part of the problem.
const NO_PART: [&str; 7] = ["Stream", "BenchmarkName", "Device", "Profiling", "Misc", "General", "BenchmarkConfig"];

/// The problem of a T1 file.
pub fn problem(text: &str, path: &Path) -> Result<Problem, ImportError> {
    let file: File = serde_json::from_str(text).map_err(ImportError::T1)?;
    let File { configuration_space: space, kernel_specification: kernel, rest } = file;
    let folder = path.parent().unwrap_or(Path::new(""));
    let parameters = parameters(&space)?;
    let problem_sizes: Vec<i64> = match &kernel.problem_size {
        serde_json::Value::Array(sizes) => sizes.iter().filter_map(serde_json::Value::as_i64).collect(),
        size => size.as_i64().into_iter().collect(),
    };
    let sizes: Vec<Size> = problem_sizes.iter().copied().take(3).map(Size::Number).collect();
    let lists: Vec<(String, Vec<i64>)> = parameters
        .iter()
        .map(|parameter| (parameter.name.clone(), parameter.values.iter().filter_map(Value::as_integer).collect()))
        .chain([("ProblemSize".to_owned(), problem_sizes)])
        .collect();
    let names = parameters.iter().map(|parameter| parameter.name.clone()).collect();
    let mut reader = Reader { names, notes: Vec::new() };
    let constraints = reader.constraints(&space);
    let block = reader.axes("LocalSize", &kernel.local_size);
    let grid = reader.grid(&kernel, &sizes, &block);
    let arguments = reader.arguments(&kernel, &lists);
    let dynamic_shared = reader.dynamic_shared(&kernel);
    reader.left_out(&kernel, &rest);
    let mut problem = Problem {
        name: problem::name_of(&kernel.kernel_name),
        entry: kernel.kernel_name,
        code: Code::File(folder.join(&kernel.kernel_file)),
        more: Vec::new(),
        is_host: kernel.language == "C",
        flags: kernel.compiler_options,
        parameters,
        constraints,
        sizes,
        grid,
        block,
        dynamic_shared,
        arguments,
        tolerance: None,
        notes: Vec::new(),
    };
    for (place, what) in reader.notes {
        problem.note(place, what);
    }
    Ok(problem)
}

fn parameters(space: &ConfigurationSpace) -> Result<Vec<Parameter>, ImportError> {
    let mut parameters = Vec::new();
    for parameter in &space.tuning_parameters {
        let values = match &parameter.values {
            serde_json::Value::String(text) => python::values(text),
            serde_json::Value::Array(values) => {
                let values: Option<Vec<Value>> = values.iter().map(plain).collect();
                values.ok_or_else(|| "a value is neither a number nor a string".to_owned())
            }
            _ => Err("the values are neither a list nor an expression".to_owned()),
        };
        let place = || format!("ConfigurationSpace.TuningParameters.{}", parameter.name);
        let values = values.map_err(|what| ImportError::Call { place: place(), what })?;
        parameters.push(Parameter { name: parameter.name.clone(), values, default: plain(&parameter.default) });
    }
    Ok(parameters)
}

/// Translates a file, part by part.
struct Reader {
    /// Names that expressions may use.
    names: Vec<String>,
    /// Notes about items that were left out, with their places in the file.
    notes: Vec<(String, String)>,
}

impl Reader {
    fn note(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.notes.push((place.into(), what.into()));
    }

    fn constraints(&mut self, space: &ConfigurationSpace) -> Vec<String> {
        let mut constraints = Vec::new();
        for (at, condition) in space.conditions.iter().enumerate() {
            match python::expression(&condition.expression, &self.names) {
                Ok(text) => constraints.push(text),
                Err(why) => self.note(
                    format!("ConfigurationSpace.Conditions[{at}]"),
                    format!("`{}` is left out, the space is larger: {why}", condition.expression),
                ),
            }
        }
        constraints
    }

    /// The sizes along three axes; 1 where there is none, or none that can be translated.
    fn axes(&mut self, key: &str, sizes: &Axes) -> [String; 3] {
        [("X", &sizes.x), ("Y", &sizes.y), ("Z", &sizes.z)].map(|(axis, size)| {
            let text = match size {
                serde_json::Value::Null => return "1".to_owned(),
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            python::expression(&text, &self.names).unwrap_or_else(|why| {
                let what = format!("`{text}` is left out, 1 stands for it: {why}");
                self.note(format!("KernelSpecification.{key}.{axis}"), what);
                "1".to_owned()
            })
        })
    }

    fn grid(&mut self, kernel: &KernelSpecification, sizes: &[Size], block: &[String; 3]) -> [String; 3] {
        let divisors = [&kernel.grid_div_x, &kernel.grid_div_y, &kernel.grid_div_z];
        if divisors.iter().any(|divisors| divisors.is_some()) && !sizes.is_empty() {
            let divisors = divisors.map(|divisors| {
                let translated = |text: &String| {
                    python::expression(&format!("int({text})"), &self.names).unwrap_or_else(|_| text.clone())
                };
                divisors.iter().flatten().map(translated).collect()
            });
            return problem::grid(sizes, &divisors);
        }
        let sizes = self.axes("GlobalSize", &kernel.global_size);
        let threads = kernel.global_size_type.as_deref() == Some("OpenCL");
        std::array::from_fn(|axis| match (threads, &*block[axis]) {
            // OpenCL counts threads, CUDA blocks.
            (true, block) if block != "1" => format!("ceil_div({}, {block})", sizes[axis]),
            _ => sizes[axis].clone(),
        })
    }

    fn arguments(&mut self, kernel: &KernelSpecification, lists: &[(String, Vec<i64>)]) -> Vec<Argument> {
        let mut arguments = Vec::new();
        for (at, given) in kernel.arguments.iter().enumerate() {
            let place = || format!("KernelSpecification.Arguments[{at}]");
            match argument(given, at, lists) {
                Ok((argument, remark)) => {
                    arguments.push(argument);
                    if let Some(what) = remark {
                        self.note(place(), what);
                    }
                }
                Err(what) => self.note(place(), what),
            }
        }
        arguments
    }

    fn dynamic_shared(&mut self, kernel: &KernelSpecification) -> Option<String> {
        match &kernel.shared_memory {
            serde_json::Value::Number(bytes) if bytes.as_i64() != Some(0) => Some(bytes.to_string()),
            serde_json::Value::String(text) => match python::expression(text, &self.names) {
                Ok(text) => Some(text),
                Err(why) => {
                    self.note("KernelSpecification.SharedMemory", format!("`{text}` is left out: {why}"));
                    None
                }
            },
            _ => None,
        }
    }

    /// Adds a note for each item that has no counterpart in a table.
    fn left_out(&mut self, kernel: &KernelSpecification, rest: &serde_json::Map<String, serde_json::Value>) {
        if !matches!(kernel.language.as_str(), "CUDA" | "C") {
            let language = &kernel.language;
            self.note(
                "KernelSpecification.Language",
                format!("the language is {language}: kbench compiles CUDA and C; the source must be ported"),
            );
        }
        if !kernel.reference_arguments.is_empty() {
            self.note(
                "KernelSpecification.ReferenceArguments",
                "the reference outputs are left out: write their computation in src/reference.c",
            );
        }
        for (prefix, keys) in [("", rest), ("KernelSpecification.", &kernel.rest)] {
            for key in keys.keys().filter(|key| !NO_PART.contains(&key.as_str())) {
                self.note(format!("{prefix}{key}"), "is left out");
            }
        }
    }
}

fn plain(value: &serde_json::Value) -> Option<Value> {
    match value {
        serde_json::Value::Bool(bool) => Some(Value::Bool(*bool)),
        serde_json::Value::Number(number) => {
            number.as_i64().map(Value::Int).or_else(|| number.as_f64().map(Value::Float))
        }
        serde_json::Value::String(text) => Some(Value::Str(text.clone())),
        _ => None,
    }
}

/// An argument of the kernel, with a note if it differs from the file.
fn argument(given: &T1Argument, at: usize, lists: &[(String, Vec<i64>)]) -> Result<(Argument, Option<String>), String> {
    let name = given.name.clone().unwrap_or_else(|| format!("argument_{}", at + 1));
    let (dtype, width) =
        element(&given.type_name).ok_or_else(|| format!("`{name}` is left out: its type is `{}`", given.type_name))?;
    match (given.memory_type.as_str(), width) {
        ("Scalar", 1) => {
            let value = given.fill_value.unwrap_or(0.0);
            let value = if dtype.is_float() { format!("{value:?}") } else { (value as i64).to_string() };
            return Ok((Argument::Scalar { dtype, value }, None));
        }
        ("Vector" | "Symbol", _) => {}
        (other, _) => {
            return Err(format!("`{name}` is left out: the table has no equivalent of `{} {other}`", given.type_name));
        }
    }
    let length = match &given.size {
        serde_json::Value::Number(size) => size.as_i64().ok_or_else(|| "no integer".to_owned()),
        serde_json::Value::String(text) => python::size(text, lists),
        _ => Err("it is not said".to_owned()),
    };
    let length = length.map_err(|why| format!("`{name}` is left out: its size cannot be known: {why}"))?;
    let written = matches!(given.access_type.as_deref(), Some("WriteOnly"))
        || (given.output == 1 && given.access_type.as_deref() != Some("ReadWrite"));
    let role = match (written, given.access_type.as_deref()) {
        (true, _) => "out",
        (false, Some("ReadWrite")) => "inout",
        _ => "in",
    };
    let value = given.fill_value.unwrap_or(0.0);
    let (init, remark) = match given.fill_type.as_deref() {
        _ if role == "out" => (None, None),
        Some("Constant") if dtype.is_float() => (Some(format!("{{ constant = {value:?} }}")), None),
        Some("Constant") => (Some(format!("{{ constant = {} }}", value as i64)), None),
        // Random numbers from 0 to the value.
        Some("Random") if dtype.is_float() && value > 0.0 => {
            (Some(format!("{{ uniform = {{ low = 0.0, high = {value:?} }} }}")), None)
        }
        None | Some("Random") => (None, None),
        Some(other) => {
            (None, Some(format!("`{name}` is filled by `{other}`: here its contents are random, see `init`")))
        }
    };
    let tensor = Tensor { name: name.clone(), dtype, dims: vec![(length * width).to_string()], role, init };
    let is_symbol = given.memory_type == "Symbol" || given.mem_type.as_deref() == Some("Constant");
    Ok((if is_symbol { Argument::Symbol { symbol: name, tensor } } else { Argument::Tensor(tensor) }, remark))
}

/// An element type of T1, as an element type of the table and the number of its components: `float4` is four `f32`.
fn element(name: &str) -> Option<(DType, i64)> {
    let at = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
    let (base, digits) = name.split_at(at);
    let width = || if digits.is_empty() { Some(1) } else { digits.parse().ok() };
    match (base, digits) {
        ("half", _) => Some((DType::F16, width()?)),
        ("float", _) => Some((DType::F32, width()?)),
        ("double", _) => Some((DType::F64, width()?)),
        ("int", "8") => Some((DType::I8, 1)),
        ("int", "16") => Some((DType::I16, 1)),
        ("int", "32" | "") => Some((DType::I32, 1)),
        ("int", "64") => Some((DType::I64, 1)),
        ("bool", "") | ("uint", "8") => Some((DType::U8, 1)),
        ("uint", "16") => Some((DType::U16, 1)),
        ("uint", "32" | "") => Some((DType::U32, 1)),
        ("uint", "64") => Some((DType::U64, 1)),
        _ => None,
    }
}
