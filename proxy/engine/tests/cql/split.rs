//! Requests for many keys in parts: the answer is the one of the whole, whatever comes between.

use crate::bench::{Bench, Caller, settings};
use crate::wire::{self, Answer, With, int, list};
use weir_cql::Version;
use weir_cql::response::ErrorCode;
use weir_engine::LaneState;
use weir_engine::cql::Method;
use weir_engine::settings::{CallerLimits, LimitMode, Settings, SplitChoice};
use weir_engine::units::{Bytes, LaneId, Operations, Span};

pub const READ: &str = "SELECT k, v FROM shop.r WHERE k IN ?";
const HOLES: &str = "SELECT k, v FROM shop.holes WHERE k IN ?";

/// Parts of ten keys, two at a time at each node.
pub fn small(nodes: usize) -> Settings {
    let mut settings = settings(nodes);
    settings.clusters[0].chunk_keys = 10;
    settings.clusters[0].chunks_in_flight = 2;
    settings
}

pub fn request(caller: &Caller, stream: i16, id: &[u8], keys: impl IntoIterator<Item = i32>) -> Vec<u8> {
    wire::execute(caller.version, stream, id, &With::values(&[list(keys)]))
}

/// Lanes that carry parts, and those that carry everything else.
pub fn lanes(bench: &Bench, bulk: bool) -> Vec<usize> {
    bench.engine.lanes().filter(|(_, info)| info.bulk == bulk).map(|(id, _)| id.0 as usize).collect()
}

pub fn in_flight(bench: &Bench) -> usize {
    lanes(bench, true).iter().map(|lane| bench.wires[*lane].asked.len()).sum()
}

fn in_order(keys: impl IntoIterator<Item = i32>) -> Vec<i32> {
    let mut keys: Vec<i32> = keys.into_iter().collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

#[test]
fn rows_come_in_the_order_of_the_keys_once_each_in_every_version() {
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut bench = Bench::new(small(3));
        let mut caller = bench.open(version);
        let id = bench.prepare(&mut caller, HOLES);
        let asked: Vec<i32> = (0..95).rev().chain(20..40).chain([-7, 1_000_000]).collect();
        let message = request(&caller, 3, &id, asked.clone());
        let answer = bench.ask(&mut caller, &message);
        assert_eq!(answer.stream(), 3);
        let there: Vec<i32> = in_order(asked).into_iter().filter(|key| key % 5 != 0).collect();
        assert_eq!(answer.keys(), there, "{version:?}");
        assert_eq!(answer.page_state(), None);
        let mut read: Vec<usize> = bench.nodes.iter().flat_map(|node| node.keys_read.clone()).collect();
        read.sort_unstable();
        assert_eq!(read, [7, 10, 10, 10, 10, 10, 10, 10, 10, 10], "97 different keys by ten");
        assert!(bench.nodes.iter().all(|node| !node.keys_read.is_empty()), "all nodes share the work");
        assert_eq!(lanes(&bench, true).len(), 3, "one more connection to each node");
        assert_eq!(
            bench.tallied(Method::Select),
            (1, 117),
            "one request, as many operations as it asked for"
        );
    }
}

#[test]
fn a_keyspace_chosen_by_use_changes_nothing() {
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut bench = Bench::new(small(1));
        let mut caller = bench.open(version);
        bench.use_keyspace(&mut caller, "shop");
        // behind the table's name, which is sent with its keyspace in v3 and v4
        let id = bench.prepare(&mut caller, "SELECT k, v FROM r WHERE k IN ?");
        let message = request(&caller, 3, &id, 0..50);
        assert_eq!(bench.ask(&mut caller, &message).keys(), (0..50).collect::<Vec<_>>());
        assert_eq!(bench.nodes[0].keys_read, [10; 5], "{version:?}");
    }
}

#[test]
fn answers_in_any_order_make_the_same_rows() {
    let mut bench = Bench::new(small(2));
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    let message = request(&caller, 3, &id, 0..100);
    bench.send(&caller, &message);
    bench.turn();
    while in_flight(&bench) > 0 {
        let busy = lanes(&bench, true);
        let lane = *busy.iter().rev().find(|lane| !bench.wires[**lane].asked.is_empty()).expect("one");
        bench.answer(lane, bench.wires[lane].asked.len() - 1);
        bench.turn();
    }
    assert_eq!(bench.answers(&mut caller)[0].keys(), (0..100).collect::<Vec<_>>());
    bench.engine.check_quiet();
}

#[test]
fn no_more_parts_are_in_flight_than_the_budget_whoever_asks() {
    let mut bench = Bench::new(small(2));
    let mut callers: Vec<Caller> = (0..6)
        .map(|n| bench.open_as(&format!("caller {n}"), [Version::V3, Version::V4, Version::V5][n % 3], &[]))
        .collect();
    for caller in &mut callers {
        let id = bench.prepare(caller, READ);
        bench.send(caller, &request(caller, 3, &id, 0..200));
    }
    bench.turn();
    let mut most = 0;
    while in_flight(&bench) > 0 {
        for node in 0..2 {
            let of_node = |lane: &usize| bench.info(*lane).0 == node;
            let lanes: Vec<usize> = lanes(&bench, true).into_iter().filter(of_node).collect();
            let busy: usize = lanes.iter().map(|lane| bench.wires[*lane].asked.len()).sum();
            assert!(busy <= 2, "{busy} parts at node {node}");
            most = most.max(busy);
        }
        let lane =
            *lanes(&bench, true).iter().find(|lane| !bench.wires[**lane].asked.is_empty()).expect("one");
        bench.answer(lane, 0);
        bench.turn();
    }
    assert_eq!(most, 2, "and the budget is used");
    for caller in &mut callers {
        assert_eq!(bench.answers(caller)[0].keys().len(), 200);
    }
}

#[test]
fn a_single_read_never_waits_behind_parts() {
    let mut bench = Bench::new(small(1));
    let mut big = bench.open_as("big", Version::V4, &[]);
    let id = bench.prepare(&mut big, READ);
    for stream in 0..10 {
        bench.send(&big, &request(&big, stream, &id, 0..500));
    }
    bench.turn();
    let mut single = bench.open_as("single", Version::V4, &[]);
    for key in 0..5 {
        bench.query(&single, 1, &format!("SELECT k, v FROM shop.r WHERE k = {key}"));
        bench.turn();
        let [lane] = lanes(&bench, false)[..] else { panic!("one lane") };
        assert_eq!(bench.wires[lane].asked.len(), 1, "it is the only one on its connection");
        bench.answer(lane, 0);
        assert_eq!(bench.answers(&mut single)[0].keys(), [key]);
        assert_eq!(in_flight(&bench), 2, "the parts still wait for theirs");
    }
}

#[test]
fn few_keys_and_statements_of_another_shape_go_whole() {
    let mut bench = Bench::new(small(1));
    let mut caller = bench.open(Version::V4);
    for (text, keys) in [
        (READ, 0..10),
        ("SELECT count(*) FROM shop.r WHERE k IN ?", 0..100),
        ("SELECT k, v FROM shop.r WHERE k IN ? ALLOW FILTERING", 0..100),
    ] {
        let id = bench.prepare(&mut caller, text);
        let message = request(&caller, 3, &id, keys.clone());
        assert_eq!(bench.ask(&mut caller, &message).keys(), keys.collect::<Vec<_>>());
        assert!(lanes(&bench, true).is_empty(), "{text}");
    }
    let counts = &bench.engine.cluster_counts()[0];
    let why: Vec<_> = counts.unsplit.iter().map(|(why, count)| (*why, *count)).collect();
    assert_eq!(why, [("aggregate", 1), ("filtering", 1)], "ten keys are not many");
}

#[test]
fn the_operator_decides_and_scylla_is_known() {
    let split = |choice, scylla: Option<bool>, switch| {
        let mut settings = small(2);
        settings.clusters[0].split = choice;
        settings.listeners[0].switches.split = switch;
        let mut bench = Bench::new(settings);
        let mut caller = bench.open(Version::V4);
        let id = bench.prepare(&mut caller, READ);
        if let Some(scylla) = scylla {
            bench.engine.lane_says(LaneId(1), scylla);
        }
        let message = request(&caller, 3, &id, 0..50);
        assert_eq!(bench.ask(&mut caller, &message).keys().len(), 50);
        !lanes(&bench, true).is_empty()
    };
    assert!(split(SplitChoice::Auto, None, true));
    assert!(split(SplitChoice::Auto, Some(false), true));
    assert!(!split(SplitChoice::Auto, Some(true), true));
    assert!(split(SplitChoice::On, Some(true), true));
    assert!(!split(SplitChoice::Off, Some(false), true));
    assert!(!split(SplitChoice::On, Some(false), false), "weir switch");
}

#[test]
fn an_error_of_one_part_is_the_answer_and_the_rest_is_dropped() {
    let mut bench = Bench::new(small(1));
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    bench.nodes[0].refuse_key = Some((15, "no such luck"));
    bench.send(&caller, &request(&caller, 3, &id, 0..500));
    bench.turn();
    let lane = lanes(&bench, true)[0];
    bench.answer(lane, 1); // the second part
    let answers = bench.answers(&mut caller);
    assert_eq!(answers[0].error(), (ErrorCode::INVALID, "no such luck".to_owned()));
    assert_eq!(in_flight(&bench), 1, "the first part is still owed, the others are never sent");
    assert_eq!(bench.engine.cluster_counts()[0].orphans, 1);
    bench.settle();
    assert!(bench.answers(&mut caller).is_empty(), "one answer");
    assert_eq!(bench.nodes[0].keys_read, [10, 10]);
    bench.engine.check_quiet();
}

#[test]
fn a_part_whose_statement_is_forgotten_is_repaired_alone() {
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut bench = Bench::new(small(1));
        let mut caller = bench.open(version);
        let id = bench.prepare(&mut caller, READ);
        bench.send(&caller, &request(&caller, 3, &id, 0..60));
        bench.turn();
        let lane = lanes(&bench, true)[0];
        bench.answer(lane, 0);
        bench.turn();
        bench.nodes[0].prepared.clear();
        let prepares = bench.nodes[0].prepares;
        bench.answer(lane, 0); // UNPREPARED
        bench.turn();
        let answer = bench.one(&mut caller);
        assert_eq!(answer.keys(), (0..60).collect::<Vec<_>>(), "{version:?}");
        assert!((1..=2).contains(&(bench.nodes[0].prepares - prepares)), "two parts were under way");
        assert_eq!(bench.nodes[0].keys_read, [10; 6], "no part was read twice");
        assert!(bench.engine.cluster_counts()[0].repaired >= 1);
    }
}

#[test]
fn a_statement_that_cannot_be_prepared_any_more_ends_the_request() {
    let mut bench = Bench::new(small(1));
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    bench.nodes[0].prepared.clear();
    bench.nodes[0].refuse_prepare = Some("unconfigured table r");
    let message = request(&caller, 3, &id, 0..60);
    let answer = bench.ask(&mut caller, &message);
    assert_eq!(answer.error(), (ErrorCode::INVALID, "unconfigured table r".to_owned()));
    bench.engine.check_quiet();
}

#[test]
fn parts_of_a_lost_connection_are_sent_again() {
    let mut bench = Bench::new(small(2));
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    bench.send(&caller, &request(&caller, 3, &id, 0..100));
    bench.turn();
    let bulk = lanes(&bench, true);
    bench.lose(bulk[0]);
    bench.turn();
    bench.lose(bulk[1]);
    assert!(bench.answers(&mut caller).is_empty());
    bench.up(bulk[1]);
    assert_eq!(bench.one(&mut caller).keys(), (0..100).collect::<Vec<_>>());
    assert!(bench.engine.snapshot(bench.now).retries >= 2);
}

#[test]
fn without_a_retry_budget_a_lost_part_ends_the_request() {
    let mut settings = small(1);
    settings.clusters[0].retry_percent = 0;
    let mut bench = Bench::new(settings);
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    let mut answered = None;
    bench.send(&caller, &request(&caller, 3, &id, 0..100));
    bench.turn();
    let lane = lanes(&bench, true)[0];
    for _ in 0..20 {
        bench.lose(lane);
        bench.up(lane);
        bench.turn();
        answered = answered.or(bench.answers(&mut caller).pop());
    }
    let (code, text) = answered.expect("an answer").error();
    assert_eq!(code, ErrorCode::SERVER_ERROR);
    assert!(text.contains("outcome unknown"), "{text}");
    bench.settle();
    bench.engine.check_quiet();
}

#[test]
fn no_connection_for_parts_is_told_at_once_and_heals() {
    let mut bench = Bench::new(small(1));
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    bench.connect = false;
    bench.send(&caller, &request(&caller, 3, &id, 0..100));
    bench.turn();
    let lane = lanes(&bench, true)[0];
    assert!(bench.answers(&mut caller).is_empty(), "it may be connected yet");
    bench.fail(lane);
    let (code, text) = bench.answers(&mut caller)[0].error();
    assert_eq!(code, ErrorCode::SERVER_ERROR);
    assert!(text.contains("no node"), "{text}");
    let message = request(&caller, 4, &id, 0..100);
    bench.send(&caller, &message);
    assert!(bench.answers(&mut caller)[0].code().is_some(), "at once");
    bench.up(lane);
    assert_eq!(bench.ask(&mut caller, &message).keys().len(), 100);
}

#[test]
fn a_client_that_leaves_takes_what_is_unsent_along() {
    let mut bench = Bench::new(small(1));
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    bench.send(&caller, &request(&caller, 3, &id, 0..500));
    bench.turn();
    let lane = lanes(&bench, true)[0];
    bench.answer(lane, 0);
    bench.engine.close_client(caller.id, bench.now);
    bench.engine.check_invariants();
    bench.turn();
    assert_eq!(in_flight(&bench), 1, "what was sent is owed; nothing more is sent");
    let before = bench.nodes[0].keys_read.len();
    bench.settle();
    assert_eq!(bench.nodes[0].keys_read.len(), before + 1);
    bench.engine.check_quiet();
}

#[test]
fn parts_nobody_waits_for_count_against_the_budget() {
    let mut bench = Bench::new(small(1));
    let mut first = bench.open(Version::V4);
    let id = bench.prepare(&mut first, READ);
    bench.send(&first, &request(&first, 3, &id, 0..500));
    bench.turn();
    bench.engine.close_client(first.id, bench.now);
    let second = bench.open(Version::V4);
    bench.send(&second, &request(&second, 3, &id, 0..500));
    bench.turn();
    assert_eq!(in_flight(&bench), 2, "the node still works on those of the client that left");
}

#[test]
fn time_outs_hold_for_the_whole() {
    let mut settings = small(1);
    settings.clusters[0].queue_timeout = Span::millis(500);
    settings.clusters[0].request_timeout = Span::millis(2_000);
    settings.clusters[0].chunks_in_flight = 1;
    let mut bench = Bench::new(settings);
    let (mut first, mut second) =
        (bench.open_as("a", Version::V4, &[]), bench.open_as("a", Version::V4, &[]));
    let id = bench.prepare(&mut first, READ);
    bench.send(&first, &request(&first, 3, &id, 0..500));
    bench.turn();
    bench.send(&second, &request(&second, 3, &id, 0..500));
    for _ in 0..8 {
        bench.wait(Span::millis(100));
    }
    let (code, text) = bench.answers(&mut second)[0].error();
    assert_eq!(code, ErrorCode::SERVER_ERROR);
    assert!(text.contains("queue_timeout"), "{text}");
    assert!(bench.answers(&mut first).is_empty());
    let lane = lanes(&bench, true)[0];
    let mut answered = None;
    while answered.is_none() {
        bench.answer(lane, 0); // it goes on, but not fast enough
        bench.wait(Span::millis(100));
        answered = bench.answers(&mut first).pop();
    }
    let (code, text) = answered.expect("an answer").error();
    assert_eq!(code, ErrorCode::READ_TIMEOUT);
    assert!(text.contains("request_timeout"), "{text}");
    bench.settle();
    bench.engine.check_quiet();
}

/// Walks the pages of a request; every page's rows.
fn pages(bench: &mut Bench, caller: &mut Caller, id: &[u8], values: &[Vec<u8>], size: i32) -> Vec<Answer> {
    let mut found = Vec::new();
    let mut state = None;
    loop {
        let with = With { page_size: Some(size), page_state: state, ..With::values(values) };
        let answer = bench.ask(caller, &wire::execute(caller.version, 3, id, &with));
        assert!(answer.code().is_none(), "{}", answer.describe());
        state = answer.page_state();
        found.push(answer);
        if state.is_none() {
            return found;
        }
        assert!(found.len() < 1_000, "the pages end");
    }
}

#[test]
fn pages_are_those_of_the_whole_and_parts_run_ahead_only_within_one() {
    for version in [Version::V3, Version::V4, Version::V5] {
        for (text, each) in [(READ, 1), ("SELECT k, v FROM shop.wide WHERE k IN ?", 3)] {
            for size in [1, 7, 25, 30, 1_000] {
                let mut bench = Bench::new(small(2));
                let mut caller = bench.open(version);
                let id = bench.prepare(&mut caller, text);
                let found = pages(&mut bench, &mut caller, &id, &[list(0..95)], size);
                let keys: Vec<i32> = found.iter().flat_map(Answer::keys).collect();
                let whole: Vec<i32> = (0..95).flat_map(|key| std::iter::repeat_n(key, each)).collect();
                assert_eq!(keys, whole, "{version:?} {text} by {size}");
                let (last, others) = found.split_last().expect("a page");
                assert!(others.iter().all(|page| page.keys().len() >= size.min(7) as usize));
                assert!(last.keys().len() <= size as usize + 30);
                // what runs ahead of a page that is full would be read twice
                let read: usize = bench.nodes.iter().flat_map(|node| &node.keys_read).sum();
                let inner = if size < 30 { others.len() * 10 } else { 0 };
                // how many rows a key has is found out by the first pages
                let guessed = if each > 1 { 60 } else { 0 };
                assert!(read <= 95 + inner + guessed, "{read} keys read for 95, {text} by {size}");
            }
        }
    }
}

#[test]
fn a_page_state_goes_on_although_splitting_was_switched_off_and_only_with_its_request() {
    let mut bench = Bench::new(small(1));
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    let with = With { page_size: Some(20), ..With::values(&[list(0..60)]) };
    let first = bench.ask(&mut caller, &wire::execute(Version::V4, 3, &id, &with));
    let state = first.page_state();
    let mut off = small(1);
    off.clusters[0].split = SplitChoice::Off;
    bench.engine.apply(off.into(), bench.now);
    let next = With { page_state: state.clone(), ..with.clone() };
    let answer = bench.ask(&mut caller, &wire::execute(Version::V4, 3, &id, &next));
    assert_eq!(answer.keys(), (20..40).collect::<Vec<_>>());
    let other = With { page_state: state, page_size: Some(20), ..With::values(&[list(0..61)]) };
    let answer = bench.ask(&mut caller, &wire::execute(Version::V4, 3, &id, &other));
    assert_eq!(answer.error().0, ErrorCode::INVALID);
    bench.engine.check_quiet();
}

#[test]
fn a_limit_ends_the_parts() {
    for (text, bound) in [
        ("SELECT k, v FROM shop.r WHERE k IN ? LIMIT 12", false),
        ("SELECT k, v FROM shop.r WHERE k IN ? LIMIT ?", true),
    ] {
        let mut bench = Bench::new(small(1));
        let mut caller = bench.open(Version::V4);
        let id = bench.prepare(&mut caller, text);
        let mut values = vec![list((0..500).rev())];
        if bound {
            values.push(int(12));
        }
        let message = wire::execute(Version::V4, 3, &id, &With::values(&values));
        assert_eq!(bench.ask(&mut caller, &message).keys(), (0..12).collect::<Vec<_>>(), "{text}");
        assert!(bench.nodes[0].keys_read.len() <= 3, "{:?}", bench.nodes[0].keys_read);
        let found = pages(&mut bench, &mut caller, &id, &values, 5);
        let keys: Vec<i32> = found.iter().flat_map(Answer::keys).collect();
        assert_eq!(keys, (0..12).collect::<Vec<_>>(), "{text} in pages");
    }
}

#[test]
fn answers_held_are_bounded_and_the_oldest_request_goes_on() {
    let mut settings = small(1);
    settings.clusters[0].gather_bytes_max = Bytes(6_000);
    let mut bench = Bench::new(settings);
    let mut callers: Vec<Caller> =
        (0..5).map(|n| bench.open_as(&format!("c{n}"), Version::V4, &[])).collect();
    let id = bench.prepare(&mut callers[0], READ);
    for caller in &callers {
        bench.send(caller, &request(caller, 3, &id, 0..100));
    }
    bench.turn();
    let (mut most, mut crowded) = (0, 0);
    while in_flight(&bench) > 0 {
        let held = bench.engine.cluster_counts()[0].part_bytes;
        most = most.max(held);
        crowded += usize::from(held > 6_000);
        bench.answer(lanes(&bench, true)[0], 0);
        bench.turn();
    }
    assert!(crowded > 0, "the bound was met");
    assert!(most <= 6_000 + 3 * 2_000, "{most} bytes held: the bound and what was in flight");
    for caller in &mut callers {
        assert_eq!(bench.answers(caller)[0].keys().len(), 100);
    }
    bench.engine.check_quiet();
}

#[test]
fn an_answer_that_is_too_large_alone_is_refused_by_name() {
    let mut settings = small(1);
    settings.clusters[0].gather_bytes_max = Bytes(2_000);
    let mut bench = Bench::new(settings);
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    let message = request(&caller, 3, &id, 0..1_000);
    let (code, text) = bench.ask(&mut caller, &message).error();
    assert_eq!(code, ErrorCode::INVALID);
    assert!(text.contains("gather_bytes_max (2000 bytes)"), "{text}");
    bench.engine.check_quiet();
}

#[test]
fn nodes_that_leave_hand_their_parts_on() {
    let mut bench = Bench::new(small(2));
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    bench.send(&caller, &request(&caller, 3, &id, 0..200));
    bench.turn();
    let mut fewer = small(2);
    fewer.clusters[0].contacts.remove(0);
    bench.engine.apply(fewer.into(), bench.now);
    bench.engine.check_invariants();
    let before = bench.nodes[0].keys_read.len();
    assert_eq!(bench.one(&mut caller).keys(), (0..200).collect::<Vec<_>>());
    assert!(bench.nodes[0].keys_read.len() <= before + 2, "only what it had been sent");
}

#[test]
fn a_request_is_refused_whole_and_priced_once() {
    let mut settings = small(1);
    settings.undeclared = CallerLimits {
        operations_per_request: Some(Operations(50)),
        mode: LimitMode::Refuse,
        ..CallerLimits::default()
    };
    let mut bench = Bench::new(settings);
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    let message = request(&caller, 3, &id, 0..51);
    assert_eq!(bench.ask(&mut caller, &message).error().0, ErrorCode::INVALID);
    assert!(lanes(&bench, true).is_empty());
    let message = request(&caller, 3, &id, 0..50);
    assert_eq!(bench.ask(&mut caller, &message).keys().len(), 50, "five parts, one price");
    assert_eq!(bench.tallied(Method::Select).1, 101);
}

#[test]
fn the_snapshot_shows_the_bulk_lane_and_its_keys() {
    let mut bench = Bench::new(small(1));
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    bench.send(&caller, &request(&caller, 3, &id, 0..95));
    bench.turn();
    let server = &bench.engine.snapshot(bench.now).servers[0];
    let kinds: Vec<_> = server.lanes.iter().map(|lane| (lane.bulk, lane.state, lane.owed)).collect();
    assert_eq!(kinds, [(false, LaneState::Up, 0), (true, LaneState::Up, 2)]);
    assert_eq!(server.bulk_keys, Operations(20));
    let counts = &bench.engine.cluster_counts()[0];
    assert_eq!((counts.bulk_lanes, counts.parts_in_flight, counts.splits_open), (1, 2, 1));
    assert_eq!(counts.part_keys_waiting, 75);
    bench.settle();
    bench.answers(&mut caller);
    assert_eq!(bench.engine.cluster_counts()[0].split_ended[0], 1);
}
