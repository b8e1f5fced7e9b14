//! Replies that come late, never, in another order; connections that go.

use crate::bench::{Bench, settings};
use crate::node::row_value;
use crate::wire::{With, query};
use weir_cql::Version;
use weir_cql::response::ErrorCode;
use weir_engine::CutCause;
use weir_engine::settings::Settings;
use weir_engine::units::{LaneId, Operations, Span};

const WRITE: &str = "UPDATE shop.c SET n = n + 1 WHERE k = 1";

fn read(k: i16) -> String {
    format!("SELECT v FROM shop.t WHERE k = {k}")
}

fn cuts(bench: &mut Bench) -> Vec<(LaneId, CutCause)> {
    let mut cuts = Vec::new();
    bench.engine.take_cuts(&mut cuts);
    cuts
}

#[test]
fn equal_stream_ids_of_three_clients_meet_on_one_lane_and_replies_come_in_any_order() {
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut bench = Bench::new(settings(1));
        let mut callers: Vec<_> = (0..3).map(|_| bench.open(version)).collect();
        for (n, caller) in callers.iter().enumerate() {
            for stream in [7, 8, 9] {
                bench.query(caller, stream, &read(stream + 10 * n as i16));
            }
        }
        bench.turn();
        assert_eq!((bench.wires.len(), bench.wires[0].asked.len()), (1, 9));
        let mut ids: Vec<_> = bench.wires[0].asked.iter().map(|asked| asked.stream()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 9, "each has a stream id of its own there");
        for place in [8, 3, 5, 0, 4, 0, 1, 1, 0] {
            bench.answer(0, place);
        }
        for (n, caller) in callers.iter_mut().enumerate() {
            let answers = bench.answers(caller);
            assert_eq!(answers.len(), 3);
            for answer in answers {
                let key = i32::from(answer.stream()) + 10 * n as i32;
                assert_eq!(answer.values(), [row_value("shop.t", key)]);
            }
        }
        bench.engine.check_quiet();
    }
}

#[test]
fn requests_without_a_reply_time_out_as_reads_and_writes_and_leave_orphans() {
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.open(Version::V4);
    bench.query(&caller, 1, &read(1));
    bench.query(&caller, 2, WRITE);
    bench.turn();
    bench.wait(Span::secs(12));
    bench.wait(Span::millis(100));
    let mut answers = bench.answers(&mut caller);
    answers.sort_by_key(|answer| answer.stream());
    assert_eq!(
        [answers[0].code(), answers[1].code()],
        [Some(ErrorCode::READ_TIMEOUT), Some(ErrorCode::WRITE_TIMEOUT)]
    );
    assert_eq!(bench.engine.cluster_counts()[0].orphans, 2);
    // late replies are read over, and the ids are free again
    bench.answer(0, 0);
    bench.answer(0, 0);
    assert!(bench.answers(&mut caller).is_empty());
    assert_eq!(bench.engine.cluster_counts()[0].orphans, 0);
    bench.engine.check_quiet();
}

#[test]
fn a_silent_node_is_found_out_although_everybody_gave_up_on_it() {
    let mut bench = Bench::new(settings(1));
    let caller = bench.open(Version::V4);
    let mut found = Vec::new();
    for stream in 0..250 {
        bench.query(&caller, stream, &read(stream));
        bench.wait(Span::millis(100));
        found.extend(cuts(&mut bench));
        if !found.is_empty() {
            break;
        }
    }
    assert_eq!(found, [(LaneId(0), CutCause::Stalled)]);
    assert!(bench.now.0 < Span::secs(22).0, "{:?}", bench.now);
}

#[test]
fn too_many_orphans_drain_a_lane_and_it_is_replaced() {
    let mut settings = settings(1);
    settings.clusters[0].orphans_max = 10;
    let mut bench = Bench::new(settings);
    let mut stays = bench.open(Version::V4);
    let goes = bench.open(Version::V4);
    (0..11).for_each(|stream| bench.query(&goes, stream, &read(stream)));
    bench.query(&stays, 1, &read(40));
    bench.turn();
    bench.engine.close_client(goes.id, bench.now);
    bench.wait(Span::millis(200));
    assert_eq!(cuts(&mut bench), [], "somebody waits for a reply on it");
    bench.query(&stays, 2, &read(41));
    bench.turn();
    assert_eq!(bench.wires[0].asked.len(), 12, "it takes nothing new");
    bench.answer(0, 11);
    assert_eq!(bench.answers(&mut stays)[0].values(), [row_value("shop.t", 40)]);
    bench.wait(Span::millis(200));
    assert_eq!(cuts(&mut bench), [(LaneId(0), CutCause::Worn)]);
    bench.lose(0);
    bench.up(0);
    assert_eq!(bench.one(&mut stays).values(), [row_value("shop.t", 41)]);
    bench.engine.check_quiet();
}

#[test]
fn with_the_connection_reads_are_asked_again_and_writes_are_not() {
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.open(Version::V4);
    bench.query(&caller, 1, &read(1));
    bench.query(&caller, 2, WRITE);
    bench.query(&caller, 3, "UPDATE shop.t SET v = 'x' WHERE k = 5");
    bench.turn();
    // the node carries both writes out, but no reply arrives
    (0..3).for_each(|_| drop(bench.reply_to(0, 0)));
    bench.lose(0);
    bench.turn();
    let answer = bench.answers(&mut caller).remove(0);
    assert_eq!((answer.stream(), answer.error().0), (2, ErrorCode::SERVER_ERROR));
    assert!(answer.error().1.contains("outcome unknown"), "{answer:?}");
    bench.up(0);
    bench.settle();
    let mut answers = bench.answers(&mut caller);
    answers.sort_by_key(|answer| answer.stream());
    assert_eq!(answers[0].values(), [row_value("shop.t", 1)]);
    assert!(answers[1].is_void());
    assert_eq!(bench.data.writes["shop.c/1"], 1, "never twice");
    assert_eq!(bench.data.writes["shop.t/5"], 2, "setting a value twice is setting it");
    bench.engine.check_quiet();
}

#[test]
fn retries_have_a_budget() {
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.open(Version::V4);
    (0..200).for_each(|stream| bench.query(&caller, stream, &read(stream)));
    bench.turn();
    bench.lose(0);
    bench.turn();
    let lost = bench.answers(&mut caller);
    assert!(lost.iter().all(|answer| answer.error().1.contains("outcome unknown")));
    // ten for free, and a tenth of 200
    assert_eq!(200 - lost.len(), 30);
    bench.up(0);
    bench.settle();
    assert_eq!(bench.answers(&mut caller).len(), 30);
    assert_eq!(bench.engine.cluster_counts()[0].retries_refused, 170);
    // ten seconds on they are forgotten, and so are the requests they were a share of
    bench.now = bench.now.after(Span::secs(10));
    (0..20).for_each(|stream| bench.query(&caller, stream, &read(stream)));
    bench.turn();
    bench.lose(0);
    bench.turn();
    assert_eq!(20 - bench.answers(&mut caller).len(), 12);
}

#[test]
fn another_node_takes_over_and_without_any_it_fails_fast() {
    let mut bench = Bench::new(settings(2));
    let mut caller = bench.open(Version::V4);
    bench.query(&caller, 1, &read(1));
    bench.turn();
    let first = (0..2).find(|lane| !bench.wires[*lane].asked.is_empty()).expect("a lane");
    bench.lose(first);
    bench.turn();
    assert_eq!(bench.wires[1 - first].asked.len(), 1, "the other one is asked");
    assert_eq!(bench.one(&mut caller).values(), [row_value("shop.t", 1)]);
    bench.fail(first);
    for key in 2..6 {
        assert_eq!(bench.ask_text(&mut caller, &read(key)).values(), [row_value("shop.t", key.into())]);
    }
    bench.lose(1 - first);
    bench.query(&caller, 9, &read(9));
    bench.turn();
    assert!(bench.answers(&mut caller).is_empty(), "it may be back soon");
    bench.fail(1 - first);
    let answer = bench.one(&mut caller);
    assert!(answer.error().1.contains("nothing was sent"), "{answer:?}");
    assert!(bench.ask_text(&mut caller, &read(1)).error().1.contains("no node"), "and so is what comes");
    bench.up(first);
    assert_eq!(bench.ask_text(&mut caller, &read(1)).values(), [row_value("shop.t", 1)]);
    bench.engine.check_quiet();
}

fn narrow() -> Settings {
    let mut settings = settings(1);
    settings.clusters[0].requests_in_flight = Operations(2);
    settings
}

#[test]
fn what_waits_too_long_in_the_queue_is_refused_unsent() {
    let mut bench = Bench::new(narrow());
    let mut caller = bench.open(Version::V4);
    (0..5).for_each(|stream| bench.query(&caller, stream, WRITE));
    bench.turn();
    assert_eq!(bench.asked(), 2);
    bench.wait(Span::millis(5_100));
    bench.wait(Span::millis(100));
    let answers = bench.answers(&mut caller);
    assert_eq!(answers.len(), 3);
    assert!(answers.iter().all(|answer| answer.error().1.contains("queue_timeout")));
    bench.settle();
    assert_eq!(bench.answers(&mut caller).len(), 2);
    assert_eq!(bench.data.writes["shop.c/1"], 2);
    bench.engine.check_quiet();
}

#[test]
fn stream_ids_run_out_and_requests_wait() {
    let mut settings = settings(1);
    settings.clusters[0].streams_per_connection = 3;
    let mut bench = Bench::new(settings);
    let mut caller = bench.open(Version::V4);
    (0..20).for_each(|stream| bench.query(&caller, stream, &read(stream)));
    bench.turn();
    assert_eq!(bench.asked(), 3);
    bench.settle();
    assert_eq!(bench.answers(&mut caller).len(), 20);
    bench.engine.check_quiet();
}

#[test]
fn nothing_of_a_client_that_has_gone_reaches_the_next_in_its_slot() {
    let mut bench = Bench::new(settings(1));
    let goes = bench.open(Version::V4);
    bench.query(&goes, 1, &read(1));
    bench.send(&goes, &query(Version::V4, 2, "USE shop", &With::default()));
    bench.turn();
    bench.engine.close_client(goes.id, bench.now);
    let mut comes = bench.open(Version::V4);
    assert_eq!(comes.id.slot, goes.id.slot);
    bench.settle();
    assert!(bench.answers(&mut comes).is_empty());
    let answer = bench.ask_text(&mut comes, "SELECT v FROM t WHERE k = 1");
    assert!(answer.error().1.contains("No keyspace"), "{answer:?}");
    bench.engine.client_wrote(goes.id, 1_000);
    bench.engine.check_quiet();
}

#[test]
fn a_client_that_closed_its_side_is_answered_before_it_is_closed() {
    for version in [Version::V4, Version::V5] {
        let mut bench = Bench::new(narrow());
        let mut caller = bench.open(version);
        let text = |stream, text: &str| query(version, stream, text, &With::default());
        let asked =
            [text(1, "USE shop"), text(2, "SELECT v FROM t WHERE k = 1"), text(3, WRITE), text(4, WRITE)];
        bench.send(&caller, &asked.concat());
        bench.engine.client_eof(caller.id);
        bench.turn();
        assert_eq!(bench.engine.client_closing(caller.id), None);
        bench.settle();
        assert_eq!(bench.engine.client_closing(caller.id), None, "answers are unread");
        assert_eq!(bench.answers(&mut caller).len(), 4);
        let mut dirty = Vec::new();
        bench.engine.take_dirty_clients(&mut dirty);
        assert!(dirty.contains(&caller.id), "the driver is told to look");
        assert_eq!(bench.engine.client_closing(caller.id), Some(weir_engine::CloseHow::Client));
        bench.engine.close_client(caller.id, bench.now);
        bench.engine.check_quiet();
    }
}

#[test]
fn who_was_sent_once_is_never_told_that_nothing_was_sent() {
    let update = "UPDATE shop.s SET v = 'x' WHERE k = 1";
    let select = "SELECT v FROM shop.t WHERE k = 1";
    for (text, twice, words) in [
        (update, false, "nothing was sent"),
        (update, true, "outcome unknown: it was sent before"),
        (select, true, "it was sent before and not answered"),
    ] {
        let mut bench = Bench::new(settings(1));
        let mut caller = bench.open(Version::V4);
        bench.turn();
        if !twice {
            bench.lose(0);
        }
        bench.query(&caller, 3, text);
        bench.turn();
        if twice {
            bench.reply_to(0, 0); // carried out, but nobody hears of it
            bench.lose(0);
        }
        assert!(bench.answers(&mut caller).is_empty(), "it waits for the connection");
        bench.fail(0);
        let (code, said) = bench.answers(&mut caller)[0].error();
        assert_eq!(code, ErrorCode::SERVER_ERROR);
        assert!(said.ends_with(words), "{said}");
        assert_eq!(bench.data.writes.len(), usize::from(twice && text == update));
        bench.engine.check_quiet();
    }
}
