//! Main effects: the factor of each toggle value against the best value of the toggle.

use super::bars::{Bar, bars};
use super::ink::Pen;
use super::{Facts, Figure};

/// Largest number of bars: the weakest toggles are left out.
const MOST: usize = 40;

/// The plot; none if too few variants were measured.
pub(super) fn plot(facts: &Facts) -> Option<Figure> {
    let effects = facts.effects.as_ref()?;
    let longest = effects.toggles.iter().flat_map(|toggle| &toggle.values).map(|value| value.factor.ln());
    let longest = longest.fold(0.0, f64::max).max(1e-9);
    let mut all = Vec::new();
    for (at, toggle) in effects.toggles.iter().enumerate() {
        if all.len() + toggle.values.len() > MOST && at > 0 {
            break;
        }
        all.extend(toggle.values.iter().map(|value| Bar {
            label: format!("{}={}", toggle.toggle, value.value),
            length: value.factor.ln() / longest,
            value: format!("{:.3}× ({})", value.factor, value.variants),
            pen: Pen::series(at),
        }));
    }
    let shown = effects.toggles.iter().map(|toggle| format!("{} {:.0} %", toggle.toggle, toggle.share * 100.0));
    let shares: Vec<String> = shown.take(6).collect();
    Some(Figure {
        name: "effects",
        title: "Main effects",
        caption: format!(
            "How much longer a variant takes than with the best value of that toggle, all else equal, and how many variants have the \
             value. Fitted to all {} variants with a value at once, so that an uneven choice of variants does not mislead. All toggles \
             together explain {:.0} % of the variation: {} (shares overlap where the search tried values together). Estimates of variants that were stopped early count too.",
            effects.variants,
            effects.explained * 100.0,
            shares.join(", ")
        ),
        svg: bars("Main effects of the toggles", &all),
        marks: Vec::new(),
        wide: false,
    })
}
