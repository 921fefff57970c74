//! Convergence: each variant in the order of evaluation, and the best so far.

use plotters::prelude::*;

use super::axis::LogAxis;
use super::ink::Pen;
use super::{Facts, Fate, Figure, axis_label, chart_mesh, draw, filled, line, mark, px, shower, text, valued};
use crate::record::evaluation::GateName;

const SIZE: (u32, u32) = (480, 320);

/// Height of a row of rejected variants, in pixels.
const ROW: u32 = 16;

/// Width of the labels on the left: the longest name of a gate.
const LABELS: u32 = 90;

/// The plot; none if no variant has a value.
pub(super) fn plot(facts: &Facts) -> Option<Figure> {
    let axis = LogAxis::over(valued(facts).map(|(_, _, value)| value), shower(&facts.objective))?;
    let gates: Vec<GateName> = {
        let mut gates: Vec<GateName> = facts.rejected.iter().map(|rejected| rejected.gate).collect();
        gates.dedup();
        gates
    };
    let numbers = 0.0..facts.variants.len() as f64 + 1.0;
    let mut marks = Vec::new();
    let label = format!(
        "Values of {} variants in the order tried, with the best so far; {} were rejected",
        facts.counts.tried, facts.counts.rejected
    );
    let svg = draw(SIZE, &label, |canvas| {
        let rows = ROW * gates.len() as u32 + if gates.is_empty() { 0 } else { 8 };
        let (upper, lower) = canvas.split_vertically(px(rows));
        let mut chart = ChartBuilder::on(&lower)
            .margin(px(6))
            .margin_right(px(24))
            .x_label_area_size(px(40))
            .y_label_area_size(px(LABELS))
            .build_cartesian_2d(numbers.clone(), axis.clone())?;
        chart_mesh!(chart)
            .disable_x_mesh()
            .x_labels(8)
            .y_labels(8)
            .x_label_formatter(&|number| format!("{number:.0}"))
            .x_desc("variant, in the order tried")
            .y_desc(axis_label(&facts.objective))
            .draw()?;
        for (at, tried, value) in valued(facts) {
            chart.draw_series([mark(facts, tried.fate, (tried.number as f64, value))])?;
            marks.push(at);
        }
        let mut best = f64::INFINITY;
        let mut steps: Vec<(f64, f64)> = Vec::new();
        for (_, tried, value) in valued(facts).filter(|(_, tried, _)| tried.fate == Fate::Measured) {
            if value < best {
                steps.extend((best.is_finite()).then_some((tried.number as f64, best)));
                best = value;
                steps.push((tried.number as f64, best));
            }
        }
        steps.extend(best.is_finite().then_some((numbers.end, best)));
        chart.draw_series(LineSeries::new(steps, line(Pen::BEST, 2)))?;
        if gates.is_empty() {
            return Ok(());
        }
        // Rejected variants have no value: each gate has a row above the plot.
        let rows = 0.0..gates.len() as f64;
        let mut strip = ChartBuilder::on(&upper)
            .margin_left(px(6))
            .margin_right(px(24))
            .margin_top(px(6))
            .y_label_area_size(px(LABELS))
            .build_cartesian_2d(numbers.clone(), rows.end..0.0)?;
        for (row, gate) in gates.iter().enumerate() {
            let y = row as f64 + 0.5;
            strip.draw_series([PathElement::new(vec![(0.0, y), (numbers.end, y)], line(Pen::GRID, 1))])?;
            let (left, middle) = strip.backend_coord(&(0.0, y));
            let style = text(Pen::INK).pos(plotters::style::text_anchor::Pos::new(
                plotters::style::text_anchor::HPos::Right,
                plotters::style::text_anchor::VPos::Center,
            ));
            canvas.draw_text(&gate.to_string(), &style, (left - px(6) as i32, middle))?;
        }
        for (at, tried) in facts.variants.iter().enumerate() {
            let Some(row) = tried.gate.and_then(|gate| gates.iter().position(|known| *known == gate)) else { continue };
            let place = (tried.number as f64, row as f64 + 0.5);
            strip.draw_series([TriangleMarker::new(place, px(4), filled(Pen::REJECTED))])?;
            marks.push(at);
        }
        Ok(())
    });
    let objective = if facts.objective == "p50" { "time" } else { &facts.objective };
    Some(Figure {
        name: "convergence",
        title: "Convergence",
        caption: format!(
            "Each mark is a variant. Filled: {objective} measured to the end. Hollow: sampling stopped early, since the variant was \
             clearly slower than the best; its value is an estimate. Triangles: rejected by the gate of that row. Line: the best so far."
        ),
        svg,
        marks,
        wide: false,
    })
}
