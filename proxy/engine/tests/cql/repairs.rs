//! A statement that a node has forgotten and that many ask for at once is prepared there once.

use crate::bench::{Bench, Caller, settings};
use crate::node::row_value;
use crate::split::{self, in_flight, lanes, request, small};
use crate::wire::{With, execute, int};
use weir_cql::Version;
use weir_engine::units::Span;

const READ: &str = "SELECT v FROM shop.t WHERE k = ?";
const CLIENTS: i32 = 5;

/// Clients that all executed what the node has forgotten, and what they asked is at the node.
fn forgotten() -> (Bench, Vec<Caller>) {
    let mut bench = Bench::new(settings(1));
    let mut callers: Vec<Caller> = (0..CLIENTS).map(|_| bench.open(Version::V4)).collect();
    let id = bench.prepare(&mut callers[0], READ);
    bench.nodes[0].prepared.clear();
    bench.nodes[0].prepares = 0;
    for (key, caller) in (0..).zip(&callers) {
        bench.send(caller, &execute(Version::V4, 3, &id, &With::values(&[int(key)])));
    }
    bench.turn();
    (bench, callers)
}

fn all_have_their_rows(bench: &mut Bench, callers: &mut [Caller], from: i32) {
    for (key, caller) in (from..).zip(callers) {
        let answers = bench.answers(caller);
        assert_eq!(answers.len(), 1, "{key}");
        assert_eq!(answers[0].values(), [row_value("shop.t", key)]);
    }
    bench.engine.check_quiet();
}

#[test]
fn many_clients_one_prepare() {
    let (mut bench, mut callers) = forgotten();
    let lane = 0;
    // everybody is told that it is forgotten before anything is prepared
    (0..CLIENTS).for_each(|_| bench.answer(lane, 0));
    bench.turn();
    assert_eq!(bench.asked(), 1, "one PREPARE");
    bench.settle();
    assert_eq!((bench.nodes[0].prepares, bench.engine.cluster_counts()[0].repaired), (1, 1));
    all_have_their_rows(&mut bench, &mut callers, 0);
}

#[test]
fn who_is_told_after_it_was_prepared_again_prepares_nothing() {
    let (mut bench, mut callers) = forgotten();
    // the node's words are under way to all of them
    let late: Vec<Vec<u8>> = (1..CLIENTS).map(|_| bench.reply_to(0, 1)).collect();
    bench.now = bench.now.after(Span::millis(1));
    bench.answer(0, 0);
    bench.turn();
    bench.answer(0, 0);
    late.iter().for_each(|words| bench.deliver(0, words));
    bench.settle();
    assert_eq!(bench.nodes[0].prepares, 1);
    all_have_their_rows(&mut bench, &mut callers, 0);
}

#[test]
fn when_the_one_that_prepares_goes_another_does() {
    let (mut bench, mut callers) = forgotten();
    (0..CLIENTS).for_each(|_| bench.answer(0, 0));
    bench.turn();
    let gone = callers.remove(0);
    bench.engine.close_client(gone.id, bench.now);
    bench.settle();
    assert!(bench.nodes[0].prepares <= 2, "{}", bench.nodes[0].prepares);
    all_have_their_rows(&mut bench, &mut callers, 1);
}

#[test]
fn with_the_connection_nobody_waits_for_ever() {
    let (mut bench, mut callers) = forgotten();
    (0..CLIENTS).for_each(|_| bench.answer(0, 0));
    bench.turn();
    bench.lose(0);
    bench.up(0);
    bench.settle();
    all_have_their_rows(&mut bench, &mut callers, 0);
}

#[test]
fn an_error_of_the_prepare_is_everybodys() {
    let (mut bench, mut callers) = forgotten();
    (0..CLIENTS).for_each(|_| bench.answer(0, 0));
    bench.turn();
    bench.nodes[0].refuse_prepare = Some("table t does not exist");
    bench.settle();
    assert_eq!(bench.nodes[0].prepares, 1);
    for caller in &mut callers {
        assert!(bench.answers(caller)[0].error().1.contains("does not exist"));
    }
    bench.engine.check_quiet();
}

/// Two split requests whose parts, eight together, and one plain read find their statement forgotten at once.
fn forgotten_by_parts() -> (Bench, Vec<Caller>, Caller) {
    let mut few = small(1);
    few.clusters[0].chunks_in_flight = 8;
    few.clusters[0].chunks_beside_requests = 8;
    let mut bench = Bench::new(few);
    let callers: Vec<Caller> = (0..2).map(|_| bench.open(Version::V4)).collect();
    let mut single = bench.open(Version::V4);
    let id = bench.prepare(&mut single, split::READ);
    bench.nodes[0].prepared.clear();
    bench.nodes[0].prepares = 0;
    for caller in &callers {
        bench.send(caller, &request(caller, 3, &id, 0..40));
    }
    bench.send(&single, &request(&single, 3, &id, 7..9));
    bench.turn();
    assert_eq!(in_flight(&bench), 8);
    let bulk = lanes(&bench, true)[0];
    (0..8).for_each(|_| bench.answer(bulk, 0)); // UNPREPARED, eight times
    bench.answer(lanes(&bench, false)[0], 0);
    bench.turn();
    assert_eq!(bench.asked(), 1, "one PREPARE");
    assert_eq!(in_flight(&bench), 1, "of a part");
    (bench, callers, single)
}

fn all_parts_have_their_rows(bench: &mut Bench, callers: &mut [Caller], single: &mut Caller) {
    for caller in callers {
        assert_eq!(bench.answers(caller)[0].keys(), (0..40).collect::<Vec<_>>());
    }
    assert_eq!(bench.answers(single)[0].keys(), [7, 8]);
    bench.engine.check_quiet();
}

#[test]
fn many_parts_and_a_whole_request_share_one_prepare() {
    let (mut bench, mut callers, mut single) = forgotten_by_parts();
    bench.settle();
    assert_eq!((bench.nodes[0].prepares, bench.engine.cluster_counts()[0].repaired), (1, 1));
    let mut read = bench.nodes[0].keys_read.clone();
    read.sort_unstable();
    assert_eq!(read, [2, 10, 10, 10, 10, 10, 10, 10, 10], "nothing is read twice");
    all_parts_have_their_rows(&mut bench, &mut callers, &mut single);
}

#[test]
fn when_the_request_goes_whose_part_prepares_another_does() {
    let (mut bench, mut callers, mut single) = forgotten_by_parts();
    let gone = callers.remove(0);
    bench.engine.close_client(gone.id, bench.now);
    bench.engine.check_invariants();
    bench.settle();
    assert!(bench.nodes[0].prepares <= 2, "{}", bench.nodes[0].prepares);
    all_parts_have_their_rows(&mut bench, &mut callers, &mut single);
}

#[test]
fn parts_do_not_wait_for_a_prepare_whose_connection_is_lost() {
    let (mut bench, mut callers, mut single) = forgotten_by_parts();
    let bulk = lanes(&bench, true)[0];
    bench.lose(bulk);
    bench.up(bulk);
    bench.settle();
    all_parts_have_their_rows(&mut bench, &mut callers, &mut single);
}

#[test]
fn parts_share_the_error_of_the_prepare() {
    let (mut bench, mut callers, single) = forgotten_by_parts();
    callers.push(single);
    bench.nodes[0].refuse_prepare = Some("table r does not exist");
    bench.settle();
    assert_eq!(bench.nodes[0].prepares, 1);
    for caller in &mut callers {
        let answers = bench.answers(caller);
        assert_eq!(answers.len(), 1);
        assert!(answers[0].error().1.contains("does not exist"));
    }
    bench.engine.check_quiet();
}
