//! The id of one request, as bytes and as text.

use std::fmt;
use weir_cql::request::RequestMark;
use weir_memcached::correlation::{id_text, read_id};

/// Names one request of a service on every leg: 16 bytes that whoever began it chose, usually the trace id of its
/// `traceparent`. Shown as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CorrelationId(pub [u8; 16]);

/// What a storage request says of the request that it is a part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
    /// All of its id.
    Id(CorrelationId),
    /// The end of its id: it counts for the one request with that end that is remembered.
    Mark(RequestMark),
}

impl From<CorrelationId> for Said {
    fn from(id: CorrelationId) -> Said {
        Said::Id(id)
    }
}

impl CorrelationId {
    /// The end of it that reads without a custom payload say.
    #[must_use]
    pub fn mark(&self) -> RequestMark {
        RequestMark::of(&self.0)
    }

    /// Reads an id as an operator has it: 32 hex digits, a whole `traceparent` (its trace id), or the 22 characters that
    /// clients write into opaques and keys.
    #[must_use]
    pub fn parse(text: &str) -> Option<CorrelationId> {
        if let Some(id) = read_id(text.as_bytes()) {
            return Some(CorrelationId(id));
        }
        let mut parts = text.split('-');
        let hex = match (parts.next(), parts.next()) {
            (Some(hex), None) => hex,
            (Some(version), Some(trace)) if version.len() == 2 => trace,
            _ => return None,
        };
        if hex.len() != 32 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(hex, 16).ok().map(|id| CorrelationId(id.to_be_bytes()))
    }

    /// The 22 characters that clients write into opaques and keys.
    #[must_use]
    pub fn short(&self) -> String {
        id_text(&self.0)
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_in_each_of_its_forms() {
        let id = CorrelationId(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
        let hex = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(id.to_string(), hex);
        let traceparent = format!("00-{hex}-00f067aa0ba902b7-01");
        for text in [hex, &hex.to_uppercase(), &traceparent, &id.short()] {
            assert_eq!(CorrelationId::parse(text), Some(id), "{text}");
        }
        for wrong in ["", "4bf9", "+bf92f3577b34da6a3ce929d0e0e4736", "00-", "x-y-z", "é", &format!("{hex}0")]
        {
            assert_eq!(CorrelationId::parse(wrong), None, "{wrong}");
        }
    }
}
