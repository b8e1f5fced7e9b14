//! What was written through this process since an answer was asked for: nothing else makes it safe to give the answer
//! of an earlier read ([`super::flight`], [`super::cache`]).
//!
//! Each write counts up a number when it is asked and again when it has ended, before its client hears of it; a read
//! remembers the numbers before it is sent. As long as they are the same, no write of this process began or ended since.
//! The numbers are shared by all workers and few: tables and partitions share them by hash, which makes an answer
//! outdated too early at times and never too late. Nothing is counted until a rule asks for it.

use super::CqlEngine;
use super::ask::message_of;
use super::method::Method;
use super::request::{Request, RequestId};
use super::rules::{About, TableName, named};
use crate::units::ClusterId;
use rustc_hash::FxBuildHasher;
use std::hash::{BuildHasher as _, Hash};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use weir_cql::request::{Request as Message, Values};

/// Numbers that tables and partitions share; a power of two. 64 KiB per process.
const NUMBERS: usize = 8_192;

/// Counts of writes, shared by the workers of a process.
#[derive(Debug)]
pub struct Writes {
    numbers: Box<[AtomicU64]>,
    /// A rule of some worker needs them.
    watched: AtomicBool,
}

impl Default for Writes {
    fn default() -> Writes {
        Writes { numbers: (0..NUMBERS).map(|_| AtomicU64::new(0)).collect(), watched: AtomicBool::new(false) }
    }
}

/// What a write changes, and what a read depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum What<'a> {
    /// Everything of a cluster.
    Cluster,
    /// Any partition of a table.
    Any(&'a TableName),
    /// All partitions of a table.
    Whole(&'a TableName),
    /// One partition of a table, by the hash of its key.
    Partition(&'a TableName, u64),
}

/// The numbers a read depends on, as they stood before it was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen([(u16, u64); 3]);

impl Writes {
    /// A rule needs the counts from now on.
    pub(super) fn watch(&self) {
        self.watched.store(true, SeqCst);
    }

    fn place(cluster: &str, what: What<'_>) -> u16 {
        (FxBuildHasher.hash_one((cluster, what)) >> 32) as u16 % NUMBERS as u16
    }

    fn count(&self, cluster: &str, what: What<'_>) {
        self.numbers[usize::from(Writes::place(cluster, what))].fetch_add(1, SeqCst);
    }

    /// A table was written: one partition, or nobody knows which.
    fn wrote(&self, cluster: &str, table: &TableName, partition: Option<u64>) {
        self.count(cluster, What::Any(table));
        match partition {
            Some(key) => self.count(cluster, What::Partition(table, key)),
            None => self.count(cluster, What::Whole(table)),
        }
    }

    /// What a read of this table, or of this partition, depends on.
    pub(super) fn seen(&self, cluster: &str, table: &TableName, partition: Option<u64>) -> Seen {
        let (wide, narrow) = match partition {
            Some(key) => (What::Whole(table), What::Partition(table, key)),
            None => (What::Any(table), What::Any(table)),
        };
        Seen([What::Cluster, wide, narrow].map(|what| {
            let place = Writes::place(cluster, what);
            (place, self.numbers[usize::from(place)].load(SeqCst))
        }))
    }

    /// Whether nothing of it was written since.
    pub(super) fn still(&self, seen: &Seen) -> bool {
        seen.0.iter().all(|(place, count)| self.numbers[usize::from(*place)].load(SeqCst) == *count)
    }
}

/// The partition that these values name, where the statement binds its whole key.
pub(super) fn partition(about: &About, values: &Values, body: &[u8]) -> Option<u64> {
    if about.key_indices.is_empty() || values.named {
        return None;
    }
    let mut hash = 0;
    for index in &about.key_indices {
        hash = FxBuildHasher.hash_one((hash, values.get(body, *index)?.of(body)?));
    }
    Some(hash)
}

impl CqlEngine {
    /// The workers of a process share what they know about writes. To be called before the first request.
    pub fn share_writes(&mut self, writes: Arc<Writes>) {
        if self.writes.watched.load(SeqCst) {
            writes.watch();
        }
        self.writes = writes;
    }

    /// A request that may write is about to be passed on, or has ended.
    pub(super) fn note_write(&self, id: RequestId) {
        if let Some(request) = self.requests.get(id) {
            self.note_write_of(request);
        }
    }

    pub(super) fn note_write_of(&self, request: &Request) {
        let writes = matches!(
            request.method,
            Method::Insert | Method::Update | Method::Delete | Method::Batch | Method::Schema | Method::Other
        );
        if !writes || !self.writes.watched.load(SeqCst) {
            return;
        }
        let cluster = self.clients[request.client.slot as usize].cluster;
        let name = &self.clusters[cluster.0 as usize].settings.name;
        if self.count_tables(name, cluster, request).is_none() {
            self.writes.count(name, What::Cluster);
        }
    }

    /// Counts for the tables a request writes; nothing where they are not known.
    fn count_tables(&self, name: &str, cluster: ClusterId, request: &Request) -> Option<()> {
        let (message, body) = message_of(request)?;
        match message {
            Message::Execute(execute) => {
                let about = &request.prepared.as_ref()?.about;
                self.count_prepared(name, about, &execute.parameters.values, body)
            }
            Message::Query(query) => {
                let keyspace = query.parameters.keyspace.map(|span| span.of(body));
                self.count_text(name, query.text.of(body), keyspace)
            }
            Message::Batch(batch) => {
                let keyspace = batch.keyspace.map(|span| span.of(body));
                for part in batch.statements(body) {
                    let source = part.source.of(body);
                    if part.prepared {
                        let of = self.clusters[cluster.0 as usize].of;
                        let prepared = self.clusters[of.0 as usize].registry.peek(source)?;
                        self.count_prepared(name, &prepared.about, &part.values, body)?;
                    } else {
                        self.count_text(name, source, keyspace)?;
                    }
                }
                Some(())
            }
            _ => None,
        }
    }

    fn count_prepared(&self, name: &str, about: &About, values: &Values, body: &[u8]) -> Option<()> {
        if let [table] = &*about.tables {
            self.writes.wrote(name, table, partition(about, values, body));
            return Some(());
        }
        self.count_whole(name, &about.tables)
    }

    fn count_text(&self, name: &str, text: &[u8], keyspace: Option<&[u8]>) -> Option<()> {
        let known = self.statements.peek(text);
        self.count_whole(name, &named(&known, text, keyspace))
    }

    fn count_whole(&self, name: &str, tables: &[TableName]) -> Option<()> {
        tables.iter().for_each(|table| self.writes.wrote(name, table, None));
        (!tables.is_empty()).then_some(())
    }

    /// A node told that the schema changed, or may have told nobody.
    pub(super) fn note_schema(&self, cluster: ClusterId) {
        self.writes.count(&self.clusters[cluster.0 as usize].settings.name, What::Cluster);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> TableName {
        TableName { keyspace: (*b"shop").into(), table: name.as_bytes().into() }
    }

    #[test]
    fn a_read_is_outdated_by_what_it_depends_on() {
        let writes = Writes::default();
        let (carts, orders) = (table("carts"), table("orders"));
        let seen = || {
            [
                writes.seen("main", &carts, Some(1)),
                writes.seen("main", &carts, Some(2)),
                writes.seen("main", &carts, None),
                writes.seen("main", &orders, None),
                writes.seen("other", &carts, None),
            ]
        };
        let still = |seen: &[Seen; 5]| seen.map(|seen| writes.still(&seen));
        let before = seen();
        assert_eq!(still(&before), [true; 5]);
        writes.wrote("main", &carts, Some(1));
        assert_eq!(still(&before), [false, true, false, true, true]);
        let before = seen();
        writes.wrote("main", &carts, None);
        assert_eq!(still(&before), [false, false, false, true, true]);
        let before = seen();
        writes.count("main", What::Cluster);
        assert_eq!(still(&before), [false, false, false, false, true]);
    }
}
