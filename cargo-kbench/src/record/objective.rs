//! Values of the objectives of a variant, and the front of several variants.

use std::collections::BTreeMap;

use kbench_runtime::float::Float;
use kbench_runtime::protocol::Geometry;
use kbench_runtime::stats::{self, Speedup, Summary};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::build::Resources;
use crate::config::{Better, Kernel, Objective, ResourceName};

/// An objective, for records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveRecord {
    /// Name in the table: `p50`, `mean`, `throughput`, `energy`, or a resource.
    pub name: String,
    /// Weights by shape, for a mean.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, f64>,
}

/// Value of an objective of a variant. Lower is better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveValue {
    /// Name of the objective.
    pub name: String,
    /// Nanoseconds (`p50`, `mean`), nanoseconds for a floating-point operation or a byte (`throughput`), joules a
    /// launch (`energy`), registers or bytes.
    #[serde(with = "Float")]
    pub value: f64,
    /// Lower end of the 95 % interval; none for a count.
    #[serde(with = "Float")]
    pub low: f64,
    /// Upper end of the 95 % interval; none for a count.
    #[serde(with = "Float")]
    pub high: f64,
}

impl ObjectiveRecord {
    /// The objectives of a kernel.
    pub fn all(kernel: &Kernel) -> Vec<Self> {
        let record = |objective: &Objective| Self {
            name: objective.name().to_owned(),
            weights: match objective {
                Objective::Mean(weights) => {
                    weights.iter().map(|&(shape, weight)| (kernel.shapes[shape].name.clone(), weight)).collect()
                }
                _ => BTreeMap::new(),
            },
        };
        kernel.objectives.iter().map(record).collect()
    }
}

impl ObjectiveValue {
    /// Value for a strategy, above 0 also for a count of 0.
    pub fn told(&self) -> f64 {
        if self.is_count() { self.value + 1.0 } else { self.value }
    }

    /// Whether the value is a number of registers or bytes.
    pub fn is_count(&self) -> bool {
        Objective::WORDS
            .iter()
            .any(|(name, objective)| *name == self.name && matches!(objective, Objective::Resource(_)))
    }

    fn of(objective: &Objective, summary: &Summary) -> Self {
        Self { name: objective.name().to_owned(), value: summary.p50, low: summary.p50_low, high: summary.p50_high }
    }

    /// An objective that is made of times; `None` for any other, and if a time is missing. `work` is that of a launch
    /// at `shape`.
    pub fn of_times<'t>(
        objective: &Objective,
        shape: usize,
        time: impl Fn(usize) -> Option<&'t Summary>,
        work: impl Fn() -> Option<f64>,
    ) -> Option<Self> {
        match objective {
            Objective::Throughput => {
                let (summary, work) = (time(shape)?, work().filter(|work| *work > 0.0)?);
                let each = |time: f64| time / work;
                let (value, low, high) = (each(summary.p50), each(summary.p50_low), each(summary.p50_high));
                Some(Self { name: objective.name().to_owned(), value, low, high })
            }
            Objective::P50 => Some(Self::of(objective, time(shape)?)),
            Objective::Mean(weights) => {
                let summaries: Option<Vec<_>> =
                    weights.iter().map(|&(shape, weight)| Some((time(shape)?, weight))).collect();
                let summaries = summaries?;
                // All ends at once: wider than the interval of a mean of independent times, never too narrow.
                let mean = |of: fn(&Summary) -> f64| {
                    geometric(summaries.iter().map(|(summary, weight)| (of(summary), *weight)))
                };
                let (value, low) = (mean(|summary| summary.p50), mean(|summary| summary.p50_low));
                let high = mean(|summary| summary.p50_high).max(value);
                Some(Self { name: objective.name().to_owned(), value, low: low.min(value), high })
            }
            Objective::Energy | Objective::Resource(_) | Objective::Application(_) => None,
        }
    }

    /// Energy from its measured windows; `None` for any other objective.
    pub fn of_energy(objective: &Objective, energy: Option<&Summary>) -> Option<Self> {
        (*objective == Objective::Energy).then(|| Some(Self::of(objective, energy?)))?
    }

    /// The cost of a program of the user, over that of the default variant; `None` of any other objective.
    pub fn of_application(objective: &Objective, runs: Option<&ApplicationRecord>) -> Option<Self> {
        let (Objective::Application(application), Some(runs)) = (objective, runs) else { return None };
        let Speedup { ratio, low, high } = runs.cost(application.better)?;
        Some(Self { name: objective.name().to_owned(), value: ratio, low, high })
    }

    /// A resource; `None` for any other objective, and if the compiler does not report it.
    pub fn of_resources(objective: &Objective, resources: &Resources, geometry: &Geometry) -> Option<Self> {
        let Objective::Resource(name) = objective else { return None };
        let count = match name {
            ResourceName::Registers => resources.registers,
            ResourceName::SharedBytes => resources.shared_bytes(geometry),
            ResourceName::SpillBytes => resources.spills(),
            ResourceName::StackBytes => resources.stack,
            ResourceName::CodeBytes => resources.code_bytes,
        };
        let value = count? as f64;
        Some(Self { name: objective.name().to_owned(), value, low: value, high: value })
    }

    /// Whether this value is certainly smaller than another.
    pub fn is_clearly_below(&self, other: &Self) -> bool {
        self.high < other.low
    }
}

/// Numbers that a program of the user printed, in rounds: one with the variant, one with the default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ApplicationRecord {
    /// The numbers with the variant.
    pub variant: Vec<f64>,
    /// The numbers with the default variant, of the same rounds.
    pub default: Vec<f64>,
}

impl ApplicationRecord {
    /// The median with the variant, and that with the default.
    pub fn medians(&self) -> [f64; 2] {
        [&self.variant, &self.default].map(|numbers| {
            let mut sorted = numbers.clone();
            sorted.sort_by(f64::total_cmp);
            stats::percentile(&sorted, 0.5)
        })
    }

    /// The cost of the variant over that of the default, with its 95 % interval; below 1 the variant is better.
    pub fn cost(&self, better: Better) -> Option<Speedup> {
        match better {
            Better::Lower => Speedup::of(&self.variant[..], &self.default[..]),
            Better::Higher => Speedup::of(&self.default[..], &self.variant[..]),
        }
    }
}

/// The weighted geometric mean. The order of two variants does not depend on units, so the order is that of times
/// relative to any variant, such as the default; a large shape counts by its weight only.
fn geometric(times: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (sum, weights) =
        times.fold((0.0, 0.0), |(sum, weights), (time, weight)| (sum + weight * time.ln(), weights + weight));
    f64::exp(sum / weights)
}

/// Whether one point is certainly better than another, by the ends of the intervals: no worse in any objective, and
/// better in one.
pub fn dominates(point: &[ObjectiveValue], other: &[ObjectiveValue]) -> bool {
    let pairs = || point.iter().zip(other);
    pairs().all(|(a, b)| a.high <= b.low) && pairs().any(|(a, b)| a.is_clearly_below(b))
}

/// The points of two objectives that no other point [dominates].
pub fn front(points: &[&[ObjectiveValue]]) -> Vec<bool> {
    // A dominated point is dominated by a point whose upper ends are not both above another's.
    let ends = |at: usize| (points[at][0].high, points[at][1].high);
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|&a, &b| ends(a).0.total_cmp(&ends(b).0).then(ends(a).1.total_cmp(&ends(b).1)));
    let mut least = f64::INFINITY;
    order.retain(|&at| {
        let is_less = ends(at).1 < least;
        least = least.min(ends(at).1);
        is_less
    });
    points.iter().map(|point| !order.iter().any(|&at| dominates(points[at], point))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::fixture;

    fn value(name: &str, value: f64, half: f64) -> ObjectiveValue {
        ObjectiveValue { name: name.into(), value, low: value - half, high: value + half }
    }

    fn point(time: f64, half: f64, registers: f64) -> Vec<ObjectiveValue> {
        vec![value("p50", time, half), value("registers", registers, 0.0)]
    }

    fn summary(time: f64) -> Summary {
        Summary::of(&[time * 0.99, time, time * 1.01]).unwrap()
    }

    #[test]
    fn a_mean_weighs_shapes_by_weight_and_not_by_size() {
        let mean = |weights: &[(usize, f64)], times: [f64; 2]| {
            let summaries = times.map(summary);
            let mean = Objective::Mean(weights.to_vec());
            ObjectiveValue::of_times(&mean, 0, |shape| summaries.get(shape), || None).unwrap()
        };
        let even = mean(&[(0, 1.0), (1, 1.0)], [10.0, 1000.0]);
        assert!((even.value - 100.0).abs() < 1e-9 && even.low < even.value && even.value < even.high, "{even:?}");
        // Half the time at the small shape is worth twice the time at the large one.
        assert!((mean(&[(0, 1.0), (1, 1.0)], [5.0, 2000.0]).value - even.value).abs() < 1e-9);
        assert!(mean(&[(0, 1.0), (1, 2.0)], [5.0, 2000.0]).value > mean(&[(0, 1.0), (1, 2.0)], [10.0, 1000.0]).value);
        assert_eq!(ObjectiveValue::of_times(&Objective::Mean(vec![(2, 1.0)]), 0, |_| None, || None), None);
    }

    #[test]
    fn the_cost_of_throughput_is_time_a_unit_of_work() {
        let of = |time: f64, work: Option<f64>| {
            let summary = summary(time);
            ObjectiveValue::of_times(&Objective::Throughput, 0, |_| Some(&summary), || work)
        };
        let [one, two] = [of(10.0, Some(100.0)).unwrap(), of(15.0, Some(200.0)).unwrap()];
        assert!(two.value < one.value && one.low < one.value && one.value < one.high, "{one:?} {two:?}");
        assert_eq!((of(10.0, None), of(10.0, Some(0.0))), (None, None));
    }

    #[test]
    fn a_difference_within_noise_does_not_dominate() {
        assert!(dominates(&point(10.0, 0.1, 32.0), &point(11.0, 0.1, 32.0)));
        assert!(!dominates(&point(10.0, 0.6, 32.0), &point(11.0, 0.6, 32.0)), "the intervals overlap");
        assert!(!dominates(&point(10.0, 0.6, 24.0), &point(11.0, 0.6, 32.0)), "so nobody knows that it is no slower");
        assert!(!dominates(&point(10.0, 0.0, 32.0), &point(10.0, 0.0, 32.0)), "the same");
        assert!(!dominates(&point(10.0, 0.1, 40.0), &point(11.0, 0.1, 32.0)));
    }

    #[test]
    fn a_count_of_zero_has_a_positive_cost() {
        for (name, count, told) in [("spill_bytes", 0.0, 1.0), ("registers", 32.0, 33.0), ("energy", 0.5, 0.5_f64)] {
            assert_eq!(value(name, count, 0.0).told().to_bits(), told.to_bits(), "{name}");
        }
    }

    #[test]
    fn objectives_are_recorded_with_the_weights_of_a_mean() {
        let recorded = |objective: &str| {
            let project = fixture::project(&format!("search.objective = {objective}"));
            let record = |record: ObjectiveRecord| (record.name, record.weights.into_iter().collect::<Vec<_>>());
            ObjectiveRecord::all(&project.packages[0].kernels[0]).into_iter().map(record).collect::<Vec<_>>()
        };
        let weights = vec![("s".to_owned(), 1.0), ("t".to_owned(), 2.0)];
        assert_eq!(recorded("{ mean = { s = 1, t = 2 } }"), [("mean".to_owned(), weights)]);
        let none = |name: &str| (name.to_owned(), Vec::new());
        assert_eq!(recorded("[\"p50\", \"energy\"]"), [none("p50"), none("energy")]);
    }

    #[test]
    fn energy_and_resources_are_values_of_their_objectives_alone() {
        let energy = summary(2.0);
        let of_energy = |objective: &Objective, energy| ObjectiveValue::of_energy(objective, energy).map(|it| it.value);
        assert_eq!(of_energy(&Objective::Energy, Some(&energy)), Some(energy.p50));
        assert_eq!([of_energy(&Objective::Energy, None), of_energy(&Objective::P50, Some(&energy))], [None; 2]);
        let resources = Resources { registers: Some(32), stack: Some(8), ..Resources::default() };
        let of = |objective: &Objective| {
            let value = ObjectiveValue::of_resources(objective, &resources, &Geometry::default())?;
            Some((value.value, value.low, value.high))
        };
        assert_eq!(of(&Objective::Resource(ResourceName::Registers)), Some((32.0, 32.0, 32.0)));
        assert_eq!(of(&Objective::Resource(ResourceName::StackBytes)), Some((8.0, 8.0, 8.0)));
        assert_eq!([of(&Objective::Resource(ResourceName::CodeBytes)), of(&Objective::P50)], [None; 2]);
    }

    #[test]
    fn the_cost_of_a_program_is_above_1_where_the_variant_is_worse() {
        let record = ApplicationRecord { variant: vec![20.0; 40], default: vec![10.0; 40] };
        assert_eq!(record.medians().map(f64::to_bits), [20.0_f64, 10.0].map(f64::to_bits));
        let cost = |better| record.cost(better).unwrap().ratio;
        assert!((cost(Better::Lower) - 2.0).abs() < 1e-9 && (cost(Better::Higher) - 0.5).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn the_front_has_all_variants_that_none_dominates(
            points in proptest::collection::vec((1u8..30, 0u8..4, 1u8..12), 0..40)
        ) {
            let points: Vec<Vec<ObjectiveValue>> =
                points.into_iter().map(|(time, half, count)| point(f64::from(time), f64::from(half) / 2.0, f64::from(count))).collect();
            let slices: Vec<&[ObjectiveValue]> = points.iter().map(Vec::as_slice).collect();
            let front = front(&slices);
            for (of, is_on) in slices.iter().zip(&front) {
                // No point of the front dominates another, and a point of the front dominates each other point.
                let by_the_front = slices.iter().zip(&front).any(|(by, on)| *on && dominates(by, of));
                prop_assert_eq!(*is_on, !by_the_front);
                prop_assert_eq!(*is_on, !slices.iter().any(|by| dominates(by, of)));
            }
        }
    }
}
