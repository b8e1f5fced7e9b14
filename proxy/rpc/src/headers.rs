//! Values of headers: `grpc-timeout`, `connect-timeout-ms`, `grpc-message`.

use std::time::Duration;

/// Most digits of a `grpc-timeout`.
const TIMEOUT_DIGITS_MAX: usize = 8;

/// Most digits of a `connect-timeout-ms`.
const CONNECT_TIMEOUT_DIGITS_MAX: usize = 10;

/// Longest `grpc-message` that is written, bytes before encoding: headers have limits, and a reader is a person.
pub const MESSAGE_MAX: usize = 1024;

/// Units of `grpc-timeout` with their nanoseconds, finest first.
const UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60 * 1_000_000_000),
    (b'H', 3600 * 1_000_000_000),
];

/// Reads `grpc-timeout`: one to eight digits and a unit. `None` for anything else: the call has no readable deadline.
pub fn parse_grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let (_, nanoseconds) = UNITS.iter().find(|(letter, _)| letter == unit)?;
    let count = parse_digits(digits, TIMEOUT_DIGITS_MAX)?;
    // At most 10^8 hours, in nanoseconds below 2^69; in whole seconds it fits easily.
    let total = u128::from(count) * nanoseconds;
    Some(Duration::new((total / 1_000_000_000) as u64, (total % 1_000_000_000) as u32))
}

/// Writes `grpc-timeout`: the finest unit that fits into eight digits, rounded up, so that a deadline never comes out
/// as none at all; above 99,999,999 hours that many.
pub fn format_grpc_timeout(timeout: Duration) -> String {
    const MOST: u128 = 99_999_999;
    let nanoseconds = timeout.as_nanos();
    let fitting = UNITS.iter().map(|(letter, unit)| (nanoseconds.div_ceil(*unit), *letter));
    let (count, letter) = fitting.into_iter().find(|(count, _)| *count <= MOST).unwrap_or((MOST, b'H'));
    format!("{count}{}", letter as char)
}

/// Reads `connect-timeout-ms`: one to ten digits.
pub fn parse_connect_timeout(value: &[u8]) -> Option<Duration> {
    parse_digits(value, CONNECT_TIMEOUT_DIGITS_MAX).map(Duration::from_millis)
}

/// Writes `connect-timeout-ms`, rounded up, at most ten digits.
pub fn format_connect_timeout(timeout: Duration) -> String {
    timeout.as_nanos().div_ceil(1_000_000).min(9_999_999_999).to_string()
}

fn parse_digits(digits: &[u8], most: usize) -> Option<u64> {
    if digits.is_empty() || digits.len() > most {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    })
}

/// Writes text as the value of `grpc-message`: printable ASCII as it is, the rest and `%` as `%XX` of its UTF-8 bytes.
/// Text longer than [`MESSAGE_MAX`] bytes is cut at a character.
pub fn encode_grpc_message(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text[..text.floor_char_boundary(MESSAGE_MAX)].bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte as char),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(HEX[usize::from(byte >> 4)] as char);
                out.push(HEX[usize::from(byte & 15)] as char);
            }
        }
    }
    out
}

/// Reads the value of `grpc-message`. What is no `%XX` stays as it is, what is no UTF-8 becomes U+FFFD: the
/// specification forbids losing the rest over it.
pub fn decode_grpc_message(value: &[u8]) -> String {
    let bytes: Vec<u8> = PercentDecoded::new(value).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The bytes of a text with `%XX` for some of them, one by one.
#[derive(Clone, Debug)]
pub(crate) struct PercentDecoded<'t> {
    rest: &'t [u8],
}

impl<'t> PercentDecoded<'t> {
    pub(crate) const fn new(text: &'t [u8]) -> Self {
        Self { rest: text }
    }
}

impl Iterator for PercentDecoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        if *byte == b'%'
            && let [high, low, rest @ ..] = rest
            && let (Some(high), Some(low)) = ((*high as char).to_digit(16), (*low as char).to_digit(16))
        {
            self.rest = rest;
            return Some((high * 16 + low) as u8);
        }
        self.rest = rest;
        Some(*byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_of_the_specification() {
        for (text, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("10S", Duration::from_secs(10)),
            ("250m", Duration::from_millis(250)),
            ("7u", Duration::from_micros(7)),
            ("99999999n", Duration::from_nanos(99_999_999)),
            ("0S", Duration::ZERO),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ] {
            assert_eq!(parse_grpc_timeout(text.as_bytes()), Some(expected), "{text}");
        }
        for wrong in ["", "S", "1", "1s", "-1S", "1.5S", "123456789S", " 1S", "1S ", "+1S", "1 S"] {
            assert_eq!(parse_grpc_timeout(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_written_timeout_is_never_shorter() {
        for (timeout, text) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(1), "1n"),
            (Duration::from_millis(99), "99000000n"),
            (Duration::from_millis(100), "100000u"),
            (Duration::new(100, 1), "100001m"),
            (Duration::from_secs(86_400), "86400000m"),
            (Duration::from_secs(u64::MAX), "99999999H"),
        ] {
            assert_eq!(format_grpc_timeout(timeout), text);
            let back = parse_grpc_timeout(text.as_bytes());
            assert!(text == "99999999H" || back >= Some(timeout), "{text}");
        }
    }

    #[test]
    fn timeouts_of_connect() {
        assert_eq!(parse_connect_timeout(b"1500"), Some(Duration::from_millis(1500)));
        assert_eq!(
            parse_connect_timeout(b"9999999999").map(format_connect_timeout).as_deref(),
            Some("9999999999")
        );
        assert_eq!(format_connect_timeout(Duration::from_nanos(1)), "1");
        for wrong in [&b""[..], b"12345678901", b"-1", b"1.0", b"1ms"] {
            assert_eq!(parse_connect_timeout(wrong), None);
        }
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(encode_grpc_message("a b~!"), "a b~!");
        assert_eq!(
            encode_grpc_message("100 % of 15,000 keys\r\n\u{e9}"),
            "100 %25 of 15,000 keys%0D%0A%C3%A9"
        );
        for text in ["", "plain", "50%", "\u{1F980} crab\n", "%41"] {
            assert_eq!(decode_grpc_message(encode_grpc_message(text).as_bytes()), text);
        }
        assert_eq!(decode_grpc_message(b"50% %4 %zz %c3%A9 %ff"), "50% %4 %zz \u{e9} \u{fffd}");
        let long = "\u{e9}".repeat(MESSAGE_MAX);
        assert_eq!(encode_grpc_message(&long).len(), 3 * MESSAGE_MAX);
    }
}
