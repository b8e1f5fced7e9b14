//! What all connections share: the store, the writer, the prepared statements, the clock and who listens to events.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use lru::LruCache;
use md5::{Digest, Md5};
use tokio::sync::broadcast;

use super::parse;
use super::plan::{Plan, prepare};
use super::refusal::Refusal;
use super::schema::change::Told;
use super::schema::system::Node;
use super::store::{Store, Writer, WriterLimits, micros};

/// The bounds of the store.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Memory for pages of the file, bytes.
    pub cache: usize,
    /// Prepared statements; the least recently used go.
    pub prepared: usize,
    /// Schema changes that a connection may be late by; the oldest are not told then.
    pub events: usize,
    /// What the writer takes together.
    pub writer: WriterLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self { cache: 64 << 20, prepared: 2_000, events: 1_024, writer: WriterLimits::default() }
    }
}

/// The name of the file in the folder that is given.
pub const FILE: &str = "cql.redb";

/// Longest text that is prepared, bytes: [`Limits::prepared`] of them are kept.
pub const PREPARED_TEXT_MAX: usize = 64 << 10;

/// A statement that was prepared: its text and what it was prepared in.
struct Prepared {
    text: Vec<u8>,
    keyspace: Option<String>,
    plan: Arc<Plan>,
}

/// What all connections share.
pub struct Engine {
    /// The file.
    pub store: Store,
    /// The way to write.
    pub writer: Writer,
    prepared: Mutex<LruCache<[u8; 16], Prepared>>,
    /// Schema changes.
    pub events: broadcast::Sender<Told>,
    last_micros: AtomicI64,
}

impl Engine {
    /// Opens the store in `folder`, which is made where it is not there.
    ///
    /// # Errors
    /// When the folder or the file cannot be used; another process that has it open is told.
    pub fn open(folder: &Path, address: SocketAddr, limits: Limits) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let file = folder.join(FILE);
        let store =
            Store::open(&file, limits.cache).with_context(|| format!("cannot open {}", file.display()))?;
        let catalog = store
            .load(Node { host_id: [0; 16], address })
            .with_context(|| format!("cannot read {}", file.display()))?;
        let seconds = u32::try_from(micros() / 1_000_000).unwrap_or(0);
        store.sweep(&catalog, seconds).with_context(|| format!("cannot sweep {}", file.display()))?;
        let writer = Writer::start(store.clone(), catalog, limits.writer)?;
        let most = NonZeroUsize::new(limits.prepared).unwrap_or(NonZeroUsize::MIN);
        Ok(Self {
            store,
            writer,
            prepared: Mutex::new(LruCache::new(most)),
            events: broadcast::channel(limits.events.max(1)).0,
            last_micros: AtomicI64::new(0),
        })
    }

    /// Microseconds since 1970; later than every one before.
    pub fn micros(&self) -> i64 {
        let now = micros();
        let next = |last: i64| Some(now.max(last.saturating_add(1)));
        let last = self.last_micros.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or(0);
        now.max(last.saturating_add(1))
    }

    /// A statement that is run once.
    ///
    /// # Errors
    /// Those of the text and of the schema.
    pub fn plan(&self, text: &[u8], keyspace: Option<&str>) -> Result<Plan, Refusal> {
        prepare(parse::statement(text)?, &self.writer.catalog(), keyspace)
    }

    /// Prepares a statement; its id is that of its keyspace and text, as in Cassandra.
    ///
    /// # Errors
    /// Those of the text and of the schema.
    pub fn prepare(&self, text: &[u8], keyspace: Option<&str>) -> Result<([u8; 16], Arc<Plan>), Refusal> {
        if text.len() > PREPARED_TEXT_MAX {
            return Err(Refusal::unsupported(format!(
                "preparing a statement of more than {PREPARED_TEXT_MAX} bytes"
            )));
        }
        let id = Md5::new()
            .chain_update(keyspace.unwrap_or_default())
            .chain_update([0])
            .chain_update(text)
            .finalize();
        let id: [u8; 16] = id.into();
        let plan = Arc::new(self.plan(text, keyspace)?);
        let prepared =
            Prepared { text: text.to_vec(), keyspace: keyspace.map(str::to_owned), plan: Arc::clone(&plan) };
        self.lock().put(id, prepared);
        Ok((id, plan))
    }

    /// The statement with this id, made anew if the schema has changed.
    ///
    /// # Errors
    /// Unprepared when there is none, or when it does not fit the schema any more: the driver prepares it again and is
    /// told why.
    pub fn prepared(&self, id: &[u8]) -> Result<Arc<Plan>, Refusal> {
        let unknown = || Refusal::unprepared(id);
        let key: [u8; 16] = id.try_into().map_err(|_| unknown())?;
        let catalog = self.writer.catalog();
        let (text, keyspace) = match self.lock().get(&key) {
            None => return Err(unknown()),
            Some(found) if found.plan.generation == catalog.generation => return Ok(Arc::clone(&found.plan)),
            Some(found) => (found.text.clone(), found.keyspace.clone()),
        };
        self.prepare(&text, keyspace.as_deref()).map(|(_, plan)| plan).map_err(|_| {
            self.lock().pop(&key);
            unknown()
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<[u8; 16], Prepared>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
