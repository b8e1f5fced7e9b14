//! The database, through weir: prepared statements, at most so many under way at once, each with a time limit. A statement
//! whose caller leaves is dropped with it.

pub mod rows;

use crate::metrics::{Metrics, Outcome, Raised};
use crate::options::Database;
use crate::request_id::RequestId;
use anyhow::{Context as _, Result};
use rustc_hash::FxHashMap;
use scylla::client::SelfIdentity;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::response::query_result::QueryResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long connecting may take.
const CONNECTING: Duration = Duration::from_secs(10);

/// Rows from which on others have a turn before they are read.
const ROWS_AT_ONCE: usize = 50;

/// Why the database did not answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// It, or weir in front of it, has too much to do.
    #[error("the database is overloaded: {0}")]
    Overloaded(String),
    /// `--database-timeout-ms` is over, or its own limit.
    #[error("the database did not answer in time")]
    Slow,
    /// Anything else.
    #[error("the database failed: {0}")]
    Failed(String),
}

/// The session and its statements.
pub struct Store {
    session: Session,
    /// By text: as many as there are texts in this program.
    prepared: RwLock<FxHashMap<&'static str, PreparedStatement>>,
    under_way: Arc<Semaphore>,
    keys_per_query: usize,
    metrics: Arc<Metrics>,
}

/// The database as one request reads it.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    store: &'a Store,
    id: Option<RequestId>,
}

impl Reader<'_> {
    /// Keys of one IN list.
    pub fn keys_per_query(&self) -> usize {
        self.store.keys_per_query
    }

    /// The rows of a read. The statement's text bounds them: by keys, or by a LIMIT.
    pub async fn rows<R>(&self, text: &'static str, values: impl SerializeRow) -> Result<Vec<R>, StoreError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let result = self.store.run(text, values, self.id).await?;
        let rows = result.into_rows_result().map_err(|error| StoreError::Failed(error.to_string()))?;
        if rows.rows_num() >= ROWS_AT_ONCE {
            // Several statements of a large call may end together: small calls have their turn before each is read.
            tokio::task::yield_now().await;
        }
        let rows = rows.rows::<R>().map_err(|error| StoreError::Failed(error.to_string()))?;
        rows.collect::<Result<_, _>>().map_err(|error| StoreError::Failed(error.to_string()))
    }
}

/// A session without a keyspace.
pub(crate) async fn session(database: &Database) -> Result<Session> {
    let mut identity = SelfIdentity::new();
    identity.set_application_name("weir-dataplane");
    let profile = ExecutionProfile::builder()
        .consistency(database.consistency)
        .request_timeout(Some(database.timeout))
        .build();
    SessionBuilder::new()
        .known_nodes(&database.contacts)
        .custom_identity(identity)
        .connection_timeout(CONNECTING)
        .default_execution_profile_handle(profile.into_handle())
        .build()
        .await
        .with_context(|| format!("connecting to the database at {}", database.contacts.join(", ")))
}

impl Store {
    /// Connects and takes the keyspace into use.
    pub async fn connect(database: &Database, metrics: Arc<Metrics>) -> Result<Store> {
        Store::open(database, metrics, Arc::new(Semaphore::new(database.queries_max))).await
    }

    /// Connects once more: the statements of both are under the same bound.
    pub async fn connect_beside(&self, database: &Database) -> Result<Store> {
        Store::open(database, self.metrics.clone(), self.under_way.clone()).await
    }

    async fn open(database: &Database, metrics: Arc<Metrics>, under_way: Arc<Semaphore>) -> Result<Store> {
        let session = session(database).await?;
        session.use_keyspace(&database.keyspace, false).await.with_context(|| {
            format!("taking keyspace {} into use; `weir-dataplane migrate` makes it", database.keyspace)
        })?;
        Ok(Store {
            session,
            prepared: RwLock::default(),
            under_way,
            keys_per_query: database.keys_per_query,
            metrics,
        })
    }

    /// Keys of one IN list.
    pub fn keys_per_query(&self) -> usize {
        self.keys_per_query
    }

    /// Reads as a part of this request, where there is one.
    pub fn reader(&self, id: Option<RequestId>) -> Reader<'_> {
        Reader { store: self, id }
    }

    /// The rows of a read that is no part of a request: [`Reader::rows`].
    pub async fn rows<R>(&self, text: &'static str, values: impl SerializeRow) -> Result<Vec<R>, StoreError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        self.reader(None).rows(text, values).await
    }

    /// A write. It bears no id: the driver has no room for one but the timestamp, which a write means.
    pub async fn write(&self, text: &'static str, values: impl SerializeRow) -> Result<(), StoreError> {
        self.run(text, values, None).await.map(drop)
    }

    /// Dropping this ends the wait for the statement; a write may or may not have been carried out.
    async fn run(
        &self,
        text: &'static str,
        values: impl SerializeRow,
        id: Option<RequestId>,
    ) -> Result<QueryResult, StoreError> {
        // It is never closed.
        let _permit =
            self.under_way.acquire().await.map_err(|error| StoreError::Failed(error.to_string()))?;
        let _raised = Raised::new(&self.metrics.database_in_flight);
        let mut statement = self.statement(text).await?;
        if let Some(id) = id.filter(|_| text.starts_with("SELECT")) {
            statement.set_timestamp(Some(id.timestamp()));
        }
        let ended = self.session.execute_unpaged(&statement, values).await;
        let ended = ended.map_err(|error| fault(&error));
        let outcome = match &ended {
            Ok(_) => "ok",
            Err(StoreError::Slow) => "timeout",
            Err(StoreError::Overloaded(_) | StoreError::Failed(_)) => "error",
        };
        self.metrics.database.get_or_create(&Outcome { outcome }).inc();
        ended
    }

    async fn statement(&self, text: &'static str) -> Result<PreparedStatement, StoreError> {
        let known = self.prepared.read().unwrap_or_else(PoisonError::into_inner).get(text).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let prepared = self.session.prepare(text).await;
        let mut prepared = prepared.map_err(|error| StoreError::Failed(error.to_string()))?;
        // Everything but a counter's update may be sent again.
        prepared.set_is_idempotent(!(text.starts_with("UPDATE") && text.contains("_count ")));
        self.prepared.write().unwrap_or_else(PoisonError::into_inner).insert(text, prepared.clone());
        Ok(prepared)
    }
}

fn fault(error: &ExecutionError) -> StoreError {
    match error {
        ExecutionError::RequestTimeout(_) => StoreError::Slow,
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(kind, words)) => match kind {
            DbError::Overloaded | DbError::RateLimitReached { .. } => StoreError::Overloaded(words.clone()),
            DbError::ReadTimeout { .. } | DbError::WriteTimeout { .. } => StoreError::Slow,
            _ => StoreError::Failed(error.to_string()),
        },
        _ => StoreError::Failed(error.to_string()),
    }
}
