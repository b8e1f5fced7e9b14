//! Upstream connections that are lost, cannot be had, lie or stall; and settings that change meanwhile.

mod support;

use std::sync::Arc;
use support::{Bench, LANE, settings};
use weir_engine::ledger::Outcome;
use weir_engine::settings::{Address, PoolSettings, Settings};
use weir_engine::units::{ClientId, LaneId, Span};
use weir_engine::{CutCause, Desync, LaneState};

fn unbatched() -> Settings {
    let mut settings = settings(1);
    settings.pools[0].batching = false;
    settings
}

fn bench(settings: Settings) -> Bench {
    let mut bench = Bench::new(settings);
    bench.warm_up("p");
    bench
}

/// How many requests ended how, since the last time.
fn outcome(bench: &mut Bench, outcome: Outcome) -> u64 {
    let mut requests = 0;
    bench.engine.fold(|_, _, identity| {
        requests += identity.tallies().map(|(_, tally)| tally.requests[outcome.index()]).sum::<u64>();
    });
    requests
}

fn reconnect(bench: &mut Bench) {
    bench.unanswered[0].clear();
    bench.engine.lane_lost(LANE, bench.now);
    bench.engine.lane_up(LANE, bench.now);
    bench.turn();
}

#[test]
fn unsent_commands_move_to_the_next_connection_in_order() {
    let mut bench = bench(unbatched());
    let client = bench.open("p");
    bench.engine.lane_lost(LANE, bench.now);
    bench.send(client, "set a 0 0 1\r\nx\r\nget a\r\nset a 0 0 1\r\ny\r\ndelete b noreply\r\nget a\r\n");
    bench.engine.end_turn(bench.now);
    // the first command and a bit of the second are written when the connection breaks
    bench.engine.lane_up(LANE, bench.now);
    bench.engine.lane_out(LANE).wrote("set a 0 0 1\r\nx\r\nge".len());
    bench.engine.lane_lost(LANE, bench.now);
    bench.engine.check_invariants();
    let lost = "SERVER_ERROR weir: connection to 10.0.0.1:11211 lost; outcome unknown, not retried\r\n";
    assert_eq!(bench.read_text(client), lost, "the write that was sent");
    bench.engine.lane_up(LANE, bench.now);
    bench.turn();
    let again = ["get a", "set a 0 0 1", "delete b", "get a"];
    assert_eq!(bench.commands(0), again, "the read is asked again, the rest moves, in order");
    bench.settle();
    assert_eq!(bench.read_text(client), "END\r\nSTORED\r\nEND\r\n");
    assert_eq!(outcome(&mut bench, Outcome::BackendLost), 1);
}

#[test]
fn a_read_is_not_asked_again_behind_its_own_clients_write() {
    let mut bench = bench(unbatched());
    let (writer, reader) = (bench.open("p"), bench.open("p"));
    bench.send(writer, "get a\r\nset a 0 0 1\r\nx\r\nget a\r\n");
    bench.send(reader, "get a\r\n");
    bench.turn();
    reconnect(&mut bench);
    assert_eq!(bench.commands(0), ["get a", "get a"], "the writer's second read, and the reader's");
    bench.settle();
    let answer = bench.read_text(writer);
    let lines: Vec<&str> = answer.lines().collect();
    assert!(
        lines[0].ends_with("lost before it answered") && lines[1].contains("outcome unknown"),
        "{answer}"
    );
    assert_eq!(lines[2], "END");
    assert_eq!(bench.read_text(reader), "END\r\n");
}

#[test]
fn reads_are_asked_again_once_and_under_a_budget() {
    let mut settings = unbatched();
    settings.pools[0].retry_percent = 1;
    let mut bench = bench(settings);
    let mut retried = 0;
    for _ in 0..100 {
        let client = bench.open("p");
        bench.send(client, "get a\r\n");
        bench.turn();
        reconnect(&mut bench);
        retried += bench.commands(0).len();
        reconnect(&mut bench);
        assert!(bench.commands(0).is_empty(), "only once");
        assert!(bench.read_text(client).ends_with("lost before it answered\r\n"));
        bench.engine.close_client(client, bench.now);
    }
    assert!((10..=12).contains(&retried), "ten to begin with and one in a hundred, got {retried}");
    bench.engine.check_quiet();
}

#[test]
fn no_retries_where_none_are_wanted() {
    let mut settings = unbatched();
    settings.pools[0].retry_percent = 0;
    let mut bench = bench(settings);
    let client = bench.open("p");
    bench.send(client, "get a\r\n");
    bench.turn();
    reconnect(&mut bench);
    assert!(bench.commands(0).is_empty());
}

#[test]
fn an_answer_that_lacks_only_its_end_is_an_answer() {
    for batching in [false, true] {
        let mut settings = unbatched();
        settings.pools[0].batching = batching;
        let mut bench = bench(settings);
        let client = bench.open("p");
        bench.send(client, "get a\r\nget b c\r\n");
        bench.turn();
        let values = if batching {
            &b"VALUE a 0 1\r\nx\r\n"[..]
        } else {
            b"VALUE a 0 1\r\nx\r\nEND\r\nVALUE b 0 1\r\ny\r\nVALUE c 0 1\r\nz\r\nE"
        };
        bench.engine.lane_input(LANE, values, bench.now).expect("an honest answer");
        reconnect(&mut bench);
        bench.engine.check_invariants();
        let rest = if batching { vec!["get b c"] } else { vec![] };
        assert_eq!(bench.commands(0), rest);
        bench.values.insert(b"b".into(), b"y".into());
        bench.values.insert(b"c".into(), b"z".into());
        bench.settle();
        let all = "VALUE a 0 1\r\nx\r\nEND\r\nVALUE b 0 1\r\ny\r\nVALUE c 0 1\r\nz\r\nEND\r\n";
        assert_eq!(bench.read_text(client), all);
    }
}

#[test]
fn a_chunk_is_asked_again_from_the_first_key_nothing_is_known_about() {
    let mut bench = bench(unbatched());
    let client = bench.open("p");
    bench.send(client, "get a b c d\r\n");
    bench.turn();
    bench.engine.lane_input(LANE, b"VALUE b 0 1\r\nx\r\nVALUE c 0 1\r\n", bench.now).expect("honest");
    reconnect(&mut bench);
    assert_eq!(bench.commands(0), ["get c d"]);
    bench.settle();
    assert_eq!(bench.read_text(client), "VALUE b 0 1\r\nx\r\nEND\r\n");
}

#[test]
fn everything_fails_fast_while_there_is_no_connection_to_be_had() {
    let mut bench = bench(unbatched());
    let client = bench.open("p");
    bench.engine.lane_lost(LANE, bench.now);
    bench.send(client, "get a\r\nset a 0 0 1 noreply\r\nx\r\n");
    bench.engine.lane_failed(LANE, bench.now);
    let lost = "SERVER_ERROR weir: connection to 10.0.0.1:11211 lost; nothing was sent\r\n";
    assert_eq!(bench.read_text(client), lost);
    let many: Vec<String> = (0..1_000).map(|key| format!("k{key}")).collect();
    bench
        .send(client, format!("get b\r\nget {}\r\nset a 0 0 1\r\nx\r\nversion\r\nstats\r\n", many.join(" ")));
    bench.turn();
    let down = "SERVER_ERROR weir: 10.0.0.1:11211 is down; nothing was sent\r\n";
    assert_eq!(bench.read_text(client), down.repeat(5));
    assert_eq!(bench.engine.ledger().take_noreply_dropped(), 1);
    assert_eq!(bench.engine.snapshot(bench.now).servers[0].lanes[0].state, LaneState::Down);
    bench.engine.lane_up(LANE, bench.now);
    bench.send(client, "get b\r\n");
    bench.settle();
    assert_eq!(bench.read_text(client), "END\r\n");
}

#[test]
fn a_refused_sign_in_is_named_until_the_server_is_down_for_another_reason() {
    let mut bench = bench(unbatched());
    let client = bench.open("p");
    bench.engine.lane_lost(LANE, bench.now);
    bench.send(client, "get a\r\n");
    bench.engine.lane_sign_in_failed(LANE, bench.now);
    bench.send(client, "get b c\r\nset a 0 0 1\r\nx\r\n");
    bench.turn();
    let refused =
        "SERVER_ERROR weir: cannot sign in to 10.0.0.1:11211 (pool key auth_file); nothing was sent\r\n";
    assert_eq!(bench.read_text(client), refused.repeat(3));
    bench.engine.lane_failed(LANE, bench.now);
    bench.send(client, "get a\r\n");
    bench.turn();
    let down = "SERVER_ERROR weir: 10.0.0.1:11211 is down; nothing was sent\r\n";
    assert_eq!(bench.read_text(client), down);
}

#[test]
fn a_wrong_answer_fails_everything_sent_and_moves_what_was_not() {
    for (wrong, what) in [
        (&b"VALUE b 0 1\r\nx\r\n"[..], Desync::WrongKey),
        (b"STORED\r\n", Desync::WrongKind),
        (b"\x00\r\n", Desync::Malformed),
        (b"VALUE a 0 1\r\nxyz\r\n", Desync::Malformed),
    ] {
        let mut bench = bench(unbatched());
        let clients: Vec<ClientId> = (0..3).map(|_| bench.open("p")).collect();
        bench.send(clients[0], "get a\r\n");
        bench.send(clients[1], "get c\r\n");
        bench.turn();
        bench.send(clients[2], "get d\r\n");
        bench.engine.end_turn(bench.now);
        assert_eq!(bench.engine.lane_input(LANE, wrong, bench.now), Err(what));
        assert!(
            bench.engine.lane_input(LANE, b"END\r\n", bench.now).is_err(),
            "nothing after it is believed"
        );
        reconnect(&mut bench);
        assert_eq!(bench.commands(0), ["get d"]);
        bench.settle();
        for client in &clients[..2] {
            assert!(bench.read_text(*client).ends_with("lost before it answered\r\n"));
        }
        assert_eq!(bench.read_text(clients[2]), "END\r\n");
        assert_eq!(bench.engine.snapshot(bench.now).desyncs, 1);
    }
    let mut bench = bench(unbatched());
    assert_eq!(bench.engine.lane_input(LANE, b"END\r\n", bench.now), Err(Desync::Unasked));
}

#[test]
fn a_late_answer_is_read_over_and_a_stall_is_cut() {
    let mut settings = unbatched();
    settings.pools[0].request_timeout = Span::millis(300);
    settings.pools[0].stall_timeout = Span::millis(900);
    let mut bench = bench(settings);
    let (slow, next) = (bench.open("p"), bench.open("p"));
    bench.send(slow, "get a\r\nset a 0 0 1\r\nx\r\n");
    bench.turn();
    for _ in 0..5 {
        bench.wait(Span::millis(100));
    }
    assert_eq!(
        bench.read_text(slow),
        "SERVER_ERROR weir: 10.0.0.1:11211 did not answer in time\r\n".repeat(2)
    );
    assert_eq!(outcome(&mut bench, Outcome::Timeout), 2);
    bench.send(next, "get b\r\n");
    bench.values.insert(b"a".into(), b"late".into());
    bench.settle();
    assert_eq!(bench.read_text(next), "END\r\n", "its own answer");
    assert_eq!(bench.read_text(slow), "");
    let mut cuts = Vec::new();
    bench.engine.take_cuts(&mut cuts);
    assert_eq!(cuts, []);
    bench.send(next, "get b\r\n");
    bench.turn();
    for _ in 0..10 {
        bench.wait(Span::millis(100));
    }
    bench.engine.take_cuts(&mut cuts);
    assert_eq!(cuts, [(LANE, CutCause::Stalled)]);
    reconnect(&mut bench);
    assert!(bench.commands(0).is_empty(), "what timed out is not asked again");
    bench.read(next);
    bench.engine.check_invariants();
}

#[test]
fn a_write_that_timed_out_unsent_is_never_sent() {
    let mut settings = unbatched();
    settings.pools[0].request_timeout = Span::millis(300);
    let mut bench = bench(settings);
    let client = bench.open("p");
    bench.engine.lane_lost(LANE, bench.now);
    bench.send(client, "set a 0 0 1\r\nx\r\n");
    bench.engine.end_turn(bench.now);
    for _ in 0..5 {
        bench.now = bench.now.after(Span::millis(100));
        bench.engine.on_timer(bench.now);
        bench.engine.end_turn(bench.now);
    }
    assert!(bench.read_text(client).ends_with("did not answer in time\r\n"));
    bench.send(client, "get b\r\n");
    bench.engine.lane_up(LANE, bench.now);
    bench.turn();
    assert_eq!(bench.commands(0), ["get b"]);
    bench.settle();
    assert_eq!(bench.read_text(client), "END\r\n");
}

#[test]
fn a_new_connection_gives_no_new_time_to_answer() {
    let mut settings = unbatched();
    settings.pools[0].request_timeout = Span::millis(1_000);
    let mut bench = bench(settings);
    let client = bench.open("p");
    bench.engine.lane_lost(LANE, bench.now);
    bench.send(client, "get a\r\n");
    bench.turn();
    let asked = bench.now;
    let mut answered = None;
    // a connection that is made and lost again and again, at a time when the request would still be young by it
    for step in 1..=30 {
        bench.wait(Span::millis(100));
        if answered.is_none() && bench.read_text(client).ends_with("did not answer in time\r\n") {
            answered = Some(bench.now.since(asked));
        }
        match step % 8 {
            2 => bench.engine.lane_up(LANE, bench.now),
            6 => {
                bench.engine.lane_out(LANE).wrote(usize::MAX);
                bench.unanswered[0].clear();
                bench.engine.lane_lost(LANE, bench.now);
            }
            _ => {}
        }
    }
    let answered = answered.expect("an answer").0 / 1_000;
    assert!((1_000..=1_200).contains(&answered), "answered after {answered} ms");
    assert_eq!(outcome(&mut bench, Outcome::Timeout), 1);
}

#[test]
fn an_error_to_an_implicit_batch_is_asked_again_one_by_one() {
    let mut settings = settings(1);
    settings.pools[0].single_flight = true;
    let mut bench = bench(settings);
    let clients: Vec<ClientId> = (0..4).map(|_| bench.open("p")).collect();
    for (client, request) in
        clients.iter().zip(["get a\r\n", "get a\r\n", "get b\r\n", "get c\r\nset c 0 0 1\r\nx\r\n"])
    {
        bench.send(*client, request);
    }
    bench.turn();
    assert_eq!(bench.commands(0), ["get a b c", "set c 0 0 1"], "a is fetched once");
    bench.fail_at = Some(bench.answered);
    bench.answer(0, usize::MAX);
    bench.turn();
    assert_eq!(
        bench.commands(0),
        ["set c 0 0 1", "get a", "get b"],
        "c may not be read behind its client's write"
    );
    bench.values.insert(b"a".into(), b"x".into());
    bench.settle();
    assert_eq!(bench.read_text(clients[0]), "VALUE a 0 1\r\nx\r\nEND\r\n");
    assert_eq!(bench.read_text(clients[1]), "VALUE a 0 1\r\nx\r\nEND\r\n");
    assert_eq!(bench.read_text(clients[2]), "END\r\n");
    assert_eq!(bench.read_text(clients[3]), "SERVER_ERROR out of memory\r\nSTORED\r\n");
}

#[test]
fn identical_reads_of_two_principals_are_not_shared() {
    let mut bench = Bench::new(settings(1));
    for principal in ["p", "q", "p"] {
        let client = bench.open(principal);
        bench.send(client, "get a\r\n");
    }
    bench.turn();
    assert_eq!(bench.commands(0), ["get a a"]);
}

fn moved(settings: &Settings, port: u16) -> Arc<Settings> {
    let mut settings = settings.clone();
    let mut pool = PoolSettings::new("main", settings.pools[0].servers.clone());
    pool.servers[0].address = Address::Tcp { host: "10.0.0.2".into(), port };
    pool.batching = false;
    settings.pools[0] = pool;
    Arc::new(settings)
}

#[test]
fn after_a_change_of_servers_the_old_ones_are_answered_first() {
    let settings = unbatched();
    let mut bench = bench(settings.clone());
    let (busy, idle) = (bench.open("p"), bench.open("p"));
    bench.send(busy, "set a 0 0 1\r\nx\r\n");
    bench.turn();
    bench.engine.apply(moved(&settings, 1), bench.now);
    bench.unanswered.push(Default::default());
    bench.engine.end_turn(bench.now);
    let lanes: Vec<LaneId> = bench.engine.lanes().map(|(id, _)| id).collect();
    assert_eq!(lanes, [LaneId(1)]);
    bench.send(busy, "get a\r\n");
    bench.send(idle, "get b\r\n");
    bench.engine.end_turn(bench.now);
    assert_eq!(
        bench.engine.lane_out(LaneId(1)).unwritten(),
        b"get b\r\n",
        "the other's read may not overtake"
    );
    let mut cuts = Vec::new();
    bench.engine.take_cuts(&mut cuts);
    assert_eq!(cuts, [], "the old lane still owes an answer");
    bench.engine.lane_input(LANE, b"STORED\r\n", bench.now).expect("honest");
    bench.engine.end_turn(bench.now);
    assert_eq!(bench.engine.lane_out(LaneId(1)).unwritten(), b"get b\r\nget a\r\n");
    bench.engine.take_cuts(&mut cuts);
    assert_eq!(cuts, [(LANE, CutCause::Retired)]);
    bench.engine.lane_lost(LANE, bench.now);
    bench.engine.take_cuts(&mut cuts);
    assert_eq!(cuts.len(), 1, "it is cut once");
    bench.engine.check_invariants();
}

#[test]
fn a_change_of_servers_in_the_middle_of_a_batch_keeps_the_order_of_its_values() {
    let mut settings = unbatched();
    settings.pools[0].chunk_keys = 2;
    let mut bench = bench(settings.clone());
    for key in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        bench.values.insert(key.into(), b"x".into());
    }
    let client = bench.open("p");
    bench.send(client, "get a b c d e f g h\r\n");
    bench.engine.end_turn(bench.now);
    assert_eq!(bench.engine.lane_out(LANE).unwritten(), b"get a b\r\nget c d\r\nget e f\r\nget g h\r\n");
    let mut bench = self::bench(settings.clone());
    settings.pools[0].bulk_keys_in_flight = weir_engine::units::Operations(2);
    bench.engine.apply(Arc::new(settings.clone()), bench.now);
    let client = bench.open("p");
    bench.send(client, "get a b c d e f g h\r\n");
    bench.turn();
    assert_eq!(bench.commands(0), ["get a b"]);
    bench.engine.apply(moved(&settings, 1), bench.now);
    bench.engine.lane_up(LaneId(1), bench.now);
    bench.engine.end_turn(bench.now);
    assert!(bench.engine.lane_out(LaneId(1)).is_empty(), "the first chunk is not answered");
    bench.engine.lane_input(LANE, b"VALUE a 0 1\r\nx\r\nEND\r\n", bench.now).expect("honest");
    bench.engine.end_turn(bench.now);
    assert_eq!(bench.engine.lane_out(LaneId(1)).unwritten(), b"get c d e f g h\r\n", "chunks of 128 now");
    bench.engine.lane_input(LaneId(1), b"VALUE g 0 1\r\ny\r\nEND\r\n", bench.now).expect("honest");
    assert_eq!(bench.read_text(client), "VALUE a 0 1\r\nx\r\nVALUE g 0 1\r\ny\r\nEND\r\n");
}
