//! The variants of a run as a table for a terminal, filtered and sorted, with selected columns.

use std::cmp::Ordering;

use super::columns::{columns, resources};
use super::facts::{Facts, Fate};
use super::markdown::fate;
use crate::expr::{Expr, Value};
use crate::report::{objectives, table::Table, time};
use crate::text::{count, did_you_mean, list};

/// Filter, order and columns of a list.
#[derive(Debug, Default)]
pub struct Query<'q> {
    /// The condition that a variant has to fulfil.
    pub condition: Option<&'q str>,
    /// The column to sort by; by default the order of the search.
    pub sort: Option<&'q str>,
    /// Whether the largest values come first.
    pub reverse: bool,
    /// The columns before the variant; by default the usual ones.
    pub columns: &'q [String],
    /// Largest number of rows.
    pub limit: Option<usize>,
}

/// Reason why a listing cannot be made.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum QueryError {
    /// A name that is no column.
    #[error("no column `{name}`{}", match suggestion {
        Some(suggestion) => format!("; did you mean `{suggestion}`?"),
        None => format!("; there are {}", list(known)),
    })]
    Unknown {
        /// The name.
        name: String,
        /// A column of nearly the same name.
        suggestion: Option<String>,
        /// All columns.
        known: Vec<String>,
    },
    /// A condition that is no expression or has no value.
    #[error("--where `{text}`: {message}")]
    Condition {
        /// The condition.
        text: String,
        /// The fault.
        message: String,
    },
}

/// Default columns.
const USUAL: [&str; 5] = ["number", "outcome", "value", "gate", "reason"];

/// A column: the value of each variant, for conditions and sorting.
struct Column {
    name: String,
    values: Vec<Option<Value>>,
}

/// The table, with the number of rows below it.
pub fn table(facts: &Facts, query: &Query<'_>) -> Result<String, QueryError> {
    let all = self::all(facts);
    let named = |name: &str| {
        all.iter().find(|column| column.name == name).ok_or_else(|| QueryError::Unknown {
            name: name.to_owned(),
            suggestion: did_you_mean(name, all.iter().map(|column| column.name.as_str())).map(str::to_owned),
            known: all.iter().map(|column| column.name.clone()).collect(),
        })
    };
    let mut rows: Vec<usize> = (0..facts.variants.len()).collect();
    if let Some(text) = query.condition {
        let failed = |message: String| QueryError::Condition { text: text.to_owned(), message };
        let condition = Expr::parse(text).map_err(|error| failed(error.to_string()))?;
        let columns: Vec<&Column> = condition.names().into_iter().map(named).collect::<Result<_, _>>()?;
        let mut kept = Vec::new();
        for at in rows {
            // A condition on a property that a variant lacks is false.
            let has_all = columns.iter().all(|column| column.values[at].is_some());
            let holds = || condition.is_true(&|name| columns[name].values[at].as_ref());
            if has_all && holds().map_err(|error| failed(error.to_string()))? {
                kept.push(at);
            }
        }
        rows = kept;
    }
    if let Some(name) = query.sort {
        let column = named(name)?;
        rows.sort_by(|&a, &b| order(column.values[a].as_ref(), column.values[b].as_ref(), query.reverse));
    } else if query.reverse {
        rows.reverse();
    }
    let usual: Vec<String> = USUAL.map(str::to_owned).into();
    let shown = if query.columns.is_empty() { &usual } else { query.columns };
    let mut shown: Vec<&Column> = shown.iter().map(|name| named(name)).collect::<Result<_, _>>()?;
    if query.columns.is_empty() {
        shown.retain(|column| rows.iter().any(|&at| column.values[at].is_some()));
    }
    let mut table = Table::new([]);
    table.columns(shown.iter().map(|column| head(facts, &column.name)).chain(["variant".to_owned()]));
    let listed = rows.len().min(query.limit.unwrap_or(usize::MAX));
    for &at in &rows[..listed] {
        let cells = shown.iter().map(|column| cell(facts, at, column));
        table.row(cells.chain([facts.variants[at].variant.clone()]).collect());
    }
    let more = if listed < rows.len() { format!("; {listed} of them listed") } else { String::new() };
    let total = count(facts.variants.len(), "variant");
    Ok(format!("{}\n\n{table}\n{} of {total}{more}\n", facts.title(), rows.len()))
}

/// Header of a column; that of the value is the name of the first objective.
fn head(facts: &Facts, name: &str) -> String {
    if name == "value" { facts.objective.clone() } else { name.to_owned() }
}

fn cell(facts: &Facts, at: usize, column: &Column) -> String {
    let about = if facts.variants[at].fate == Fate::Stopped { "about " } else { "" };
    match (&*column.name, &column.values[at]) {
        (_, None) => String::new(),
        ("value", Some(Value::Float(value))) => format!("{about}{}", objectives::shown(&facts.objective, *value)),
        ("p50" | "p50_low" | "p50_high" | "p90" | "p99", Some(Value::Float(value))) => {
            format!("{about}{}", time(*value))
        }
        (_, Some(value)) => value.to_string(),
    }
}

/// Order of two cells. A cell without a value comes last in both directions.
fn order(a: Option<&Value>, b: Option<&Value>, reverse: bool) -> Ordering {
    let (Some(a), Some(b)) = (a, b) else { return b.is_some().cmp(&a.is_some()) };
    let order = super::values::order(a, b);
    if reverse { order.reverse() } else { order }
}

fn all(facts: &Facts) -> Vec<Column> {
    type Tried = super::facts::Tried;
    let variants = &facts.variants;
    let column = |name: &str, of: &dyn Fn(&Tried) -> Option<Value>| Column {
        name: name.to_owned(),
        values: variants.iter().map(of).collect(),
    };
    let text = |text: String| Some(Value::Str(text));
    let timed = |of: fn(&kbench_runtime::stats::Summary) -> f64| {
        move |tried: &Tried| Some(Value::Float(of(&tried.timing.as_ref()?.summary)))
    };
    let end = |of: fn([f64; 2]) -> f64| {
        move |tried: &Tried| Some(Value::Float(of(tried.timing.as_ref()?.summary.interval()?)))
    };
    let mut all = vec![
        column("number", &|tried| Some(Value::Int(tried.number as i64))),
        column("outcome", &|tried| text(fate(tried.fate).to_owned())),
        column("value", &|tried| tried.value.map(Value::Float)),
        column("p50", &timed(|of| of.p50)),
        column("p50_low", &end(|[low, _]| low)),
        column("p50_high", &end(|[_, high]| high)),
        column("p90", &timed(|of| of.p90)),
        column("p99", &timed(|of| of.p99)),
        column("samples", &|tried| Some(Value::Int(tried.timing.as_ref()?.summary.n as i64))),
        column("gate", &|tried| text(tried.gate?.to_string())),
        column("reason", &|tried| text(tried.reason?.to_string())),
        column("message", &|tried| text(tried.message.clone()?)),
        column("same_code_as", &|tried| text(tried.identical_code.clone()?)),
    ];
    for toggle in columns(facts) {
        let values = variants.iter().map(|tried| tried.toggles.get(&toggle.name).cloned()).collect();
        all.push(Column { name: toggle.name, values });
    }
    for resource in resources(facts) {
        let values = resource.values.iter().map(|used| used.map(|used| Value::Int(used as i64))).collect();
        all.push(Column { name: resource.name.replace(' ', "_"), values });
    }
    all
}
