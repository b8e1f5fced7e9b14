//! Numbers, times and names as a reader takes them in. What is not known is [`UNKNOWN`], never a number.

use weir_telemetry::escape::terminal;

/// Stands for what nobody could see.
pub const UNKNOWN: &str = "?";

/// A count with its digits grouped: `17,500`.
#[must_use]
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count, or [`UNKNOWN`].
#[must_use]
pub fn count(count: Option<u64>) -> String {
    count.map_or_else(|| UNKNOWN.to_owned(), grouped)
}

/// A length of time in its two largest units: `1.5s`, `2m 5s`, `3h 1m`.
#[must_use]
pub fn length(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return UNKNOWN.to_owned();
    }
    if seconds < 10.0 {
        return format!("{seconds:.1}s");
    }
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3_600 => format!("{}m {}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h {}m", whole / 3_600, whole / 60 % 60),
        _ => format!("{}d {}h", whole / 86_400, whole / 3_600 % 24),
    }
}

/// Text from outside, escaped, in exactly `width` columns: filled with spaces, or cut with `~` at the end.
#[must_use]
pub fn left(text: &str, width: usize) -> String {
    let shown = terminal(text);
    let count = shown.chars().count();
    if count <= width {
        return format!("{shown}{}", " ".repeat(width - count));
    }
    let mut cut: String = shown.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        cut.push('~');
    }
    cut
}

/// Text of our own at the right edge of `width` columns; longer text is not cut: a wrong number is worse than a ragged
/// line.
#[must_use]
pub fn right(text: &str, width: usize) -> String {
    format!("{text:>width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times() {
        let shown: Vec<String> = [0, 999, 1_000, 27_500, 1_234_567].into_iter().map(grouped).collect();
        assert_eq!(shown, ["0", "999", "1,000", "27,500", "1,234,567"]);
        assert_eq!((count(None), count(Some(0))), ("?".to_owned(), "0".to_owned()));
        let shown: Vec<String> = [0.0, 1.54, 59.9, 125.0, 10_860.0, 90_000.0, -1.0, f64::INFINITY]
            .into_iter()
            .map(length)
            .collect();
        assert_eq!(shown, ["0.0s", "1.5s", "59s", "2m 5s", "3h 1m", "1d 1h", "?", "?"]);
    }

    #[test]
    fn outside_text_stays_in_its_column() {
        assert_eq!(left("ab", 4), "ab  ");
        assert_eq!(left("abcdef", 4), "abc~");
        assert_eq!(left("\x1b[2J", 10), "\\u{1b}[2J ");
        assert_eq!(left("a\nb", 3), "a\\~");
        assert_eq!(right("1,000", 3), "1,000");
    }
}
