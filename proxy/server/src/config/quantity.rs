//! Durations (`250ms`, `1m30s`), sizes (`256KiB`) and counts (`2_000`) as people write them, and back.

use weir_engine::units::{Bytes, Span};

const SPAN_UNITS: &[(&str, u64)] = &[
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

const BYTE_UNITS: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// Reads a duration: numbers with units, largest first or not, without spaces between them (`1h30m`).
///
/// # Errors
/// Says which part cannot be read.
pub fn parse_span(text: &str) -> Result<Span, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("a duration is missing (\"250ms\", \"1s\", \"5m\", \"1h\")".to_owned());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = leading_number(rest).ok_or_else(|| not_a_span(text))?;
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        if unit.is_empty() {
            return Err(format!("\"{text}\" has no unit (write \"{text}ms\" or \"{text}s\")"));
        }
        let (_, micros) =
            SPAN_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| not_a_span(text))?;
        let part = number.checked_mul(*micros).ok_or_else(|| format!("\"{text}\" is too long a time"))?;
        total = total.checked_add(part).ok_or_else(|| format!("\"{text}\" is too long a time"))?;
        rest = next;
    }
    Ok(Span(total))
}

fn not_a_span(text: &str) -> String {
    format!("\"{text}\" is not a duration (units: us, ms, s, m, h, d; \"250ms\", \"1m30s\")")
}

/// Reads a size: a number of bytes, or one with a unit.
///
/// # Errors
/// Says what cannot be read.
pub fn parse_bytes(text: &str) -> Result<Bytes, String> {
    let wrong = || format!("\"{text}\" is not a size (units: B, KiB, MiB, GiB, KB, MB, GB; \"256KiB\")");
    let (number, unit) = leading_number(text.trim()).ok_or_else(wrong)?;
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Ok(Bytes(number));
    }
    let (_, factor) =
        BYTE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(wrong)?;
    number.checked_mul(*factor).map(Bytes).ok_or_else(|| format!("\"{text}\" is too large"))
}

/// Reads a count; `_` may group its digits.
///
/// # Errors
/// Says what cannot be read.
pub fn parse_count(text: &str) -> Result<u64, String> {
    match leading_number(text.trim()) {
        Some((count, "")) => Ok(count),
        _ => Err(format!("\"{text}\" is not a whole number (\"2000\" or \"2_000\")")),
    }
}

/// The number at the start of `text`, and what follows it.
fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.starts_with('_') || digits.ends_with('_') || digits.contains("__") {
        return None;
    }
    digits.replace('_', "").parse().ok().map(|number| (number, rest))
}

/// Writes a duration so that [`parse_span`] reads it back, with the largest unit that keeps it whole.
#[must_use]
pub fn show_span(span: Span) -> String {
    if span.0 == 0 {
        return "0s".to_owned();
    }
    let (unit, micros) =
        SPAN_UNITS.iter().rev().find(|(_, micros)| span.0.is_multiple_of(*micros)).unwrap_or(&SPAN_UNITS[0]);
    format!("{}{unit}", span.0 / micros)
}

/// Writes a size so that [`parse_bytes`] reads it back.
#[must_use]
pub fn show_bytes(bytes: Bytes) -> String {
    let binary = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match binary.iter().find(|(_, factor)| bytes.0 > 0 && bytes.0.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", bytes.0 / factor),
        None => format!("{}B", bytes.0),
    }
}

/// Writes a count with its digits grouped by `_`, as TOML takes it.
#[must_use]
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push('_');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_span("250ms"), Ok(Span::millis(250)));
        assert_eq!(parse_span("1h30m"), Ok(Span::secs(5_400)));
        assert_eq!(parse_span("0s"), Ok(Span(0)));
        assert!(parse_span("5").unwrap_err().contains("no unit"));
        for bad in ["", "s", "1 s", "1.5s", "-1s", "1y", "99999999999999d", "1s1", "_1s"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
        for span in [Span(1), Span::millis(1_500), Span::secs(90), Span::secs(7_200), Span(0)] {
            assert_eq!(parse_span(&show_span(span)), Ok(span));
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("256KiB"), Ok(Bytes(256 << 10)));
        assert_eq!(parse_bytes("1 mib"), Ok(Bytes(1 << 20)));
        assert_eq!(parse_bytes("1_000"), Ok(Bytes(1_000)));
        for bad in ["", "KiB", "1.5MiB", "1XB", "99999999999GiB", "-1"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
        for bytes in [Bytes(0), Bytes(1), Bytes(1_000), Bytes(8 << 20), Bytes(3 << 10)] {
            assert_eq!(parse_bytes(&show_bytes(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn counts() {
        assert_eq!(parse_count("2_000"), Ok(2_000));
        assert_eq!(show_count(1_234_567), "1_234_567");
        assert_eq!(show_count(12), "12");
        for bad in ["", "_", "2__0", "2_", "two", "1e3", "18446744073709551616"] {
            assert!(parse_count(bad).is_err(), "{bad}");
        }
    }
}
