//! Many reloads: servers that left leave nothing behind, and nothing that was under way is lost.

mod support;

use std::sync::Arc;
use support::{Bench, settings, value_block};
use weir_engine::caller::Identity;
use weir_engine::settings::{Address, ServerSettings, Settings};
use weir_engine::units::{LaneId, ListenerId};

const RELOADS: usize = 1_000;
/// Of the settings below, at most.
const SERVERS: usize = 4;
const CONNECTIONS: usize = 3;
/// Keys of a multiget: more than two chunks.
const KEYS: usize = 300;

/// Other servers in every round, from one to [`SERVERS`] with one to [`CONNECTIONS`] connections each.
fn round_of(round: usize) -> Settings {
    let mut settings = settings(1);
    let server = |n: usize| ServerSettings {
        address: Address::Tcp { host: "10.0.0.2".into(), port: (1 + round * SERVERS + n) as u16 },
        weight: 1,
        name: None,
    };
    settings.pools[0].servers = (0..1 + round % SERVERS).map(server).collect();
    settings.pools[0].connections_per_server = 1 + (round % CONNECTIONS) as u32;
    settings
}

fn key(index: usize) -> String {
    format!("key-{index}")
}

#[test]
fn a_thousand_changes_of_servers_leave_small_tables_and_lose_nothing() {
    let mut bench = Bench::new(round_of(0));
    bench.warm_up("p");
    let mut batch = "get".to_string();
    let mut values = String::new();
    for index in 0..KEYS {
        let (key, value) = (key(index), format!("value {index}"));
        batch += &format!(" {key}");
        values += std::str::from_utf8(&value_block("get", &key, value.as_bytes())).expect("text");
        bench.values.insert(key.into_bytes(), value.into_bytes());
    }
    let one = String::from_utf8(value_block("get", "key-7", b"value 7")).expect("text");
    let (quick, slow) = (bench.open("p"), bench.open("q"));
    let mut closed = 0;
    for round in 1..=RELOADS {
        bench.send(quick, "get key-7\r\nset new 0 0 1\r\nx\r\nget nothing\r\n");
        bench.send(slow, format!("{batch}\r\nget key-7\r\n"));
        bench.turn();
        let live = bench.engine.lanes().count();
        let under_way: usize = bench.unanswered.iter().map(std::collections::VecDeque::len).sum();
        assert!(under_way >= 3, "round {round}: {under_way} commands are under way");
        if round % 3 == 0 {
            // part of it is answered before
            let busy = bench.unanswered.iter().position(|lane| !lane.is_empty()).expect("a command");
            bench.answer(busy, 7);
        }
        bench.apply(round_of(round));
        bench.send(quick, "get key-7\r\n");
        bench.settle();
        let (of_quick, of_slow) = (bench.read_text(quick), bench.read_text(slow));
        bench.settle(); // the reader caught up
        assert_eq!(of_quick, format!("{one}END\r\nSTORED\r\nEND\r\n{one}END\r\n"), "round {round}");
        assert_eq!(of_slow + &bench.read_text(slow), format!("{values}END\r\n{one}END\r\n"), "round {round}");
        let cut = bench.close_retired();
        assert_eq!(cut, live, "round {round}: every connection of the servers before");
        closed += cut;
        bench.engine.check_quiet();
        let (servers, lanes) = bench.engine.places();
        assert!(servers <= 2 * SERVERS, "round {round}: {servers} servers");
        assert!(lanes <= 2 * SERVERS * CONNECTIONS, "round {round}: {lanes} lanes");
    }
    assert!(closed > RELOADS * 2, "{closed}");
    let now = bench.engine.snapshot(bench.now).servers;
    assert_eq!(now.len(), 1 + RELOADS % SERVERS);
}

#[test]
fn a_lane_that_owes_an_answer_or_is_wanted_keeps_its_place() {
    let mut bench = Bench::new(round_of(0));
    let client = bench.open("p");
    let old = LaneId(0);
    bench.engine.lane_gone(old);
    bench.send(client, "get a\r\n");
    bench.turn();
    bench.apply(round_of(4));
    bench.engine.lane_gone(old);
    assert_eq!(bench.close_retired(), 0, "it owes an answer");
    bench.apply(round_of(8));
    assert_eq!(bench.close_retired(), 2, "the two of round 4 owe nothing");
    assert!(bench.engine.lanes().all(|(id, _)| id != old), "nobody has its number");
    bench.settle();
    assert_eq!(bench.read_text(client), "END\r\n");
    assert_eq!(bench.close_retired(), 1);
    bench.engine.lane_gone(old); // told twice
    bench.apply(round_of(12));
    let ids: Vec<u32> = bench.engine.lanes().map(|(id, _)| id.0).collect();
    assert!(ids.contains(&0), "{ids:?}");
    assert!(ids.iter().all(|id| ids.iter().filter(|other| *other == id).count() == 1), "{ids:?}");
}

#[test]
fn what_an_account_without_a_name_spent_at_a_server_that_left_is_not_charged_to_another() {
    let mut bench = Bench::new(round_of(0));
    let client = bench.open("l");
    bench.engine.await_name(client, bench.now);
    bench.send(client, "get a\r\n");
    bench.settle();
    bench.apply(round_of(4));
    bench.settle();
    assert_eq!(bench.close_retired(), 1);
    bench.apply(round_of(8));
    let name = Identity { listener: ListenerId(0), principal: "l".into(), name: "found".into() };
    bench.engine.name_client(client, Some(Arc::new(name)), bench.now);
    let mut spent = 0;
    bench.engine.fold_servers(|_, _, _, _, operations| spent += operations);
    assert_eq!(spent, 0, "the server it was spent at is none of these");
    bench.settle();
    assert_eq!(bench.close_retired(), 2);
    bench.apply(round_of(12));
    assert_eq!(bench.engine.places().0, 3, "its place is used again once the account has a name");
}
