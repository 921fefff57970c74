//! Small helpers for messages.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The candidate that `word` was probably meant to be.
pub fn did_you_mean<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // Up to a third of the word may differ; upper and lower case count as equal.
    let most = (word.chars().count() / 3).max(1);
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        // A name of one letter is near to every other name.
        .filter(|&(distance, candidate)| distance <= most && distance < lower.chars().count() && candidate != word)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Names in a sentence: `a`, `b` and `c`.
pub fn list<S: AsRef<str>>(names: &[S]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    match quoted.split_last() {
        None => "none".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// A count with its noun: 1 error, 2 errors.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Name of a kernel, with the name of its package if the two differ.
pub fn kernel_name(package: &str, kernel: &str) -> String {
    if package == kernel { kernel.to_owned() } else { format!("{package}/{kernel}") }
}

/// Sizes by name, as one text.
pub fn dims<'d>(dims: impl IntoIterator<Item = (&'d String, &'d i64)>) -> String {
    dims.into_iter().map(|(name, size)| format!("{name}={size}")).collect::<Vec<_>>().join(" ")
}

/// Number of terminal columns of a line.
pub fn width_of(line: &str) -> usize {
    line.chars().count()
}

/// A text in lines of at most `width` columns, broken between words; a word that is longer than a line is broken.
/// Spaces at the start of the text begin every line.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let trimmed = text.trim_start_matches(' ');
    let indent = text.len() - trimmed.len();
    if indent > 0 && indent < width {
        let lines = wrapped(trimmed, width - indent).into_iter();
        return lines.map(|line| format!("{:indent$}{line}", "")).collect();
    }
    let width = width.max(1);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word = word;
        loop {
            let line = lines.last_mut().expect("there is always one");
            let gap = usize::from(!line.is_empty());
            if width_of(line) + gap + width_of(word) <= width {
                line.push_str(&" "[..gap]);
                line.push_str(word);
                break;
            }
            if line.is_empty() {
                let (at, _) = word.char_indices().nth(width).expect("it is longer than the line");
                line.push_str(&word[..at]);
                word = &word[at..];
            }
            lines.push(String::new());
        }
    }
    lines
}

/// Whether a terminal would interpret a character and not show it: control characters except line feed and tab, and
/// characters that reorder or hide text.
pub fn steers(c: char) -> bool {
    let is_hidden = matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{feff}');
    let reorders = matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{e0000}'..='\u{e007f}');
    is_hidden || reorders || c.is_control() && !matches!(c, '\n' | '\t')
}

/// The text with such characters escaped as Rust escapes them.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown.into()
}

/// A measured number with as few digits as distinguish it from its neighbours: at most 17, for any magnitude.
pub fn number(value: f64) -> String {
    let size = value.abs();
    let is_plain = size == 0.0 || !size.is_finite() || (1e-5..1e16).contains(&size);
    if is_plain { format!("{value}") } else { format!("{value:e}") }
}

/// The present time as `2026-11-28T08:45:01Z`. A clock before 1970 or after 9999 gives the nearest second that can be
/// written.
pub fn now() -> String {
    date(SystemTime::now())
}

/// A time in seconds since the epoch, in the format of [`now`].
pub fn date_of(seconds: u64) -> String {
    date(UNIX_EPOCH + Duration::from_secs(seconds.min(1 << 40)))
}

fn date(time: SystemTime) -> String {
    /// `9999-12-31T23:59:59Z`.
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since.min(LAST)).to_string()
}

/// Digits in groups of three, such as 10,240.
pub fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_near() {
        let keys = ["entry", "grid", "block", "source"];
        assert_eq!(did_you_mean("entyr", keys), Some("entry"));
        assert_eq!(did_you_mean("Blocks", keys), Some("block"));
        assert_eq!(did_you_mean("x", keys), None);
        assert_eq!(did_you_mean("kernel", keys), None);
    }

    #[test]
    fn numbers_have_17_digits_at_most() {
        for value in [1e300 / 3.0, -1e-300 / 3.0, 1.0 / 3.0, 2e16 / 3.0, f64::MAX, f64::MIN_POSITIVE, 5e-324, 0.0] {
            let text = number(value);
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{text}");
            assert!(text.chars().filter(char::is_ascii_digit).count() <= 17 + 5, "{text}");
        }
        assert_eq!([number(1.5), number(1e200), number(-2.5e-7)], ["1.5", "1e200", "-2.5e-7"]);
        assert_eq!([number(f64::INFINITY), number(f64::NAN)], ["inf", "NaN"]);
    }

    #[test]
    fn each_time_that_a_clock_can_show_is_a_date() {
        assert_eq!(date(UNIX_EPOCH + Duration::from_secs(1_795_855_501)), "2026-11-28T08:45:01Z");
        let far = Duration::from_secs(1 << 60);
        for (time, expected) in [
            (UNIX_EPOCH - Duration::from_nanos(1), "1970-01-01T00:00:00Z"),
            (UNIX_EPOCH - far, "1970-01-01T00:00:00Z"),
            (UNIX_EPOCH + Duration::from_secs(253_402_300_800), "9999-12-31T23:59:59Z"),
            (UNIX_EPOCH + far, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(date(time), expected);
        }
    }

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("", 7), [""]);
        assert_eq!(wrapped("a longest_word b", 5), ["a", "longe", "st_wo", "rd b"]);
        assert_eq!(wrapped("µµ µµ", 2), ["µµ", "µµ"]);
        assert_eq!(wrapped("  one two", 6), ["  one", "  two"]);
    }

    #[test]
    fn sentences() {
        assert_eq!(list::<&str>(&[]), "none");
        assert_eq!(list(&["a"]), "`a`");
        assert_eq!(list(&["a", "b", "c"]), "`a`, `b` and `c`");
        assert_eq!(count(2, "error"), "2 errors");
        assert_eq!(grouped(663_552), "663,552");
        assert_eq!(grouped(12), "12");
    }
}
