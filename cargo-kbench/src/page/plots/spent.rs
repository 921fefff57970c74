//! Wall time of a run by activity.

use super::Figure;
use super::bars::{Bar, bars};
use super::ink::Pen;
use crate::record::conclusion::{Conclusion, Spent};
use crate::record::run::Run;

/// The plot; none for a run that was cut off.
pub(super) fn plot(run: &Run) -> Option<Figure> {
    let Conclusion { seconds, spent, .. } = run.conclusion.as_ref()?;
    let Spent { compile, verify, time, tools, idle, proposer, overhead, .. } = *spent;
    let parts = [
        ("timing", time),
        ("checks", verify),
        ("waiting for compilers", idle),
        ("sanitizers and profilers", tools),
        ("proposer", proposer),
        ("everything else", overhead),
    ];
    let part = |(label, part): (&str, f64)| Bar {
        label: label.to_owned(),
        length: part / seconds.max(1e-9),
        value: format!("{part:.1} s, {:.0} %", 100.0 * part / seconds.max(1e-9)),
        pen: Pen::series(1),
    };
    let all: Vec<Bar> = parts.into_iter().filter(|(_, part)| *part >= 0.005).map(part).collect();
    Some(Figure {
        name: "time",
        title: "Wall time",
        caption: format!(
            "The run took {seconds:.1} s. Compilers ran beside it for {compile:.1} s, all cores together; what they were waited for is a \
             part of its own."
        ),
        svg: bars("Parts of the wall time", &all),
        marks: Vec::new(),
        wide: false,
    })
}
