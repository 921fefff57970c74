//! Functions of numpy that make arguments of kernels: their results have a type and a shape, and no elements.

use std::rc::Rc;

use kbench_runtime::dtype::DType;

use super::value::{Array, Contents, Number, Value};

/// Largest number of elements of an array that are kept.
const MOST_VALUES: usize = 4096;

/// Arguments of a call.
pub struct Arguments<'t> {
    pub positional: Vec<Value<'t>>,
    pub named: Vec<(String, Value<'t>)>,
}

impl<'t> Arguments<'t> {
    pub fn get(&self, at: usize, name: &str) -> Option<&Value<'t>> {
        let named = self.named.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        named.or_else(|| self.positional.get(at))
    }
}

/// The element type that a value names: `numpy.float32`, `"float32"`, `float`.
pub fn dtype(value: &Value<'_>) -> Option<DType> {
    let name = match value {
        Value::Name(name) => name.rsplit('.').next()?,
        Value::Text(text) => text,
        _ => return None,
    };
    Some(match name {
        "float64" | "double" | "float" | "float_" => DType::F64,
        "float32" | "single" => DType::F32,
        "float16" | "half" => DType::F16,
        "int8" | "byte" => DType::I8,
        "int16" | "short" => DType::I16,
        "int32" | "intc" => DType::I32,
        "int64" | "int" | "int_" | "longlong" => DType::I64,
        "uint8" | "ubyte" | "bool_" | "bool" => DType::U8,
        "uint16" | "ushort" => DType::U16,
        "uint32" | "uintc" => DType::U32,
        "uint64" | "uint" | "ulonglong" => DType::U64,
        _ => return None,
    })
}

fn dims(value: &Value<'_>) -> Option<Vec<i64>> {
    match value.items() {
        Some(items) => items.iter().map(Value::integer).collect(),
        None => value.integer().map(|length| vec![length]),
    }
}

/// The result of a function of numpy; `None` for an unknown function.
pub fn call<'t>(function: &str, arguments: &Arguments<'t>) -> Option<Value<'t>> {
    let get = |at, name| arguments.get(at, name);
    let asked = |at| get(at, "dtype").and_then(dtype);
    let made = |dims, dtype, contents| Value::Array(Array { name: None, dtype, dims, contents, values: None });
    let random = |contents| {
        // `randn(2, 3)`, and `random((2, 3))`.
        let sizes: Option<Vec<Vec<i64>>> = arguments.positional.iter().map(dims).collect();
        let sizes = match get(usize::MAX, "size") {
            Some(size) => dims(size)?,
            None => sizes?.concat(),
        };
        let dtype = asked(usize::MAX).unwrap_or(DType::F64);
        Some(if sizes.is_empty() { Value::unknown("a random number") } else { made(sizes, dtype, contents) })
    };
    match function {
        "zeros" | "empty" => Some(made(dims(get(0, "shape")?)?, asked(1).unwrap_or(DType::F64), Contents::Zeros)),
        "ones" => Some(made(dims(get(0, "shape")?)?, asked(1).unwrap_or(DType::F64), Contents::Constant(1.0))),
        "full" => {
            let value = get(1, "fill_value")?.number()?.float();
            Some(made(dims(get(0, "shape")?)?, asked(2).unwrap_or(DType::F64), Contents::Constant(value)))
        }
        "zeros_like" | "empty_like" | "ones_like" => {
            let Value::Array(like) = get(0, "a")? else { return None };
            let contents = if function == "ones_like" { Contents::Constant(1.0) } else { Contents::Zeros };
            Some(made(like.dims.clone(), asked(1).unwrap_or(like.dtype), contents))
        }
        "arange" => {
            let number = |at, name| get(at, name).and_then(Value::number);
            let (first, second) = (number(0, "start")?, number(1, "stop"));
            let (from, to) = second.map_or((Number::Int(0), first), |to| (first, to));
            let step = number(2, "step").unwrap_or(Number::Int(1));
            let length = ((to.float() - from.float()) / step.float()).ceil().max(0.0);
            if !length.is_finite() {
                return None;
            }
            let is_float = [from, to, step].iter().any(|number| matches!(number, Number::Float(_)));
            let dtype = asked(3).unwrap_or(if is_float { DType::F64 } else { DType::I64 });
            let contents =
                if [from, step] == [Number::Int(0), Number::Int(1)] { Contents::Arange } else { Contents::Computed };
            let at = |at: i64| match (from, step) {
                (Number::Int(from), Number::Int(step)) => Number::Int(from.saturating_add(at.saturating_mul(step))),
                _ => Number::Float(from.float() + at as f64 * step.float()),
            };
            let values = (length <= MOST_VALUES as f64).then(|| (0..length as i64).map(at).collect());
            let array = Array { name: None, dtype, dims: vec![length as i64], contents, values };
            Some(Value::Array(array))
        }
        "random.default_rng" | "random.RandomState" | "random.Generator" => Some(Value::Name("numpy.random".into())),
        "linspace" => {
            let length = get(2, "num").map_or(Some(50), Value::integer)?;
            Some(made(vec![length], asked(usize::MAX).unwrap_or(DType::F64), Contents::Computed))
        }
        "eye" | "identity" => {
            let length = get(0, "N")?.integer()?;
            Some(made(vec![length; 2], asked(usize::MAX).unwrap_or(DType::F64), Contents::Computed))
        }
        "random.randn" | "random.standard_normal" => random(Contents::Normal),
        "random.rand" | "random.random" | "random.random_sample" => random(Contents::Uniform),
        "random.normal" | "random.uniform" | "random.randint" | "random.integers" => {
            let contents = if function == "random.normal" { Contents::Normal } else { Contents::Computed };
            let dtype = if function.contains("int") { DType::I64 } else { DType::F64 };
            Some(made(dims(get(2, "size")?)?, asked(3).unwrap_or(dtype), contents))
        }
        "array" | "asarray" | "ascontiguousarray" | "sort" | "absolute" | "abs" | "sin" | "cos" | "exp" | "sqrt" => {
            match get(0, "object")? {
                Value::Array(array) => {
                    let contents = if function.contains("array") { array.contents } else { Contents::Computed };
                    let values = array.values.clone().filter(|_| function.contains("array"));
                    let (dtype, dims) = (asked(1).unwrap_or(array.dtype), array.dims.clone());
                    Some(Value::Array(Array { name: None, dtype, dims, contents, values }))
                }
                items => {
                    // Nested lists of equal lengths.
                    let elements = items.items().unwrap_or_default();
                    let numbers: Option<Vec<Number>> = elements.iter().map(Value::number).collect();
                    let is_kept = |numbers: &Vec<Number>| numbers.len() <= MOST_VALUES && function.contains("array");
                    let values = numbers.filter(is_kept).map(Rc::from);
                    let mut dims = Vec::new();
                    let mut first = items.clone();
                    while let Some(items) = first.items() {
                        dims.push(items.len() as i64);
                        first = items.first()?.clone();
                    }
                    let dtype = match first.number()? {
                        Number::Int(_) => DType::I64,
                        Number::Float(_) => DType::F64,
                    };
                    if dims.is_empty() {
                        return None;
                    }
                    let (dtype, contents) = (asked(1).unwrap_or(dtype), Contents::Computed);
                    Some(Value::Array(Array { name: None, dtype, dims, contents, values }))
                }
            }
        }
        "prod" | "product" => {
            let items = get(0, "a")?.items()?;
            let mut product = 1i64;
            for item in items {
                product = product.checked_mul(item.integer()?)?;
            }
            Some(Value::Int(product))
        }
        "amin" | "amax" | "min" | "max" => {
            let numbers: Option<Vec<Number>> = get(0, "a")?.items()?.iter().map(Value::number).collect();
            let order = |left: &Number, right: &Number| left.float().total_cmp(&right.float());
            let numbers = numbers?.into_iter();
            let chosen = if function.ends_with("min") { numbers.min_by(order) } else { numbers.max_by(order) };
            chosen.map(Number::value)
        }
        "ceil" | "floor" | "log2" => {
            let number = get(0, "x")?.number()?.float();
            Some(Value::Float(match function {
                "ceil" => number.ceil(),
                "floor" => number.floor(),
                _ => number.log2(),
            }))
        }
        _ => {
            let dtype = dtype(&Value::Name(Rc::from(function)))?;
            scalar(dtype, get(0, "x")?)
        }
    }
}

/// A number or an array, converted to a type of numpy.
pub fn scalar<'t>(dtype: DType, value: &Value<'t>) -> Option<Value<'t>> {
    if let Value::Array(array) = value {
        return Some(Value::Array(Array { dtype, ..array.clone() }));
    }
    let number = match value.number()? {
        Number::Float(float) if !dtype.is_float() => Number::Int(float as i64),
        Number::Int(int) if dtype.is_float() => Number::Float(int as f64),
        number => number,
    };
    Some(Value::Scalar(dtype, number))
}

/// A method of an array.
pub fn method<'t>(array: &Array, name: &str, arguments: &Arguments<'t>) -> Option<Value<'t>> {
    let changed = |dims| Some(Value::Array(Array { dims, ..array.clone() }));
    match name {
        "tolist" => Value::Array(array.clone()).items().map(Value::list),
        "astype" => scalar(dtype(arguments.get(0, "dtype")?)?, &Value::Array(array.clone())),
        "copy" => changed(array.dims.clone()),
        "ravel" | "flatten" => changed(vec![array.dims.iter().product()]),
        "reshape" => {
            let sizes: Option<Vec<Vec<i64>>> = arguments.positional.iter().map(dims).collect();
            let sizes = sizes?.concat();
            let all: i64 = array.dims.iter().product();
            let known: i64 = sizes.iter().filter(|&&size| size >= 0).product();
            let left = if known > 0 { all / known } else { 0 };
            changed(sizes.into_iter().map(|size| if size < 0 { left } else { size }).collect())
        }
        "transpose" => changed(array.dims.iter().rev().copied().collect()),
        _ => None,
    }
}
