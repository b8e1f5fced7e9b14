//! `USE` stays with the client: connections to nodes are shared and have no keyspace.

use crate::bench::{Bench, settings};
use crate::node::row_value;
use crate::wire::{Part, With, batch, execute, int, prepare, query};
use weir_cql::response::ErrorCode;
use weir_cql::response::ResultBody;
use weir_cql::{Response, Version};

const VERSIONS: [Version; 3] = [Version::V3, Version::V4, Version::V5];

#[test]
fn use_is_answered_by_weir_for_keyspaces_that_exist() {
    for version in VERSIONS {
        let mut bench = Bench::new(settings(1));
        let mut caller = bench.open(version);
        for (name, shown) in
            [("shop", "shop"), ("\"My Ks\"", "My Ks"), ("SHOP", "shop"), ("\"it's\"", "it's")]
        {
            let answer = bench.ask_text(&mut caller, &format!("USE {name}"));
            let Response::Result(ResultBody::SetKeyspace(span)) = answer.read() else {
                panic!("{}", answer.describe())
            };
            assert_eq!(span.of(&answer.body), shown.as_bytes());
        }
        let answer = bench.ask_text(&mut caller, "USE nowhere");
        assert_eq!(answer.error(), (ErrorCode::INVALID, "Keyspace 'nowhere' does not exist".to_owned()));
        // the one chosen before stays
        let answer = bench.ask_text(&mut caller, "SELECT v FROM t WHERE k = 3");
        assert_eq!(answer.values(), [row_value("it's.t", 3)]);
        bench.engine.check_quiet();
    }
}

#[test]
fn what_follows_use_waits_for_its_outcome() {
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.open(Version::V4);
    let text = |stream, text| query(Version::V4, stream, text, &With::default());
    let read = "SELECT v FROM t WHERE k = 1";
    bench.send(
        &caller,
        &[text(1, "USE shop"), text(2, read), text(3, "USE \"My Ks\""), text(4, read)].concat(),
    );
    bench.turn();
    assert_eq!(bench.asked(), 1, "only the question whether the keyspace exists");
    bench.settle();
    let answers = bench.answers(&mut caller);
    assert_eq!(answers.iter().map(|a| a.stream()).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(answers[1].values(), [row_value("shop.t", 1)]);
    assert_eq!(answers[3].values(), [row_value("My Ks.t", 1)]);
}

#[test]
fn two_clients_in_two_keyspaces_share_one_connection() {
    for version in VERSIONS {
        let mut bench = Bench::new(settings(1));
        let (mut a, mut b) = (bench.open(version), bench.open(version));
        bench.use_keyspace(&mut a, "shop");
        bench.use_keyspace(&mut b, "\"My Ks\"");
        bench.nodes[0].heard.clear();
        for caller in [&a, &b] {
            bench.query(caller, 1, "SELECT v FROM t WHERE k = 1");
        }
        bench.settle();
        assert_eq!(bench.answers(&mut a)[0].values(), [row_value("shop.t", 1)]);
        assert_eq!(bench.answers(&mut b)[0].values(), [row_value("My Ks.t", 1)]);
        let heard: Vec<&str> = bench.nodes[0].heard.iter().map(String::as_str).collect();
        if version >= Version::V5 {
            let text = "SELECT v FROM t WHERE k = 1";
            assert_eq!(heard, [format!("[shop] {text}"), format!("[My Ks] {text}")]);
        } else {
            assert_eq!(heard, ["SELECT v FROM shop.t WHERE k = 1", "SELECT v FROM \"My Ks\".t WHERE k = 1"]);
        }
        assert_eq!(bench.wires.len(), 1);
    }
}

#[test]
fn batches_of_texts_mean_the_chosen_keyspace() {
    for version in VERSIONS {
        let mut bench = Bench::new(settings(1));
        let mut caller = bench.open(version);
        let id = bench.prepare(&mut caller, "INSERT INTO other.t (k, v) VALUES (?, 'x')");
        bench.use_keyspace(&mut caller, "shop");
        let parts = [
            Part::Text("UPDATE t SET v = 'x' WHERE k = 1"),
            Part::Id(&id, vec![int(2)]),
            Part::Text("UPDATE far.t SET v = 'x' WHERE k = 3"),
        ];
        let answer = bench.ask(&mut caller, &batch(version, 1, &parts));
        assert!(answer.is_void(), "{}", answer.describe());
        let written: Vec<_> = bench.data.writes.keys().map(String::as_str).collect();
        assert_eq!(written, ["far.t/3", "other.t/2", "shop.t/1"]);
    }
}

#[test]
fn statements_weir_cannot_read_go_out_in_v5_with_the_keyspace() {
    for version in VERSIONS {
        let mut bench = Bench::new(settings(1));
        let mut caller = bench.open(version);
        bench.use_keyspace(&mut caller, "shop");
        bench.nodes[0].heard.clear();
        let answer = bench.ask_text(&mut caller, "CREATE TABLE fresh (k int PRIMARY KEY)");
        assert_eq!((answer.header.version, answer.stream()), (version, 5));
        let Response::Result(changed) = answer.read() else { panic!("{}", answer.describe()) };
        let change = changed.schema_change(&answer.body).expect("a change").expect("readable");
        assert_eq!(change.keyspace, b"shop");
        assert_eq!(bench.nodes[0].heard, ["[shop] CREATE TABLE fresh (k int PRIMARY KEY)"]);
        // with values and a page size as well: nothing is dropped on the way
        let with = With { page_size: Some(70), ..With::values(&[int(7)]) };
        let text = "CREATE TABLE other (k int PRIMARY KEY)";
        bench.send(&caller, &query(version, 6, text, &with));
        bench.turn();
        let lane = (0..bench.wires.len()).find(|lane| !bench.wires[*lane].asked.is_empty()).expect("a lane");
        let asked = &bench.wires[lane].asked[0];
        assert_eq!(asked.header.version, Version::V5);
        let dialect = weir_cql::Dialect::of(Version::V5);
        let Ok(weir_cql::Request::Query(read)) =
            weir_cql::Request::locate(&asked.header, &asked.body, dialect)
        else {
            panic!("a QUERY")
        };
        assert_eq!(read.parameters.page_size.map(|size| size.value), Some(70));
        assert_eq!(
            read.parameters.values.get(&asked.body, 0).and_then(|v| v.of(&asked.body)),
            Some(&int(7)[..])
        );
        assert_eq!(read.parameters.keyspace.map(|span| span.of(&asked.body)), Some(&b"shop"[..]));
        assert!(bench.one(&mut caller).code().is_none());
        bench.engine.check_quiet();
    }
}

#[test]
fn an_error_of_a_newer_version_is_told_in_the_clients_own() {
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.open(Version::V3);
    bench.use_keyspace(&mut caller, "shop");
    bench.query(&caller, 4, "CREATE TABLE fresh (k int PRIMARY KEY)");
    bench.turn();
    let lane = (0..bench.wires.len()).find(|lane| !bench.wires[*lane].asked.is_empty()).expect("a lane");
    let asked = bench.wires[lane].asked.pop_front().expect("it");
    let mut body = Vec::new();
    // a warning, which v3 does not have, before the error
    weir_cql::write::string_list(&mut body, ["careful"]);
    weir_cql::response::ErrorBody::plain(ErrorCode::CONFIG_ERROR, "no").write(Version::V5, &mut body);
    let flags = weir_cql::Flags(weir_cql::Flags::WARNING);
    let reply = crate::wire::flagged(Version::V5, asked.stream(), weir_cql::Opcode::Error, flags, &body);
    bench.deliver(lane, &reply);
    let answer = bench.one(&mut caller);
    assert_eq!((answer.header.version, answer.header.flags.0), (Version::V3, 0));
    assert_eq!(answer.error(), (ErrorCode::CONFIG_ERROR, "no".to_owned()));
}

#[test]
fn without_v5_what_cannot_be_read_is_refused_under_use() {
    let mut settings = settings(1);
    settings.clusters[0].newest_version = Version::V4;
    let mut bench = Bench::new(settings);
    let mut caller = bench.open(Version::V4);
    bench.use_keyspace(&mut caller, "shop");
    let answer = bench.ask_text(&mut caller, "CREATE TABLE fresh (k int PRIMARY KEY)");
    assert_eq!(answer.error().0, ErrorCode::INVALID);
    assert!(answer.error().1.contains("shop.table"), "{answer:?}");
    bench.engine.check_quiet();
}

#[test]
fn use_reaches_no_node_in_any_disguise() {
    for version in VERSIONS {
        let mut bench = Bench::new(settings(1));
        let mut caller = bench.open(version);
        for text in ["USE shop extra", "use 'shop'", "USE $$shop$$", "USE"] {
            let answer = bench.ask_text(&mut caller, text);
            assert_eq!(answer.error().0, ErrorCode::INVALID, "{text}");
        }
        let answer = bench.ask(&mut caller, &prepare(version, 2, "USE shop"));
        assert_eq!(answer.error().0, ErrorCode::INVALID);
        assert!(bench.nodes[0].heard.is_empty() && bench.nodes[0].prepares == 0);
    }
}

#[test]
fn a_node_that_says_its_connection_has_a_keyspace_loses_the_connection() {
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.open(Version::V4);
    bench.query(&caller, 3, "SELECT v FROM shop.t WHERE k = 1");
    bench.turn();
    let asked = bench.wires[0].asked.pop_front().expect("it");
    let mut reply = Vec::new();
    weir_cql::own::set_keyspace(&mut reply, Version::V4, asked.header.stream, b"shop");
    assert!(bench.engine.lane_input(weir_engine::units::LaneId(0), &reply, bench.now).is_err());
    bench.lose(0);
    assert_eq!(bench.one(&mut caller).error().0, ErrorCode::SERVER_ERROR);
}

#[test]
fn prepared_statements_keep_the_keyspace_they_were_prepared_in() {
    for version in VERSIONS {
        let mut bench = Bench::new(settings(1));
        let (mut a, mut b) = (bench.open(version), bench.open(version));
        bench.use_keyspace(&mut a, "shop");
        bench.use_keyspace(&mut b, "\"My Ks\"");
        let text = "SELECT v FROM t WHERE k = ?";
        let (of_a, of_b) = (bench.prepare(&mut a, text), bench.prepare(&mut b, text));
        assert_ne!(of_a, of_b);
        bench.use_keyspace(&mut a, "\"My Ks\"");
        for forget in [false, true] {
            if forget {
                bench.nodes[0].prepared.clear();
            }
            let answer = bench.ask(&mut a, &execute(version, 3, &of_a, &With::values(&[int(8)])));
            assert_eq!(answer.values(), [row_value("shop.t", 8)], "repaired in its own keyspace");
        }
    }
}
