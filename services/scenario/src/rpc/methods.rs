//! The methods of the mix: what a request of each is, and what its reply must be. An array that stands for the keys of the
//! request has as many elements; the records of GetPostRecords are those that were asked for, in that order.

use super::PREFIX;
use super::protobuf::{Value, field, put_bytes, put_number};
use super::world::{Wanted, World};
use crate::random::Random;
use anyhow::{Result, bail};
use bytes::BytesMut;

/// A method of `bsky.Service`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, clippy::enum_variant_names, reason = "as the contract names them")]
pub enum Method {
    GetPostRecords,
    GetThreadGateRecords,
    GetLabelerRecords,
    GetInteractionCounts,
    GetLikesByActorAndSubjects,
    GetRepostsByActorAndSubjects,
    GetBookmarksByActorAndSubjects,
    GetThreadMutesOnSubjects,
    GetLabels,
    GetActors,
    GetDidsByHandles,
    GetCountsForUsers,
    GetRelationships,
    GetBlockExistence,
    GetFollowsFollowing,
    GetActivitySubscriptionsByActorAndSubjects,
    GetIdentityByDid,
    GetLatestRev,
    GetNotificationSeen,
    GetTimeline,
    GetAuthorFeed,
    GetFollowers,
    GetNotifications,
    GetThread,
}

/// What the keys of a request are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    /// Addresses of posts.
    Posts,
    /// Addresses of records beside them.
    Beside(&'static str),
    /// Messages whose first field is the address of a post.
    References,
    Dids,
    Handles,
    /// Messages of two DIDs, the first of them the viewer's.
    Pairs,
    /// No keys: how many lines there may be.
    Lines,
    /// One post's address, then how far its thread goes up and down.
    Thread,
    None,
}

/// What stands for the keys in a reply's first field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slots {
    /// Texts or messages.
    Elements,
    /// Packed numbers.
    Numbers,
    /// Nothing.
    None,
}

/// A call, ready to be sent.
#[derive(Debug)]
pub struct Call {
    /// Its path.
    pub path: &'static str,
    /// The request's message behind [`PREFIX`] bytes of room.
    pub body: BytesMut,
    /// Keys it asks for.
    pub keys: u32,
    /// What its reply must be.
    pub expected: Expected,
}

/// What a reply must be.
#[derive(Debug)]
pub enum Expected {
    /// These posts' records, and as many metadata.
    Records(Vec<Wanted>),
    /// An array of so many elements.
    Elements(u32),
    /// Packed numbers, so many.
    Numbers(u32),
    /// A message.
    Anything,
}

/// What was found in a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Elements that are what they must be.
    pub right: u64,
    /// Records that are there and were not found.
    pub missing: u64,
    /// Elements that are something else, or too few or too many of them.
    pub wrong: u64,
}

impl Method {
    /// Path, the number of the field with the keys, what they are, and what stands for them. Where keys are in the second
    /// field, the first is the viewer's DID.
    const fn shape(self) -> (&'static str, u32, Keys, Slots) {
        use Slots::{Elements, Numbers};
        match self {
            Self::GetPostRecords => ("/bsky.Service/GetPostRecords", 1, Keys::Posts, Elements),
            Self::GetThreadGateRecords => {
                ("/bsky.Service/GetThreadGateRecords", 1, Keys::Beside("app.bsky.feed.threadgate"), Elements)
            }
            Self::GetLabelerRecords => {
                ("/bsky.Service/GetLabelerRecords", 1, Keys::Beside("app.bsky.labeler.service"), Elements)
            }
            Self::GetInteractionCounts => {
                ("/bsky.Service/GetInteractionCounts", 1, Keys::References, Numbers)
            }
            Self::GetLikesByActorAndSubjects => {
                ("/bsky.Service/GetLikesByActorAndSubjects", 2, Keys::References, Elements)
            }
            Self::GetRepostsByActorAndSubjects => {
                ("/bsky.Service/GetRepostsByActorAndSubjects", 2, Keys::References, Elements)
            }
            Self::GetBookmarksByActorAndSubjects => {
                ("/bsky.Service/GetBookmarksByActorAndSubjects", 2, Keys::Posts, Elements)
            }
            Self::GetThreadMutesOnSubjects => {
                ("/bsky.Service/GetThreadMutesOnSubjects", 2, Keys::Posts, Numbers)
            }
            Self::GetLabels => ("/bsky.Service/GetLabels", 1, Keys::Posts, Slots::None),
            Self::GetActors => ("/bsky.Service/GetActors", 1, Keys::Dids, Elements),
            Self::GetDidsByHandles => ("/bsky.Service/GetDidsByHandles", 1, Keys::Handles, Elements),
            Self::GetCountsForUsers => ("/bsky.Service/GetCountsForUsers", 1, Keys::Dids, Numbers),
            Self::GetRelationships => ("/bsky.Service/GetRelationships", 2, Keys::Dids, Elements),
            Self::GetBlockExistence => ("/bsky.Service/GetBlockExistence", 1, Keys::Pairs, Numbers),
            Self::GetFollowsFollowing => ("/bsky.Service/GetFollowsFollowing", 2, Keys::Dids, Elements),
            Self::GetActivitySubscriptionsByActorAndSubjects => {
                ("/bsky.Service/GetActivitySubscriptionsByActorAndSubjects", 2, Keys::Dids, Elements)
            }
            Self::GetIdentityByDid => ("/bsky.Service/GetIdentityByDid", 2, Keys::None, Slots::None),
            Self::GetLatestRev => ("/bsky.Service/GetLatestRev", 2, Keys::None, Slots::None),
            Self::GetNotificationSeen => ("/bsky.Service/GetNotificationSeen", 2, Keys::None, Slots::None),
            Self::GetTimeline => ("/bsky.Service/GetTimeline", 2, Keys::Lines, Slots::None),
            Self::GetAuthorFeed => ("/bsky.Service/GetAuthorFeed", 2, Keys::Lines, Slots::None),
            Self::GetFollowers => ("/bsky.Service/GetFollowers", 2, Keys::Lines, Slots::None),
            Self::GetNotifications => ("/bsky.Service/GetNotifications", 2, Keys::Lines, Slots::None),
            Self::GetThread => ("/bsky.Service/GetThread", 1, Keys::Thread, Slots::None),
        }
    }

    /// A call by this viewer for so many keys (or lines, of methods without), drawn by popularity.
    pub fn call(self, world: &World, viewer: &str, count: u32, random: &mut Random) -> Call {
        let posts = match self.shape().2 {
            Keys::Posts | Keys::Beside(_) | Keys::References => count,
            Keys::Thread => 1,
            _ => 0,
        };
        let posts = (0..posts).map(|_| world.popular(random)).collect();
        self.call_for(world, viewer, count, posts, random)
    }

    /// A call for these posts.
    pub fn call_for(
        self,
        world: &World,
        viewer: &str,
        count: u32,
        posts: Vec<Wanted>,
        random: &mut Random,
    ) -> Call {
        let (path, number, keys, slots) = self.shape();
        let mut body = BytesMut::with_capacity(PREFIX + 80 * count as usize);
        body.resize(PREFIX, 0);
        if number == 2 {
            put_bytes(1, viewer.as_bytes(), &mut body);
        }
        for wanted in &posts {
            let uri = world.uri(*wanted);
            match keys {
                Keys::References => {
                    let mut reference = BytesMut::with_capacity(uri.len() + 4);
                    put_bytes(1, uri.as_bytes(), &mut reference);
                    put_bytes(number, &reference, &mut body);
                }
                Keys::Beside(collection) => {
                    put_bytes(number, uri.replace("app.bsky.feed.post", collection).as_bytes(), &mut body);
                }
                _ => put_bytes(number, uri.as_bytes(), &mut body),
            }
        }
        match keys {
            Keys::Dids => {
                (0..count).for_each(|_| put_bytes(number, world.actor(random).did.as_bytes(), &mut body));
            }
            Keys::Handles => {
                (0..count).for_each(|_| put_bytes(number, world.actor(random).handle.as_bytes(), &mut body));
            }
            Keys::Pairs => (0..count).for_each(|_| {
                let mut pair = BytesMut::with_capacity(80);
                put_bytes(1, viewer.as_bytes(), &mut pair);
                put_bytes(2, world.actor(random).did.as_bytes(), &mut pair);
                put_bytes(number, &pair, &mut body);
            }),
            Keys::Lines => put_number(number, count.into(), &mut body),
            Keys::Thread => {
                put_number(2, 10, &mut body);
                put_number(3, count.into(), &mut body);
            }
            Keys::Posts | Keys::Beside(_) | Keys::References | Keys::None => {}
        }
        let keys = if matches!(keys, Keys::Lines | Keys::Thread | Keys::None) { 0 } else { count };
        let expected = match (self, slots) {
            (Self::GetPostRecords, _) => Expected::Records(posts),
            (_, Slots::Elements) => Expected::Elements(count),
            (_, Slots::Numbers) => Expected::Numbers(count),
            (_, Slots::None) => Expected::Anything,
        };
        Call { path, body, keys, expected }
    }
}

impl Expected {
    /// Checks a reply.
    ///
    /// # Errors
    /// When it is not protobuf, or not of this contract.
    pub fn check(&self, world: &World, reply: &[u8]) -> Result<Found> {
        let (mut found, mut left) = (Found::default(), reply);
        let (mut slots, mut metas) = (0u64, 0u64);
        while !left.is_empty() {
            match (self, field(&mut left)?) {
                (Self::Records(wanted), (1, Value::Bytes(record))) => {
                    let asked = wanted.get(slots as usize).map(|wanted| world.cid(*wanted));
                    let got = cid(record)?;
                    match asked {
                        Some(asked) if asked.as_bytes() == got => found.right += 1,
                        Some(_) if got.is_empty() => found.missing += 1,
                        _ => found.wrong += 1,
                    }
                    slots += 1;
                }
                (Self::Records(_), (2, Value::Bytes(_))) => metas += 1,
                (Self::Elements(_), (1, Value::Bytes(_))) => slots += 1,
                (Self::Numbers(_), (1, Value::Bytes(packed))) => {
                    slots += packed.iter().filter(|byte| **byte < 0x80).count() as u64;
                }
                (Self::Elements(_) | Self::Records(_), (1, value)) => bail!("field 1 holds {value:?}"),
                _ => {}
            }
        }
        match self {
            Self::Records(wanted) => {
                let wanted = wanted.len() as u64;
                found.wrong += wanted.saturating_sub(slots) + wanted.abs_diff(metas);
            }
            Self::Elements(wanted) | Self::Numbers(wanted) => {
                found.right = slots.min(u64::from(*wanted));
                found.wrong = slots.abs_diff(u64::from(*wanted));
            }
            Self::Anything => found.right = 1,
        }
        Ok(found)
    }
}

/// The name of a record's content; empty where there is none.
fn cid(record: &[u8]) -> Result<&[u8]> {
    let mut left = record;
    while !left.is_empty() {
        if let (2, Value::Bytes(cid)) = field(&mut left)? {
            return Ok(cid);
        }
    }
    Ok(&[])
}

#[cfg(test)]
mod tests {
    use super::super::world::tests::small;
    use super::*;

    /// What a right data plane answers.
    fn reply(world: &World, wanted: &[Wanted]) -> BytesMut {
        let mut out = BytesMut::new();
        for wanted in wanted {
            let mut record = BytesMut::new();
            put_bytes(1, b"{}", &mut record);
            if !world.cid(*wanted).is_empty() {
                put_bytes(2, world.cid(*wanted).as_bytes(), &mut record);
            }
            put_bytes(1, &record, &mut out);
        }
        wanted.iter().for_each(|_| put_bytes(2, &[], &mut out));
        out
    }

    #[test]
    fn records_are_compared_with_what_was_asked_for() {
        let (world, mut random) = (small(), Random::new(3));
        let call = Method::GetPostRecords.call(&world, "did:plc:1", 100, &mut random);
        let Expected::Records(wanted) = &call.expected else { panic!("{:?}", call.expected) };
        assert_eq!((wanted.len(), call.keys), (100, 100));
        let right = Found { right: 100, ..Found::default() };
        assert_eq!(call.expected.check(&world, &reply(&world, wanted)).unwrap(), right);
        let there = wanted.iter().filter(|wanted| !world.cid(**wanted).is_empty()).count() as u64;
        let none: Vec<Wanted> = wanted.iter().map(|_| Wanted::missing(0)).collect();
        let found = call.expected.check(&world, &reply(&world, &none)).unwrap();
        assert_eq!((found.missing, found.right), (there, 100 - there));
        let mut turned = wanted.clone();
        turned.rotate_left(1);
        assert!(
            call.expected.check(&world, &reply(&world, &turned)).unwrap().wrong > 50,
            "another order is wrong"
        );
        let short = call.expected.check(&world, &reply(&world, &wanted[..99])).unwrap();
        assert_eq!(short.wrong, 2, "a record and its metadata");
    }

    #[test]
    fn arrays_have_as_many_elements_as_keys() {
        let (world, mut random) = (small(), Random::new(3));
        let call = Method::GetInteractionCounts.call(&world, "did:plc:1", 3, &mut random);
        let mut reply = BytesMut::new();
        put_bytes(1, &[0x05, 0xac, 0x02, 0x00], &mut reply);
        put_bytes(2, &[0, 0, 0], &mut reply);
        assert_eq!(call.expected.check(&world, &reply).unwrap(), Found { right: 3, ..Found::default() });
        assert_eq!(call.expected.check(&world, &[]).unwrap().wrong, 3);
    }

    #[test]
    fn every_request_holds_its_keys() {
        let (world, mut random) = (small(), Random::new(3));
        for (method, number) in [
            (Method::GetPostRecords, 1),
            (Method::GetInteractionCounts, 1),
            (Method::GetLikesByActorAndSubjects, 2),
            (Method::GetBlockExistence, 1),
            (Method::GetRelationships, 2),
            (Method::GetThreadGateRecords, 1),
        ] {
            let call = method.call(&world, "did:plc:1", 7, &mut random);
            let (mut left, mut keys) = (&call.body[PREFIX..], 0);
            while !left.is_empty() {
                keys += u32::from(field(&mut left).unwrap().0 == number);
            }
            assert_eq!((keys, call.keys), (7, 7), "{method:?}");
        }
        assert_eq!(Method::GetTimeline.call(&world, "did:plc:1", 50, &mut random).keys, 0);
    }
}
