//! Requests for many keys through weir, against the real Cassandra: the rows, their order and columns are those of the
//! direct answer, whole and in pages; one connection more carries the parts.

mod support;
mod support_cql;

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::response::PagingState;
use scylla::statement::prepared::PreparedStatement;
use std::ops::ControlFlow;
use support::{Weir, wait_for};
use support_cql::{Cql, SOON, With, cassandra, counted, create_keyspace, file, keyspace, list, sockets_to};
use weir_cql::{Opcode, Version};

/// Rows of the table, and keys of a big list.
const ROWS: i32 = 15_000;
/// Rows of a page: what most drivers ask for.
const PAGE: i32 = 5_000;

fn door(weir: &Weir) -> String {
    format!("127.0.0.1:{}", weir.port)
}

/// weir in front of one node, without the connections of the control plane, which come and go.
fn parts_before(node: &str) -> Weir {
    Weir::with_config(&file(node, "discover = false", ""), &[])
}

async fn session(address: &str) -> Session {
    let builder = SessionBuilder::new().known_node(address);
    builder.build().await.unwrap_or_else(|error| panic!("a session at {address}: {error}"))
}

type Row = (String, String, i32);

/// Key of a row: text, so that its order is not that of the numbers.
fn key(n: i32) -> String {
    format!("at://did:plc:{:06}/app.bsky.feed.post/{n}", n.wrapping_mul(7_919) % 100_003)
}

/// A keyspace with a table of text keys that has ROWS rows.
async fn filled(node: &str, name: &str) -> String {
    let direct = session(node).await;
    let keyspace = keyspace(name);
    for text in [
        create_keyspace(&keyspace),
        format!("CREATE TABLE {keyspace}.posts (uri text PRIMARY KEY, record text, n int)"),
        format!("CREATE TABLE {keyspace}.likes (post int, liker int, PRIMARY KEY (post, liker))"),
    ] {
        direct.query_unpaged(text.clone(), ()).await.unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    let insert = format!("INSERT INTO {keyspace}.posts (uri, record, n) VALUES (?, ?, ?)");
    let insert = direct.prepare(insert).await.expect("prepared");
    let writes = |n: i32| direct.execute_unpaged(&insert, (key(n), "x".repeat(100), n));
    for start in (0..ROWS).step_by(200) {
        let all = (start..(start + 200).min(ROWS)).map(writes);
        futures_of(all).await;
    }
    let like = direct.prepare(format!("INSERT INTO {keyspace}.likes (post, liker) VALUES (?, ?)")).await;
    let like = like.expect("prepared");
    for post in 0..300 {
        futures_of((0..post % 7).map(|by| direct.execute_unpaged(&like, (post, by)))).await;
    }
    keyspace
}

/// Waits for all of them.
async fn futures_of<T, E: std::fmt::Debug>(all: impl Iterator<Item = impl Future<Output = Result<T, E>>>) {
    let mut waiting: Vec<_> = all.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        waiting.retain_mut(|one| match one.as_mut().poll(context) {
            std::task::Poll::Ready(outcome) => {
                outcome.expect("written");
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

async fn whole(session: &Session, text: &str, keys: &[String]) -> (Vec<String>, Vec<Row>) {
    let select = session.prepare(text).await.expect("prepared");
    let rows = session.execute_unpaged(&select, (keys,)).await.expect("an answer");
    let rows = rows.into_rows_result().expect("rows");
    let columns = rows.column_specs().iter().map(|column| format!("{column:?}")).collect();
    (columns, rows.rows::<Row>().expect("their types").map(|row| row.expect("a row")).collect())
}

async fn paged(session: &Session, select: &PreparedStatement, keys: &[String]) -> (usize, Vec<Row>) {
    let (mut state, mut pages, mut seen) = (PagingState::start(), 0, Vec::new());
    loop {
        let (page, next) = session.execute_single_page(select, (keys,), state).await.expect("a page");
        let page = page.into_rows_result().expect("rows");
        seen.extend(page.rows::<Row>().expect("their types").map(|row| row.expect("a row")));
        pages += 1;
        match next.into_paging_control_flow() {
            ControlFlow::Continue(next) => state = next,
            ControlFlow::Break(()) => return (pages, seen),
        }
        assert!(pages < 1_000, "the pages do not end");
    }
}

#[tokio::test]
async fn many_keys_give_the_direct_answer_whole_and_in_pages() {
    let Some(node) = cassandra("requests for many keys in parts") else { return };
    let weir = parts_before(&node);
    let keyspace = filled(&node, "split").await;
    let (through, direct) = (session(&door(&weir)).await, session(&node).await);
    let all: Vec<String> = (0..ROWS).rev().map(key).collect();
    let some: Vec<String> = (0..3_000).map(|n| key(n * 11 % 40_000)).chain(all[..500].to_vec()).collect();
    let posts = format!("SELECT uri, record, n FROM {keyspace}.posts WHERE uri IN ?");
    for (what, text, keys) in [
        ("all", posts.clone(), &all),
        ("missing and repeated", posts.clone(), &some),
        ("limit", format!("{posts} LIMIT 250"), &all),
        ("one per partition", format!("{posts} PER PARTITION LIMIT 1"), &some),
    ] {
        let (columns, rows) = whole(&through, &text, keys).await;
        let (as_direct, expected) = whole(&direct, &text, keys).await;
        assert!(
            !expected.is_empty() && rows == expected,
            "{what}: {} rows of {}",
            rows.len(),
            expected.len()
        );
        assert_eq!(columns, as_direct, "{what}");
        let mut select = through.prepare(text).await.expect("prepared");
        select.set_page_size(if what == "limit" { 100 } else { PAGE });
        let (pages, rows) = paged(&through, &select, keys).await;
        assert!(rows == expected, "{what}, in {pages} pages: {} rows of {}", rows.len(), expected.len());
        assert_eq!(pages, if matches!(what, "all" | "limit") { 3 } else { 1 }, "{what}");
    }
    counted(&weir, "weir_cql_splits_total", &[("cluster", "main"), ("outcome", "ok")], 12.0);
    let version = "one connection for single requests, one for parts";
    wait_for(version, SOON, || (sockets_to(weir.process.pid(), &node) == 2).then_some(()));
    assert_eq!(weir.series("weir_cql_bulk_lanes", &[("cluster", "main")]), Some(1.0));
    assert_eq!(weir.series("weir_cql_part_bytes", &[("cluster", "main")]), Some(0.0));
}

/// The raw answers, so that what no driver shows is compared as well: metadata, warnings, page sizes, empty partitions.
#[test]
fn every_version_gets_the_bytes_of_the_direct_answer() {
    let Some(node) = cassandra("requests for many keys in every version") else { return };
    let weir = parts_before(&node);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let keyspace = runtime.block_on(filled(&node, "versions"));
    let address: std::net::SocketAddr = node.parse().expect("an address");
    for version in [Version::V3, Version::V4, Version::V5] {
        let (mut through, mut direct) =
            (Cql::open(([127, 0, 0, 1], weir.port), version), Cql::open(address, version));
        for (text, keys) in [
            (format!("SELECT * FROM {keyspace}.likes WHERE post IN ?"), (0..400).rev().collect::<Vec<i32>>()),
            (
                format!("SELECT liker, post FROM {keyspace}.likes WHERE post IN ? AND liker > 2"),
                (100..350).collect(),
            ),
            (format!("SELECT post FROM {keyspace}.likes WHERE post IN ?"), (-500..-100).collect()),
        ] {
            let (statement, of_node) = (through.prepare(&text).prepared(), direct.prepare(&text).prepared());
            for skip_metadata in [false, true] {
                let with = With { skip_metadata, ..With::values(&[list(keys.iter().copied())]) };
                let (ours, theirs) = (through.execute(&statement, &with), direct.execute(&of_node, &with));
                assert_eq!(ours.header.opcode, Opcode::Result);
                assert!(ours.body == theirs.body, "{version:?} {text} skip {skip_metadata}");
            }
        }
        assert!(weir.series("weir_cql_unsplit_total", &[("cause", "not_one_list")]).is_none());
    }
    // v3 tells no key indices, so there only the bare IN is known to be about the partition key
    counted(&weir, "weir_cql_splits_total", &[("cluster", "main"), ("outcome", "ok")], 16.0);
    wait_for("a lane for each version, and one for its parts", SOON, || {
        (sockets_to(weir.process.pid(), &node) == 6).then_some(())
    });
}

#[test]
fn what_the_operator_switches_off_goes_whole() {
    let Some(node) = cassandra("splitting switched off") else { return };
    let weir = parts_before(&node);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let keyspace = runtime.block_on(filled(&node, "off"));
    let mut client = Cql::open(([127, 0, 0, 1], weir.port), Version::V4);
    let likes = client.prepare(&format!("SELECT liker FROM {keyspace}.likes WHERE post IN ?")).prepared();
    let with = With::values(&[list(0..300)]);
    let rows = client.execute(&likes, &with).expect_result().rows().len();
    counted(&weir, "weir_cql_splits_total", &[("cluster", "main"), ("outcome", "ok")], 1.0);
    let switched = weir.command(&["switch", "split", "off", "--listener", "cql", "--for", "60s"]);
    assert!(switched.status.success(), "{}", switched.stderr);
    assert!(!switched.stdout.contains("no effect"), "{}", switched.stdout);
    assert_eq!(client.execute(&likes, &with).expect_result().rows().len(), rows);
    counted(&weir, "weir_cql_unsplit_total", &[("cause", "switched_off")], 1.0);
}
