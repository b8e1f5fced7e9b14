//! Numbers, times and names as a reader takes them in: grouped, rounded, aligned; escaped for a terminal, quoted for a
//! shell.

use crate::config::problem::Escaped;

/// A count with its digits grouped: `17,500`.
#[must_use]
pub fn grouped(count: u64) -> String {
    crate::config::quantity::show_count(count).replace('_', ",")
}

/// A count in at most six characters: `17,500`, `175k`, `1.75M`, `18.4E`.
#[must_use]
pub fn short(count: u64) -> String {
    if count < 100_000 {
        return grouped(count);
    }
    let units = [(1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"), (1e15, "P"), (1e18, "E")];
    let value = count as f64;
    let (scale, unit) = units.iter().rev().find(|(scale, _)| value >= *scale).unwrap_or(&units[0]);
    let scaled = value / scale;
    let digits = if scaled < 10.0 { 2 } else { usize::from(scaled < 100.0) };
    format!("{scaled:.digits$}{unit}")
}

/// A rate: `0.3` below ten, whole numbers above.
#[must_use]
pub fn rate(per_second: f64) -> String {
    if !per_second.is_finite() || per_second < 0.0 {
        return "?".to_owned();
    }
    if per_second == 0.0 {
        return "0".to_owned();
    }
    if per_second < 9.95 {
        return format!("{per_second:.1}");
    }
    short(per_second.round() as u64)
}

/// A share of 0 to 1 in percent: `92.0%`, `0.02%`.
#[must_use]
pub fn share(part: f64) -> String {
    if !part.is_finite() {
        return "?".to_owned();
    }
    let percent = part * 100.0;
    if percent >= 99.95 {
        return "100%".to_owned();
    }
    if percent != 0.0 && percent < 0.95 { format!("{percent:.2}%") } else { format!("{percent:.1}%") }
}

/// Bytes with a binary unit: `1.2 MiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(size, _)| count >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", count as f64 / *size as f64),
        None => format!("{count} B"),
    }
}

/// A time in microseconds: `137 us`, `4.2 ms`, `1.3 s`.
#[must_use]
pub fn micros(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} us"),
        1_000..1_000_000 => format!("{:.1} ms", count as f64 / 1e3),
        _ => format!("{:.1} s", count as f64 / 1e6),
    }
}

/// A length of time in seconds, in its two largest units: `2h 5m`.
#[must_use]
pub fn length(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m {}s", seconds % 60),
        3_600..86_400 => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// Seconds since 1970 as `2026-11-21 04:03:10 UTC`. Days are turned into a date by the proleptic Gregorian calendar,
/// in which 400 years have 146,097 days and a year is best counted from March.
#[must_use]
pub fn utc(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Text from outside, escaped, in exactly `width` columns: filled with spaces, or cut with `~` at the end.
#[must_use]
pub fn left(text: &str, width: usize) -> String {
    let shown = Escaped(text).to_string();
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

/// Text of weir's own, at the right edge of `width` columns; longer text is not cut (a wrong number is worse than a
/// ragged line).
#[must_use]
pub fn right(text: &str, width: usize) -> String {
    format!("{text:>width$}")
}

/// A word for a POSIX shell. Control characters cannot be typed and are written the way bash, zsh and ksh read them.
#[must_use]
pub fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:/@-+=,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    if Escaped(word).to_string() == word {
        return format!("'{}'", word.replace('\'', "'\\''"));
    }
    let mut quoted = String::from("$'");
    for byte in word.bytes() {
        match byte {
            b'\'' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            0x20..0x7f => quoted.push(char::from(byte)),
            _ => quoted.push_str(&format!("\\x{byte:02x}")),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_fit_their_columns() {
        let shown: Vec<String> =
            [0, 7, 17_500, 99_999, 175_000, 1_750_000, 17_500_000, u64::MAX].into_iter().map(short).collect();
        assert_eq!(shown, ["0", "7", "17,500", "99,999", "175k", "1.75M", "17.5M", "18.4E"]);
        assert_eq!(
            [rate(0.0), rate(0.31), rate(3.0), rate(12.4), rate(f64::NAN)],
            ["0", "0.3", "3.0", "12", "?"]
        );
        assert_eq!([share(0.0), share(0.0006), share(0.92), share(1.0)], ["0.0%", "0.06%", "92.0%", "100%"]);
        assert_eq!([bytes(12), bytes(1_300_000)], ["12 B", "1.2 MiB"]);
    }

    #[test]
    fn times() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_795_233_790), "2026-11-21 04:03:10 UTC");
        assert_eq!(utc(4_107_542_399), "2100-02-28 23:59:59 UTC");
        assert_eq!(
            [length(59), length(125), length(7_500), length(90_000)],
            ["59s", "2m 5s", "2h 5m", "1d 1h"]
        );
    }

    #[test]
    fn outside_text_stays_in_its_column() {
        assert_eq!(left("ab", 4), "ab  ");
        assert_eq!(left("abcdef", 4), "abc~");
        assert_eq!(left("\x1b[2J", 10), "\\u{1b}[2J ");
        assert_eq!(left("a\nb", 3), "a\\~");
    }

    #[test]
    fn words_reach_the_shell_as_they_are() {
        for (word, quoted) in [
            ("importer", "importer"),
            ("uid:1000", "uid:1000"),
            ("", "''"),
            ("$(reboot)", "'$(reboot)'"),
            ("a b;c", "'a b;c'"),
            ("it's", "'it'\\''s'"),
            ("a\nb", "$'a\\x0ab'"),
            ("\x1b'", "$'\\x1b\\''"),
        ] {
            assert_eq!(shell(word), quoted);
        }
        for word in ["$(reboot)", "it's", "a\n'b\\", "\u{202e}x", "`id`", "-rf"] {
            let out = std::process::Command::new("bash")
                .arg("-c")
                .arg(format!("printf %s {}", shell(word)))
                .output();
            if let Ok(out) = out {
                assert_eq!(String::from_utf8_lossy(&out.stdout), word);
            }
        }
    }
}
