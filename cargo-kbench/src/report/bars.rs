//! Progress bars: current activity, remaining work, and remaining time.

use std::fmt::{self, Write};
use std::sync::LazyLock;
use std::time::Duration;

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::harness::{Doing, Step};

/// Width of a bar in columns.
const WIDTH: usize = 24;

/// The bars of this process, so that other lines are written above them.
static SHOWN: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Hides the bars while `write` writes to stderr.
pub fn above<R>(write: impl FnOnce() -> R) -> R {
    SHOWN.suspend(write)
}

fn started(bar: ProgressBar, style: ProgressStyle) -> ProgressBar {
    let bar = SHOWN.add(bar).with_style(style.progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a constant")
}

/// Bar of a search of `total` variants. The remaining time includes the longest duration of the finals. The message has
/// lines of its own: see [`Live`](super::live::Live).
pub fn search(total: u64, doing: &Doing, finals: Duration) -> ProgressBar {
    let style = style("{doing:>12.cyan.bold} [{bar:24}] {pos}/{len} {elapsed}, {left} left{msg}")
        .with_key("doing", word(doing))
        .with_key("left", move |state: &ProgressState, text: &mut dyn Write| {
            let _ = write!(text, "{:#}", HumanDuration(left(state.eta(), finals)));
        });
    started(ProgressBar::new(total), style)
}

/// Bar of one variant.
pub fn single(doing: &Doing) -> ProgressBar {
    let style = style("{doing:>12.cyan.bold} {elapsed}").with_key("doing", word(doing));
    started(ProgressBar::new_spinner(), style)
}

/// Bar of variants that are only compiled.
pub fn compilation(total: u64) -> ProgressBar {
    let style = style("{prefix:>12.cyan.bold} [{bar:24}] {pos}/{len} {elapsed}, {eta} left");
    started(ProgressBar::new(total).with_prefix("Compiling"), style)
}

/// Bar of a comparison of at most `at_most`.
pub fn comparison(at_most: Duration) -> ProgressBar {
    let style = style("{prefix:>12.cyan.bold} [{share}] {elapsed} of at most {most}")
        .with_key("share", move |state: &ProgressState, text: &mut dyn Write| {
            let _ = text.write_str(&share(state.elapsed(), at_most));
        })
        .with_key("most", move |_: &ProgressState, text: &mut dyn Write| {
            let _ = write!(text, "{:#}", HumanDuration(at_most));
        });
    started(ProgressBar::new_spinner().with_prefix("Comparing"), style)
}

fn word(doing: &Doing) -> impl Fn(&ProgressState, &mut dyn Write) + Send + Sync + Clone + 'static {
    let doing = doing.clone();
    move |_, text| {
        let _: fmt::Result = text.write_str(match doing.step() {
            Step::Compiling => "Compiling",
            Step::Checking => "Checking",
            Step::Timing => "Timing",
        });
    }
}

fn left(search: Duration, finals: Duration) -> Duration {
    search.saturating_add(finals)
}

fn share(elapsed: Duration, at_most: Duration) -> String {
    let share = (elapsed.as_secs_f64() / at_most.as_secs_f64().max(1e-3)).min(1.0);
    let done = (share * WIDTH as f64) as usize;
    let head = if done < WIDTH { ">" } else { "" };
    format!("{:WIDTH$}", "=".repeat(done) + head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_fills_its_bar_in_its_time() {
        let at = |seconds| share(Duration::from_secs(seconds), Duration::from_secs(8));
        assert_eq!(at(0), ">                       ");
        assert_eq!(at(4), "============>           ");
        assert_eq!(at(8), "=".repeat(WIDTH));
        assert_eq!(at(9), "=".repeat(WIDTH), "what is checked after it takes its time too");
    }

    #[test]
    fn the_remaining_time_includes_the_finals() {
        assert_eq!(left(Duration::from_secs(3), Duration::from_secs(8)), Duration::from_secs(11));
        assert_eq!(left(Duration::MAX, Duration::from_secs(8)), Duration::MAX);
    }
}
