//! Makes the tables: every file of `schema/`, each once, in order.

use crate::options::{Database, MigrateArgs};
use crate::store;
use anyhow::{Context as _, Result, bail};
use scylla::client::session::Session;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::value::CqlTimestamp;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The files, in order: number, name, text.
const FILES: &[(i32, &str, &str)] = &[
    (1, "0001_records", include_str!("../schema/0001_records.cql")),
    (2, "0002_edges", include_str!("../schema/0002_edges.cql")),
    (3, "0003_feeds", include_str!("../schema/0003_feeds.cql")),
    (4, "0004_seeding", include_str!("../schema/0004_seeding.cql")),
];

/// How long the nodes of a ring may take to know of a change. Weir shows a driver one node: it cannot ask whether all agree.
const AGREEMENT: Duration = Duration::from_secs(10);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// Reads in a row that must find the newest table: they go to one node after the other.
const READS: usize = 12;

const JOURNAL: &str = "CREATE TABLE IF NOT EXISTS schema_migrations \
     (id int PRIMARY KEY, name text, checksum text, applied_at timestamp)";

/// The last table of the last file.
const NEWEST: &str = "SELECT * FROM seed_progress LIMIT 1";

/// `weir-dataplane migrate`.
pub async fn run(arguments: &MigrateArgs) -> Result<()> {
    let database = arguments.check()?;
    let done = migrate(&database).await?;
    let names = if done.is_empty() { "nothing to do".to_owned() } else { done.join(", ") };
    println!("weir-dataplane: keyspace {}: {names}", database.keyspace);
    Ok(())
}

/// Makes the keyspace and what it lacks; the names of the files that were run.
pub async fn migrate(database: &Database) -> Result<Vec<&'static str>> {
    let session = store::session(database).await?;
    let keyspace = &database.keyspace;
    let copies = database.replication;
    execute(
        &session,
        &format!(
            "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = \
             {{'class': 'SimpleStrategy', 'replication_factor': {copies}}}"
        ),
    )
    .await?;
    session.use_keyspace(keyspace, false).await.context("taking the keyspace into use")?;
    execute(&session, JOURNAL).await?;
    let mut run = Vec::new();
    for (id, name, text) in FILES {
        let sum = blake3::hash(text.as_bytes()).to_hex().to_string();
        if let Some(found) = checksum(&session, *id).await? {
            if found != sum {
                bail!("schema file {name} is not the one that made the tables (checksum {found}, now {sum})");
            }
            continue;
        }
        for statement in statements(text) {
            execute(&session, &statement).await.with_context(|| format!("schema file {name}"))?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("a clock before 1970")?;
        let now = CqlTimestamp(i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
        let insert = "INSERT INTO schema_migrations (id, name, checksum, applied_at) VALUES (?, ?, ?, ?)";
        agreed(async || session.query_unpaged(insert, (id, name, &sum, now)).await)
            .await
            .context("noting a schema file")?;
        run.push(*name);
    }
    if !run.is_empty() {
        for _ in 0..READS {
            agreed(async || session.query_unpaged(NEWEST, ()).await)
                .await
                .context("reading the newest table")?;
        }
    }
    Ok(run)
}

async fn execute(session: &Session, statement: &str) -> Result<()> {
    let first = statement.lines().next().unwrap_or_default();
    agreed(async || session.query_unpaged(statement, ()).await).await.with_context(|| first.to_owned())?;
    Ok(())
}

/// A node that was not told yet: as the one that is asked it says Invalid or, half told, fails itself; as a replica it fails.
fn lags(error: &ExecutionError) -> bool {
    let ExecutionError::LastAttemptError(RequestAttemptError::DbError(kind, _)) = error else { return false };
    matches!(
        kind,
        DbError::Invalid | DbError::ServerError | DbError::ReadFailure { .. } | DbError::WriteFailure { .. }
    )
}

/// Asks again while a node answers that there is no such table or keyspace: another one was told of it.
async fn agreed<A>(ask: impl AsyncFn() -> Result<A, ExecutionError>) -> Result<A, ExecutionError> {
    let begun = Instant::now();
    loop {
        match ask().await {
            Err(error) if begun.elapsed() < AGREEMENT && lags(&error) => tokio::time::sleep(PAUSE).await,
            ended => return ended,
        }
    }
}

async fn checksum(session: &Session, id: i32) -> Result<Option<String>> {
    let select = "SELECT checksum FROM schema_migrations WHERE id = ?";
    let rows =
        agreed(async || session.query_unpaged(select, (id,)).await).await.context("reading what ran")?;
    let rows = rows.into_rows_result()?;
    Ok(rows.maybe_first_row::<(Option<String>,)>()?.and_then(|row| row.0))
}

/// The statements of a file: comments taken out, cut at `;`. No text in the files holds either.
fn statements(text: &str) -> Vec<String> {
    let plain: Vec<&str> =
        text.lines().map(|line| line.split("--").next().unwrap_or_default().trim_end()).collect();
    let plain = plain.join("\n");
    plain.split(';').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_listed_and_can_be_run_again() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/schema");
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .expect("the schema")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .filter_map(|name| name.strip_suffix(".cql").map(str::to_owned))
            .collect();
        found.sort();
        assert_eq!(FILES.iter().map(|file| file.1).collect::<Vec<_>>(), found);
        for (id, name, text) in FILES {
            assert!(name.starts_with(&format!("{id:04}_")), "{name}");
            for statement in statements(text) {
                assert!(statement.starts_with("CREATE TABLE IF NOT EXISTS "), "{statement}");
                assert!(!statement.contains("--"), "{statement}");
            }
        }
        assert_eq!(statements(FILES[0].2).len(), 6, "tables of the first file");
        let newest = statements(FILES[FILES.len() - 1].2).pop().expect("a table");
        let name = newest.split_whitespace().nth(5).expect("its name");
        assert!(NEWEST.contains(&format!("FROM {name} ")), "{name} is the last table");
    }
}
