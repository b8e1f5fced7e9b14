//! UNLOGGED batches in parts, where a rule says so: one timestamp, each partition in one part, and the answer of a batch.

use crate::bench::{Bench, Caller, settings};
use crate::node::row_value;
use crate::placed::{Map, node};
use crate::split::{in_flight, lanes};
use crate::wire::{self, Answer, Part, With, batch_with, int};
use std::collections::BTreeSet;
use weir_cql::Version;
use weir_cql::envelope::{Flags, Opcode};
use weir_cql::key::token;
use weir_cql::response::{ErrorBody, ErrorCode, ErrorDetail};
use weir_engine::cql::{FailoverCause, Method};
use weir_engine::settings::{Rule, Settings, Subject};
use weir_engine::units::{ClusterId, Span};

const SET: &str = "INSERT INTO shop.s (k, v) VALUES (?, 'x')";
const OTHER: &str = "UPDATE shop.s SET v = 'y' WHERE k = ?";
const COUNT: &str = "UPDATE shop.s SET n = n + 1 WHERE k = ?";
const ASKED: i64 = 1_700_000_000_000_000;

fn rule(table: &str, stamps: bool) -> Rule {
    let subject = Subject::Table { keyspace: "shop".into(), table: table.into() };
    Rule { split_batches: true, stamp_timestamps: stamps, ..Rule::new(table, subject) }
}

/// Parts of ten statements, two at a time at each node; batches on `shop.s` are split.
fn chosen(nodes: usize, stamps: bool) -> Settings {
    let mut settings = settings(nodes);
    settings.clusters[0].chunk_statements = 10;
    settings.clusters[0].chunks_in_flight = 2;
    settings.clusters[0].rules = [rule("s", stamps)].into();
    settings
}

fn stamped() -> With {
    With { timestamp: Some(ASKED), ..With::default() }
}

/// An UNLOGGED batch of this statement for each key.
fn writes(caller: &Caller, id: &[u8], keys: impl IntoIterator<Item = i32>, with: &With) -> Vec<u8> {
    let parts: Vec<Part<'_>> = keys.into_iter().map(|key| Part::Id(id, vec![int(key)])).collect();
    batch_with(caller.version, 3, 1, &parts, with)
}

fn rows(keys: impl IntoIterator<Item = i32>) -> BTreeSet<String> {
    keys.into_iter().map(|key| row_value("shop.s", key)).collect()
}

fn written(bench: &Bench) -> BTreeSet<String> {
    bench.data.writes.keys().cloned().collect()
}

/// How many statements each BATCH had that a node carried out.
fn sizes(bench: &Bench) -> Vec<usize> {
    let mut sizes: Vec<usize> =
        bench.nodes.iter().flat_map(|node| node.batches.iter().map(Vec::len)).collect();
    sizes.sort_unstable();
    sizes
}

fn whole_because(bench: &Bench) -> Vec<(&'static str, u64)> {
    bench.engine.cluster_counts()[0].unsplit.iter().map(|(why, count)| (*why, *count)).collect()
}

fn started(settings: Settings, text: &str) -> (Bench, Caller, Vec<u8>) {
    let mut bench = Bench::new(settings);
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, text);
    (bench, caller, id)
}

#[test]
fn a_batch_in_parts_writes_what_the_whole_writes_at_one_time() {
    for version in [Version::V4, Version::V5] {
        let mut bench = Bench::new(chosen(3, false));
        let mut caller = bench.open(version);
        let id = bench.prepare(&mut caller, SET);
        // keys that come again stay with the first
        let keys: Vec<i32> = (0..95).chain(20..25).collect();
        let message = writes(&caller, &id, keys, &stamped());
        let answer = bench.ask(&mut caller, &message);
        assert!(answer.is_void() && answer.stream() == 3, "{version:?}: {}", answer.describe());
        assert_eq!(written(&bench), rows(0..95));
        assert!(bench.data.stamps.values().all(|stamps| *stamps == BTreeSet::from([Some(ASKED)])));
        let sizes = sizes(&bench);
        assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (10, 100), "{sizes:?}");
        assert!(bench.nodes.iter().all(|node| !node.batches.is_empty()), "all nodes share the work");
        assert_eq!(
            bench.tallied(Method::Batch),
            (1, 100),
            "one request, as many operations as it has statements"
        );
        assert_eq!(bench.engine.cluster_counts()[0].split_ended.iter().sum::<u64>(), 1);
        for (key, in_parts) in (20..25).map(|key| {
            let all = bench.nodes.iter().flat_map(|node| &node.batches);
            let row = row_value("shop.s", key);
            (key, all.filter(|rows| rows.contains(&row)).count())
        }) {
            assert_eq!(in_parts, 1, "key {key} is in one part, both times");
        }
        bench.engine.check_quiet();
    }
}

#[test]
fn without_a_placement_v3_goes_whole_and_with_one_it_does_not() {
    let mut bench = Bench::new(chosen(2, false));
    let mut caller = bench.open(Version::V3);
    let id = bench.prepare(&mut caller, SET);
    let message = writes(&caller, &id, 0..30, &stamped());
    assert!(bench.ask(&mut caller, &message).is_void());
    assert_eq!(sizes(&bench), [30], "v3 does not tell which values are the key");
    assert_eq!(whole_because(&bench), [("batch_no_key", 1)]);
    let map = Map::of((0..2).map(|n| node(n, "a/1")).collect(), 1).shared();
    bench.engine.place(ClusterId(0), map, bench.now);
    assert!(bench.ask(&mut caller, &message).is_void());
    assert!(sizes(&bench).len() > 3);
    assert_eq!(written(&bench), rows(0..30));
    bench.engine.check_quiet();
}

#[test]
fn texts_are_split_where_the_columns_of_the_key_are_known() {
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut bench = Bench::new(chosen(2, false));
        let mut caller = bench.open(version);
        let id = bench.prepare(&mut caller, SET);
        bench.use_keyspace(&mut caller, "shop");
        let texts: Vec<String> = (0..20).map(|key| format!("UPDATE s SET v = 'x' WHERE k = {key}")).collect();
        // the same partition, by a marker and by a literal
        let bound = (0..20).map(|key| Part::Id(&id, vec![int(key)]));
        let parts: Vec<Part<'_>> = texts.iter().map(|text| Part::Text(text)).chain(bound).collect();
        let message = batch_with(version, 3, 1, &parts, &stamped());
        assert!(bench.ask(&mut caller, &message).is_void());
        assert_eq!(sizes(&bench), [40], "nobody has told the columns");
        let map = Map::of((0..2).map(|n| node(n, "a/1")).collect(), 2).shared();
        bench.engine.place(ClusterId(0), map, bench.now);
        assert!(bench.ask(&mut caller, &message).is_void());
        assert_eq!(written(&bench), rows(0..20), "{version:?}");
        let parts: Vec<&Vec<String>> =
            bench.nodes.iter().flat_map(|node| &node.batches).filter(|rows| rows.len() < 40).collect();
        assert_eq!(parts.len(), 4, "{parts:?}");
        for part in parts {
            let mut both = part.clone();
            both.sort_unstable();
            assert!(both.chunk_by(|a, b| a == b).all(|same| same.len() == 2), "{both:?}");
        }
        bench.engine.check_quiet();
    }
}

#[test]
fn weir_stamps_where_it_may_and_never_twice_the_same() {
    let (mut bench, mut caller, id) = started(chosen(2, false), SET);
    let message = writes(&caller, &id, 0..30, &With::default());
    assert!(bench.ask(&mut caller, &message).is_void());
    assert_eq!(whole_because(&bench), [("batch_no_timestamp", 1)]);
    assert_eq!(bench.data.stamps[&row_value("shop.s", 7)], BTreeSet::from([None]));

    let (mut bench, mut caller, id) = started(chosen(2, true), SET);
    bench.engine.tell_wall_clock(ASKED);
    for keys in [0..30, 30..60] {
        let message = writes(&caller, &id, keys, &With::default());
        assert!(bench.ask(&mut caller, &message).is_void());
    }
    let of = |key| bench.data.stamps[&row_value("shop.s", key)].clone();
    let now = ASKED + i64::try_from(bench.now.0).expect("small");
    assert!((0..30).all(|key| of(key) == BTreeSet::from([Some(now)])));
    assert!((30..60).all(|key| of(key) == BTreeSet::from([Some(now + 1)])), "a later batch is later");
    // the client's own goes before weir's
    let message = writes(&caller, &id, 60..90, &stamped());
    assert!(bench.ask(&mut caller, &message).is_void());
    assert_eq!(bench.data.stamps[&row_value("shop.s", 60)], BTreeSet::from([Some(ASKED)]));
}

#[test]
fn statements_with_timestamps_of_their_own_need_no_other() {
    let text = "UPDATE shop.s USING TIMESTAMP ? SET v = 'x' WHERE k = ?";
    let (mut bench, mut caller, id) = started(chosen(2, false), text);
    let with = |bytes: Vec<u8>| -> Vec<u8> {
        let parts: Vec<Part<'_>> = (0..30).map(|key| Part::Id(&id, vec![bytes.clone(), int(key)])).collect();
        batch_with(Version::V4, 3, 1, &parts, &With::default())
    };
    let message = with(ASKED.to_be_bytes().to_vec());
    assert!(bench.ask(&mut caller, &message).is_void());
    assert_eq!(sizes(&bench), [10, 10, 10]);
    assert!(whole_because(&bench).is_empty());
}

#[test]
fn what_must_not_be_split_goes_whole_and_is_counted() {
    let (mut bench, mut caller, id) = started(chosen(2, true), SET);
    let counts = bench.prepare(&mut caller, COUNT);
    let conditional = bench.prepare(&mut caller, "UPDATE shop.s SET v = 'x' WHERE k = ? IF v = 'y'");
    let elsewhere = bench.prepare(&mut caller, "INSERT INTO shop.t (k, v) VALUES (?, 'x')");
    let listed = bench.prepare(&mut caller, "DELETE FROM shop.s WHERE k IN ?");
    let read = bench.prepare(&mut caller, "SELECT v FROM shop.s WHERE k = ?");
    let of = |id: &[u8], last: Part<'_>, kind, flags| {
        let mut parts: Vec<Part<'_>> = (0..30).map(|key| Part::Id(id, vec![int(key)])).collect();
        parts.push(last);
        let mut message = batch_with(Version::V4, 3, kind, &parts, &stamped());
        message[1] |= flags;
        if flags & Flags::CUSTOM_PAYLOAD != 0 {
            message.splice(9..9, [0, 0]);
            message[8] += 2;
        }
        message
    };
    let one = |id: &'static [u8]| Part::Id(id, vec![int(40)]);
    let good = || Part::Id(&id, vec![int(40)]);
    let list = || vec![wire::list([1, 2])];
    let mut expected: Vec<(&str, u64)> = Vec::new();
    for (message, why) in [
        (of(&id, good(), 0, 0), "batch_logged"),
        (of(&counts, Part::Id(&counts, vec![int(40)]), 2, 0), "batch_counter"),
        (of(&id, Part::Id(&counts, vec![int(40)]), 1, 0), "batch_counter"),
        (of(&id, Part::Id(&conditional, vec![int(40)]), 1, 0), "batch_conditional"),
        (of(&id, Part::Id(&elsewhere, vec![int(40)]), 1, 0), "batch_no_rule"),
        (of(&id, Part::Id(&listed, list()), 1, 0), "batch_no_key"),
        (of(&id, Part::Id(&read, vec![int(40)]), 1, 0), "batch_not_write"),
        (of(&id, Part::Text("INSERT INTO shop.s (k, v) VALUES (1, 'x')"), 1, 0), "batch_no_key"),
        (of(&id, one(b"nobody knows it"), 1, 0), "batch_unknown_statement"),
        (of(&id, Part::Id(&id, vec![int(1), int(2)]), 1, 0), "batch_values"),
        (of(&id, good(), 1, Flags::TRACING), "batch_traced"),
        (of(&id, good(), 1, Flags::CUSTOM_PAYLOAD), "batch_custom_payload"),
    ] {
        bench.send(&caller, &message);
        bench.settle();
        bench.answers(&mut caller);
        match expected.iter_mut().find(|(known, _)| *known == why) {
            Some((_, count)) => *count += 1,
            None => expected.push((why, 1)),
        }
        expected.sort_unstable();
        assert_eq!(whole_because(&bench), expected);
        assert!(lanes(&bench, true).is_empty(), "{why}: nothing goes in parts");
    }
    // one partition cannot be cut, and few statements are not looked at
    let message = writes(&caller, &id, [7; 30], &stamped());
    assert!(bench.ask(&mut caller, &message).is_void());
    assert!(whole_because(&bench).contains(&("batch_one_partition", 1)));
    let before = whole_because(&bench);
    let message = writes(&caller, &id, 0..10, &stamped());
    assert!(bench.ask(&mut caller, &message).is_void());
    assert_eq!(whole_because(&bench), before);
    bench.engine.check_quiet();
}

#[test]
fn nothing_is_split_unless_it_was_chosen() {
    for (rules, switch, why) in [
        (vec![], true, "batch_no_rule"),
        (vec![Rule { split_batches: false, ..rule("s", true) }], true, "batch_no_rule"),
        (vec![rule("s", true)], false, "batch_switched_off"),
    ] {
        let mut settings = chosen(2, true);
        settings.clusters[0].rules = rules.into();
        settings.listeners[0].switches.split = switch;
        let (mut bench, mut caller, id) = started(settings, SET);
        let message = writes(&caller, &id, 0..30, &stamped());
        assert!(bench.ask(&mut caller, &message).is_void());
        assert_eq!((sizes(&bench), whole_because(&bench)), (vec![30], vec![(why, 1)]));
    }
}

#[test]
fn parts_go_to_replicas_of_their_partitions() {
    let mut settings = chosen(4, false);
    settings.clusters[0].chunks_in_flight = 8;
    let (mut bench, mut caller, id) = started(settings, SET);
    let map = Map::of((0..4).map(|n| node(n, "a/1")).collect(), 1).shared();
    bench.engine.place(ClusterId(0), map.clone(), bench.now);
    bench.turn();
    // the connections for parts are made with the first one, which goes to whoever is there
    let message = writes(&caller, &id, 0..400, &stamped());
    assert!(bench.ask(&mut caller, &message).is_void());
    bench.nodes.iter_mut().for_each(|node| node.batches.clear());
    assert!(bench.ask(&mut caller, &message).is_void());
    assert_eq!(written(&bench), rows(0..400));
    let mut at_home = 0;
    for (n, node) in bench.nodes.iter().enumerate() {
        assert!(node.batches.len() > 5, "node {n} has its share");
        for row in node.batches.iter().flatten() {
            let key: i32 = row.rsplit('/').next().and_then(|key| key.parse().ok()).expect("a key");
            at_home += usize::from(map.holders(token(&int(key))) == [n]);
        }
    }
    assert!(at_home >= 380, "all but where a part is of two nodes: {at_home} of 400");
    bench.engine.check_quiet();
}

#[test]
fn statements_that_a_node_has_forgotten_are_prepared_there_again() {
    let mut settings = chosen(1, false);
    settings.clusters[0].chunks_in_flight = 3;
    let (mut bench, mut caller, set) = started(settings, SET);
    let other = bench.prepare(&mut caller, OTHER);
    bench.nodes[0].prepared.clear();
    bench.nodes[0].prepares = 0;
    let parts: Vec<Part<'_>> =
        (0..60).map(|key| Part::Id(if key % 2 == 0 { &set } else { &other }, vec![int(key)])).collect();
    let message = batch_with(Version::V4, 3, 1, &parts, &stamped());
    assert!(bench.ask(&mut caller, &message).is_void());
    assert_eq!(written(&bench), rows(0..60));
    assert!(bench.data.writes.values().all(|writes| *writes == 1), "no part was carried out twice");
    assert_eq!(bench.nodes[0].prepares, 2, "each of them once");
    bench.engine.check_quiet();
}

#[test]
fn a_lost_part_is_sent_again_with_its_timestamp_if_that_does_no_harm() {
    // `now()` is another value the second time
    for (text, again) in [(SET, true), ("INSERT INTO shop.s (k, v) VALUES (?, now())", false)] {
        let (mut bench, mut caller, id) = started(chosen(1, true), text);
        bench.send(&caller, &writes(&caller, &id, 0..40, &With::default()));
        bench.turn();
        let lane = lanes(&bench, true)[0];
        assert_eq!(in_flight(&bench), 2);
        bench.reply_to(lane, 0); // carried out, but nobody hears of it
        bench.wait(Span::millis(5));
        bench.lose(lane);
        bench.up(lane);
        let answer = bench.one(&mut caller);
        if again {
            assert!(answer.is_void(), "{}", answer.describe());
            assert_eq!(written(&bench), rows(0..40));
            assert_eq!(bench.data.writes.values().filter(|writes| **writes == 2).count(), 10);
        } else {
            let (code, words) = answer.error();
            assert_eq!(code, ErrorCode::SERVER_ERROR);
            assert!(words.contains("outcome unknown"), "{words}");
            assert_eq!(written(&bench), rows(0..10));
        }
        let stamps: BTreeSet<Option<i64>> = bench.data.stamps.values().flatten().copied().collect();
        assert!(stamps.len() == 1 && !stamps.contains(&None), "{stamps:?}");
        bench.engine.check_quiet();
    }
}

/// The first part at this lane is answered with an error.
fn refuse(bench: &mut Bench, lane: usize, code: ErrorCode, detail: ErrorDetail<'_>) {
    let asked = bench.wires[lane].asked.pop_front().expect("a part");
    let mut body = Vec::new();
    ErrorBody { code, message: b"not now", detail }.write(Version::V4, &mut body);
    bench.deliver(lane, &wire::message(Version::V4, asked.stream(), Opcode::Error, &body));
}

#[test]
fn a_part_that_is_turned_away_goes_to_another_node_if_that_does_no_harm() {
    for (text, moves) in [(SET, true), ("INSERT INTO shop.s (k, v) VALUES (?, now())", false)] {
        let (mut bench, mut caller, id) = started(chosen(2, true), text);
        bench.send(&caller, &writes(&caller, &id, 0..40, &With::default()));
        bench.turn();
        let lane = lanes(&bench, true)[0];
        refuse(&mut bench, lane, ErrorCode::OVERLOADED, ErrorDetail::Plain(&[]));
        let answer = bench.one(&mut caller);
        assert_eq!(answer.is_void(), moves, "{}", answer.describe());
        let moved = bench.engine.cluster_counts()[0].failovers[FailoverCause::Overloaded as usize];
        assert_eq!(moved, u64::from(moves));
        bench.engine.check_quiet();
    }
}

#[test]
fn an_error_of_one_part_is_the_answer_and_the_rest_is_dropped() {
    let (mut bench, mut caller, id) = started(chosen(1, false), SET);
    bench.nodes[0].refuse_key = Some((15, "no such luck"));
    bench.send(&caller, &writes(&caller, &id, 0..200, &stamped()));
    bench.turn();
    let lane = lanes(&bench, true)[0];
    bench.answer(lane, 0);
    bench.turn();
    bench.answer(lane, 0);
    let answers = bench.answers(&mut caller);
    assert_eq!(answers[0].error(), (ErrorCode::INVALID, "no such luck".to_owned()));
    bench.settle();
    assert!(bench.answers(&mut caller).is_empty(), "one answer");
    assert!(bench.data.writes.len() <= 20, "what was not sent is not: {}", bench.data.writes.len());
    assert!(written(&bench).is_superset(&rows(0..10)), "what was carried out stays");
    bench.engine.check_quiet();
}

#[test]
fn a_part_that_timed_out_at_the_node_is_told_as_the_node_tells_it() {
    let (mut bench, mut caller, id) = started(chosen(2, false), SET);
    bench.send(&caller, &writes(&caller, &id, 0..40, &stamped()));
    bench.turn();
    let acks = weir_cql::response::Acks { consistency: weir_cql::Consistency::ONE, received: 0, required: 1 };
    let detail = ErrorDetail::WriteTimeout { acks, write_type: b"UNLOGGED_BATCH", contentions: None };
    let lane = lanes(&bench, true)[1];
    refuse(&mut bench, lane, ErrorCode::WRITE_TIMEOUT, detail);
    let answers = bench.answers(&mut caller);
    assert_eq!(write_type(&answers[0]), b"UNLOGGED_BATCH");
    bench.settle();
    bench.engine.check_quiet();
}

fn write_type(answer: &Answer) -> Vec<u8> {
    match answer.read() {
        weir_cql::Response::Error(ErrorBody {
            detail: ErrorDetail::WriteTimeout { write_type, .. }, ..
        }) => write_type.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_time_out_of_weirs_says_which_kind_of_write_it_was() {
    // in parts, and whole: LOGGED, UNLOGGED, COUNTER
    for (kind, statements, expected) in
        [(1, 40, "UNLOGGED_BATCH"), (0, 5, "BATCH"), (1, 5, "UNLOGGED_BATCH"), (2, 5, "COUNTER")]
    {
        let mut settings = chosen(1, false);
        settings.clusters[0].request_timeout = Span::millis(300);
        let (mut bench, mut caller, id) = started(settings, SET);
        let parts: Vec<Part<'_>> = (0..statements).map(|key| Part::Id(&id, vec![int(key)])).collect();
        bench.send(&caller, &batch_with(Version::V4, 3, kind, &parts, &stamped()));
        bench.turn();
        for _ in 0..10 {
            bench.wait(Span::millis(100));
        }
        let answers = bench.answers(&mut caller);
        assert_eq!(answers[0].error().0, ErrorCode::WRITE_TIMEOUT);
        assert_eq!(String::from_utf8_lossy(&write_type(&answers[0])), expected);
        bench.settle();
        bench.engine.check_quiet();
    }
}

#[test]
fn warnings_of_all_parts_come_back_once() {
    let (mut bench, mut caller, id) = started(chosen(1, false), SET);
    bench.send(&caller, &writes(&caller, &id, 0..30, &stamped()));
    bench.turn();
    let lane = lanes(&bench, true)[0];
    for words in ["beware", "beware", "take care"] {
        let mut body = Vec::new();
        let flags = weir_cql::response::write_prefix(&mut body, Version::V4, None, [words.as_bytes()], None);
        body.extend_from_slice(&1_i32.to_be_bytes());
        let asked = bench.wires[lane].asked.pop_front().expect("a part");
        bench.deliver(lane, &wire::flagged(Version::V4, asked.stream(), Opcode::Result, flags, &body));
        bench.turn();
    }
    let answer = bench.answers(&mut caller).remove(0);
    assert!(answer.is_void());
    let prefix = weir_cql::response::Prefix::locate(Version::V4, answer.header.flags, &answer.body);
    let prefix = prefix.expect("a prefix");
    let warnings: Vec<&[u8]> = prefix.warnings(&answer.body).collect();
    assert_eq!(warnings, [&b"beware"[..], b"take care"]);
    bench.engine.check_quiet();
}

#[test]
fn a_split_batch_ends_what_was_kept_of_all_its_partitions() {
    let mut settings = chosen(2, false);
    settings.clusters[0].rules = [Rule { cache_ttl: Some(Span::secs(60)), ..rule("s", false) }].into();
    let (mut bench, mut caller, id) = started(settings, SET);
    let read = bench.prepare(&mut caller, "SELECT k, v FROM shop.s WHERE k = ?");
    let mut ask = |bench: &mut Bench, key: i32| {
        let before: usize = bench.nodes.iter().map(|node| node.keys_read.len()).sum();
        let message = wire::execute(Version::V4, 4, &read, &With::values(&[int(key)]));
        assert_eq!(bench.ask(&mut caller, &message).keys(), [key]);
        let after: usize = bench.nodes.iter().map(|node| node.keys_read.len()).sum();
        after > before
    };
    let mut writer = bench.open(Version::V4);
    for key in [0, 15, 39, 77] {
        assert!(ask(&mut bench, key) && !ask(&mut bench, key), "the second answer was kept");
    }
    let message = writes(&writer, &id, 0..40, &stamped());
    assert!(bench.ask(&mut writer, &message).is_void());
    assert!(sizes(&bench).len() > 2, "it was split");
    for key in [0, 15, 39] {
        assert!(ask(&mut bench, key), "key {key} was written");
    }
    assert!(!ask(&mut bench, 77), "this one was not");
}

#[test]
fn a_ceiling_is_named_with_the_ask_and_nothing_is_sent() {
    use weir_engine::settings::{CallerLimits, LimitMode};
    use weir_engine::units::Operations;
    let mut settings = chosen(1, false);
    let ceiling = Some(Operations(100));
    let limits =
        CallerLimits { operations_per_request: ceiling, mode: LimitMode::Refuse, ..CallerLimits::default() };
    settings.callers.insert("caller".into(), limits);
    let (mut bench, mut caller, id) = started(settings, SET);
    let message = writes(&caller, &id, 0..101, &stamped());
    let text = "weir: operations_per_request limit of caller: asked 101, ceiling 100; do not retry at once";
    assert_eq!(bench.ask(&mut caller, &message).error(), (ErrorCode::INVALID, text.to_owned()));
    assert!(bench.data.writes.is_empty());
    let message = writes(&caller, &id, 0..100, &stamped());
    assert!(bench.ask(&mut caller, &message).is_void());
    bench.engine.check_quiet();
}
