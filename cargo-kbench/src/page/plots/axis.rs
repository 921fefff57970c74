//! Logarithmic axes of measured values, with ticks at round numbers for any range.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// A range of positive numbers, mapped by their logarithm.
#[derive(Clone)]
pub struct LogAxis {
    range: Range<f64>,
    show: fn(f64) -> String,
}

impl LogAxis {
    /// An axis that holds all positive finite values, with a margin; `None` if there are none.
    pub fn over(values: impl Iterator<Item = f64>, show: fn(f64) -> String) -> Option<Self> {
        let values = values.filter(|value| *value > 0.0 && value.is_finite());
        let bounds = values.fold(None, |bounds: Option<(f64, f64)>, value| {
            Some(bounds.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
        });
        let (low, high) = bounds?;
        // The margin is a twentieth of the axis on both sides; a single value gets a range around it.
        let margin = (high / low).powf(0.05).max(1.02);
        Some(Self { range: low / margin..high * margin, show })
    }

    /// Position of a value on the axis, 0 to 1.
    pub fn part(&self, value: f64) -> f64 {
        ((value / self.range.start).ln() / (self.range.end / self.range.start).ln()).clamp(0.0, 1.0)
    }

    /// Round numbers in the range, at most `most`.
    pub fn ticks(&self, most: usize) -> Vec<f64> {
        let Range { start, end } = self.range;
        let decades = (start.log10().floor() as i32)..=(end.log10().ceil() as i32);
        let steps: [&[f64]; 3] = [&[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0], &[1.0, 2.0, 5.0], &[1.0]];
        for steps in steps {
            let all = decades.clone().flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
            let ticks: Vec<f64> = all.filter(|tick| self.range.contains(tick)).collect();
            if (3..=most).contains(&ticks.len()) {
                return ticks;
            }
        }
        if end / start < 10.0 {
            return linear_ticks(&self.range, most);
        }
        // For more decades than ticks, every second, third, … decade.
        let every = (end / start).log10() as usize / most + 1;
        let ticks = decades.step_by(every.max(1)).map(|decade| 10f64.powi(decade));
        ticks.filter(|tick| self.range.contains(tick)).collect()
    }
}

/// Multiples of 1, 2 or 5 times a power of ten.
pub fn linear_ticks(range: &Range<f64>, most: usize) -> Vec<f64> {
    let width = range.end - range.start;
    let power = 10f64.powf((width / most.max(1) as f64).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let step = step.into_iter().find(|step| width / step <= most as f64).unwrap_or(width);
    let first = (range.start / step).ceil() as i64;
    let last = (range.end / step).floor() as i64;
    (first..=last).map(|at| at as f64 * step).collect()
}

impl Ranged for LogAxis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        limit.0 + (self.part(*value) * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        self.ticks(hint.max_num_points())
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for LogAxis {
    fn format(value: &f64) -> String {
        format!("{value}")
    }

    fn format_ext(&self, value: &f64) -> String {
        (self.show)(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(low: f64, high: f64, most: usize) -> Vec<f64> {
        LogAxis::over([low, high].into_iter(), |value| value.to_string()).unwrap().ticks(most)
    }

    #[test]
    fn ticks_are_round_in_every_range() {
        assert_eq!(ticks(36.0, 3800.0, 8), [50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]);
        assert_eq!(ticks(15.2, 20.0, 8), [15.0, 16.0, 17.0, 18.0, 19.0, 20.0]);
        assert_eq!(ticks(100.0, 100.3, 6).len(), 4);
        assert!(ticks(1e-9, 1e9, 6).len() <= 6);
        assert!(ticks(5.0, 5.0, 6).len() >= 2);
    }

    #[test]
    fn values_are_mapped_by_their_logarithm() {
        let axis = LogAxis { range: 1.0..100.0, show: |value| value.to_string() };
        assert_eq!([1.0, 10.0, 100.0, 1000.0].map(|value| axis.map(&value, (0, 200))), [0, 100, 200, 200]);
        assert!(LogAxis::over([0.0, f64::INFINITY, -1.0].into_iter(), |value| value.to_string()).is_none());
    }
}
