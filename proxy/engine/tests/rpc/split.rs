//! Calls in parts: which, when, whose turn, and what their ends mean.

use crate::bench::{Bench, body, ok, settings};
use weir_engine::ledger::Outcome;
use weir_engine::rpc::{Event, Progress, Start, Verdict, unsplit};
use weir_engine::units::{Bytes, Span};

#[test]
fn parts_cover_the_keys_in_order_and_never_exceed_window_and_budget() {
    let mut bench = Bench::new(settings(|settings| settings.services[0].chunk_window = 5));
    let (call, verdict) = bench.ask("a", 1_250);
    assert_eq!(verdict, Verdict::Split { chunks: 13, chunk_keys: 100 });
    let (mut flying, mut seen) = (bench.starts(), Vec::new());
    assert_eq!(flying.len(), 5, "the window; the servers would take 8");
    let complete = loop {
        let standing = &bench.engine.services(bench.now)[0];
        assert!(standing.servers.iter().all(|server| server.chunks <= 3), "spread over both servers");
        let start = flying.remove(flying.len() / 2);
        seen.push((start.first_key, start.keys));
        let progress = bench.answer(&start);
        flying.extend(bench.starts());
        if progress == Progress::Complete {
            break flying.is_empty();
        }
        assert_eq!(progress, Progress::More);
    };
    assert!(complete);
    seen.sort_unstable();
    let expected: Vec<(u64, u64)> = (0..13).map(|n| (n * 100, if n == 12 { 50 } else { 100 })).collect();
    assert_eq!(seen, expected);
    assert_eq!(bench.engine.services(bench.now)[0].gathered, 1_250 * 500);
    bench.answered(call, &ok(1_250, 600_000));
    let [(_, tally)] = &bench.tallies()[..] else { panic!("one") };
    assert_eq!((tally.operations, tally.backend_operations, tally.chunks), (1_250, 1_250, 13));
    let counts = bench.engine.services(bench.now).remove(0).counts;
    assert_eq!((counts.chunks, counts.splits[Outcome::Ok.index()]), (13, 1));
    bench.engine.check_quiet();
}

#[test]
fn one_failed_part_fails_the_call_and_its_places_come_back_when_the_others_have_stopped() {
    let mut bench = Bench::new(settings(|settings| settings.services[0].servers.truncate(1)));
    let (call, _) = bench.ask("a", 2_000);
    let starts = bench.starts();
    assert_eq!(starts.len(), 4);
    let Progress::Failed { cancel } = bench.engine.part_failed(starts[1].part, bench.now) else {
        panic!("failed")
    };
    assert_eq!(cancel, [0, 3, 2], "the others in flight");
    bench.engine.check_invariants();
    assert!(bench.starts().is_empty(), "nothing of it is started any more");
    bench.answered(call, &weir_engine::rpc::End { outcome: Outcome::Error, reply_keys: 0, bytes: 20 });
    assert_eq!(bench.engine.services(bench.now)[0].orphans, 3);
    // somebody else's parts get the one place that is free, and the others as they come back
    bench.ask("b", 1_000);
    assert_eq!(bench.starts().len(), 1);
    assert_eq!(bench.engine.part_answered(starts[0].part, 100, 9, bench.now), Progress::Gone);
    bench.engine.part_over(starts[2].part, bench.now);
    bench.engine.part_over(starts[3].part, bench.now);
    bench.engine.part_over(starts[3].part, bench.now); // told twice
    bench.engine.check_invariants();
    assert_eq!(bench.starts().len(), 3);
    assert_eq!(bench.engine.services(bench.now)[0].orphans, 0);
    let failed: u64 = bench.tallies().iter().map(|(_, t)| t.requests[Outcome::Error.index()]).sum();
    assert_eq!(failed, 1);
}

#[test]
fn a_client_that_leaves_stops_its_parts() {
    let mut bench = Bench::new(settings(|_| {}));
    let (call, _) = bench.ask("a", 2_000);
    let starts = bench.starts();
    let cancel = bench.engine.cancelled(call, bench.now);
    assert_eq!(cancel.len(), starts.len());
    assert!(bench.engine.cancelled(call, bench.now).is_empty(), "once");
    assert!(bench.starts().is_empty());
    starts.iter().for_each(|start| bench.engine.part_over(start.part, bench.now));
    bench.engine.check_quiet();
    let gone: u64 = bench.tallies().iter().map(|(_, t)| t.requests[Outcome::ClientGone.index()]).sum();
    assert_eq!(gone, 1);
}

#[test]
fn a_deadline_ends_a_call_in_parts() {
    let mut bench = Bench::new(settings(|_| {}));
    let (call, _) = bench.ask("a", 2_000);
    let starts = bench.starts();
    bench.after(Span::secs(30));
    bench.engine.on_timer(bench.now);
    let [Event::Ended { call: ended, refusal: None, cancel }] = &bench.events()[..] else { panic!("ended") };
    assert_eq!((*ended, cancel.len()), (call, 4));
    starts.iter().for_each(|start| bench.engine.part_over(start.part, bench.now));
    bench.engine.check_quiet();
}

#[test]
fn a_small_call_never_waits_behind_parts() {
    let mut bench = Bench::new(settings(|_| {}));
    for principal in ["a", "b", "c"] {
        bench.ask(principal, 20_000);
    }
    assert_eq!(bench.starts().len(), 8, "four of each server");
    for n in 0..500 {
        let (_, verdict) = bench.ask("quiet", 1 + n % 100);
        assert!(matches!(verdict, Verdict::Forward(_)), "{verdict:?}");
    }
}

#[test]
fn a_quiet_caller_gets_its_share_of_the_parts() {
    let mut bench = Bench::new(settings(|_| {}));
    // one principal with many calls, of which each would fill every place for minutes
    (0..50).for_each(|_| drop(bench.ask("greedy", 20_000)));
    let mut flying = bench.starts();
    let (quiet, _) = bench.ask("quiet", 300);
    let mut rounds = 0;
    let mut missing = 3;
    while missing > 0 {
        rounds += 1;
        let start = flying.remove(0);
        bench.answer(&start);
        let started = bench.starts();
        missing -= started.iter().filter(|start| start.part.call == quiet).count();
        flying.extend(started);
    }
    assert!(rounds <= 6, "every other part is the quiet caller's while it has any: {rounds}");
}

#[test]
fn calls_of_one_principal_take_turns() {
    let mut bench = Bench::new(settings(|_| {}));
    let (first, _) = bench.ask("a", 20_000);
    let mut flying = bench.starts();
    let (second, _) = bench.ask("a", 20_000);
    let mut started = Vec::new();
    for _ in 0..40 {
        let start = flying.remove(0);
        bench.answer(&start);
        let new = bench.starts();
        started.extend(new.iter().map(|start| start.part.call));
        flying.extend(new);
    }
    let of = |call| started.iter().filter(|of| **of == call).count();
    assert!(of(first).abs_diff(of(second)) <= 8, "{} and {}", of(first), of(second));
}

#[test]
fn while_too_many_bytes_are_held_only_the_oldest_goes_on() {
    let mut bench = Bench::new(settings(|settings| {
        settings.services[0].gather_bytes_max = Bytes(99_999);
    }));
    let (oldest, _) = bench.ask("a", 1_000);
    let (second, _) = bench.ask("b", 1_000);
    let mut flying: Vec<Start> = bench.starts();
    assert!(flying.iter().any(|start| start.part.call == second));
    let mut after_crowded = Vec::new();
    let mut ended = false;
    while let Some(start) = flying.pop() {
        let progress = bench.answer(&start);
        let new = bench.starts();
        if bench.engine.services(bench.now)[0].gathered > 99_999 && !ended {
            after_crowded.extend(new.iter().map(|start| start.part.call));
        }
        flying.extend(new);
        if progress == Progress::Complete {
            let call = start.part.call;
            assert!(ended || call == oldest, "the oldest is done first");
            bench.answered(call, &ok(1_000, 500_000));
            ended = true;
            flying.extend(bench.starts());
        }
    }
    assert!(!after_crowded.is_empty() && after_crowded.iter().all(|call| *call == oldest));
    bench.engine.check_quiet();
}

#[test]
fn what_is_not_split_goes_whole_and_says_why() {
    let mut bench = Bench::new(settings(|_| {}));
    let whole = |bench: &mut Bench, splittable| {
        let call = bench.begin("a");
        let verdict =
            bench.engine.counted(call, &weir_engine::rpc::Body { splittable, ..body(5_000) }, bench.now);
        assert!(matches!(verdict, Verdict::Forward(start) if start.keys == 5_000), "{verdict:?}");
    };
    whole(&mut bench, false);
    assert!(bench.engine.stop_splitting(crate::bench::GET_POSTS, 9, bench.now));
    assert!(!bench.engine.stop_splitting(crate::bench::GET_POSTS, 10, bench.now), "it was stopped already");
    whole(&mut bench, true);
    let stopped = bench.engine.stopped();
    assert_eq!((&*stopped[0].method, stopped[0].field, stopped.len()), (crate::bench::GET_POSTS, 9, 1));
    let counts = bench.engine.services(bench.now).remove(0).counts.unsplit;
    assert_eq!((counts[unsplit::METHOD], counts[unsplit::STOPPED]), (1, 1));
    let settings = settings(|settings| settings.listeners[0].switches.split = false);
    bench.engine.apply(settings, bench.now);
    assert!(bench.engine.stopped().is_empty(), "a reload may have brought a better description");
    whole(&mut bench, true);
    let counts = bench.engine.services(bench.now).remove(0).counts.unsplit;
    assert_eq!(counts[unsplit::SWITCHED_OFF], 1);
    let mut stops = 0;
    bench.engine.take_method_counts(|_, counts| stops += counts.split_stopped);
    assert_eq!(stops, 1);
}

#[test]
fn parts_of_a_long_call_are_few_while_servers_have_other_calls() {
    let mut bench = Bench::new(settings(|settings| {
        settings.services[0].servers.truncate(1);
        settings.services[0].chunks_beside_calls = 2;
    }));
    let (_, verdict) = bench.ask("neighbour", 20);
    let Verdict::Forward(call) = verdict else { panic!("{verdict:?}") };
    bench.ask("batches", 2_000);
    let mut parts = bench.starts();
    assert_eq!(parts.len(), 2, "beside the call");
    bench.ask("another", 150);
    let short = bench.starts();
    assert_eq!(short.len(), 2, "a short one has its whole window");
    for part in &short {
        bench.answer(part);
    }
    assert!(bench.starts().is_empty());
    bench.answered(call.part.call, &ok(20, 600));
    // the call is over, and the next one may come: as many as before
    bench.now = bench.now.after(Span::millis(19));
    bench.answer(&parts.remove(0));
    parts.extend(bench.starts());
    assert_eq!(parts.len(), 2);
    // nobody came
    bench.now = bench.now.after(Span::millis(1));
    bench.answer(&parts.remove(0));
    parts.extend(bench.starts());
    assert_eq!(parts.len(), 4);
    // those that are under way when a call comes go on, and are not followed by others
    bench.ask("neighbour", 20);
    for left in [3, 2, 2] {
        bench.answer(&parts.remove(0));
        parts.extend(bench.starts());
        assert_eq!(parts.len(), left);
    }
    bench.engine.check_invariants();
}
