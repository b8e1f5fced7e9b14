//! PREPARE and EXECUTE: one registry for all clients, and nodes that forget.

use crate::bench::{Bench, settings};
use crate::node::{row_value, statement_id};
use crate::wire::{Part, With, batch, execute, flagged, int, prepare};
use weir_cql::response::ErrorCode;
use weir_cql::{Flags, Opcode, Version, write};
use weir_engine::units::{LaneId, Span};

const READ: &str = "SELECT v FROM shop.t WHERE k = ?";
const COUNT: &str = "UPDATE shop.c SET n = n + 1 WHERE k = ?";

#[test]
fn a_statement_one_client_prepared_is_known_to_every_other() {
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut bench = Bench::new(settings(1));
        let (mut a, mut b) = (bench.open(version), bench.open(version));
        let id = bench.prepare(&mut a, READ);
        assert_eq!(bench.prepare(&mut b, READ), id);
        assert_eq!(bench.nodes[0].prepares, 1);
        let answer = bench.ask(&mut b, &execute(version, 1, &id, &With::values(&[int(5)])));
        assert_eq!(answer.values(), [row_value("shop.t", 5)]);
        let counts = &bench.engine.cluster_counts()[0];
        assert_eq!((counts.prepared, counts.prepared_hits, counts.prepared_misses), (1, 1, 1));
    }
}

#[test]
fn the_same_text_is_answered_to_each_version_in_its_own_words() {
    let mut bench = Bench::new(settings(1));
    let versions = [Version::V3, Version::V4, Version::V5];
    let mut callers = versions.map(|version| bench.open(version));
    for _ in 0..3 {
        for caller in &mut callers {
            // `prepared` reads the answer in the version of its header
            assert_eq!(bench.prepare(caller, READ), statement_id(None, READ.as_bytes()));
        }
    }
    assert_eq!(bench.nodes[0].prepares, 3, "once per version");
    for caller in &mut callers {
        let id = statement_id(None, READ.as_bytes());
        let message = execute(caller.version, 2, &id, &With::values(&[int(1)]));
        assert_eq!(bench.ask(caller, &message).values(), [row_value("shop.t", 1)]);
    }
}

#[test]
fn concurrent_prepares_are_one() {
    let mut bench = Bench::new(settings(1));
    let mut callers: Vec<_> = (0..5).map(|_| bench.open(Version::V4)).collect();
    for caller in &callers {
        bench.send(caller, &[prepare(Version::V4, 1, READ), prepare(Version::V4, 2, READ)].concat());
    }
    bench.turn();
    assert_eq!(bench.asked(), 1);
    bench.settle();
    for caller in &mut callers {
        let answers = bench.answers(caller);
        let mut streams: Vec<_> = answers.iter().map(|answer| (answer.stream(), answer.prepared())).collect();
        streams.sort();
        let id = statement_id(None, READ.as_bytes());
        assert_eq!(streams, [(1, id.clone()), (2, id)]);
    }
    assert_eq!(bench.nodes[0].prepares, 1);
    bench.engine.check_quiet();
}

#[test]
fn an_error_of_a_prepare_is_everybodys_who_waited_and_kept_for_nobody() {
    let mut bench = Bench::new(settings(1));
    let mut callers: Vec<_> = (0..4).map(|_| bench.open(Version::V4)).collect();
    bench.nodes[0].refuse_prepare = Some("unconfigured table t");
    callers.iter().for_each(|caller| bench.send(caller, &prepare(Version::V4, 1, READ)));
    bench.settle();
    for caller in &mut callers {
        let answer = bench.answers(caller).remove(0);
        assert_eq!(answer.error(), (ErrorCode::INVALID, "unconfigured table t".to_owned()));
    }
    assert_eq!(bench.nodes[0].prepares, 1);
    bench.nodes[0].refuse_prepare = None;
    bench.prepare(&mut callers[0], READ);
    assert_eq!(bench.nodes[0].prepares, 2);
}

#[test]
fn who_leads_a_prepare_may_leave() {
    let mut bench = Bench::new(settings(1));
    let (a, mut b) = (bench.open(Version::V4), bench.open(Version::V4));
    let many: Vec<u8> = (0..50).flat_map(|stream| prepare(Version::V4, stream, READ)).collect();
    bench.send(&a, &many);
    bench.send(&b, &prepare(Version::V4, 60, READ));
    bench.turn();
    assert_eq!(bench.asked(), 1);
    bench.engine.close_client(a.id, bench.now);
    bench.engine.check_invariants();
    bench.turn();
    assert_eq!(bench.asked(), 2, "the leader's, which nobody wants any more, and the next one's");
    assert_eq!(bench.engine.cluster_counts()[0].orphans, 1);
    let answer = bench.one(&mut b);
    assert_eq!((answer.stream(), answer.prepared()), (60, statement_id(None, READ.as_bytes())));
    bench.engine.check_quiet();
}

#[test]
fn who_waits_for_a_prepare_that_times_out_is_told_with_its_leader() {
    let mut bench = Bench::new(settings(1));
    let mut callers: Vec<_> = (0..3).map(|_| bench.open(Version::V4)).collect();
    callers.iter().for_each(|caller| bench.send(caller, &prepare(Version::V4, 1, READ)));
    bench.turn();
    bench.wires[0].asked.clear();
    bench.wait(Span::secs(13));
    bench.wait(Span::millis(100));
    for caller in &mut callers {
        let answer = bench.answers(caller).remove(0);
        assert!(answer.error().1.contains("request_timeout"), "{answer:?}");
    }
    assert_eq!(bench.asked(), 0);
}

#[test]
fn a_payload_of_a_prepare_is_not_passed_on_half() {
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.open(Version::V4);
    let mut body = Vec::new();
    write::short(&mut body, 1);
    write::string(&mut body, "who");
    write::bytes(&mut body, b"me");
    write::bytes(&mut body, READ.as_bytes());
    let flags = Flags(Flags::CUSTOM_PAYLOAD);
    let answer = bench.ask(&mut caller, &flagged(Version::V4, 3, Opcode::Prepare, flags, &body));
    assert_eq!(answer.prepared(), statement_id(None, READ.as_bytes()));
}

#[test]
fn an_id_nobody_prepared_is_told_to_the_client() {
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut bench = Bench::new(settings(1));
        let mut caller = bench.open(version);
        let answer = bench.ask(&mut caller, &execute(version, 4, b"stranger", &With::default()));
        assert_eq!(answer.unprepared().as_deref(), Some(&b"stranger"[..]));
        assert_eq!(answer.stream(), 4);
        assert_eq!(bench.asked(), 0);
    }
}

#[test]
fn what_a_node_has_forgotten_is_prepared_again_unseen() {
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut bench = Bench::new(settings(2));
        let mut caller = bench.open(version);
        let (read, count) = (bench.prepare(&mut caller, READ), bench.prepare(&mut caller, COUNT));
        for _ in 0..4 {
            bench.nodes.iter_mut().for_each(|node| node.prepared.clear());
            let answer = bench.ask(&mut caller, &execute(version, 1, &read, &With::values(&[int(6)])));
            assert_eq!(answer.values(), [row_value("shop.t", 6)]);
            let answer = bench.ask(&mut caller, &execute(version, 2, &count, &With::values(&[int(6)])));
            assert!(answer.is_void(), "{}", answer.describe());
        }
        assert_eq!(bench.data.writes["shop.c/6"], 4, "each once");
        assert_eq!(bench.engine.cluster_counts()[0].repaired, 8);
        bench.engine.check_quiet();
    }
}

#[test]
fn a_batch_with_many_forgotten_statements_is_repaired() {
    for version in [Version::V4, Version::V5] {
        let mut bench = Bench::new(settings(3));
        let mut caller = bench.open(version);
        let text = |n| format!("INSERT INTO shop.t{n} (k, v) VALUES (?, 'x')");
        let ids: Vec<_> = (0..20).map(|n| bench.prepare(&mut caller, &text(n))).collect();
        bench.nodes.iter_mut().for_each(|node| node.prepared.clear());
        let parts: Vec<_> = ids.iter().map(|id| Part::Id(id, vec![int(1)])).collect();
        let answer = bench.ask(&mut caller, &batch(version, 1, &parts));
        assert!(answer.is_void(), "{}", answer.describe());
        assert_eq!(bench.data.writes.values().sum::<u32>(), 20);
        assert_eq!(bench.engine.cluster_counts()[0].repaired, 20, "on one node");
    }
}

#[test]
fn a_repair_that_fails_tells_the_client_why() {
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    bench.nodes[0].prepared.clear();
    bench.nodes[0].refuse_prepare = Some("unconfigured table t");
    let answer = bench.ask(&mut caller, &execute(Version::V4, 1, &id, &With::values(&[int(6)])));
    assert_eq!(answer.error(), (ErrorCode::INVALID, "unconfigured table t".to_owned()));
    bench.engine.check_quiet();
}

#[test]
fn a_node_that_keeps_forgetting_is_believed_in_the_end() {
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    bench.nodes[0].prepared.clear();
    bench.send(&caller, &execute(Version::V4, 1, &id, &With::values(&[int(6)])));
    bench.turn();
    let mut rounds = 0;
    while bench.asked() > 0 {
        bench.answer(0, 0);
        bench.nodes[0].prepared.clear();
        bench.turn();
        rounds += 1;
        assert!(rounds < 100, "for ever");
    }
    assert_eq!(bench.answers(&mut caller)[0].unprepared(), Some(id));
}

#[test]
fn a_write_whose_statement_was_forgotten_is_not_lost_with_the_connection() {
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, COUNT);
    bench.nodes[0].prepared.clear();
    bench.send(&caller, &execute(Version::V4, 1, &id, &With::values(&[int(6)])));
    bench.turn();
    bench.answer(0, 0); // UNPREPARED; the PREPARE is under way
    bench.turn();
    assert_eq!(bench.wires[0].asked[0].header.opcode, Opcode::Prepare);
    bench.lose(0);
    bench.turn();
    bench.up(0);
    assert!(bench.one(&mut caller).is_void());
    assert_eq!(bench.data.writes["shop.c/6"], 1);
}

#[test]
fn the_registry_is_bounded_and_what_leaves_it_is_asked_again() {
    let mut settings = settings(1);
    settings.clusters[0].prepared_max = 10;
    let mut bench = Bench::new(settings);
    let mut caller = bench.open(Version::V4);
    let text = |n| format!("SELECT v FROM shop.t{n} WHERE k = ?");
    let first = bench.prepare(&mut caller, &text(0));
    for n in 1..30 {
        bench.prepare(&mut caller, &text(n));
        bench.prepare(&mut caller, &text(n));
    }
    let counts = bench.engine.cluster_counts();
    assert_eq!((counts[0].prepared, counts[0].prepared_evicted), (10, 20));
    let answer = bench.ask(&mut caller, &execute(Version::V4, 1, &first, &With::values(&[int(1)])));
    assert_eq!(answer.unprepared(), Some(first.clone()));
    assert_eq!(bench.prepare(&mut caller, &text(0)), first);
}

#[test]
fn a_schema_change_makes_the_next_prepare_go_out_again() {
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    assert!(bench.ask_text(&mut caller, "CREATE TABLE shop.x (k int PRIMARY KEY)").code().is_none());
    assert_eq!(bench.prepare(&mut caller, READ), id);
    assert_eq!(bench.nodes[0].prepares, 2);
    let event = changed();
    bench.engine.lane_input(LaneId(0), &event, bench.now).expect("an event");
    let answer = bench.ask(&mut caller, &execute(Version::V4, 1, &id, &With::values(&[int(1)])));
    assert_eq!(answer.values(), [row_value("shop.t", 1)], "the id stays valid");
    bench.prepare(&mut caller, READ);
    assert_eq!(bench.nodes[0].prepares, 3);
}

#[test]
fn what_was_prepared_while_the_schema_changed_is_not_said_again() {
    let mut bench = Bench::new(settings(1));
    let mut callers: Vec<_> = (0..3).map(|_| bench.open(Version::V4)).collect();
    callers.iter().for_each(|caller| bench.send(caller, &prepare(Version::V4, 1, READ)));
    bench.turn();
    // the node has answered already when the table changes; weir hears of it on another connection
    let answer = bench.reply_to(0, 0);
    bench.engine.lane_input(LaneId(0), &changed(), bench.now).expect("an event");
    bench.deliver(0, &answer);
    bench.settle();
    let id = statement_id(None, READ.as_bytes());
    for caller in &mut callers {
        assert_eq!(bench.answers(caller).remove(0).prepared(), id);
    }
    assert_eq!(bench.nodes[0].prepares, 2, "who waited asked anew, once");
    bench.prepare(&mut callers[0], READ);
    assert_eq!(bench.nodes[0].prepares, 2, "and that answer is current");
    bench.engine.check_quiet();
}

#[test]
fn what_changed_while_nobody_told_is_asked_again() {
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.open(Version::V4);
    bench.prepare(&mut caller, READ);
    bench.prepare(&mut caller, READ);
    assert_eq!(bench.nodes[0].prepares, 1);
    bench.lose(0);
    bench.up(0);
    bench.prepare(&mut caller, READ);
    assert_eq!(bench.nodes[0].prepares, 2, "a schema change may have been missed");
}

/// What a node tells when a table changes.
fn changed() -> Vec<u8> {
    let mut event = Vec::new();
    let change = weir_cql::response::SchemaChange {
        change: b"UPDATED",
        target: weir_cql::response::Target::Table(b"t"),
        keyspace: b"shop",
    };
    weir_cql::own::event(&mut event, Version::V4, &weir_cql::response::Event::Schema(change));
    event
}
