//! As much of protobuf's wire format as the mix needs: fields in, fields out. Written here and not taken from weir's codec,
//! whose mistakes it would share.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{BufMut as _, BytesMut};

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number, as it is on the wire.
    Number(u64),
    /// A text, a message, packed numbers.
    Bytes(&'a [u8]),
    /// Four or eight bytes, which no message here has a use for.
    Fixed,
}

/// Appends a field that holds bytes.
pub fn put_bytes(number: u32, bytes: &[u8], out: &mut BytesMut) {
    put_varint(u64::from(number << 3 | 2), out);
    put_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}

/// Appends a field that holds a number.
pub fn put_number(number: u32, value: u64, out: &mut BytesMut) {
    put_varint(u64::from(number << 3), out);
    put_varint(value, out);
}

fn put_varint(mut value: u64, out: &mut BytesMut) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Takes the next field of a message that is not empty.
///
/// # Errors
/// When there is none that can be read.
pub fn field<'a>(left: &mut &'a [u8]) -> Result<(u64, Value<'a>)> {
    let tag = varint(left)?;
    let value = match tag & 7 {
        0 => Value::Number(varint(left)?),
        1 => skip(left, 8)?,
        2 => {
            let length = usize::try_from(varint(left)?)?;
            ensure!(length <= left.len(), "a field is cut off");
            let (value, rest) = left.split_at(length);
            *left = rest;
            Value::Bytes(value)
        }
        5 => skip(left, 4)?,
        other => bail!("wire type {other}"),
    };
    Ok((tag >> 3, value))
}

fn skip<'a>(left: &mut &'a [u8], length: usize) -> Result<Value<'a>> {
    *left = left.get(length..).context("a field is cut off")?;
    Ok(Value::Fixed)
}

fn varint(left: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = left.split_first().context("a number is cut off")?;
        *left = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a number of more than ten bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_read() {
        let mut message = BytesMut::new();
        put_bytes(1, b"abc", &mut message);
        put_number(2, 300, &mut message);
        put_bytes(17, &[7; 200], &mut message);
        let mut left = &message[..];
        assert_eq!(field(&mut left).unwrap(), (1, Value::Bytes(b"abc")));
        assert_eq!(field(&mut left).unwrap(), (2, Value::Number(300)));
        assert_eq!(field(&mut left).unwrap(), (17, Value::Bytes(&[7; 200])));
        assert!(left.is_empty());
    }

    #[test]
    fn what_is_cut_off_is_no_field() {
        let mut message = BytesMut::new();
        put_bytes(1, b"abc", &mut message);
        for length in 0..message.len() {
            assert!(field(&mut &message[..length]).is_err(), "{length} bytes");
        }
        assert!(field(&mut &[0xff; 11][..]).is_err());
        assert!(field(&mut &[0x09, 1, 2][..]).is_err(), "eight bytes that are not there");
    }
}
