//! The bytes of a literal in a statement's text, so that a QUERY can be routed by its key.
//!
//! Only forms of which the meaning is certain: others (a timestamp as text has the server's time zone, a decimal with an
//! exponent, casts) give no bytes, and the statement goes to any node.

use std::net::{IpAddr, Ipv6Addr};

use super::order::KeyType;
use crate::statement::LiteralKind;

/// The bound form of the literal `text` (quotes included) for a column of this type. `None`: not known; any node will do.
pub fn from_literal(kind: KeyType, form: LiteralKind, text: &[u8]) -> Option<Vec<u8>> {
    match (kind, form) {
        (KeyType::Text | KeyType::Ascii, LiteralKind::String) => {
            let value = unquoted(text)?;
            kind.check(&value).ok()?;
            Some(value)
        }
        (KeyType::Tinyint, LiteralKind::Integer) => {
            number::<i8>(text).map(|value| value.to_be_bytes().to_vec())
        }
        (KeyType::Smallint, LiteralKind::Integer) => {
            number::<i16>(text).map(|value| value.to_be_bytes().to_vec())
        }
        (KeyType::Int, LiteralKind::Integer) => number::<i32>(text).map(|value| value.to_be_bytes().to_vec()),
        (KeyType::Bigint | KeyType::Timestamp, LiteralKind::Integer) => {
            number::<i64>(text).map(|value| value.to_be_bytes().to_vec())
        }
        (KeyType::Varint, LiteralKind::Integer) => number::<i128>(text).map(varint),
        (KeyType::Decimal, LiteralKind::Integer | LiteralKind::Float) => decimal(text),
        (KeyType::Float, LiteralKind::Integer | LiteralKind::Float) => {
            number::<f32>(text).map(|value| value.to_be_bytes().to_vec())
        }
        (KeyType::Double, LiteralKind::Integer | LiteralKind::Float) => {
            number::<f64>(text).map(|value| value.to_be_bytes().to_vec())
        }
        (KeyType::Date, LiteralKind::String) => date(&unquoted(text)?),
        (KeyType::Time, LiteralKind::String) => time(&unquoted(text)?),
        (KeyType::Inet, LiteralKind::String) => address(&unquoted(text)?),
        (KeyType::Blob, LiteralKind::Blob) => hex(text.get(2..)?),
        (KeyType::Uuid | KeyType::Timeuuid, LiteralKind::Uuid) => {
            let value = hex(&text.iter().copied().filter(|byte| *byte != b'-').collect::<Vec<u8>>())?;
            (value.len() == 16 && kind.check(&value).is_ok()).then_some(value)
        }
        (KeyType::Boolean, LiteralKind::Constant) if text.eq_ignore_ascii_case(b"true") => Some(vec![1]),
        (KeyType::Boolean, LiteralKind::Constant) if text.eq_ignore_ascii_case(b"false") => Some(vec![0]),
        _ => None,
    }
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Two's complement, as short as it can be.
fn varint(value: i128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let sign = if value < 0 { 0xff } else { 0 };
    let is_spare = |pair: &[u8]| pair[0] == sign && (pair[1] ^ sign) < 0x80;
    let spare = bytes.windows(2).take_while(|pair| is_spare(pair)).count();
    bytes[spare..].to_vec()
}

/// The scale (four bytes) and the number without its point.
fn decimal(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction}");
    let unscaled = number::<i128>(digits.as_bytes())?;
    let scale = i32::try_from(fraction.len()).ok()?;
    Some([&scale.to_be_bytes()[..], &varint(unscaled)].concat())
}

/// `2026-11-30`: days, of which 2^31 is the first of January 1970.
fn date(text: &[u8]) -> Option<Vec<u8>> {
    let [a, b, c, d, b'-', e, f, b'-', g, h] = *text else { return None };
    let (year, month, day) = (digits(&[a, b, c, d])?, digits(&[e, f])?, digits(&[g, h])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    if year == 0 || day == 0 || day > length {
        return None;
    }
    let before = year - 1;
    let years = before * 365 + before / 4 - before / 100 + before / 400;
    let months: u32 = lengths.iter().take(month as usize - 1).sum();
    // 719,162 days lie between the first days of the years 1 and 1970
    let days = i64::from(years + months + day - 1) - 719_162;
    Some(u32::try_from(days + (1 << 31)).ok()?.to_be_bytes().to_vec())
}

/// `23:59:59` or `23:59:59.123456789`: nanoseconds since midnight.
fn time(text: &[u8]) -> Option<Vec<u8>> {
    let (whole, fraction) = text.split_at_checked(8)?;
    let [a, b, b':', c, d, b':', e, f] = *whole else { return None };
    let (hours, minutes, seconds) = (digits(&[a, b])?, digits(&[c, d])?, digits(&[e, f])?);
    let nanos = match fraction {
        [] => 0,
        [b'.', fraction @ ..] if (1..=9).contains(&fraction.len()) => {
            digits(fraction)? * 10_u32.pow(9 - fraction.len() as u32)
        }
        _ => return None,
    };
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let seconds = i64::from((hours * 60 + minutes) * 60 + seconds);
    Some((seconds * 1_000_000_000 + i64::from(nanos)).to_be_bytes().to_vec())
}

/// An address in the usual form. Servers make an IPv4 address of one that is mapped into IPv6.
fn address(text: &[u8]) -> Option<Vec<u8>> {
    match number::<IpAddr>(text)? {
        IpAddr::V4(address) => Some(address.octets().to_vec()),
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => None,
        IpAddr::V6(address) => Some(Ipv6Addr::octets(&address).to_vec()),
    }
}

/// At most nine decimal digits.
fn digits(text: &[u8]) -> Option<u32> {
    if text.iter().all(u8::is_ascii_digit) { number(text) } else { None }
}

fn unquoted(text: &[u8]) -> Option<Vec<u8>> {
    if let Some(inner) = text.strip_prefix(b"$$") {
        return inner.strip_suffix(b"$$").map(<[u8]>::to_vec);
    }
    let inner = text.strip_prefix(b"'")?.strip_suffix(b"'")?;
    let mut value = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        value.push(*byte);
        if *byte == b'\'' && bytes.next() != Some(&b'\'') {
            return None;
        }
    }
    Some(value)
}

/// Pairs of hexadecimal digits. Cassandra refuses an odd number of them.
fn hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|pair| Some((digit(pair[0])? << 4) | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certain_forms_only() {
        let of = |kind, form, text: &str| from_literal(kind, form, text.as_bytes());
        assert_eq!(of(KeyType::Text, LiteralKind::String, "'it''s'").unwrap(), b"it's");
        assert_eq!(of(KeyType::Ascii, LiteralKind::String, "$$a'b$$").unwrap(), b"a'b");
        assert_eq!(of(KeyType::Ascii, LiteralKind::String, "'\u{e9}'"), None);
        assert_eq!(of(KeyType::Int, LiteralKind::Integer, "-2").unwrap(), [0xff, 0xff, 0xff, 0xfe]);
        assert_eq!(of(KeyType::Int, LiteralKind::Integer, "3000000000"), None);
        assert_eq!(of(KeyType::Blob, LiteralKind::Blob, "0xCAfe").unwrap(), [0xca, 0xfe]);
        assert_eq!(of(KeyType::Blob, LiteralKind::Blob, "0xabc"), None);
        let uuid = "123e4567-e89b-12d3-a456-426614174000";
        assert_eq!(of(KeyType::Timeuuid, LiteralKind::Uuid, uuid).unwrap().len(), 16);
        assert_eq!(of(KeyType::Boolean, LiteralKind::Constant, "TRUE").unwrap(), [1]);
        assert_eq!(of(KeyType::Timestamp, LiteralKind::String, "'2020-01-01'"), None);
        assert_eq!(of(KeyType::Decimal, LiteralKind::Float, "1e3"), None);
        for text in
            ["'2023-02-29'", "'2023-13-01'", "'2023-00-01'", "'2023-1-01'", "'0000-01-01'", "'2023-01-00'"]
        {
            assert_eq!(of(KeyType::Date, LiteralKind::String, text), None, "{text}");
        }
        for text in ["'24:00:00'", "'1:00:00'", "'00:00:00.'", "'00:00:00.1234567890'", "'00:00:00.+1'"] {
            assert_eq!(of(KeyType::Time, LiteralKind::String, text), None, "{text}");
        }
        assert_eq!(of(KeyType::Inet, LiteralKind::String, "'::ffff:1.2.3.4'"), None);
        assert_eq!(of(KeyType::Inet, LiteralKind::String, "'1.2.3'"), None);
        assert_eq!(of(KeyType::Text, LiteralKind::Null, "null"), None);
    }
}
