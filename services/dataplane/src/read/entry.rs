//! What the cache holds of a key: a byte that says whether there is anything, then the value.

use bytes::Bytes;
use prost::Message;

/// Nothing is stored under this key, and the cache knows it.
const MISSING: u8 = b'0';
/// A value follows. Another layout of values gets another byte, so that a new release does not misread an old cache.
const VALUE: u8 = b'1';

/// The bytes of an entry.
pub fn encode<V: Message>(value: Option<&V>) -> Vec<u8> {
    match value {
        None => vec![MISSING],
        Some(value) => {
            let mut bytes = Vec::with_capacity(1 + value.encoded_len());
            bytes.push(VALUE);
            bytes.extend_from_slice(&value.encode_to_vec());
            bytes
        }
    }
}

/// What an entry says: `None` when it cannot be read and the database must be asked.
pub fn decode<V: Message + Default>(mut entry: Bytes) -> Option<Option<V>> {
    if entry.is_empty() {
        return None;
    }
    match entry.split_to(1)[0] {
        MISSING if entry.is_empty() => Some(None),
        VALUE => V::decode(entry).ok().map(Some),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bsky::RecordRef;

    #[test]
    fn entries_are_read_as_they_were_written() {
        let value = RecordRef { uri: "at://a".into(), cid: "b".into() };
        assert_eq!(decode(encode(Some(&value)).into()), Some(Some(value)));
        assert_eq!(decode::<RecordRef>(encode::<RecordRef>(None).into()), Some(None));
        // a default value has no bytes, and is there all the same
        assert_eq!(decode(encode(Some(&RecordRef::default())).into()), Some(Some(RecordRef::default())));
        for foreign in ["", "2", "00", "1\u{1}", "text of another program"] {
            assert_eq!(decode::<RecordRef>(Bytes::from(foreign)), None, "{foreign:?}");
        }
    }
}
