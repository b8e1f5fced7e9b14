//! The one thread that writes: it takes every job that waits, merges them into one transaction, brings that to disk and
//! only then answers. So a write costs a part of one `fsync`, and what was answered is there after `kill -9`.
//!
//! A schema change is a job like any other; the catalog that readers see changes when it is on disk.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use redb::TableDefinition;
use tokio::sync::mpsc;

use super::apply::Merge;
use super::row::Row;
use super::{Records, Store, catalog, records_name};
use crate::cql::parse::ast::Ddl;
use crate::cql::plan::value::timeuuid;
use crate::cql::plan::{Guard, Mutation};
use crate::cql::refusal::Refusal;
use crate::cql::schema::Catalog;
use crate::cql::schema::change::{self, Told};

/// Time between an error of the disk and opening the file again, and between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// How much goes together.
#[derive(Clone, Copy, Debug)]
pub struct WriterLimits {
    /// Jobs that may wait; more wait with their clients.
    pub waiting: usize,
    /// Jobs of one transaction.
    pub together: usize,
}

impl Default for WriterLimits {
    fn default() -> Self {
        Self { waiting: 4_096, together: 2_048 }
    }
}

/// What is to be done.
#[derive(Debug)]
pub enum Work {
    /// Changes, all or none; with a condition for the one row they are about.
    Modify {
        /// The changes.
        mutations: Vec<Mutation>,
        /// `IF`
        guard: Option<Guard>,
    },
    /// A schema change; `used` is the keyspace of unqualified names.
    Schema {
        /// The statement.
        ddl: Ddl,
        /// The keyspace in use.
        used: Option<String>,
    },
}

/// What became of it.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Done.
    Done,
    /// A condition was looked at: whether it held, and the row where it did not and there is one.
    Condition(bool, Option<Box<Row>>),
    /// The schema has changed; `None`: it was so already.
    Schema(Option<Told>),
}

/// Who is told.
type Tell = Box<dyn FnOnce(Result<Answer, Refusal>) + Send>;

/// A piece of work and who waits for it.
pub struct Job {
    /// What is to be done.
    pub work: Work,
    /// Called once, when it is on disk or refused.
    pub tell: Tell,
}

/// The way to the thread, and what it shares.
#[derive(Clone)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
    catalog: Arc<RwLock<Arc<Catalog>>>,
    counters: Arc<Counters>,
}

/// What the thread has done since it was started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Transactions on disk.
    pub commits: AtomicU64,
    /// Jobs in them.
    pub jobs: AtomicU64,
    /// Transactions that the storage refused.
    pub failures: AtomicU64,
}

impl Writer {
    /// Starts the thread. It ends when the last [`Writer`] is gone.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(store: Store, catalog: Catalog, limits: WriterLimits) -> Result<Self> {
        let (jobs, waiting) = mpsc::channel(limits.waiting);
        let shared =
            Self { jobs, catalog: Arc::new(RwLock::new(Arc::new(catalog))), counters: Arc::default() };
        let mut thread = Thread {
            store,
            catalog: Arc::clone(&shared.catalog),
            counters: Arc::clone(&shared.counters),
            together: limits.together,
            tick: 0,
        };
        std::thread::Builder::new().name("cql-writer".into()).spawn(move || {
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| thread.run(waiting)));
            if ran.is_err() {
                // nobody would write any more: better no process than one that only reads
                eprintln!(
                    "weir-devstore: embedded development store: the writer has failed, the process ends"
                );
                std::process::abort();
            }
        })?;
        Ok(shared)
    }

    /// The schema at this moment.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was done.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Hands a job over; waits while too many do.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn send(&self, job: Job) -> Result<(), Refusal> {
        self.jobs.send(job).await.map_err(|_| Refusal::storage("the writer has ended"))
    }
}

struct Thread {
    store: Store,
    catalog: Arc<RwLock<Arc<Catalog>>>,
    counters: Arc<Counters>,
    together: usize,
    tick: i64,
}

impl Thread {
    fn run(&mut self, mut waiting: mpsc::Receiver<Job>) {
        let mut jobs = Vec::new();
        loop {
            match waiting.blocking_recv() {
                Some(job) => jobs.push(job),
                None => return,
            }
            while jobs.len() < self.together {
                match waiting.try_recv() {
                    Ok(job) => jobs.push(job),
                    Err(_) => break,
                }
            }
            if !self.commit(&mut jobs) {
                self.recover(&mut waiting);
            }
        }
    }

    /// The disk is full, or worse: the file is opened again, from its last commit, until that is possible. Who wants to
    /// write meanwhile is refused.
    fn recover(&self, waiting: &mut mpsc::Receiver<Job>) {
        loop {
            std::thread::sleep(PAUSE);
            let node = self.catalog.read().unwrap_or_else(PoisonError::into_inner).system.node;
            // what failed may be on disk none the less, a change of the schema as well
            let error = match self.store.reopen().and_then(|()| self.store.load(node)) {
                Ok(catalog) => {
                    *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
                    return;
                }
                Err(error) => error,
            };
            eprintln!("weir-devstore: embedded development store: cannot open its file again: {error:#}");
            while let Ok(job) = waiting.try_recv() {
                (job.tell)(Err(Refusal::storage(&error)));
            }
            if waiting.is_closed() {
                return;
            }
        }
    }

    /// One transaction; every job is answered. False: it failed.
    fn commit(&mut self, jobs: &mut Vec<Job>) -> bool {
        let before = Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner));
        let mut now = (*before).clone();
        let mut answers = Vec::with_capacity(jobs.len());
        let committed = self.transaction(jobs, &mut now, &mut answers);
        let count = |counter: &AtomicU64, by: usize| counter.fetch_add(by as u64, Ordering::Relaxed);
        match &committed {
            Ok(()) => {
                count(&self.counters.commits, 1);
                count(&self.counters.jobs, jobs.len());
                if now.generation != before.generation {
                    *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(now);
                }
            }
            Err(error) => {
                count(&self.counters.failures, 1);
                eprintln!("weir-devstore: embedded development store: a transaction failed: {error:#}");
            }
        }
        for (at, job) in jobs.drain(..).enumerate() {
            let answer = match (&committed, answers.get_mut(at)) {
                (Ok(()), Some(answer)) => std::mem::replace(answer, Ok(Answer::Done)),
                (Ok(()), None) => Err(Refusal::storage("no answer")),
                (Err(error), _) => Err(Refusal::storage(error)),
            };
            (job.tell)(answer);
        }
        committed.is_ok()
    }

    fn transaction(
        &mut self,
        jobs: &[Job],
        now: &mut Catalog,
        answers: &mut Vec<Result<Answer, Refusal>>,
    ) -> Result<()> {
        let micros = micros();
        let write = self.store.database()?.begin_write()?;
        let mut merge = Merge::new(&write, self.tick.max(micros.saturating_mul(1000)));
        for job in jobs {
            let answer = match &job.work {
                Work::Modify { mutations, guard } => {
                    modify(&mut merge, now, mutations, guard.as_ref(), (micros / 1_000_000) as u32)
                }
                Work::Schema { ddl, used } => {
                    match change::apply(now, ddl, used.as_deref(), table_id(micros)) {
                        Ok(changed) => {
                            for storage in &changed.removed {
                                merge.close(*storage);
                                let name = records_name(*storage);
                                let records: Records<'_> = TableDefinition::new(&name);
                                write.delete_table(records)?;
                            }
                            *now = changed.catalog;
                            catalog::save(&write, now, &changed.keyspaces)?;
                            Ok(Answer::Schema(changed.told))
                        }
                        Err(refusal) => Err(refusal),
                    }
                }
            };
            match &answer {
                Ok(_) => merge.keep()?,
                Err(_) => merge.abandon(),
            }
            answers.push(answer);
        }
        self.tick = merge.tick();
        merge.finish();
        write.commit()?;
        Ok(())
    }
}

fn modify(
    merge: &mut Merge<'_>,
    catalog: &Catalog,
    mutations: &[Mutation],
    guard: Option<&Guard>,
    now: u32,
) -> Result<Answer, Refusal> {
    // dropped or emptied between the request and now: an emptied table is the same table
    let storage_of = |mutation: &Mutation| {
        let table = &mutation.table;
        let found = catalog.table(&table.keyspace, &table.name).filter(|found| found.id == table.id);
        let gone = || Refusal::invalid(format!("table {} does not exist", table.name));
        found.map(|found| found.storage).ok_or_else(gone)
    };
    if let (Some(guard), Some(first)) = (guard, mutations.first()) {
        let (holds, row) = merge.holds(guard, first, storage_of(first)?, now)?;
        if !holds {
            return Ok(Answer::Condition(false, row.map(Box::new)));
        }
    }
    for mutation in mutations {
        merge.apply(mutation, storage_of(mutation)?)?;
    }
    Ok(if guard.is_some() { Answer::Condition(true, None) } else { Answer::Done })
}

fn table_id(micros: i64) -> [u8; 16] {
    timeuuid(micros).try_into().unwrap_or([0; 16])
}

/// Microseconds since 1970.
pub fn micros() -> i64 {
    // a clock before 1970 is no reason to panic
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
