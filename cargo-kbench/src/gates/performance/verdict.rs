//! Verdicts on speed-ups and limits, by the end of the interval that is less favourable to the kernel. A difference below the noise floor decides
//! nothing.

use kbench_runtime::stats::{FEWEST_ROUNDS, Speedup, Summary};

use super::compare::{Compared, EntrantId};
use crate::config::PerformanceBound;
use crate::record::evaluation::{GateName, Reason, Rejection};
pub use crate::record::verdict::{JudgedSpeedup, Verdict, is_noise, verdict, verdict_within};

impl JudgedSpeedup {
    /// Speed-up of `id` over `other` with its verdict; none if they were not measured together. Identical machine code
    /// is never faster or slower, and neither are entries whose difference is below that of identical machine code in
    /// the same comparison. An unknown p50 decides nothing.
    pub fn of(compared: &Compared, id: &EntrantId, other: &EntrantId) -> Option<Self> {
        let speedup = compared.speedup(id, other).ok()?;
        let same = compared.same_program(id, other);
        let is_known = compared.is_known(id) && compared.is_known(other);
        let verdict = match verdict(&speedup) {
            _ if same => Verdict::Same,
            _ if !is_known => Verdict::Inconclusive,
            Verdict::Faster | Verdict::Slower if is_noise(speedup.ratio, 1.0, compared.noise_floor()) => {
                Verdict::Inconclusive
            }
            verdict => verdict,
        };
        Some(Self { speedup, verdict })
    }
}

/// Judges one limit. `speedup` is over the baseline of the limit; the error is the reason why there is none. `floor` is the noise floor of the
/// comparison.
pub fn judge(
    bound: &PerformanceBound,
    shape: &str,
    summary: &Summary,
    baseline: &str,
    speedup: Result<Speedup, String>,
    floor: Option<f64>,
) -> Option<Rejection> {
    let reject = |code, message: String| Some(Rejection::new(GateName::Performance, code, message, Some(shape)));
    let (passes, fails, is_noise, measured) = match bound {
        PerformanceBound::MaxP50Us(limit) => {
            let Some([low, high]) = summary.interval().map(|ends| ends.map(|time| time / 1e3)) else {
                let why = format!("p50 is not known: fewer than {FEWEST_ROUNDS} samples");
                return reject(Reason::Undecided, why);
            };
            let p50 = summary.p50 / 1e3;
            let interval = format!("p50 between {low:.3} and {high:.3} µs, limit {limit} µs");
            (high <= *limit, low > *limit, is_noise(p50, *limit, floor), interval)
        }
        PerformanceBound::MinSpeedup { ratio: limit, .. } => match speedup {
            Err(why) => return reject(Reason::Undecided, format!("no speed-up over {baseline}: {why}")),
            Ok(Speedup { low, ratio, high }) => {
                let interval = format!("{low:.3}x to {high:.3}x over {baseline}, at least {limit}x wanted");
                (low >= *limit, high < *limit, is_noise(ratio, *limit, floor), interval)
            }
        },
    };
    match floor {
        Some(floor) if is_noise => reject(Reason::Undecided, format!("{measured}; noise floor {:.2} %", 100.0 * floor)),
        _ if passes => None,
        _ if fails => reject(Reason::TooSlow, measured),
        _ => reject(Reason::Undecided, measured),
    }
}

#[cfg(test)]
mod tests {
    use kbench_runtime::protocol::{Disturbance, Sampling};

    use super::*;
    use crate::gates::performance::compare::{Measured, ONE, TWO};

    fn interval(low: f64, high: f64) -> Speedup {
        Speedup { low, ratio: f64::midpoint(low, high), high }
    }

    #[test]
    fn verdicts_need_the_whole_interval() {
        assert_eq!(verdict(&interval(1.02, 1.05)), Verdict::Faster);
        assert_eq!(verdict(&interval(0.90, 0.98)), Verdict::Slower);
        assert_eq!(verdict(&interval(0.995, 1.005)), Verdict::Same);
        assert_eq!(verdict(&interval(0.97, 1.03)), Verdict::Inconclusive);
        // Certainly faster, by a difference that is too small to count.
        assert_eq!(verdict(&interval(1.001, 1.002)), Verdict::Same);
    }

    #[test]
    fn an_end_of_the_interval_at_a_limit_decides_nothing() {
        let within = |low, high| verdict_within(&interval(low, high), 0.25);
        assert_eq!(within(0.76, 1.24), Verdict::Same);
        for (low, high) in [(0.75, 1.0), (1.0, 1.25), (0.5, 1.0), (1.0, 1.5)] {
            assert_eq!(within(low, high), Verdict::Inconclusive, "{low} {high}");
        }
        assert_eq!((within(0.5, 0.99), within(1.01, 1.5)), (Verdict::Slower, Verdict::Faster));
        let names = [Verdict::Faster, Verdict::Slower, Verdict::Same, Verdict::Inconclusive];
        assert_eq!(names.map(|verdict| verdict.to_string()), ["faster", "slower", "same", "inconclusive"]);
    }

    #[test]
    fn identical_code_noise_and_unknown_times_precede_the_interval() {
        let judged = |other: Measured, again| {
            JudgedSpeedup::of(&Compared::with_identical(vec![other], again), &ONE, &TWO).unwrap().verdict
        };
        let entry = |added| Measured::of_two_modes(TWO, 50, added, 100);
        // Slower by 5 %, where identical machine code differs by 0 or by 10 %.
        assert_eq!([judged(entry(450.0), 0.0), judged(entry(-450.0), 0.0)], [Verdict::Faster, Verdict::Slower]);
        assert_eq!([judged(entry(450.0), 900.0), judged(entry(-450.0), -900.0)], [Verdict::Inconclusive; 2]);
        assert_eq!(judged(entry(1800.0), 900.0), Verdict::Faster);
        assert_eq!(judged(entry(1.0), 900.0), Verdict::Same, "as small as it is");
        let same = entry(900.0).identical_to(&ONE);
        assert_eq!(judged(same, 0.0), Verdict::Same);

        let unknown = |id: &EntrantId| {
            let mut compared = Compared::with_identical(vec![entry(900.0)], 0.0);
            let of = compared.entries.iter_mut().find(|measured| measured.id == *id).unwrap();
            let disturbed = [(Disturbance::InvoluntaryContextSwitch, 100)].into();
            of.entry.timing.sampling = Some(Sampling { disturbed, ..Sampling::default() });
            JudgedSpeedup::of(&compared, &ONE, &TWO).unwrap().verdict
        };
        assert_eq!([unknown(&ONE), unknown(&TWO)], [Verdict::Inconclusive; 2]);
        assert!(JudgedSpeedup::of(&Compared::with_identical(vec![], 0.0), &ONE, &TWO).is_none());
    }

    #[test]
    fn a_p50_must_lie_within_its_limit_with_its_whole_interval() {
        let code = |low, high| {
            let summary = Summary { p50_low: low, p50_high: high, ..Summary::of(&[2000.0; 6]).unwrap() };
            let none = Err("none is asked for".to_owned());
            judge(&PerformanceBound::MaxP50Us(2.0), "s", &summary, "", none, None).map(|rejection| rejection.code)
        };
        assert_eq!([code(1000.0, 1999.0), code(1000.0, 2000.0)], [None; 2]);
        assert_eq!([code(1000.0, 2001.0), code(2000.0, 3000.0)], [Some(Reason::Undecided); 2]);
        assert_eq!(code(2001.0, 3000.0), Some(Reason::TooSlow));
        // Of five samples all may lie on one side.
        let few = |time: f64| {
            let limit = PerformanceBound::MaxP50Us(2.0);
            judge(&limit, "s", &Summary::of(&[time; 5]).unwrap(), "", Err(String::new()), Some(0.0)).unwrap()
        };
        assert_eq!([few(1.0), few(9e9)].map(|rejection| rejection.code), [Reason::Undecided; 2]);
        assert_eq!(few(1.0).message, "p50 is not known: fewer than 6 samples");
    }

    #[test]
    fn the_lower_end_decides() {
        let bound = PerformanceBound::MinSpeedup { ratio: 1.1, over: 0 };
        let summary = Summary::of(&[1.0, 1.0, 1.0]).unwrap();
        let code = |speedup| judge(&bound, "s", &summary, "naive", speedup, None).map(|rejection| rejection.code);
        assert_eq!(code(Ok(interval(1.1, 1.3))), None);
        assert_eq!(code(Ok(interval(1.09, 1.3))), Some(Reason::Undecided));
        assert_eq!(code(Ok(interval(1.0, 1.09))), Some(Reason::TooSlow));
        assert_eq!(code(Ok(interval(1.0, 1.1))), Some(Reason::Undecided), "it may be just as fast as is wanted");
        assert_eq!(code(Err("PyTorch is missing".into())), Some(Reason::Undecided));
    }

    #[test]
    fn a_measurement_nearer_to_a_limit_than_the_noise_floor_decides_nothing() {
        let summary = |p50: f64| Summary::of(&[p50; 6]).unwrap();
        let (slow, fast) = (summary(2010.0), summary(1990.0));
        let code = |bound: &PerformanceBound, summary: &Summary, speedup, floor| {
            let judged = judge(bound, "s", summary, "naive", Ok(speedup), Some(floor));
            judged.map(|rejection| rejection.code)
        };
        let most = PerformanceBound::MaxP50Us(2.0);
        let any = interval(1.0, 1.0);
        for floor in [0.0, 0.004] {
            assert_eq!((code(&most, &slow, any, floor), code(&most, &fast, any, floor)), (Some(Reason::TooSlow), None));
        }
        assert_eq!([&slow, &fast].map(|summary| code(&most, summary, any, 0.006)), [Some(Reason::Undecided); 2]);
        assert_eq!(code(&most, &summary(2000.0), any, 0.0), None, "no noise");
        let least = PerformanceBound::MinSpeedup { ratio: 1.1, over: 0 };
        let of = |speedup, floor| code(&least, &slow, speedup, floor);
        let (below, above) = (interval(1.088, 1.09), interval(1.11, 1.112));
        assert_eq!((of(below, 0.009), of(above, 0.009)), (Some(Reason::TooSlow), None));
        assert_eq!([of(below, 0.011), of(above, 0.011)], [Some(Reason::Undecided); 2]);
        let said = judge(&least, "s", &slow, "naive", Ok(above), Some(0.011)).unwrap().message;
        assert_eq!(said, "1.110x to 1.112x over naive, at least 1.1x wanted; noise floor 1.10 %");
    }
}
