//! The values of a candidate's objectives, from its build and its measurements.

use kbench_runtime::protocol::Geometry;

use super::application;
use crate::config::Objective;
use crate::harness::{Built, Candidate, Context, no_geometry};
use crate::record::evaluation::{Evaluation, GateName, Reason, Rejection};
use crate::record::objective::ObjectiveValue;

/// The values of objectives that are resources, which are known before the launch.
pub(super) fn of_resources(
    context: &Context<'_>,
    candidate: &Candidate,
    built: &Built,
) -> Result<Vec<ObjectiveValue>, Rejection> {
    let (kernel, shape) = (context.kernel, context.kernel.search.shape);
    let artifact = built.artifact(shape);
    let name = context.shape_name(shape);
    let mut values = Vec::new();
    for objective in context.objectives.iter().filter(|objective| matches!(objective, Objective::Resource(_))) {
        let launches = context.point(shape, &candidate.variant).geometries(&kernel.implementation);
        let launches = launches.map_err(|error| no_geometry(&error, name))?;
        // The launch that uses the most.
        let of_launch = |(entry, geometry): &(String, Geometry)| {
            ObjectiveValue::of_resources(objective, &artifact.function(entry).resources, geometry)
        };
        let values_of_launches: Option<Vec<ObjectiveValue>> = launches.iter().map(of_launch).collect();
        let value = values_of_launches.and_then(|values| values.into_iter().max_by(|a, b| a.value.total_cmp(&b.value)));
        values.push(value.ok_or_else(|| {
            let message = format!("the compiler does not report the objective `{objective}`");
            Rejection::new(GateName::Resources, Reason::Unavailable, message, Some(name))
        })?);
    }
    Ok(values)
}

/// Sets the values of a candidate that passed; a candidate without one of the values is rejected.
pub(super) fn set(context: &Context<'_>, evaluation: &mut Evaluation, candidate: &Candidate, built: &Built) {
    evaluation.objectives.clear();
    if evaluation.rejection().is_some() {
        return;
    }
    let kernel = context.kernel;
    let resources = of_resources(context, candidate, built).unwrap_or_default();
    let time = |shape: usize| {
        let name = &kernel.shapes[shape].name;
        let timings = evaluation.timing.iter().chain(&evaluation.more_timings);
        timings.filter(|timing| timing.shape == *name).map(|timing| &timing.summary).next()
    };
    let work = || {
        let (flops, bytes) = context.point(kernel.search.shape, &candidate.variant).work();
        flops.filter(|&flops| flops > 0.0).or(bytes)
    };
    let value = |objective: &Objective| {
        ObjectiveValue::of_times(objective, kernel.search.shape, time, work)
            .or_else(|| ObjectiveValue::of_energy(objective, evaluation.energy.as_ref()))
            .or_else(|| application::value_of(objective, evaluation.application.as_ref(), candidate.is_default(kernel)))
            .or_else(|| resources.iter().find(|value| value.name == objective.name()).cloned())
            .ok_or_else(|| objective.name())
    };
    let values: Result<Vec<ObjectiveValue>, &str> = context.objectives.iter().map(value).collect();
    match values {
        Ok(values) => evaluation.objectives = values,
        Err(name) => {
            let message = format!("the worker did not measure the objective `{name}`");
            evaluation.reject(Rejection::new(GateName::Performance, Reason::Unavailable, message, None));
        }
    }
}
