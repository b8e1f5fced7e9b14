//! One request of a client from its arrival to its answer, and the table of all of them.

use crate::client::Held;
use crate::correlate::Said;
use crate::ledger::{self, Outcome, SentTo};
use crate::units::{ClientId, Instant, LaneId};
use std::sync::Arc;
use weir_cql::{StreamId, Version};

use super::face::Rewrite;
use super::failover::Tried;
use super::job::Job;
use super::method::Method;
use super::node::NodeId;
use super::prepared::{Key, Prepared};
use super::routing::Routed;
use super::second::Unfilled;
use super::statements::Known;
use super::target::Target;

/// Names one request. A slot is used again after its request ended; the generation tells them apart, so that a reply or
/// a turn in a queue that comes late meets nobody instead of a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RequestId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Read, not yet passed on.
    New,
    /// A limit paces it.
    Paced,
    /// Waits for its turn at a node.
    Queued(NodeId),
    /// Sent; the reply will come on this stream.
    Sent(LaneId, i16),
    /// Waits until another request has prepared the same statement.
    Joined,
    /// Carried out in parts.
    Split,
    /// Will be answered with the answer of this one.
    Following(RequestId),
}

/// What a reply is used for, besides being passed on.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// Passed on as it is.
    Forward,
    /// The client's PREPARE: what comes back is kept for everybody, under this key.
    Prepare(Key),
    /// weir's own PREPARE, on the connection that did not know the statement; then the request is sent again.
    Repair,
    /// weir's own PREPARE of the statement that this request is split in, under this key; then it is split.
    List(Key),
    /// `USE`: the rows say whether the keyspace exists.
    Use(Arc<str>),
    /// Facts for the row that shows the second weir; this is where they go.
    SecondWeir(Arc<Unfilled>),
}

impl Purpose {
    /// What weir asked in between was not answered: the request begins anew.
    pub(super) fn begins_anew(&mut self) {
        if matches!(self, Purpose::SecondWeir(_)) {
            *self = Purpose::Forward;
        }
    }
}

/// One request that is not yet answered.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) client: ClientId,
    /// The stream id the client chose.
    pub(super) stream: StreamId,
    /// Place in the client's list of requests under way.
    pub(super) place: u32,
    /// Who asked: the name it had then.
    pub(super) known: u32,
    pub(super) method: Method,
    pub(super) stage: Stage,
    pub(super) purpose: Purpose,
    pub(super) rewrite: Rewrite,
    /// The version it is sent in.
    pub(super) version: Version,
    /// The version of its answer: the client's.
    pub(super) answer_version: Version,
    /// What is known of its parts, once it is carried out in parts.
    pub(super) job: Option<Box<Job>>,
    /// The whole envelope as it is sent upstream but for the stream id; uncompressed. Empty once it is carried out in
    /// parts.
    pub(super) envelope: Vec<u8>,
    /// The statement it executes, to be prepared again where a node has forgotten it.
    pub(super) prepared: Option<Arc<Prepared>>,
    /// What its text says, where it has one.
    pub(super) statement: Option<Arc<Known>>,
    /// The partition it is about, where that can be told.
    pub(super) target: Option<Target>,
    /// It is conditional, or reads what conditional ones write: replicas are asked in their own order.
    pub(super) ordered: bool,
    /// The shard of the node it was routed to.
    pub(super) shard: Option<u16>,
    /// The node that had it last, where it went to one whole.
    pub(super) sent_to: Option<SentTo>,
    /// How it was routed, until it is sent and counted.
    pub(super) routed: Option<Routed>,
    /// Nodes that failed it.
    pub(super) tried: Tried,
    /// What the ledger books it under; of a batch its first statement.
    pub(super) named: Option<ledger::Statement>,
    /// May be sent a second time without doing more than the first.
    pub(super) idempotent: bool,
    /// It went to a node: it counts as a part there.
    pub(super) attempts: u8,
    /// Statements that were prepared (again) for it.
    pub(super) repairs: u8,
    pub(super) operations: u64,
    pub(super) held: Option<Held>,
    pub(super) arrived: Instant,
    /// Since when it waits (pace and queue together).
    pub(super) waiting_since: Instant,
    pub(super) first_sent: Option<Instant>,
    pub(super) sent: Instant,
    pub(super) rows: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) outcome: Outcome,
    /// It is answered with what another one asked.
    pub(super) coalesced: bool,
    /// Which request of a service it is a part of.
    pub(super) correlation: Option<Box<Said>>,
}

/// All requests under way of one worker. Slots are kept: 16 bytes for each request of the busiest moment.
#[derive(Debug, Default)]
pub(super) struct Requests {
    slots: Vec<(u32, Option<Box<Request>>)>,
    free: Vec<u32>,
}

impl Requests {
    pub(super) fn insert(&mut self, request: Request) -> RequestId {
        let request = Some(Box::new(request));
        if let Some(slot) = self.free.pop() {
            let (generation, place) = &mut self.slots[slot as usize];
            *place = request;
            return RequestId { slot, generation: *generation };
        }
        self.slots.push((0, request));
        RequestId { slot: (self.slots.len() - 1) as u32, generation: 0 }
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&Request> {
        let (generation, request) = self.slots.get(id.slot as usize)?;
        request.as_deref().filter(|_| *generation == id.generation)
    }

    pub(super) fn get_mut(&mut self, id: RequestId) -> Option<&mut Request> {
        let (generation, request) = self.slots.get_mut(id.slot as usize)?;
        request.as_deref_mut().filter(|_| *generation == id.generation)
    }

    pub(super) fn remove(&mut self, id: RequestId) -> Option<Box<Request>> {
        let (generation, request) = self.slots.get_mut(id.slot as usize)?;
        if *generation != id.generation {
            return None;
        }
        let gone = request.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(id.slot);
        Some(gone)
    }

    /// Every request under way.
    pub(super) fn iter(&self) -> impl Iterator<Item = (RequestId, &Request)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, (generation, request))| {
            let id = RequestId { slot: slot as u32, generation: *generation };
            Some((id, request.as_deref()?))
        })
    }

    /// Requests under way.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
