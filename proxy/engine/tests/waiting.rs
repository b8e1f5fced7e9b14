//! What is shown to wait: operations, by server and by caller.

mod support;

use std::sync::Arc;
use support::{Bench, settings};
use weir_engine::caller::Identity;
use weir_engine::settings::{PoolSettings, Settings};
use weir_engine::units::{ClientId, ListenerId, Operations};

/// Room for one chunk of ten keys at each server.
fn narrow(servers: usize) -> Settings {
    let mut settings = settings(servers);
    let pool: &mut PoolSettings = &mut settings.pools[0];
    pool.batching = false;
    pool.chunk_keys = 10;
    pool.operations_in_flight = Operations(10);
    pool.bulk_keys_in_flight = Operations(10);
    settings
}

/// Operations and clients waiting, over all servers, and what each caller waits with.
fn waiting(bench: &Bench) -> (u64, usize, Vec<(String, u64)>) {
    let snapshot = bench.engine.snapshot(bench.now);
    let operations = snapshot.servers.iter().map(|server| server.queued.0).sum();
    let clients = snapshot.servers.iter().map(|server| server.waiting).sum();
    let named = snapshot.callers.iter().filter(|caller| caller.queued.0 > 0);
    let mut callers: Vec<_> =
        named.map(|caller| (caller.identity.name.to_string(), caller.queued.0)).collect();
    callers.sort();
    (operations, clients, callers)
}

fn rename(bench: &mut Bench, client: ClientId, name: &str) {
    let (listener, principal) = (ListenerId(0), "small".into());
    bench.engine.rename_client(client, Arc::new(Identity { listener, principal, name: name.into() }));
}

fn multiget(keys: usize) -> String {
    (0..keys).fold("get".to_owned(), |line, key| format!("{line} k{key}")) + "\r\n"
}

#[test]
fn a_multiget_waits_with_every_key_that_was_not_passed_on() {
    let mut bench = Bench::new(narrow(1));
    bench.warm_up("large");
    bench.warm_up("small");
    let (large, small) = (bench.open("large"), bench.open("small"));
    bench.send(large, multiget(1_000));
    bench.turn();
    assert_eq!(waiting(&bench), (990, 1, vec![("large".into(), 990)]));
    bench.send(small, "get a b\r\nget c\r\n");
    bench.turn();
    let both = vec![("large".into(), 990), ("small".into(), 2)];
    assert_eq!(waiting(&bench), (992, 2, both), "what is behind the first is not looked at");
    rename(&mut bench, small, "renamed");
    assert_eq!(waiting(&bench).2, [("large".to_owned(), 990), ("renamed".to_owned(), 2)]);
    bench.answer(0, usize::MAX);
    bench.turn();
    let (operations, _, callers) = waiting(&bench);
    assert!(operations < 992 && callers[0].0 == "large", "{operations} {callers:?}");
    bench.engine.close_client(large, bench.now);
    assert!(waiting(&bench).0 <= 3, "{:?}", waiting(&bench));
    bench.settle();
    assert_eq!(waiting(&bench), (0, 0, vec![]));
    assert_eq!(bench.read_text(small), "END\r\nEND\r\n");
}

#[test]
fn over_several_servers_no_key_is_counted_twice_or_lost() {
    let mut bench = Bench::new(narrow(3));
    bench.warm_up("large");
    bench.warm_up("other");
    let clients = [bench.open("large"), bench.open("other"), bench.open("large")];
    clients.iter().for_each(|client| bench.send(*client, multiget(500)));
    bench.turn();
    let mut seen = 0;
    loop {
        let (operations, clients, callers) = waiting(&bench);
        assert_eq!(operations, callers.iter().map(|(_, operations)| operations).sum::<u64>());
        assert!(operations <= 1_500 && operations >= clients as u64, "{operations} of {clients} clients");
        seen += usize::from(operations > 100);
        let answered = (0..3).any(|lane| bench.answer(lane, usize::MAX));
        bench.turn(); // checks what every client waits with
        if !answered {
            break;
        }
    }
    assert!(seen > 20, "many waited at {seen} looks");
    assert_eq!(waiting(&bench), (0, 0, vec![]));
    for client in clients {
        assert_eq!(bench.read_text(client), "END\r\n");
    }
}
