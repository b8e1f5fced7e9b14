//! UNLOGGED BATCH in chunks, by partition: which batches, and how they are cut. [`super::batch_gather`] makes the answers one.
//!
//! A node applies the statements of one batch on one partition of one keyspace together: nobody sees some of them. So
//! statements with the same keyspace and partition key stay in one chunk, in their order, however many they are. Between
//! partitions an UNLOGGED batch promises nothing, and nothing is lost by cutting there: it may be carried out in part
//! when it fails, as before. One thing differs, and is a reason for splitting batches only where that was chosen: a batch
//! that a node refuses as a whole (a value of no type, more bytes than it allows) does nothing; of one in chunks those
//! that are good on their own are carried out.
//!
//! Of two writes with the same timestamp the larger value wins, whichever came later; of two with different ones the
//! later. So all chunks need one timestamp: the client's, or one that weir gives all of them ([`BatchPlan::cut`]); or each
//! statement has its own. Sent
//! again, a chunk has the same bytes and the same timestamp.
//!
//! Partitions that have a node in common ([`Place::near`]) go together as far as the size of a chunk lets them, and chunks
//! of different nodes take turns, so that all nodes are at work.
//!
//! Memory of a [`BatchPlan`]: 32 bytes for each statement, at most 65,535 of them, and eight for each chunk; while it is
//! made, its key besides. The statements stay in the request's own bytes, which are given again for each chunk.

use rustc_hash::FxHashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use weir_cql::Dialect;
use weir_cql::envelope::{Flags, Header};
use weir_cql::key::{COMPONENT_MAX, composite};
use weir_cql::request::{Batch, BatchEdit, BatchKind, BatchPart, BatchStatement, Change};
use weir_cql::response::Prepared;
use weir_cql::statement::{Body, Condition, Idempotence, Statement, Value};

/// Why a BATCH is not split. A closed set: it is a metric label.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum BatchWhole {
    /// No rule lets a statement of it be split off.
    NoRule,
    /// An operator has switched splitting off.
    SwitchedOff,
    /// LOGGED: all or nothing.
    Logged,
    /// COUNTER, or a statement that adds to what is there: it must not be carried out twice.
    Counter,
    /// No timestamp of the client's, and none is to be given.
    NoTimestamp,
    /// The request is traced: one trace holds one request.
    Traced,
    /// The request has a custom payload.
    Payload,
    /// A prepared statement that is not known here.
    Unknown,
    /// A statement is no INSERT, UPDATE or DELETE, or is not understood.
    NotWrite,
    /// A statement has an `IF`, or the consistency is a serial one.
    Conditional,
    /// A statement whose partition cannot be told.
    NoKey,
    /// Values that are not those the statement asks for, or a key that is null or too long.
    Values,
    /// One chunk would hold all.
    Small,
}

impl BatchWhole {
    /// Every reason, so that its counter can exist before the first.
    pub const ALL: [BatchWhole; 13] = [
        BatchWhole::NoRule,
        BatchWhole::SwitchedOff,
        BatchWhole::Logged,
        BatchWhole::Counter,
        BatchWhole::NoTimestamp,
        BatchWhole::Traced,
        BatchWhole::Payload,
        BatchWhole::Unknown,
        BatchWhole::NotWrite,
        BatchWhole::Conditional,
        BatchWhole::NoKey,
        BatchWhole::Values,
        BatchWhole::Small,
    ];

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            BatchWhole::NoRule => "batch_no_rule",
            BatchWhole::SwitchedOff => "batch_switched_off",
            BatchWhole::Logged => "batch_logged",
            BatchWhole::Counter => "batch_counter",
            BatchWhole::NoTimestamp => "batch_no_timestamp",
            BatchWhole::Traced => "batch_traced",
            BatchWhole::Payload => "batch_custom_payload",
            BatchWhole::Unknown => "batch_unknown_statement",
            BatchWhole::NotWrite => "batch_not_write",
            BatchWhole::Conditional => "batch_conditional",
            BatchWhole::NoKey => "batch_no_key",
            BatchWhole::Values => "batch_values",
            BatchWhole::Small => "batch_one_partition",
        }
    }
}

/// How the partition of a prepared write is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WriteKey {
    keyspace: Arc<[u8]>,
    /// Positions of the partition key's values, in its order.
    indices: Box<[u16]>,
    /// How many values must be bound.
    values: u16,
}

impl WriteKey {
    /// Of a statement as it was prepared: its text and what was read from it, and the server's answer (`prepared`, located
    /// in `body`). `key` are the names of the partition key's columns in their order, where they are known; else the
    /// server tells (v4 and later).
    ///
    /// # Errors
    /// Why a batch with it must be sent whole.
    pub fn of(
        text: &[u8],
        statement: &Statement,
        body: &[u8],
        prepared: &Prepared,
        key: Option<&[&str]>,
    ) -> Result<WriteKey, BatchWhole> {
        let Body::Modify(modify) = &statement.body else { return Err(BatchWhole::NotWrite) };
        if modify.condition != Condition::Always {
            return Err(BatchWhole::Conditional);
        }
        if matches!(modify.idempotence, Idempotence::Incremental | Idempotence::Counter) {
            return Err(BatchWhole::Counter);
        }
        if u32::from(statement.markers) != prepared.markers.count {
            return Err(BatchWhole::NoKey);
        }
        let indices: Box<[u16]> = match key {
            Some(key) => {
                let bound = key.iter().map(|column| match modify.filter.value_of(text, column) {
                    Some(Value::Bind(at)) => Ok(at),
                    _ => Err(BatchWhole::NoKey),
                });
                bound.collect::<Result<_, _>>()?
            }
            None => prepared.key_indices(body).collect(),
        };
        let first = prepared.markers.iter(body).next().ok_or(BatchWhole::NoKey)?;
        // Cassandra 5.0.9 gives the last marker of `key IN (?, ?)` as the key: only what is bound by `=` is one
        let by_equal = |at: &u16| modify.filter.equal.iter().any(|equal| equal.value == Value::Bind(*at));
        if indices.is_empty() || !indices.iter().all(by_equal) {
            return Err(BatchWhole::NoKey);
        }
        Ok(WriteKey { keyspace: first.table.keyspace.of(body).into(), indices, values: statement.markers })
    }

    /// The keyspace it writes to, as the server spells it.
    #[must_use]
    pub const fn keyspace(&self) -> &Arc<[u8]> {
        &self.keyspace
    }

    /// The partition that `statement` writes to: its key as the token is computed of.
    ///
    /// # Errors
    /// When the values are not those of the statement, or no key.
    pub fn partition(&self, body: &[u8], statement: &BatchStatement) -> Result<Vec<u8>, BatchWhole> {
        if statement.values.count != self.values {
            return Err(BatchWhole::Values);
        }
        let value = |at: &u16| statement.values.get(body, *at)?.of(body);
        let values: Option<Vec<&[u8]>> = self.indices.iter().map(value).collect();
        let key = values.and_then(|values| composite(&values)).ok_or(BatchWhole::Values)?;
        // an only value may be no longer than one of several
        if self.indices.len() == 1 && key.len() > COMPONENT_MAX { Err(BatchWhole::Values) } else { Ok(key) }
    }
}

/// Where a statement writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// As the server spells it.
    pub keyspace: Arc<[u8]>,
    /// The partition key as the token is computed of.
    pub key: Vec<u8>,
    /// The node that is to carry it out, by whatever number; the same for all where that is not known.
    pub near: u32,
    /// The statement has a timestamp of its own (`USING TIMESTAMP`).
    pub timed: bool,
}

/// One UNLOGGED BATCH in chunks.
#[derive(Debug)]
pub struct BatchPlan {
    batch: Batch,
    /// The statements, those of a chunk together.
    statements: Vec<BatchStatement>,
    chunks: Vec<Range>,
    partitions: u32,
    stamp: Option<i64>,
    dialect: Dialect,
}

/// One chunk among the statements.
#[derive(Clone, Copy, Debug)]
struct Range {
    end: u32,
    /// A statement for the node that most of the chunk is for.
    lead: u32,
}

/// Statements of one partition.
struct Partition {
    near: u32,
    statements: Vec<BatchStatement>,
}

impl BatchPlan {
    /// Cuts the BATCH in `body` (of an envelope with `header`, in this `dialect`) into chunks of `chunk_statements`, more
    /// where one partition has more. `place` tells where a statement writes, or why that cannot be told. `stamp` is the
    /// timestamp, in microseconds, for a batch that has none of the client's: `None` leaves such a batch whole, unless each
    /// statement has its own.
    ///
    /// # Errors
    /// Why it must be sent as it is.
    pub fn cut(
        header: &Header,
        body: &[u8],
        batch: &Batch,
        dialect: Dialect,
        chunk_statements: NonZeroU32,
        stamp: Option<i64>,
        mut place: impl FnMut(&BatchStatement) -> Result<Place, BatchWhole>,
    ) -> Result<BatchPlan, BatchWhole> {
        match batch.head.kind {
            BatchKind::Logged => return Err(BatchWhole::Logged),
            BatchKind::Counter => return Err(BatchWhole::Counter),
            BatchKind::Unlogged => {}
        }
        if header.flags.has(Flags::TRACING) {
            return Err(BatchWhole::Traced);
        }
        if header.flags.has(Flags::CUSTOM_PAYLOAD) {
            return Err(BatchWhole::Payload);
        }
        if batch.consistency.value.is_serial() {
            return Err(BatchWhole::Conditional);
        }
        let stamp = stamp.filter(|_| batch.timestamp.is_none());
        let untimed = batch.timestamp.is_none() && stamp.is_none();
        if u32::from(batch.head.count) <= chunk_statements.get() {
            return Err(BatchWhole::Small);
        }
        let mut places: FxHashMap<(Arc<[u8]>, Vec<u8>), usize> = FxHashMap::default();
        let mut partitions: Vec<Partition> = Vec::new();
        for statement in batch.statements(body) {
            let Place { keyspace, key, near, timed: own } = place(&statement)?;
            if untimed && !own {
                return Err(BatchWhole::NoTimestamp);
            }
            let place = *places.entry((keyspace, key)).or_insert_with(|| {
                partitions.push(Partition { near, statements: Vec::new() });
                partitions.len() - 1
            });
            partitions[place].statements.push(statement);
        }
        let plan = BatchPlan::packed(*batch, partitions, chunk_statements.get(), stamp, dialect);
        if plan.chunks() < 2 { Err(BatchWhole::Small) } else { Ok(plan) }
    }

    /// Partitions by their nodes, otherwise in the order of their first statements, in chunks that are not larger than
    /// `size` but where a single partition is.
    fn packed(
        batch: Batch,
        mut partitions: Vec<Partition>,
        size: u32,
        stamp: Option<i64>,
        dialect: Dialect,
    ) -> BatchPlan {
        let count = partitions.len() as u32;
        partitions.sort_by_key(|partition| partition.near);
        let mut packs: Vec<Vec<Partition>> = Vec::new();
        let mut in_pack = 0;
        for partition in partitions {
            let more = partition.statements.len() as u32;
            match packs.last_mut().filter(|_| in_pack + more <= size) {
                Some(pack) => {
                    in_pack += more;
                    pack.push(partition);
                }
                None => {
                    in_pack = more;
                    packs.push(vec![partition]);
                }
            }
        }
        let mut plan = BatchPlan {
            batch,
            statements: Vec::with_capacity(batch.head.count.into()),
            chunks: Vec::with_capacity(packs.len()),
            partitions: count,
            stamp,
            dialect,
        };
        in_turn(packs).into_iter().for_each(|pack| plan.add(pack));
        plan
    }

    fn add(&mut self, pack: Vec<Partition>) {
        let near = nearest(&pack);
        let mut lead = None;
        for partition in pack {
            if partition.near == near {
                lead.get_or_insert(self.statements.len() as u32);
            }
            self.statements.extend(partition.statements);
        }
        let end = self.statements.len() as u32;
        self.chunks.push(Range { end, lead: lead.unwrap_or(end) });
    }

    /// Chunks.
    #[must_use]
    pub fn chunks(&self) -> u32 {
        self.chunks.len() as u32
    }

    /// Statements of all chunks.
    #[must_use]
    pub fn statements(&self) -> u32 {
        self.statements.len() as u32
    }

    /// Different partitions.
    #[must_use]
    pub const fn partitions(&self) -> u32 {
        self.partitions
    }

    /// Statements of a chunk; 0 for one that is not there.
    #[must_use]
    pub fn statements_in(&self, index: u32) -> u32 {
        self.of(index).len() as u32
    }

    /// A statement of a chunk for the node that most of the chunk is for: where the chunk is sent may depend on its key.
    #[must_use]
    pub fn lead_of(&self, index: u32) -> Option<&BatchStatement> {
        self.statements.get(self.chunks.get(index as usize)?.lead as usize)
    }

    /// The dialect it was asked in, and chunks are to be sent in.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Memory held, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.statements.capacity() * size_of::<BatchStatement>() + self.chunks.capacity() * size_of::<Range>()
    }

    /// Writes the body of the BATCH of one chunk; `body` is the one that was cut. Everything but the statements, and the
    /// timestamp where it had none, is as it came.
    pub fn write_chunk(&self, body: &[u8], index: u32, out: &mut Vec<u8>) {
        let parts = self.of(index).iter().map(|statement| BatchPart { statement: *statement, id: None });
        let timestamp = self.stamp.map_or(Change::Keep, Change::Set);
        let edit = BatchEdit { timestamp, ..BatchEdit::default() };
        self.batch.rewrite(body, parts, &edit, out);
    }

    fn of(&self, index: u32) -> &[BatchStatement] {
        let end = |index: u32| self.chunks.get(index as usize).map(|chunk| chunk.end);
        let from = index.checked_sub(1).map_or(Some(0), end);
        let (Some(from), Some(to)) = (from, end(index)) else { return &[] };
        self.statements.get(from as usize..to as usize).unwrap_or_default()
    }
}

/// Packs of different nodes one after the other, as far as there are several.
fn in_turn(packs: Vec<Vec<Partition>>) -> Vec<Vec<Partition>> {
    let mut rounds: FxHashMap<u32, u32> = FxHashMap::default();
    let mut placed: Vec<(u32, Vec<Partition>)> = Vec::with_capacity(packs.len());
    for pack in packs {
        let round = rounds.entry(nearest(&pack)).or_default();
        placed.push((*round, pack));
        *round += 1;
    }
    placed.sort_by_key(|(round, _)| *round);
    placed.into_iter().map(|(_, pack)| pack).collect()
}

/// The node that most statements of a pack, which is sorted by node, are for.
fn nearest(pack: &[Partition]) -> u32 {
    let runs = pack.chunk_by(|a, b| a.near == b.near);
    let size = |run: &[Partition]| -> usize { run.iter().map(|partition| partition.statements.len()).sum() };
    let most = runs.max_by_key(|run| size(run));
    most.and_then(<[Partition]>::first).map_or(0, |partition| partition.near)
}
