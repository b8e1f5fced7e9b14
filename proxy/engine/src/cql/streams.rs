//! Stream ids of one upstream connection: who waits for which reply (native protocol v3-v5, section 2.3).
//!
//! A stream id is free again only when its reply has come: a request whose client has gone or that timed out leaves an
//! *orphan*, whose reply is read over. Orphans are counted; too many, or one too old, and the connection is drained
//! and replaced, because ids that never come back are lost capacity.

use super::request::RequestId;
use crate::units::{Instant, Span};
use std::collections::VecDeque;

/// What a stream id is in use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A request waits for the reply.
    Request(RequestId),
    /// A part of a split request does: the request, and which part.
    Part(RequestId, u32),
    /// Nobody does any more, since then.
    Orphan(Instant),
}

/// The ids of one connection.
#[derive(Debug)]
pub(super) struct Streams {
    /// By id; grows with use up to `max`.
    owners: Vec<Option<Owner>>,
    /// Ids given back, oldest first, so that an id rests before it is used again.
    free: VecDeque<u16>,
    max: u16,
    in_use: usize,
    orphans: usize,
}

impl Streams {
    /// Ids `0..max`; `max` is at most 32,768.
    pub(super) fn new(max: u16) -> Streams {
        Streams {
            owners: Vec::new(),
            free: VecDeque::new(),
            max: max.clamp(1, 1 << 15),
            in_use: 0,
            orphans: 0,
        }
    }

    /// An id; `None` while all are in use.
    pub(super) fn take_for(&mut self, owner: Owner) -> Option<i16> {
        let id = match self.free.pop_front() {
            Some(id) => id,
            None if self.owners.len() < usize::from(self.max) => {
                self.owners.push(None);
                (self.owners.len() - 1) as u16
            }
            None => return None,
        };
        self.owners[usize::from(id)] = Some(owner);
        self.in_use += 1;
        Some(id as i16)
    }

    /// The reply on this id has come: who waited for it. `None` when nothing was asked on it.
    pub(super) fn give_back(&mut self, id: i16) -> Option<Owner> {
        let index = u16::try_from(id).ok()?;
        let owner = self.owners.get_mut(usize::from(index))?.take()?;
        self.in_use -= 1;
        if matches!(owner, Owner::Orphan(_)) {
            self.orphans -= 1;
        }
        self.free.push_back(index);
        Some(owner)
    }

    /// Nobody waits for the reply on this id any more.
    pub(super) fn orphan(&mut self, id: i16, now: Instant) {
        let slot = u16::try_from(id).ok().and_then(|index| self.owners.get_mut(usize::from(index)));
        if let Some(Some(owner @ (Owner::Request(_) | Owner::Part(..)))) = slot {
            *owner = Owner::Orphan(now);
            self.orphans += 1;
        }
    }

    /// The reply on this id is for another request.
    pub(super) fn hand_over(&mut self, id: i16, to: RequestId) {
        let slot = u16::try_from(id).ok().and_then(|index| self.owners.get_mut(usize::from(index)));
        if let Some(Some(owner @ Owner::Request(_))) = slot {
            *owner = Owner::Request(to);
        }
    }

    /// What an id is in use for.
    pub(super) fn owner(&self, id: i16) -> Option<Owner> {
        *self.owners.get(usize::from(u16::try_from(id).ok()?))?
    }

    /// Panics when a count is wrong.
    pub(super) fn check_invariants(&self) {
        let used = self.owners.iter().flatten().count();
        let orphans = self.owners.iter().flatten().filter(|owner| matches!(owner, Owner::Orphan(_))).count();
        assert_eq!((used, orphans), (self.in_use, self.orphans), "stream ids are counted");
        assert_eq!(self.free.len() + used, self.owners.len(), "every stream id is free or in use");
        assert!(self.owners.len() <= usize::from(self.max));
    }

    /// Requests that wait for a reply, each with its id.
    pub(super) fn requests(&self) -> impl Iterator<Item = (i16, RequestId)> + '_ {
        self.owners.iter().enumerate().filter_map(|(id, owner)| match owner {
            Some(Owner::Request(request)) => Some((id as i16, *request)),
            _ => None,
        })
    }

    /// Parts of split requests that wait for a reply.
    pub(super) fn parts(&self) -> impl Iterator<Item = (RequestId, u32)> + '_ {
        self.owners.iter().filter_map(|owner| match owner {
            Some(Owner::Part(request, part)) => Some((*request, *part)),
            _ => None,
        })
    }

    /// Ids in use, orphans included.
    pub(super) fn in_use(&self) -> usize {
        self.in_use
    }

    /// Ids whose reply nobody waits for.
    pub(super) fn orphans(&self) -> usize {
        self.orphans
    }

    /// How long the oldest orphan has been one.
    pub(super) fn oldest_orphan(&self, now: Instant) -> Span {
        if self.orphans == 0 {
            return Span(0);
        }
        let since = self.owners.iter().filter_map(|owner| match owner {
            Some(Owner::Orphan(since)) => Some(*since),
            _ => None,
        });
        since.min().map_or(Span(0), |since| now.since(since))
    }

    /// Forgets everything: the connection is gone.
    pub(super) fn clear(&mut self) {
        *self = Streams::new(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(slot: u32) -> RequestId {
        RequestId { slot, generation: 0 }
    }

    #[test]
    fn ids_are_bounded_and_rest_before_they_are_used_again() {
        let mut streams = Streams::new(3);
        let ids: Vec<_> = (0..3).map(|slot| streams.take_for(Owner::Request(request(slot)))).collect();
        assert_eq!(ids, [Some(0), Some(1), Some(2)]);
        assert_eq!(streams.take_for(Owner::Request(request(9))), None);
        assert_eq!(streams.give_back(1), Some(Owner::Request(request(1))));
        assert_eq!(streams.give_back(1), None, "a second reply on the same id answers nothing");
        assert_eq!(streams.give_back(0), Some(Owner::Request(request(0))));
        assert_eq!(streams.take_for(Owner::Request(request(4))), Some(1), "the one that rested longer");
        assert_eq!(streams.in_use(), 2);
    }

    #[test]
    fn ids_that_were_never_given_out_answer_nothing() {
        let mut streams = Streams::new(4);
        streams.take_for(Owner::Request(request(0)));
        for id in [-1, 1, 3, 4, i16::MAX, i16::MIN] {
            assert_eq!(streams.give_back(id), None, "{id}");
        }
    }

    #[test]
    fn an_orphan_keeps_its_id_until_the_reply_comes() {
        let mut streams = Streams::new(2);
        streams.take_for(Owner::Request(request(0)));
        streams.take_for(Owner::Request(request(1)));
        streams.orphan(0, Instant(5));
        streams.orphan(0, Instant(7));
        assert_eq!((streams.orphans(), streams.in_use()), (1, 2));
        assert_eq!(streams.take_for(Owner::Request(request(2))), None);
        assert_eq!(streams.oldest_orphan(Instant(15)), Span(10));
        assert_eq!(streams.requests().collect::<Vec<_>>(), [(1, request(1))]);
        assert_eq!(streams.give_back(0), Some(Owner::Orphan(Instant(5))));
        assert_eq!((streams.orphans(), streams.oldest_orphan(Instant(15))), (0, Span(0)));
        assert_eq!(streams.take_for(Owner::Request(request(2))), Some(0));
    }
}
