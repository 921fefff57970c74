use super::*;

/// A kernel and a machine: nanoseconds of a sample, of its computation, of its claim, and of the round trip, of
/// which 3 µs are computed.
struct Kernel<C, W> {
    truth: f64,
    computes: f64,
    claim: C,
    way: W,
}

impl<C: Fn(usize) -> f64, W: Fn(usize) -> f64> Kernel<C, W> {
    fn claim(&self, sample: usize, computes: f64, claimed: f64) -> Claim {
        let processor = Duration::from_nanos((self.truth * computes + 3e3) as u64);
        Claim {
            claimed: claimed as u64,
            took: Took {
                clock: Duration::from_nanos((self.truth + (self.way)(sample)) as u64),
                processor,
                waited: Duration::ZERO,
                of_all: processor,
            },
        }
    }

    fn sample(&self, sample: usize) -> Claim {
        self.claim(sample, self.computes, self.truth * (self.claim)(sample))
    }

    /// As on a device, with spins of the same length on the same machine.
    fn is_believed(&self) -> bool {
        let mut samples = 0..;
        let mut window = |spins: &mut Vec<Claim>| {
            let mut window = Window::default();
            while !window.is_full() {
                let sample = samples.next().unwrap();
                let claim = self.sample(sample);
                if claim.check().is_err() {
                    return None;
                }
                window.add(1, claim);
                spins.push(self.claim(sample + 7, 1.0, self.truth));
            }
            Some(window)
        };
        let mut is_forged = |spins: &mut Vec<Claim>, beside: bool| {
            window(spins).is_none_or(|window| window.forged_beside(if beside { spins } else { &[] }).is_some())
        };
        (0..3).all(|_| {
            let mut looks = PAUSES.iter();
            !is_forged(&mut Vec::new(), false) || looks.any(|_| !is_forged(&mut Vec::new(), true))
        })
    }
}

/// Seen on a virtual machine beside two busy loops: a spin of 23 us took 130 us of processor time and more, and a kernel whose clock ran at a
/// tenth of the speed was believed.
#[test]
fn longer_samples_show_a_forged_clock_beside_slow_spins() {
    let window = |launches: u64| {
        let of = |claimed: u64, truth: u64| {
            let processor = ns(truth * launches + 110_000);
            let took = Took { clock: processor + ns(15_000), processor, waited: Duration::ZERO, of_all: processor };
            Claim { claimed: claimed * launches, took }
        };
        let mut window = Window::default();
        (0..SAMPLES).for_each(|_| window.add(1, of(23_000, 230_000)));
        (window, vec![of(23_000, 23_000); SAMPLES])
    };
    let (short, spins) = window(1);
    assert!(short.forged_beside(&spins).is_none());
    let factor = short.factor(&spins);
    assert!((40..50).contains(&factor), "{factor}");
    let (long, spins) = window(factor.into());
    assert!(long.forged_beside(&spins).is_some());
    assert_eq!(long.factor(&spins), 1);
}

fn undisturbed(_: usize) -> f64 {
    12e3
}

fn honest(_: usize) -> f64 {
    1.0
}

#[test]
fn an_honest_clock_is_believed() {
    for truth in [500.0, 25e3, 1e6, 1e9] {
        for computes in [0.0, 0.5, 1.0] {
            assert!(Kernel { truth, computes, claim: honest, way: undisturbed }.is_believed(), "{truth}");
            // A machine with long round trips, and one with some.
            assert!(Kernel { truth, computes, claim: honest, way: |_| 3e6 }.is_believed(), "{truth}");
            let way = |sample: usize| if sample.is_multiple_of(3) { 15e3 } else { 4e6 };
            assert!(Kernel { truth, computes, claim: honest, way }.is_believed(), "{truth}");
        }
    }
}

#[test]
fn a_machine_that_is_slow_for_a_while_rejects_nothing() {
    // No spin is slow: the machine is quiet again when they are taken.
    for slow in [16, 32, 48, 64] {
        let way = |sample: usize| if sample < slow { 1e6 } else { 12e3 };
        assert!(Kernel { truth: 25e3, computes: 1.0, claim: honest, way }.is_believed(), "{slow} samples");
    }
}

#[test]
fn the_way_back_of_a_process_that_ran_for_long_may_be_longer() {
    // 47 µs of processor time to wake the worker, which sleeps by then: spins have the same.
    let claim = Claim {
        claimed: 23_500,
        took: Took { clock: ns(85_000), processor: ns(70_900), waited: ns(0), of_all: ns(70_900) },
    };
    let mut window = Window::default();
    (0..SAMPLES).for_each(|_| window.add(1, claim));
    assert!(window.is_suspicious());
    assert!(window.forged_beside(&[claim; SAMPLES]).is_none());
    let quick = Claim { took: Took { processor: ns(27_000), of_all: ns(27_000), ..claim.took }, ..claim };
    assert!(window.forged_beside(&[quick; SAMPLES]).is_some());
}

#[test]
fn a_clock_that_reports_too_little_time_is_refused() {
    for truth in [50e3, 250e3, 1e9] {
        for part in [0.1, 0.5] {
            let claim = |_| part;
            assert!(!Kernel { truth, computes: 1.0, claim, way: undisturbed }.is_believed(), "{truth} {part}");
            assert!(!Kernel { truth, computes: 1.0, claim, way: |_| 3e6 }.is_believed(), "{truth} {part}");
            // Forging the larger part of the samples, so that the median is forged.
            let claim = |sample: usize| if sample % 5 < 3 { part } else { 1.0 };
            assert!(!Kernel { truth, computes: 1.0, claim, way: undisturbed }.is_believed(), "{truth} {part}");
        }
    }
    // A kernel that waits more than it computes.
    assert!(!Kernel { truth: 250e3, computes: 0.1, claim: |_| 0.1, way: undisturbed }.is_believed());
    // Too short for the worker to detect: `docs/gates.md` says so.
    assert!(Kernel { truth: 4e3, computes: 1.0, claim: |_| 0.1, way: undisturbed }.is_believed());
    assert!(Kernel { truth: 40e3, computes: 0.1, claim: |_| 0.1, way: undisturbed }.is_believed());
}

#[test]
fn few_long_samples_are_judged_too() {
    for (samples, milliseconds, is_full) in
        [(3, 5000, false), (4, 20, false), (4, 30, true), (15, 1, false), (16, 1, true)]
    {
        let took = Took { clock: Duration::from_millis(milliseconds), ..Took::default() };
        let mut window = Window::default();
        (0..samples).for_each(|_| window.add(1, Claim { claimed: 0, took }));
        assert_eq!(window.is_full(), is_full, "{samples} of {milliseconds} ms");
    }
}

#[test]
fn a_kernel_that_waits_for_its_core_before_it_can_answer_is_believed() {
    // 2 ms on a core, 10 ms without one on the way back; spins have no such wait.
    let forged = |claimed: u64, of_all: u64| {
        let us = Duration::from_micros;
        let took = Took { clock: us(12_000), processor: us(2_003), waited: us(9_990), of_all: us(of_all) };
        let mut window = Window::default();
        (0..SAMPLES).for_each(|_| window.add(1, Claim { claimed: claimed * 1000, took }));
        window.is_suspicious()
    };
    assert!(!forged(2_000, 2_003), "its own time alone");
    assert!(!forged(11_900, 2_003), "the wait was within the sample");
    assert!(forged(200, 2_003), "its own processor time says otherwise");
    assert!(forged(2_000, 11_900), "another thread of its own had the core");
}

/// Seen on two cores beside other programs: an OpenMP kernel's second thread spins, and the worker hears of the sample 75 µs late.
#[test]
fn a_kernel_whose_threads_hold_the_cores_is_believed() {
    let window = |claimed: u64, truth: u64, of_others: u64| {
        let took = Took {
            clock: ns(truth + 75_000),
            processor: ns(truth + 70_000),
            waited: ns(0),
            of_all: ns(truth + 70_000 + of_others),
        };
        let mut window = Window::default();
        (0..SAMPLES).for_each(|_| window.add(1, Claim { claimed, took }));
        window
    };
    let is_forged = |window: &Window| window.forged_beside(&[]).is_some();
    let spinning = window(10_000, 10_000, 60_000);
    assert!(spinning.is_suspicious() && !is_forged(&spinning), "the judge looks closer, and believes it");
    assert_eq!(spinning.factor(&[]), 100);
    assert!(is_forged(&window(10_000, 10_000, 4_000)), "a kernel without other threads has another reason");
    // A tenth of the time shows by the clock in longer samples alone: the calling thread sleeps, and another one computes.
    let asleep = |launches: u64| {
        let (truth, claimed) = (ns(100_000 * launches), 10_000 * launches);
        let took = Took { clock: truth + ns(15_000), processor: ns(3_000), waited: ns(0), of_all: truth };
        let mut window = Window::default();
        (0..SAMPLES).for_each(|_| window.add(1, Claim { claimed, took }));
        window
    };
    assert!(asleep(1).is_suspicious() && !is_forged(&asleep(1)));
    assert!(is_forged(&asleep(asleep(1).factor(&[]).into())));
}

#[test]
fn the_clock_of_this_process_must_be_the_systems() {
    assert_eq!(check(), Ok(()));
    assert_eq!(check_readings(5_000_000, 5_000_100, 5_000_300), Ok(()));
    for own in [3_999_999, 6_000_301] {
        assert!(matches!(check_readings(5_000_000, own, 5_000_300), Err(Failure::Machine { .. })), "{own}");
    }
}

#[test]
fn a_clock_that_reports_too_much_time_is_refused() {
    assert!(!Kernel { truth: 25e3, computes: 1.0, claim: |_| 2.0, way: undisturbed }.is_believed());
}

fn ns(nanoseconds: u64) -> Duration {
    Duration::from_nanos(nanoseconds)
}
