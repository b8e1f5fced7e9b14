//! The binary protocol, which weir refuses: one correct error packet, then the connection closes.
//!
//! memcached itself deprecates it. A client that speaks it gets "not supported" with its own opcode and opaque, so it
//! reports a refusal instead of a broken server.

/// First byte of every binary request.
pub const REQUEST_MAGIC: u8 = 0x80;
/// Bytes of a binary header.
pub const HEADER_LEN: usize = 24;
/// Bytes of the refusal: header and text.
pub const BINARY_REFUSAL_LEN: usize = HEADER_LEN + TEXT.len();

const RESPONSE_MAGIC: u8 = 0x81;
const STATUS_NOT_SUPPORTED: u16 = 0x0083;
const TEXT: &[u8; 13] = b"Not supported";

/// The error packet for a request with this header.
pub fn refuse(header: &[u8; HEADER_LEN]) -> [u8; BINARY_REFUSAL_LEN] {
    let mut reply = [0_u8; BINARY_REFUSAL_LEN];
    reply[0] = RESPONSE_MAGIC;
    reply[1] = header[1];
    reply[6..8].copy_from_slice(&STATUS_NOT_SUPPORTED.to_be_bytes());
    reply[8..12].copy_from_slice(&(TEXT.len() as u32).to_be_bytes());
    reply[12..16].copy_from_slice(&header[12..16]);
    reply[HEADER_LEN..].copy_from_slice(TEXT);
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_echoes_opcode_and_opaque() {
        let mut header = [0_u8; HEADER_LEN];
        header[0] = REQUEST_MAGIC;
        header[1] = 0x0b;
        header[12..16].copy_from_slice(b"opaq");
        let reply = refuse(&header);
        assert_eq!(&reply[..8], &[0x81, 0x0b, 0, 0, 0, 0, 0, 0x83]);
        assert_eq!(&reply[8..12], &[0, 0, 0, 13]);
        assert_eq!(&reply[12..16], b"opaq");
        assert_eq!(&reply[24..], b"Not supported");
    }
}
