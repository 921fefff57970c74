//! How far a search follows variants of earlier elites.
//!
//! The best of them is one of the first points. If it is the fastest of these, the search follows it: it tries the
//! other variants of earlier elites, then proposals of the model that knows of them. What is fast elsewhere may lie in
//! a valley here, so the search does not follow for long without a gain. Then a second model proposes, which knows
//! neither these variants nor these proposals, until it finds a faster variant. From there on one model knows all.

use std::borrow::Cow;

use super::{Asked, Auto, Observation};
use crate::search::Candidates;
use crate::space::Variant;

/// Number of variants in a row without a gain, after which the search stops following.
const PATIENCE: usize = 6;
/// Share of the time that is a gain: less is seldom the way to a variant that is much faster.
const GAIN: f64 = 0.02;

/// The outcomes on which the next proposal depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// All outcomes; no variant that followed earlier elites leads.
    All,
    /// All outcomes, and the proposal follows earlier elites.
    Followed,
    /// All outcomes but those of variants that followed earlier elites.
    Others,
}

/// The variants of earlier elites, and the candidates of a search that begins with the best of these only.
pub fn split(candidates: &Candidates) -> (Vec<Variant>, Candidates) {
    let first = candidates.first();
    let is_earlier = |variant: &&Variant| *variant != candidates.default();
    let best = first.iter().position(|variant| is_earlier(&variant)).map_or(first.len(), |at| at + 1);
    (first.iter().filter(is_earlier).cloned().collect(), candidates.clone().beginning_with_at_most(best))
}

impl Auto {
    /// The outcomes on which the next proposal after the first points depends. A pending variant counts as no gain.
    pub(super) fn known(&self) -> Known {
        let time = |asked: &Asked| asked.observed.and_then(|at| self.observations[at].outcome.objective());
        let (mut followed, mut others) = (f64::INFINITY, f64::INFINITY);
        let (mut gained, mut without_gain) = (f64::INFINITY, 0);
        for asked in &self.asked {
            let time = time(asked).unwrap_or(f64::INFINITY);
            if !asked.follows {
                others = others.min(time);
                continue;
            }
            followed = followed.min(time);
            without_gain += 1;
            if time < gained * (1.0 - GAIN) {
                (gained, without_gain) = (time, 0);
            }
        }
        if followed >= others {
            Known::All
        } else if without_gain < PATIENCE {
            Known::Followed
        } else {
            Known::Others
        }
    }

    /// The variants of earlier elites that were not asked for.
    pub(super) fn untried(&self) -> impl Iterator<Item = &Variant> {
        self.earlier.iter().filter(|variant| !self.unseen.contains(variant))
    }

    /// Those of all observations that are known.
    pub(super) fn of<'o>(&self, known: Known, all: &'o [Observation]) -> Cow<'o, [Observation]> {
        if known != Known::Others {
            return Cow::Borrowed(all);
        }
        Cow::Owned(all.iter().filter(|one| known.includes(&self.asked[one.serial])).cloned().collect())
    }
}

impl Known {
    /// Index of the model that knows this.
    pub(super) fn model(self) -> usize {
        usize::from(self == Self::Others)
    }

    pub(super) fn includes(self, asked: &Asked) -> bool {
        self != Self::Others || !asked.follows
    }
}
