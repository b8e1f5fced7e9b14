//! Makes the tables: every file of `schema/`, each once, in order.

use crate::options::{Database, MigrateArgs};
use crate::store;
use anyhow::{Context as _, Result, bail};
use scylla::client::session::Session;
use scylla::value::CqlTimestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// The files, in order: number, name, text.
const FILES: &[(i32, &str, &str)] = &[
    (1, "0001_records", include_str!("../schema/0001_records.cql")),
    (2, "0002_edges", include_str!("../schema/0002_edges.cql")),
    (3, "0003_feeds", include_str!("../schema/0003_feeds.cql")),
    (4, "0004_seeding", include_str!("../schema/0004_seeding.cql")),
];

const JOURNAL: &str = "CREATE TABLE IF NOT EXISTS schema_migrations \
     (id int PRIMARY KEY, name text, checksum text, applied_at timestamp)";

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
        session.query_unpaged(insert, (id, name, sum, now)).await.context("noting a schema file")?;
        run.push(*name);
    }
    Ok(run)
}

async fn execute(session: &Session, statement: &str) -> Result<()> {
    let first = statement.lines().next().unwrap_or_default();
    session.query_unpaged(statement, ()).await.with_context(|| first.to_owned())?;
    Ok(())
}

async fn checksum(session: &Session, id: i32) -> Result<Option<String>> {
    let select = "SELECT checksum FROM schema_migrations WHERE id = ?";
    let rows = session.query_unpaged(select, (id,)).await.context("reading what ran")?.into_rows_result()?;
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
    }
}
