//! Number and contents of a space.

use std::borrow::Cow;

use super::solve::{EFFORT, Solutions, Variants};
use super::{Layer, Space, Variant};
use crate::expr::Expr;

/// Numbers of points of a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Number of points of the full product of all values.
    pub cartesian: u128,
    /// Number of points that satisfy every constraint. Here and below, `None` means that counting would take too long.
    pub valid: Option<u128>,
    /// Number of valid points that differ from the default in macro toggles only, the default included.
    pub macro_points: Option<u128>,
    /// Number of valid points that differ from the default in micro toggles only, the default included.
    pub micro_points: Option<u128>,
    /// Number of points of the product that each constraint excludes by itself; two constraints may exclude the same
    /// point.
    pub removed: Vec<Option<u128>>,
}

/// Number of values that are tried to count the points that a single constraint excludes.
const EFFORT_OF_ONE: u64 = EFFORT / 8;

impl Space {
    /// Number of points of the full product of all values.
    pub fn cartesian(&self) -> u128 {
        self.toggles.iter().fold(1, |product, toggle| product.saturating_mul(toggle.values.len() as u128))
    }

    /// The valid variants, to be counted, sampled and looked up. This is the expensive step: solve once and keep the
    /// result.
    pub fn solve(&self) -> Solutions {
        Solutions::new(self)
    }

    /// Every valid variant, in the order of [`Solutions::variants`]; found one at a time.
    pub fn variants(&self) -> Variants<'static> {
        Variants::new(Cow::Owned(self.solve()))
    }

    /// Every valid variant that differs from `base` in toggles of `layer` only, `base` itself included if it is valid.
    pub fn variants_of_layer(&self, layer: Layer, base: &Variant) -> Variants<'static> {
        Variants::new(Cow::Owned(self.solve_layer(layer, base)))
    }

    fn solve_layer(&self, layer: Layer, base: &Variant) -> Solutions {
        let held = |toggle: usize| (self.toggles[toggle].layer != layer).then(|| base.0[toggle]);
        Solutions::of(self, &self.constraints, held, EFFORT)
    }

    /// Number of valid points that differ from the default in toggles of `layer` only, the default included; `None` if
    /// counting would take too long.
    pub fn count_of_layer(&self, layer: Layer) -> Option<u128> {
        self.solve_layer(layer, &self.default).count()
    }

    /// Counts the points.
    pub fn counts(&self) -> Counts {
        let cartesian = self.cartesian();
        let removed = |constraint: &Expr| {
            let left = Solutions::of(self, std::slice::from_ref(constraint), |_| None, EFFORT_OF_ONE).count()?;
            // A product that does not fit has no difference.
            (cartesian < u128::MAX).then(|| cartesian - left)
        };
        let valid = self.solve().count();
        let of_layer = |layer| {
            let only = self.toggles.iter().all(|toggle| toggle.layer == layer);
            if only { valid } else { self.count_of_layer(layer) }
        };
        Counts {
            cartesian,
            valid,
            macro_points: of_layer(Layer::Macro),
            micro_points: of_layer(Layer::Micro),
            removed: self.constraints.iter().map(removed).collect(),
        }
    }
}
