//! Share of a variant in the roofline of its device, and the end of a search by this share.

use std::fmt;

use kbench_runtime::protocol::Sampling;
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::{Backend, Kernel};
use crate::harness::{Candidate, Context};
use crate::profile::ceilings::Ceilings;
use crate::profile::{Roofline, Share};
use crate::record::evaluation::TimingRecord;

/// Largest valid share in percent: above it, caches served the bytes, or `work` is too large.
const BEYOND: f64 = 105.0;

/// Share of a variant in the nearest ceiling.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Headroom {
    /// Share of the ceiling in percent, at most 105.
    pub percent: f64,
    /// The ceiling: measured quantity, rate and kernel.
    pub ceiling: String,
}

impl fmt::Display for Headroom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} % of the ceiling: {}", self.percent, self.ceiling)
    }
}

impl Headroom {
    /// The share of a candidate with this time. `None` if the table has no `work`, or if no ceiling applies.
    pub fn of(
        context: &Context<'_>,
        ceilings: &Ceilings,
        candidate: &Candidate,
        timing: &TimingRecord,
    ) -> Option<Self> {
        let kernel: &Kernel = context.kernel;
        if !ceilings_apply(kernel.implementation.backend, timing.sampling.as_ref()) {
            return None;
        }
        let work = context.point(kernel.search.shape, &candidate.variant).work();
        let roofline = Roofline::of(kernel, work, timing.summary.p50, ceilings, None).ok()?;
        nearest(&[roofline.compute, roofline.memory])
    }
}

/// Whether ceilings apply to a measurement: those of a CPU are measured on one core and do not apply to a kernel on several.
fn ceilings_apply(backend: Backend, sampling: Option<&Sampling>) -> bool {
    backend != Backend::C || sampling.is_some_and(|sampling| sampling.core.is_some())
}

/// The largest valid share.
fn nearest(shares: &[Option<Share>]) -> Option<Headroom> {
    let shares = shares.iter().flatten().filter(|share| share.percent <= BEYOND);
    let nearest = shares.max_by(|one, other| one.percent.total_cmp(&other.percent))?;
    Some(Headroom { percent: nearest.percent, ceiling: nearest.ceiling.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::ceilings::{Ceiling, Peak};

    #[test]
    fn ceilings_of_a_cpu_apply_to_kernels_on_one_core() {
        let of = |core| Sampling { core, ..Sampling::default() };
        for sampling in [None, Some(&of(None)), Some(&of(Some(3)))] {
            assert!(ceilings_apply(Backend::Cuda, sampling) && ceilings_apply(Backend::Fake, sampling));
        }
        assert_eq!([None, Some(3)].map(|core| ceilings_apply(Backend::C, Some(&of(core)))), [false, true]);
        assert!(!ceilings_apply(Backend::C, None));
    }

    #[test]
    fn a_share_beyond_its_ceiling_is_no_headroom() {
        let share = |peak, percent| {
            let ceiling = Ceiling { peak, rate: 2e11, how: "x".into() };
            Some(Share { ceiling, percent, because: String::new() })
        };
        let shown = |shares: &[Option<Share>]| nearest(shares).map(|headroom| headroom.to_string());
        let both = [share(Peak::Fp32, 40.04), share(Peak::Copy, 140.0)];
        assert_eq!(shown(&both).as_deref(), Some("40.0 % of the ceiling: fp32 200.0 GFLOP/s (x)"));
        let near = [share(Peak::Fp32, 40.0), share(Peak::Copy, 104.0)];
        assert_eq!(shown(&near).as_deref(), Some("104.0 % of the ceiling: copy 200 GB/s (x)"));
        assert_eq!(shown(&[None, share(Peak::Copy, 106.0)]), None);
    }
}
