//! Seeding: a world of any size in bounded memory. An account is made at a time, its threads one after the other; what is
//! held is a thread per account under way. What was done is noted in the database, and a run that was ended goes on from
//! there; the last few accounts are written again, which changes nothing: rows are the same, counters are set to what they
//! must be by adding what is missing.

pub mod draw;
pub mod list;
pub mod people;

mod counting;

use crate::metrics::Metrics;
use crate::migrate;
use crate::options::{Database, SeedArgs};
use crate::store::{Store, StoreError};
use crate::write::effects::{Effects, Incoming};
use crate::write::rows::Row;
use anyhow::{Context as _, Result};
use draw::Shape;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Accounts under way at once; their statements share `--database-queries-max`.
const ACCOUNTS_AT_ONCE: u64 = 16;
/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// A part of the work, each for every account.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Accounts,
    Follows,
    Threads,
    Counts,
}

impl Stage {
    const ALL: [Stage; 4] = [Stage::Accounts, Stage::Follows, Stage::Threads, Stage::Counts];

    fn name(self) -> &'static str {
        match self {
            Stage::Accounts => "accounts",
            Stage::Follows => "follows",
            Stage::Threads => "threads",
            Stage::Counts => "counts",
        }
    }
}

/// `weir-dataplane seed`.
pub async fn run(arguments: &SeedArgs) -> Result<()> {
    let (database, shape) = arguments.check()?;
    migrate::migrate(&database).await?;
    seed(&database, shape).await
}

/// Makes the world, or what is left of it to make. The tables exist.
pub async fn seed(database: &Database, shape: Shape) -> Result<()> {
    let store = Store::connect(database, Arc::new(Metrics::default())).await?;
    let seeding = Seeding { store, shape, rows: AtomicU64::new(0) };
    let begun = Instant::now();
    for stage in Stage::ALL {
        seeding.stage(stage).await.with_context(|| format!("seeding {}", stage.name()))?;
    }
    let rows = seeding.rows.load(Ordering::Relaxed);
    println!(
        "weir-dataplane: world {} is complete: {rows} rows in {:.1} s",
        shape.name(),
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

struct Seeding {
    store: Store,
    shape: Shape,
    rows: AtomicU64,
}

impl Seeding {
    async fn stage(&self, stage: Stage) -> Result<(), StoreError> {
        let users = self.shape.users;
        let mut done = self.done(stage).await?;
        if done > 0 {
            eprintln!("weir-dataplane: {}: goes on after {done} of {users} accounts", stage.name());
        }
        let (begun, before, mut told) = (Instant::now(), self.rows.load(Ordering::Relaxed), Instant::now());
        while done < users {
            let next = (done + ACCOUNTS_AT_ONCE).min(users);
            let mut accounts = Vec::new();
            for user in done..next {
                accounts.push(self.account(stage, user));
            }
            stream::iter(accounts).buffer_unordered(ACCOUNTS_AT_ONCE as usize).try_collect::<()>().await?;
            done = next;
            self.note(stage, done).await?;
            if told.elapsed() >= TOLD_EVERY || done == users {
                told = Instant::now();
                let rows = self.rows.load(Ordering::Relaxed) - before;
                let speed = rows as f64 / begun.elapsed().as_secs_f64();
                eprintln!(
                    "weir-dataplane: {}: {done} of {users} accounts, {rows} rows, {speed:.0}/s",
                    stage.name()
                );
            }
        }
        Ok(())
    }

    async fn account(&self, stage: Stage, user: u64) -> Result<(), StoreError> {
        match stage {
            Stage::Accounts => {
                let (account, profile) = self.shape.account(user);
                self.put(vec![Row::Account(account.clone()), Row::Handle(account)]).await?;
                self.put(rows_of([&profile])?).await
            }
            Stage::Follows => {
                for follows in self.shape.follows_of(user).chunks(100) {
                    self.put(rows_of(follows)?).await?;
                }
                Ok(())
            }
            Stage::Threads => {
                for thread in 0..self.shape.threads_of(user) {
                    let posts = self.shape.thread(user, thread);
                    for post in &posts {
                        self.put(rows_of([&post.record])?).await?;
                        for deeds in post.deeds.chunks(100) {
                            self.put(rows_of(deeds)?).await?;
                        }
                    }
                    counting::posts(&self.store, &posts).await?;
                }
                Ok(())
            }
            Stage::Counts => counting::account(&self.store, &self.shape.did(user)).await,
        }
    }

    /// At most a hundred records' rows.
    async fn put(&self, rows: Vec<Row>) -> Result<(), StoreError> {
        self.rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
        let mut writes = Vec::new();
        for row in &rows {
            writes.push(row.put(&self.store));
        }
        stream::iter(writes).buffer_unordered(self.store.keys_per_query()).try_collect::<()>().await
    }

    async fn done(&self, stage: Stage) -> Result<u64, StoreError> {
        let select = "SELECT done FROM seed_progress WHERE world = ? AND stage = ?";
        let rows = self.store.rows::<(Option<i64>,)>(select, (self.shape.name(), stage.name())).await?;
        let done = rows.first().and_then(|row| row.0).and_then(|done| u64::try_from(done).ok());
        Ok(done.unwrap_or_default().min(self.shape.users))
    }

    async fn note(&self, stage: Stage, done: u64) -> Result<(), StoreError> {
        let insert = "INSERT INTO seed_progress (world, stage, done) VALUES (?, ?, ?)";
        let done = i64::try_from(done).unwrap_or(i64::MAX);
        self.store.write(insert, (self.shape.name(), stage.name(), done)).await
    }
}

fn rows_of<'a>(records: impl IntoIterator<Item = &'a Incoming>) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    for record in records {
        rows.extend(Effects::of(record).map_err(StoreError::Failed)?.rows);
    }
    Ok(rows)
}
