//! An UNLOGGED BATCH in parts: whether it may be cut, where each of its statements writes, to which replica a part goes,
//! and what it is answered.
//!
//! Only where every statement is under a rule with `split_batches`, and only with one timestamp for all parts: the
//! client's (of the batch, or of each statement), or, where every rule says `stamp_timestamps`, one of weir's. Sent again, a part has the same timestamp. A
//! batch that cannot be cut is passed on as it is, and counted by cause ([`BatchWhole`]).
//!
//! Where a prepared statement writes is known from its PREPARED metadata, or as of a text by the statement reader with
//! the columns that the placement knows. UNLOGGED promises nothing between partitions, so an error of one part is the
//! answer although others were carried out, as with a batch that a node takes whole.

use super::CqlEngine;
use super::ask::message_of;
use super::job_plan::{JobPlan, WritePlan};
use super::method::Method;
use super::node::Nearness;
use super::prepared::Prepared;
use super::request::{Request, RequestId};
use super::split::{BatchGather, BatchPlan, BatchWhole, Place};
use super::statements::Known;
use super::target::{Finder, TableName, Target};
use crate::ledger::Outcome;
use crate::units::{ClusterId, Instant, LaneId};
use rustc_hash::FxHashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use weir_cql::envelope::{EnvelopeLimits, Header, Opcode, Side, Step, read_header};
use weir_cql::key::token;
use weir_cql::request::{Batch, BatchKind, BatchStatement, Request as Message};
use weir_cql::statement::{Body, Condition, Idempotence, Value};
use weir_cql::{Consistency, Dialect, StreamId};

/// The timestamps that weir gives.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    /// The wall clock at [`Instant`] zero, microseconds since 1970.
    wall: i64,
    last: i64,
}

impl Stamps {
    /// The wall clock now in microseconds; never the same twice, and never less than before.
    fn next(&mut self, now: Instant) -> i64 {
        let wall = self.wall.saturating_add(i64::try_from(now.0).unwrap_or(i64::MAX));
        self.last = wall.max(self.last.saturating_add(1));
        self.last
    }
}

/// What the rules say about a batch.
#[derive(Clone, Copy)]
struct Chosen {
    stamps: bool,
}

/// What is known of a statement of a batch.
enum Source {
    Prepared(Arc<Prepared>),
    Text(Arc<Known>),
}

impl Source {
    /// Whether the statement says its own timestamp.
    fn has_timestamp(&self, statement: &BatchStatement, body: &[u8]) -> bool {
        let known = match self {
            Source::Prepared(prepared) => &prepared.known,
            Source::Text(known) => known,
        };
        match &known.statement.body {
            Body::Modify(modify) => match modify.timestamp {
                Some(Value::Literal(..)) => true,
                // without a value it is the node's
                Some(Value::Bind(at)) => {
                    statement.values.get(body, at).and_then(|value| value.of(body)).is_some()
                }
                _ => false,
            },
            _ => false,
        }
    }
}

impl CqlEngine {
    /// What the wall clock says: microseconds since 1970 at [`Instant`] zero. To be told before the first request, and
    /// again from time to time, because the clocks do not run alike.
    pub fn tell_wall_clock(&mut self, unix_micros_at_zero: i64) {
        self.stamps.wall = unix_micros_at_zero;
    }

    /// Begins to carry out a batch in parts, where it is one that may be.
    pub(super) fn split_batch(&mut self, id: RequestId, now: Instant) -> bool {
        let Some(request) = self.requests.get(id) else { return true };
        let cluster = self.clients[request.client.slot as usize].cluster;
        let size =
            NonZeroU32::new(self.cluster_settings(cluster).chunk_statements).unwrap_or(NonZeroU32::MIN);
        if request.operations <= size.get().into() {
            return false;
        }
        // its bytes are looked at while the engine is asked about them; they come back before anybody else looks
        let Some(envelope) = self.requests.get_mut(id).map(|request| std::mem::take(&mut request.envelope))
        else {
            return true;
        };
        let cut = self.cut_batch(id, cluster, &envelope, size, now);
        if let Some(request) = self.requests.get_mut(id) {
            request.envelope = envelope;
        }
        match cut {
            Some(Ok(plan)) => {
                self.start_job(id, JobPlan::Write(plan), None, now);
                true
            }
            Some(Err(whole)) => {
                self.sent_whole(cluster, whole.label());
                false
            }
            None => false,
        }
    }

    /// `None` for what is no BATCH message.
    fn cut_batch(
        &mut self,
        id: RequestId,
        cluster: ClusterId,
        envelope: &[u8],
        size: NonZeroU32,
        now: Instant,
    ) -> Option<Result<WritePlan, BatchWhole>> {
        let Step::Envelope { header } = read_header(envelope, Side::Client, EnvelopeLimits::default()) else {
            return None;
        };
        let body = envelope.get(weir_cql::HEADER_LEN..)?;
        let request = self.requests.get(id)?;
        let (client, dialect) = (request.client, Dialect::of(request.version));
        let Ok(Message::Batch(batch)) = Message::locate(&header, body, dialect) else { return None };
        let listener = self.clients[client.slot as usize].listener;
        if !self.settings.listeners[listener.0 as usize].switches.split {
            return Some(Err(BatchWhole::SwitchedOff));
        }
        Some(self.chosen(cluster, &batch, body).and_then(|chosen| {
            let given = batch.timestamp.is_some();
            let stamp = (chosen.stamps && !given).then(|| self.stamps.next(now));
            let mut prepared: FxHashMap<Box<[u8]>, Arc<Prepared>> = FxHashMap::default();
            let place = |statement: &BatchStatement| {
                let (source, place) = self.place_of(cluster, &batch, body, statement)?;
                let timed = source.has_timestamp(statement, body);
                let near = self.near(cluster, &place).map_or(u32::MAX, |node| node.0);
                if let Source::Prepared(found) = source
                    && !prepared.contains_key(&found.id)
                {
                    prepared.insert(found.id.clone(), found);
                }
                Ok(Place { near, timed, ..place.place })
            };
            let plan = BatchPlan::cut(&header, body, &batch, dialect, size, stamp, place)?;
            let targets = (0..plan.chunks()).map(|index| {
                let (_, place) = self.place_of(cluster, &batch, body, plan.lead_of(index)?).ok()?;
                Some(place.target())
            });
            let targets = targets.collect();
            Ok(WritePlan { plan, targets, prepared })
        }))
    }

    /// Whether the rules let this batch be split.
    fn chosen(&self, cluster: ClusterId, batch: &Batch, body: &[u8]) -> Result<Chosen, BatchWhole> {
        match batch.head.kind {
            BatchKind::Logged => return Err(BatchWhole::Logged),
            BatchKind::Counter => return Err(BatchWhole::Counter),
            BatchKind::Unlogged => {}
        }
        let registry = self.known_statements(cluster);
        let cluster = &self.clusters[cluster.0 as usize];
        if !cluster.rules.list().iter().any(|rule| rule.split_batches) {
            return Err(BatchWhole::NoRule);
        }
        let keyspace = batch.keyspace.and_then(|span| std::str::from_utf8(span.of(body)).ok());
        let mut chosen = Chosen { stamps: true };
        for statement in batch.statements(body) {
            let source = statement.source.of(body);
            let rule = if statement.prepared {
                let prepared = registry.peek(source).ok_or(BatchWhole::Unknown)?;
                cluster.rules.of_prepared(prepared)
            } else {
                cluster.rules.of_text(&self.statements.peek(source), source, keyspace)
            };
            let rule = rule.filter(|rule| rule.split_batches).ok_or(BatchWhole::NoRule)?;
            chosen.stamps &= rule.stamp_timestamps;
        }
        Ok(chosen)
    }

    /// Where a statement of a batch writes.
    fn place_of(
        &self,
        cluster: ClusterId,
        batch: &Batch,
        body: &[u8],
        statement: &BatchStatement,
    ) -> Result<(Source, Written), BatchWhole> {
        let registry = self.known_statements(cluster);
        let cluster = &self.clusters[cluster.0 as usize];
        let source = statement.source.of(body);
        if !statement.prepared {
            let known = self.statements.peek(source);
            let keyspace = batch.keyspace.map(|span| span.of(body));
            let place = cluster.written(&known, source, keyspace, statement, body)?;
            return Ok((Source::Text(known), place));
        }
        let prepared = registry.peek(source).ok_or(BatchWhole::Unknown)?;
        let place = match &prepared.write {
            Ok(key) => {
                let table =
                    prepared.key.as_ref().map(super::target::BoundKey::table).ok_or(BatchWhole::NoKey)?;
                let (keyspace, key) = (key.keyspace().clone(), key.partition(body, statement)?);
                Written { table: table.clone(), place: Place { keyspace, key, near: 0, timed: false } }
            }
            // a part of the key stands in the text, or the node does not tell it in this version
            Err(BatchWhole::NoKey) => {
                let keyspace = prepared.keyspace.as_deref().map(str::as_bytes);
                cluster.written(&prepared.known, &prepared.text, keyspace, statement, body)?
            }
            Err(whole) => return Err(*whole),
        };
        Ok((Source::Prepared(prepared.clone()), place))
    }

    /// The replica that is nearest; the first of those that are equally near, so that its partitions meet there.
    fn near(&self, cluster: ClusterId, place: &Written) -> Option<super::node::NodeId> {
        let target = place.target();
        let tablet = self.tablets(cluster).peek(&target);
        let mut best = None;
        self.clusters[cluster.0 as usize].each_replica(&target, tablet.as_deref(), |node, _| {
            let nearness = self.nodes[node.0 as usize].nearness();
            if best.is_none_or(|(least, _)| nearness < least) {
                best = Some((nearness, node));
            }
        });
        best.map(|(_, node)| node)
    }

    /// A part of a batch for which a replica has room, and its bulk lane: parts go to a replica as long as one has room,
    /// before that a later one goes first. `instead` is where a part goes otherwise: as far away, or farther.
    pub(super) fn part_at_replica(
        &self,
        id: RequestId,
        instead: LaneId,
        now: Instant,
    ) -> Option<(u32, LaneId)> {
        let request = self.requests.get(id)?;
        let job = request.job.as_ref()?;
        let JobPlan::Write(write) = &job.plan else { return None };
        let cluster = self.lanes[instead.0 as usize].info.cluster;
        let node = self.lanes[instead.0 as usize].info.node;
        let remote = self.nodes[node.0 as usize].nearness() == Nearness::Remote;
        let streams = usize::from(self.cluster_settings(cluster).streams_per_connection);
        job.sendable(self.window(cluster)).find_map(|index| {
            let target = write.targets.get(index as usize)?.as_ref()?;
            let mut best = None;
            let tablet = self.tablets(cluster).peek(target);
            self.clusters[cluster.0 as usize].each_replica(target, tablet.as_deref(), |node, _| {
                let nearness = self.nodes[node.0 as usize].nearness();
                let Some(lane) = self.bulk_lane_of(node, request.version) else { return };
                let state = &self.lanes[lane.0 as usize];
                let in_flight = self.parts_in_flight(node);
                let room = state.is_usable()
                    && state.streams.in_use() < streams
                    && in_flight < self.parts_now(node, now)
                    && (remote || nearness != Nearness::Remote);
                if room && best.is_none_or(|(least, _)| (nearness, in_flight) < least) {
                    best = Some(((nearness, in_flight), lane));
                }
            });
            best.map(|(_, lane)| (index, lane))
        })
    }

    /// All parts are done.
    pub(super) fn batch_done(&mut self, id: RequestId, gather: &BatchGather, now: Instant) {
        let Some(version) = self.requests.get(id).map(|request| request.version) else { return };
        let Some((flags, body)) = gather.finish() else {
            return self.fail(id, super::error::Failure::BadReply, now);
        };
        let body_len = body.len() as u32;
        let header = Header { version, flags, stream: StreamId(0), opcode: Opcode::Result, body_len };
        self.pass_on(id, &header, &body, Outcome::Ok, now);
    }
}

/// Where a statement writes, and the table for which its replicas are told.
struct Written {
    table: Arc<TableName>,
    place: Place,
}

impl Written {
    fn target(&self) -> Target {
        Target { table: self.table.clone(), token: token(&self.place.key) }
    }
}

impl super::Cluster {
    /// Where a statement writes that is known by its text.
    fn written(
        &self,
        known: &Known,
        text: &[u8],
        keyspace: Option<&[u8]>,
        statement: &BatchStatement,
        body: &[u8],
    ) -> Result<Written, BatchWhole> {
        let Body::Modify(modify) = &known.statement.body else { return Err(BatchWhole::NotWrite) };
        if modify.condition != Condition::Always {
            return Err(BatchWhole::Conditional);
        }
        if matches!(modify.idempotence, Idempotence::Incremental | Idempotence::Counter) {
            return Err(BatchWhole::Counter);
        }
        if statement.values.count != known.statement.markers {
            return Err(BatchWhole::Values);
        }
        let placement = self.placement.as_deref().ok_or(BatchWhole::NoKey)?;
        let written = Finder::key_written(placement, known, text, keyspace, &statement.values, body);
        let (table, key) = written.ok_or(BatchWhole::NoKey)?;
        let keyspace = table.keyspace.as_bytes().into();
        Ok(Written { table: Arc::new(table), place: Place { keyspace, key, near: 0, timed: false } })
    }
}

/// What a write is called in an error about it, and the consistency it asked for, where that is known.
pub(super) fn write_type(request: &Request) -> (&'static [u8], Consistency) {
    if request.method == Method::Batch
        && let Some((Message::Batch(batch), _)) = message_of(request)
    {
        let kind: &[u8] = match batch.head.kind {
            BatchKind::Logged => b"BATCH",
            BatchKind::Unlogged => b"UNLOGGED_BATCH",
            BatchKind::Counter => b"COUNTER",
        };
        return (kind, batch.consistency.value);
    }
    (b"SIMPLE", Consistency::ONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_only_grow() {
        let mut stamps = Stamps { wall: 1_700_000_000_000_000, last: 0 };
        let first = stamps.next(Instant(5));
        assert_eq!(first, 1_700_000_000_000_005);
        assert_eq!(stamps.next(Instant(5)), first + 1);
        stamps.wall -= 1_000_000; // the wall clock was set back
        assert_eq!(stamps.next(Instant(1_000)), first + 2);
        stamps.wall += 2_000_000;
        assert_eq!(stamps.next(Instant(1_000)), 1_700_000_001_001_000);
    }
}
