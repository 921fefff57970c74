//! An SVG backend for plotters, with colours that the page chooses: each pen is a CSS class, so that one drawing serves
//! light and dark.

use std::convert::Infallible;
use std::fmt::Write as _;

use plotters::style::RGBColor;
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontTransform,
};

/// Units of the drawing in a pixel of the page: plotters draws at whole units.
pub const UNIT: u32 = 5;

/// A pen. The number of its colour selects the class; `report.css` and [`STYLE`] hold the colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pen(u8);

impl Pen {
    /// Axes, labels.
    pub const INK: Self = Self(1);
    /// Lines of a grid.
    pub const GRID: Self = Self(2);
    /// A variant that was measured to the end.
    pub const MEASURED: Self = Self(3);
    /// A variant whose measurement was stopped early.
    pub const STOPPED: Self = Self(4);
    /// A variant that a gate rejected.
    pub const REJECTED: Self = Self(5);
    /// The best variant.
    pub const BEST: Self = Self(6);
    /// Number of the first colour for lines.
    const SERIES: u8 = 10;
    /// Number of colours for lines.
    pub const COLOURS: usize = 6;

    /// Colour of line `at`, which differs from its neighbours' colours.
    pub const fn series(at: usize) -> Self {
        Self(Self::SERIES + (at % Self::COLOURS) as u8)
    }

    /// The colour that plotters gets for this pen.
    pub const fn colour(self) -> RGBColor {
        RGBColor(self.0, 0, 0)
    }

    /// Whether the pen draws variants: each element belongs to the next variant in [`super::Figure::marks`].
    fn is_mark(self) -> bool {
        [Self::MEASURED, Self::STOPPED, Self::REJECTED].contains(&self)
    }
}

/// Colours of a drawing that stands alone, as in a README.
pub const STYLE: &str = "\
svg{font-family:system-ui,sans-serif;background:#fff;--b:#fff}\
.p1{--c:#333}.p2{--c:#ddd}.p3{--c:#1769aa}.p4{--c:#8a8f98}.p5{--c:#c62828}.p6{--c:#0a7d33}\
.p10{--c:#0a7d33}.p11{--c:#1769aa}.p12{--c:#8a4b00}.p13{--c:#7b2fa8}.p14{--c:#b0174f}.p15{--c:#00757a}\
@media(prefers-color-scheme:dark){svg{background:#16181d;--b:#16181d}\
.p1{--c:#d5d8de}.p2{--c:#33373f}.p3{--c:#6cb6ff}.p4{--c:#8a919e}.p5{--c:#ff7b72}.p6{--c:#56d364}\
.p10{--c:#56d364}.p11{--c:#6cb6ff}.p12{--c:#e3a048}.p13{--c:#cf9bff}.p14{--c:#ff86b3}.p15{--c:#4dd0d6}}\
.l{fill:none;stroke:var(--c)}.f{fill:var(--c)}text{paint-order:stroke;stroke:var(--b);stroke-width:15;stroke-linejoin:round}";

/// Draws into a text.
pub struct Ink<'t> {
    text: &'t mut String,
    size: (u32, u32),
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl<'t> Ink<'t> {
    /// A drawing of `size` units.
    pub fn new(text: &'t mut String, size: (u32, u32)) -> Self {
        Self { text, size }
    }

    /// Writes ` class="…"`, and an opacity below 1.
    fn class(&mut self, colour: BackendColor, is_line: bool) {
        let pen = Pen(colour.rgb.0);
        let kind = if is_line { "l" } else { "f" };
        let mark = if pen.is_mark() { " m" } else { "" };
        let _ = write!(self.text, " class=\"{kind} p{}{mark}\"", pen.0);
        if colour.alpha < 1.0 {
            let _ = write!(self.text, " opacity=\"{:.2}\"", colour.alpha);
        }
    }

    fn width(&mut self, width: u32) {
        if width != 1 {
            let _ = write!(self.text, " stroke-width=\"{width}\"");
        }
    }

    fn points(&mut self, points: impl IntoIterator<Item = BackendCoord>) {
        self.text.push_str(" points=\"");
        for (at, (x, y)) in points.into_iter().enumerate() {
            let space = if at > 0 { " " } else { "" };
            let _ = write!(self.text, "{space}{x},{y}");
        }
        self.text.push('"');
    }
}

impl DrawingBackend for Ink<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, point: BackendCoord, colour: BackendColor) -> Drawn {
        self.draw_rect(point, (point.0 + 1, point.1 + 1), &colour, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        let _ = write!(self.text, "<path d=\"M{},{}L{},{}\"", from.0, from.1, to.0, to.1);
        self.class(style.color(), true);
        self.width(style.stroke_width());
        self.text.push_str("/>");
        Ok(())
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        (left, top): BackendCoord,
        (right, bottom): BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let (width, height) = ((right - left).max(0), (bottom - top).max(0));
        let _ = write!(self.text, "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\"");
        self.class(style.color(), !fill);
        self.text.push_str("/>");
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn {
        self.text.push_str("<polyline");
        self.points(path);
        self.class(style.color(), true);
        self.width(style.stroke_width());
        self.text.push_str("/>");
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(&mut self, centre: BackendCoord, radius: u32, style: &S, fill: bool) -> Drawn {
        let _ = write!(self.text, "<circle cx=\"{}\" cy=\"{}\" r=\"{radius}\"", centre.0, centre.1);
        self.class(style.color(), !fill);
        if !fill {
            self.width(style.stroke_width());
        }
        self.text.push_str("/>");
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, vert: I, style: &S) -> Drawn {
        self.text.push_str("<polygon");
        self.points(vert);
        self.class(style.color(), false);
        self.text.push_str("/>");
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn {
        let anchor = match style.anchor().h_pos {
            HPos::Left => "",
            HPos::Center => " text-anchor=\"middle\"",
            HPos::Right => " text-anchor=\"end\"",
        };
        let size = style.size();
        // Position of the baseline: letters extend a fifth of their size below it.
        let down = match style.anchor().v_pos {
            VPos::Top => 0.8,
            VPos::Center => 0.32,
            VPos::Bottom => -0.2,
        } * size;
        let _ = write!(self.text, "<text x=\"{x}\" y=\"{y}\" dy=\"{down:.0}\" font-size=\"{size}\"{anchor}");
        self.class(style.color(), false);
        let degrees = match style.transform() {
            FontTransform::None => 0,
            FontTransform::Rotate90 => 90,
            FontTransform::Rotate180 => 180,
            FontTransform::Rotate270 => 270,
        };
        if degrees != 0 {
            let _ = write!(self.text, " transform=\"rotate({degrees},{x},{y})\"");
        }
        self.text.push('>');
        self.text.push_str(&super::escaped(text));
        self.text.push_str("</text>");
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        // Letters of a sans-serif are about half as wide as they are high.
        Ok(((text.chars().count() as f64 * 0.55 * style.size()) as u32, style.size() as u32))
    }
}
