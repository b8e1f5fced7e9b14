//! What the commands show of statements.

use super::{NOW_MS, golden, importer, overrides, plain};
use weir::admin::model::{CallerRow, ExpensiveRow, Largest, Snapshot, StatementRow};
use weir::commands::{Look, explain, render, tap_line};

/// A caller of a cluster that asks much in one statement.
fn bursts() -> Snapshot {
    let text = "select uri, cid from posts where uri in ?";
    let caller = CallerRow {
        caller: "hydrator".into(),
        principal: "timelines".into(),
        limited_as: "timelines".into(),
        listener: "timelines".into(),
        largest_last_minute: Some(Largest { operations: 15_000, method: "select".into(), at_unix_ms: None }),
        largest_ever: None,
        ..importer()
    };
    let burst = StatementRow {
        caller: "hydrator".into(),
        listener: "timelines".into(),
        method: "select".into(),
        statement: text.into(),
        table: "feed.posts".into(),
        requests: 180,
        operations: 2_700_000,
        rows: 2_610_000,
        bytes_in: 64_000_000,
        bytes_out: 512_000_000,
        backend_us: 120_000_000,
        requests_per_second: 3.0,
        operations_per_second: 45_000.0,
        request_operations_p50: 15_000,
        largest: 15_000,
        work_share: 0.917,
        time_share: 0.6,
        ..StatementRow::default()
    };
    let batch = StatementRow {
        caller: "ingest\u{1b}[31m".into(),
        method: "batch".into(),
        statement: "insert into feed.posts(uri, cid) values (?, ?)".into(),
        table: "feed.posts".into(),
        requests: 6_000,
        failed: 2,
        operations: 240_000,
        backend_us: 30_000_000,
        requests_per_second: 20.0,
        operations_per_second: 800.0,
        request_operations_p50: 50,
        largest: 50,
        work_share: 0.08,
        time_share: 0.3,
        ..StatementRow::default()
    };
    let rest =
        StatementRow { caller: "_other".into(), requests: 70, operations: 70, ..StatementRow::default() };
    Snapshot {
        taken_at_unix_ms: NOW_MS,
        callers: vec![caller],
        expensive: vec![ExpensiveRow {
            at_unix_ms: NOW_MS - 2_000,
            caller: "hydrator".into(),
            listener: "timelines".into(),
            method: "select".into(),
            operations: 15_000,
            hits: 14_500,
            total_us: 700_000,
            outcome: "ok".into(),
            request_id: "1-7f".into(),
            statement: Some(text.into()),
            table: Some("feed.posts".into()),
            ..ExpensiveRow::default()
        }],
        statements: vec![burst, batch, rest],
        ..Snapshot::default()
    }
}

#[test]
fn top_shows_statements() {
    let look = Look { statements: true, ..plain(100) };
    golden("top-statements.txt", &render(&bursts(), &look));
    let narrow = render(&bursts(), &Look { statements: true, ..plain(80) });
    assert!(narrow.lines().all(|line| line.chars().count() <= 80 && !line.contains('\u{1b}')), "{narrow}");
    assert!(render(&Snapshot::default(), &look).contains("no statement yet"));
    let mut many = bursts();
    many.statements = vec![many.statements[0].clone(); 300];
    for height in [1, 5, 24] {
        assert!(render(&many, &Look { height: Some(height), ..look }).lines().count() <= height);
    }
}

#[test]
fn explain_names_the_statement_of_the_culprit() {
    let found = explain("hydrator", &bursts(), &overrides(), None).expect("it was seen");
    assert_eq!(
        found.summary,
        "hydrator asks for 15,000 keys in one select uri, cid from posts where uri in ? on feed.posts: 7.5 times its \
         ceiling of 2,000; weir let it pass and counted it; first seen 2026-11-21 01:58:10 UTC"
    );
    golden("explain-cql.txt", &found.to_text());
    golden("tap-cql.txt", &tap_line(&bursts().expensive[0]));
    // the request has left the list of expensive ones: its statement is still known by its size
    let snapshot = Snapshot { expensive: Vec::new(), ..bursts() };
    let again = explain("hydrator", &snapshot, &overrides(), None).expect("it was seen");
    assert_eq!(again.summary, found.summary);
    // a listener is asked about: who was above its ceiling there, and with what
    let mut snapshot = bursts();
    let unnamed =
        CallerRow { caller: "timelines".into(), largest_last_minute: None, ..snapshot.callers[0].clone() };
    snapshot.callers.push(unnamed);
    let door = explain("timelines", &snapshot, &overrides(), None).expect("it was seen");
    assert!(
        door.to_text().contains("15,000 operations in one select uri, cid from posts where uri in ?"),
        "{}",
        door.to_text()
    );
}
