//! A real driver against the real Cassandra, with nothing in between: what later tests compare weir with. It also shows that
//! the test command's own node serves a driver as it should.

mod support_cql;

use std::collections::BTreeSet;

use scylla::response::PagingState;
use support_cql::{Keyspace, cassandra};

const ROWS: usize = 1_000;
const PAGE: i32 = 100;

#[tokio::test]
async fn a_thousand_keys_in_one_list_come_back_in_pages_of_a_hundred() {
    let Some(address) = cassandra("IN of 1,000 keys, paged") else { return };
    let keyspace = Keyspace::create(&address, "pages").await;
    let session = &keyspace.session;
    session.query_unpaged("CREATE TABLE posts (uri text PRIMARY KEY, n int)", ()).await.expect("a table");
    let insert = session.prepare("INSERT INTO posts (uri, n) VALUES (?, ?)").await.expect("prepared");
    let uris: Vec<String> = (0..ROWS).map(|n| format!("at://did:plc:test/post/{n:05}")).collect();
    for (n, uri) in (0..).zip(&uris) {
        let n: i32 = n;
        session.execute_unpaged(&insert, (uri, n)).await.expect("a row is written");
    }

    let mut select = session.prepare("SELECT uri, n FROM posts WHERE uri IN ?").await.expect("prepared");
    select.set_page_size(PAGE);
    let (mut state, mut pages, mut seen) = (PagingState::start(), 0, Vec::new());
    loop {
        let (page, next) = session.execute_single_page(&select, (&uris,), state).await.expect("a page");
        let page = page.into_rows_result().expect("rows");
        pages += 1;
        let before = seen.len();
        for row in page.rows::<(String, i32)>().expect("the columns' types") {
            seen.push(row.expect("a row"));
        }
        assert!(seen.len() - before <= PAGE as usize, "a page holds what was asked for at most");
        match next.into_paging_control_flow() {
            std::ops::ControlFlow::Continue(next) => state = next,
            std::ops::ControlFlow::Break(()) => break,
        }
        assert!(pages <= ROWS, "the pages do not end");
    }
    assert!(pages >= ROWS / PAGE as usize, "{pages} pages");
    let asked: BTreeSet<(String, i32)> = uris.iter().cloned().zip(0..).collect();
    assert_eq!(seen.len(), ROWS, "each row once");
    assert_eq!(seen.iter().cloned().collect::<BTreeSet<_>>(), asked);
    assert!(seen.is_sorted(), "Cassandra answers an IN list in the order of its keys");
    keyspace.drop().await;
}
