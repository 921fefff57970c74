use kbench_runtime::protocol::Sampling;
use kbench_runtime::stats::Summary;

use super::*;
use crate::config::{Project, fixture};
use crate::gates::performance::Measured;
use crate::harness::Candidate;
use crate::record::evaluation::{GateName, Reason, TimingRecord};
use crate::record::objective::ObjectiveValue;
use crate::search::Candidates;
use crate::space::{Settings, Variant};
use crate::tune::warm::WarmStart;

/// A search of `project` that tried the first variants of the space, which took these times in nanoseconds.
fn search<'a>(project: &'a Project, times: &[f64], change: impl Fn(usize, &mut Evaluation)) -> Search<'a> {
    let kernel = &project.packages[0].kernels[0];
    let mut search = Search::new(kernel, Candidates::new(&kernel.space), &WarmStart::default());
    for (place, &time) in times.iter().enumerate() {
        let variant = Variant(vec![place as u16]);
        let mut evaluation = Evaluation::new(kernel.space.settings(&variant), Vec::new());
        evaluation.key = format!("key {place}");
        evaluation.timing = Some(timing(time, time, time));
        change(place, &mut evaluation);
        let candidate = Candidate { variant, source: None };
        search.tried.push(Tried { candidate, evaluation: evaluation.into() });
        search.rank(place);
    }
    search
}

fn timing(low: f64, time: f64, high: f64) -> TimingRecord {
    let summary = Summary { p50_low: low, p50_high: high, ..Summary::of(&[time; 3]).unwrap() };
    TimingRecord { shape: "s".into(), summary, batch: 1, clock: "fake".into(), sampling: None }
}

fn cut_short(evaluation: &mut Evaluation) {
    let sampling = Some(Sampling { cut_short: true, ..Sampling::default() });
    evaluation.timing.as_mut().unwrap().sampling = sampling;
}

fn reject(evaluation: &mut Evaluation) {
    evaluation.reject(rejection());
}

fn rejection() -> Rejection {
    Rejection::new(GateName::Sanitize, Reason::Address, "no", None)
}

fn places(best: &[&Tried]) -> Vec<u16> {
    best.iter().map(|tried| tried.candidate.variant.0[0]).collect()
}

const TWO: &str = "search.elite = 2";

#[test]
fn the_time_to_beat_is_that_of_the_last_variant_of_the_elite() {
    let project = fixture::project(TWO);
    let bar = |times: &[f64], change: &dyn Fn(usize, &mut Evaluation)| search(&project, times, change).race().bar;
    let nothing = |_: usize, _: &mut Evaluation| ();
    assert_eq!(bar(&[30.0], &nothing), None, "too few variants");
    for times in [[10.0, 20.0, 30.0], [30.0, 10.0, 20.0], [20.0, 30.0, 10.0], [30.0, 20.0, 10.0]] {
        assert_eq!(bar(&times, &nothing), Some(20.0), "{times:?}");
    }
    // A variant that is not timed to the end, is out, or is a program that another variant is too, shows no time.
    let same = |evaluation: &mut Evaluation| evaluation.identical_code = Some(evaluation.toggles.clone());
    for out in [cut_short, reject, same] {
        let second = |place: usize, evaluation: &mut Evaluation| {
            if place == 1 {
                out(evaluation);
            }
        };
        assert_eq!(bar(&[10.0, 20.0, 30.0], &second), Some(30.0));
    }
    let other = fixture::project("search.elite = 2\nsearch.objective = \"code_bytes\"");
    assert_eq!(search(&other, &[10.0, 20.0, 30.0], nothing).race().bar, None);
}

#[test]
fn a_variant_that_is_rejected_later_sets_no_time_to_beat() {
    let project = fixture::project(TWO);
    let mut search = search(&project, &[10.0, 20.0, 30.0], |_, _| ());
    search.revoke("key 0", &rejection());
    assert_eq!(search.tried.iter().filter(|tried| tried.evaluation.rejection().is_some()).count(), 1);
    assert_eq!(search.race().bar, Some(30.0));
    search.revoke("key 2", &rejection());
    assert_eq!(search.race().bar, None);
}

#[test]
fn of_equal_times_the_variant_that_was_tried_first_is_first() {
    let project = fixture::project("search.elite = 1");
    let search = search(&project, &[20.0, 10.0, 10.0], |_, _| ());
    assert_eq!((places(&search.best_distinct()), &*search.fastest), (vec![1], &[1][..]));
}

#[test]
fn the_best_are_different_programs_that_passed_and_were_timed_to_the_end() {
    let project = fixture::project(TWO);
    let best = |change: &dyn Fn(usize, &mut Evaluation)| {
        let search = search(&project, &[30.0, 10.0, 20.0], change);
        assert_eq!(search.has_finalists(), !search.best_distinct().is_empty());
        places(&search.best_distinct())
    };
    assert_eq!(best(&|_, _| ()), [1, 2]);
    let of_second = |change: fn(&mut Evaluation)| {
        best(&|place, evaluation| {
            if place == 1 {
                change(evaluation);
            }
        })
    };
    for out in [cut_short, reject, |evaluation: &mut Evaluation| evaluation.timing = None] {
        assert_eq!(of_second(out), [2, 0]);
    }
    assert_eq!(of_second(|evaluation| evaluation.key = "key 2".into()), [1, 0], "the third is the same program");
    assert_eq!(best(&|_, evaluation| reject(evaluation)), [0; 0]);
}

#[test]
fn objectives_rank_before_times() {
    let project = fixture::project("search.elite = 3\nsearch.objective = \"code_bytes\"");
    let search = search(&project, &[30.0, 20.0, 10.0], |place, evaluation| {
        let value = [16.0, 24.0, 24.0][place];
        evaluation.objectives = vec![ObjectiveValue { name: "code_bytes".into(), value, low: value, high: value }];
    });
    assert_eq!(places(&search.best_distinct()), [0, 2, 1], "of equal numbers the faster one is better");
}

#[test]
fn times_of_a_slower_worker_count_as_those_of_the_others() {
    let slower = |search: &mut Search<'_>| search.slowness.extend([("key 1".to_owned(), 1.5)]);
    let project = fixture::project("search.elite = 3");
    let mut by_time = search(&project, &[11.0, 15.0, 12.0], |place, evaluation| {
        if place == 1 {
            cut_short(evaluation);
        }
    });
    assert_eq!(places(&by_time.best_distinct()), [0, 2]);
    slower(&mut by_time);
    assert_eq!(places(&by_time.best_distinct()), [1, 0, 2], "10 ns, and its sampling ended early by mistake");
    let project = fixture::project("search.elite = 3\nsearch.objective = \"code_bytes\"");
    let mut by_count = search(&project, &[11.0, 15.0, 12.0], |place, evaluation| {
        let value = [24.0, 30.0, 24.0][place];
        evaluation.objectives = vec![ObjectiveValue { name: "code_bytes".into(), value, low: value, high: value }];
    });
    slower(&mut by_count);
    assert_eq!(places(&by_count.best_distinct()), [0, 2, 1], "a count does not depend on the worker");
    let mut tie = search(&project, &[11.0, 15.0, 12.0], |_, evaluation| {
        evaluation.objectives = vec![ObjectiveValue { name: "code_bytes".into(), value: 8.0, low: 8.0, high: 8.0 }];
    });
    slower(&mut tie);
    assert_eq!(places(&tie.best_distinct()), [1, 0, 2]);
}

#[test]
fn a_long_variant_that_is_much_slower_may_not_win() {
    let may_win = |table: &str, best: f64, time: f64, slowness: f64| {
        let project = fixture::project(table);
        let mut search = search(&project, &[best, time], |_, _| ());
        search.slowness.insert("key 1".to_owned(), slowness);
        let best = search.tried[0].clone();
        let may_win = search.may_win(Some(&best.evaluation), &search.tried[1].evaluation);
        // The second variant is the default.
        assert_eq!(search.default_may_win(&best), may_win);
        may_win
    };
    assert!(!may_win("", LONG, 1.51 * LONG, 1.0) && may_win("", LONG, 1.5 * LONG, 1.0));
    assert!(!may_win("", LONG / 2.0, LONG, 1.0) && may_win("", LONG / 2.0, 0.99 * LONG, 1.0), "short");
    assert!(may_win("", LONG, 1.6 * LONG, 1.2), "its worker is slower");
    assert!(may_win("search.objective = \"code_bytes\"", LONG, 9.0 * LONG, 1.0));
    let project = fixture::project("");
    let search = search(&project, &[9.0 * LONG, LONG], |place, evaluation| {
        if place == 1 {
            evaluation.timing = None;
        }
    });
    let [first, second] = [0, 1].map(|place| &*search.tried[place].evaluation);
    assert!(search.may_win(None, first) && search.may_win(Some(second), first), "nothing is known");
}

#[test]
fn a_default_that_was_not_tried_may_win() {
    let project = fixture::project("");
    let search = search(&project, &[1.0], |_, _| ());
    assert!(search.default_may_win(&search.tried[0]));
}

#[test]
fn one_more_finalist_than_the_elite_stands_beside_one_that_coarse_ranks_do_not_tell_from_it() {
    let project = fixture::project(TWO);
    let mut search = search(&project, &[10.0, 20.0, 21.0], |place, evaluation| {
        let time = [10.0, 20.0, 21.0][place];
        evaluation.timing = Some(timing(time - 1.0, time, time + 1.0));
    });
    assert!(search.has_coarse_ranks, "three variants, and two in the elite");
    assert!(search.race().is_coarse);
    let tried = search.tried.clone();
    let apart = Evaluation { timing: Some(timing(22.0, 23.0, 24.0)), ..(*tried[2].evaluation).clone() };
    assert!(search.has_room(&tried[..1], &apart));
    assert!(search.has_room(&tried[..2], &tried[2].evaluation) && !search.has_room(&tried[..2], &apart));
    assert!(!search.has_room(&tried, &tried[2].evaluation), "one more only");
    search.has_coarse_ranks = false;
    assert!(search.has_room(&tried[..1], &apart) && !search.has_room(&tried[..2], &tried[2].evaluation));
    assert!(!search.race().is_coarse);
}

#[test]
fn the_likely_finalists_and_the_default_are_examined_unless_their_check_is_known() {
    let examined = |more: &str, times: [f64; 3], known: &[&str], change: &dyn Fn(usize, &mut Evaluation)| {
        let project = fixture::project(&format!("{TWO}\n{more}"));
        let mut results = Results::default();
        for key in known {
            let new = Evaluation::new(Settings::default(), Vec::new());
            let in_full = Evaluation { key: (*key).to_owned(), checked: Checked::InFull, ..new };
            results.add(in_full.into(), false);
        }
        let of_one_seed = |place: usize, evaluation: &mut Evaluation| {
            evaluation.checked = Checked::OneSeed;
            change(place, evaluation);
        };
        search(&project, &times, of_one_seed).to_examine(&results)
    };
    let nothing = |_: usize, _: &mut Evaluation| ();
    let of = |place: usize, change: fn(&mut Evaluation)| {
        move |at: usize, evaluation: &mut Evaluation| {
            if at == place {
                change(evaluation);
            }
        }
    };
    // The second variant is the default.
    assert_eq!(examined("", [10.0, 20.0, 30.0], &[], &nothing), [0, 1]);
    assert_eq!(examined("", [10.0, 30.0, 20.0], &[], &nothing), [0, 2, 1]);
    let same = of(2, |evaluation| evaluation.key = "key 0".into());
    assert_eq!(examined("", [10.0, 30.0, 20.0], &[], &same), [0, 1], "one program");
    assert_eq!(examined("", [10.0, 30.0, 20.0], &["key 0"], &nothing), [2, 1], "on record");
    assert_eq!(examined("", [10.0, 30.0, 20.0], &["key 9"], &nothing), [0, 2, 1], "of another");
    let in_full = of(0, |evaluation| evaluation.checked = Checked::InFull);
    assert_eq!(examined("", [10.0, 30.0, 20.0], &[], &in_full), [2, 1]);
    assert_eq!(examined("", [10.0, 30.0, 20.0], &[], &of(1, reject)), [0, 2]);
    assert_eq!(examined("", [LONG, 9.0 * LONG, 1.1 * LONG], &[], &nothing), [0, 2], "the default may not win");
    let two = "search.objective = [\"p50\", \"code_bytes\"]";
    assert_eq!(examined(two, [10.0, 30.0, 20.0], &[], &nothing), [1], "a front has no best variants");
}

#[test]
fn a_variant_may_follow_if_there_is_room_and_it_may_win() {
    let project = fixture::project("search.elite = 1");
    let search = search(&project, &[LONG, 9.0 * LONG, LONG], |_, _| ());
    let tried = search.tried.clone();
    assert!(search.may_follow(&[], &tried[1].evaluation));
    assert!(!search.may_follow(&tried[..1], &tried[2].evaluation), "no room");
    let project = fixture::project(TWO);
    let search = self::search(&project, &[LONG, 9.0 * LONG, LONG], |_, _| ());
    assert!(search.may_follow(&tried[..1], &tried[2].evaluation));
    assert!(!search.may_follow(&tried[..1], &tried[1].evaluation), "too slow");
}

#[test]
fn a_default_that_ties_with_the_best_finalist_is_judged_as_the_finalists_are() {
    let tying = |table: &str, finalists: &[usize], added: f64| {
        let project = fixture::project(table);
        let search = search(&project, &[10.0, 20.0, 30.0], |_, _| ());
        let finalists: Vec<Tried> = finalists.iter().map(|&place| search.tried[place].clone()).collect();
        let entry = |place: usize, added| Measured::of_two_modes(search.tried[place].id(), 50, added, 100);
        search.tying_default(&finalists, &Compared::of([entry(0, 0.0), entry(1, added)]))
    };
    // The second variant is the default.
    assert_eq!(tying("", &[0], 0.0), Some(1));
    assert_eq!(tying("", &[0], 900.0), None, "slower");
    assert_eq!(tying("", &[0, 1], 0.0), None, "a finalist");
    assert_eq!(tying("search.objective = \"code_bytes\"", &[0], 0.0), None);
}
