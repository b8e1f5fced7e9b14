//! What callers ask for, statement by statement: the pairs of caller and statement with the most work and those with the
//! most time at the backend. Which statement it was is worked out once per text; a request only brings it along.
//!
//! Two lists of [`STATEMENT_COUNTERS`] counters (Space-Saving, as for callers) per generation: one weighted by what a
//! request is charged (the most of operations, rows and 16 KiB of answer), one by time at the backend. Every pair with
//! more than 1 / [`STATEMENT_COUNTERS`] of either is in the list. Sums are kept over all pairs, so what is not listed is
//! known as a rest.

use super::entry::{Entry, Method, Outcome};
use super::heavy_hitters::SpaceSaving;
use super::tally::{Buckets, OPERATION_BOUNDS, OPERATION_BUCKETS};
use crate::units::{Bytes, Instant, ListenerId};
use rustc_hash::FxBuildHasher;
use std::hash::BuildHasher as _;
use std::sync::Arc;

/// Pairs of caller and statement per list.
pub const STATEMENT_COUNTERS: usize = 128;
/// Longest text of a statement that is kept for being shown, bytes; what is longer is cut and ends in `...`.
pub const STATEMENT_TEXT_MAX: usize = 512;

/// The form of a statement: its text without its values.
#[derive(Debug, PartialEq, Eq)]
pub struct Form {
    text: Box<str>,
    table: Box<str>,
    hash: u64,
}

impl Form {
    /// `text` without values, of which `hash` tells forms apart; `table` as the text names it, empty where it names
    /// none. `complete`: the text is the whole statement.
    #[must_use]
    pub fn new(text: &str, hash: u64, table: &str, complete: bool) -> Form {
        Form { text: shown(text, complete), table: shown(table, true), hash }
    }

    /// What tells it from others.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

fn shown(text: &str, complete: bool) -> Box<str> {
    if complete && text.len() <= STATEMENT_TEXT_MAX {
        return text.into();
    }
    let cut = text.floor_char_boundary(STATEMENT_TEXT_MAX - 3);
    format!("{}...", &text[..cut]).into()
}

/// A statement as it was asked: its form, and the keyspace where the text does not say.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Shared by all requests with this text.
    pub form: Arc<Form>,
    /// The keyspace of its table, where the text names none.
    pub keyspace: Option<Arc<str>>,
}

impl Statement {
    /// The text without its values, at most [`STATEMENT_TEXT_MAX`] bytes.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.form.text
    }

    /// `keyspace.table`, as far as it is known; empty where there is none.
    #[must_use]
    pub fn table(&self) -> String {
        match &self.keyspace {
            Some(keyspace) if !self.form.table.is_empty() => format!("{keyspace}.{}", self.form.table),
            _ => self.form.table.to_string(),
        }
    }
}

impl PartialEq for Statement {
    fn eq(&self, other: &Statement) -> bool {
        let same = Arc::ptr_eq(&self.form, &other.form) || self.form == other.form;
        same && self.keyspace == other.keyspace
    }
}

impl Eq for Statement {}

/// Sums over requests that had a statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Requests that ended.
    pub requests: u64,
    /// Of those, the ones that did not end well.
    pub failed: u64,
    /// Operations asked.
    pub operations: u64,
    /// Rows that came back.
    pub rows: u64,
    /// Bytes of requests.
    pub bytes_in: u64,
    /// Bytes of answers.
    pub bytes_out: u64,
    /// Time at the backend, microseconds.
    pub backend_us: u64,
    /// What they were charged: the most of operations, rows and 16 KiB of answer, each request for itself.
    pub work: u64,
}

impl Sums {
    pub(crate) fn record(&mut self, entry: &Entry) {
        self.merge(&Sums {
            requests: 1,
            failed: u64::from(entry.outcome != Outcome::Ok),
            operations: entry.operations,
            rows: entry.hits,
            bytes_in: entry.bytes_in,
            bytes_out: entry.bytes_out,
            backend_us: entry.backend_time.0,
            work: work_of(entry),
        });
    }

    /// Adds others.
    pub fn merge(&mut self, other: &Sums) {
        self.each(other, u64::saturating_add);
    }

    /// What is left without a part of them.
    #[must_use]
    pub fn without(mut self, part: &Sums) -> Sums {
        self.each(part, u64::saturating_sub);
        self
    }

    fn each(&mut self, other: &Sums, change: fn(u64, u64) -> u64) {
        self.requests = change(self.requests, other.requests);
        self.failed = change(self.failed, other.failed);
        self.operations = change(self.operations, other.operations);
        self.rows = change(self.rows, other.rows);
        self.bytes_in = change(self.bytes_in, other.bytes_in);
        self.bytes_out = change(self.bytes_out, other.bytes_out);
        self.backend_us = change(self.backend_us, other.backend_us);
        self.work = change(self.work, other.work);
    }
}

fn work_of(entry: &Entry) -> u64 {
    entry.operations.max(entry.hits).max(Bytes(entry.bytes_out).as_operations().0)
}

/// Requests and operations of one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Second {
    epoch: u64,
    requests: u64,
    operations: u64,
}

impl Second {
    fn add(&mut self, other: &Second) {
        self.requests += other.requests;
        self.operations += other.operations;
    }
}

/// What one caller did with one statement since the pair is in the list.
#[derive(Clone, Debug, Default)]
pub struct StatementTally {
    /// Sums.
    pub sums: Sums,
    /// Operations of the largest request.
    pub largest: u64,
    /// Requests by operations asked ([`OPERATION_BOUNDS`]).
    pub sizes: Buckets<OPERATION_BUCKETS>,
    /// The second that runs, and the one before.
    seconds: [Second; 2],
}

impl StatementTally {
    pub(crate) fn record(&mut self, entry: &Entry) {
        self.sums.record(entry);
        self.largest = self.largest.max(entry.operations);
        self.sizes.add(&OPERATION_BOUNDS, entry.operations);
        self.at(entry.at.0 / 1_000_000).add(&Second { epoch: 0, requests: 1, operations: entry.operations });
    }

    fn at(&mut self, epoch: u64) -> &mut Second {
        let second = &mut self.seconds[(epoch % 2) as usize];
        if second.epoch < epoch {
            *second = Second { epoch, ..Second::default() };
        }
        second
    }

    /// Adds another one.
    pub fn merge(&mut self, other: &StatementTally) {
        self.sums.merge(&other.sums);
        self.largest = self.largest.max(other.largest);
        self.sizes.merge(&other.sizes);
        for second in &other.seconds {
            if second.epoch >= self.seconds[(second.epoch % 2) as usize].epoch {
                self.at(second.epoch).add(second);
            }
        }
    }

    /// Requests and operations of the last whole second.
    #[must_use]
    pub fn last_second(&self, now: Instant) -> (u64, u64) {
        let last = (now.0 / 1_000_000).saturating_sub(1);
        let second = &self.seconds[(last % 2) as usize];
        if second.epoch == last { (second.requests, second.operations) } else { (0, 0) }
    }

    /// Operations that half of the requests stay within, as the upper bound of a bucket of the histogram; 0 without a
    /// request.
    #[must_use]
    pub fn median(&self) -> u64 {
        let half = self.sizes.count().div_ceil(2);
        let mut seen = 0;
        let middle = self.sizes.iter().find(|(_, count)| {
            seen += count;
            seen >= half
        });
        middle.map_or(0, |(bucket, _)| {
            OPERATION_BOUNDS.get(bucket).copied().unwrap_or(u64::MAX).min(self.largest)
        })
    }
}

/// One caller and one of its statements.
#[derive(Clone, Debug)]
pub struct StatementRow {
    /// The caller's full name.
    pub name: Arc<str>,
    /// The door it came in by.
    pub listener: ListenerId,
    /// What was done with the statement: it was executed, prepared, or first of a batch.
    pub method: Method,
    /// The statement.
    pub statement: Statement,
    /// What was counted since the pair is in a list, up to two generations ago.
    pub tally: StatementTally,
}

#[derive(Clone, Debug)]
struct Key {
    name: Arc<str>,
    listener: ListenerId,
    method: Method,
    statement: Statement,
}

/// A key that is not yet anybody's, with its hash.
#[derive(Clone, Copy)]
struct Asked<'a> {
    name: &'a Arc<str>,
    listener: ListenerId,
    method: Method,
    statement: &'a Statement,
    hash: u64,
}

impl<'a> Asked<'a> {
    fn new(name: &'a Arc<str>, listener: ListenerId, method: Method, statement: &'a Statement) -> Asked<'a> {
        let keyspace = statement.keyspace.as_deref().unwrap_or_default();
        let hash = FxBuildHasher.hash_one((&**name, keyspace, listener.0, method.0, statement.form.hash));
        Asked { name, listener, method, statement, hash }
    }

    fn is(&self, key: &Key) -> bool {
        let name = Arc::ptr_eq(self.name, &key.name) || self.name == &key.name;
        name && self.listener == key.listener && self.method == key.method && *self.statement == key.statement
    }

    fn key(&self) -> Key {
        Key {
            name: self.name.clone(),
            listener: self.listener,
            method: self.method,
            statement: self.statement.clone(),
        }
    }
}

type List = SpaceSaving<Key, STATEMENT_COUNTERS, StatementTally>;

/// One generation.
#[derive(Debug, Default)]
struct Lists {
    by_work: List,
    by_time: List,
    all: Sums,
}

impl Lists {
    fn add(&mut self, asked: &Asked<'_>, sums: &Sums, note: impl Fn(&mut StatementTally)) {
        self.all.merge(sums);
        for (list, weight) in [(&mut self.by_work, sums.work), (&mut self.by_time, sums.backend_us)] {
            if let Some(tally) = list.add(asked.hash, weight, |key| asked.is(key), || asked.key()) {
                note(tally);
            }
        }
    }

    /// The fuller of the notes on a pair: it may have come into one list later than into the other.
    fn find(&self, asked: &Asked<'_>) -> Option<&StatementTally> {
        let work = self.by_work.get(asked.hash, |key| asked.is(key)).map(|counter| &counter.notes);
        let time = self.by_time.get(asked.hash, |key| asked.is(key)).map(|counter| &counter.notes);
        work.into_iter().chain(time).max_by_key(|tally| tally.sums.requests)
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        self.by_work.iter().chain(self.by_time.iter()).map(|counter| &counter.key)
    }
}

/// The lists of this generation and the one before.
#[derive(Debug, Default)]
pub(crate) struct StatementHitters {
    current: Lists,
    previous: Lists,
}

impl StatementHitters {
    pub(crate) fn record(
        &mut self,
        entry: &Entry,
        name: &Arc<str>,
        listener: ListenerId,
        statement: &Statement,
    ) {
        let asked = Asked::new(name, listener, entry.method, statement);
        let mut sums = Sums::default();
        sums.record(entry);
        self.current.add(&asked, &sums, |tally| tally.record(entry));
    }

    /// Adds what was counted elsewhere.
    pub(crate) fn merge(
        &mut self,
        name: &Arc<str>,
        listener: ListenerId,
        method: Method,
        statement: &Statement,
        counted: &StatementTally,
    ) {
        let asked = Asked::new(name, listener, method, statement);
        self.current.add(&asked, &counted.sums, |tally| tally.merge(counted));
    }

    /// Adds what was counted elsewhere, of statements that are not known any more.
    pub(crate) fn merge_rest(&mut self, rest: &Sums) {
        self.current.all.merge(rest);
    }

    pub(crate) fn rotate(&mut self) {
        self.previous = std::mem::take(&mut self.current);
    }

    /// Every pair in a list, and the sums over all pairs, listed or not.
    pub(crate) fn list(&self) -> (Vec<StatementRow>, Sums) {
        let mut rows: Vec<StatementRow> = Vec::new();
        let mut seen: SpaceSaving<Key, { 4 * STATEMENT_COUNTERS }> = SpaceSaving::default();
        for key in self.current.keys().chain(self.previous.keys()) {
            let asked = Asked::new(&key.name, key.listener, key.method, &key.statement);
            if seen.get(asked.hash, |known| asked.is(known)).is_some() {
                continue;
            }
            seen.add(asked.hash, 1, |known| asked.is(known), || key.clone());
            let mut tally = StatementTally::default();
            for found in [self.previous.find(&asked), self.current.find(&asked)].into_iter().flatten() {
                tally.merge(found);
            }
            let Key { name, listener, method, statement } = key.clone();
            rows.push(StatementRow { name, listener, method, statement, tally });
        }
        let mut all = self.current.all;
        all.merge(&self.previous.all);
        (rows, all)
    }
}

#[cfg(test)]
mod tests;
