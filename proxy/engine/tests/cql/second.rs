//! The second weir in `system.peers`: the one row that drivers are shown of it.

use crate::bench::{Bench, Caller, settings};
use crate::node::{PEERS, PEERS_V2, REAL, rows};
use crate::wire::{Answer, With, execute, message, query};
use std::sync::Arc;
use weir_cql::response::{ErrorBody, ErrorCode};
use weir_cql::{CqlType, Native, Opcode, Version, own, write};
use weir_engine::settings::Settings;

const VERSIONS: [Version; 3] = [Version::V3, Version::V4, Version::V5];
const SECOND: &str = "127.0.0.6:9143";
const HIGH: &[u8] = b"\0\0\0\x01\0\0\0\x139223372036854775807";
const LOW: &[u8] = b"\0\0\0\x01\0\0\0\x010";

fn pair(nodes: usize, second: &str) -> Settings {
    let mut settings = settings(nodes);
    settings.listeners[0].second_weir = Some(second.parse().expect("an address"));
    settings
}

/// One row with these columns, all of them the second weir's or the node's own facts.
fn check(answer: &Answer, columns: &[&str]) {
    let rows = answer.rows();
    assert_eq!(rows.len(), 1, "{}", answer.describe());
    assert_eq!(rows[0].len(), columns.len());
    assert_eq!(answer.page_state(), None);
    for (column, cell) in columns.iter().zip(&rows[0]) {
        let cell = cell.as_deref().expect("a value");
        match *column {
            "peer" | "preferred_ip" | "rpc_address" | "native_address" => assert_eq!(cell, [127, 0, 0, 6]),
            "native_port" => assert_eq!(cell, 9_143i32.to_be_bytes()),
            "peer_port" => assert_eq!(cell, 7_000i32.to_be_bytes()),
            "host_id" => assert!(cell.len() == 16 && cell != [7; 16]),
            "schema_version" => assert_eq!(cell, [9; 16]),
            "tokens" => assert_eq!(cell, HIGH),
            other => assert_eq!(cell, format!("real {other}").as_bytes()),
        }
    }
}

#[test]
fn it_is_the_only_peer() {
    for version in VERSIONS {
        let mut bench = Bench::new(pair(2, SECOND));
        let mut caller = bench.open(version);
        for (text, columns) in [
            ("SELECT * FROM system.peers", &PEERS[..]),
            ("SELECT * FROM system.peers_v2", &PEERS_V2),
            ("SELECT rpc_address AS tokens, tokens AS peer FROM system.peers", &["rpc_address", "tokens"]),
            ("select schema_version, \"rack\", PEER from System.PEERS", &["schema_version", "rack", "peer"]),
        ] {
            check(&bench.ask_text(&mut caller, text), columns);
            let paged = With { page_size: Some(1), ..With::default() };
            check(&bench.ask(&mut caller, &query(version, 1, text, &paged)), columns);
            let id = bench.prepare(&mut caller, text);
            for skip_metadata in [false, true] {
                let with = With { skip_metadata, ..With::default() };
                check(&bench.ask(&mut caller, &execute(version, 3, &id, &with)), columns);
            }
        }
        bench.use_keyspace(&mut caller, "system");
        check(&bench.ask_text(&mut caller, "SELECT * FROM peers WHERE rack = 'real rack'"), &PEERS);
        bench.engine.check_quiet();
    }
}

fn shown(bench: &mut Bench, caller: &mut Caller, text: &str) -> usize {
    bench.ask_text(caller, text).rows().len()
}

#[test]
fn a_row_that_is_not_asked_for_is_not_shown() {
    for version in VERSIONS {
        let mut bench = Bench::new(pair(1, SECOND));
        let mut caller = bench.open(version);
        for (filter, rows) in [
            ("peer = '127.0.0.6'", 1),
            ("peer = '127.0.0.5'", 0),
            ("peer = '::ffff:127.0.0.6'", 0),
            ("peer = '127.0.0.6' AND peer_port = 7000", 1),
            ("peer = '127.0.0.6' AND peer_port = 9143", 0),
            ("native_port = 9143 ALLOW FILTERING", 1),
            ("schema_version = 09090909-0909-0909-0909-090909090909 ALLOW FILTERING", 1),
            ("data_center = 'real data_center' ALLOW FILTERING", 1),
            ("data_center = 'elsewhere' ALLOW FILTERING", 0),
        ] {
            let text = format!("SELECT tokens FROM system.peers_v2 WHERE {filter}");
            assert_eq!(shown(&mut bench, &mut caller, &text), rows, "{filter}");
            let id = bench.prepare(&mut caller, &text);
            let answer = bench.ask(&mut caller, &execute(version, 3, &id, &With::default()));
            assert_eq!(answer.rows().len(), rows, "{filter}");
        }
        let text = "SELECT peer FROM system.peers WHERE peer = ?";
        let id = bench.prepare(&mut caller, text);
        for (address, rows) in [(vec![127, 0, 0, 6], 1), (vec![127, 0, 0, 7], 0), (REAL.to_vec(), 0)] {
            let with = With::values(&[address]);
            assert_eq!(bench.ask(&mut caller, &query(version, 1, text, &with)).rows().len(), rows);
            assert_eq!(bench.ask(&mut caller, &execute(version, 3, &id, &with)).rows().len(), rows);
        }
        // as the Java driver asks: by name
        let text = "SELECT * FROM system.peers_v2 WHERE peer = :address and peer_port = :port";
        for (port, rows) in [(7_000i32, 1), (7_001, 0)] {
            let mut body = Vec::new();
            write::bytes(&mut body, text.as_bytes());
            write::consistency(&mut body, weir_cql::Consistency::ONE);
            const VALUES_BY_NAME: u8 = 0x41;
            match version {
                Version::V5 => write::bits(&mut body, VALUES_BY_NAME.into()),
                _ => write::byte(&mut body, VALUES_BY_NAME),
            }
            write::short(&mut body, 2);
            write::string(&mut body, "port");
            write::bytes(&mut body, &port.to_be_bytes());
            write::string(&mut body, "address");
            write::bytes(&mut body, &[127, 0, 0, 6]);
            let answer = bench.ask(&mut caller, &message(version, 1, Opcode::Query, &body));
            assert_eq!(answer.rows().len(), rows, "{version:?}");
        }
        bench.engine.check_quiet();
    }
}

#[test]
fn what_cannot_be_told_of_it_is_refused() {
    let mut bench = Bench::new(pair(1, SECOND));
    let mut alone = Bench::new(settings(1));
    let (mut caller, mut other) = (bench.open(Version::V4), alone.open(Version::V4));
    for asked in [
        "SELECT count(*) FROM system.peers",
        "SELECT JSON * FROM system.peers",
        "SELECT * FROM system.peers WHERE peer IN ('127.0.0.6')",
        "SELECT * FROM system.peers WHERE token(peer) > 0",
        "SELECT * FROM system.peers WHERE peer = '127.0.0.6' AND rack > 'a' ALLOW FILTERING",
        "SELECT * FROM system.peers WHERE peer = 'localhost'",
        "SELECT * FROM system.peers WHERE features = 'a'",
    ] {
        let answer = bench.ask_text(&mut caller, asked);
        assert!(answer.error().1.contains("plain columns of system.peers"), "{asked}: {answer:?}");
        let prepare = crate::wire::prepare(Version::V4, 2, asked);
        assert!(bench.ask(&mut caller, &prepare).error().1.contains("plain columns"), "{asked}");
        let answer = alone.ask_text(&mut other, asked);
        assert!(!answer.describe().contains("plain columns"), "{asked}: {answer:?}");
    }
}

/// What two weirs that name each other show of themselves is what the other one shows of them.
#[test]
fn both_tell_the_same() {
    let columns = "host_id, rpc_address, data_center, rack, release_version, schema_version, tokens";
    let row = |bench: &mut Bench, table: &str| {
        let mut caller = bench.open(Version::V4);
        bench.ask_text(&mut caller, &format!("SELECT {columns} FROM system.{table}")).rows()
    };
    let mut one = Bench::new(pair(1, SECOND));
    let (own, peer) = (row(&mut one, "local"), row(&mut one, "peers"));
    // the bench's clients dial one address: the other weir is this one as seen from behind another name
    let mut two = Bench::new(pair(1, "127.0.0.4:9142"));
    let (theirs, lower) = (row(&mut two, "local"), row(&mut two, "peers"));
    assert_eq!(own[0][..6], theirs[0][..6], "whatever the other is called");
    assert_eq!((own[0][6].as_deref(), peer[0][6].as_deref()), (Some(LOW), Some(HIGH)));
    assert_eq!((theirs[0][6].as_deref(), lower[0][6].as_deref()), (Some(HIGH), Some(LOW)));
    assert_ne!(own[0][0], peer[0][0], "host ids differ");
    // one that names itself has no peer
    let mut same = Bench::new(pair(1, crate::bench::DIALLED));
    assert!(row(&mut same, "peers").is_empty());
}

#[test]
fn a_node_without_the_table_says_so() {
    let mut bench = Bench::new(pair(1, SECOND));
    let mut caller = bench.open(Version::V4);
    bench.query(&caller, 1, "SELECT * FROM system.peers_v2");
    bench.turn();
    let asked = bench.wires[0].asked.pop_front().expect("a request");
    let refusal = ErrorBody::plain(ErrorCode::INVALID, "unconfigured table peers_v2");
    let mut reply = Vec::new();
    own::error(&mut reply, Version::V4, asked.header.stream, &refusal);
    bench.deliver(0, &reply);
    assert_eq!(
        bench.one(&mut caller).error(),
        (ErrorCode::INVALID, "unconfigured table peers_v2".to_owned())
    );
}

#[test]
fn what_happens_between_the_two_questions() {
    let text = "SELECT * FROM system.peers";
    let between = |bench: &mut Bench, caller: &Caller| {
        bench.query(caller, 1, text);
        bench.turn();
        let lane = (0..bench.wires.len()).find(|lane| !bench.wires[*lane].asked.is_empty()).expect("asked");
        bench.answer(lane, 0);
        bench.turn();
        assert_eq!(bench.wires[lane].asked.len(), 1, "the second question");
        lane
    };
    // the connection is lost: another node is asked both
    let mut bench = Bench::new(pair(2, SECOND));
    let mut caller = bench.open(Version::V4);
    let lane = between(&mut bench, &caller);
    bench.lose(lane);
    check(&bench.one(&mut caller), &PEERS);
    bench.engine.check_quiet();
    // the node turns it away: so is another one
    let mut bench = Bench::new(pair(2, SECOND));
    let mut caller = bench.open(Version::V4);
    let lane = between(&mut bench, &caller);
    let asked = bench.wires[lane].asked.pop_front().expect("a request");
    let mut reply = Vec::new();
    own::error(&mut reply, Version::V4, asked.header.stream, &ErrorBody::plain(ErrorCode::OVERLOADED, "no"));
    bench.deliver(lane, &reply);
    check(&bench.one(&mut caller), &PEERS);
    bench.engine.check_quiet();
    // the client goes, and the reply comes later
    let mut bench = Bench::new(pair(1, SECOND));
    let caller = bench.open(Version::V4);
    let lane = between(&mut bench, &caller);
    bench.engine.close_client(caller.id, bench.now);
    bench.answer(lane, 0);
    bench.turn();
    bench.engine.check_quiet();
    // a reload takes it away
    let mut bench = Bench::new(pair(1, SECOND));
    let mut caller = bench.open(Version::V4);
    between(&mut bench, &caller);
    bench.engine.apply(Arc::new(settings(1)), bench.now);
    assert!(bench.one(&mut caller).rows().is_empty());
    assert!(bench.ask_text(&mut caller, text).rows().is_empty());
    bench.engine.apply(Arc::new(pair(1, SECOND)), bench.now);
    check(&bench.ask_text(&mut caller, text), &PEERS);
    // the node has no row of itself
    let lane = between(&mut bench, &caller);
    let asked = bench.wires[lane].asked.pop_front().expect("a request");
    let columns = [("rack", CqlType::Native(Native::Varchar))];
    let none = rows(("system", "local"), &columns, false, &[]);
    bench.deliver(lane, &message(Version::V4, asked.stream(), Opcode::Result, &none.1));
    assert!(bench.one(&mut caller).error().1.contains("could not be read"));
}
