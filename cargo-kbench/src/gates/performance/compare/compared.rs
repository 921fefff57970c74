//! The result of a comparison.

use std::cell::RefCell;
use std::collections::BTreeMap;

use kbench_runtime::stats::{FEWEST_ROUNDS, Speedup};

use super::EntrantId;
use crate::config::Kernel;
use crate::record::evaluation::Rejection;
use crate::record::journal::{ComparisonEntry, EntryRole};

/// A comparison's result: entries that were measured together, and entrants without a measurement.
#[derive(Debug, Clone, Default)]
pub struct Compared {
    /// The measured entrants.
    pub entries: Vec<Measured>,
    /// The entrants without a measurement, with the reasons.
    pub unavailable: Vec<(EntrantId, Rejection)>,
    /// Findings of gates at level `warn`.
    pub warnings: Vec<String>,
    /// Whether the resumed run measured this comparison.
    pub resumed: bool,
    /// Speed-ups of entries over others, by index: the bootstrap of 10,000 rounds takes 0.2 s, and a conclusion asks for each several times.
    speedups: RefCell<BTreeMap<(usize, usize), Option<Speedup>>>,
}

/// A measured entrant.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Identity.
    pub id: EntrantId,
    /// Samples and their summary.
    pub entry: ComparisonEntry,
}

impl Compared {
    /// The entry of an entrant; not the entry of the second measurement of the same entrant.
    pub fn entry(&self, id: &EntrantId) -> Option<&ComparisonEntry> {
        self.place(id).map(|at| &self.entries[at].entry)
    }

    /// Index of the entry of an entrant; not of the second measurement of the same entrant.
    fn place(&self, id: &EntrantId) -> Option<usize> {
        self.entries.iter().position(|measured| measured.entry.role != EntryRole::Again && measured.id == *id)
    }

    /// All entries except second measurements.
    pub fn measured(&self) -> impl Iterator<Item = &Measured> {
        self.entries.iter().filter(|measured| measured.entry.role != EntryRole::Again)
    }

    /// The reason why an entrant could not be measured.
    pub fn rejection(&self, id: &EntrantId) -> Option<&Rejection> {
        self.unavailable.iter().find(|(other, _)| other == id).map(|(_, rejection)| rejection)
    }

    /// The entrants without a measurement, by name.
    pub fn unavailable_names(&self, kernel: &Kernel) -> BTreeMap<String, &Rejection> {
        self.unavailable.iter().map(|(id, rejection)| (id.name(kernel), rejection)).collect()
    }

    /// Whether two entries have the same machine code and launch.
    pub fn same_program(&self, id: &EntrantId, other: &EntrantId) -> bool {
        let program = |id| self.entry(id).map(|entry| &entry.program);
        program(id).is_some() && program(id) == program(other)
    }

    /// Largest relative difference between entries with the same machine code: the farthest end of any interval between
    /// two of them, 0.004 for 0.4 %. `None` if no two entries are the same. A smaller difference between two others has
    /// no meaning.
    pub fn noise_floor(&self) -> Option<f64> {
        let program = |at: usize| &self.entries[at].entry.program;
        let pairs = (0..self.entries.len()).flat_map(|one| {
            let identical = (one + 1..self.entries.len()).filter(move |&other| program(other) == program(one));
            identical.filter_map(move |other| self.speedup_at(other, one))
        });
        pairs.map(|speedup| (speedup.high - 1.0).max(1.0 - speedup.low)).reduce(f64::max)
    }

    /// The speed-up of `id` over `over`: time of `over` over time of `id`, from paired rounds. The error is the reason
    /// why there is none.
    pub fn speedup(&self, id: &EntrantId, over: &EntrantId) -> Result<Speedup, String> {
        let find = |id: &EntrantId| {
            let why = || self.rejection(id).map_or_else(|| "not measured".to_owned(), ToString::to_string);
            self.place(id).ok_or_else(why)
        };
        let (over, id) = (find(over)?, find(id)?);
        self.speedup_at(id, over).ok_or_else(|| format!("fewer than {FEWEST_ROUNDS} samples"))
    }

    /// The speed-up of an entry over another, by their indices.
    fn speedup_at(&self, at: usize, over: usize) -> Option<Speedup> {
        let compute = || Speedup::of(self.entries[over].entry.taken(), self.entries[at].entry.taken());
        *self.speedups.borrow_mut().entry((at, over)).or_insert_with(compute)
    }

    /// Whether the time of an entry is known: see [`TimingRecord::is_known`](crate::record::evaluation::TimingRecord::is_known).
    pub fn is_known(&self, id: &EntrantId) -> bool {
        self.entry(id).is_some_and(|entry| entry.timing.is_known())
    }

    /// Time of one entry over that of another: from paired rounds, or by p50 with too few rounds. `None` if one was not
    /// measured.
    pub fn relative_time(&self, id: &EntrantId, other: &EntrantId) -> Option<f64> {
        let (one, other) = (self.entry(id)?, self.entry(other)?);
        let by_p50 = one.timing.summary.p50 / other.timing.summary.p50;
        Some(Speedup::ratio_of(&one.samples, &other.samples).unwrap_or(by_p50))
    }

    /// The loss of an entry: its time over that of the fastest one, less 1; at least 0. Identical machine code has loss
    /// 0 for any samples. Infinite if an entry was not measured.
    pub fn loss(&self, id: &EntrantId, fastest: &EntrantId) -> f64 {
        match self.relative_time(id, fastest) {
            Some(_) if self.same_program(id, fastest) => 0.0,
            Some(relative) => (relative - 1.0).max(0.0),
            None => f64::INFINITY,
        }
    }

    /// The 95 % interval of a [loss](Self::loss), from paired rounds. `None` for identical machine code, for too few
    /// samples, and if an end is not finite.
    pub fn loss_interval(&self, id: &EntrantId, fastest: &EntrantId) -> Option<(f64, f64)> {
        // The time of an entry over that of the fastest is the speed-up of the fastest over the entry.
        let speedup = self.speedup(fastest, id).ok().filter(|_| !self.same_program(id, fastest))?;
        let ends = (speedup.low - 1.0, speedup.high - 1.0);
        (ends.0.is_finite() && ends.1.is_finite()).then_some(ends)
    }

    /// The fastest entry, by its time over that of the entry with the smallest p50.
    pub fn fastest(&self) -> Option<&EntrantId> {
        self.fastest_of(self.measured().map(|measured| &measured.id))
    }

    /// The fastest of some entrants.
    pub fn fastest_of<'i>(&self, ids: impl IntoIterator<Item = &'i EntrantId>) -> Option<&'i EntrantId> {
        let ids: Vec<&EntrantId> = ids.into_iter().filter(|id| self.entry(id).is_some()).collect();
        let p50 = |id: &EntrantId| self.entry(id).map_or(f64::INFINITY, |entry| entry.timing.summary.p50);
        let first = *ids.iter().min_by(|a, b| p50(a).total_cmp(&p50(b)))?;
        let time = |id: &EntrantId| self.relative_time(id, first).unwrap_or(f64::INFINITY);
        ids.into_iter().min_by(|a, b| time(a).total_cmp(&time(b)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use kbench_runtime::stats::Summary;

    use super::*;
    use crate::config::fixture;
    use crate::record::evaluation::{GateName, Reason, TimingRecord};
    use crate::space::Variant;

    /// Identities of three entrants.
    pub(crate) const ONE: EntrantId = EntrantId::Baseline(1);
    pub(crate) const TWO: EntrantId = EntrantId::Baseline(2);
    pub(crate) const THREE: EntrantId = EntrantId::Baseline(3);

    impl Measured {
        /// Launches with two possible times, the later one in `late` of 100 launches, and `added` nanoseconds more. All
        /// have the same name.
        pub(crate) fn of_two_modes(id: EntrantId, late: usize, added: f64, rounds: usize) -> Self {
            let samples: Vec<f64> =
                (0..rounds).map(|i| if i * 37 % 100 < late { 9184.0 } else { 8992.0 } + added).collect();
            let summary = Summary::of(&samples).unwrap();
            let (shape, clock) = ("mission".to_owned(), "fake".to_owned());
            let timing = TimingRecord { shape, summary, batch: 1, clock, sampling: None };
            let entry = ComparisonEntry {
                name: "name".to_owned(),
                role: EntryRole::Variant,
                program: format!("{id:?}"),
                timing,
                samples,
                slack: 0.0,
                external: None,
            };
            Self { id, entry }
        }

        /// The same launches, with the machine code of another entrant.
        pub(crate) fn identical_to(mut self, other: &EntrantId) -> Self {
            self.entry.program = format!("{other:?}");
            self
        }
    }

    impl Compared {
        pub(crate) fn of(entries: impl IntoIterator<Item = Measured>) -> Self {
            Self { entries: entries.into_iter().collect(), ..Self::default() }
        }

        /// A comparison of [`ONE`], a second measurement of [`ONE`] with `again` nanoseconds more, and others.
        pub(crate) fn with_identical(others: Vec<Measured>, again: f64) -> Self {
            let mut identical = Measured::of_two_modes(ONE, 50, again, 100);
            identical.entry.role = EntryRole::Again;
            Self::of([vec![Measured::of_two_modes(ONE, 50, 0.0, 100), identical], others].concat())
        }
    }

    #[test]
    fn identical_code_shows_the_noise_floor_and_other_code_does_not() {
        let entry = |id, added| Measured::of_two_modes(id, 50, added, 100);
        assert_eq!(Compared::with_identical(vec![], 0.0).noise_floor(), Some(0.0));
        // 9 of about 9000 ns, in both directions, and the largest of several.
        for again in [9.0, -9.0] {
            let floor = Compared::with_identical(vec![entry(TWO, 900.0)], again).noise_floor().unwrap();
            assert!((0.0009..0.0011).contains(&floor), "{floor}");
        }
        let identical = entry(TWO, 90.0).identical_to(&ONE);
        let floor = Compared::with_identical(vec![identical], 9.0).noise_floor().unwrap();
        assert!((0.009..0.011).contains(&floor), "{floor}");
        assert_eq!(Compared::of([entry(ONE, 0.0), entry(TWO, 1.0)]).noise_floor(), None);
    }

    #[test]
    fn entrants_of_one_name_differ_by_identity_and_unknown_ones_match_none() {
        let identical = Measured::of_two_modes(TWO, 50, 0.0, 100).identical_to(&ONE);
        let compared = Compared::with_identical(vec![identical, Measured::of_two_modes(THREE, 50, 0.0, 100)], 0.0);
        assert!(compared.same_program(&ONE, &TWO) && !compared.same_program(&ONE, &THREE));
        let [four, five] = [4, 5].map(EntrantId::Baseline);
        assert!(!compared.same_program(&ONE, &four) && !compared.same_program(&four, &five));
        assert!(compared.is_known(&ONE) && !compared.is_known(&four));
        assert_eq!(compared.speedup(&ONE, &four), Err("not measured".to_owned()));
    }

    #[test]
    fn entrants_without_a_measurement_have_their_own_reasons() {
        let project = fixture::project(
            "baselines = { a = { source = \"k.c\", entry = \"k\" }, b = { source = \"k.c\", entry = \"k\" } }",
        );
        let why = |code| Rejection::new(GateName::Performance, code, "no", Some("s"));
        let [a, b, default] = [EntrantId::Baseline(0), EntrantId::Baseline(1), (&Variant(vec![1])).into()];
        let mut compared = Compared::of([Measured::of_two_modes(default.clone(), 50, 0.0, 100)]);
        compared.unavailable = vec![(a.clone(), why(Reason::TooSlow)), (b.clone(), why(Reason::Undecided))];
        let code = |id: &EntrantId| compared.rejection(id).map(|rejection| rejection.code);
        assert_eq!([&a, &b, &default].map(code), [Some(Reason::TooSlow), Some(Reason::Undecided), None]);
        let names = compared.unavailable_names(&project.packages[0].kernels[0]);
        let codes: Vec<(&str, Reason)> = names.iter().map(|(name, why)| (&**name, why.code)).collect();
        assert_eq!(codes, [("a", Reason::TooSlow), ("b", Reason::Undecided)]);
        let said = compared.speedup(&default, &b).unwrap_err();
        assert_eq!(said, compared.rejection(&b).unwrap().to_string());
    }

    #[test]
    fn a_loss_is_the_time_beyond_that_of_the_fastest() {
        let entry = |id, added| Measured::of_two_modes(id, 0, added, 100);
        let identical = entry(TWO, 450.0).identical_to(&ONE);
        let compared = Compared::of([entry(ONE, 0.0), identical, entry(THREE, 899.2)]);
        assert!((compared.loss(&THREE, &ONE) - 0.1).abs() < 1e-9);
        let none = [compared.loss(&TWO, &ONE), compared.loss(&ONE, &THREE)];
        assert!(none.iter().all(|loss| loss.abs() < 1e-12), "identical, and faster: {none:?}");
        let unknown = EntrantId::Baseline(4);
        assert_eq!(compared.loss(&unknown, &ONE).to_bits(), f64::INFINITY.to_bits());
        let (low, high) = compared.loss_interval(&THREE, &ONE).unwrap();
        assert!((low - 0.1).abs() < 1e-9 && (high - 0.1).abs() < 1e-9, "{low} {high}");
        assert_eq!([compared.loss_interval(&TWO, &ONE), compared.loss_interval(&unknown, &ONE)], [None; 2]);
        let mut endless = entry(TWO, 0.0);
        endless.entry.samples.fill(f64::MIN_POSITIVE);
        let mut longest = entry(THREE, 0.0);
        longest.entry.samples.fill(f64::MAX);
        assert_eq!(Compared::of([endless.clone(), longest]).loss_interval(&THREE, &TWO), None, "no end is infinite");
        // Of twelve ratios of which three are enormous the median is 1 and the upper end infinite.
        endless.entry.samples.truncate(12);
        let mut often = entry(THREE, 0.0);
        often.entry.samples.clone_from(&endless.entry.samples);
        often.entry.samples.iter_mut().step_by(4).for_each(|sample| *sample = f64::MAX);
        let compared = Compared::of([endless, often]);
        let Speedup { low, high, .. } = compared.speedup(&TWO, &THREE).unwrap();
        assert!(low.is_finite() && !high.is_finite(), "{low} {high}");
        assert_eq!(compared.loss_interval(&THREE, &TWO), None);
    }

    #[test]
    fn the_fastest_is_one_of_those_that_were_measured() {
        let entry = |id, added| Measured::of_two_modes(id, 50, added, 100);
        let compared = Compared::of([entry(ONE, 90.0), entry(TWO, 0.0), entry(THREE, 45.0)]);
        assert_eq!(compared.fastest(), Some(&TWO));
        assert_eq!(compared.fastest_of([&ONE, &EntrantId::Baseline(4), &THREE]), Some(&THREE));
        assert_eq!(compared.fastest_of([&EntrantId::Baseline(4)]), None);
    }

    #[test]
    fn paired_rounds_decide_if_a_median_is_between_two_modes() {
        let (slower, faster) = (ONE, TWO);
        let of = |rounds: usize| {
            Compared::of([Measured::of_two_modes(ONE, 48, 162.0, rounds), Measured::of_two_modes(TWO, 52, 0.0, rounds)])
        };
        let compared = of(100);
        let p50 = |id: &EntrantId| compared.entry(id).unwrap().timing.summary.p50;
        assert!(p50(&slower) < p50(&faster));
        assert_eq!(compared.fastest(), Some(&faster));
        assert!(compared.relative_time(&slower, &faster).unwrap() > 1.01);
        assert_eq!(compared.relative_time(&slower, &THREE), None);
        // With too few rounds, only medians are compared.
        let few = of(FEWEST_ROUNDS - 1);
        let ratio = few.entries[0].entry.timing.summary.p50 / few.entries[1].entry.timing.summary.p50;
        assert_eq!(few.relative_time(&slower, &faster), Some(ratio));
    }
}
