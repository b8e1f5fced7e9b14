//! What the Rust driver makes of errors: asks for keys, odd ones with a statement called idempotent.

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{ExecutionError, RequestAttemptError};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

/// A line for each key, like those that the programs of other drivers print.
pub fn ask(at: SocketAddr, keys: usize) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(asked(at, keys))
}

async fn asked(at: SocketAddr, keys: usize) -> String {
    let session: Session = SessionBuilder::new().known_node_addr(at).build().await.expect("a session");
    let known = session.get_cluster_state().get_nodes_info().len();
    assert_eq!(known, 2, "hosts");
    let run = async |text: &str| session.query_unpaged(text, ()).await.map(drop).expect("carried out");
    run("CREATE KEYSPACE IF NOT EXISTS errors WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
        .await;
    run("CREATE TABLE IF NOT EXISTS errors.t (k int PRIMARY KEY, v int)").await;
    let mut read = session.prepare("SELECT v FROM errors.t WHERE k = ?").await.expect("prepared");
    let mut said = String::new();
    for key in 0..=keys {
        read.set_is_idempotent(key % 2 == 1);
        let became = match session.execute_unpaged(&read, (key as i32,)).await {
            Ok(_) => "succeeds".to_owned(),
            Err(error) => named(&error),
        };
        // the last one is asked so that closing at the end is nobody's
        if key < keys {
            let _ = writeln!(said, "key {key} {became}");
        }
        // a connection that is closed because of it is closed by then
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    said
}

/// The names of the variants, without what they hold.
fn named(error: &ExecutionError) -> String {
    let bare = |text: String| text.split(['(', ' ', '{']).next().unwrap_or_default().to_owned();
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(kind, _)) => bare(format!("{kind:?}")),
        ExecutionError::LastAttemptError(attempt) => bare(format!("{attempt:?}")),
        other => bare(format!("{other:?}")),
    }
}
