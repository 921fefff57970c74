//! Resources against time: a plot for each resource in which variants differ.

use plotters::prelude::*;

use super::axis::LogAxis;
use super::{Facts, Figure, axis_label, chart_mesh, draw, mark, px, shower, valued};
use crate::page::columns;

/// The plots.
pub(super) fn plots(facts: &Facts) -> Vec<Figure> {
    columns::resources(facts).into_iter().filter_map(|resource| plot(facts, &resource)).collect()
}

fn plot(facts: &Facts, resource: &columns::Resource) -> Option<Figure> {
    let points: Vec<_> = valued(facts)
        .filter_map(|(at, tried, value)| Some((at, tried.fate, resource.values[at]? as f64, value)))
        .collect();
    let axis = LogAxis::over(points.iter().map(|(_, _, _, value)| *value), shower(&facts.objective))?;
    let (low, high) = points
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(low, high), (_, _, amount, _)| (low.min(*amount), high.max(*amount)));
    if low >= high {
        return None;
    }
    let margin = (high - low) * 0.05;
    let svg = draw((480, 300), &format!("{} against time", resource.name), |canvas| {
        let mut chart = ChartBuilder::on(canvas)
            .margin(px(6))
            .margin_right(px(24))
            .x_label_area_size(px(40))
            .y_label_area_size(px(74))
            .build_cartesian_2d(low - margin..high + margin, axis)?;
        chart_mesh!(chart)
            .x_labels(6)
            .y_labels(8)
            .x_label_formatter(&|amount| format!("{amount:.0}"))
            .x_desc(resource.name)
            .y_desc(axis_label(&facts.objective))
            .draw()?;
        for (_, fate, amount, value) in &points {
            chart.draw_series([mark(facts, *fate, (*amount, *value))])?;
        }
        Ok(())
    });
    let (name, title) = match resource.name {
        "registers" => ("registers", "Registers against time"),
        "static shared B" => ("static-shared", "Static shared memory against time"),
        "spill B" => ("spills", "Spills against time"),
        "stack B" => ("stack", "Stack against time"),
        _ => ("code", "Size of the code against time"),
    };
    Some(Figure {
        name,
        title,
        caption: "Each mark is a variant; hollow: an estimate, since sampling stopped early.".to_owned(),
        svg,
        marks: points.into_iter().map(|(at, ..)| at).collect(),
        wide: false,
    })
}
