//! A statement that a node has forgotten and that many ask for at once is prepared there once.

use crate::bench::{Bench, Caller, settings};
use crate::node::row_value;
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
