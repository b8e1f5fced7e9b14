//! What clients see of the cluster: one node at the address they dialled, and changes of the schema.

use crate::bench::{Bench, settings};
use crate::node::{LOCAL as ALL, REAL};
use crate::wire::{Answer, With, execute, query, register};
use weir_cql::response::{Event, SchemaChange, Target};
use weir_cql::{Opcode, Response, Version, own};
use weir_engine::units::LaneId;

const VERSIONS: [Version; 3] = [Version::V3, Version::V4, Version::V5];

/// Rows of `system.local` by real column name, in the order asked.
fn check(answer: &Answer, columns: &[&str]) {
    let rows = answer.rows();
    assert_eq!(rows.len(), 1, "{}", answer.describe());
    assert_eq!(rows[0].len(), columns.len());
    for (column, cell) in columns.iter().zip(&rows[0]) {
        let cell = cell.as_deref().expect("a value");
        match *column {
            "rpc_address" | "broadcast_address" => assert_eq!(cell, [127, 0, 0, 5]),
            "rpc_port" => assert_eq!(cell, 9_142i32.to_be_bytes()),
            "broadcast_port" => assert_eq!(cell, 7_000i32.to_be_bytes()),
            "schema_version" => assert_eq!(cell, [9; 16]),
            "host_id" => assert!(cell.len() == 16 && cell != [7; 16]),
            "tokens" => assert_eq!(cell, [0, 0, 0, 1, 0, 0, 0, 1, b'0']),
            other => assert_eq!(cell, format!("real {other}").as_bytes()),
        }
    }
}

#[test]
fn addresses_in_system_local_are_the_one_dialled() {
    for version in VERSIONS {
        let mut bench = Bench::new(settings(2));
        let mut caller = bench.open(version);
        for (text, columns) in [
            ("SELECT * FROM system.local", &ALL[..]),
            ("SELECT * FROM system.local WHERE key = 'local'", &ALL),
            (
                "SELECT rack, rpc_address AS rack, host_id AS x FROM system.local",
                &["rack", "rpc_address", "host_id"],
            ),
            ("select TOKENS, \"rpc_address\" from System.LOCAL", &["tokens", "rpc_address"]),
        ] {
            check(&bench.ask_text(&mut caller, text), columns);
            let id = bench.prepare(&mut caller, text);
            for skip_metadata in [false, true] {
                let with = With { skip_metadata, ..With::default() };
                check(&bench.ask(&mut caller, &execute(version, 3, &id, &with)), columns);
            }
        }
        // the metadata of a QUERY may be left out as well: names are then unknown, and nothing may leak
        let with = With { skip_metadata: true, ..With::default() };
        let answer = bench.ask(&mut caller, &query(version, 1, "SELECT * FROM system.local", &with));
        assert!(answer.code().is_some() && !answer.body.windows(4).any(|bytes| bytes == REAL));
        let answer = bench.ask_text(&mut caller, "SELECT count(*) FROM system.local");
        assert!(answer.error().1.contains("plain columns"), "{answer:?}");
        bench.use_keyspace(&mut caller, "system");
        check(&bench.ask_text(&mut caller, "SELECT * FROM local"), &ALL);
        let id = bench.prepare(&mut caller, "SELECT * FROM local");
        check(&bench.ask(&mut caller, &execute(version, 3, &id, &With::default())), &ALL);
        bench.engine.check_quiet();
    }
}

#[test]
fn there_are_no_peers() {
    for version in VERSIONS {
        let mut bench = Bench::new(settings(2));
        let mut caller = bench.open(version);
        for text in ["SELECT * FROM system.peers", "SELECT rpc_address FROM system.peers_v2"] {
            assert!(bench.ask_text(&mut caller, text).rows().is_empty());
            let id = bench.prepare(&mut caller, text);
            assert!(bench.ask(&mut caller, &execute(version, 3, &id, &With::default())).rows().is_empty());
        }
    }
}

#[test]
fn schema_changes_are_told_once_to_those_that_registered_in_their_own_version() {
    let mut bench = Bench::new(settings(3));
    let mut callers = VERSIONS.map(|version| bench.open(version));
    for caller in &mut callers {
        let hello = register(caller.version, 2, &["TOPOLOGY_CHANGE", "SCHEMA_CHANGE"]);
        assert_eq!(bench.ask(caller, &hello).read(), Response::Ready);
    }
    let mut stranger = bench.open(Version::V4);
    let mut only_status = bench.open(Version::V4);
    bench.ask(&mut only_status, &register(Version::V4, 2, &["STATUS_CHANGE"]));
    let registers: Vec<_> =
        bench.engine.lanes().filter(|(_, info)| info.registers).map(|(id, _)| id).collect();
    assert_eq!(registers.len(), 3, "one connection to each node");
    for target in [Target::Table(b"t"), Target::Function { name: b"f", arguments: &[0, 0] }] {
        let change = SchemaChange { change: b"CREATED", target, keyspace: b"shop" };
        for lane in &registers {
            let (_, version) = bench.info(lane.0 as usize);
            let mut event = Vec::new();
            own::event(&mut event, version, &Event::Schema(change));
            bench.deliver(lane.0 as usize, &event);
        }
        for caller in &mut callers {
            let answers = bench.answers(caller);
            assert_eq!(answers.len(), 1, "{answers:?}");
            assert_eq!((answers[0].header.opcode, answers[0].stream()), (Opcode::Event, -1));
            assert_eq!(answers[0].header.version, caller.version);
            let Response::Event(Event::Schema(told)) = answers[0].read() else { panic!("{answers:?}") };
            let known = caller.version >= Version::V4 || matches!(target, Target::Table(_));
            let keyspace = SchemaChange { change: b"UPDATED", target: Target::Keyspace, keyspace: b"shop" };
            assert_eq!(told, if known { change } else { keyspace });
        }
    }
    // nodes that come and go are weir's affair
    let mut event = Vec::new();
    let node = "10.0.0.9:9042".parse().expect("an address");
    let (_, version) = bench.info(registers[0].0 as usize);
    own::event(&mut event, version, &Event::Status { change: b"DOWN", node });
    bench.deliver(registers[0].0 as usize, &event);
    for caller in callers.iter_mut().chain([&mut stranger, &mut only_status]) {
        assert!(bench.answers(caller).is_empty());
    }
    // where the first node is not connected another one tells
    bench.lose(registers[0].0 as usize);
    let change = SchemaChange { change: b"DROPPED", target: Target::Table(b"t"), keyspace: b"shop" };
    let mut event = Vec::new();
    own::event(&mut event, bench.info(registers[1].0 as usize).1, &Event::Schema(change));
    bench.deliver(registers[1].0 as usize, &event);
    assert_eq!(bench.answers(&mut callers[1]).len(), 1);
}

#[test]
fn a_reply_with_fewer_rows_than_it_says_is_no_row_of_system_local() {
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.open(Version::V4);
    bench.query(&caller, 1, "SELECT rack FROM system.local");
    bench.turn();
    let mut reply = bench.reply_to(0, 0);
    let at = reply.len() - "real rack".len() - 8; // the number of rows
    reply[at + 3] = 3;
    assert!(bench.engine.lane_input(LaneId(0), &reply, bench.now).is_ok());
    let answer = bench.one(&mut caller);
    assert!(answer.error().1.contains("could not be read"), "{answer:?}");
}

#[test]
fn a_name_declared_in_startup_is_the_callers() {
    let mut bench = Bench::new(settings(1));
    let _one = bench.open_as("listener", Version::V4, &[("APPLICATION_NAME", "feed"), ("CLIENT_ID", "x")]);
    let _two = bench.open_as("listener", Version::V5, &[("CLIENT_ID", "no name at all\n")]);
    let names: Vec<_> =
        bench.engine.snapshot(bench.now).callers.iter().map(|c| c.identity.name.to_string()).collect();
    assert_eq!(names, ["feed", "_invalid"]);
}

/// The Node and Java drivers draw one for each session: it is nobody's name.
#[test]
fn a_uuid_is_no_callers_name() {
    let mut bench = Bench::new(settings(1));
    let drawn = "f98b0392-5845-482b-b368-1bd480c40231";
    let _one = bench.open_as("listener", Version::V4, &[("CLIENT_ID", drawn)]);
    let _two = bench.open_as("listener", Version::V4, &[("APPLICATION_NAME", drawn), ("CLIENT_ID", "feed")]);
    let names: Vec<_> =
        bench.engine.snapshot(bench.now).callers.iter().map(|c| c.identity.name.to_string()).collect();
    assert_eq!(names, ["listener", "feed"]);
}
