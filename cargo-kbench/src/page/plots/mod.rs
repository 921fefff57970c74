//! Plots of a run, as SVG. plotters does axes and shapes; [`ink`] writes them.

use plotters::coord::Shift;
use plotters::element::Circle;
use plotters::prelude::DrawingArea;
use plotters::style::{Color as _, FontDesc, FontFamily, FontStyle, ShapeStyle, TextStyle};

use super::facts::{Facts, Fate, Tried};
use crate::record::run::Run;
use crate::report;
use ink::{Ink, Pen, UNIT};

mod axis;
mod bars;
mod convergence;
mod distributions;
mod effects;
pub mod ink;
mod parallel;
mod resources;
mod roofline;
mod spent;

/// A plot.
#[derive(Debug)]
pub struct Figure {
    /// File name without the extension, and id in the page.
    pub name: &'static str,
    /// Title.
    pub title: &'static str,
    /// Instruction for the reader.
    pub caption: String,
    /// SVG element, without a style.
    pub svg: String,
    /// Variants of the marks, in the order of the marks: indices into [`Facts::variants`].
    pub marks: Vec<usize>,
    /// Whether the plot takes the whole width of the page.
    pub wide: bool,
}

/// All plots for which the run has data.
pub fn all(facts: &Facts, run: &Run) -> Vec<Figure> {
    let first = [
        distributions::intervals(facts),
        distributions::finalists(facts),
        distributions::all(facts),
        roofline::plot(facts, run),
        convergence::plot(facts),
        effects::plot(facts),
        parallel::plot(facts),
    ];
    first.into_iter().flatten().chain(resources::plots(facts)).chain(spent::plot(run)).collect()
}

/// Draws the axes and the grid of a chart.
macro_rules! chart_mesh {
    ($chart:ident) => {
        $chart
            .configure_mesh()
            .light_line_style(plotters::style::TRANSPARENT)
            .bold_line_style($crate::page::plots::line($crate::page::plots::ink::Pen::GRID, 1))
            .axis_style($crate::page::plots::line($crate::page::plots::ink::Pen::GRID, 1))
            .label_style($crate::page::plots::text($crate::page::plots::ink::Pen::INK))
    };
}
use chart_mesh;

impl Figure {
    /// The plot as a file with its colours.
    pub fn file(&self) -> String {
        let style = format!("<style>{}</style>", ink::STYLE);
        let (start, rest) = self.svg.split_at(self.svg.find('>').map_or(0, |end| end + 1));
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{start}{style}{rest}\n")
    }
}

/// The canvas of a plot.
type Canvas<'t> = DrawingArea<Ink<'t>, Shift>;

/// Draws a plot of `size` pixels. Drawing to a text never fails; an error of plotters is a bug of the plot.
fn draw(
    (width, height): (u32, u32),
    label: &str,
    paint: impl FnOnce(&Canvas<'_>) -> Result<(), Box<dyn std::error::Error>>,
) -> String {
    let size = (width * UNIT, height * UNIT);
    let mut text = String::new();
    {
        use plotters::prelude::IntoDrawingArea;
        let canvas = Ink::new(&mut text, size).into_drawing_area();
        paint(&canvas).unwrap_or_else(|error| unreachable!("a plot of {label} could not be drawn: {error}"));
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
         aria-label=\"{}\" stroke-width=\"{UNIT}\">{text}</svg>",
        size.0,
        size.1,
        escaped(label)
    )
}

/// A text, escaped for HTML and SVG.
pub fn escaped(text: &str) -> String {
    askama::filters::escape(text, askama::filters::Html).map_or_else(|never| match never {}, |safe| safe.to_string())
}

/// Size of the letters of a label, in pixels.
const LETTER: u32 = 13;

fn font() -> FontDesc<'static> {
    FontDesc::new(FontFamily::SansSerif, f64::from(LETTER * UNIT), FontStyle::Normal)
}

fn text(pen: Pen) -> TextStyle<'static> {
    font().color(&pen.colour())
}

fn line(pen: Pen, width: u32) -> ShapeStyle {
    ShapeStyle { color: pen.colour().into(), filled: false, stroke_width: width * UNIT }
}

fn filled(pen: Pen) -> ShapeStyle {
    ShapeStyle { color: pen.colour().into(), filled: true, stroke_width: UNIT }
}

/// Pixels in units of the drawing.
fn px(pixels: u32) -> u32 {
    pixels * UNIT
}

/// Formatter of an axis for values of an objective.
fn shower(objective: &str) -> fn(f64) -> String {
    match objective {
        "p50" | "mean" => time,
        "energy" => |joules| report::objectives::shown("energy", joules),
        "throughput" => |time| report::objectives::shown("throughput", time),
        "command" => |cost| report::objectives::shown("command", cost),
        _ => |count| format!("{count:.0}"),
    }
}

/// Label of the axis of an objective.
fn axis_label(objective: &str) -> String {
    match objective {
        "p50" => "time of a launch (p50)".to_owned(),
        "mean" => "weighted mean of times".to_owned(),
        "energy" => "energy of a launch".to_owned(),
        "throughput" => "work a second".to_owned(),
        "command" => "cost by the program, over the default's".to_owned(),
        other => other.to_owned(),
    }
}

/// A round time, in its shortest form.
fn time(nanoseconds: f64) -> String {
    let (scale, unit) = match nanoseconds {
        ns if ns < 1e3 => (1.0, "ns"),
        ns if ns < 1e6 => (1e3, "µs"),
        ns if ns < 1e9 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    // Four digits: the rounding error of floating-point arithmetic is left out.
    let value = nanoseconds / scale;
    let digits = 10f64.powi(3 - value.abs().max(1e-300).log10().floor() as i32);
    format!("{} {unit}", (value * digits).round() / digits)
}

/// The variants with a value, and their indices.
fn valued(facts: &Facts) -> impl Iterator<Item = (usize, &Tried, f64)> {
    facts
        .variants
        .iter()
        .enumerate()
        .filter_map(|(at, tried)| Some((at, tried, tried.value.filter(|value| *value > 0.0)?)))
}

/// Mark of a variant with a value: filled if the variant was measured to the end. Marks of many variants are smaller.
fn mark(facts: &Facts, fate: Fate, place: (f64, f64)) -> Circle<(f64, f64), u32> {
    let is_crowd = facts.variants.len() > 1000;
    let style = match fate {
        Fate::Measured => filled(Pen::MEASURED),
        Fate::Stopped | Fate::Rejected => {
            let pen = Pen::STOPPED.colour().mix(if is_crowd { 0.6 } else { 1.0 });
            ShapeStyle { color: pen, ..line(Pen::STOPPED, 1) }
        }
    };
    Circle::new(place, if is_crowd { px(2) } else { px(3) }, style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_short() {
        assert_eq!([50_000.0, 1.5e6, 0.1 + 0.2, 2e9, 999.0].map(time), ["50 µs", "1.5 ms", "0.3 ns", "2 s", "999 ns"]);
    }
}
