//! Writes: a record becomes the rows of every table that tells of it, counts, and entries of the cache to forget. The
//! indexer and the tests write by [`Writer`]; seeding takes the same rows.
//!
//! The order is rows, counts, cache: a reader who comes after the call has ended finds what was written. Counts are counters
//! of CQL: two writers of one record at once may count it twice.

pub mod effects;
pub mod rows;

use crate::read::Reads;
use crate::read::edges::{EdgeKind, block_pair};
use crate::read::kinds::{Actors, Handles, LabelsOf, Records, SeenBy};
use crate::read::{Failure, Kind as _};
use crate::store::StoreError;
use crate::store::rows::{RECORD, RecordRow};
use effects::{Effects, Incoming};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rows::Row;
use scylla::value::CqlTimestamp;
use std::sync::Arc;

/// Rows of one write under way at once.
const ROWS_AT_ONCE: usize = 8;

/// Changes records and ends what the cache has of them.
#[derive(Clone)]
pub struct Writer {
    reads: Arc<Reads>,
}

/// An account as it is written.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// The DID.
    pub did: String,
    /// The handle, which is found by itself as well.
    pub handle: String,
    /// JSON of the account's keys.
    pub keys: Vec<u8>,
    /// Newest revision of the repository.
    pub rev: String,
}

impl Writer {
    /// Beside these reads, whose cache it tells.
    pub fn new(reads: Arc<Reads>) -> Writer {
        Writer { reads }
    }

    /// Stores a record; false when one with this address was there, which is replaced and not counted again.
    pub async fn put_record(&self, record: &Incoming) -> Result<bool, Failure> {
        let effects = Effects::of(record).map_err(Failure::Invalid)?;
        let before = self.record(&record.uri).await?;
        self.run(&effects.rows, true).await?;
        if before.is_none() {
            self.count(&effects, 1).await?;
        }
        self.forget(effects.stale).await;
        Ok(before.is_none())
    }

    /// Takes a record away; false when there was none.
    pub async fn delete_record(&self, uri: &str) -> Result<bool, Failure> {
        let Some(row) = self.record(uri).await? else { return Ok(false) };
        let incoming = Incoming {
            uri: row.uri,
            cid: row.cid.unwrap_or_default(),
            json: row.record.unwrap_or_default(),
            indexed_at: row.indexed_at.map_or(0, |at| at.0),
        };
        let effects = Effects::of(&incoming).map_err(Failure::Invalid)?;
        self.run(&effects.rows, false).await?;
        self.count(&effects, -1).await?;
        self.forget(effects.stale).await;
        Ok(true)
    }

    /// Stores an account and its handle.
    pub async fn put_account(&self, account: &Account) -> Result<(), Failure> {
        self.run(&[Row::Account(account.clone()), Row::Handle(account.clone())], true).await?;
        self.forget(vec![Actors.cache_key(&account.did), Handles.cache_key(&account.handle)]).await;
        Ok(())
    }

    /// Stores what is no record: mutes, mutes of threads, bookmarks and subscriptions (to posts).
    pub async fn put_edge(&self, kind: EdgeKind, actor: &str, subject: &str, at: i64) -> Result<(), Failure> {
        let row = Row::Edge { kind, actor: actor.into(), subject: subject.into(), uri: String::new(), at };
        self.run(&[row], true).await?;
        self.forget(vec![kind.cache_key(actor, subject)]).await;
        Ok(())
    }

    /// Takes such an edge away.
    pub async fn delete_edge(&self, kind: EdgeKind, actor: &str, subject: &str) -> Result<(), Failure> {
        let row = Row::Edge { kind, actor: actor.into(), subject: subject.into(), uri: String::new(), at: 0 };
        self.run(&[row], false).await?;
        self.forget(vec![kind.cache_key(actor, subject)]).await;
        Ok(())
    }

    /// Stores a label of a subject.
    pub async fn put_label(
        &self,
        subject: &str,
        issuer: &str,
        value: &str,
        json: &[u8],
    ) -> Result<(), Failure> {
        let insert = "INSERT INTO label_by_subject (subject, issuer, value, label) VALUES (?, ?, ?, ?)";
        self.reads.store.write(insert, (subject, issuer, value, json)).await?;
        self.forget(vec![LabelsOf.cache_key(subject)]).await;
        Ok(())
    }

    /// Notes when an account saw its notifications (milliseconds since 1970).
    pub async fn put_seen(&self, did: &str, at: i64, priority_at: Option<i64>) -> Result<(), Failure> {
        let insert = "INSERT INTO notification_seen (did, seen_at, priority_seen_at) VALUES (?, ?, ?)";
        self.reads.store.write(insert, (did, CqlTimestamp(at), priority_at.map(CqlTimestamp))).await?;
        self.forget(vec![SeenBy.cache_key(did)]).await;
        Ok(())
    }

    async fn record(&self, uri: &str) -> Result<Option<RecordRow>, StoreError> {
        Ok(self.reads.store.rows::<RecordRow>(RECORD, (uri,)).await?.into_iter().next())
    }

    async fn run(&self, rows: &[Row], put: bool) -> Result<(), StoreError> {
        let store = &self.reads.store;
        let mut writes = Vec::new();
        for row in rows {
            writes.push(async move { if put { row.put(store).await } else { row.delete(store).await } });
        }
        stream::iter(writes).buffer_unordered(ROWS_AT_ONCE).try_collect::<()>().await
    }

    async fn count(&self, effects: &Effects, sign: i64) -> Result<(), StoreError> {
        for (counted, key) in &effects.counts {
            counted.add(&self.reads.store, key, sign).await?;
        }
        Ok(())
    }

    /// An error is counted with the cache's commands, and leaves the entries to their TTL.
    async fn forget(&self, keys: Vec<String>) {
        let _ = self.reads.forget(keys).await;
    }
}

/// What the cache calls a record, for those who look at it.
pub fn record_key(uri: &str) -> String {
    Records.cache_key(uri)
}

/// The name of the row that a block is.
pub(crate) fn block_name(actor: &str, subject: &str) -> String {
    block_pair(actor, subject)
}
