//! The id of the request of a service that a statement is a part of, in the custom payload of its message.
//!
//! The entry is taken out before the message is passed on: a message without other entries has no payload left, and is
//! split and shared like any other. Other entries keep their bytes and order (null is written as -1).

use super::skip_payload;
use crate::envelope::{Flags, Header};
use crate::read::{Span, bytes_pairs};
use crate::write;
use std::borrow::Cow;

/// The name of the entry in the custom payload (v4 and later).
pub const REQUEST_ID: &[u8] = b"weir-request-id";

/// A message whose id was taken out of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdTaken<'a> {
    /// The id.
    pub id: [u8; 16],
    /// The header without it: another length, and without [`Flags::CUSTOM_PAYLOAD`] where no entry is left.
    pub header: Header,
    /// The body without it; copied only where other entries are left.
    pub body: Cow<'a, [u8]>,
}

/// Takes the id out of a message. `None` where it has none of 16 bytes: then it stays as it is, whatever is called
/// [`REQUEST_ID`] in it. An entry of that name that is there a second time goes too.
#[must_use]
pub fn take_request_id<'a>(header: &Header, body: &'a [u8]) -> Option<IdTaken<'a>> {
    if !header.flags.has(Flags::CUSTOM_PAYLOAD) {
        return None;
    }
    let (payload, message) = skip_payload(header.version, header.opcode, header.flags, body).ok()?;
    let payload = payload?;
    let (_, value) = bytes_pairs(body, payload).find(|(name, _)| *name == REQUEST_ID)?;
    let id = value?.try_into().ok()?;
    let others = || bytes_pairs(body, payload).filter(|(name, _)| *name != REQUEST_ID);
    if others().next().is_none() {
        let flags = header.flags.without(Flags::CUSTOM_PAYLOAD);
        let body = message.of(body);
        let header = Header { flags, body_len: body.len() as u32, ..*header };
        return Some(IdTaken { id, header, body: Cow::Borrowed(body) });
    }
    let mut out = Vec::with_capacity(body.len());
    out.extend_from_slice(Span { start: 0, end: payload.start }.of(body));
    let mut count = write::ShortCount::open(&mut out);
    for (name, value) in others() {
        if !count.one_more() {
            break; // never: there were no more before
        }
        write::short_bytes(&mut out, name);
        write::nullable(&mut out, value);
    }
    count.close(&mut out);
    out.extend_from_slice(message.of(body));
    let header = Header { body_len: out.len() as u32, ..*header };
    Some(IdTaken { id, header, body: Cow::Owned(out) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Opcode, StreamId};
    use crate::version::Version;
    use proptest::prelude::*;

    type Entry = (Vec<u8>, Option<Vec<u8>>);

    fn message(version: Version, entries: &[Entry], rest: &[u8]) -> (Header, Vec<u8>) {
        let mut body = Vec::new();
        let mut flags = Flags::default();
        if !entries.is_empty() {
            flags = flags.with(Flags::CUSTOM_PAYLOAD);
            write::short(&mut body, entries.len() as u16);
            for (name, value) in entries {
                write::short_bytes(&mut body, name);
                write::nullable(&mut body, value.as_deref());
            }
        }
        body.extend_from_slice(rest);
        let body_len = body.len() as u32;
        (Header { version, flags, stream: StreamId(7), opcode: Opcode::Execute, body_len }, body)
    }

    fn id(value: &[u8]) -> Entry {
        (REQUEST_ID.to_vec(), Some(value.to_vec()))
    }

    #[test]
    fn an_only_entry_leaves_no_payload_and_nothing_is_copied() {
        let (header, body) = message(Version::V4, &[id(&[9; 16])], b"rest");
        let taken = take_request_id(&header, &body).expect("an id");
        assert_eq!((taken.id, &*taken.body, taken.header.body_len), ([9; 16], &b"rest"[..], 4));
        assert!(!taken.header.flags.has(Flags::CUSTOM_PAYLOAD));
        assert!(matches!(taken.body, Cow::Borrowed(_)));
    }

    #[test]
    fn what_is_no_id_stays() {
        for entries in [
            vec![],
            vec![id(&[9; 15])],
            vec![id(&[9; 17])],
            vec![(REQUEST_ID.to_vec(), None)],
            vec![(b"weir-request-ids".to_vec(), Some(vec![9; 16]))],
        ] {
            let (header, body) = message(Version::V5, &entries, b"rest");
            assert_eq!(take_request_id(&header, &body), None, "{entries:?}");
        }
        let (header, body) = message(Version::V4, &[id(&[9; 16])], b"rest");
        for length in 0..body.len() - 4 {
            assert_eq!(take_request_id(&header, &body[..length]), None, "the payload is cut at {length}");
        }
        let v3 = Header { version: Version::V3, ..header };
        assert_eq!(take_request_id(&v3, &body), None, "v3 has no payload");
        let options = Header { opcode: Opcode::Options, ..header };
        assert_eq!(take_request_id(&options, &body), None);
    }

    proptest! {
        #[test]
        fn the_other_entries_keep_their_bytes_and_order(
            before in prop::collection::vec(("[a-z]{0,6}", prop::option::of(prop::collection::vec(any::<u8>(), 0..9))), 0..4),
            after in prop::collection::vec(("[a-z]{0,6}", prop::option::of(prop::collection::vec(any::<u8>(), 0..9))), 0..4),
            value: [u8; 16],
            rest in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let entry = |(name, value): (String, Option<Vec<u8>>)| (name.into_bytes(), value);
            let before: Vec<Entry> = before.into_iter().map(entry).collect();
            let after: Vec<Entry> = after.into_iter().map(entry).collect();
            let (header, body) = message(Version::V4, &[before.clone(), vec![id(&value)], after.clone()].concat(), &rest);
            let taken = take_request_id(&header, &body).expect("an id");
            let (want, without) = message(Version::V4, &[before, after].concat(), &rest);
            prop_assert_eq!((taken.id, taken.header, &*taken.body), (value, want, without.as_slice()));
        }
    }
}
