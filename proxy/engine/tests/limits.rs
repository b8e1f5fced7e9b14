//! Limits of a caller over several workers of one process, pacing, and time-outs of the queue.

mod support;

use std::sync::Arc;
use support::{Bench, LANE, settings};
use weir_engine::admit::Budgets;
use weir_engine::error::LimitKind;
use weir_engine::ledger::Outcome;
use weir_engine::settings::{CallerLimits, LimitMode, Settings};
use weir_engine::units::{Bytes, ClientId, Operations, Span};

fn limited(limits: CallerLimits) -> Settings {
    let mut settings = settings(1);
    settings.pools[0].batching = false;
    settings.callers.insert("caller".into(), limits);
    settings
}

fn none(mode: LimitMode) -> CallerLimits {
    CallerLimits { mode, operations_per_request: None, ..CallerLimits::default() }
}

fn workers(settings: &Settings, count: u32) -> (Arc<Budgets>, Vec<Bench>) {
    let budgets = Arc::new(Budgets::default());
    let bench = |_| Bench::sharing(settings.clone(), &budgets, count);
    let benches = (0..count).map(bench).collect();
    (budgets, benches)
}

#[test]
fn what_is_under_way_is_one_sum_over_one_two_and_four_workers() {
    for count in [1, 2, 4] {
        let limits = CallerLimits { operations_in_flight: Some(Operations(100)), ..none(LimitMode::Refuse) };
        let (budgets, mut benches) = workers(&limited(limits), count);
        let mut admitted = 0;
        for _ in 0..60 {
            for bench in &mut benches {
                let client = bench.open("caller");
                bench.send(client, "get a b c\r\n");
                bench.turn();
                let answer = bench.read_text(client);
                admitted += u64::from(answer.is_empty());
                if !answer.is_empty() {
                    assert_eq!(
                        answer,
                        "SERVER_ERROR weir: operations_in_flight limit of caller: asked 3, ceiling 100; \
                         do not retry at once\r\n"
                    );
                }
            }
        }
        assert_eq!(admitted, (60 * u64::from(count)).min(33), "{count} workers");
        let state = budgets.of(&"caller".into());
        assert_eq!(state.operations_in_flight(), Operations(3 * admitted));
        benches.iter_mut().for_each(Bench::settle);
        assert_eq!((state.operations_in_flight(), state.bytes_in_flight()), (Operations(0), Bytes(0)));
    }
}

#[test]
fn a_rate_is_one_rate_over_one_two_and_four_workers() {
    for count in [1, 2, 4] {
        let rate = Some(Operations(1_000));
        let limits = CallerLimits {
            operations_per_second: rate,
            burst: Some(Operations(10)),
            ..none(LimitMode::Refuse)
        };
        let (_, mut benches) = workers(&limited(limits), count);
        let mut clients: Vec<ClientId> = benches.iter_mut().map(|bench| bench.open("caller")).collect();
        let mut admitted = 0;
        for _ in 0..2_000 {
            for (bench, client) in benches.iter_mut().zip(&mut clients) {
                bench.wait(Span::millis(1));
                bench.send(*client, "get a\r\n");
                bench.settle();
                admitted += u64::from(bench.read_text(*client) == "END\r\n");
            }
        }
        assert!(
            (2_000..=2_020).contains(&admitted),
            "2 s x 1000/s + burst, got {admitted} by {count} workers"
        );
    }
}

#[test]
fn a_paced_request_waits_its_turn_and_is_refused_when_its_patience_ends() {
    let limits = CallerLimits { operations_in_flight: Some(Operations(4)), ..none(LimitMode::Pace) };
    let mut bench = Bench::new(limited(limits));
    bench.warm_up("caller");
    let (first, second, third) = (bench.open("caller"), bench.open("caller"), bench.open("caller"));
    bench.send(first, "get a b c\r\n");
    bench.send(second, "get d e\r\nget f\r\n");
    bench.turn();
    assert_eq!(bench.commands(0), ["get a b c"], "the second waits");
    assert!(bench.engine.next_deadline().is_some_and(|at| at > bench.now));
    bench.answer(0, usize::MAX);
    bench.turn();
    bench.wait(Span::millis(10));
    assert_eq!(bench.commands(0), ["get d e", "get f"], "then it goes, and what follows it");
    bench.send(third, "get g h i\r\ndelete g\r\n");
    bench.turn();
    for _ in 0..30 {
        bench.wait(Span::millis(10));
    }
    let refused = bench.read_text(third);
    assert!(refused.contains("operations_in_flight limit of caller: asked 3, ceiling 4"), "{refused}");
    assert_eq!(refused.lines().count(), 1, "the delete behind it is never refused: {refused}");
    assert_eq!(bench.commands(0), ["get d e", "get f", "delete g"]);
    bench.settle();
    assert_eq!(bench.read_text(third), "DELETED\r\n");
    bench.read(first);
    bench.read(second);
    bench.wait(Span::secs(1));
    assert_eq!(bench.engine.next_deadline(), None, "nothing to wait for");
}

#[test]
fn a_size_ceiling_refuses_in_the_form_a_noreply_sender_can_follow() {
    let ceiling = Some(Operations(2));
    let limits = CallerLimits { operations_per_request: ceiling, ..none(LimitMode::Refuse) };
    let mut bench = Bench::new(limited(limits));
    let client = bench.open("caller");
    let large = "x".repeat(40_000);
    bench.send(client, format!("set a 0 0 40000 noreply\r\n{large}\r\nget a b c\r\nget a\r\n"));
    bench.settle();
    let answer = bench.read_text(client);
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!(lines.len(), 2, "{answer}");
    assert!(lines[0].contains("operations_per_request limit of caller: asked 3, ceiling 2"), "{answer}");
    assert_eq!(lines[1], "END");
    assert_eq!(bench.engine.ledger().take_noreply_dropped(), 1, "the store was dropped, and that is counted");
    let mut over = Vec::new();
    let mut refused = 0;
    bench.engine.fold(|_, _, identity| {
        over.extend(identity.over_limits());
        refused += identity.tallies().map(|(_, tally)| tally.requests[Outcome::Refused.index()]).sum::<u64>();
    });
    assert_eq!(over, [(LimitKind::OperationsPerRequest, LimitMode::Refuse, 2)]);
    assert_eq!(refused, 2);
}

#[test]
fn names_share_their_principals_budget_unless_they_are_trusted() {
    let limits = CallerLimits { operations_in_flight: Some(Operations(3)), ..none(LimitMode::Refuse) };
    let mut settings = limited(limits.clone());
    settings.callers.insert("trusted".into(), limits);
    settings.listeners[0].trusted_names = vec!["trusted".into()];
    let mut bench = Bench::new(settings);
    let clients: Vec<ClientId> = ["x", "y", "trusted", "z"]
        .iter()
        .map(|name| {
            let client = bench.open("caller");
            let identity = weir_engine::caller::Identity {
                listener: weir_engine::units::ListenerId(0),
                principal: "caller".into(),
                name: (*name).into(),
            };
            bench.engine.rename_client(client, Arc::new(identity));
            bench.send(client, "get a b\r\n");
            bench.turn();
            client
        })
        .collect();
    let refused: Vec<bool> = clients.iter().map(|client| !bench.read(*client).is_empty()).collect();
    assert_eq!(refused, [false, true, false, true], "one budget for x, y and z, one for the trusted name");
}

#[test]
fn a_renamed_connection_ends_its_requests_under_the_old_name() {
    let mut bench = Bench::new(limited(none(LimitMode::Refuse)));
    let client = bench.open("caller");
    bench.send(client, "get a\r\n");
    bench.turn();
    let identity = weir_engine::caller::Identity {
        listener: weir_engine::units::ListenerId(0),
        principal: "caller".into(),
        name: "renamed".into(),
    };
    bench.engine.rename_client(client, Arc::new(identity));
    bench.send(client, "get b\r\n");
    bench.settle();
    let mut requests = Vec::new();
    bench.engine.fold(|_, identity, tally| {
        requests.push((identity.name.to_string(), tally.tallies().map(|(_, t)| t.requests[0]).sum::<u64>()));
    });
    requests.sort();
    assert_eq!(requests, [("caller".to_string(), 1), ("renamed".to_string(), 1)]);
    bench.engine.check_invariants();
}

#[test]
fn waiting_too_long_in_the_queue_is_an_error_and_nothing_is_sent() {
    let mut settings = settings(1);
    settings.pools[0].operations_in_flight = Operations(2);
    settings.pools[0].batching = false;
    settings.pools[0].request_timeout = Span::secs(100);
    settings.pools[0].stall_timeout = Span::secs(100);
    settings.pools[0].queue_timeout = Span::millis(500);
    let mut bench = Bench::new(settings);
    let clients: Vec<ClientId> = (0..3).map(|_| bench.open("p")).collect();
    for (client, request) in
        clients.iter().zip(["get a\r\n", "get b\r\n", "set c 0 0 1 noreply\r\nx\r\nget c\r\n"])
    {
        bench.send(*client, request);
    }
    bench.turn();
    assert_eq!(bench.commands(0), ["get a", "get b"]);
    for _ in 0..12 {
        bench.wait(Span::millis(100));
    }
    let late = bench.read_text(clients[2]);
    assert_eq!(
        late, "SERVER_ERROR weir: waited too long in the queue for pool main\r\n",
        "the get's; the set hides"
    );
    assert_eq!(bench.engine.ledger().take_noreply_dropped(), 1);
    bench.settle();
    assert_eq!(bench.read_text(clients[0]), "END\r\n");
    assert!(bench.engine.lane_out(LANE).is_empty());
    assert_eq!(bench.read_text(clients[2]), "", "nothing of the third was sent");
}
