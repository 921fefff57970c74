//! Parallel coordinates: an axis for each toggle and one for the value, a line for each variant.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::LogAxis;
use super::ink::Pen;
use super::{Facts, Fate, Figure, draw, line, px, shower, text};
use crate::page::columns::{Column, columns};

/// Position of a variant without a value on the axis of values.
const REJECTED: f64 = 1.12;

/// Largest number of letters of a name above an axis.
const NAME: usize = 13;

/// The plot; none if no toggle has two values or no variant has a value.
pub(super) fn plot(facts: &Facts) -> Option<Figure> {
    let columns: Vec<Column> = columns(facts).into_iter().filter(|column| column.values.len() > 1).collect();
    let values = || facts.variants.iter().filter_map(|variant| variant.value.filter(|value| *value > 0.0));
    let show = shower(&facts.objective);
    let axis = LogAxis::over(values(), show)?;
    if columns.is_empty() {
        return None;
    }
    // Rejected variants come first, then variants from slow to fast, so that the fastest lie on top.
    let rank = |at: &usize| facts.variants[*at].value.unwrap_or(f64::INFINITY);
    let mut order: Vec<usize> = (0..facts.variants.len()).collect();
    order.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
    let fast = values().count() / 10;
    let alpha = (40.0 / order.len() as f64).clamp(0.08, 0.6);
    let wide = (columns.len() as u32 * 110 + 130).max(900);
    let any_rejected = facts.counts.rejected > 0;
    let last = columns.len() as f64;
    let highest = if any_rejected { REJECTED } else { 1.0 };
    let svg = draw((wide, 360), "Toggles and values of all variants as parallel coordinates", |canvas| {
        let mut chart = ChartBuilder::on(canvas)
            .margin_top(px(34))
            .margin_bottom(px(14))
            .margin_left(px(46))
            .margin_right(px(76))
            .build_cartesian_2d(0.0..last, 0.0..highest)?;
        for (done, &at) in order.iter().enumerate() {
            let variant = &facts.variants[at];
            let mut points: Vec<(f64, f64)> =
                columns.iter().enumerate().map(|(x, of)| (x as f64, of.place(at))).collect();
            points.push((last, variant.value.map_or(REJECTED, |value| axis.part(value))));
            let is_fast = order.len() - done <= fast.max(1) && variant.fate != Fate::Rejected;
            let (pen, alpha, width) = match variant.fate {
                Fate::Rejected => (Pen::REJECTED, alpha, 1),
                _ if is_fast => (Pen::MEASURED, (alpha * 2.0).min(0.9), 2),
                _ => (Pen::STOPPED, alpha, 1),
            };
            let style = ShapeStyle { color: pen.colour().mix(alpha), ..line(pen, width) };
            chart.draw_series([PathElement::new(points, style)])?;
        }
        let label = |x: f64, y: f64, h: HPos, dx: i32, text: &str, style: &TextStyle<'static>| {
            let (x, y) = chart.backend_coord(&(x, y));
            canvas.draw_text(text, &style.clone().pos(Pos::new(h, VPos::Center)), (x + dx * px(1) as i32, y))
        };
        for (x, column) in columns.iter().enumerate() {
            let x = x as f64;
            for (level, value) in column.values.iter().enumerate() {
                let short: String = value.chars().take(NAME).collect();
                label(x, column.height(level), HPos::Left, 5, &short, &text(Pen::INK))?;
            }
        }
        for tick in axis.ticks(8) {
            label(last, axis.part(tick), HPos::Left, 6, &show(tick), &text(Pen::INK))?;
        }
        if any_rejected {
            label(last, REJECTED, HPos::Left, 6, "rejected", &text(Pen::INK))?;
        }
        let names = columns.iter().map(|column| column.name.as_str()).chain([facts.objective.as_str()]);
        for (x, name) in names.enumerate() {
            let (x, y) = chart.backend_coord(&(x as f64, highest));
            let name: String = name.chars().take(NAME).collect();
            canvas.draw_text(
                &name,
                &text(Pen::INK).pos(Pos::new(HPos::Center, VPos::Bottom)),
                (x, y - px(8) as i32),
            )?;
        }
        for x in 0..=columns.len() {
            chart.draw_series([PathElement::new(vec![(x as f64, 0.0), (x as f64, 1.0)], line(Pen::INK, 1))])?;
        }
        Ok(())
    });
    let tenth = if facts.counts.tried > 20 { "the fastest tenth" } else { "the fastest" };
    Some(Figure {
        name: "parallel",
        title: "Parallel coordinates",
        caption: format!(
            "A line for each variant through its toggles to its value; logarithmic axis, the fastest at the bottom. Thick: {tenth}. Lines \
             that end at the top were rejected. The filter above chooses lines."
        ),
        svg,
        marks: order,
        wide: true,
    })
}
