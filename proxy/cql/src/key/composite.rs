//! A partition key of several columns as one byte string: what the token is computed of.

/// Longest value in a key of several columns, in bytes: its length is written in two.
pub const COMPONENT_MAX: usize = 65_535;

/// The key of these values, in the order of the table's partition key. One value is its own key; of several, each is
/// written as length, bytes, zero. `None` when a value of several is over [`COMPONENT_MAX`].
pub fn composite(values: &[&[u8]]) -> Option<Vec<u8>> {
    if let [only] = values {
        return Some(only.to_vec());
    }
    let mut key = Vec::with_capacity(values.iter().map(|value| value.len() + 3).sum());
    values.iter().try_for_each(|value| append_component(&mut key, value))?;
    Some(key)
}

/// Appends one value to a key of several columns. `None`, with nothing appended, when it is over [`COMPONENT_MAX`].
pub fn append_component(key: &mut Vec<u8>, value: &[u8]) -> Option<()> {
    key.extend_from_slice(&u16::try_from(value.len()).ok()?.to_be_bytes());
    key.extend_from_slice(value);
    key.push(0);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_several() {
        assert_eq!(composite(&[b"abc"]).unwrap(), b"abc");
        assert_eq!(composite(&[b"ab", b""]).unwrap(), b"\0\x02ab\0\0\0\0");
        let long = vec![0; COMPONENT_MAX + 1];
        assert_eq!(composite(&[&long, b"a"]), None);
        assert!(composite(&[&long]).is_some());
    }
}
