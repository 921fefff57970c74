//! The result of a comparison.

use std::collections::BTreeMap;

use kbench_runtime::stats::{FEWEST_ROUNDS, Speedup};

use crate::record::evaluation::Rejection;
use crate::record::journal::{ComparisonEntry, EntryRole};

/// A comparison's result: entries measured together, and those that could not be.
#[derive(Debug, Clone, Default)]
pub struct Compared {
    /// What was measured.
    pub entries: Vec<ComparisonEntry>,
    /// What could not be, by name, and why.
    pub unavailable: BTreeMap<String, Rejection>,
    /// What gates at level `warn` found.
    pub warnings: Vec<String>,
    /// Whether this was measured by the run that is resumed.
    pub resumed: bool,
}

impl Compared {
    /// The entry of that name, but for the one that is there for the noise floor.
    pub fn entry(&self, name: &str) -> Option<&ComparisonEntry> {
        self.entries().find(|entry| entry.name == name)
    }

    /// All entries but the one that is there for the noise floor.
    pub fn entries(&self) -> impl Iterator<Item = &ComparisonEntry> {
        self.entries.iter().filter(|entry| entry.role != EntryRole::Again)
    }

    /// Whether two entries are the same machine code, launched alike.
    pub fn same_program(&self, name: &str, other: &str) -> bool {
        let program = |name| self.entry(name).map(|entry| &entry.program);
        program(name).is_some() && program(name) == program(other)
    }

    /// By how much entries with the same machine code differed: the farthest end of any interval between two of them, 0.004 for
    /// 0.4 %. `None` where no two are the same. Less than this between two others means nothing.
    pub fn noise_floor(&self) -> Option<f64> {
        let pairs = self.entries.iter().enumerate().flat_map(|(at, one)| {
            let identical = self.entries[at + 1..].iter().filter(|other| other.program == one.program);
            identical.filter_map(|other| Speedup::of(one.taken(), other.taken()))
        });
        pairs.map(|speedup| (speedup.high - 1.0).max(1.0 - speedup.low)).reduce(f64::max)
    }

    /// The speed-up of one entry over another: the time of `over` over that of `name`, from paired rounds.
    pub fn speedup(&self, name: &str, over: &str) -> Result<Speedup, String> {
        let find = |name: &str| {
            self.entry(name).ok_or_else(|| match self.unavailable.get(name) {
                Some(why) => why.to_string(),
                None => format!("`{name}` was not measured"),
            })
        };
        Speedup::of(find(over)?.taken(), find(name)?.taken())
            .ok_or_else(|| format!("fewer than {FEWEST_ROUNDS} samples"))
    }

    /// Whether the time of an entry is known: see [`TimingRecord::is_known`](crate::record::evaluation::TimingRecord::is_known).
    pub fn is_known(&self, name: &str) -> bool {
        self.entry(name).is_some_and(|entry| entry.timing.is_known())
    }

    /// The time of an entry over another's: from paired rounds, of too few by p50. `None` where one was not measured.
    pub fn relative_time(&self, name: &str, other: &str) -> Option<f64> {
        let (one, other) = (self.entry(name)?, self.entry(other)?);
        let by_p50 = one.timing.summary.p50 / other.timing.summary.p50;
        Some(Speedup::ratio_of(&one.samples, &other.samples).unwrap_or(by_p50))
    }

    /// The fastest entry, by its time over that of the one with the least p50.
    pub fn fastest(&self) -> Option<String> {
        self.fastest_of(self.entries().map(|entry| entry.name.clone()))
    }

    /// The fastest of some entries.
    pub fn fastest_of(&self, names: impl Iterator<Item = String>) -> Option<String> {
        let names: Vec<String> = names.filter(|name| self.entry(name).is_some()).collect();
        let p50 = |name: &str| self.entry(name).map_or(f64::INFINITY, |entry| entry.timing.summary.p50);
        let first = names.iter().min_by(|a, b| p50(a).total_cmp(&p50(b)))?;
        let time = |name: &str| self.relative_time(name, first).unwrap_or(f64::INFINITY);
        names.iter().min_by(|a, b| time(a).total_cmp(&time(b))).cloned()
    }
}

#[cfg(test)]
mod tests {
    use kbench_runtime::stats::Summary;

    use super::*;
    use crate::record::evaluation::TimingRecord;

    impl ComparisonEntry {
        /// Launches that take one of two times, `late` of 100 the later one, and `added` nanoseconds more.
        pub(crate) fn of_two_modes(name: &str, late: usize, added: f64, rounds: usize) -> Self {
            let samples: Vec<f64> =
                (0..rounds).map(|i| if i * 37 % 100 < late { 9184.0 } else { 8992.0 } + added).collect();
            let summary = Summary::of(&samples).unwrap();
            let (shape, clock) = ("mission".to_owned(), "fake".to_owned());
            let timing = TimingRecord { shape, summary, batch: 1, clock, sampling: None };
            Self {
                name: name.to_owned(),
                role: EntryRole::Variant,
                program: name.to_owned(),
                timing,
                samples,
                slack: 0.0,
                external: None,
            }
        }
    }

    impl Compared {
        /// A comparison of one entry with itself measured again, and of others.
        pub(crate) fn with_twins(others: Vec<ComparisonEntry>, again: f64) -> Compared {
            let one = ComparisonEntry::of_two_modes("one", 50, 0.0, 100);
            let twin =
                ComparisonEntry { program: "one".into(), ..ComparisonEntry::of_two_modes("one", 50, again, 100) };
            let entries = [vec![one, ComparisonEntry { role: EntryRole::Again, ..twin }], others].concat();
            Compared { entries, ..Compared::default() }
        }
    }

    #[test]
    fn twins_show_the_noise_floor_and_others_do_not() {
        let entry = |name, added| ComparisonEntry::of_two_modes(name, 50, added, 100);
        assert_eq!(Compared::with_twins(vec![], 0.0).noise_floor(), Some(0.0));
        // 9 of about 9000 ns, in either direction, and the widest of several.
        for again in [9.0, -9.0] {
            let floor = Compared::with_twins(vec![entry("other", 900.0)], again).noise_floor().unwrap();
            assert!((0.0009..0.0011).contains(&floor), "{floor}");
        }
        let twin = ComparisonEntry { program: "one".into(), ..entry("named otherwise", 90.0) };
        let floor = Compared::with_twins(vec![twin], 9.0).noise_floor().unwrap();
        assert!((0.009..0.011).contains(&floor), "{floor}");
        let none = Compared { entries: vec![entry("a", 0.0), entry("b", 1.0)], ..Compared::default() };
        assert_eq!(none.noise_floor(), None);
    }

    #[test]
    fn the_same_program_is_the_same_under_another_name_and_what_is_unknown_is_nothing() {
        let twin = ComparisonEntry { program: "one".into(), ..ComparisonEntry::of_two_modes("two", 50, 0.0, 100) };
        let compared = Compared::with_twins(vec![twin, ComparisonEntry::of_two_modes("three", 50, 0.0, 100)], 0.0);
        assert!(compared.same_program("one", "two") && !compared.same_program("one", "three"));
        assert!(!compared.same_program("one", "four") && !compared.same_program("four", "five"));
        assert!(compared.is_known("one") && !compared.is_known("four"));
    }

    #[test]
    fn rounds_say_who_is_fastest_where_a_median_falls_between_two_modes() {
        let entry = ComparisonEntry::of_two_modes;
        let of = |rounds: usize| Compared {
            entries: vec![entry("slower", 48, 162.0, rounds), entry("faster", 52, 0.0, rounds)],
            ..Compared::default()
        };
        let compared = of(100);
        let p50 = |name: &str| compared.entry(name).unwrap().timing.summary.p50;
        assert!(p50("slower") < p50("faster"));
        assert_eq!(compared.fastest().as_deref(), Some("faster"));
        assert!(compared.relative_time("slower", "faster").unwrap() > 1.01);
        assert_eq!(compared.relative_time("slower", "unknown"), None);
        // Of too few rounds the medians are all there is.
        let few = of(FEWEST_ROUNDS - 1);
        let ratio = few.entries[0].timing.summary.p50 / few.entries[1].timing.summary.p50;
        assert_eq!(few.relative_time("slower", "faster"), Some(ratio));
    }
}
