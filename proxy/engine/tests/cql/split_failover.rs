//! Parts of split requests that a node turns away go to another node, within the retry budget.

use crate::bench::{Bench, Caller};
use crate::split::{READ, in_flight, lanes, request, small};
use crate::wire;
use weir_cql::Version;
use weir_cql::envelope::Opcode;
use weir_cql::response::{ErrorBody, ErrorCode, ErrorDetail};
use weir_engine::cql::FailoverCause;
use weir_engine::settings::Settings;

const CAUSES: [(ErrorCode, FailoverCause); 3] = [
    (ErrorCode::UNAVAILABLE, FailoverCause::Unavailable),
    (ErrorCode::OVERLOADED, FailoverCause::Overloaded),
    (ErrorCode::IS_BOOTSTRAPPING, FailoverCause::Bootstrapping),
];

/// A client whose request for 100 keys is at the nodes, in parts.
fn asked(settings: Settings) -> (Bench, Caller) {
    let mut bench = Bench::new(settings);
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    bench.send(&caller, &request(&caller, 3, &id, 0..100));
    bench.turn();
    (bench, caller)
}

/// The first thing that was asked on this lane is answered with an error.
fn turn_away(bench: &mut Bench, lane: usize, code: ErrorCode) {
    let asked = bench.wires[lane].asked.pop_front().expect("a part");
    let detail = match code {
        ErrorCode::UNAVAILABLE => {
            ErrorDetail::Unavailable { consistency: weir_cql::Consistency::ONE, required: 1, alive: 0 }
        }
        _ => ErrorDetail::Plain(&[]),
    };
    let mut body = Vec::new();
    ErrorBody { code, message: b"not now", detail }.write(Version::V4, &mut body);
    bench.deliver(lane, &wire::message(Version::V4, asked.stream(), Opcode::Error, &body));
}

/// Serves everything; this lane's node turns every part away. How many it was asked.
fn settle_without(bench: &mut Bench, lane: usize, code: ErrorCode) -> usize {
    let mut refused = 0;
    while in_flight(bench) > 0 {
        for bulk in lanes(bench, true) {
            if bench.wires[bulk].asked.is_empty() {
                continue;
            }
            if bulk == lane {
                turn_away(bench, bulk, code);
                refused += 1;
            } else {
                bench.answer(bulk, 0);
            }
        }
        bench.turn();
    }
    refused
}

fn moved(bench: &Bench, cause: FailoverCause) -> u64 {
    bench.engine.cluster_counts()[0].failovers[cause as usize]
}

#[test]
fn a_part_that_is_turned_away_goes_to_another_node() {
    for (code, cause) in CAUSES {
        let (mut bench, mut caller) = asked(small(3));
        let lane = lanes(&bench, true)[1];
        let refused = settle_without(&mut bench, lane, code);
        assert_eq!(bench.one(&mut caller).keys(), (0..100).collect::<Vec<_>>(), "{code:?}");
        assert!(refused >= 2, "it was asked: {refused}");
        assert_eq!(moved(&bench, cause), refused as u64);
        let node = bench.info(lane).0;
        assert!(bench.nodes[node].keys_read.is_empty(), "it served none");
        assert!(bench.engine.snapshot(bench.now).retries >= refused as u64);
        bench.engine.check_quiet();
    }
}

#[test]
fn a_part_waits_for_room_at_the_other_node_and_goes_first_then() {
    let mut bench = Bench::new(small(2));
    let (mut first, mut second) = (bench.open(Version::V4), bench.open(Version::V4));
    let id = bench.prepare(&mut first, READ);
    let message = request(&first, 3, &id, 0..100);
    bench.ask(&mut first, &message); // every node knows the statement now
    bench.send(&first, &message);
    bench.turn();
    bench.send(&second, &request(&second, 3, &id, 500..600));
    bench.turn();
    let bulk = lanes(&bench, true);
    assert_eq!(in_flight(&bench), 4, "both nodes are full");
    let away = bench.wires[bulk[0]].asked[0].body.clone();
    turn_away(&mut bench, bulk[0], ErrorCode::OVERLOADED);
    bench.turn();
    assert_eq!(bench.wires[bulk[1]].asked.len(), 2, "no more than may be there");
    assert_eq!(bench.wires[bulk[0]].asked.len(), 2, "a part of the other request has taken its place");
    assert!(bench.wires[bulk[0]].asked.iter().all(|asked| asked.body != away), "not to the same node");
    assert_eq!(bench.engine.cluster_counts()[0].part_keys_waiting, 200 - 40);
    bench.answer(bulk[1], 0);
    bench.turn();
    assert_eq!(bench.wires[bulk[1]].asked.iter().filter(|asked| asked.body == away).count(), 1);
    bench.settle();
    for (caller, keys) in [(&mut first, 0..100), (&mut second, 500..600)] {
        assert_eq!(bench.answers(caller)[0].keys(), keys.collect::<Vec<_>>());
    }
    assert_eq!(moved(&bench, FailoverCause::Overloaded), 1);
    bench.engine.check_quiet();
}

#[test]
fn when_every_node_turns_it_away_the_error_is_the_answer() {
    for nodes in [1, 2] {
        let (mut bench, mut caller) = asked(small(nodes));
        let bulk = lanes(&bench, true);
        let mut answered = Vec::new();
        for _ in 0..10 {
            for lane in &bulk {
                if answered.is_empty() && !bench.wires[*lane].asked.is_empty() {
                    turn_away(&mut bench, *lane, ErrorCode::UNAVAILABLE);
                    answered = bench.answers(&mut caller);
                }
            }
        }
        assert_eq!(answered.len(), 1);
        assert_eq!(answered[0].error(), (ErrorCode::UNAVAILABLE, "not now".to_owned()));
        assert_eq!(moved(&bench, FailoverCause::Unavailable) > 0, nodes > 1);
        bench.settle();
        assert!(bench.answers(&mut caller).is_empty(), "one answer");
        bench.engine.check_quiet();
    }
}

#[test]
fn once_the_retry_budget_is_used_up_the_error_is_the_answer() {
    let mut settings = small(3);
    settings.clusters[0].retry_percent = 0;
    let (mut bench, mut caller) = asked(settings);
    let lane = lanes(&bench, true)[0];
    let mut most = 0;
    let answer = loop {
        let refused = settle_without(&mut bench, lane, ErrorCode::OVERLOADED);
        most += refused;
        assert!(most < 100, "the budget ends");
        let answer = bench.answers(&mut caller).pop().expect("an answer");
        if answer.code().is_some() {
            break answer;
        }
        let id = bench.prepare(&mut caller, READ);
        bench.send(&caller, &request(&caller, 3, &id, 0..100));
        bench.turn();
    };
    assert_eq!(answer.error().0, ErrorCode::OVERLOADED);
    assert_eq!(moved(&bench, FailoverCause::Overloaded), bench.engine.snapshot(bench.now).retries);
    assert!(bench.engine.snapshot(bench.now).retries < most as u64);
    bench.engine.check_quiet();
}

#[test]
fn other_errors_are_not_asked_again() {
    let (mut bench, mut caller) = asked(small(3));
    let lane = lanes(&bench, true)[0];
    turn_away(&mut bench, lane, ErrorCode::INVALID);
    let answers = bench.answers(&mut caller);
    assert_eq!(answers[0].error(), (ErrorCode::INVALID, "not now".to_owned()));
    assert_eq!(bench.engine.snapshot(bench.now).retries, 0);
    bench.settle();
    bench.engine.check_quiet();
}

#[test]
fn a_part_whose_only_other_node_goes_is_asked_where_it_was() {
    let (mut bench, mut caller) = asked(small(2));
    let bulk = lanes(&bench, true);
    turn_away(&mut bench, bulk[0], ErrorCode::IS_BOOTSTRAPPING);
    bench.turn();
    assert_eq!(bench.wires[bulk[1]].asked.len(), 2, "it waits");
    bench.connect = false;
    bench.lose(bulk[1]);
    assert_eq!(bench.one(&mut caller).keys(), (0..100).collect::<Vec<_>>());
    bench.engine.check_quiet();
}
