//! The finals: the median of each finalist with its interval, and the distributions.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::LogAxis;
use super::ink::Pen;
use super::{Facts, Figure, chart_mesh, draw, filled, line, px, text, time};
use crate::expr::Value;
use crate::page::facts::Finalist;
use crate::report;

const WIDTH: u32 = 480;

/// Largest number of distributions in one plot: more lines could not be distinguished.
const MOST: usize = 6;

/// Largest number of letters of a name in a plot.
const NAME: usize = 44;

fn pen(facts: &Facts, finalist: &Finalist) -> Pen {
    let at = facts.finals.iter().position(|other| std::ptr::eq(other, finalist)).unwrap_or(0);
    Pen::series(at)
}

/// `#1 winner`, `#2 with TILE_N=16` with the toggles that differ from the winner, or the name of a baseline.
fn name(facts: &Facts, finalist: &Finalist) -> String {
    let whole = match (finalist.rank, &finalist.toggles) {
        (Some(1), _) => "#1 winner".to_owned(),
        (Some(rank), Some(toggles)) => {
            let of_winner = facts.finals.first().and_then(|winner| winner.toggles.as_ref());
            let differs =
                |(name, value): &&(String, Value)| of_winner.and_then(|winner| winner.get(name)) != Some(value);
            let differing: Vec<String> =
                toggles.0.iter().filter(differs).map(|(name, value)| format!("{name}={value}")).collect();
            // A proposed source may have the toggles of the winner.
            let named = if differing.is_empty() { finalist.name.clone() } else { differing.join(" ") };
            format!("#{rank} with {}", crate::text::printable(&named))
        }
        _ => finalist.name.clone(),
    };
    let cut: String = whole.chars().take(NAME).collect();
    let dots = if cut.len() < whole.len() { "…" } else { "" };
    format!("{cut}{dots}")
}

/// Plot of p50 of each finalist with its 95 % interval.
pub(super) fn intervals(facts: &Facts) -> Option<Figure> {
    let ends = facts.finals.iter().flat_map(|row| {
        let summary = &row.timing.summary;
        summary.interval().unwrap_or([summary.p50; 2])
    });
    let axis = LogAxis::over(ends, time)?;
    let row = 40;
    let size = (WIDTH, row * facts.finals.len() as u32 + 60);
    let label = "Median time of each finalist and baseline with its 95 % interval";
    let svg = draw(size, label, |canvas| {
        let rows = facts.finals.len() as f64;
        let mut chart = ChartBuilder::on(canvas)
            .margin(px(10))
            .margin_right(px(24))
            .x_label_area_size(px(40))
            .build_cartesian_2d(axis, rows..0.0)?;
        chart_mesh!(chart)
            .disable_y_mesh()
            .disable_y_axis()
            .x_labels(7)
            .x_desc("time of a launch: p50 and its 95 % interval")
            .draw()?;
        for (at, finalist) in facts.finals.iter().enumerate() {
            let pen = pen(facts, finalist);
            let (y, summary) = (at as f64 + 0.7, &finalist.timing.summary);
            let bar = summary.interval().map(|ends| PathElement::new(ends.map(|end| (end, y)).to_vec(), line(pen, 3)));
            chart.draw_series(bar)?;
            chart.draw_series([Circle::new((summary.p50, y), px(4), filled(pen))])?;
            let (x, middle) = chart.backend_coord(&(summary.p50, at as f64 + 0.28));
            // The name stays inside the plot, for any position of its mark.
            let (h, x) =
                if x as u32 > px(WIDTH / 2) { (HPos::Right, x + px(6) as i32) } else { (HPos::Left, x - px(6) as i32) };
            let style =
                text(if finalist.rank == Some(1) { Pen::BEST } else { Pen::INK }).pos(Pos::new(h, VPos::Center));
            canvas.draw_text(
                &format!("{}: {}", name(facts, finalist), report::time(summary.p50)),
                &style,
                (x, middle),
            )?;
        }
        Ok(())
    });
    Some(Figure {
        name: "finals",
        title: "Finals",
        caption: "Finalists, the default and the baselines, measured in turn in one run. A dot is p50, the bar its 95 % interval."
            .to_owned(),
        svg,
        marks: Vec::new(),
        wide: false,
    })
}

/// Plot of the distributions of the finalists alone, which lie close together.
pub(super) fn finalists(facts: &Facts) -> Option<Figure> {
    let rows: Vec<&Finalist> = facts.finals.iter().filter(|row| row.rank.is_some()).collect();
    ecdf(
        facts,
        &rows,
        "ecdf-finalists",
        "Distributions of the finalists",
        "Share of the samples that took at most so long. The further left a curve, the faster; the steeper, the steadier. \
         The bar on a curve is the 95 % interval of \
         p50. The slowest twentieth of the samples is left out.",
    )
}

/// Plot of the distributions of all finalists, default and baselines.
pub(super) fn all(facts: &Facts) -> Option<Figure> {
    let rows: Vec<&Finalist> = facts.finals.iter().filter(|row| row.rank.is_none_or(|rank| rank == 1)).collect();
    if rows.len() < 2 {
        return None;
    }
    ecdf(
        facts,
        &rows,
        "ecdf-baselines",
        "Winner against default and baselines",
        "Share of the samples up to each time, of the winner, the default and the baselines; logarithmic axis.",
    )
}

fn ecdf(facts: &Facts, rows: &[&Finalist], name: &'static str, title: &'static str, caption: &str) -> Option<Figure> {
    let curves: Vec<(&Finalist, Vec<(f64, f64)>)> =
        rows.iter().filter(|row| row.samples.len() > 1).take(MOST).map(|row| (*row, curve(&row.samples))).collect();
    let axis = LogAxis::over(curves.iter().flat_map(|(_, curve)| curve.iter().map(|(time, _)| *time)), time)?;
    let legend = 20 * curves.len() as u32;
    let svg = draw((WIDTH, 280 + legend), title, |canvas| {
        let (upper, lower) = canvas.split_vertically(px(legend + 10));
        for (at, (finalist, _)) in curves.iter().enumerate() {
            let y = px(10 + 20 * at as u32 + 8) as i32;
            let from = px(16) as i32;
            upper.draw(&PathElement::new(vec![(from, y), (from + px(24) as i32, y)], line(pen(facts, finalist), 3)))?;
            let style = text(Pen::INK).pos(Pos::new(HPos::Left, VPos::Center));
            upper.draw_text(&self::name(facts, finalist), &style, (from + px(32) as i32, y))?;
        }
        let mut chart = ChartBuilder::on(&lower)
            .margin(px(6))
            .margin_right(px(24))
            .x_label_area_size(px(40))
            .y_label_area_size(px(56))
            .build_cartesian_2d(axis, 0.0..1.0)?;
        chart_mesh!(chart)
            .x_labels(7)
            .y_labels(5)
            .y_label_formatter(&|share| format!("{:.0} %", share * 100.0))
            .x_desc("time of a launch")
            .draw()?;
        for (finalist, curve) in &curves {
            let (pen, summary) = (pen(facts, finalist), &finalist.timing.summary);
            chart.draw_series(LineSeries::new(curve.iter().copied(), line(pen, 2)))?;
            let bar =
                summary.interval().map(|ends| PathElement::new(ends.map(|end| (end, 0.5)).to_vec(), line(pen, 6)));
            chart.draw_series(bar)?;
        }
        Ok(())
    });
    Some(Figure { name, title, caption: caption.to_owned(), svg, marks: Vec::new(), wide: false })
}

/// The empirical distribution at 100 points at most, since more would lie on the same pixels. The slowest samples are
/// left out: a disturbed sample would stretch the axis until the curves cannot be distinguished.
fn curve(samples: &[f64]) -> Vec<(f64, f64)> {
    const POINTS: usize = 100;
    const KEPT: f64 = 0.95;
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let kept = (sorted.len() as f64 * KEPT).ceil() as usize;
    let points = POINTS.min(kept);
    let place = |part: usize| (part * (kept - 1)) / (points - 1).max(1);
    (0..points).map(place).map(|at| (sorted[at], (at + 1) as f64 / sorted.len() as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_rises_from_the_smallest_sample_to_nearly_all_of_them() {
        let samples: Vec<f64> = (1..=1000).rev().map(f64::from).collect();
        let curve = curve(&samples);
        assert_eq!(curve.first(), Some(&(1.0, 0.001)));
        assert!(curve.is_sorted_by(|a, b| a.0 <= b.0 && a.1 < b.1), "{curve:?}");
        assert_eq!(curve.last(), Some(&(950.0, 0.95)));
        assert_eq!(super::curve(&[2.0, 1.0]), [(1.0, 0.5), (2.0, 1.0)]);
    }
}
