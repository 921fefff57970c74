//! Text of a portfolio: the smallest set of variants that serves all shapes.

use std::fmt::Write as _;

use super::table::Table;
use super::{GOOD, WARN, count, percent, time};
use crate::record::elite::{LeftOut, MeasuredVariant, PortfolioRecord};
use crate::text::{dims, kernel_name};

/// A table of the shapes with the variant of each, and a summary.
pub fn portfolio(portfolio: &PortfolioRecord) -> String {
    let mut text = format!(
        "{} at {} on {}\n\n",
        kernel_name(&portfolio.package, &portfolio.kernel),
        count(portfolio.shapes.len() as u64, "shape"),
        portfolio.device.name
    );
    let mut table = Table::new(["shape", "sizes", "fastest", "loss", "95 % interval", "variant"]);
    for shape in &portfolio.shapes {
        let loss = |variant: &&MeasuredVariant| variant.losses.get(&shape.shape).copied().unwrap_or(f64::INFINITY);
        let fastest = portfolio.measured.iter().min_by(|a, b| loss(a).total_cmp(&loss(b)));
        let fastest = fastest.and_then(|variant| variant.p50_ns.get(&shape.shape).copied());
        table.row(vec![
            shape.shape.clone(),
            dims(&shape.dims),
            fastest.map_or_else(String::new, time),
            percent(shape.loss),
            shape.interval.map_or_else(String::new, |(low, high)| format!("{} to {}", percent(low), percent(high))),
            portfolio.variants[shape.variant].to_string(),
        ]);
    }
    let _ = writeln!(text, "{table}");
    for variant in &portfolio.measured {
        let missing: Vec<&str> = portfolio
            .shapes
            .iter()
            .map(|shape| shape.shape.as_str())
            .filter(|shape| !variant.p50_ns.contains_key(*shape))
            .collect();
        if !missing.is_empty() {
            let _ = writeln!(text, "{WARN}unavailable{WARN:#} {} at {}", variant.toggles, missing.join(", "));
        }
    }
    for shape in &portfolio.shapes {
        let Some(LeftOut { nearest, loss }) = &shape.left_out else { continue };
        let cost = loss.map_or_else(|| "does not run".to_owned(), |loss| format!("loses {}", percent(loss)));
        let _ = writeln!(
            text,
            "{:>12} {}: with the winner of {nearest}, whose sizes are nearest, it {cost}",
            "Left out", shape.shape
        );
    }
    let how = if portfolio.is_smallest { "" } else { ", chosen one by one: a smaller set may exist" };
    let _ = writeln!(
        text,
        "{GOOD}{:>12}{GOOD:#} {} of {} measured {} all within {}{how}{}",
        "Cover",
        portfolio.variants.len(),
        portfolio.measured.len(),
        if portfolio.variants.len() == 1 { "serves" } else { "serve" },
        percent(portfolio.limit),
        alone(portfolio)
    );
    text
}

/// The loss with a single variant for all shapes.
fn alone(portfolio: &PortfolioRecord) -> String {
    let worst = |variant: &MeasuredVariant| -> Option<f64> {
        let losses: Option<Vec<f64>> =
            portfolio.shapes.iter().map(|at| variant.losses.get(&at.shape).copied()).collect();
        losses?.into_iter().reduce(f64::max)
    };
    if portfolio.variants.len() == 1 {
        return String::new();
    }
    let single = portfolio.measured.iter().filter_map(|variant| Some((worst(variant)?, &variant.toggles)));
    match single.min_by(|(a, _), (b, _)| a.total_cmp(b)) {
        Some((loss, toggles)) => format!("; one alone loses up to {}, with {toggles}", percent(loss)),
        None => "; no single variant runs at all of them".to_owned(),
    }
}
