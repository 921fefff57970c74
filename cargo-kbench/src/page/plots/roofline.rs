//! The finalists below the measured ceilings of the device.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::LogAxis;
use super::ink::Pen;
use super::{Facts, Figure, chart_mesh, draw, filled, line, px, text};
use crate::record::run::Run;
use crate::report;

/// A finalist whose work is on record.
struct Point {
    /// Index among the finals.
    at: usize,
    /// Operations per byte.
    intensity: f64,
    /// Operations per second.
    rate: f64,
}

/// The plot; none if the table has no `work` or no ceiling was measured.
pub(super) fn plot(facts: &Facts, run: &Run) -> Option<Figure> {
    let roofline = run.conclusion.as_ref()?.roofline.as_ref()?;
    let default = run.start.default.to_string();
    let points: Vec<Point> = facts
        .finals
        .iter()
        .enumerate()
        .filter_map(|(at, row)| {
            let label = if row.rank.is_none() { &default } else { &row.name };
            let is_variant = row.toggles.is_some();
            let work = roofline.work.iter().find(|work| is_variant && crate::text::printable(&work.label) == *label)?;
            let rate = work.flops / (row.timing.summary.p50 * 1e-9);
            Some(Point { at, intensity: work.flops / work.bytes, rate }).filter(|point| point.intensity.is_finite())
        })
        .collect();
    let memory = roofline.ceilings.iter().find(|ceiling| ceiling.is_memory)?;
    let compute: Vec<_> = roofline.ceilings.iter().filter(|ceiling| !ceiling.is_memory).collect();
    let highest = compute.iter().map(|ceiling| ceiling.rate).fold(0.0, f64::max);
    if points.is_empty() || highest <= 0.0 {
        return None;
    }
    let ridges = compute.iter().map(|ceiling| ceiling.rate / memory.rate);
    let intensities = points.iter().map(|point| point.intensity).chain(ridges).flat_map(|at| [at / 3.0, at * 3.0]);
    let x = LogAxis::over(intensities, |intensity| format!("{}", (intensity * 1e6).round() / 1e6))?;
    let rates = points.iter().map(|point| point.rate / 2.0).chain([highest * 1.5]);
    let y = LogAxis::over(rates, rate)?;
    let (start, end) = (x.range().start, x.range().end);
    let svg = draw((480, 340), "Roofline: the finalists below the measured ceilings", |canvas| {
        let mut chart = ChartBuilder::on(canvas)
            .margin(px(6))
            .margin_right(px(12))
            .x_label_area_size(px(40))
            .y_label_area_size(px(90))
            .build_cartesian_2d(x.clone(), y.clone())?;
        chart_mesh!(chart).x_labels(7).y_labels(7).x_desc("operations per byte").draw()?;
        // The slope is not drawn below the lowest rate of the axis.
        let from = start.max(y.range().start / memory.rate);
        let slope = vec![(from, from * memory.rate), (highest / memory.rate, highest)];
        chart.draw_series([PathElement::new(slope, line(Pen::INK, 2))])?;
        for ceiling in &compute {
            let ridge = ceiling.rate / memory.rate;
            chart
                .draw_series([PathElement::new(vec![(ridge, ceiling.rate), (end, ceiling.rate)], line(Pen::INK, 2))])?;
            let (left, above) = chart.backend_coord(&(end, ceiling.rate));
            let style = text(Pen::INK).pos(Pos::new(HPos::Right, VPos::Bottom));
            let name = format!("{} {}", ceiling.name, rate(ceiling.rate));
            canvas.draw_text(&name, &style, (left, above - px(3) as i32))?;
        }
        let middle = (from * highest / memory.rate).sqrt();
        let (x, y) = chart.backend_coord(&(middle, middle * memory.rate));
        let name = format!("{} {:.0} GB/s", memory.name, memory.rate / 1e9);
        canvas.draw_text(
            &name,
            &text(Pen::INK).pos(Pos::new(HPos::Left, VPos::Top)),
            (x + px(14) as i32, y - px(4) as i32),
        )?;
        for point in points.iter().rev() {
            let circle = Circle::new((point.intensity, point.rate), px(4), filled(Pen::series(point.at)));
            chart.draw_series([circle])?;
        }
        let best = &points[0];
        let (x, y) = chart.backend_coord(&(best.intensity, best.rate));
        let roof = (best.intensity * memory.rate).min(highest);
        let name = format!("{:.0} % of the roof", 100.0 * best.rate / roof);
        canvas.draw_text(&name, &text(Pen::BEST).pos(Pos::new(HPos::Right, VPos::Center)), (x - px(8) as i32, y))?;
        Ok(())
    });
    let how: Vec<String> =
        roofline.ceilings.iter().map(|ceiling| format!("{} ({})", ceiling.name, ceiling.how)).collect();
    Some(Figure {
        name: "roofline",
        title: "Roofline",
        caption: format!(
            "The work of a launch by the table's `work`, over p50, of each finalist, in the colours of the finals. Ceilings measured on \
             this device: {}.",
            how.join(", ")
        ),
        svg,
        marks: Vec::new(),
        wide: false,
    })
}

fn rate(rate: f64) -> String {
    match rate {
        rate if rate < 1e12 => format!("{} GFLOP/s", report::figures(rate / 1e9)),
        rate => format!("{} TFLOP/s", report::figures(rate / 1e12)),
    }
}
