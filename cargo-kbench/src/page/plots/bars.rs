//! Labelled bars, one below the other.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::ink::Pen;
use super::{draw, filled, px, text};

/// Height of a bar with its gap, in pixels.
const ROW: u32 = 22;

const WIDTH: u32 = 480;

/// A bar.
pub(super) struct Bar {
    /// Label of the bar.
    pub label: String,
    /// Length, 0 to 1.
    pub length: f64,
    /// Text of the value.
    pub value: String,
    /// Colour.
    pub pen: Pen,
}

/// Draws bars below each other.
pub(super) fn bars(label: &str, bars: &[Bar]) -> String {
    // Capital letters are about two thirds as wide as high.
    let letters =
        |of: fn(&Bar) -> &String| bars.iter().map(|bar| of(bar).chars().count()).max().unwrap_or(0) as u32 * 9;
    let (left, right) = (letters(|bar| &bar.label).min(WIDTH / 2) + 8, letters(|bar| &bar.value) + 16);
    let length = f64::from(px(WIDTH - left.min(WIDTH / 2) - right.min(WIDTH / 3)));
    draw((WIDTH, ROW * bars.len() as u32 + 12), label, |canvas| {
        for (row, bar) in bars.iter().enumerate() {
            let (top, from) = (px(6 + ROW * row as u32) as i32, px(left) as i32);
            let to = from + (bar.length.clamp(0.0, 1.0) * length).max(f64::from(px(1))) as i32;
            let middle = top + px(ROW / 2) as i32;
            let height = px(6) as i32;
            canvas.draw(&Rectangle::new([(from, middle - height), (to, middle + height)], filled(bar.pen)))?;
            let beside = |h| text(Pen::INK).pos(Pos::new(h, VPos::Center));
            canvas.draw_text(&bar.label, &beside(HPos::Right), (from - px(6) as i32, middle))?;
            canvas.draw_text(&bar.value, &beside(HPos::Left), (to + px(6) as i32, middle))?;
        }
        Ok(())
    })
}
