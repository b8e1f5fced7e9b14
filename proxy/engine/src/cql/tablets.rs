//! Which nodes and shards have the tablets of ScyllaDB's tables: what nodes tell of it in answers
//! ([`weir_cql::response::tablet`]). Nobody is asked: the first request for a tablet goes anywhere, and where that was
//! wrong the answer says what is right.
//!
//! It is weir's connection that agreed to be told, so what is told is taken out of answers before clients, caches or other
//! readers see them. What is known of a tablet comes before what the placement says. It is forgotten when a tablet that
//! overlaps it is told, when its table or keyspace is changed or dropped, when a replica is no node of the cluster any
//! more, and for room. It is kept when a connection is lost: a node that is asked in vain says what is right.
//!
//! Bounds: `tablets_max` tablets per cluster and worker; the table that was not asked about for longest is forgotten
//! first, whole. [`weir_cql::response::tablet::REPLICAS_MAX`] replicas of each.

use super::CqlEngine;
use super::placement::PlacedNode;
use super::streams::Owner;
use super::target::{TableName, Target};
use crate::units::{ClusterId, LaneId};
use lru::LruCache;
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use weir_cql::envelope::{Flags, Header};
use weir_cql::key::Token;
use weir_cql::response::{self, SchemaChange, Tablet, TabletTaken, take_tablet};

/// What became of a tablet that a node told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TabletTold {
    /// It is known now.
    Learned,
    /// The request was about no partition that weir knows, or about one that is not in the tablet.
    NotPlaced,
    /// It could not be read, or has no replica.
    Unreadable,
}

impl TabletTold {
    /// How many there are.
    pub const COUNT: usize = 3;
    /// All, in the order of their counts.
    pub const ALL: [TabletTold; TabletTold::COUNT] =
        [TabletTold::Learned, TabletTold::NotPlaced, TabletTold::Unreadable];

    /// Bounded label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            TabletTold::Learned => "learned",
            TabletTold::NotPlaced => "not_placed",
            TabletTold::Unreadable => "unreadable",
        }
    }
}

/// Why a tablet was forgotten, other than for one that overlaps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TabletForgotten {
    /// There were more than `tablets_max`.
    Room,
    /// One of its replicas has left the cluster.
    Topology,
    /// Its table or keyspace was changed or dropped.
    Schema,
}

impl TabletForgotten {
    /// How many there are.
    pub const COUNT: usize = 3;
    /// All, in the order of their counts.
    pub const ALL: [TabletForgotten; TabletForgotten::COUNT] =
        [TabletForgotten::Room, TabletForgotten::Topology, TabletForgotten::Schema];

    /// Bounded label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            TabletForgotten::Room => "room",
            TabletForgotten::Topology => "topology",
            TabletForgotten::Schema => "schema",
        }
    }
}

/// What is counted about the tablets of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TabletCounts {
    /// Known now.
    pub known: usize,
    /// Answers that told one, in the order of [`TabletTold::ALL`], since the start.
    pub told: [u64; TabletTold::COUNT],
    /// Forgotten, in the order of [`TabletForgotten::ALL`], since the start.
    pub forgotten: [u64; TabletForgotten::COUNT],
}

/// Who has a tablet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replica {
    host_id: [u8; 16],
    /// Its place in the list of the placement's nodes; `None` while that does not know it.
    pub(super) place: Option<usize>,
    pub(super) shard: u32,
}

/// A tablet, but for its last token.
#[derive(Debug)]
struct Range {
    after: Token,
    replicas: Arc<[Replica]>,
}

/// The tablets of one table that are known, by their last tokens. They do not overlap.
type Ranges = BTreeMap<Token, Range>;

/// The tablets of one cluster.
#[derive(Debug)]
pub(super) struct Tablets {
    /// The table that was not asked about for longest is the last. None is without tablets.
    tables: LruCache<Arc<TableName>, Ranges, FxBuildHasher>,
    counts: TabletCounts,
    /// Places of the placement's nodes.
    hosts: FxHashMap<[u8; 16], usize>,
    /// Some replica was no node when its tablet was told.
    strangers: bool,
}

impl Default for Tablets {
    fn default() -> Tablets {
        Tablets {
            tables: LruCache::unbounded_with_hasher(FxBuildHasher), // bounded by the tablets in it
            counts: TabletCounts::default(),
            hosts: FxHashMap::default(),
            strangers: false,
        }
    }
}

impl Tablets {
    /// Who has this partition, in the node's order; `None` where nobody has told.
    pub(super) fn replicas(&mut self, target: &Target) -> Option<Arc<[Replica]>> {
        if self.tables.is_empty() {
            return None;
        }
        find(self.tables.get(&*target.table)?, target.token)
    }

    /// The same; it does not count as asking.
    pub(super) fn peek(&self, target: &Target) -> Option<Arc<[Replica]>> {
        find(self.tables.peek(&*target.table)?, target.token)
    }

    pub(super) const fn counts(&self) -> TabletCounts {
        self.counts
    }

    /// Takes a tablet over, in place of those that it overlaps. At most `max` are known afterwards.
    fn learn(&mut self, table: &Arc<TableName>, told: &Tablet, max: usize) {
        if let Some(ranges) = self.tables.get_mut(&**table) {
            let behind = ranges.range((Excluded(told.after), Unbounded));
            let overlaps = behind.take_while(|(_, range)| range.after < told.last).map(|(last, _)| *last);
            for last in overlaps.collect::<Vec<_>>() {
                ranges.remove(&last);
                self.counts.known -= 1;
            }
        }
        self.make_room(max.saturating_sub(1));
        if max == 0 {
            return;
        }
        let replicas = told.replicas.iter().map(|replica| Replica {
            host_id: replica.host_id,
            place: self.hosts.get(&replica.host_id).copied(),
            shard: replica.shard,
        });
        let replicas: Arc<[Replica]> = replicas.collect();
        self.strangers |= replicas.iter().any(|replica| replica.place.is_none());
        let ranges = self.tables.get_or_insert_mut(table.clone(), Ranges::new);
        ranges.insert(told.last, Range { after: told.after, replicas });
        self.counts.known += 1;
    }

    /// Forgets tables until at most `max` tablets are known.
    pub(super) fn make_room(&mut self, max: usize) {
        while self.counts.known > max {
            let Some((_, ranges)) = self.tables.pop_lru() else { return };
            self.forgot(ranges.len(), TabletForgotten::Room);
        }
    }

    /// The nodes of a new placement.
    pub(super) fn settle(&mut self, nodes: &[PlacedNode]) {
        let known = |(place, node): (usize, &PlacedNode)| self.hosts.get(&node.host_id) == Some(&place);
        if !self.strangers && self.hosts.len() == nodes.len() && nodes.iter().enumerate().all(known) {
            return;
        }
        self.strangers = false;
        self.hosts = nodes.iter().enumerate().map(|(place, node)| (node.host_id, place)).collect();
        let (hosts, mut gone) = (&self.hosts, 0);
        for (_, ranges) in &mut self.tables {
            let before = ranges.len();
            ranges.retain(|_, range| {
                Arc::make_mut(&mut range.replicas).iter_mut().all(|replica| {
                    replica.place = hosts.get(&replica.host_id).copied();
                    replica.place.is_some()
                })
            });
            gone += before - ranges.len();
        }
        self.forgot(gone, TabletForgotten::Topology);
        self.drop_tables(|_, ranges| ranges.is_empty());
    }

    /// Forgets the tables that the change is about.
    fn changed(&mut self, change: &SchemaChange<'_>) {
        let whole = match change.target {
            response::Target::Keyspace => None,
            response::Target::Table(table) => Some(table),
            // types and functions move no rows
            _ => return,
        };
        let gone = self.drop_tables(|table, _| {
            table.keyspace.as_bytes() == change.keyspace
                && whole.is_none_or(|name| table.name.as_bytes() == name)
        });
        self.forgot(gone, TabletForgotten::Schema);
    }

    /// Drops tables; how many tablets they had.
    fn drop_tables(&mut self, is_gone: impl Fn(&TableName, &Ranges) -> bool) -> usize {
        let gone = self.tables.iter().filter(|(table, ranges)| is_gone(table, ranges));
        let gone: Vec<Arc<TableName>> = gone.map(|(table, _)| table.clone()).collect();
        gone.iter().filter_map(|table| self.tables.pop(&**table)).map(|ranges| ranges.len()).sum()
    }

    fn forgot(&mut self, tablets: usize, why: TabletForgotten) {
        self.counts.known -= tablets;
        self.counts.forgotten[why as usize] += tablets as u64;
    }

    /// Panics when a bound or a sum is broken.
    pub(super) fn check_invariants(&self, max: usize) {
        let known: usize = self.tables.iter().map(|(_, ranges)| ranges.len()).sum();
        assert_eq!(known, self.counts.known, "tablets are counted");
        assert!(known <= max, "{known} tablets of {max}");
        for (table, ranges) in &self.tables {
            assert!(!ranges.is_empty(), "{table:?} has none");
            let mut end = Token::MIN;
            for (last, range) in ranges {
                assert!(end <= range.after && range.after < *last, "{table:?} overlaps at {last:?}");
                end = *last;
            }
        }
    }
}

fn find(ranges: &Ranges, token: Token) -> Option<Arc<[Replica]>> {
    let (_, range) = ranges.range(token..).next()?;
    (range.after < token).then(|| range.replicas.clone())
}

impl CqlEngine {
    /// The node tells tablets on this lane: it agreed to that at STARTUP. Before [`CqlEngine::lane_up`].
    pub fn lane_tells_tablets(&mut self, id: LaneId) {
        self.lanes[id.0 as usize].tells_tablets = true;
    }

    /// Takes the tablet out of an answer, and learns it; `None` where it has none. `body` may be the beginning of it.
    pub(super) fn takes_tablet(
        &mut self,
        lane: LaneId,
        header: &Header,
        body: &[u8],
    ) -> Option<(Header, Vec<u8>)> {
        let from = &self.lanes[lane.0 as usize];
        if !header.flags.has(Flags::CUSTOM_PAYLOAD) || !from.tells_tablets {
            return None;
        }
        let TabletTaken { tablet, header, body } = take_tablet(header, body)?;
        let target = match from.streams.owner(header.stream.0) {
            Some(Owner::Request(id)) => self.requests.get(id).and_then(|request| request.target.as_ref()),
            _ => None,
        };
        let cluster = &mut self.clusters[from.info.of.0 as usize];
        let told = match (tablet, target) {
            (Ok(tablet), _) if tablet.replicas.is_empty() => TabletTold::Unreadable,
            (Ok(tablet), Some(target)) if tablet.has(target.token) => {
                cluster.tablets.learn(&target.table, &tablet, cluster.settings.tablets_max as usize);
                TabletTold::Learned
            }
            (Ok(_), _) => TabletTold::NotPlaced,
            (Err(_), _) => TabletTold::Unreadable,
        };
        cluster.tablets.counts.told[told as usize] += 1;
        Some((header, body))
    }

    /// The schema of the lane's cluster changed.
    pub(super) fn tablets_changed(&mut self, lane: LaneId, change: &SchemaChange<'_>) {
        let of = self.lanes[lane.0 as usize].info.of;
        self.clusters[of.0 as usize].tablets.changed(change);
    }

    /// The tablets known to a cluster and its pools.
    pub(super) fn tablets(&self, cluster: ClusterId) -> &Tablets {
        let of = self.clusters[cluster.0 as usize].of;
        &self.clusters[of.0 as usize].tablets
    }
}
