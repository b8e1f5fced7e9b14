//! Statements prepared through weir, whoever prepared them: one registry for all clients of a cluster and worker.
//!
//! The key is what the server hashes to the statement's id: keyspace and text. A statement that one client prepared is
//! valid for every other, and a PREPARE of a known statement is answered from here. A node that has forgotten one says
//! UNPREPARED; the text kept here lets weir prepare it again there and go on.
//!
//! Bounds: `prepared_max` statements; the one not used for longest leaves first, and a client that still uses it is
//! told UNPREPARED, as by a server whose cache is full. Statements of weir's own ([`super::lists`]) are among them, and
//! leave with the last one that needs them.

use super::face::Rewrite;
use super::lists::Listed;
use super::request::RequestId;
use super::rules::About;
use super::split::{BatchWhole, InSplit, Whole, WriteKey};
use super::statements::{Known, Statements};
use super::target::BoundKey;
use lru::LruCache;
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use weir_cql::Version;
use weir_cql::envelope::Header;
use weir_cql::response::{self, Prefix};

/// A statement that was prepared.
#[derive(Debug)]
pub(super) struct Prepared {
    /// As the server named it.
    pub(super) id: Box<[u8]>,
    /// The keyspace it was prepared in, where the text does not say.
    pub(super) keyspace: Option<Arc<str>>,
    /// As it was sent.
    pub(super) text: Box<[u8]>,
    /// What that text says.
    pub(super) known: Arc<Known>,
    /// What the ledger books it under.
    pub(super) named: crate::ledger::Statement,
    pub(super) rewrite: Rewrite,
    /// Which of its values are the partition key, where the server told.
    pub(super) key: Option<BoundKey>,
    /// How requests for many keys are split, or why they are not.
    pub(super) split: Result<InSplit, Whole>,
    /// How its partition is known in a batch that is split, or why it keeps a batch whole.
    pub(super) write: Result<WriteKey, BatchWhole>,
    /// The statement of weir's own that they are split in, where it has a marker for each key.
    pub(super) listed: Option<Listed>,
    pub(super) yields: Yield,
    /// It reads a table of the system's.
    pub(super) system: bool,
    /// Names of the columns of its rows, where they are rewritten.
    pub(super) columns: Vec<Box<[u8]>>,
    /// The body of the RESULT, and the version it is in.
    pub(super) body: Box<[u8]>,
    pub(super) version: Version,
    /// Its tables and its rule.
    pub(super) about: About,
}

/// What a node answered to a PREPARE.
pub(super) struct Told<'a> {
    pub(super) header: &'a Header,
    pub(super) body: &'a [u8],
    pub(super) prefix: &'a Prefix,
    pub(super) located: &'a response::Prepared,
}

impl Prepared {
    /// The statement that was prepared with `key`. `named` is what the ledger has for the one who asked.
    pub(super) fn of(
        key: &Key,
        told: &Told<'_>,
        rewrite: Rewrite,
        named: Option<crate::ledger::Statement>,
        statements: &mut Statements,
    ) -> Prepared {
        let Told { header, body, prefix, located } = *told;
        // of the text that was sent: the client's may lack the keyspace, and its places are others then
        let known = statements.read(&key.text);
        let rewritten = rewrite != Rewrite::None;
        let selected = super::face::selected(&key.text, &known.statement);
        let columns = located.result.columns.iter(body).enumerate();
        let columns = columns.map(|(index, column)| {
            let plain = selected.get(index).cloned().flatten();
            plain.unwrap_or_else(|| column.name.of(body).into())
        });
        let mut split = InSplit::of(&key.text, &known.statement, body, located, header.version, None);
        let mut listed = None;
        if split == Err(Whole::NotOneList) && !rewritten {
            match Listed::of(key, &known.statement, body, located) {
                Ok(form) => listed = Some(form),
                Err(whole) => split = Err(whole),
            }
        }
        Prepared {
            split,
            listed,
            write: WriteKey::of(&key.text, &known.statement, body, located, None),
            yields: Yield::default(),
            about: About::prepared(key, located.key_indices(body).collect(), statements),
            named: named.unwrap_or_else(|| known.named(key.keyspace.clone())),
            id: located.id.of(body).into(),
            keyspace: key.keyspace.clone(),
            text: (*key.text).into(),
            rewrite,
            system: known.system.is_some() || rewritten,
            columns: if rewritten { columns.collect() } else { Vec::new() },
            body: prefix.message.of(body).into(),
            version: header.version,
            key: BoundKey::of(located, body),
            known,
        }
    }
}

/// Rows a key of a statement had lately, on average: how far parts may run ahead within a page is guessed from it.
#[derive(Debug)]
pub(super) struct Yield(AtomicU32);

/// A yield is kept in this part of a row.
const YIELD_UNIT: u64 = 16;

impl Default for Yield {
    /// One row.
    fn default() -> Yield {
        Yield(AtomicU32::new(YIELD_UNIT as u32))
    }
}

impl Yield {
    /// Rows that so many keys are expected to have; at least one.
    pub(super) fn rows_of(&self, keys: u64) -> u64 {
        (keys * u64::from(self.0.load(Relaxed)) / YIELD_UNIT).max(1)
    }

    /// So many keys had so many rows, or (unless these are `all`) more.
    pub(super) fn learn(&self, keys: u64, rows: u64, all: bool) {
        let known = u64::from(self.0.load(Relaxed));
        let seen = rows.saturating_mul(YIELD_UNIT).checked_div(keys);
        if let Some(seen) = seen.filter(|seen| all || *seen > known) {
            let next = (known + seen.min(u32::MAX.into())).div_ceil(2);
            self.0.store(u32::try_from(next).unwrap_or(u32::MAX), Relaxed);
        }
    }
}

/// Keyspace (where the text does not say) and text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) version: Version,
    pub(super) keyspace: Option<Arc<str>>,
    pub(super) text: Arc<[u8]>,
}

/// Clients that may wait for one PREPARE; further ones send their own (`super::Bound::JoinedPrepares`).
pub(super) const JOINED_MAX: usize = 1_024;

/// Ways to ask for one statement that are remembered: versions of the protocol, mostly.
const KEYS_MAX: usize = 8;

/// A statement by its id, and the keys its PREPAREs had.
#[derive(Debug)]
struct Kept {
    prepared: Arc<Prepared>,
    keys: Vec<Key>,
    /// A client asked for it. What only weir asked for leaves with the last statement that needs it.
    asked: bool,
    /// Shared with the statements that need it.
    needed: Arc<()>,
    /// The statement of weir's own that it needs, and what it shares with it.
    needs: Option<(Box<[u8]>, Arc<()>)>,
}

impl Kept {
    /// Nobody asked for it, and nobody needs it.
    fn is_spare(&self) -> bool {
        !self.asked && Arc::strong_count(&self.needed) == 1
    }
}

/// A PREPARE that was sent.
#[derive(Debug)]
struct UnderWay {
    leader: RequestId,
    /// Who else waits for it.
    joined: Vec<RequestId>,
    /// What [`Registry::changes`] was then.
    changes: u64,
}

/// The statements one worker knows for one cluster.
#[derive(Debug)]
pub(super) struct Registry {
    by_id: LruCache<Box<[u8]>, Kept, FxBuildHasher>,
    /// What each PREPARE was answered: the same statement is answered in other words in another version.
    by_key: FxHashMap<Key, Arc<Prepared>>,
    /// PREPAREs under way, and who else waits for them.
    under_way: FxHashMap<Key, UnderWay>,
    /// How often the schema changed.
    changes: u64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) evicted: u64,
    pub(super) repaired: u64,
    /// PREPAREs sent although the same one was under way, for want of room to wait, since somebody looked.
    pub(super) not_joined: u64,
}

impl Registry {
    pub(super) fn new(max: NonZeroUsize) -> Registry {
        Registry {
            by_id: LruCache::with_hasher(max, FxBuildHasher),
            by_key: FxHashMap::default(),
            under_way: FxHashMap::default(),
            changes: 0,
            hits: 0,
            misses: 0,
            evicted: 0,
            repaired: 0,
            not_joined: 0,
        }
    }

    /// The statement with this id.
    pub(super) fn get(&mut self, id: &[u8]) -> Option<Arc<Prepared>> {
        self.by_id.get(id).map(|kept| kept.prepared.clone())
    }

    /// The same; it does not count as use.
    pub(super) fn peek(&self, id: &[u8]) -> Option<&Arc<Prepared>> {
        self.by_id.peek(id).map(|kept| &kept.prepared)
    }

    /// What a PREPARE with this key was answered.
    pub(super) fn find(&mut self, key: &Key) -> Option<Arc<Prepared>> {
        let found = self.by_key.get(key).cloned();
        match &found {
            Some(prepared) => {
                if let Some(kept) = self.by_id.get_mut(&prepared.id) {
                    kept.asked = true;
                }
                self.hits += 1;
            }
            None => self.misses += 1,
        }
        found
    }

    /// Whether `request` may leave the asking to another one that is under way.
    pub(super) fn join(&mut self, key: &Key, request: RequestId) -> bool {
        match self.under_way.get_mut(key) {
            Some(asked) if asked.joined.len() < JOINED_MAX => {
                asked.joined.push(request);
                true
            }
            Some(_) => {
                self.not_joined += 1;
                false
            }
            None => {
                let asked = UnderWay { leader: request, joined: Vec::new(), changes: self.changes };
                self.under_way.insert(key.clone(), asked);
                false
            }
        }
    }

    /// The PREPARE that `request` sent has ended: who else waits for its outcome.
    pub(super) fn ended(&mut self, key: &Key, request: RequestId) -> Vec<RequestId> {
        if self.under_way.get(key).is_some_and(|asked| asked.leader == request) {
            return self.under_way.remove(key).map(|asked| asked.joined).unwrap_or_default();
        }
        Vec::new()
    }

    /// A node has prepared a statement for a client. What it answered is said again to others unless the schema has
    /// changed since it was asked: then the answer may be the old one.
    pub(super) fn insert(&mut self, key: Key, prepared: Arc<Prepared>) {
        self.keep(key, prepared, true);
    }

    /// A node has prepared a statement of weir's own, which the one with the id `parent` needs.
    pub(super) fn insert_list(&mut self, key: Key, list: Arc<Prepared>, parent: &[u8]) {
        let id = list.id.clone();
        self.keep(key, list, false);
        self.need(parent, &id);
    }

    fn keep(&mut self, key: Key, prepared: Arc<Prepared>, asked: bool) {
        let id = prepared.id.clone();
        let mut kept = match self.by_id.pop(&id) {
            Some(kept) => Kept { prepared: prepared.clone(), asked: kept.asked || asked, ..kept },
            None => {
                let prepared = prepared.clone();
                Kept { prepared, keys: Vec::new(), asked, needed: Arc::default(), needs: None }
            }
        };
        if self.under_way.get(&key).is_some_and(|asked| asked.changes == self.changes) {
            self.answers(&mut kept.keys, key, &prepared);
        }
        if let Some((id, gone)) = self.by_id.push(id, kept) {
            self.leaves(&id, gone);
        }
    }

    /// A statement was taken out for want of room, and what only it needed goes with it.
    fn leaves(&mut self, id: &[u8], gone: Kept) {
        self.evicted += 1;
        gone.keys.iter().for_each(|key| self.forget(key, id));
        if let Some((list, needed)) = gone.needs {
            drop(needed);
            self.let_go(&list);
        }
    }

    /// Takes out a statement of weir's own that nobody needs any more. It needs none itself.
    fn let_go(&mut self, list: &[u8]) {
        if self.by_id.peek(list).is_some_and(Kept::is_spare)
            && let Some(gone) = self.by_id.pop(list)
        {
            self.leaves(list, gone);
        }
    }

    /// The statement of weir's own with this key, for the statement that needs it, which has the id `parent`.
    pub(super) fn list(&mut self, key: &Key, parent: &[u8]) -> Option<Arc<Prepared>> {
        let list = self.by_key.get(key)?.clone();
        self.by_id.promote(&list.id);
        self.need(parent, &list.id);
        Some(list)
    }

    fn need(&mut self, parent: &[u8], list: &[u8]) {
        let Some(needed) = self.by_id.peek(list).map(|kept| kept.needed.clone()) else { return };
        let before = match self.by_id.peek_mut(parent) {
            Some(kept) => match &kept.needs {
                Some((_, before)) if Arc::ptr_eq(before, &needed) => return,
                _ => kept.needs.replace((list.into(), needed)),
            },
            None => {
                // it has left meanwhile
                drop(needed);
                return self.let_go(list);
            }
        };
        if let Some((before, needed)) = before {
            drop(needed);
            self.let_go(&before);
        }
    }

    /// How often the schema has changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    fn answers(&mut self, keys: &mut Vec<Key>, key: Key, prepared: &Arc<Prepared>) {
        let id = &prepared.id;
        keys.retain(|kept| *kept != key);
        if keys.len() >= KEYS_MAX {
            self.forget(&keys.remove(0), id);
        }
        if let Some(other) = self.by_key.insert(key.clone(), prepared.clone()).filter(|other| other.id != *id)
            && let Some(kept) = self.by_id.peek_mut(&other.id)
        {
            kept.keys.retain(|kept| *kept != key);
        }
        keys.push(key);
    }

    fn forget(&mut self, key: &Key, id: &[u8]) {
        if self.by_key.get(key).is_some_and(|prepared| *prepared.id == *id) {
            self.by_key.remove(key);
        }
    }

    /// The schema changed: what PREPAREs were answered may be out of date, so the next ones are sent on. The ids stay
    /// valid: a node that does not think so says UNPREPARED.
    pub(super) fn schema_changed(&mut self) {
        self.by_key.clear();
        self.changes += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether any PREPARE is under way.
    pub(super) fn is_asking(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Whether a request waits for another one's PREPARE.
    pub(super) fn has_joined(&self, id: RequestId) -> bool {
        self.under_way.values().any(|asked| asked.joined.contains(&id))
    }

    /// Panics when a bound is broken.
    pub(super) fn check_invariants(&self) {
        assert!(self.by_id.len() <= self.by_id.cap().get(), "statements are bounded");
        assert!(self.by_key.len() <= self.by_id.len() * KEYS_MAX, "keys are bounded");
        assert!(!self.by_id.iter().any(|(_, kept)| kept.is_spare()), "somebody needs every statement");
        for (key, prepared) in &self.by_key {
            let kept = self.by_id.peek(&prepared.id);
            assert!(
                kept.is_some_and(|kept| kept.keys.contains(key)),
                "an answer is of a statement that is known"
            );
            assert_eq!(prepared.version, key.version, "an answer is in the version it was asked in");
        }
        assert!(self.under_way.values().all(|asked| asked.joined.len() <= JOINED_MAX));
    }
}
