//! The id by which weir knows the request that a command or a read is a part of (docs/amplification.md).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The trace id of a request, not all zeros.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RequestId(u128);

impl RequestId {
    /// The one in a `traceparent` header.
    pub fn of_traceparent(header: &str) -> Option<RequestId> {
        let mut parts = header.split('-');
        let (version, id) = (parts.next()?, parts.next()?);
        let hex = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if version.len() != 2 || !hex || parts.next().is_none() {
            return None;
        }
        u128::from_str_radix(id, 16).ok().filter(|number| *number != 0).map(RequestId)
    }

    /// The first key of a get.
    pub fn key(self) -> String {
        format!("__weir:{}", URL_SAFE_NO_PAD.encode(self.0.to_be_bytes()))
    }

    /// The default timestamp of a read: its last 62 bits, after the year 148,000. Never that of a write, which nobody could
    /// overwrite or delete again.
    pub fn timestamp(self) -> i64 {
        (self.0 as i64 & (i64::MAX >> 1)) | (1 << 62)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_are_those_of_the_documentation() {
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let id = RequestId::of_traceparent(header).expect("an id");
        assert_eq!(id.key(), "__weir:S_kvNXezTaajzpKdDg5HNg");
        assert_eq!(id.timestamp(), 0x63ce_929d_0e0e_4736);
        for bad in [
            "",
            "00-",
            "00-4bf9-1-1",
            "00-00000000000000000000000000000000-1-1",
            "00-+bf92f3577b34da6a3ce929d0e0e4736",
        ] {
            assert_eq!(RequestId::of_traceparent(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_timestamp_is_one_that_no_clock_shows() {
        for id in [1, u128::MAX, u128::MAX << 62, 1 << 63, 1 << 62, (1 << 62) - 1] {
            assert!(RequestId(id).timestamp() >= 1 << 62, "{id:x}");
        }
    }
}
