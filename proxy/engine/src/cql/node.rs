//! Few connections for many clients: a *lane* is one connection to one node in one protocol version, with the stream
//! ids it has in use. The lanes of a node in one version are a *group* with one fair queue in front.
//!
//! Parts of split requests have a lane of their own, the *bulk lane*: on a shared one they would make everybody's reads
//! wait. A node has one per version, once a request in that version was split.
//!
//! A group exists once a client speaks its version, so a cluster has at most `connections_per_node` x nodes x versions
//! connections per worker and one bulk lane each, and each principal with a pool of its own (`principals_max`) has as many,
//! whatever the clients do (the version of a request's body cannot be
//! changed in general). Of a node that tells its shards, the same for each shard, and one bulk lane.

use super::chunks::Bulk;
use super::principals::Principal;
use super::request::RequestId;
use super::stream_through::Through;
use super::streams::{Owner, Streams};
use crate::buffer::{InputBuffer, OutBuffer};
use crate::multiplex::LaneState;
use crate::queue::FairQueue;
use crate::settings::{Address, ClusterSettings, ShardPorts};
use crate::units::{ClusterId, Instant, LaneId};
use std::num::NonZeroU16;
use std::sync::Arc;
use weir_cql::key::Sharding;
use weir_cql::{SegmentDecoder, Version};

/// One node of one worker's clusters: an index into its node table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// What a worker needs to know to connect a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneInfo {
    /// Whose cluster, as the engine counts them: a principal's pool is one of its own.
    pub cluster: ClusterId,
    /// Which cluster of the settings that is.
    pub of: ClusterId,
    /// Which node.
    pub node: NodeId,
    /// Where it listens.
    pub address: Address,
    /// In which version the connection is opened.
    pub version: Version,
    /// Credentials file for clusters that ask for a password.
    pub auth_file: Option<Arc<str>>,
    /// Whose credentials are shown instead: the connection is that user's.
    pub principal: Option<Arc<Principal>>,
    /// The connection hears of schema and topology changes.
    pub registers: bool,
    /// The shard to ask the node for; `None`: any.
    pub shard: Option<ShardDial>,
    /// The node has shards: it tells which one serves the connection (see [`super::CqlEngine::lane_on_shard`]).
    pub tells_shard: bool,
    /// It carries parts of split requests, and nothing else.
    pub bulk: bool,
}

/// How a shard is asked for: by the source port of a connection to the shard-aware port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardDial {
    /// The shard, below `shards`.
    pub shard: u16,
    /// Shards of the node.
    pub shards: NonZeroU16,
    /// The port to dial instead of the address's.
    pub port: u16,
    /// Source ports to choose from (see [`ShardPorts::of_shard`]).
    pub source_ports: ShardPorts,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) info: LaneInfo,
    /// The shard that serves it, where that is known.
    pub(super) shard: Option<u16>,
    /// Its node tells tablets in answers on it.
    pub(super) tells_tablets: bool,
    pub(super) state: LaneState,
    pub(super) out: OutBuffer,
    /// v5: envelopes that are put into segments at the end of the turn.
    pub(super) plain_out: Vec<u8>,
    pub(super) streams: Streams,
    pub(super) segments: Option<SegmentDecoder>,
    /// Envelopes out of segments, not yet whole.
    pub(super) plain: InputBuffer,
    /// The start of what has not arrived whole.
    pub(super) input: InputBuffer,
    /// The reply whose end has not come and that is passed on, or read over, meanwhile.
    pub(super) through: Option<Through>,
    /// Replies passed on in pieces since the start, and those whose end never came.
    pub(super) streamed: u64,
    pub(super) broken: u64,
    /// When it last delivered a byte.
    pub(super) heard: Instant,
    /// Since when it has owed at least one reply, whether anybody still waits for it or not.
    pub(super) owing_since: Instant,
    pub(super) dirty: bool,
    /// The driver was told to cut it.
    pub(super) cut: bool,
    /// It takes no further requests: too many of its stream ids are orphans.
    pub(super) draining: bool,
}

impl Lane {
    pub(super) fn new(info: LaneInfo, settings: &ClusterSettings) -> Lane {
        Lane {
            shard: info.shard.map(|dial| dial.shard),
            tells_tablets: false,
            info,
            state: LaneState::Connecting,
            out: OutBuffer::default(),
            plain_out: Vec::new(),
            streams: Streams::new(settings.streams_per_connection),
            segments: None,
            plain: InputBuffer::default(),
            input: InputBuffer::default(),
            through: None,
            streamed: 0,
            broken: 0,
            heard: Instant(0),
            owing_since: Instant(0),
            dirty: false,
            cut: false,
            draining: false,
        }
    }

    /// Requests may be sent on it.
    pub(super) fn is_usable(&self) -> bool {
        self.state == LaneState::Up && !self.draining && !self.cut
    }

    /// A stream id for a request; `None` while all are in use.
    pub(super) fn take_stream(&mut self, request: RequestId, now: Instant) -> Option<i16> {
        self.take_stream_for(Owner::Request(request), now)
    }

    /// The same for any owner.
    pub(super) fn take_stream_for(&mut self, owner: Owner, now: Instant) -> Option<i16> {
        if self.streams.in_use() == 0 {
            self.owing_since = now;
        }
        self.streams.take_for(owner)
    }

    /// Appends an envelope under this stream id.
    pub(super) fn send(&mut self, envelope: &[u8], stream: i16) {
        self.send_with(stream, |out| out.extend_from_slice(envelope));
    }

    /// Lets `write` append an envelope, which goes out under this stream id.
    pub(super) fn send_with(&mut self, stream: i16, write: impl FnOnce(&mut Vec<u8>)) {
        let patch = |out: &mut Vec<u8>| {
            let at = out.len();
            write(out);
            weir_cql::patch_stream(&mut out[at..], weir_cql::StreamId(stream));
        };
        if self.info.version >= Version::V5 {
            patch(&mut self.plain_out);
        } else {
            self.out.push_with(patch);
        }
    }

    /// Memory held for what has not arrived whole.
    pub(super) fn gathered(&self) -> usize {
        self.input.capacity() + self.plain.capacity()
    }

    /// Nothing is left of the connection that was.
    pub(super) fn reset(&mut self) {
        self.tells_tablets = false;
        self.out.reset();
        self.plain_out = Vec::new();
        self.streams.clear();
        self.segments = None;
        self.plain = InputBuffer::default();
        self.input = InputBuffer::default();
        self.through = None;
        self.cut = false;
        self.draining = false;
    }
}

/// The lanes of one node in one version.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) lanes: Vec<LaneId>,
    pub(super) queue: FairQueue<RequestId>,
    /// Requests sent and not yet answered, orphans not counted.
    pub(super) in_flight: u64,
}

/// What the placement tells about a node, as far as requests depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) nearness: Nearness,
    /// Other nodes think that it is up.
    pub(super) is_up: bool,
    pub(super) sharding: Option<Sharding>,
    /// The port on which connections ask for a shard.
    pub(super) shard_aware_port: Option<u16>,
}

/// How far away a node is, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Nearness {
    /// In the local data center, and in the local rack where one is named.
    Near,
    /// In another rack of the local data center.
    OtherRack,
    /// In another data center.
    Remote,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) cluster: ClusterId,
    /// Its number: no other node of this worker has or gets it.
    pub(super) serial: u32,
    pub(super) address: Address,
    pub(super) name: Arc<str>,
    /// What the cluster tells about it.
    pub(super) placed: Option<Placed>,
    /// By version: v3, v4, v5.
    pub(super) groups: [Option<Group>; 3],
    /// No longer in the settings.
    pub(super) retired: bool,
    /// Operations it was asked for, in all.
    pub(super) backend_operations: u64,
    /// Operations it was asked for since the last fold, by identity slot.
    pub(super) spent: Vec<u64>,
    /// Operations in flight.
    pub(super) operations: u64,
    /// When it was last asked for data by a request that is not a part of one.
    pub(super) asked: Option<Instant>,
    /// Its bulk lanes, and what is under way on them.
    pub(super) bulk: Bulk,
    /// Whether it said that it is Scylla, once it was asked.
    pub(super) scylla: Option<bool>,
    /// The same node as all pools have it, this one included.
    pub(super) peers: Option<Arc<[NodeId]>>,
}

/// Position of a version in the tables of groups.
pub(super) fn version_index(version: Version) -> usize {
    match version {
        Version::V3 => 0,
        Version::V4 => 1,
        Version::V5 => 2,
    }
}

impl Node {
    pub(super) fn new(cluster: ClusterId, serial: u32, address: Address) -> Node {
        Node {
            cluster,
            serial,
            name: address.to_string().into(),
            address,
            placed: None,
            groups: [const { None }; 3],
            retired: false,
            backend_operations: 0,
            spent: Vec::new(),
            operations: 0,
            asked: None,
            bulk: Bulk::default(),
            scylla: None,
            peers: None,
        }
    }

    /// Where it is, as far as known: without a placement every node is near.
    pub(super) fn nearness(&self) -> Nearness {
        self.placed.as_ref().map_or(Nearness::Near, |placed| placed.nearness)
    }

    pub(super) fn group(&self, version: Version) -> Option<&Group> {
        self.groups[version_index(version)].as_ref()
    }

    pub(super) fn group_mut(&mut self, version: Version) -> Option<&mut Group> {
        self.groups[version_index(version)].as_mut()
    }

    /// Notes on whose account operations were sent.
    pub(super) fn spend(&mut self, known: u32, operations: u64) {
        let slot = known as usize;
        if self.spent.len() <= slot {
            self.spent.resize(slot + 1, 0);
        }
        self.spent[slot] += operations;
    }
}

/// Operations a principal may spend per round of the fair queue: about one part of a split request.
pub(super) const QUANTUM: u64 = 100;
