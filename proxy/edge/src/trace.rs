//! The id that ties together all that comes of one request: the client's own, where it sends a `traceparent` (W3C Trace
//! Context), or a new one, which the service then gets as one.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// The header.
pub(crate) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `00-<32 hexadecimal digits>-<16>-<2>`
const LENGTH: usize = 55;

/// A trace's id: 16 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

/// Reads a client's id; `None` where there is none, more than one or a malformed one.
pub(crate) fn read(headers: &HeaderMap) -> Option<TraceId> {
    let mut values = headers.get_all(&TRACEPARENT).iter();
    let value = values.next()?.as_bytes();
    if values.next().is_some() {
        return None;
    }
    // A version after 00 may be longer; 255 is no version.
    let longer = value.len() > LENGTH && !value.starts_with(b"00-") && value[LENGTH] == b'-';
    if value.len() != LENGTH && !longer {
        return None;
    }
    if value[2] != b'-' || value[35] != b'-' || value[52] != b'-' || value.starts_with(b"ff") {
        return None;
    }
    let mut id = [0; 16];
    let mut ignored = [0; 8];
    hex(&value[3..35], &mut id)?;
    hex(&value[36..52], &mut ignored)?;
    if id == [0; 16] || ignored == [0; 8] {
        return None;
    }
    hex(&value[..2], &mut ignored[..1])?;
    hex(&value[53..55], &mut ignored[..1])?;
    Some(TraceId(id))
}

/// Lower case only, as the specification says.
fn hex(digits: &[u8], into: &mut [u8]) -> Option<()> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    for (byte, pair) in into.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

/// Two digits for each byte.
fn write_hex(bytes: &[u8], into: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(into.chunks_exact_mut(2)) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// Makes ids that nobody else makes. Not secrets.
#[derive(Debug, Default)]
pub(crate) struct TraceIds {
    keys: RandomState,
    made: AtomicU64,
}

impl TraceIds {
    /// A new id, and the header that carries it on.
    pub(crate) fn make(&self) -> (TraceId, HeaderValue) {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let part = |which: u8| self.keys.hash_one((number, which)).max(1).to_be_bytes();
        let mut id = [0; 16];
        id[..8].copy_from_slice(&part(0));
        id[8..].copy_from_slice(&part(1));
        let id = TraceId(id);
        // Not sampled: nobody asked for it to be.
        let mut header = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&id.0, &mut header[3..35]);
        write_hex(&part(2), &mut header[36..52]);
        let mut value = HeaderValue::from_bytes(&header).unwrap_or_else(|_| HeaderValue::from_static(""));
        // Never the same twice: the table of a connection's headers has no use for it.
        value.set_sensitive(true);
        (id, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Option<TraceId> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT.clone(), value.parse().expect("a header value"));
        }
        read(&headers)
    }

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_client_s_id_is_read_and_nonsense_is_not() {
        assert_eq!(of(&[GOOD]).expect("good").to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(of(&[&format!("cc{}-more", &GOOD[2..])]).is_some(), "a later version");
        assert!(of(&[GOOD, GOOD]).is_none());
        for bad in [
            "",
            "00-x",
            &GOOD[..54],
            &format!("{GOOD}-more"),
            &format!("{GOOD}0"),
            &GOOD.to_uppercase(),
            &format!("ff{}", &GOOD[2..]),
            &GOOD.replace("00f067aa0ba902b7", "0000000000000000"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("-01", "-0g"),
            &GOOD.replace('-', "0"),
        ] {
            assert_eq!(of(&[bad]), None, "{bad}");
        }
    }

    #[test]
    fn new_ids_are_read_back_and_differ() {
        let ids = TraceIds::default();
        let made: Vec<_> = (0..1_000).map(|_| ids.make()).collect();
        for (id, header) in &made {
            assert_eq!(of(&[header.to_str().expect("text")]), Some(*id));
        }
        let different: std::collections::HashSet<_> = made.iter().map(|(id, _)| *id).collect();
        assert_eq!(different.len(), made.len());
    }
}
