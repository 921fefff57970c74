//! Recorded verdicts on speed-ups.

use std::fmt;

use kbench_runtime::stats::{SAME, Speedup};
use serde::{Deserialize, Serialize};

/// Verdict of a comparison of two kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Faster: the whole interval of the speed-up lies above 1.
    Faster,
    /// Slower: the whole interval lies below 1.
    Slower,
    /// Same: the whole interval lies within 1 % of 1.
    Same,
    /// Inconclusive: the samples are not sufficient.
    #[serde(rename = "undecided")]
    Inconclusive,
}

/// The verdict on an interval of a speed-up.
pub fn verdict(speedup: &Speedup) -> Verdict {
    verdict_within(speedup, SAME)
}

/// The verdict, where a speed-up whose interval lies within `same` of 1 counts as none.
pub fn verdict_within(speedup: &Speedup, same: f64) -> Verdict {
    if speedup.low > 1.0 - same && speedup.high < 1.0 + same {
        Verdict::Same
    } else if speedup.low > 1.0 {
        Verdict::Faster
    } else if speedup.high < 1.0 {
        Verdict::Slower
    } else {
        Verdict::Inconclusive
    }
}

/// Whether identical machine code differs by more than a ratio differs from a limit. `floor`: the noise floor of the comparison, if one is known.
pub fn is_noise(ratio: f64, limit: f64, floor: Option<f64>) -> bool {
    floor.is_some_and(|floor| (ratio / limit - 1.0).abs() < floor)
}

/// A speed-up with its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct JudgedSpeedup {
    /// Speed-up by paired ratios, with its interval.
    pub speedup: Speedup,
    /// The verdict.
    pub verdict: Verdict,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Faster => "faster",
            Verdict::Slower => "slower",
            Verdict::Same => "same",
            Verdict::Inconclusive => "inconclusive",
        })
    }
}
