//! The trailers of gRPC-web: lines of HTTP/1.1 in the last message of a body.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The flag of the message that is the trailers.
pub(super) const TRAILERS: u8 = 0x80;
/// Longest trailers that are read, bytes.
pub(super) const TRAILERS_MAX: usize = 64 << 10;

/// Reads them; `None` if they are none.
pub(super) fn read(block: &[u8]) -> Option<HeaderMap> {
    let mut trailers = HeaderMap::new();
    for line in block.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        let name = HeaderName::from_bytes(name.trim_ascii_end()).ok()?;
        let value = HeaderValue::from_bytes(value.get(1..)?.trim_ascii()).ok()?;
        // More of them than a map takes are too many.
        trailers.try_append(name, value).ok()?;
    }
    Some(trailers)
}

/// Writes them, with what stands in front of every message.
pub(super) fn write(trailers: &HeaderMap) -> Bytes {
    let mut block = BytesMut::new();
    for (name, value) in trailers {
        block.put_slice(name.as_str().as_bytes());
        block.put_slice(b": ");
        block.put_slice(value.as_bytes());
        block.put_slice(b"\r\n");
    }
    let mut message = BytesMut::with_capacity(super::part::PREFIX + block.len());
    message.put_u8(TRAILERS);
    // Those that were read have a bound far below 4 GiB.
    message.put_u32(u32::try_from(block.len()).unwrap_or(u32::MAX));
    message.put_slice(&block);
    message.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("5"));
        trailers.append("x-twice", HeaderValue::from_static("a:b"));
        trailers.append("x-twice", HeaderValue::from_bytes(b"\xe9").expect("a value"));
        let message = write(&trailers);
        assert_eq!((message[0], u32::from_be_bytes(message[1..5].try_into().expect("four"))), (0x80, 42));
        assert_eq!(&message[5..], b"grpc-status: 5\r\nx-twice: a:b\r\nx-twice: \xe9\r\n");
        assert_eq!(read(&message[5..]), Some(trailers));
        assert_eq!(write(&HeaderMap::new()), [0x80, 0, 0, 0, 0][..]);
    }

    #[test]
    fn what_others_write_is_read_and_nonsense_is_none() {
        let read_one = |block: &[u8]| read(block).and_then(|map| map.get("grpc-status").cloned());
        for block in [&b"grpc-status:0"[..], b"Grpc-Status: 0\r\n", b"\r\nGRPC-STATUS : 0 \n\r\nx: y\r\n"] {
            assert_eq!(read_one(block), Some(HeaderValue::from_static("0")), "{block:?}");
        }
        assert_eq!(read(b""), Some(HeaderMap::new()));
        for block in [&b"grpc-status"[..], b": 0", b"a b: 0", b"x: \x01\r\n", b"\xff: 1"] {
            assert_eq!(read(block), None, "{block:?}");
        }
        // The longest that are read.
        let many: Vec<u8> =
            (0..TRAILERS_MAX / 8).flat_map(|number| format!("{number:06}:\n").into_bytes()).collect();
        assert_eq!(read(&many).map(|map| map.len()), Some(TRAILERS_MAX / 8));
    }
}
