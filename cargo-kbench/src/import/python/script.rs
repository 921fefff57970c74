//! The calls of `tune_kernel` of a Kernel Tuner script as tuning problems.
//!
//! Above 400 lines: the whole reading of a script, one method for each kind of call.

use std::path::Path;

use super::call::TuneCall;
use super::evaluate::named;
use super::interpret::Interpreter;
use super::translate::literal;
use super::value::{Array, Closure, Contents, Value};
use super::{checked, expression, parse, read, table_value};
use crate::import::problem::{self, Argument, Code, Parameter, Problem, Size, Tensor};
use crate::import::{ImportError, Note};

/// The parameters of `tune_kernel` in their order.
const PARAMETERS: [&str; 20] = [
    "kernel_name",
    "kernel_source",
    "problem_size",
    "arguments",
    "tune_params",
    "grid_div_x",
    "grid_div_y",
    "grid_div_z",
    "restrictions",
    "answer",
    "atol",
    "verify",
    "verbose",
    "lang",
    "device",
    "platform",
    "smem_args",
    "cmem_args",
    "texmem_args",
    "compiler",
];

/// Arguments that control the run of Kernel Tuner and are not part of the problem.
const ABOUT_THE_RUN: [&str; 12] = [
    "verbose",
    "quiet",
    "log",
    "device",
    "platform",
    "cache",
    "simulation_mode",
    "iterations",
    "strategy",
    "strategy_options",
    "observers",
    "parallel_workers",
];

/// The problems of a script.
pub fn problems(text: &str, path: &Path) -> Result<Vec<Problem>, ImportError> {
    let tree = parse(text).map_err(|(line, what)| ImportError::Python { line, what })?;
    let mut interpreter = read(text, &tree, path)?;
    let calls = std::mem::take(&mut interpreter.calls);
    let mut known = Vec::new();
    let mut problems = Vec::new();
    for call in calls {
        let named = call.named.iter().find(|(key, _)| key == "kernel_name").map(|(_, value)| value);
        let kernel = named.or(call.positional.first()).and_then(Value::as_text).map(str::to_owned);
        let own = (call.node.start_position().row, kernel);
        if known.contains(&own) {
            let what = "`tune_kernel` is called several times here with one kernel; the first call is carried over";
            interpreter.note(call.node, what.to_owned());
            continue;
        }
        known.push(own);
        interpreter.globals.clone_from(&call.globals);
        let mut problem = Reader { interpreter: &mut interpreter, call: &call, notes: Vec::new() }.problem()?;
        let same = problems.iter().filter(|other: &&Problem| other.entry == problem.entry).count();
        if same > 0 {
            problem.name = format!("{}_{}", problem.name, same + 1);
        }
        problems.push(problem);
    }
    if let Some(first) = problems.first_mut() {
        first.notes.splice(0..0, std::mem::take(&mut interpreter.notes));
    }
    Ok(problems)
}

struct Reader<'i, 't> {
    interpreter: &'i mut Interpreter<'t>,
    call: &'i TuneCall<'t>,
    notes: Vec<Note>,
}

impl<'t> Reader<'_, 't> {
    fn get(&self, name: &str) -> Option<&Value<'t>> {
        let named = self.call.named.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        let at = PARAMETERS.iter().position(|known| *known == name);
        named.or_else(|| self.call.positional.get(at?)).filter(|value| !matches!(value, Value::None))
    }

    /// Place of an argument of the call.
    fn place(&self, name: &str) -> String {
        let list = self.call.node.child_by_field_name("arguments");
        let arguments = list.map(named).unwrap_or_default();
        let keyword = arguments.iter().find(|argument| {
            let keyword = argument.child_by_field_name("name");
            argument.kind() == "keyword_argument" && keyword.is_some_and(|key| self.interpreter.source(key) == name)
        });
        let node = keyword.copied().unwrap_or(self.call.node);
        format!("line {}", node.start_position().row + 1)
    }

    fn note(&mut self, name: &str, what: impl Into<String>) {
        let place = self.place(name);
        self.notes.push(Note { place, what: what.into() });
    }

    /// Adds a note that an argument is not carried over.
    fn left_out(&mut self, name: &str, value: &Value<'t>) {
        let why = match value {
            Value::Unknown(why) => why.to_string(),
            _ => "it is of a kind that is not known here".to_owned(),
        };
        self.note(name, format!("`{name}` is left out: {why}"));
    }

    fn problem(mut self) -> Result<Problem, ImportError> {
        let place = self.place("tune_params");
        let failed = |what: String| ImportError::Call { place: place.clone(), what };
        let entry = self.get("kernel_name").and_then(Value::as_text).map(str::to_owned);
        let entry = entry.ok_or_else(|| failed("the kernel's name is only known at run time".to_owned()))?;
        let parameters = self.parameters().map_err(failed)?;
        let names: Vec<String> = parameters.iter().map(|parameter| parameter.name.clone()).collect();
        let (code, more) = self.code();
        let sizes = self.sizes(&names);
        let blocks = self.block_size_names();
        let grid = self.grid(&sizes, &blocks, &names);
        let block = std::array::from_fn(|axis| match blocks.get(axis) {
            Some(name) if names.contains(name) => name.clone(),
            _ => ["256", "1", "1"][axis].to_owned(),
        });
        let constraints = self.constraints(&names);
        let arguments = self.arguments();
        let is_cuda_file = matches!(&code, Code::File(path) if path.extension().is_some_and(|suffix| suffix == "cu"));
        let lang = self.get("lang").and_then(Value::as_text).map(str::to_lowercase);
        let mut is_host = false;
        match lang.as_deref() {
            Some("c") if is_cuda_file => self.note(
                "lang",
                "the function runs on the host and launches kernels itself; kbench launches a kernel: name it in `entry`",
            ),
            Some("c") => {
                is_host = true;
                self.note("lang", "the function may measure its own time; kbench measures the whole call");
            }
            None | Some("cuda" | "cupy" | "nvcuda") => {}
            Some(other) => {
                let what = format!("`lang = \"{other}\"`: kbench compiles CUDA and C; the source must be ported");
                self.note("lang", what);
            }
        }
        let flags = self.flags();
        let dynamic_shared = self.dynamic_shared(&names);
        let tolerance = self.get("atol").and_then(Value::number).map(super::value::Number::float);
        self.rest();
        let Self { notes, .. } = self;
        Ok(Problem {
            name: problem::name_of(&entry),
            entry,
            code,
            more,
            is_host,
            flags,
            parameters,
            constraints,
            sizes,
            grid,
            block,
            dynamic_shared,
            arguments,
            tolerance,
            notes,
        })
    }

    fn parameters(&mut self) -> Result<Vec<Parameter>, String> {
        let Some(Value::Dict(entries)) = self.get("tune_params").cloned() else {
            return Err(match self.get("tune_params") {
                Some(Value::Unknown(why)) => format!("the parameters are not literal: {why}"),
                _ => "`tune_params` is no dictionary that the text tells".to_owned(),
            });
        };
        let mut parameters = Vec::new();
        for (name, values) in entries.borrow().iter() {
            let Some(name) = name.as_text() else { return Err("a parameter's name is no string".to_owned()) };
            let items = values.items().ok_or_else(|| match values {
                Value::Unknown(why) => format!("the values of `{name}` are not literal: {why}"),
                _ => format!("the values of `{name}` are no list"),
            })?;
            let mut known: Vec<crate::expr::Value> = Vec::new();
            for item in &items {
                let value = table_value(item).ok_or_else(|| match item {
                    Value::Unknown(why) => format!("a value of `{name}` is not literal: {why}"),
                    _ => format!("a value of `{name}` is neither a number nor a string"),
                })?;
                if known.contains(&value) {
                    self.notes.push(Note {
                        place: self.place("tune_params"),
                        what: format!("`{name}` has the value {value} twice; once is enough"),
                    });
                } else {
                    known.push(value);
                }
            }
            parameters.push(Parameter { name: name.to_owned(), values: known, default: None });
        }
        Ok(parameters)
    }

    /// The source, and further source files.
    fn code(&mut self) -> (Code, Vec<std::path::PathBuf>) {
        let folder = self.interpreter.folder.clone();
        let one = |value: &Value<'t>| match value {
            Value::Source(path) | Value::File(path) => Code::File(path.clone()),
            Value::Text(text) if text.contains(['\n', '{', ';']) => Code::Text(text.to_string()),
            Value::Text(text) => Code::File(folder.join(&**text)),
            _ => Code::Unknown,
        };
        let value = self.get("kernel_source").cloned().unwrap_or(Value::None);
        let (code, more) = match value.items() {
            Some(items) => {
                let mut files = items.iter().map(one);
                let first = files.next().unwrap_or(Code::Unknown);
                let more = files.filter_map(|code| if let Code::File(path) = code { Some(path) } else { None });
                (first, more.collect())
            }
            None => (one(&value), Vec::new()),
        };
        if code == Code::Unknown {
            self.left_out("kernel_source", &value);
        }
        (code, more)
    }

    fn sizes(&mut self, names: &[String]) -> Vec<Size> {
        let value = self.get("problem_size").cloned().unwrap_or(Value::Int(1));
        let items = value.items().unwrap_or_else(|| vec![value]);
        let mut sizes = Vec::new();
        for item in items.into_iter().take(3) {
            let size = match (&item, item.integer()) {
                (_, Some(number)) => Ok(Size::Number(number)),
                (Value::Text(text), _) => expression(text, names).map(Size::Expression),
                (Value::Function(function), _) => self.lambda(function, names).map(Size::Expression),
                (Value::Unknown(why), _) => Err(why.to_string()),
                _ => Err("it is neither a number nor an expression".to_owned()),
            };
            sizes.push(size.unwrap_or_else(|why| {
                self.note("problem_size", format!("a size of the problem is left out, 1 stands for it: {why}"));
                Size::Number(1)
            }));
        }
        sizes
    }

    fn block_size_names(&mut self) -> Vec<String> {
        let names = self.get("block_size_names").and_then(Value::items);
        let names = names.map(|names| names.iter().filter_map(Value::as_text).map(str::to_owned).collect::<Vec<_>>());
        let mut names = names.unwrap_or_default();
        let defaults = ["block_size_x", "block_size_y", "block_size_z"];
        names.extend(defaults.into_iter().skip(names.len()).map(str::to_owned));
        names
    }

    fn grid(&mut self, sizes: &[Size], blocks: &[String], names: &[String]) -> [String; 3] {
        let keys = ["grid_div_x", "grid_div_y", "grid_div_z"];
        let mut divisors: [Vec<String>; 3] = Default::default();
        for (axis, key) in keys.into_iter().enumerate() {
            let Some(value) = self.get(key).cloned() else {
                divisors[axis].extend(blocks.get(axis).filter(|name| names.contains(name)).cloned());
                continue;
            };
            let items = value.items().unwrap_or_else(|| vec![value]);
            for item in items {
                let divisor = match &item {
                    Value::Text(text) => divisor(text, names),
                    Value::Function(function) => self.lambda(function, names).map(|text| format!("({text})")),
                    _ => literal(&item).ok_or_else(|| "it is no expression".to_owned()),
                };
                match divisor {
                    Ok(text) => divisors[axis].push(text),
                    Err(why) => self.note(key, format!("a divisor of `{key}` is left out: {why}")),
                }
            }
        }
        problem::grid(sizes, &divisors)
    }

    fn constraints(&mut self, names: &[String]) -> Vec<String> {
        let Some(value) = self.get("restrictions").cloned() else { return Vec::new() };
        let items = value.items().unwrap_or_else(|| vec![value]);
        let mut constraints = Vec::new();
        for item in items {
            let translated = match &item {
                Value::Text(text) => {
                    expression(text, names).map(|text| vec![text]).map_err(|why| format!("`{text}`: {why}"))
                }
                Value::Function(function) => {
                    let text = self.interpreter.source(function.node).lines().next().unwrap_or_default();
                    let conditions = self.interpreter.conditions(function, names);
                    let checked =
                        conditions.and_then(|all| all.into_iter().map(checked).collect::<Result<Vec<_>, _>>());
                    checked.map_err(|why| format!("`{text}`: {why}"))
                }
                Value::Unknown(why) => Err(why.to_string()),
                _ => Err("it is neither a string nor a function".to_owned()),
            };
            match translated {
                Ok(texts) => constraints.extend(texts),
                Err(why) => {
                    self.note("restrictions", format!("a restriction is left out, the space is larger: {why}"));
                }
            }
        }
        constraints
    }

    /// The expression that a function of the parameters returns.
    fn lambda(&mut self, function: &Closure<'t>, names: &[String]) -> Result<String, String> {
        checked(self.interpreter.returned(function, names)?)
    }

    fn arguments(&mut self) -> Vec<Argument> {
        let values = self.get("arguments").and_then(Value::items).unwrap_or_default();
        let mut arguments = Vec::new();
        let is_zero = |value: &Value<'_>| matches!(value, Value::Array(array) if array.contents == Contents::Zeros);
        let has_output = values.iter().any(is_zero);
        for (at, value) in values.iter().enumerate() {
            match value {
                Value::Array(array) => {
                    let role = match (has_output, is_zero(value), at) {
                        (true, true, _) => "out",
                        (false, _, 0) => "inout",
                        _ => "in",
                    };
                    let tensor = self.tensor(array, at, role);
                    if role != "in" {
                        let what = format!("`{}` is taken as an output, `role = \"{role}\"`: check it", tensor.name);
                        self.note("arguments", what);
                    }
                    arguments.push(Argument::Tensor(tensor));
                }
                Value::Scalar(dtype, number) => {
                    arguments.push(Argument::Scalar { dtype: *dtype, value: number.to_string() });
                }
                _ => {
                    let why = match value {
                        Value::Unknown(why) => why.to_string(),
                        _ => "it is neither an array nor a number of numpy".to_owned(),
                    };
                    self.note("arguments", format!("argument {} is left out: {why}", at + 1));
                }
            }
        }
        if let Some(Value::Dict(entries)) = self.get("cmem_args").cloned() {
            for (at, (symbol, value)) in entries.borrow().iter().enumerate() {
                if let (Some(symbol), Value::Array(array)) = (symbol.as_text(), value) {
                    let tensor = self.tensor(array, values.len() + at, "in");
                    arguments.push(Argument::Symbol { symbol: symbol.to_owned(), tensor });
                } else {
                    self.left_out("cmem_args", value);
                }
            }
        }
        arguments
    }

    fn tensor(&mut self, array: &Array, at: usize, role: &'static str) -> Tensor {
        let name = array.name.as_deref().map_or_else(|| format!("argument_{}", at + 1), str::to_owned);
        let init = match array.contents {
            _ if role == "out" => None,
            Contents::Zeros => Some("{ constant = 0 }".to_owned()),
            Contents::Constant(value) => Some(format!("{{ constant = {value:?} }}")),
            Contents::Uniform => Some("{ uniform = { low = 0.0, high = 1.0 } }".to_owned()),
            Contents::Arange => Some("\"arange\"".to_owned()),
            Contents::Normal => None,
            Contents::Computed => {
                let what = format!("the script computes the contents of `{name}`; here they are random: see `init`");
                self.note("arguments", what);
                None
            }
        };
        Tensor { name, dtype: array.dtype, dims: array.dims.iter().map(i64::to_string).collect(), role, init }
    }

    fn flags(&mut self) -> Vec<String> {
        let Some(value) = self.get("compiler_options").cloned() else { return Vec::new() };
        let items = value.items().unwrap_or_else(|| vec![value]);
        let mut flags = Vec::new();
        for item in items {
            match item.as_text() {
                Some(text) => flags.push(text.to_owned()),
                None => self.left_out("compiler_options", &item),
            }
        }
        flags
    }

    fn dynamic_shared(&mut self, names: &[String]) -> Option<String> {
        let value = self.get("smem_args").cloned()?;
        let size = super::method::item(&value, &Value::text("size"));
        let text = match &size {
            Value::Text(text) => expression(text, names),
            Value::Function(function) => self.lambda(function, names),
            _ => literal(&size).ok_or_else(|| "it is no expression".to_owned()),
        };
        text.map_err(|why| self.note("smem_args", format!("`smem_args` is left out: {why}"))).ok()
    }

    /// Adds a note for each argument that has no equivalent in a package.
    fn rest(&mut self) {
        const CARRIED: [&str; 14] = [
            "kernel_name",
            "kernel_source",
            "problem_size",
            "arguments",
            "tune_params",
            "grid_div_x",
            "grid_div_y",
            "grid_div_z",
            "restrictions",
            "atol",
            "lang",
            "smem_args",
            "cmem_args",
            "compiler_options",
        ];
        let positional = PARAMETERS.into_iter().take(self.call.positional.len());
        let names: Vec<String> =
            positional.map(str::to_owned).chain(self.call.named.iter().map(|(name, _)| name.clone())).collect();
        for name in names {
            let what = match name.as_str() {
                "block_size_names" => continue,
                known if CARRIED.contains(&known) || ABOUT_THE_RUN.contains(&known) => continue,
                _ if self.get(&name).is_none() => continue,
                "answer" | "verify" => {
                    format!("`{name}` is computed by the script: write the same as the reference, src/reference.c")
                }
                "metrics" => {
                    "`metrics` is left out: `work = { flops = \"…\", bytes = \"…\" }` gives GFLOP/s and GB/s".to_owned()
                }
                "objective" => "`objective` is left out: see `search.objective`".to_owned(),
                _ => format!("`{name}` is left out: the table has no equivalent"),
            };
            self.note(&name, what);
        }
    }
}

/// A divisor of the grid. Kernel Tuner truncates each divisor to an integer.
fn divisor(text: &str, names: &[String]) -> Result<String, String> {
    expression(&format!("int({text})"), names)
}
