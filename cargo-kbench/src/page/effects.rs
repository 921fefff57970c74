//! Effect of each toggle on the time: main effects and interactions, by least squares on the logarithm of the measured
//! values.
//!
//! The model is a product of one factor for each toggle value. A search does not try values evenly, so a plain mean
//! over the variants with a value would mix the effect of that value with those of other toggles; the simultaneous fit
//! of all factors does not. Interactions are the part of the residuals that a table of two toggles explains. Effects
//! describe the measurements; no decision depends on them.

use serde::Serialize;

use super::values::{said, sort};
use crate::expr::Value;
use crate::space::Settings;

/// Number of sweeps of the fit, each of which improves one toggle after the other; far fewer suffice.
const SWEEPS: usize = 60;

/// Number of variants by which the factor of an interaction is shrunk towards 1, so that one variant does not make an
/// interaction.
const SHRINK: f64 = 0.5;

/// Largest number of interactions.
const MOST_PAIRS: usize = 5;

/// Smallest share of the variation for which an interaction gets a table.
const LEAST_SHARE: f64 = 0.005;

/// The effects in a set of variants.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Effects {
    /// Number of variants in the fit.
    pub variants: usize,
    /// Share of the variation of the logarithm that the main effects explain, 0 to 1.
    pub explained: f64,
    /// Effects of the toggles, largest share first.
    pub toggles: Vec<ToggleEffect>,
    /// The strongest interactions, strongest first.
    pub interactions: Vec<Interaction>,
}

/// The effect of a toggle.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct ToggleEffect {
    /// Name of the toggle.
    pub toggle: String,
    /// Variance of the logarithms of the toggle's factors over that of the values, 0 to 1.
    pub share: f64,
    /// Values in ascending order.
    pub values: Vec<ValueEffect>,
}

/// The effect of a value.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct ValueEffect {
    /// The value.
    pub value: String,
    /// Time of a variant with this value over the time with the toggle's best value, all else equal: 1 for the best.
    pub factor: f64,
    /// Number of variants with this value.
    pub variants: usize,
}

/// Two toggles whose effects depend on each other.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Interaction {
    /// The two toggles; the first labels the rows.
    pub toggles: (String, String),
    /// Share of the variation that the table of the two toggles explains beyond the main effects, 0 to 1.
    pub share: f64,
    /// Values of the first toggle.
    pub rows: Vec<String>,
    /// Values of the second toggle.
    pub columns: Vec<String>,
    /// Time of variants with both values over the time that the main effects predict; none if no variant has both.
    pub factors: Vec<Vec<Option<f64>>>,
}

/// A toggle in the fit.
struct Factor {
    name: String,
    values: Vec<Value>,
    /// Index into `values`, by variant.
    levels: Vec<usize>,
    effects: Vec<f64>,
}

/// The effects in a set of variants with their values; `None` if there are too few variants.
pub fn effects(variants: &[(&Settings, f64)]) -> Option<Effects> {
    let (first, _) = variants.first()?;
    let mut factors: Vec<Factor> =
        first.0.iter().map(|(name, _)| factor(name, variants)).filter(|factor| factor.values.len() > 1).collect();
    let parameters: usize = factors.iter().map(|factor| factor.values.len() - 1).sum();
    // A fit with as many factors as variants would reproduce the variants.
    if factors.is_empty() || variants.len() < parameters + 3 {
        return None;
    }
    let logs: Vec<f64> = variants.iter().map(|(_, value)| value.ln()).collect();
    let mean = logs.iter().sum::<f64>() / logs.len() as f64;
    let mut residuals: Vec<f64> = logs.iter().map(|log| log - mean).collect();
    let total = squares(&residuals);
    if total <= 0.0 {
        return None;
    }
    for _ in 0..SWEEPS {
        for factor in &mut factors {
            let updates = means(factor.values.len(), &factor.levels, &residuals, |sum, count| sum / count);
            for (residual, &level) in residuals.iter_mut().zip(&factor.levels) {
                *residual -= updates[level];
            }
            factor.effects.iter_mut().zip(&updates).for_each(|(effect, update)| *effect += update);
        }
    }
    let explained = (1.0 - squares(&residuals) / total).clamp(0.0, 1.0);
    let interactions = interactions(&factors, &residuals, total);
    let mut toggles: Vec<ToggleEffect> = factors.iter().map(|factor| effect_of(factor, total)).collect();
    toggles.sort_by(|a, b| b.share.total_cmp(&a.share));
    Some(Effects { variants: variants.len(), explained, toggles, interactions })
}

fn factor(name: &str, variants: &[(&Settings, f64)]) -> Factor {
    let of = |settings: &Settings| settings.get(name).cloned().unwrap_or(Value::Bool(false));
    let mut values: Vec<Value> = Vec::new();
    for (settings, _) in variants {
        let value = of(settings);
        if !values.contains(&value) {
            values.push(value);
        }
    }
    sort(&mut values);
    let place = |(settings, _): &(&Settings, f64)| {
        let value = of(settings);
        values.iter().position(|known| *known == value).expect("it was just put there")
    };
    let levels = variants.iter().map(place).collect();
    Factor { name: name.to_owned(), effects: vec![0.0; values.len()], levels, values }
}

fn squares(residuals: &[f64]) -> f64 {
    residuals.iter().map(|residual| residual * residual).sum()
}

/// A number for each level, from the sum and the count of the residuals there.
fn means(levels: usize, of: &[usize], residuals: &[f64], mean: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let mut sums = vec![(0.0, 0.0); levels];
    for (&level, residual) in of.iter().zip(residuals) {
        sums[level].0 += residual;
        sums[level].1 += 1.0;
    }
    sums.into_iter().map(|(sum, count)| mean(sum, count)).collect()
}

fn effect_of(factor: &Factor, total: f64) -> ToggleEffect {
    let count = |at: usize| factor.levels.iter().filter(|&&level| level == at).count();
    let best = factor.effects.iter().copied().fold(f64::INFINITY, f64::min);
    let of_variants: Vec<f64> = factor.levels.iter().map(|&level| factor.effects[level]).collect();
    let mean = of_variants.iter().sum::<f64>() / of_variants.len() as f64;
    let centred: Vec<f64> = of_variants.iter().map(|effect| effect - mean).collect();
    let value = |(at, value): (usize, &Value)| ValueEffect {
        value: said(&value.to_string()),
        factor: (factor.effects[at] - best).exp(),
        variants: count(at),
    };
    ToggleEffect {
        toggle: said(&factor.name),
        share: squares(&centred) / total,
        values: factor.values.iter().enumerate().map(value).collect(),
    }
}

fn interactions(factors: &[Factor], residuals: &[f64], total: f64) -> Vec<Interaction> {
    let mut all = Vec::new();
    for (at, rows) in factors.iter().enumerate() {
        for columns in &factors[at + 1..] {
            let width = columns.values.len();
            let cells = rows.values.len() * width;
            let of: Vec<usize> =
                rows.levels.iter().zip(&columns.levels).map(|(row, column)| row * width + column).collect();
            let counts = means(cells, &of, residuals, |_, count| count);
            let means = means(cells, &of, residuals, |sum, count| sum / (count + SHRINK));
            let share = means.iter().zip(&counts).map(|(mean, count)| mean * mean * count).sum::<f64>() / total;
            let factors = means.chunks(width).zip(counts.chunks(width)).map(|(means, counts)| {
                means.iter().zip(counts).map(|(mean, count)| (*count > 0.0).then(|| mean.exp())).collect()
            });
            all.push(Interaction {
                toggles: (said(&rows.name), said(&columns.name)),
                share,
                rows: rows.values.iter().map(|value| said(&value.to_string())).collect(),
                columns: columns.values.iter().map(|value| said(&value.to_string())).collect(),
                factors: factors.collect(),
            });
        }
    }
    all.sort_by(|a, b| b.share.total_cmp(&a.share));
    all.truncate(MOST_PAIRS);
    all.retain(|interaction| interaction.share >= LEAST_SHARE);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every variant of three toggles whose value a function gives.
    fn space(value: impl Fn(i64, i64, i64) -> f64) -> Vec<(Settings, f64)> {
        let all = (0..4).flat_map(|a| (0..3).flat_map(move |b| (0..2).map(move |c| (a, b, c))));
        let settings = |a, b, c| {
            Settings([("A", a), ("B", b), ("C", c)].map(|(name, value)| (name.to_owned(), Value::Int(value))).into())
        };
        all.map(|(a, b, c)| (settings(a, b, c), value(a, b, c))).collect()
    }

    fn of(space: &[(Settings, f64)]) -> Effects {
        effects(&space.iter().map(|(settings, value)| (settings, *value)).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_product_of_factors_is_found_though_values_are_tried_unevenly() {
        let mut space = space(|a, b, _| 100.0 * 2f64.powi(a as i32) * 1.1f64.powi(b as i32));
        // An uneven sample, as a search makes: hardly any variant with A=3, and none of them with B=0.
        space.retain(|(settings, _)| {
            settings.get("A") != Some(&Value::Int(3)) || settings.get("B") == Some(&Value::Int(2))
        });
        let effects = of(&space);
        assert!(effects.explained > 0.99, "{effects:?}");
        assert_eq!(effects.toggles[0].toggle, "A");
        for (value, expected) in effects.toggles[0].values.iter().zip([1.0, 2.0, 4.0, 8.0]) {
            assert!((value.factor / expected - 1.0).abs() < 1e-6, "{value:?}");
        }
        assert!(
            effects.toggles[2].values.iter().all(|value| value.factor < 1.0 + 1e-6),
            "C has no effect: {effects:?}"
        );
    }

    #[test]
    fn toggles_that_depend_on_each_other_are_named() {
        let effects = of(&space(|a, b, c| if a == 0 && c == 1 { 50.0 } else { 100.0 + b as f64 }));
        let strongest = &effects.interactions[0];
        assert_eq!(strongest.toggles, ("A".to_owned(), "C".to_owned()));
        assert!(strongest.factors[0][1].unwrap() < 0.9 && strongest.factors[0][0].unwrap() > 1.1, "{strongest:?}");
    }

    #[test]
    fn too_few_or_equal_variants_have_no_effects() {
        let all = space(|_, _, _| 1.0);
        let all: Vec<(&Settings, f64)> = all.iter().map(|(settings, value)| (settings, *value)).collect();
        assert_eq!(effects(&all), None);
        assert_eq!(effects(&all[..3]), None);
        assert_eq!(effects(&[]), None);
    }
}
