//! `IN (?, ?)` for many keys: asked in parts of a statement of weir's own with one list, which clients never see.

use crate::bench::{Bench, Caller, settings};
use crate::node::{is_own, row_value, statement_id};
use crate::split::{in_flight, lanes, small};
use crate::wire::{self, Answer, With, flagged, int, list};
use weir_cql::response::{ErrorBody, ErrorCode};
use weir_cql::{Flags, Opcode, Version};
use weir_engine::cql::Method;
use weir_engine::settings::SplitChoice;
use weir_engine::units::Span;

/// A read with so many markers of a table.
fn markers(table: &str, count: usize) -> String {
    format!("SELECT k, v FROM shop.{table} WHERE k IN ({})", vec!["?"; count].join(", "))
}

fn values(keys: impl IntoIterator<Item = i32>) -> Vec<Vec<u8>> {
    keys.into_iter().map(int).collect()
}

fn request(caller: &Caller, stream: i16, id: &[u8], keys: impl IntoIterator<Item = i32>) -> Vec<u8> {
    wire::execute(caller.version, stream, id, &With::values(&values(keys)))
}

/// Texts that weir prepared for itself at a node.
fn own(bench: &Bench, node: usize) -> Vec<String> {
    let texts = bench.nodes[node].prepared.values().map(|(_, text)| String::from_utf8_lossy(text).into());
    texts.filter(|text: &String| is_own(text)).collect()
}

fn unsplit(bench: &Bench) -> Vec<(&'static str, u64)> {
    bench.engine.cluster_counts()[0].unsplit.iter().map(|(why, count)| (*why, *count)).collect()
}

fn read_keys(bench: &Bench) -> Vec<usize> {
    bench.nodes.iter().flat_map(|node| node.keys_read.clone()).collect()
}

/// The lane that carries a PREPARE of weir's own, and its place there.
fn prepare_under_way(bench: &Bench) -> Option<(usize, usize)> {
    let mut lanes = bench.wires.iter().enumerate();
    lanes.find_map(|(lane, wire)| {
        let prepare = |asked: &Answer| asked.header.opcode == Opcode::Prepare;
        Some((lane, wire.asked.iter().position(prepare)?))
    })
}

/// Answers that PREPARE with an error.
fn refuse(bench: &mut Bench, code: ErrorCode) {
    let (lane, place) = prepare_under_way(bench).expect("a PREPARE");
    let asked = bench.wires[lane].asked.remove(place).expect("it");
    let mut body = Vec::new();
    ErrorBody::plain(code, "no").write(Version::V4, &mut body);
    let reply = flagged(asked.header.version, asked.stream(), Opcode::Error, Flags::default(), &body);
    bench.deliver(lane, &reply);
}

#[test]
fn rows_are_those_of_the_whole_in_every_version() {
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut bench = Bench::new(small(3));
        let mut caller = bench.open(version);
        let asked: Vec<i32> = (0..95).rev().chain(20..40).chain([-7, 1_000_000]).collect();
        let id = bench.prepare(&mut caller, &markers("holes", asked.len()));
        let answer = {
            let message = request(&caller, 3, &id, asked.clone());
            bench.ask(&mut caller, &message)
        };
        assert_eq!(answer.stream(), 3);
        let bound = bench.prepare(&mut caller, "SELECT k, v FROM shop.holes WHERE k IN ?");
        let message = wire::execute(version, 3, &bound, &With::values(&[list(asked)]));
        let of_list = bench.ask(&mut caller, &message);
        assert_eq!(answer.body, of_list.body, "{version:?}");
        assert_eq!(answer.keys().len(), 77, "97 different keys, and every fifth is not there");
        let mut read = read_keys(&bench);
        read.sort_unstable();
        assert_eq!(read, [&[7, 7][..], &[10; 18]].concat());
        let prepares: usize = bench.nodes.iter().map(|node| node.prepares).sum();
        assert!(prepares <= 1 + 3 + 3, "once for each statement and node that needs it: {prepares}");
        assert_eq!(bench.tallied(Method::Select), (2, 234), "as many operations as were asked for");
        assert_eq!(unsplit(&bench), []);
        bench.engine.check_quiet();
    }
}

#[test]
fn lists_of_any_length_share_one_statement() {
    let mut bench = Bench::new(small(1));
    let mut caller = bench.open(Version::V4);
    for count in [11, 25, 40, 1_000] {
        let id = bench.prepare(&mut caller, &markers("r", count));
        let message = request(&caller, 3, &id, 0..count as i32);
        assert_eq!(bench.ask(&mut caller, &message).keys(), (0..count as i32).collect::<Vec<_>>());
    }
    assert_eq!(own(&bench, 0), ["SELECT k, v FROM shop.r WHERE k IN  ? "]);
    assert_eq!(bench.nodes[0].prepares, 4 + 1);
    let counts = &bench.engine.cluster_counts()[0];
    assert_eq!((counts.prepared, counts.prepared_misses, counts.prepared_hits), (5, 4, 0), "the client's");
    assert_eq!(bench.tallied(Method::Prepare).0, 4, "the client's");
}

#[test]
fn few_keys_and_other_shapes_prepare_nothing() {
    let mut bench = Bench::new(small(1));
    let mut caller = bench.open(Version::V4);
    let many = vec!["?"; 30].join(", ");
    for (text, count) in [
        (markers("r", 10), 10),
        (format!("SELECT count(*) FROM shop.r WHERE k IN ({many})"), 30),
        (format!("SELECT k, v FROM shop.r WHERE k IN ({many}) ORDER BY c"), 30),
    ] {
        let id = bench.prepare(&mut caller, &text);
        let message = request(&caller, 3, &id, 0..count);
        assert_eq!(bench.ask(&mut caller, &message).keys().len(), count as usize, "{text}");
    }
    // a list of another column: the whole partition key is bound without it
    let id = bench.prepare(&mut caller, &format!("SELECT k, v FROM shop.r WHERE k = ? AND c IN ({many})"));
    let message = request(&caller, 3, &id, 0..31);
    bench.ask(&mut caller, &message);
    // a request that carries what only a whole one can
    let id = bench.prepare(&mut caller, &markers("r", 30));
    let serial = Some(weir_cql::Consistency::SERIAL);
    let with = With { consistency: serial, ..With::values(&values(0..30)) };
    let message = wire::execute(Version::V4, 3, &id, &with);
    assert_eq!(bench.ask(&mut caller, &message).keys().len(), 30);
    // a number of values that the statement does not have
    let message = request(&caller, 3, &id, 0..29);
    bench.ask(&mut caller, &message);
    assert!(own(&bench, 0).is_empty() && lanes(&bench, true).is_empty());
    let expected = [("aggregate", 1), ("not_the_key", 1), ("order_by", 1), ("serial", 1), ("values", 1)];
    assert_eq!(unsplit(&bench), expected);
}

#[test]
fn many_that_need_it_at_once_are_one_prepare() {
    let mut bench = Bench::new(small(1));
    let mut callers: Vec<Caller> =
        (0..5).map(|n| bench.open_as(&format!("c{n}"), Version::V4, &[])).collect();
    // other lengths: other statements of the client's, one of weir's
    let ids = [30, 31].map(|count| bench.prepare(&mut callers[0], &markers("r", count)));
    for (at, caller) in callers.iter().enumerate() {
        bench.send(caller, &request(caller, 3, &ids[at % 2], 0..30 + at as i32 % 2));
    }
    // and a client that happens to ask for the same text
    let mut same = bench.open(Version::V4);
    bench.send(&same, &wire::prepare(Version::V4, 8, "SELECT k, v FROM shop.r WHERE k IN  ? "));
    bench.turn();
    assert_eq!(bench.asked(), 1, "nothing else is sent before it is there");
    assert!(prepare_under_way(&bench).is_some());
    bench.settle();
    for (at, caller) in callers.iter_mut().enumerate() {
        assert_eq!(bench.answers(caller)[0].keys().len(), 30 + at % 2);
    }
    let expected = statement_id(None, b"SELECT k, v FROM shop.r WHERE k IN  ? ");
    assert_eq!(bench.answers(&mut same)[0].prepared(), expected);
    assert_eq!(bench.nodes[0].prepares, 3);
    bench.engine.check_quiet();
}

#[test]
fn who_asks_for_the_same_text_first_prepares_it_for_all() {
    for refused in [false, true] {
        let mut bench = Bench::new(small(1));
        let (mut same, mut caller) = (bench.open(Version::V4), bench.open(Version::V4));
        let id = bench.prepare(&mut caller, &markers("r", 30));
        bench.send(&same, &wire::prepare(Version::V4, 8, "SELECT k, v FROM shop.r WHERE k IN  ? "));
        bench.send(&caller, &request(&caller, 3, &id, 0..30));
        bench.turn();
        assert_eq!(bench.asked(), 1);
        if refused {
            refuse(&mut bench, ErrorCode::INVALID);
        }
        assert_eq!(bench.one(&mut caller).keys().len(), 30);
        assert_eq!(bench.answers(&mut same)[0].code(), refused.then_some(ErrorCode::INVALID));
        assert_eq!(read_keys(&bench), if refused { vec![30] } else { vec![10; 3] });
        bench.engine.check_quiet();
    }
}

#[test]
fn what_a_node_refuses_goes_whole_and_is_not_asked_again_before_the_schema_changes() {
    let mut bench = Bench::new(small(1));
    let mut caller = bench.open(Version::V4);
    let mut other = bench.open(Version::V4);
    let (id, longer) =
        (bench.prepare(&mut caller, &markers("r", 30)), bench.prepare(&mut other, &markers("r", 31)));
    bench.send(&caller, &request(&caller, 3, &id, 0..30));
    bench.send(&other, &request(&other, 3, &longer, 0..31));
    bench.turn();
    refuse(&mut bench, ErrorCode::INVALID);
    assert_eq!(bench.one(&mut caller).keys().len(), 30);
    assert_eq!(bench.answers(&mut other)[0].keys().len(), 31);
    assert_eq!(unsplit(&bench), [("list_refused", 2)]);
    let before = bench.nodes[0].prepares;
    for (caller, id, keys) in [(&mut caller, &id, 30), (&mut other, &longer, 31)] {
        let message = request(caller, 3, id, 0..keys);
        assert_eq!(bench.ask(caller, &message).keys().len(), keys as usize);
    }
    assert_eq!((bench.nodes[0].prepares, unsplit(&bench)), (before, vec![("list_refused", 4)]));
    assert_eq!(read_keys(&bench), [30, 31, 30, 31]);
    bench.ask_text(&mut caller, "CREATE TABLE shop.another (k int PRIMARY KEY)");
    let message = request(&caller, 3, &id, 0..30);
    bench.ask(&mut caller, &message);
    assert_eq!(bench.nodes[0].prepares, before + 1);
    assert_eq!(read_keys(&bench)[4..], [10; 3]);
}

#[test]
fn a_node_that_is_busy_just_now_is_asked_again_next_time() {
    let mut bench = Bench::new(small(1));
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, &markers("r", 30));
    bench.send(&caller, &request(&caller, 3, &id, 0..30));
    bench.turn();
    refuse(&mut bench, ErrorCode::OVERLOADED);
    assert_eq!(bench.one(&mut caller).keys().len(), 30);
    assert_eq!(unsplit(&bench), [("list_unprepared", 1)]);
    let message = request(&caller, 3, &id, 0..30);
    bench.ask(&mut caller, &message);
    assert_eq!(read_keys(&bench), [30, 10, 10, 10]);
}

#[test]
fn a_lost_connection_costs_a_second_prepare_then_the_request_goes_whole() {
    let mut bench = Bench::new(small(2));
    let (mut caller, mut other) = (bench.open(Version::V4), bench.open(Version::V4));
    let id = bench.prepare(&mut caller, &markers("r", 30));
    bench.send(&caller, &request(&caller, 3, &id, 0..30));
    bench.send(&other, &request(&other, 4, &id, 5..35));
    bench.turn();
    let (first, _) = prepare_under_way(&bench).expect("a PREPARE");
    bench.lose(first);
    bench.turn();
    let (second, _) = prepare_under_way(&bench).expect("another one");
    assert_ne!(first, second);
    bench.lose(second);
    bench.turn();
    assert!(prepare_under_way(&bench).is_none());
    bench.up(first);
    bench.up(second);
    assert_eq!(bench.one(&mut caller).keys().len(), 30);
    assert_eq!(bench.answers(&mut other)[0].keys().len(), 30);
    assert_eq!(read_keys(&bench), [30, 30]);
    assert_eq!(unsplit(&bench), [("list_unprepared", 2)]);
    let message = request(&caller, 3, &id, 0..30);
    bench.ask(&mut caller, &message);
    assert_eq!(read_keys(&bench).len(), 5);
    bench.engine.check_quiet();
}

#[test]
fn when_the_one_that_prepares_leaves_another_does() {
    let mut bench = Bench::new(small(1));
    let (mut first, mut second) = (bench.open(Version::V4), bench.open(Version::V4));
    let id = bench.prepare(&mut first, &markers("r", 30));
    bench.send(&first, &request(&first, 3, &id, 0..30));
    bench.send(&second, &request(&second, 4, &id, 0..30));
    bench.turn();
    bench.engine.close_client(first.id, bench.now);
    bench.engine.check_invariants();
    bench.turn();
    assert_eq!(bench.asked(), 2, "the leader's, which nobody wants any more, and the next one's");
    assert_eq!(bench.one(&mut second).keys().len(), 30);
    assert_eq!(read_keys(&bench), [10; 3]);
    bench.engine.check_quiet();
}

#[test]
fn a_prepare_that_is_never_answered_is_bounded_by_request_timeout() {
    let mut settings = small(1);
    settings.clusters[0].request_timeout = Span::millis(500);
    let mut bench = Bench::new(settings);
    let (mut caller, mut other) = (bench.open(Version::V4), bench.open(Version::V4));
    let id = bench.prepare(&mut caller, &markers("r", 30));
    bench.send(&caller, &request(&caller, 3, &id, 0..30));
    bench.turn();
    bench.wait(Span::millis(300));
    bench.send(&other, &request(&other, 4, &id, 0..30));
    bench.wait(Span::millis(300));
    let (code, text) = bench.answers(&mut caller)[0].error();
    assert_eq!(code, ErrorCode::READ_TIMEOUT);
    assert!(text.contains("request_timeout"), "{text}");
    // who waited asks itself
    assert_eq!(bench.one(&mut other).keys().len(), 30);
    assert_eq!(read_keys(&bench), [10; 3]);
    bench.engine.check_quiet();
}

#[test]
fn a_node_that_forgets_it_is_told_again() {
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut bench = Bench::new(small(1));
        let mut caller = bench.open(version);
        let id = bench.prepare(&mut caller, &markers("r", 60));
        bench.send(&caller, &request(&caller, 3, &id, 0..60));
        bench.settle();
        assert_eq!(bench.one(&mut caller).keys().len(), 60);
        bench.nodes[0].prepared.clear();
        let prepares = bench.nodes[0].prepares;
        let message = request(&caller, 3, &id, (0..60).rev());
        assert_eq!(bench.ask(&mut caller, &message).keys(), (0..60).collect::<Vec<_>>(), "{version:?}");
        assert_eq!(bench.nodes[0].prepares, prepares + 1, "only the statement that is used");
        assert_eq!(read_keys(&bench), [10; 12], "nothing was read twice");
        // and when it does not exist any more its clients hear why
        bench.nodes[0].prepared.clear();
        bench.nodes[0].refuse_prepare = Some("unconfigured table r");
        let message = request(&caller, 3, &id, 0..60);
        assert_eq!(bench.ask(&mut caller, &message).error().1, "unconfigured table r");
        bench.engine.check_quiet();
    }
}

/// Pages of a request, each asked of the weir that `weirs` has for it in turn.
fn pages(weirs: &mut [(Bench, Caller)], text: &str, keys: &[i32], size: i32) -> Vec<Answer> {
    let (mut found, mut state) = (Vec::new(), None);
    loop {
        let turn = found.len() % weirs.len();
        let (bench, caller) = &mut weirs[turn];
        let id = bench.prepare(caller, text);
        let with =
            With { page_size: Some(size), page_state: state, ..With::values(&values(keys.iter().copied())) };
        let answer = bench.ask(caller, &wire::execute(caller.version, 3, &id, &with));
        assert!(answer.code().is_none(), "{}", answer.describe());
        state = answer.page_state();
        found.push(answer);
        if state.is_none() {
            return found;
        }
        assert!(found.len() < 100, "the pages end");
    }
}

#[test]
fn pages_go_on_in_a_weir_that_has_not_seen_it_yet() {
    let keys: Vec<i32> = (0..95).rev().collect();
    for version in [Version::V3, Version::V4, Version::V5] {
        for (table, each) in [("r", 1), ("wide", 3)] {
            let mut weirs: Vec<(Bench, Caller)> = (0..2)
                .map(|_| {
                    let mut bench = Bench::new(small(1));
                    let caller = bench.open(version);
                    (bench, caller)
                })
                .collect();
            let found = pages(&mut weirs, &markers(table, keys.len()), &keys, 25);
            let rows: Vec<i32> = found.iter().flat_map(Answer::keys).collect();
            let whole: Vec<i32> = (0..95).flat_map(|key| std::iter::repeat_n(key, each)).collect();
            assert_eq!(rows, whole, "{version:?} {table}");
            assert!(found.len() > 2 && weirs.iter().all(|(bench, _)| own(bench, 0).len() == 1));
        }
    }
}

#[test]
fn a_page_state_is_of_the_clients_statement() {
    let mut bench = Bench::new(small(1));
    let mut caller = bench.open(Version::V4);
    let (id, longer) =
        (bench.prepare(&mut caller, &markers("r", 60)), bench.prepare(&mut caller, &markers("r", 61)));
    let bound = bench.prepare(&mut caller, "SELECT k, v FROM shop.r WHERE k IN ?");
    let with = |values: Vec<Vec<u8>>, state: Option<Vec<u8>>| With {
        page_size: Some(20),
        page_state: state,
        ..With::values(&values)
    };
    let first = bench.ask(&mut caller, &wire::execute(Version::V4, 3, &id, &with(values(0..60), None)));
    let state = first.page_state();
    assert_eq!(first.keys(), (0..20).collect::<Vec<_>>());
    // the same keys, and so the same rows, but other statements
    for (id, values, words) in [
        (&longer, values((0..60).chain([59])), "another statement"),
        (&bound, vec![list(0..60)], "another statement"),
        (&id, values(1..61), "other values"),
    ] {
        let message = wire::execute(Version::V4, 3, id, &with(values, state.clone()));
        let (code, text) = bench.ask(&mut caller, &message).error();
        assert_eq!(code, ErrorCode::INVALID);
        assert!(text.contains(words), "{text}");
    }
    // it goes on although splitting was switched off, and although its statement has to be prepared again
    let mut off = small(1);
    off.clusters[0].split = SplitChoice::Off;
    bench.engine.apply(off.into(), bench.now);
    bench.ask_text(&mut caller, "CREATE TABLE shop.another (k int PRIMARY KEY)");
    let message = wire::execute(Version::V4, 3, &id, &with(values((0..60).rev()), state.clone()));
    assert_eq!(bench.ask(&mut caller, &message).keys(), (20..40).collect::<Vec<_>>());
    // where it cannot be had, the client is told: a node could not go on with that state
    for (code, expected) in
        [(ErrorCode::OVERLOADED, ErrorCode::SERVER_ERROR), (ErrorCode::INVALID, ErrorCode::INVALID)]
    {
        bench.ask_text(&mut caller, "CREATE TABLE shop.another (k int PRIMARY KEY)");
        bench.send(&caller, &message);
        bench.turn();
        refuse(&mut bench, code);
        assert_eq!(bench.one(&mut caller).error().0, expected);
    }
    bench.engine.check_quiet();
}

#[test]
fn it_leaves_the_registry_with_the_last_that_needs_it() {
    let mut settings = small(1);
    settings.clusters[0].prepared_max = 4;
    let mut bench = Bench::new(settings);
    let mut caller = bench.open(Version::V4);
    let known = |bench: &mut Bench, caller: &mut Caller, id: &[u8]| {
        let message = wire::execute(Version::V4, 3, id, &With::values(&[list(0..3)]));
        bench.ask(caller, &message).unprepared().is_none()
    };
    let list_id = statement_id(None, b"SELECT k, v FROM shop.r WHERE k IN  ? ");
    let (short, long) =
        (bench.prepare(&mut caller, &markers("r", 20)), bench.prepare(&mut caller, &markers("r", 30)));
    for (id, keys) in [(&short, 20), (&long, 30)] {
        let message = request(&caller, 3, id, 0..keys);
        assert_eq!(bench.ask(&mut caller, &message).keys().len(), keys as usize);
    }
    assert_eq!(bench.engine.cluster_counts()[0].prepared, 3);
    assert!(known(&mut bench, &mut caller, &list_id));
    bench.prepare(&mut caller, "SELECT v FROM shop.a WHERE k = ?");
    bench.prepare(&mut caller, "SELECT v FROM shop.b WHERE k = ?"); // the short one leaves
    assert!(known(&mut bench, &mut caller, &list_id), "the long one needs it");
    bench.prepare(&mut caller, "SELECT v FROM shop.c WHERE k = ?"); // the long one leaves
    let counts = &bench.engine.cluster_counts()[0];
    assert_eq!((counts.prepared, counts.prepared_evicted), (3, 3));
    assert!(!known(&mut bench, &mut caller, &list_id));
    // one that a client asked for as well stays as long as any other
    let long = bench.prepare(&mut caller, &markers("r", 30));
    let message = request(&caller, 3, &long, 0..30);
    assert_eq!(bench.ask(&mut caller, &message).keys().len(), 30);
    assert_eq!(bench.prepare(&mut caller, "SELECT k, v FROM shop.r WHERE k IN  ? "), list_id);
    for table in ["d", "e", "f"] {
        bench.prepare(&mut caller, &format!("SELECT v FROM shop.{table} WHERE k = ?"));
    }
    assert!(known(&mut bench, &mut caller, &list_id));
    bench.engine.check_quiet();
}

#[test]
fn a_registry_of_one_statement_still_answers() {
    let mut settings = small(1);
    settings.clusters[0].prepared_max = 1;
    let mut bench = Bench::new(settings);
    let mut caller = bench.open(Version::V4);
    for _ in 0..3 {
        let id = bench.prepare(&mut caller, &markers("r", 30));
        let message = request(&caller, 3, &id, 0..30);
        assert_eq!(bench.ask(&mut caller, &message).keys().len(), 30);
    }
    assert_eq!(read_keys(&bench), [10; 9]);
    bench.engine.check_quiet();
}

#[test]
fn as_many_markers_as_there_can_be() {
    let mut settings = small(1);
    settings.clusters[0].chunk_keys = 10_000;
    let mut bench = Bench::new(settings);
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, &markers("r", 65_535));
    let message = request(&caller, 3, &id, 0..65_535);
    assert_eq!(bench.ask(&mut caller, &message).keys(), (0..65_535).collect::<Vec<_>>());
    assert_eq!(read_keys(&bench), [&[10_000; 6][..], &[5_535]].concat());
}

#[test]
fn parts_are_parts_like_any_other() {
    let mut bench = Bench::new(small(1));
    let mut caller = bench.open(Version::V4);
    let limited = format!("{} LIMIT ?", markers("r", 50));
    let id = bench.prepare(&mut caller, &limited);
    let mut bound = values((0..50).rev());
    bound.push(int(12));
    let message = wire::execute(Version::V4, 3, &id, &With::values(&bound));
    assert_eq!(bench.ask(&mut caller, &message).keys(), (0..12).collect::<Vec<_>>());
    // an error of one is the answer, and what was not sent is dropped
    let id = bench.prepare(&mut caller, &markers("r", 500));
    bench.nodes[0].refuse_key = Some((15, "no such luck"));
    bench.send(&caller, &request(&caller, 3, &id, 0..500));
    bench.turn();
    while in_flight(&bench) == 0 {
        let (lane, place) = prepare_under_way(&bench).expect("a PREPARE");
        bench.answer(lane, place);
        bench.turn();
    }
    bench.answer(lanes(&bench, true)[0], 1);
    assert_eq!(bench.answers(&mut caller)[0].error().1, "no such luck");
    bench.settle();
    bench.engine.check_quiet();
    // beside it, single reads of the same client wait for nothing
    let mut single = bench.open(Version::V4);
    let answer = bench.ask_text(&mut single, "SELECT k, v FROM shop.r WHERE k = 3");
    assert_eq!(answer.values(), [row_value("shop.r", 3)]);
}

#[test]
fn where_nothing_is_split_nothing_is_prepared() {
    let mut off = settings(1);
    off.clusters[0].chunk_keys = 10;
    off.clusters[0].split = SplitChoice::Off;
    let mut bench = Bench::new(off);
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, &markers("r", 30));
    let message = request(&caller, 3, &id, 0..30);
    assert_eq!(bench.ask(&mut caller, &message).keys().len(), 30);
    assert_eq!((bench.nodes[0].prepares, unsplit(&bench)), (1, vec![("off", 1)]));
}
