//! The keys of rows: bytes whose order is Cassandra's order of rows.
//!
//! ```text
//! token (8, sign flipped) | partition key, escaped, 00 00 | 00                 what was deleted of the partition
//! token (8, sign flipped) | partition key, escaped, 00 00 | 01 | component *    a row
//! component  01 (an empty value of a type of fixed length) | 02 value; every bit turned over when descending
//! ```
//! Values of variable length are escaped (`00` is written `00 ff`) and end in `00 00`; numbers have their sign flipped,
//! UUIDs their parts in the order in which they are compared. All of it can be read back. A bound is a row's key cut
//! behind some component: by itself it sorts before, with `ff` behind it after every row that begins with it.

use weir_cql::key::KeyType;
use weir_cql::key::token as murmur3_token;

/// Behind the partition key: the record of what was deleted.
const HEAD: u8 = 0;
/// Behind the partition key: a row.
const ROW: u8 = 1;
/// A component that is an empty value.
const EMPTY: u8 = 1;
/// A component with a value.
const FULL: u8 = 2;
/// Sorts after every component, ascending or descending.
const AFTER: u8 = 0xff;

/// The bytes of a key are not what [`push`] writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damaged;

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a record that cannot be read")
    }
}

/// What every key of a partition begins with. `key` is the serialized partition key (of several columns, composite).
pub fn partition(key: &[u8]) -> Vec<u8> {
    let mut out = token_bytes(murmur3_token(key).value()).to_vec();
    escape(key, &mut out);
    out
}

/// A token so that its bytes sort as it does.
pub fn token_bytes(token: i64) -> [u8; 8] {
    (token ^ i64::MIN).to_be_bytes()
}

/// The key of the record of what was deleted.
pub fn head(partition: &[u8]) -> Vec<u8> {
    [partition, &[HEAD]].concat()
}

/// The key of a row; `clustering` is made of components.
pub fn row(partition: &[u8], clustering: &[u8]) -> Vec<u8> {
    [partition, &[ROW], clustering].concat()
}

/// After every row of which the clustering begins with `prefix`.
pub fn after(partition: &[u8], prefix: &[u8]) -> Vec<u8> {
    [partition, &[ROW], prefix, &[AFTER]].concat()
}

/// A key's parts: what it begins with up to the partition key, the partition key, and the clustering of a row (`None`
/// for the record of what was deleted).
#[expect(clippy::type_complexity, reason = "three parts that are taken apart at once")]
pub fn split(key: &[u8]) -> Result<(&[u8], Vec<u8>, Option<&[u8]>), Damaged> {
    let rest = key.get(8..).ok_or(Damaged)?;
    let (value, length) = unescape(rest, 0)?;
    let (prefix, behind) = key.split_at(8 + length);
    match behind.split_first() {
        Some((&HEAD, [])) => Ok((prefix, value, None)),
        Some((&ROW, clustering)) => Ok((prefix, value, Some(clustering))),
        _ => Err(Damaged),
    }
}

/// The token of a key.
pub fn token(key: &[u8]) -> Result<i64, Damaged> {
    let bytes = key.first_chunk::<8>().ok_or(Damaged)?;
    Ok(i64::from_be_bytes(*bytes) ^ i64::MIN)
}

fn escape(value: &[u8], out: &mut Vec<u8>) {
    for byte in value {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// What was escaped, and how many bytes it took; every byte is turned over by `mask` first.
fn unescape(bytes: &[u8], mask: u8) -> Result<(Vec<u8>, usize), Damaged> {
    let mut value = Vec::new();
    let mut at = 0;
    loop {
        let byte = bytes.get(at).ok_or(Damaged)? ^ mask;
        if byte != 0 {
            value.push(byte);
            at += 1;
            continue;
        }
        match bytes.get(at + 1).map(|byte| byte ^ mask) {
            Some(0xff) => value.push(0),
            Some(0) => return Ok((value, at + 2)),
            _ => return Err(Damaged),
        }
        at += 2;
    }
}

/// Bytes of a value of fixed length; `None`: of any length.
const fn width(kind: KeyType) -> Option<usize> {
    match kind {
        KeyType::Boolean | KeyType::Tinyint => Some(1),
        KeyType::Smallint => Some(2),
        KeyType::Int | KeyType::Float | KeyType::Date => Some(4),
        KeyType::Bigint | KeyType::Double | KeyType::Timestamp | KeyType::Time => Some(8),
        KeyType::Uuid | KeyType::Timeuuid => Some(16),
        _ => None,
    }
}

/// Appends a component; the value has passed [`KeyType::check`].
pub fn push(kind: KeyType, descending: bool, value: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    match width(kind) {
        Some(_) if value.is_empty() => out.push(EMPTY),
        Some(_) => {
            out.push(FULL);
            let at = out.len();
            out.extend_from_slice(value);
            turn(kind, &mut out[at..], true);
        }
        None => {
            out.push(FULL);
            escape(value, out);
        }
    }
    if descending {
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

/// Reads the component at the front; the value, and how many bytes it took.
pub fn pull(kind: KeyType, descending: bool, bytes: &[u8]) -> Result<(Vec<u8>, usize), Damaged> {
    let mask = if descending { 0xff } else { 0 };
    let (first, rest) = bytes.split_first().ok_or(Damaged)?;
    match (first ^ mask, width(kind)) {
        (EMPTY, Some(_)) => Ok((Vec::new(), 1)),
        (FULL, Some(width)) => {
            let mut value: Vec<u8> =
                rest.get(..width).ok_or(Damaged)?.iter().map(|byte| byte ^ mask).collect();
            turn(kind, &mut value, false);
            Ok((value, 1 + width))
        }
        (FULL, None) => unescape(rest, mask).map(|(value, length)| (value, 1 + length)),
        _ => Err(Damaged),
    }
}

/// Turns the bytes of a value of fixed length into ones that sort as it does (`there`), or back.
fn turn(kind: KeyType, value: &mut [u8], there: bool) {
    match kind {
        KeyType::Tinyint | KeyType::Smallint | KeyType::Int | KeyType::Bigint | KeyType::Timestamp => {
            if let Some(first) = value.first_mut() {
                *first ^= 0x80;
            }
        }
        KeyType::Float | KeyType::Double => {
            // before: the sign bit is set when negative; after: when not
            let negative = value.first().is_some_and(|first| (first & 0x80 != 0) == there);
            if negative {
                value.iter_mut().for_each(|byte| *byte = !*byte);
            } else if let Some(first) = value.first_mut() {
                *first ^= 0x80;
            }
        }
        KeyType::Timeuuid => {
            turn_time(value, there);
            value.iter_mut().skip(8).for_each(|byte| *byte ^= 0x80);
        }
        KeyType::Uuid => turn_uuid(value, there),
        _ => {}
    }
}

/// The first eight bytes of a UUID of version 1 in the order of its time: bytes 6, 7, 4, 5, 0 to 3.
fn turn_time(value: &mut [u8], there: bool) {
    if let Some(time) = value.first_chunk_mut::<8>() {
        let [a, b, c, d, e, f, g, h] = *time;
        *time = if there { [g, h, e, f, a, b, c, d] } else { [e, f, g, h, c, d, a, b] };
    }
}

/// A UUID sorts by its version first (the high half of byte 6), then by its time or by its bytes. The version's half is
/// moved to the front, and the three halves of bytes that were before it follow.
fn turn_uuid(value: &mut [u8], there: bool) {
    let Some(all) = value.first_chunk_mut::<16>() else { return };
    if there {
        let version = all[6] >> 4;
        if version == 1 {
            turn_time(all, true);
        } else {
            let whole = u128::from_be_bytes(*all);
            *all = move_version(whole, true).to_be_bytes();
        }
    } else if all[0] >> 4 == 1 {
        turn_time(all, false);
    } else {
        *all = move_version(u128::from_be_bytes(*all), false).to_be_bytes();
    }
}

/// Moves the four bits at bit 76 (the version) to the top, or back.
fn move_version(whole: u128, there: bool) -> u128 {
    /// Bits below the version.
    const LOW: u32 = 76;
    let low = whole & ((1 << LOW) - 1);
    if there {
        let (version, high) = ((whole >> LOW) & 0xf, whole >> (LOW + 4));
        version << 124 | high << LOW | low
    } else {
        let (version, high) = (whole >> 124, (whole << 4) >> (LOW + 4));
        high << (LOW + 4) | version << LOW | low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cmp::Ordering;

    /// The types that are accepted in a key.
    const KINDS: [KeyType; 16] = [
        KeyType::Ascii,
        KeyType::Text,
        KeyType::Blob,
        KeyType::Boolean,
        KeyType::Tinyint,
        KeyType::Smallint,
        KeyType::Int,
        KeyType::Bigint,
        KeyType::Float,
        KeyType::Double,
        KeyType::Timestamp,
        KeyType::Date,
        KeyType::Time,
        KeyType::Uuid,
        KeyType::Timeuuid,
        KeyType::Inet,
    ];

    /// Bytes that are a value of the type: few different ones, so that values share beginnings.
    fn value(kind: KeyType, raw: &[u8]) -> Option<Vec<u8>> {
        let bytes: Vec<u8> = match kind {
            KeyType::Ascii => raw.iter().map(|byte| byte & 0x7f).collect(),
            KeyType::Text => String::from_utf8_lossy(raw).into_owned().into_bytes(),
            KeyType::Blob => raw.to_vec(),
            KeyType::Boolean => raw.iter().take(1).map(|byte| byte & 1).collect(),
            KeyType::Inet => raw.get(..if raw.len() >= 16 { 16 } else { 4 })?.to_vec(),
            KeyType::Timeuuid => {
                let mut uuid = raw.get(..16)?.to_vec();
                uuid[6] = 0x10 | (uuid[6] & 0x0f);
                uuid
            }
            _ => raw.get(..width(kind)?)?.to_vec(),
        };
        let nan = match (kind, bytes.len()) {
            (KeyType::Float, 4) => f32::from_be_bytes(bytes[..4].try_into().ok()?).is_nan(),
            (KeyType::Double, 8) => f64::from_be_bytes(bytes[..8].try_into().ok()?).is_nan(),
            _ => false,
        };
        // every NaN is equal to Cassandra and has bytes of its own here
        (!nan && kind.check(&bytes).is_ok()).then_some(bytes)
    }

    fn raw() -> impl Strategy<Value = Vec<u8>> {
        let byte =
            prop_oneof![Just(0_u8), Just(0xff), Just(0x7f), Just(0x80), Just(0x10), Just(1), any::<u8>()];
        prop::collection::vec(byte, 0..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn order_is_kept_and_values_come_back(at in 0..KINDS.len(), descending: bool, left in raw(), right in raw()) {
            let kind = KINDS[at];
            if let (Some(left), Some(right)) = (value(kind, &left), value(kind, &right)) {
                let (mut a, mut b) = (Vec::new(), Vec::new());
                push(kind, descending, &left, &mut a);
                push(kind, descending, &right, &mut b);
                prop_assert_eq!(pull(kind, descending, &a), Ok((left.clone(), a.len())));
                let want = kind.compare(&left, &right);
                let want = if descending { want.reverse() } else { want };
                prop_assert_eq!(a.cmp(&b), want, "{:?} {:?} {:?}", kind, left, right);
                // No component is the beginning of another, and both bounds enclose what begins with it.
                prop_assert!(want == Ordering::Equal || !a.starts_with(&b));
                let (low, high) = (row(b"p", &a), after(b"p", &a));
                let inside = row(b"p", &[a.clone(), b.clone()].concat());
                prop_assert!(low <= inside && inside < high);
                let other = row(b"p", &b);
                prop_assert_eq!(low <= other && other < high, a == b);
            }
        }

        #[test]
        fn partitions_sort_by_token_then_bytes(left in raw(), right in raw(), clustering in raw()) {
            let (a, b) = (partition(&left), partition(&right));
            let order = (murmur3_token(&left), &left).cmp(&(murmur3_token(&right), &right));
            prop_assert_eq!(row(&a, &clustering).cmp(&row(&b, &clustering)), if left == right { Ordering::Equal } else { order });
            prop_assert!(left == right || !a.starts_with(&b));
            let key = row(&a, &clustering);
            prop_assert_eq!(split(&key), Ok((&a[..], left.clone(), Some(&clustering[..]))));
            prop_assert_eq!(token(&key), Ok(murmur3_token(&left).value()));
            prop_assert!(head(&a) < row(&a, &[]));
            let record = head(&a);
            prop_assert_eq!(split(&record), Ok((&a[..], left, None)));
        }

        #[test]
        fn damaged_keys_do_not_panic(bytes in raw(), at in 0..KINDS.len(), descending: bool) {
            let _ = split(&bytes);
            let _ = token(&bytes);
            let _ = pull(KINDS[at], descending, &bytes);
        }
    }
}
