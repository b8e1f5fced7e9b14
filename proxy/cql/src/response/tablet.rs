//! Tablets: which nodes and shards of ScyllaDB have one range of a table's tokens. Nodes tell it on connections that agreed
//! on [`OPTION`] at STARTUP (scylladb, docs/dev/protocol-extensions.md): the answer to a request that came to a node or
//! shard without the rows has an entry [`ENTRY`] in its custom payload, a CQL tuple.
//!
//! Bound: [`REPLICAS_MAX`] replicas of a tablet. The rest of an answer's payload is nobody's affair here.

use super::Prefix;
use crate::envelope::{Flags, Header};
use crate::error::Malformed;
use crate::key::Token;
use crate::read::{Cursor, Span, bytes_pairs};
use crate::write;

/// The name in SUPPORTED and STARTUP; its value says nothing.
pub const OPTION: &str = "TABLETS_ROUTING_V1";
/// The name of the entry in the custom payload.
pub const ENTRY: &[u8] = b"tablets-routing-v1";
/// Replicas of a tablet that are read; one with more is refused.
pub const REPLICAS_MAX: u32 = 64;

/// A range of tokens and who has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tablet {
    /// The range begins behind this token.
    pub after: Token,
    /// The last token of the range.
    pub last: Token,
    /// Who has it, in the node's order.
    pub replicas: Vec<TabletReplica>,
}

/// One shard of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TabletReplica {
    /// The node's `host_id`, the 16 bytes of the UUID.
    pub host_id: [u8; 16],
    /// Its shard. Not checked against the node's number of shards.
    pub shard: u32,
}

impl Tablet {
    /// Reads the value of an entry: `tuple<bigint, bigint, list<tuple<uuid, int>>>`. Fields that a later version may
    /// append are ignored. Whether the range holds any token is not asked: see [`Tablet::has`].
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn read(value: &[u8]) -> Result<Tablet, Malformed> {
        let mut fields = Cursor::new(value);
        let mut token = || fixed(&mut fields, value).map(|bytes| Token::new(i64::from_be_bytes(bytes)));
        let (after, last) = (token()?, token()?);
        let list = field(&mut fields, value)?;
        let mut elements = Cursor::new(list);
        // each is a length and what it announces
        let count = elements.count(4)?;
        if count > REPLICAS_MAX {
            return Err(Malformed::TooLarge);
        }
        let replica = |_| {
            let pair = field(&mut elements, list)?;
            let mut fields = Cursor::new(pair);
            let host_id = fixed(&mut fields, pair)?;
            let shard = i32::from_be_bytes(fixed(&mut fields, pair)?);
            let shard = u32::try_from(shard).map_err(|_| Malformed::NegativeLength)?;
            Ok(TabletReplica { host_id, shard })
        };
        let replicas = (0..count).map(replica).collect::<Result<_, _>>()?;
        Ok(Tablet { after, last, replicas })
    }

    /// Writes the value of an entry, as a node does. At most [`REPLICAS_MAX`] replicas read again.
    pub fn write(&self, out: &mut Vec<u8>) {
        for token in [self.after, self.last] {
            write::bytes(out, &token.value().to_be_bytes());
        }
        let mut list = Vec::new();
        write::int(&mut list, self.replicas.len() as i32);
        for replica in &self.replicas {
            let mut pair = Vec::new();
            write::bytes(&mut pair, &replica.host_id);
            write::bytes(&mut pair, &replica.shard.to_be_bytes());
            write::bytes(&mut list, &pair);
        }
        write::bytes(out, &list);
    }

    /// Whether a token is in the range. A range that ends before it begins has none.
    #[must_use]
    pub fn has(&self, token: Token) -> bool {
        self.after < token && token <= self.last
    }
}

/// A field of a tuple or an element of a list, neither of which may be null.
fn field<'a>(cursor: &mut Cursor<'_>, of: &'a [u8]) -> Result<&'a [u8], Malformed> {
    cursor.bytes()?.of(of).ok_or(Malformed::NegativeLength)
}

/// The same for a type of one length.
fn fixed<const N: usize>(cursor: &mut Cursor<'_>, of: &[u8]) -> Result<[u8; N], Malformed> {
    let bytes = field(cursor, of)?;
    let wrong = if bytes.len() < N { Malformed::Truncated } else { Malformed::TooLarge };
    bytes.try_into().map_err(|_| wrong)
}

/// An answer whose tablet was taken out of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TabletTaken {
    /// What was told.
    pub tablet: Result<Tablet, Malformed>,
    /// The header without it: another length, and without [`Flags::CUSTOM_PAYLOAD`] where no entry is left.
    pub header: Header,
    /// The body without it, as far as it was there.
    pub body: Vec<u8>,
}

/// Takes the tablet out of an answer; `None` where it tells none. `body` may be the beginning of it, from the end of the
/// payload on. Other entries keep their bytes and order (null is written as -1); of several tablets the first is told.
#[must_use]
pub fn take_tablet(header: &Header, body: &[u8]) -> Option<TabletTaken> {
    let prefix = Prefix::locate(header.version, header.flags, body).ok()?;
    let payload = prefix.payload?;
    let (_, value) = bytes_pairs(body, payload).find(|(name, _)| *name == ENTRY)?;
    let before = Span { start: 0, end: payload.start };
    let mut out = Vec::with_capacity(body.len());
    out.extend_from_slice(before.of(body));
    let mut count = write::ShortCount::open(&mut out);
    for (name, value) in bytes_pairs(body, payload).filter(|(name, _)| *name != ENTRY) {
        if !count.one_more() {
            break; // never: there were no more before
        }
        write::short_bytes(&mut out, name);
        write::nullable(&mut out, value);
    }
    let mut flags = header.flags;
    if count.close(&mut out) == 0 {
        out.truncate(payload.start as usize);
        flags = flags.without(Flags::CUSTOM_PAYLOAD);
    }
    out.extend_from_slice(prefix.message.of(body));
    let taken = body.len().saturating_sub(out.len()) as u32;
    let header = Header { flags, body_len: header.body_len.saturating_sub(taken), ..*header };
    Some(TabletTaken {
        tablet: value.ok_or(Malformed::NegativeLength).and_then(Tablet::read),
        header,
        body: out,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Opcode, StreamId};
    use crate::response::write_prefix;
    use crate::version::Version;
    use proptest::prelude::*;

    fn tablet(after: i64, last: i64, replicas: &[(u8, u32)]) -> Tablet {
        let replica = |&(host, shard): &(u8, u32)| TabletReplica { host_id: [host; 16], shard };
        let (after, last) = (Token::new(after), Token::new(last));
        Tablet { after, last, replicas: replicas.iter().map(replica).collect() }
    }

    fn written(tablet: &Tablet) -> Vec<u8> {
        let mut out = Vec::new();
        tablet.write(&mut out);
        out
    }

    fn answer(entries: &[(&[u8], Option<&[u8]>)], warnings: &[&[u8]], message: &[u8]) -> (Header, Vec<u8>) {
        let mut payload = Vec::new();
        write::short(&mut payload, entries.len() as u16);
        for (name, value) in entries {
            write::short_bytes(&mut payload, name);
            write::nullable(&mut payload, *value);
        }
        let mut body = Vec::new();
        let payload = (!entries.is_empty()).then_some(&payload[..]);
        let flags = write_prefix(&mut body, Version::V4, Some([7; 16]), warnings.iter().copied(), payload);
        body.extend_from_slice(message);
        let (version, stream, opcode) = (Version::V4, StreamId(3), Opcode::Result);
        (Header { version, flags, stream, opcode, body_len: body.len() as u32 }, body)
    }

    #[test]
    fn the_bytes_are_those_of_the_documentation() {
        // tuple<bigint, bigint, list<tuple<uuid, int>>>, written down by hand
        let mut bytes = vec![0, 0, 0, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe];
        bytes.extend([0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 5]);
        bytes.extend([0, 0, 0, 36, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 16]);
        bytes.extend(1..=16);
        bytes.extend([0, 0, 0, 4, 0, 0, 0, 11]);
        let host_id = std::array::from_fn(|place| place as u8 + 1);
        let replicas = vec![TabletReplica { host_id, shard: 11 }];
        let want = Tablet { after: Token::new(-2), last: Token::new(5), replicas };
        assert_eq!(Tablet::read(&bytes), Ok(want.clone()));
        assert_eq!(written(&want), bytes);
        // a later version has more fields
        bytes.extend([0, 0, 0, 1, 9]);
        assert_eq!(Tablet::read(&bytes), Ok(want.clone()));
        for (token, inside) in [(-3, false), (-2, false), (-1, true), (5, true), (6, false)] {
            assert_eq!(want.has(Token::new(token)), inside, "{token}");
        }
        assert!(!tablet(5, -2, &[]).has(Token::new(0)), "it ends before it begins");
    }

    #[test]
    fn what_is_no_tablet_is_told_as_such() {
        let good = written(&tablet(1, 2, &[(1, 0), (2, 3)]));
        for length in 0..good.len() {
            assert!(Tablet::read(&good[..length]).is_err(), "{length} of {} bytes", good.len());
        }
        let many = vec![(1, 0); REPLICAS_MAX as usize + 1];
        assert_eq!(Tablet::read(&written(&tablet(1, 2, &many))), Err(Malformed::TooLarge));
        assert!(Tablet::read(&written(&tablet(1, 2, &many[1..]))).is_ok());
        assert_eq!(Tablet::read(&written(&tablet(1, 2, &[(1, 1 << 31)]))), Err(Malformed::NegativeLength));
        let null = [&[0xff_u8; 4][..], &good[12..]].concat();
        assert_eq!(Tablet::read(&null), Err(Malformed::NegativeLength));
        let wide = [&[0, 0, 0, 9, 0][..], &good[4..]].concat();
        assert_eq!(Tablet::read(&wide), Err(Malformed::TooLarge));
        // more elements than there are bytes for
        let mut absurd = good.clone();
        absurd[28..32].copy_from_slice(&i32::MAX.to_be_bytes());
        assert_eq!(Tablet::read(&absurd), Err(Malformed::ImpossibleCount));
    }

    #[test]
    fn it_is_taken_out_and_nothing_else() {
        let told = tablet(-10, 10, &[(4, 1)]);
        let value = written(&told);
        let (ours, other) = ((ENTRY, Some(&value[..])), (&b"trace"[..], Some(&b"x"[..])));
        let (null, warnings) = ((&b"n"[..], None), [&b"slow"[..]]);
        for (entries, left) in [
            (vec![ours], vec![]),
            (vec![other, ours, null], vec![other, null]),
            (vec![ours, ours, other], vec![other]),
        ] {
            let (header, body) = answer(&entries, &warnings, b"message");
            let (want_header, want_body) = answer(&left, &warnings, b"message");
            let taken = take_tablet(&header, &body).expect("a tablet");
            assert_eq!(taken.tablet, Ok(told.clone()));
            assert_eq!((taken.header, &taken.body), (want_header, &want_body));
            assert_eq!(take_tablet(&taken.header, &taken.body), None, "once");
            // the beginning of it is enough, from the end of the payload on
            let start = &body[..body.len() - 7];
            let early = take_tablet(&header, start).expect("a tablet");
            assert_eq!(early.header, want_header);
            assert_eq!(early.body, want_body[..want_body.len() - 7]);
            assert_eq!(take_tablet(&header, &start[..start.len() - 1]), None, "the payload is not whole");
        }
        let (header, body) = answer(&[other], &warnings, b"message");
        assert_eq!(take_tablet(&header, &body), None);
        let (header, body) = answer(&[(ENTRY, None)], &[], b"");
        assert_eq!(
            take_tablet(&header, &body).map(|taken| taken.tablet),
            Some(Err(Malformed::NegativeLength))
        );
    }

    proptest! {
        #[test]
        fn what_was_written_reads_the_same(
            after: i64, last: i64, replicas in prop::collection::vec((any::<u8>(), 0..=i32::MAX as u32), 0..=64)
        ) {
            let told = tablet(after, last, &replicas);
            prop_assert_eq!(Tablet::read(&written(&told)), Ok(told));
        }

        #[test]
        fn changed_bytes_are_refused_or_read_as_something_that_can_be_written(
            replicas in prop::collection::vec((any::<u8>(), 0..9_u32), 0..5),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut: prop::sample::Index,
        ) {
            let mut value = written(&tablet(-1, 1, &replicas));
            for (at, byte) in edits {
                let at = at.index(value.len());
                value[at] = byte;
            }
            value.truncate(value.len() - cut.index(value.len()) / 4);
            if let Ok(told) = Tablet::read(&value) {
                prop_assert!(told.replicas.len() <= REPLICAS_MAX as usize);
                prop_assert_eq!(Tablet::read(&written(&told)), Ok(told));
            }
        }
    }
}
