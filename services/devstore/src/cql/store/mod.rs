//! The embedded store on disk: rows as records under keys that sort as Cassandra's rows do.
//!
//! [`key`] and [`row`] are the layout; `apply` merges a mutation into the records; `writer` commits many at once and
//! answers when they are on disk; [`Snapshot`] is what a read sees. One redb file (docs/decisions); a table of redb per
//! table of CQL, so that dropping and emptying one is one step.

mod apply;
mod catalog;
mod head;
pub mod key;
pub mod row;
mod sweep;
mod writer;

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context as _;
use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, TableDefinition, TableError};

use super::refusal::Refusal;
pub use sweep::GRACE;
pub use writer::{Answer, Counters, Job, Work, Writer, WriterLimits, micros};

/// Keys and records.
type Records<'n> = TableDefinition<'n, &'static [u8], &'static [u8]>;

/// The name of the table of redb with the rows of a storage.
fn records_name(storage: u64) -> String {
    format!("rows:{storage}")
}

/// Something keys and records can be read from, in order.
pub trait Source {
    /// Calls `visit` with every key from `start` to before `end` (or backwards) and its record, until it answers false.
    ///
    /// # Errors
    /// Those of the storage and of `visit`.
    fn scan(&self, start: &[u8], end: &[u8], reversed: bool, visit: &mut Visit<'_>) -> Result<(), Refusal>;
}

/// Looks at a key and its record; false ends the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool, Refusal> + 'a;

/// The file.
#[derive(Clone)]
pub struct Store {
    file: Arc<File>,
}

struct File {
    path: PathBuf,
    /// Memory for pages, bytes.
    cache: usize,
    /// `None` while it is opened again.
    database: RwLock<Option<Arc<Database>>>,
}

impl Store {
    /// Opens `file`, or makes it. `cache` is the memory for pages, bytes. After a crash the file is checked first, which
    /// takes as long as reading it.
    ///
    /// # Errors
    /// When it is no such file, is open in another process, or cannot be read.
    pub fn open(file: &Path, cache: usize) -> anyhow::Result<Self> {
        let database = RwLock::new(Some(open(file, cache)?));
        Ok(Self { file: Arc::new(File { path: file.to_owned(), cache, database }) })
    }

    /// What is committed at this moment.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn snapshot(&self) -> Result<Snapshot, Refusal> {
        let database = self.database().map_err(Refusal::storage)?;
        database.begin_read().map(|read| Snapshot { read }).map_err(Refusal::storage)
    }

    /// Closes the file and opens it, at its last commit: after an error of the disk nothing else is done with it. Reads
    /// that are under way, and those until then, fail.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); the file stays closed.
    fn reopen(&self) -> anyhow::Result<()> {
        let place = || self.file.database.write().unwrap_or_else(PoisonError::into_inner);
        let closed = place().take();
        drop(closed);
        // no reader waits at the lock for a file that is checked
        let database = open(&self.file.path, self.file.cache)?;
        *place() = Some(database);
        Ok(())
    }

    fn database(&self) -> anyhow::Result<Arc<Database>> {
        let open = self.file.database.read().unwrap_or_else(PoisonError::into_inner).clone();
        open.context("the file is closed after an error of the disk; it is opened again when that is over")
    }
}

fn open(file: &Path, cache: usize) -> anyhow::Result<Arc<Database>> {
    Ok(Arc::new(Database::builder().set_cache_size(cache).create(file)?))
}

/// Everything that was committed at one moment.
pub struct Snapshot {
    read: ReadTransaction,
}

impl Snapshot {
    /// The rows of a storage.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn rows(&self, storage: u64) -> Result<Rows, Refusal> {
        let name = records_name(storage);
        match self.read.open_table(Records::new(&name)) {
            Ok(table) => Ok(Rows { table: Some(table) }),
            // nothing was written yet, or it was emptied meanwhile
            Err(TableError::TableDoesNotExist(_)) => Ok(Rows { table: None }),
            Err(error) => Err(Refusal::storage(error)),
        }
    }
}

/// The rows of one table.
pub struct Rows {
    table: Option<ReadOnlyTable<&'static [u8], &'static [u8]>>,
}

impl Source for Rows {
    fn scan(&self, start: &[u8], end: &[u8], reversed: bool, visit: &mut Visit<'_>) -> Result<(), Refusal> {
        let Some(table) = &self.table else { return Ok(()) };
        if start >= end {
            return Ok(());
        }
        let range = (Bound::Included(start), Bound::Excluded(end));
        let mut range = table.range::<&[u8]>(range).map_err(Refusal::storage)?;
        loop {
            let next = if reversed { range.next_back() } else { range.next() };
            let Some(found) = next else { return Ok(()) };
            let (key, record) = found.map_err(Refusal::storage)?;
            if !visit(key.value(), record.value())? {
                return Ok(());
            }
        }
    }
}
