//! The two-layer elite traverse: evaluates the macro layer at the default micro setting, keeps the K best, and
//! evaluates the micro layer of each.
//!
//! With 16 macro and 4 micro points and K = 3 these are 16 + 3 x 3 = 25 evaluations of 64 variants. If the macro layer
//! is larger than the budget allows, a seeded sample of it leaves the micro layer its share.

use std::collections::{HashMap, HashSet};

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use super::{Candidates, Outcome, Strategy};
use crate::config::Search;
use crate::space::{Layer, Variant};

/// Share of the evaluation budget for a macro layer that is too large for it.
const MACRO_SHARE: f64 = 0.6;

/// The state of the traverse.
pub struct Evo {
    candidates: Candidates,
    elite: usize,
    seed: u64,
    budget: Option<u64>,
    /// Whether the time of the search is limited.
    hurries: bool,
    phase: Phase,
    /// Remaining proposals of this phase, last first.
    sweep: Vec<Variant>,
    /// Variants without an outcome, in the order of asking.
    pending: Vec<Variant>,
    /// All proposals, by their index in that order.
    asked: HashMap<Variant, usize>,
    told: Vec<(Variant, f64)>,
}

enum Phase {
    Start,
    Macro,
    Micro,
}

impl Evo {
    /// A traverse of `candidates`.
    pub fn new(candidates: Candidates, search: &Search) -> Self {
        Self {
            candidates,
            elite: search.elite,
            seed: search.seed,
            budget: search.evaluations,
            hurries: search.seconds.is_some(),
            phase: Phase::Start,
            sweep: Vec::new(),
            pending: Vec::new(),
            asked: HashMap::new(),
            told: Vec::new(),
        }
    }

    /// The macro layer at the default micro setting, after the first variants of every search.
    fn macro_sweep(&self) -> Vec<Variant> {
        let default = self.candidates.default();
        // A record has no default to start with.
        let first = match self.candidates.first() {
            [] => std::slice::from_ref(default),
            first => first,
        };
        let mut sweep: Vec<Variant> =
            self.candidates.of_layer(Layer::Macro, default).filter(|variant| !first.contains(variant)).collect();
        let share = self.budget.map(|budget| (budget as f64 * MACRO_SHARE).ceil() as usize);
        if let Some(share) = share.filter(|&share| sweep.len() + first.len() > share && !self.micro_is_empty()) {
            sweep.shuffle(&mut ChaCha8Rng::seed_from_u64(self.seed));
            sweep.truncate(share.saturating_sub(first.len()));
        }
        first.iter().cloned().chain(sweep).collect()
    }

    fn micro_is_empty(&self) -> bool {
        self.candidates.toggles().iter().all(|toggle| toggle.layer == Layer::Macro || toggle.values.len() == 1)
    }

    /// The micro neighbours of these variants, in their order.
    fn micro_sweep<'a>(&'a self, around: impl Iterator<Item = &'a Variant>) -> impl Iterator<Item = Variant> {
        let mut proposed = HashSet::new();
        let neighbours = around.flat_map(|variant| self.candidates.of_layer(Layer::Micro, variant));
        neighbours.filter(move |variant| !self.asked.contains_key(variant) && proposed.insert(variant.clone()))
    }

    /// The micro neighbours of the elite. Best first, if the budget may end the phase early; otherwise in the order of
    /// asking, since the neighbours of the first have been [likely](Strategy::likely) for longest and are compiled.
    fn second_layer(&self) -> Vec<Variant> {
        let mut elites = self.elites();
        let best_first: Vec<Variant> = self.micro_sweep(elites.iter().copied()).collect();
        let asked = (self.asked.len() + best_first.len()) as u64;
        if self.hurries || self.budget.is_some_and(|budget| asked > budget) {
            return best_first;
        }
        elites.sort_by_key(|&variant| self.asked.get(variant));
        self.micro_sweep(elites.into_iter()).collect()
    }

    /// The best so far, best first.
    fn elites(&self) -> Vec<&Variant> {
        let mut ranked: Vec<&(Variant, f64)> = self.told.iter().collect();
        // The variant breaks ties, so that the order never depends on the order of telling.
        ranked.sort_by(|(a, x), (b, y)| x.total_cmp(y).then_with(|| a.cmp(b)));
        ranked.into_iter().take(self.elite).map(|(variant, _)| variant).collect()
    }
}

impl Strategy for Evo {
    fn ask(&mut self, n: usize) -> Vec<Variant> {
        if self.sweep.is_empty() && self.pending.is_empty() {
            let (phase, sweep) = match self.phase {
                Phase::Start => (Phase::Macro, self.macro_sweep()),
                Phase::Macro => (Phase::Micro, self.second_layer()),
                Phase::Micro => return Vec::new(),
            };
            self.phase = phase;
            self.sweep = sweep;
            self.sweep.reverse();
        }
        let batch: Vec<Variant> = std::iter::from_fn(|| self.sweep.pop()).take(n).collect();
        for variant in &batch {
            self.asked.insert(variant.clone(), self.asked.len());
        }
        self.pending.extend(batch.iter().cloned());
        batch
    }

    /// The second layer as it would be if the first ended now, then other variants that may still be proposed.
    fn likely(&mut self, n: usize, _enough: &dyn Fn() -> bool) -> Vec<Variant> {
        if !matches!(self.phase, Phase::Macro) {
            return Vec::new();
        }
        self.micro_sweep(self.elites().into_iter().chain(&self.pending)).take(n).collect()
    }

    /// Of variants with identical code only the first is a candidate for the elite, which should hold different
    /// programs.
    fn tell(&mut self, variant: &Variant, outcome: Outcome) {
        self.pending.retain(|pending| pending != variant);
        if let Outcome::Measured(objective) = outcome {
            self.told.retain(|(told, _)| told != variant);
            self.told.push((variant.clone(), objective));
        }
    }

    fn remaining(&self) -> u64 {
        let micro = || {
            let around = self.candidates.of_layer(Layer::Micro, self.candidates.default()).count() as u64;
            self.elite as u64 * around.saturating_sub(1)
        };
        match self.phase {
            Phase::Start => self.macro_sweep().len() as u64 + micro(),
            Phase::Macro => self.sweep.len() as u64 + micro(),
            Phase::Micro => self.sweep.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StrategyName;
    use crate::expr::{Expr, Value};
    use crate::search::Failure;
    use crate::space::{Reach, Space, Toggle};

    fn space(constraints: &[&str]) -> Space {
        let toggle = |name: &str, values: &[i64], layer| Toggle {
            name: name.into(),
            values: values.iter().map(|&value| Value::Int(value)).collect(),
            layer,
            reach: Reach::Macro,
        };
        Space {
            toggles: vec![
                toggle("A", &[0, 1, 2, 3], Layer::Macro),
                toggle("B", &[0, 1, 2, 3], Layer::Macro),
                toggle("C", &[0, 1], Layer::Micro),
                toggle("D", &[0, 1], Layer::Micro),
            ],
            constraints: constraints.iter().map(|text| Expr::parse(text).unwrap()).collect(),
            default: Variant(vec![0; 4]),
        }
    }

    fn search(evaluations: Option<u64>, seed: u64) -> Search {
        Search {
            strategy: StrategyName::Evo,
            elite: 3,
            seed,
            evaluations,
            seconds: None,
            shape: 0,
            proposer: None,
            roofline: None,
            partition: None,
        }
    }

    /// Runs a search on a known landscape and returns the variants that it asked for.
    fn trajectory(space: &Space, search: &Search, time: impl Fn(&Variant) -> Option<f64>) -> Vec<Vec<Variant>> {
        let mut evo = Evo::new(Candidates::new(space), search);
        let mut batches = Vec::new();
        loop {
            let batch = evo.ask(usize::MAX);
            if batch.is_empty() {
                return batches;
            }
            for variant in &batch {
                evo.tell(variant, time(variant).map_or(Outcome::Failed(Failure::Launch), Outcome::Measured));
            }
            batches.push(batch);
        }
    }

    fn sum(variant: &Variant) -> f64 {
        variant.0.iter().map(|&index| f64::from(index)).sum()
    }

    #[test]
    fn sweeps_the_macro_layer_then_the_micro_layer_of_three_elites() {
        let space = space(&[]);
        let batches = trajectory(&space, &search(None, 0), |variant| Some(sum(variant)));
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [16, 9]);
        assert_eq!(batches[0][0], space.default, "the default comes first");
        assert!(batches[0].iter().all(|variant| variant.0[2..] == [0, 0]));
        let mut elites: Vec<&[u16]> = batches[1].iter().map(|variant| &variant.0[..2]).collect();
        elites.dedup();
        assert_eq!(elites, [&[0, 0], &[0, 1], &[1, 0]], "the three best, best first");
    }

    #[test]
    fn rejected_variants_are_no_elites() {
        let batches =
            trajectory(&space(&[]), &search(None, 0), |variant| Some(sum(variant)).filter(|&time| time > 4.0));
        assert!(batches[1].iter().all(|variant| variant.0[0] + variant.0[1] > 4));
        assert_eq!(trajectory(&space(&[]), &search(None, 0), |_| None).len(), 1, "no survivor, no second layer");
    }

    #[test]
    fn evo_asks_only_valid_variants_and_none_twice() {
        let space = space(&["A + D < 4", "B != 2"]);
        let asked: Vec<Variant> = trajectory(&space, &search(None, 0), |variant| Some(sum(variant))).concat();
        assert!(asked.iter().all(|variant| space.is_valid(variant)));
        assert_eq!(asked.iter().collect::<HashSet<_>>().len(), asked.len());
    }

    #[test]
    fn the_second_layer_of_the_best_so_far_is_likely() {
        let mut evo = Evo::new(Candidates::new(&space(&[])), &search(None, 0));
        assert!(evo.likely(9, &|| false).is_empty());
        let first = evo.ask(usize::MAX);
        let around = |variants: &[Variant]| variants.iter().map(|variant| variant.0[..2].to_vec()).collect::<Vec<_>>();
        let [known, next] = [[0, 0], [0, 1]];
        assert_eq!(
            around(&evo.likely(5, &|| false)),
            [known, known, known, next, next],
            "before anything is known, as it will be"
        );
        for variant in &first[4..8] {
            evo.tell(variant, Outcome::Measured(sum(variant)));
        }
        assert_eq!(around(&evo.likely(5, &|| false)), [[1, 0], [1, 0], [1, 0], [1, 1], [1, 1]]);
        for variant in &first {
            evo.tell(variant, Outcome::Measured(sum(variant)));
        }
        let second = evo.ask(usize::MAX);
        assert_eq!(around(&second)[0], [0, 0]);
        assert!(evo.likely(9, &|| false).is_empty());
    }

    #[test]
    fn a_small_budget_leaves_the_micro_layer_its_share() {
        let first = trajectory(&space(&[]), &search(Some(10), 7), |variant| Some(sum(variant)));
        assert_eq!(first[0].len(), 6);
        assert_eq!(
            first,
            trajectory(&space(&[]), &search(Some(10), 7), |variant| Some(sum(variant))),
            "the seed decides"
        );
        assert_ne!(first, trajectory(&space(&[]), &search(Some(10), 8), |variant| Some(sum(variant))));
    }
}
