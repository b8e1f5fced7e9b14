//! The Rust driver against the store, as the data plane uses it.

mod support;

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::response::PagingState;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::unprepared::Statement;
use support::{Devstore, Folder};

async fn connect(store: &Devstore) -> Session {
    SessionBuilder::new().known_node_addr(store.address).build().await.expect("a session")
}

#[tokio::test]
async fn a_table_is_made_written_and_read() {
    let folder = Folder::new();
    let store = Devstore::start(&folder.0);
    assert!(store.banner.contains("embedded development store"), "{}", store.banner);
    let session = connect(&store).await;
    for text in [
        "CREATE KEYSPACE IF NOT EXISTS k WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 1}",
        "CREATE TABLE IF NOT EXISTS k.posts (uri text PRIMARY KEY, record blob, tags set<text>, likes int)",
    ] {
        session.query_unpaged(text, ()).await.expect(text);
    }
    session.use_keyspace("k", false).await.expect("used");
    let insert = session
        .prepare("INSERT INTO posts (uri, record, tags, likes) VALUES (?, ?, ?, ?)")
        .await
        .expect("prepared");
    for nth in 0..10_i32 {
        let tags = vec!["b".to_owned(), "a".to_owned()];
        session
            .execute_unpaged(&insert, (format!("at://{nth}"), vec![1_u8, 2], tags, nth))
            .await
            .expect("written");
    }
    let read =
        session.prepare("SELECT uri, record, tags, likes FROM posts WHERE uri IN ?").await.expect("prepared");
    let keys: Vec<String> = (0..20).rev().map(|nth| format!("at://{nth}")).collect();
    let rows = session.execute_unpaged(&read, (keys,)).await.expect("read").into_rows_result().expect("rows");
    let found: Vec<(String, Vec<u8>, Vec<String>, i32)> =
        rows.rows().expect("typed").collect::<Result<_, _>>().expect("typed");
    let want: Vec<_> =
        (0..10).map(|nth| (format!("at://{nth}"), vec![1, 2], vec!["a".into(), "b".into()], nth)).collect();
    assert_eq!(found, want);
}

#[tokio::test]
async fn pages_counters_batches_and_conditions() {
    let folder = Folder::new();
    let store = Devstore::start(&folder.0);
    let session = connect(&store).await;
    for text in [
        "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        "CREATE TABLE k.feed (author text, place text, uri text, PRIMARY KEY (author, place)) WITH CLUSTERING ORDER BY (place DESC)",
        "CREATE TABLE k.counts (uri text PRIMARY KEY, likes counter)",
    ] {
        session.query_unpaged(text, ()).await.expect(text);
    }
    let insert =
        session.prepare("INSERT INTO k.feed (author, place, uri) VALUES (?, ?, ?)").await.expect("prepared");
    let mut batch = Batch::new(BatchType::Unlogged);
    let mut values = Vec::new();
    for nth in 0..95 {
        batch.append_statement(insert.clone());
        values.push(("a", format!("{nth:04}"), format!("u{nth}")));
    }
    session.batch(&batch, values).await.expect("a batch");

    let mut read =
        session.prepare("SELECT place FROM k.feed WHERE author = ? AND place < ?").await.expect("prepared");
    read.set_page_size(10);
    let (mut state, mut found) = (PagingState::start(), Vec::new());
    loop {
        let (page, next) = session.execute_single_page(&read, ("a", "0090"), state).await.expect("a page");
        let rows = page.into_rows_result().expect("rows");
        found.extend(rows.rows::<(String,)>().expect("typed").map(|row| row.expect("typed").0));
        match next.into_paging_control_flow() {
            std::ops::ControlFlow::Break(()) => break,
            std::ops::ControlFlow::Continue(more) => state = more,
        }
    }
    let want: Vec<String> = (0..90).rev().map(|nth| format!("{nth:04}")).collect();
    assert_eq!(found, want);

    let add = session.prepare("UPDATE k.counts SET likes = likes + ? WHERE uri = ?").await.expect("prepared");
    for by in [5_i64, -2] {
        session.execute_unpaged(&add, (scylla::value::Counter(by), "u")).await.expect("counted");
    }
    let rows = session.query_unpaged("SELECT likes FROM k.counts WHERE uri = 'u'", ()).await.expect("read");
    let rows = rows.into_rows_result().expect("rows");
    assert_eq!(rows.single_row::<(scylla::value::Counter,)>().expect("one").0.0, 3);

    let once = "INSERT INTO k.feed (author, place, uri) VALUES ('b', 'x', ?) IF NOT EXISTS";
    let mut applied = Vec::new();
    for uri in ["first", "second"] {
        let rows =
            session.query_unpaged(once, (uri,)).await.expect("asked").into_rows_result().expect("rows");
        let columns = rows.column_specs().len();
        match columns {
            1 => applied.push((rows.single_row::<(bool,)>().expect("one").0, String::new())),
            _ => {
                let (done, _, _, uri) = rows.single_row::<(bool, String, String, String)>().expect("one");
                applied.push((done, uri));
            }
        }
    }
    assert_eq!(applied, [(true, String::new()), (false, "first".to_owned())]);
    let refused = session.query_unpaged(Statement::new("SELECT * FROM k.feed WHERE uri = 'x'"), ()).await;
    assert!(refused.expect_err("refused").to_string().contains("filter"));
}
