//! Timestamps as text, in the forms Cassandra reads, in UTC where no zone is written.

/// Milliseconds since 1970 of `2026-11-22`, `2026-11-22 01:02`, `2026-11-22T01:02:03.456Z`, `... +0100`; `None` for
/// another form.
pub fn timestamp(text: &str) -> Option<i64> {
    if let Ok(millis) = text.parse::<i64>() {
        return Some(millis);
    }
    let (date, rest) = text.split_at_checked(10)?;
    let [year, month, day] = parts(date, '-')?;
    let days = days_of(year, month, day)?;
    let rest = match rest.strip_prefix(['T', ' ']) {
        Some(rest) => rest,
        None if rest.is_empty() => return days.checked_mul(86_400_000),
        None => return Some(days * 86_400_000 - zone(rest)? * 60_000),
    };
    let end = rest.find(['Z', 'z', '+', '-', ' ']).unwrap_or(rest.len());
    let (clock, offset) = rest.split_at(end);
    let minutes = zone(offset.trim_start())?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut fields = clock.split(':').map(number);
    let (hours, mins) = (fields.next()??, fields.next()??);
    let seconds = match fields.next() {
        Some(seconds) => seconds?,
        None => 0,
    };
    if fields.next().is_some() || hours > 23 || mins > 59 || seconds > 59 || fraction.len() > 9 {
        return None;
    }
    let millis = if fraction.is_empty() { 0 } else { number(&format!("{fraction:0<3}")[..3])? };
    Some(((days * 24 + hours) * 60 + mins - minutes) * 60_000 + seconds * 1000 + millis)
}

/// The days of this moment, as a date is written: 2^31 is the first of January 1970.
pub fn days(micros: i64) -> Vec<u8> {
    let days = micros.div_euclid(86_400_000_000) + (1 << 31);
    u32::try_from(days).unwrap_or(1 << 31).to_be_bytes().to_vec()
}

fn number(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

fn parts(text: &str, sign: char) -> Option<[i64; 3]> {
    let mut fields = text.split(sign).map(number);
    let found = [fields.next()??, fields.next()??, fields.next()??];
    fields.next().is_none().then_some(found)
}

/// Minutes east of UTC.
fn zone(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes() {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', ..] => (1, &text[1..]),
        [b'-', ..] => (-1, &text[1..]),
        _ => return None,
    };
    let (hours, minutes) = match digits.len() {
        2 => (digits, "00"),
        4 => digits.split_at_checked(2)?,
        5 => digits.split_once(':')?,
        _ => return None,
    };
    Some(sign * (number(hours)? * 60 + number(minutes)?))
}

/// Days since 1970.
fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month).ok()?.checked_sub(1)?;
    if year == 0 || !(1..=*lengths.get(before)?).contains(&day) {
        return None;
    }
    let years = year - 1;
    // 719,162 days lie between the first days of the years 1 and 1970
    let days = years * 365 + years / 4 - years / 100 + years / 400 + lengths[..before].iter().sum::<i64>();
    Some(days + day - 1 - 719_162)
}

#[cfg(test)]
mod tests {
    use super::timestamp;

    #[test]
    fn forms() {
        for (text, want) in [
            ("1970-01-01", Some(0)),
            ("1970-01-01 00:01", Some(60_000)),
            ("2026-11-22T01:02:03.456Z", Some(1_795_309_323_456)),
            ("2026-11-22 02:02:03.4+0100", Some(1_795_309_323_400)),
            ("2026-11-22 02:02:03 +01:00", Some(1_795_309_323_000)),
            ("1969-12-31T23:59:59.999Z", Some(-1)),
            ("1234", Some(1234)),
            ("2026-02-30", None),
            ("2026-1-1", None),
            ("2026-11-22 25:00", None),
            ("2026-11-22 1:2:3:4", None),
            ("", None),
            ("2026-11-2\u{e9}", None),
        ] {
            assert_eq!(timestamp(text), want, "{text}");
        }
    }
}
