//! A service that points its driver at weir instead of the cluster: the Rust driver through a running weir against the
//! real Cassandra gets what it gets directly, and none of its connections goes past weir.

mod support;
mod support_cql;

use scylla::client::Compression;
use scylla::client::SelfIdentity;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{ExecutionError, RequestAttemptError};
use scylla::response::PagingState;
use scylla::statement::batch::{Batch, BatchType};
use std::ops::ControlFlow;
use support::{Weir, own_name, wait_for};
use support_cql::{CONTROL, SOON, before, cassandra, counted, create_keyspace, keyspace, sockets_to};
use tokio::sync::Mutex;

/// Rows written one by one.
const ROWS: i32 = 1_000;
/// Keys of a big list.
const MANY: i32 = 15_000;
/// Rows of a page.
const PAGE: i32 = 100;

/// One test at a time: the one about bypassing counts the sockets of this process.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn session(address: &str, application: Option<&'static str>) -> Session {
    let mut identity = SelfIdentity::new();
    if let Some(name) = application {
        identity.set_application_name(name);
    }
    let builder = SessionBuilder::new().known_node(address).custom_identity(identity);
    builder.build().await.unwrap_or_else(|error| panic!("a session at {address}: {error}"))
}

fn door(weir: &Weir) -> String {
    format!("127.0.0.1:{}", weir.port)
}

async fn run(session: &Session, text: &str) {
    session.query_unpaged(text, ()).await.unwrap_or_else(|error| panic!("{text}: {error}"));
}

/// The rows of `IN ?` for these keys, in the order they came.
async fn listed(session: &Session, table: &str, keys: &[i32]) -> Vec<(i32, String)> {
    let select = session.prepare(format!("SELECT k, v FROM {table} WHERE k IN ?")).await.expect("prepared");
    let rows =
        session.execute_unpaged(&select, (keys,)).await.expect("rows").into_rows_result().expect("rows");
    rows.rows::<(i32, String)>().expect("their types").map(|row| row.expect("a row")).collect()
}

/// What the server said of a statement it refused: its kind with every field, and its words.
async fn refused(session: &Session, text: &str) -> String {
    match session.query_unpaged(text, ()).await {
        Err(ExecutionError::LastAttemptError(RequestAttemptError::DbError(kind, words))) => {
            format!("{kind:?} {words}")
        }
        other => panic!("{text}: {:?}", other.map(|_| "it was carried out")),
    }
}

#[tokio::test]
async fn a_service_gets_what_it_gets_directly() {
    let Some(node) = cassandra("the Rust driver through weir") else { return };
    let _alone = ALONE.lock().await;
    let weir = before(&node);
    let (through, direct) = (session(&door(&weir), None).await, session(&node, None).await);
    let keyspace = keyspace("service");
    run(&through, &create_keyspace(&keyspace)).await;
    through.use_keyspace(&keyspace, false).await.expect("the keyspace in use");
    run(&through, "CREATE TABLE posts (k int PRIMARY KEY, v text)").await;
    let table = format!("{keyspace}.posts");

    let insert = through.prepare("INSERT INTO posts (k, v) VALUES (?, ?)").await.expect("prepared");
    for k in 0..ROWS {
        through.execute_unpaged(&insert, (k, format!("post {k}"))).await.expect("a row is written");
    }
    let keys: Vec<i32> = (0..ROWS).rev().collect();
    let rows = listed(&through, "posts", &keys).await;
    assert_eq!(rows.len(), ROWS as usize);
    assert_eq!(rows, listed(&direct, &table, &keys).await, "rows and their order");
    // most of them are not there, some are asked twice
    let many: Vec<i32> = (0..MANY).map(|n| n * 7 % 9_001).collect();
    assert_eq!(listed(&through, "posts", &many).await, listed(&direct, &table, &many).await);

    let mut select = through.prepare("SELECT k, v FROM posts WHERE k IN ?").await.expect("prepared");
    select.set_page_size(PAGE);
    let (mut state, mut pages, mut seen) = (PagingState::start(), 0, Vec::new());
    loop {
        let (page, next) = through.execute_single_page(&select, (&keys,), state).await.expect("a page");
        let page = page.into_rows_result().expect("rows");
        assert!(page.rows_num() <= PAGE as usize, "a page holds what was asked for at most");
        seen.extend(page.rows::<(i32, String)>().expect("their types").map(|row| row.expect("a row")));
        pages += 1;
        match next.into_paging_control_flow() {
            ControlFlow::Continue(next) => state = next,
            ControlFlow::Break(()) => break,
        }
        assert!(pages <= ROWS, "the pages do not end");
    }
    assert!(pages >= ROWS / PAGE, "{pages} pages");
    assert_eq!(seen, rows, "page by page");

    let mut batch = Batch::new(BatchType::Unlogged);
    let values: Vec<(i32, String)> = (0..50).map(|k| (k, format!("changed {k}"))).collect();
    values.iter().for_each(|_| batch.append_statement(insert.clone()));
    through.batch(&batch, &values).await.expect("a batch");
    assert_eq!(listed(&direct, &table, &(0..50).collect::<Vec<_>>()).await, values);

    for bad in [
        "SELEC * FROM posts".to_owned(),
        format!("SELECT * FROM {keyspace}.nowhere"),
        format!("SELECT nothing FROM {table}"),
        format!("SELECT * FROM {table} WHERE v = 'x'"),
        format!("INSERT INTO {table} (v) VALUES ('x')"),
        format!("CREATE TABLE {table} (k int PRIMARY KEY)"),
        create_keyspace(&keyspace),
        "SELECT * FROM nowhere.posts".to_owned(),
        "DROP KEYSPACE nowhere".to_owned(),
    ] {
        assert_eq!(refused(&through, &bad).await, refused(&direct, &bad).await, "{bad}");
    }
    run(&direct, &format!("DROP KEYSPACE {keyspace}")).await;
}

#[tokio::test]
async fn a_schema_change_made_elsewhere_is_seen() {
    let Some(node) = cassandra("schema changes through weir") else { return };
    let _alone = ALONE.lock().await;
    let weir = before(&node);
    let (through, direct) = (session(&door(&weir), None).await, session(&node, None).await);
    let keyspace = keyspace("elsewhere");
    run(&direct, &create_keyspace(&keyspace)).await;
    run(&direct, &format!("CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v int)")).await;
    run(&direct, &format!("INSERT INTO {keyspace}.t (k, v) VALUES (1, 2)")).await;
    let select = through.prepare(format!("SELECT * FROM {keyspace}.t WHERE k = ?")).await.expect("prepared");
    let columns = async || {
        let rows =
            through.execute_unpaged(&select, (1,)).await.expect("rows").into_rows_result().expect("rows");
        rows.column_specs().len()
    };
    assert_eq!(columns().await, 2);
    run(&direct, &format!("ALTER TABLE {keyspace}.t ADD w int")).await;
    run(&direct, &format!("INSERT INTO {keyspace}.t (k, v, w) VALUES (1, 2, 3)")).await;
    through.refresh_metadata().await.expect("metadata");
    let state = through.get_cluster_state();
    let table = &state.get_keyspace(&keyspace).expect("the keyspace").tables["t"];
    assert!(table.columns.contains_key("w"), "{:?}", table.columns.keys());
    let rows =
        through.query_unpaged(format!("SELECT w FROM {keyspace}.t WHERE k = 1"), ()).await.expect("rows");
    assert_eq!(rows.into_rows_result().expect("rows").single_row::<(i32,)>().expect("a row"), (3,));
    run(&direct, &format!("DROP TABLE {keyspace}.t")).await;
    run(&direct, &format!("CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v int)")).await;
    run(&direct, &format!("INSERT INTO {keyspace}.t (k, v) VALUES (1, 5)")).await;
    assert_eq!(columns().await, 2, "a statement prepared before the table was made anew");
    run(&direct, &format!("DROP KEYSPACE {keyspace}")).await;
}

#[tokio::test]
async fn no_connection_of_a_driver_goes_past_weir() {
    let Some(node) = cassandra("no bypass by the Rust driver") else { return };
    let _alone = ALONE.lock().await;
    let (weir, own) = (before(&node), std::process::id());
    let past_weir = || sockets_to(own, &node);
    wait_for("the sockets of earlier tests are gone", SOON, || (past_weir() == 0).then_some(()));
    let keyspace = keyspace("bypass");
    let first = session(&door(&weir), Some("timeline")).await;
    run(&first, &create_keyspace(&keyspace)).await;
    run(&first, &format!("CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v text)")).await;
    run(&first, &format!("INSERT INTO {keyspace}.t (k, v) VALUES (3, 'three')")).await;
    let many: Vec<i32> = (0..MANY).collect();
    let rows = listed(&first, &format!("{keyspace}.t"), &many).await;
    assert_eq!(rows, [(3, "three".to_owned())]);

    let mut sessions = vec![first];
    for number in 0..19 {
        let packed = [None, Some(Compression::Lz4), Some(Compression::Snappy)][number % 3];
        let builder = SessionBuilder::new().known_node(door(&weir)).compression(packed);
        sessions.push(builder.build().await.expect("a session"));
    }
    let select = format!("SELECT v FROM {keyspace}.t WHERE k = 3");
    for session in &sessions {
        let rows = session.query_unpaged(select.as_str(), ()).await.expect("rows");
        let row = rows.into_rows_result().expect("rows").single_row::<(String,)>().expect("a row");
        assert_eq!(row, ("three".to_owned(),));
        for node in session.get_cluster_state().get_nodes_info() {
            assert_eq!(node.address.to_string(), door(&weir), "the only node it knows");
        }
    }
    // Every session has a control connection and one for data at least, and weir has them all.
    let clients = counted(&weir, "weir_client_connections", &[], 40.0);
    let connected = wait_for("the sockets are those weir counts", SOON, || {
        let sockets = sockets_to(own, &door(&weir));
        (sockets as f64 >= weir.metric("weir_client_connections", &[])).then_some(sockets)
    });
    assert!(connected >= 40, "{connected} sockets to weir, which has {clients}");
    assert_eq!(past_weir(), 0, "none goes to the node");
    let workers = weir.control("/snapshot")["instance"]["workers"].as_u64().expect("their number");
    // the list of 15,000 went in parts, on the bulk lane of the worker that had the session
    let lanes = weir.metric("weir_cql_bulk_lanes", &[]) as usize;
    assert!((1..=workers as usize).contains(&lanes), "{lanes} bulk lanes");
    wait_for("one connection per node and worker, the bulk lanes and the control connection", SOON, || {
        let upstream = sockets_to(weir.process.pid(), &node);
        (upstream == workers as usize + lanes + CONTROL).then_some(())
    });
    let ready = weir.metric("weir_backend_connections", &["state=\"ready\""]) as usize;
    assert_eq!(ready, workers as usize + lanes);
    let past = wait_for("no caller is without data", SOON, || {
        weir.series("weir_cql_control_only_clients", &[]).filter(|count| *count == 0.0)
    });
    assert_eq!(past, 0.0);

    let callers = wait_for("the callers", SOON, || {
        let callers = weir.control("/callers").as_array().expect("rows").clone();
        let has = |name: &str| callers.iter().any(|row| row["caller"] == name);
        (has("timeline") && has(&own_name())).then_some(callers)
    });
    let timeline = callers.iter().find(|row| row["caller"] == "timeline").expect("its row");
    let largest = &timeline["largest_last_minute"];
    assert_eq!(largest["operations"], MANY, "{timeline}");
    assert_eq!(largest["method"], "select", "{timeline}");
    let asked = counted(
        &weir,
        "weir_request_operations_max",
        &[("caller", "timeline"), ("method", "select")],
        f64::from(MANY),
    );
    assert_eq!(asked, f64::from(MANY));
    run(&sessions[0], &format!("DROP KEYSPACE {keyspace}")).await;
}
