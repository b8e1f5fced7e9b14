//! The id of the request of a service that a read is a part of, in the default timestamp of its message: for drivers that
//! can send no custom payload ([`super::id`]).
//!
//! A timestamp of 2^62 µs or more (after the year 148,000; as nanoseconds after 2116) is a mark: its lower 62 bits are the
//! last 62 bits of the id. Cassandra ignores the timestamp of a SELECT; Scylla carries it in the read, and a serial one may make
//! use of it (never tested). So a mark is taken out before a server sees it, and it is looked for in reads only: a write with
//! such a timestamp could never be changed again.

use super::Request;
use super::execute::ExecuteEdit;
use super::parameters::{Change, ParameterEdit};

/// The bit that makes a timestamp a mark.
const MARK: i64 = 1 << 62;

/// The last 62 bits of an id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestMark(u64);

impl RequestMark {
    /// The mark of an id. Others may have the same: 2^66 of them.
    #[must_use]
    pub const fn of(id: &[u8; 16]) -> RequestMark {
        RequestMark(u128::from_be_bytes(*id) as u64 & (MARK as u64 - 1))
    }

    /// What a default timestamp says; `None` where it is one.
    #[must_use]
    pub const fn read(timestamp: i64) -> Option<RequestMark> {
        if timestamp >= MARK { Some(RequestMark(timestamp as u64 & (MARK as u64 - 1))) } else { None }
    }

    /// As clients send it.
    #[must_use]
    pub const fn timestamp(self) -> i64 {
        MARK | self.0 as i64
    }
}

impl Request {
    /// The mark in the default timestamp of a QUERY or an EXECUTE. Whether that is a read is for the caller to know.
    #[must_use]
    pub fn mark(&self) -> Option<RequestMark> {
        let parameters = match self {
            Request::Query(query) => &query.parameters,
            Request::Execute(execute) => &execute.parameters,
            _ => return None,
        };
        RequestMark::read(parameters.timestamp?.value)
    }

    /// Writes a copy of the body, custom payload included, without the default timestamp; nothing for messages other than
    /// QUERY and EXECUTE.
    pub fn write_unmarked(&self, body: &[u8], out: &mut Vec<u8>) {
        let parameters = ParameterEdit { timestamp: Change::Remove, ..ParameterEdit::default() };
        match self {
            Request::Query(query) => query.rewrite(body, None, &parameters, out),
            Request::Execute(execute) => {
                execute.rewrite(body, &ExecuteEdit { parameters, ..ExecuteEdit::default() }, out);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Flags, Header, Opcode, StreamId};
    use crate::version::{Dialect, Version};
    use crate::write;
    use proptest::prelude::*;

    #[test]
    fn a_mark_is_what_the_documentation_says() {
        let id = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
        let mark = RequestMark::of(&id);
        assert_eq!(mark.timestamp(), 0x63ce_929d_0e0e_4736);
        assert_eq!(RequestMark::read(mark.timestamp()), Some(mark));
        for (timestamp, is_mark) in [
            (i64::MIN, false),
            (-1, false),
            (0, false),
            (1_775_254_560_000_000, false),
            (MARK - 1, false),
            (MARK, true),
            (i64::MAX, true),
        ] {
            assert_eq!(RequestMark::read(timestamp).is_some(), is_mark, "{timestamp}");
        }
    }

    /// The body of a message with everything that there is in front of the timestamp and behind it.
    fn body(
        version: Version,
        opcode: Opcode,
        values: &[Vec<u8>],
        timestamp: Option<i64>,
        more: &[u8],
    ) -> Vec<u8> {
        let dialect = Dialect::of(version);
        let mut body = Vec::new();
        if opcode == Opcode::Query {
            write::bytes(&mut body, b"SELECT v FROM t WHERE k IN ?");
        } else {
            write::short_bytes(&mut body, b"an id");
            if dialect.metadata_ids {
                write::short_bytes(&mut body, b"columns");
            }
        }
        write::short(&mut body, 1); // ONE
        let later = if version >= Version::V5 { 0x180 } else { 0 };
        let flags = 0x1D | later | if timestamp.is_some() { 0x20 } else { 0 };
        if version >= Version::V5 {
            write::bits(&mut body, flags);
        } else {
            write::byte(&mut body, flags as u8);
        }
        write::short(&mut body, values.len() as u16);
        values.iter().for_each(|value| write::bytes(&mut body, value));
        write::int(&mut body, 100);
        write::bytes(&mut body, b"where to go on");
        write::short(&mut body, 9); // LOCAL_SERIAL
        timestamp.into_iter().for_each(|timestamp| write::long(&mut body, timestamp));
        if version >= Version::V5 {
            write::short_bytes(&mut body, b"keyspace");
            write::int(&mut body, 7);
        }
        body.extend_from_slice(more);
        body
    }

    proptest! {
        #[test]
        fn without_its_mark_a_message_is_as_if_it_never_had_one(
            version in prop_oneof![Just(Version::V3), Just(Version::V4), Just(Version::V5)],
            opcode in prop_oneof![Just(Opcode::Query), Just(Opcode::Execute)],
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..4),
            id: [u8; 16],
            more in prop::collection::vec(any::<u8>(), 0..5),
        ) {
            let mark = RequestMark::of(&id);
            let marked = body(version, opcode, &values, Some(mark.timestamp()), &more);
            let plain = body(version, opcode, &values, None, &more);
            let header = |body: &[u8]| Header {
                version,
                flags: Flags::default(),
                stream: StreamId(1),
                opcode,
                body_len: body.len() as u32,
            };
            let locate = |body: &[u8]| Request::locate(&header(body), body, Dialect::of(version));
            let request = locate(&marked).expect("a message");
            prop_assert_eq!(request.mark(), Some(mark));
            let mut out = Vec::new();
            request.write_unmarked(&marked, &mut out);
            prop_assert_eq!(&out, &plain);
            prop_assert_eq!(locate(&out).expect("a message").mark(), None);
            // cut anywhere, it is refused or a message: never a panic, never a mark of other bytes
            for length in 0..marked.len() {
                if let Ok(cut) = locate(&marked[..length]) {
                    prop_assert!(length + more.len() >= marked.len());
                    prop_assert_eq!(cut.mark(), Some(mark));
                }
            }
        }

        #[test]
        fn ids_and_timestamps_agree(id: [u8; 16], timestamp: i64) {
            let mark = RequestMark::of(&id);
            prop_assert_eq!(RequestMark::read(mark.timestamp()), Some(mark));
            prop_assert!(mark.timestamp() > 0);
            let read = RequestMark::read(timestamp);
            prop_assert_eq!(read.is_some(), timestamp >= 1 << 62);
            prop_assert!(read.is_none_or(|mark| mark.timestamp() == timestamp));
            let mut other = id;
            other[..8].fill(0);
            prop_assert_eq!(RequestMark::of(&other), mark, "the first 66 bits are not in it");
        }
    }
}
