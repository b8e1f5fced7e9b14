//! The order of a column's type: Cassandra 5.0's `AbstractType.compare`, which is the order of the rows of
//! `partition_key IN (...)`.
//!
//! Cassandra puts the keys of `IN` into a set sorted by the type's comparator (`MultiCBuilder`) and answers partition
//! after partition in that order, not in the order of tokens or of the request. Two keys that compare as equal are one to
//! that set even when their bytes differ (`1.0` and `1.00`, a padded varint, two NaN): which one is read depends on the
//! order in the request, so [`sort_keys`] refuses them and the statement must not be split.

use std::cmp::Ordering;

use super::decimal::Decimal;

/// A column type whose order is known. Others (counter, duration, collections, tuples, user and custom types) are not
/// keys that can be split.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum KeyType {
    /// `ascii`
    Ascii,
    /// `text` and `varchar`
    Text,
    /// `blob`
    Blob,
    /// `boolean`
    Boolean,
    /// `tinyint`
    Tinyint,
    /// `smallint`
    Smallint,
    /// `int`
    Int,
    /// `bigint`
    Bigint,
    /// `varint`
    Varint,
    /// `decimal`
    Decimal,
    /// `float`
    Float,
    /// `double`
    Double,
    /// `timestamp`
    Timestamp,
    /// `date`
    Date,
    /// `time`
    Time,
    /// `uuid`
    Uuid,
    /// `timeuuid`
    Timeuuid,
    /// `inet`
    Inet,
}

/// Why keys cannot be put in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyFault {
    /// Bytes that are no value of the type; the server refuses them.
    Malformed,
    /// Different bytes, equal to the comparator.
    Ambiguous,
}

impl KeyType {
    /// Every type.
    pub const ALL: [KeyType; 18] = [
        KeyType::Ascii,
        KeyType::Text,
        KeyType::Blob,
        KeyType::Boolean,
        KeyType::Tinyint,
        KeyType::Smallint,
        KeyType::Int,
        KeyType::Bigint,
        KeyType::Varint,
        KeyType::Decimal,
        KeyType::Float,
        KeyType::Double,
        KeyType::Timestamp,
        KeyType::Date,
        KeyType::Time,
        KeyType::Uuid,
        KeyType::Timeuuid,
        KeyType::Inet,
    ];

    /// The type of a native protocol option id, as in column specifications. `None`: not to be split by it.
    pub const fn from_option_id(id: u16) -> Option<KeyType> {
        Some(match id {
            0x01 => KeyType::Ascii,
            0x02 => KeyType::Bigint,
            0x03 => KeyType::Blob,
            0x04 => KeyType::Boolean,
            0x06 => KeyType::Decimal,
            0x07 => KeyType::Double,
            0x08 => KeyType::Float,
            0x09 => KeyType::Int,
            0x0a | 0x0d => KeyType::Text,
            0x0b => KeyType::Timestamp,
            0x0c => KeyType::Uuid,
            0x0e => KeyType::Varint,
            0x0f => KeyType::Timeuuid,
            0x10 => KeyType::Inet,
            0x11 => KeyType::Date,
            0x12 => KeyType::Time,
            0x13 => KeyType::Smallint,
            0x14 => KeyType::Tinyint,
            _ => return None,
        })
    }

    /// Whether the bytes are a value of the type. An empty value is one for most types (as part of a key of several
    /// columns) and comes first.
    pub fn check(self, key: &[u8]) -> Result<(), KeyFault> {
        let empty = key.is_empty();
        let fits = match self {
            KeyType::Ascii => key.is_ascii(),
            KeyType::Text => std::str::from_utf8(key).is_ok(),
            KeyType::Blob | KeyType::Varint => true,
            KeyType::Boolean => empty || key.len() == 1,
            KeyType::Tinyint => key.len() == 1,
            KeyType::Smallint => key.len() == 2,
            KeyType::Date => key.len() == 4,
            KeyType::Time => key.len() == 8,
            KeyType::Int | KeyType::Float => empty || key.len() == 4,
            KeyType::Bigint | KeyType::Double | KeyType::Timestamp => empty || key.len() == 8,
            KeyType::Decimal => empty || Decimal::read(key).is_some(),
            KeyType::Uuid => empty || key.len() == 16,
            KeyType::Timeuuid => empty || (key.len() == 16 && key[6] >> 4 == 1),
            KeyType::Inet => empty || key.len() == 4 || key.len() == 16,
        };
        if fits { Ok(()) } else { Err(KeyFault::Malformed) }
    }

    /// Whether the order is that of the bytes, so that values that compare as equal are the same.
    fn is_ordered_as_bytes(self) -> bool {
        matches!(
            self,
            KeyType::Ascii | KeyType::Text | KeyType::Blob | KeyType::Date | KeyType::Time | KeyType::Inet
        )
    }

    /// Cassandra's order of two values that [`KeyType::check`] accepted. Of other bytes the order is total, but means
    /// nothing.
    pub fn compare(self, left: &[u8], right: &[u8]) -> Ordering {
        match self {
            KeyType::Ascii
            | KeyType::Text
            | KeyType::Blob
            | KeyType::Date
            | KeyType::Time
            | KeyType::Inet => left.cmp(right),
            _ if left.is_empty() || right.is_empty() => left.len().cmp(&right.len()),
            KeyType::Boolean => (left[0] != 0).cmp(&(right[0] != 0)),
            // The first byte is signed, the others are not.
            KeyType::Tinyint | KeyType::Smallint | KeyType::Int | KeyType::Bigint | KeyType::Timestamp => {
                signed(left[0]).cmp(&signed(right[0])).then_with(|| left.cmp(right))
            }
            KeyType::Varint => compare_varints(left, right),
            KeyType::Decimal => Decimal::read(left).cmp(&Decimal::read(right)),
            KeyType::Float => fixed(left, right, |left: [u8; 4], right| {
                compare_floats(f32::from_be_bytes(left).into(), f32::from_be_bytes(right).into())
            }),
            KeyType::Double => fixed(left, right, |left: [u8; 8], right| {
                compare_floats(f64::from_be_bytes(left), f64::from_be_bytes(right))
            }),
            KeyType::Uuid => fixed(left, right, |left, right| compare_uuids(false, left, right)),
            KeyType::Timeuuid => fixed(left, right, |left, right| compare_uuids(true, left, right)),
        }
    }
}

/// Puts the keys in the server's order and takes repeated ones out, as the server does. On an error the order of `keys`
/// is undefined: send the statement unsplit.
pub fn sort_keys(kind: KeyType, keys: &mut Vec<&[u8]>) -> Result<(), KeyFault> {
    for key in keys.iter() {
        kind.check(key)?;
    }
    if kind.is_ordered_as_bytes() {
        let shared = shared_by_all(keys);
        keys.sort_by_cached_key(|key| (head(&key[shared..]), *key));
        keys.dedup();
        return Ok(());
    }
    if kind == KeyType::Decimal {
        keys.sort_by_cached_key(|key| Decimal::read(key));
    } else {
        keys.sort_unstable_by(|left, right| kind.compare(left, right));
    }
    // Equal bytes may stand apart among keys that only compare as equal, but then two neighbours differ too.
    keys.dedup();
    let ambiguous = keys.windows(2).any(|pair| kind.compare(pair[0], pair[1]) == Ordering::Equal);
    if ambiguous { Err(KeyFault::Ambiguous) } else { Ok(()) }
}

/// Bytes at the beginning that all keys have in common: URIs of one kind share their scheme and more.
fn shared_by_all(keys: &[&[u8]]) -> usize {
    let Some((first, others)) = keys.split_first() else { return 0 };
    others.iter().fold(first.len(), |most, key| {
        first[..most].iter().zip(*key).take_while(|(left, right)| left == right).count()
    })
}

/// The first eight bytes as a number of the same order, which decides most comparisons without a look at the key. Keys that
/// end before are filled with zeros and may seem equal to others.
fn head(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let length = key.len().min(8);
    bytes[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(bytes)
}

/// Values of one length; those of another come last, as bytes, so that the order is total whatever the bytes.
fn fixed<const N: usize>(
    left: &[u8],
    right: &[u8],
    order: impl Fn([u8; N], [u8; N]) -> Ordering,
) -> Ordering {
    match (<[u8; N]>::try_from(left), <[u8; N]>::try_from(right)) {
        (Ok(left), Ok(right)) => order(left, right),
        (left_value, right_value) => {
            left_value.is_err().cmp(&right_value.is_err()).then_with(|| left.cmp(right))
        }
    }
}

fn signed(byte: u8) -> i8 {
    byte.cast_signed()
}

/// Numeric, whatever the padding in front.
fn compare_varints(left: &[u8], right: &[u8]) -> Ordering {
    let negative = |bytes: &[u8]| bytes.first().is_some_and(|byte| *byte >= 0x80);
    match (negative(left), negative(right)) {
        (true, false) => return Ordering::Less,
        (false, true) => return Ordering::Greater,
        _ => {}
    }
    let padding = if negative(left) { 0xff } else { 0x00 };
    let core = |bytes: &[u8]| bytes.iter().take_while(|byte| **byte == padding).count();
    let (left, right) = (&left[core(left)..], &right[core(right)..]);
    let longer = left.len().cmp(&right.len());
    let longer = if padding == 0xff { longer.reverse() } else { longer };
    longer.then_with(|| left.cmp(right))
}

/// Java's `Double.compareTo`: -0.0 before 0.0, every NaN the same and after all others.
fn compare_floats(left: f64, right: f64) -> Ordering {
    match (left.is_nan(), right.is_nan()) {
        (false, false) => left.total_cmp(&right),
        (left, right) => left.cmp(&right),
    }
}

/// `uuid` and `timeuuid` order differently: the first by version, then as unsigned bytes (version 1: by time); the
/// second by time, then by the other half as signed bytes.
fn compare_uuids(timeuuid: bool, left: [u8; 16], right: [u8; 16]) -> Ordering {
    let version = |uuid: &[u8; 16]| uuid[6] >> 4;
    let time = |uuid: &[u8; 16]| {
        // Bytes 6, 7, 4, 5, 0..4: the version's bits are the highest and equal in both.
        [uuid[6], uuid[7], uuid[4], uuid[5], uuid[0], uuid[1], uuid[2], uuid[3]]
    };
    if timeuuid {
        return time(&left).cmp(&time(&right)).then_with(|| {
            left[8..].iter().map(|byte| signed(*byte)).cmp(right[8..].iter().map(|byte| signed(*byte)))
        });
    }
    version(&left).cmp(&version(&right)).then_with(|| {
        if version(&left) == 1 {
            time(&left).cmp(&time(&right)).then_with(|| left[8..].cmp(&right[8..]))
        } else {
            left.cmp(&right)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_cannot_tell_apart_is_refused() {
        let mut keys: Vec<&[u8]> = vec![b"\x00\x01", b"\x02", b"\x01"];
        assert_eq!(sort_keys(KeyType::Varint, &mut keys), Err(KeyFault::Ambiguous));
        // 1.0 and 1.00
        let mut keys: Vec<&[u8]> = vec![b"\0\0\0\x01\x0a", b"\0\0\0\x02\x64"];
        assert_eq!(sort_keys(KeyType::Decimal, &mut keys), Err(KeyFault::Ambiguous));
        let mut keys: Vec<&[u8]> = vec![b"\x01", b"\x02"];
        assert_eq!(sort_keys(KeyType::Boolean, &mut keys), Err(KeyFault::Ambiguous));
        let mut keys: Vec<&[u8]> = vec![b"\x7f\xc0\0\0", b"\x7f\xc0\0\x01"];
        assert_eq!(sort_keys(KeyType::Float, &mut keys), Err(KeyFault::Ambiguous));
    }

    #[test]
    fn sorted_and_once_each() {
        let mut keys: Vec<&[u8]> = vec![b"b", b"a", b"b", b"", b"ab"];
        sort_keys(KeyType::Text, &mut keys).unwrap();
        assert_eq!(keys, [&b""[..], b"a", b"ab", b"b"]);
        let mut keys: Vec<&[u8]> = vec![b"abc"];
        assert_eq!(sort_keys(KeyType::Int, &mut keys), Err(KeyFault::Malformed));
    }

    #[test]
    fn types_without_an_order() {
        // counter, duration, custom, list, map, set, user type, tuple
        for id in [0x05, 0x15, 0x00, 0x20, 0x21, 0x22, 0x30, 0x31, 0xffff] {
            assert_eq!(KeyType::from_option_id(id), None);
        }
        let known: Vec<_> = (0..=0x31).filter_map(KeyType::from_option_id).collect();
        assert!(KeyType::ALL.iter().all(|kind| known.contains(kind)));
    }
}
