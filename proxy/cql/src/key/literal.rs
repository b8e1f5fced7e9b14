//! The bytes of a literal in a statement's text, so that a QUERY can be routed by its key.
//!
//! Only forms of which the meaning is certain: others (dates, addresses, floats, casts) give no bytes, and the statement
//! goes to any node.

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
        assert_eq!(of(KeyType::Text, LiteralKind::Null, "null"), None);
    }
}
