//! What a variant's objectives come to, from its build and its measurements.

use super::{Built, Workbench};
use crate::config::Objective;
use crate::record::evaluation::{Evaluation, Gate, Outcome, Reason, Rejection};
use crate::record::objective::ObjectiveValue;
use crate::space::Variant;

impl Workbench<'_> {
    /// The other shapes that evaluations are timed at.
    pub(super) fn mean_shapes(&self) -> impl Iterator<Item = usize> + '_ {
        let wanted = self.objectives.iter().any(|objective| matches!(objective, Objective::Mean(_)));
        self.kernel.mean_shapes().filter(move |_| wanted)
    }

    /// Those objectives that are resources: known before the device sees anything, or the variant is none to rank.
    pub(super) fn resource_values(&self, variant: &Variant, built: &Built) -> Result<Vec<ObjectiveValue>, Rejection> {
        let (kernel, shape) = (self.kernel, self.kernel.search.shape);
        let resources = &built.artifact(shape).resources;
        let name = Some(kernel.shapes[shape].name.as_str());
        let mut values = Vec::new();
        for objective in self.objectives.iter().filter(|objective| matches!(objective, Objective::Resource(_))) {
            let geometry = self.builder.point(kernel, shape, variant).geometry(&kernel.implementation);
            let geometry =
                geometry.map_err(|error| Rejection::new(Gate::Compile, Reason::Geometry, error.to_string(), name))?;
            let value = ObjectiveValue::of_resources(objective, resources, &geometry);
            values.push(value.ok_or_else(|| {
                let message = format!("the compiler does not say what is the objective: `{objective}`");
                Rejection::new(Gate::Resources, Reason::Unavailable, message, name)
            })?);
        }
        Ok(values)
    }

    /// Sets the values of a variant that passed; one that lacks any of them has not.
    pub(super) fn set_objectives(&self, evaluation: &mut Evaluation, variant: &Variant, built: &Built) {
        evaluation.objectives.clear();
        if evaluation.rejection().is_some() {
            return;
        }
        let kernel = self.kernel;
        let resources = self.resource_values(variant, built).unwrap_or_default();
        let time = |shape: usize| {
            let name = &kernel.shapes[shape].name;
            let timings = evaluation.timing.iter().chain(&evaluation.more_timings);
            timings.filter(|timing| timing.shape == *name).map(|timing| &timing.summary).next()
        };
        let value = |objective: &Objective| {
            ObjectiveValue::of_times(objective, kernel.search.shape, time)
                .or_else(|| ObjectiveValue::of_energy(objective, evaluation.energy.as_ref()))
                .or_else(|| resources.iter().find(|value| value.name == objective.name()).cloned())
                .ok_or_else(|| objective.name())
        };
        let values: Result<Vec<ObjectiveValue>, &str> = self.objectives.iter().map(value).collect();
        match values {
            Ok(values) => evaluation.objectives = values,
            Err(name) => {
                let message = format!("the worker did not measure what is the objective: `{name}`");
                let rejection = Rejection::new(Gate::Performance, Reason::Unavailable, message, None);
                evaluation.outcome = Outcome::Rejected(rejection);
            }
        }
    }
}
