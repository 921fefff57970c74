//! Toggles without an effect.

use std::collections::HashMap;

use crate::space::{Space, Variant};

/// Toggles that changed neither machine code nor launch in any pair of `tried` (variant and evaluation key, which is
/// empty if the compiler or gate 1 refused the variant) that differs in nothing else. A toggle without such a pair is
/// not returned.
pub fn dead_toggles(space: &Space, tried: &[(Variant, String)]) -> Vec<String> {
    let keys: HashMap<&Variant, &String> = tried.iter().map(|(variant, key)| (variant, key)).collect();
    let dead = |toggle: usize| {
        let mut pairs = keys.iter().flat_map(|(&variant, &key)| {
            let keys = &keys;
            (0..space.toggles[toggle].values.len() as u16).filter_map(move |value| {
                let mut other = variant.clone();
                other.0[toggle] = value;
                let other_key = keys.get(&other).filter(|_| other != *variant)?;
                // A pair without keys has no information; a pair with one key counts as different.
                (!key.is_empty() || !other_key.is_empty()).then(|| *other_key == key)
            })
        });
        // At least one pair, and all pairs equal.
        pairs.next().is_some_and(|same| same && pairs.all(|same| same))
    };
    (0..space.toggles.len()).filter(|&toggle| dead(toggle)).map(|toggle| space.toggles[toggle].name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Value;
    use crate::space::{Layer, Reach, Toggle};

    #[test]
    fn a_toggle_is_dead_where_every_pair_agrees() {
        let toggle = |name: &str| Toggle {
            name: name.into(),
            values: vec![Value::Int(0), Value::Int(1)],
            layer: Layer::Macro,
            reach: Reach::Macro,
        };
        let space = Space {
            toggles: vec![toggle("LIVE"), toggle("DEAD"), toggle("UNKNOWN")],
            constraints: vec![],
            default: Variant(vec![0, 0, 0]),
        };
        let tried = |points: &[([u16; 3], &str)]| -> Vec<(Variant, String)> {
            points.iter().map(|(point, key)| (Variant(point.to_vec()), (*key).to_owned())).collect()
        };
        let all = tried(&[([0, 0, 0], "a"), ([1, 0, 0], "b"), ([0, 1, 0], "a"), ([1, 1, 0], "b")]);
        assert_eq!(dead_toggles(&space, &all), ["DEAD"]);
        // One differing pair suffices, or a value with which no variant builds.
        let live = tried(&[([0, 0, 0], "a"), ([0, 1, 0], "a"), ([1, 0, 0], "b"), ([1, 1, 0], "c"), ([0, 0, 1], "")]);
        assert_eq!(dead_toggles(&space, &live), Vec::<String>::new());
        let refused = tried(&[([0, 0, 0], "a"), ([0, 1, 0], ""), ([1, 0, 0], ""), ([1, 1, 0], "")]);
        assert_eq!(dead_toggles(&space, &refused), Vec::<String>::new());
    }
}
