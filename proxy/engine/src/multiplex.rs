//! Few connections for many clients: a *lane* is one upstream connection with the commands it owes replies for, in the
//! order they were appended. Every command has exactly one reply (noreply and quiet flags are stripped before), so the
//! order of the replies alone tells whose they are; the key in every VALUE is compared all the same.

use crate::buffer::OutBuffer;
use crate::client::Target;
use crate::queue::FairQueue;
use crate::settings::{Address, PoolSettings};
use crate::units::{Bytes, ClientId, Instant, LaneId, Operations, PoolId, ServerId, Span};
use rustc_hash::FxHasher;
use std::collections::VecDeque;
use std::hash::Hasher;
use std::sync::Arc;
use weir_memcached::Verb;

/// What a worker needs to know to connect a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneInfo {
    /// Whose pool.
    pub pool: PoolId,
    /// Which server.
    pub server: ServerId,
    /// Where it listens.
    pub address: Address,
    /// Credentials file for servers started with `-Y`.
    pub auth_file: Option<Arc<str>>,
}

/// How a lane stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// A connection is being made; commands wait in the output buffer.
    Connecting,
    /// Connected.
    Up,
    /// The last attempt failed: requests are answered with an error at once.
    Down,
    /// No longer in the settings: it is cut once nothing is owed on it.
    Retired,
}

/// Why a lane must be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutCause {
    /// It owes a reply and delivered no byte for `stall_timeout`.
    Stalled,
    /// What it sent does not answer what was asked.
    Desync,
    /// No longer in the settings and nothing is owed.
    Retired,
    /// Too many of its stream ids wait for replies nobody wants (CQL), and nothing else is owed: it is connected anew.
    Worn,
}

/// A reply that does not fit the question. The lane must be cut: whose reply is whose is no longer known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Desync {
    /// Bytes that nothing was asked for.
    Unasked,
    /// A VALUE for a key that was not asked, or out of order.
    WrongKey,
    /// Not a memcached reply.
    Malformed,
    /// A reply of another kind than the command has.
    WrongKind,
}

impl Desync {
    /// Bounded label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Desync::Unasked => "unasked",
            Desync::WrongKey => "wrong_key",
            Desync::Malformed => "malformed",
            Desync::WrongKind => "wrong_kind",
        }
    }
}

pub(crate) struct Lane {
    pub(crate) info: LaneInfo,
    pub(crate) state: LaneState,
    pub(crate) out: OutBuffer,
    pub(crate) owed: VecDeque<Pending>,
    /// Single gets of this turn, not yet appended to `out`.
    pub(crate) batch: Option<Box<KeysWork>>,
    /// The start of a reply that has not arrived whole.
    pub(crate) input: Vec<u8>,
    /// When it last delivered a byte.
    pub(crate) heard: Instant,
    pub(crate) dirty: bool,
    /// The driver was told to cut it.
    pub(crate) cut: bool,
    /// It answered what was not asked: nothing it owes may be asked again.
    pub(crate) desynced: bool,
    /// The last attempt to connect ended at signing in: what clients are told while it is down.
    pub(crate) sign_in_failed: bool,
}

impl Lane {
    pub(crate) fn new(info: LaneInfo) -> Lane {
        Lane {
            info,
            state: LaneState::Connecting,
            out: OutBuffer::default(),
            owed: VecDeque::new(),
            batch: None,
            input: Vec::new(),
            heard: Instant(0),
            dirty: false,
            cut: false,
            desynced: false,
            sign_in_failed: false,
        }
    }

    /// Appends a command and notes what its reply is for.
    pub(crate) fn send(&mut self, now: Instant, cost: Cost, work: Work, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.end_offset();
        self.out.push_with(write);
        self.owed.push_back(Pending { start, sent: now, cost, forgotten: false, work });
    }

    /// Appends the open batch, if there is one.
    pub(crate) fn close_batch(&mut self, now: Instant) {
        if let Some(keys) = self.batch.take() {
            let cost = keys.cost;
            self.send_keys(now, keys, cost);
        }
    }

    pub(crate) fn send_keys(&mut self, now: Instant, keys: Box<KeysWork>, cost: Cost) {
        let start = self.out.end_offset();
        self.out.push_with(|out| keys.write(out));
        self.owed.push_back(Pending { start, sent: now, cost, forgotten: false, work: Work::Keys(keys) });
    }
}

/// What a command holds of its server's budgets until it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) operations: u64,
    pub(crate) bytes: u64,
    pub(crate) bulk: u64,
}

pub(crate) struct Pending {
    /// Stream offset of the command's first byte.
    pub(crate) start: u64,
    /// When it was first appended to a lane; a lost connection does not change it. `request_timeout` counts from here.
    pub(crate) sent: Instant,
    pub(crate) cost: Cost,
    /// Everybody who waited for it was told so: the reply will be read over.
    pub(crate) forgotten: bool,
    pub(crate) work: Work,
}

pub(crate) enum Work {
    /// `get` and its kin: VALUEs, then END.
    Keys(Box<KeysWork>),
    /// One line, or VA and its data.
    Line { target: Target, verb: Verb, quiet: bool },
    /// STAT lines, then END; or one line.
    Lines { target: Target, part: usize },
    /// One line that nobody waits for.
    Discard,
}

/// Whose keys they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Each key has its own waiters (an implicit batch).
    Each,
    /// All belong to one request, answered in order as they come.
    One(Target),
    /// All belong to one part of one request over several servers.
    Part(Target, usize),
}

/// Someone who waits for one key of an implicit batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub(crate) target: Target,
    /// Index + 1 of the next waiter for the same key; 0 ends the list.
    pub(crate) next: u32,
}

/// The keys of one command, kept until it is answered.
#[derive(Debug)]
pub(crate) struct KeysWork {
    pub(crate) verb: Verb,
    pub(crate) exptime: Vec<u8>,
    /// Keys joined by one space.
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Vec<u32>,
    /// The first key nothing is known about yet.
    pub(crate) cursor: usize,
    pub(crate) owner: Owner,
    pub(crate) heads: Vec<u32>,
    pub(crate) waiters: Vec<Waiter>,
    hashes: Vec<(u32, u32)>,
    /// For [`Owner::Part`]: position of each key in the segment.
    pub(crate) positions: Vec<u32>,
    /// For [`Owner::Part`]: values so far and (position, start, end) of each.
    pub(crate) values: Vec<u8>,
    pub(crate) spans: Vec<(u32, usize, usize)>,
    /// It was sent before: an error now goes to the clients.
    pub(crate) retried: bool,
    /// Reply bytes so far, to correct the estimate.
    pub(crate) seen: u64,
    /// What it holds of its server's budgets.
    pub(crate) cost: Cost,
}

impl KeysWork {
    pub(crate) fn new(verb: Verb, owner: Owner) -> KeysWork {
        KeysWork {
            verb,
            exptime: Vec::new(),
            bytes: Vec::new(),
            ends: Vec::new(),
            cursor: 0,
            owner,
            heads: Vec::new(),
            waiters: Vec::new(),
            hashes: Vec::new(),
            positions: Vec::new(),
            values: Vec::new(),
            spans: Vec::new(),
            retried: false,
            seen: 0,
            cost: Cost::default(),
        }
    }

    /// Makes a used one new, keeping its memory.
    pub(crate) fn renew(&mut self, verb: Verb, owner: Owner) {
        self.verb = verb;
        self.owner = owner;
        self.exptime.clear();
        self.bytes.clear();
        self.ends.clear();
        self.cursor = 0;
        self.heads.clear();
        self.waiters.clear();
        self.hashes.clear();
        self.positions.clear();
        self.values = Vec::new();
        self.spans.clear();
        self.retried = false;
        self.seen = 0;
        self.cost = Cost::default();
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn key(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize + 1 };
        &self.bytes[start..self.ends[index] as usize]
    }

    pub(crate) fn push(&mut self, key: &[u8]) {
        if !self.ends.is_empty() {
            self.bytes.push(b' ');
        }
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len() as u32);
    }

    /// Adds one waiter for one key; true when it joined a fetch of the same key by the same principal.
    pub(crate) fn push_waiter(&mut self, key: &[u8], target: Target, principal: u32, join: bool) -> bool {
        let hash = if join {
            let mut hasher = FxHasher::default();
            hasher.write(key);
            hasher.finish() as u32
        } else {
            0
        };
        if join {
            let found = self
                .hashes
                .iter()
                .enumerate()
                .position(|(i, &(h, p))| h == hash && p == principal && self.key(i) == key);
            if let Some(index) = found {
                self.waiters.push(Waiter { target, next: self.heads[index] });
                self.heads[index] = self.waiters.len() as u32;
                return true;
            }
        }
        self.push(key);
        // `u32::MAX` never equals a principal that may join (switched off for that client)
        self.hashes.push((hash, if join { principal } else { u32::MAX }));
        self.waiters.push(Waiter { target, next: 0 });
        self.heads.push(self.waiters.len() as u32);
        false
    }

    /// Calls `f` for each waiter of key `index`.
    pub(crate) fn each_waiter(&self, index: usize, mut f: impl FnMut(Target)) {
        let mut at = self.heads[index];
        while at != 0 {
            let waiter = self.waiters[at as usize - 1];
            f(waiter.target);
            at = waiter.next;
        }
    }

    /// Nobody waits for these keys any more; they are kept to check the reply against.
    pub(crate) fn forget_waiters(&mut self) {
        match &mut self.owner {
            Owner::One(target) | Owner::Part(target, _) => *target = Target::nobody(target.client),
            Owner::Each => {
                self.waiters.clear();
                self.heads.iter_mut().for_each(|head| *head = 0);
            }
        }
    }

    /// Whether `f` holds for the client of anybody who waits for these keys.
    pub(crate) fn any_client(&self, mut f: impl FnMut(ClientId) -> bool) -> bool {
        match self.owner {
            Owner::One(target) | Owner::Part(target, _) => f(target.client),
            Owner::Each => self.waiters.iter().any(|waiter| f(waiter.target.client)),
        }
    }

    /// Writes the command for the keys from `cursor` on; there must be one.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.verb.name().as_bytes());
        out.push(b' ');
        if !self.exptime.is_empty() {
            out.extend_from_slice(&self.exptime);
            out.push(b' ');
        }
        let from = if self.cursor == 0 { 0 } else { self.ends[self.cursor - 1] as usize + 1 };
        out.extend_from_slice(self.bytes.get(from..).unwrap_or_default());
        out.extend_from_slice(b"\r\n");
    }
}

/// Retries a server's budget holds at most, and what it starts with; in hundredths of a command.
const RETRY_CREDIT_MAX: u64 = 100 * 100;
const RETRY_CREDIT_FIRST: u64 = 10 * 100;

/// One memcached server of a pool, with its budgets over all callers of this worker.
pub(crate) struct Server {
    pub(crate) pool: PoolId,
    pub(crate) name: Arc<str>,
    /// Its connections; one of a retired server goes when the driver keeps nothing of it any more.
    pub(crate) lanes: Vec<LaneId>,
    /// No longer in the settings: its place is free once its last lane is gone.
    pub(crate) retired: bool,
    pub(crate) in_flight: Cost,
    /// Caps of this worker: its share of the pool's.
    pub(crate) operations_max: Operations,
    pub(crate) bytes_max: Bytes,
    pub(crate) bulk_max: Operations,
    pub(crate) request_timeout: Span,
    pub(crate) stall_timeout: Span,
    pub(crate) queue_timeout: Span,
    /// Every command earns this share of a retry, in percent.
    retry_percent: u64,
    retry_credit: u64,
    /// Clients with a request no larger than a chunk.
    pub(crate) small: FairQueue,
    /// Clients with a split multiget, one chunk a turn.
    pub(crate) bulk: FairQueue,
    /// Bulk waits, has nothing in flight, and small requests leave no room for it: it is next.
    pub(crate) starved: bool,
    /// Totals for metrics.
    pub(crate) backend_operations: u64,
    /// Operations by identity slot since the last fold.
    pub(crate) spent: Vec<u64>,
}

impl Server {
    pub(crate) fn new(
        pool: PoolId,
        name: Arc<str>,
        lanes: Vec<LaneId>,
        settings: &PoolSettings,
        workers: u64,
    ) -> Server {
        let chunk = u64::from(settings.chunk_keys);
        let mut server = Server {
            pool,
            name,
            lanes,
            retired: false,
            in_flight: Cost::default(),
            operations_max: Operations(0),
            bytes_max: Bytes(0),
            bulk_max: Operations(0),
            request_timeout: Span(0),
            stall_timeout: Span(0),
            queue_timeout: Span(0),
            retry_percent: 0,
            retry_credit: if settings.retry_percent == 0 { 0 } else { RETRY_CREDIT_FIRST },
            small: FairQueue::new(chunk),
            bulk: FairQueue::new(chunk),
            starved: false,
            backend_operations: 0,
            spent: Vec::new(),
        };
        server.tune(settings, workers);
        server
    }

    /// Takes over the numbers that may change while it is in use.
    pub(crate) fn tune(&mut self, settings: &PoolSettings, workers: u64) {
        let share = |total: u64| (total / workers).max(1);
        self.operations_max = Operations(share(settings.operations_in_flight.0));
        self.bytes_max = Bytes(share(settings.bytes_in_flight.0));
        self.bulk_max = Operations(share(settings.bulk_keys_in_flight.0).max(u64::from(settings.chunk_keys)));
        self.request_timeout = settings.request_timeout;
        self.stall_timeout = settings.stall_timeout;
        self.queue_timeout = settings.queue_timeout;
        self.retry_percent = u64::from(settings.retry_percent);
    }

    /// Whether a command of this cost may be passed on; one always may when nothing is under way.
    pub(crate) fn has_room(&self, cost: Cost) -> bool {
        let busy = self.in_flight;
        busy.operations == 0
            || (busy.operations + cost.operations <= self.operations_max.0
                && busy.bytes + cost.bytes <= self.bytes_max.0
                && (cost.bulk == 0 || busy.bulk == 0 || busy.bulk + cost.bulk <= self.bulk_max.0))
    }

    /// Whether a request that nobody queued before may be passed on without queueing.
    pub(crate) fn may_pass_by(&self) -> bool {
        self.small.is_empty() && (!self.starved || self.bulk.is_empty())
    }

    /// Notes whose operations it was asked for.
    pub(crate) fn spend(&mut self, known: u32, operations: u64) {
        let slot = known as usize;
        if self.spent.len() <= slot {
            self.spent.resize(slot + 1, 0);
        }
        self.spent[slot] += operations;
    }

    /// Takes the cost of a command that there is room for.
    pub(crate) fn book(&mut self, cost: Cost) {
        debug_assert!(self.has_room(cost), "{cost:?} with {:?} under way", self.in_flight);
        self.book_regardless(cost);
    }

    /// Takes the cost of a command that goes whether there is room or not.
    pub(crate) fn book_regardless(&mut self, cost: Cost) {
        self.in_flight.operations += cost.operations;
        self.in_flight.bytes += cost.bytes;
        self.in_flight.bulk += cost.bulk;
        self.backend_operations += cost.operations;
        self.retry_credit = (self.retry_credit + self.retry_percent).min(RETRY_CREDIT_MAX);
    }

    pub(crate) fn release(&mut self, cost: Cost) {
        debug_assert!(self.in_flight.operations >= cost.operations, "released more than was booked");
        self.in_flight.operations = self.in_flight.operations.saturating_sub(cost.operations);
        self.in_flight.bytes = self.in_flight.bytes.saturating_sub(cost.bytes);
        self.in_flight.bulk = self.in_flight.bulk.saturating_sub(cost.bulk);
    }

    /// Whether one more read may be asked again; charges it.
    pub(crate) fn may_retry(&mut self) -> bool {
        let may = self.retry_credit >= 100;
        if may {
            self.retry_credit -= 100;
        }
        may
    }

    pub(crate) fn lane_for(&self, client_slot: u32) -> LaneId {
        self.lanes[client_slot as usize % self.lanes.len()]
    }
}
