//! Who gets the server: small requests overtake a batch, principals share, batch callers yield, nobody starves.

mod support;

use support::{Bench, settings};
use weir_engine::settings::{CallerClass, CallerLimits, Settings};
use weir_engine::units::{Bytes, ClientId, Operations};

const WINDOW: u64 = 256;
const CHUNK: u64 = 128;

/// One server; estimates play no part.
fn one_server() -> Settings {
    let mut settings = settings(1);
    let pool = &mut settings.pools[0];
    pool.bulk_keys_in_flight = Operations(WINDOW);
    pool.chunk_keys = CHUNK as u32;
    pool.bytes_in_flight = Bytes(u64::MAX / 2);
    settings.reply_bytes_max = Bytes(u64::MAX / 2);
    settings.listeners[0].reply_buffer = usize::MAX / 2;
    settings
}

fn batch(name: &str, keys: usize) -> String {
    let keys: Vec<String> = (0..keys).map(|key| format!("{name}{key}")).collect();
    format!("get {}\r\n", keys.join(" "))
}

fn keys_of(command: &str) -> u64 {
    command.split(' ').count() as u64 - 1
}

/// Keys on their way to the server.
fn in_flight(bench: &Bench) -> u64 {
    bench.commands(0).iter().map(|command| keys_of(command)).sum()
}

#[test]
fn a_single_key_overtakes_a_batch_of_twenty_thousand() {
    let mut bench = Bench::new(one_server());
    let (storm, quiet) = (bench.open("storm"), bench.open("quiet"));
    bench.send(storm, batch("b", 20_000));
    for _ in 0..20 {
        bench.turn();
        assert!(in_flight(&bench) <= WINDOW, "a batch has no more than its window under way");
        bench.answer(0, usize::MAX);
    }
    bench.send(quiet, "get one\r\n");
    bench.turn();
    let commands = bench.commands(0);
    let ahead: u64 = commands.iter().take_while(|command| **command != "get one").map(|c| keys_of(c)).sum();
    assert!(commands.contains(&"get one"), "passed on at the end of the same turn");
    assert!(ahead <= WINDOW, "{ahead} keys are before it");
}

#[test]
fn a_single_key_waits_for_one_window_at_most_when_the_server_is_full() {
    let mut settings = one_server();
    settings.pools[0].operations_in_flight = Operations(WINDOW);
    let mut bench = Bench::new(settings);
    let storms: Vec<ClientId> = (0..4).map(|n| bench.open(&format!("storm{n}"))).collect();
    for storm in storms {
        bench.send(storm, batch("b", 20_000));
    }
    bench.turn();
    assert_eq!(in_flight(&bench), WINDOW);
    let quiet = bench.open("quiet");
    bench.send(quiet, "get one\r\n");
    bench.turn();
    let mut answered = 0;
    while !bench.commands(0).contains(&"get one") {
        answered += keys_of(bench.commands(0)[0]);
        bench.answer(0, usize::MAX);
        bench.turn();
        assert!(answered <= WINDOW, "overtaken by more than a window");
    }
}

/// Serves `turns` answers and counts the keys passed on per name (the first letter of the keys), checking as it goes.
fn serve(bench: &mut Bench, turns: usize, mut check: impl FnMut(&[u64; 128])) -> [u64; 128] {
    let mut served = [0; 128];
    for _ in 0..turns {
        bench.turn();
        if let Some(command) = bench.commands(0).first() {
            served[usize::from(command.as_bytes()[4])] += keys_of(command);
        }
        bench.answer(0, usize::MAX);
        check(&served);
    }
    served
}

#[test]
fn two_batches_of_two_principals_share_however_many_connections_they_have() {
    let mut bench = Bench::new(one_server());
    let one = bench.open("one");
    bench.send(one, batch("a", 20_000));
    for _ in 0..8 {
        let many = bench.open("many");
        bench.send(many, batch("b", 20_000));
    }
    serve(&mut bench, 150, |served| {
        let apart = served[usize::from(b'a')].abs_diff(served[usize::from(b'b')]);
        assert!(apart <= 2 * CHUNK, "{apart} keys apart");
    });
}

#[test]
fn connections_of_one_principal_take_turns() {
    let mut bench = Bench::new(one_server());
    for name in ["a", "b", "c"] {
        let client = bench.open("one");
        bench.send(client, batch(name, 20_000));
    }
    serve(&mut bench, 150, |served| {
        let served = [b'a', b'b', b'c'].map(|name| served[usize::from(name)]);
        let apart = served.iter().max().unwrap() - served.iter().min().unwrap();
        assert!(apart <= 2 * CHUNK, "{served:?}");
    });
}

#[test]
fn a_batch_caller_yields_to_an_interactive_one_and_is_not_starved() {
    let mut settings = one_server();
    let class = CallerClass::Batch;
    settings.callers.insert("importer".into(), CallerLimits { class, ..CallerLimits::default() });
    let mut bench = Bench::new(settings);
    let (importer, user) = (bench.open("importer"), bench.open("user"));
    bench.send(importer, batch("i", 20_000));
    bench.send(user, batch("u", 20_000));
    let served = serve(&mut bench, 150, |_| {});
    let (importer, user) = (served[usize::from(b'i')], served[usize::from(b'u')]);
    assert!(importer * 6 <= user, "the importer had {importer}, the user {user}");
    assert!(importer * 12 >= user, "the importer had only {importer}, the user {user}");
}

#[test]
fn small_requests_that_fill_the_server_leave_room_for_a_batch() {
    let mut settings = one_server();
    settings.pools[0].operations_in_flight = Operations(WINDOW);
    settings.pools[0].batching = false;
    let mut bench = Bench::new(settings);
    let mut small: Vec<ClientId> = Vec::new();
    for _ in 0..600 {
        let client = bench.open("crowd");
        bench.send(client, "get s\r\n");
        small.push(client);
    }
    let batch_client = bench.open("batch");
    bench.send(batch_client, batch("b", 1_000));
    let mut served = 0;
    for _ in 0..20_000 {
        bench.turn();
        bench.answer(0, usize::MAX);
        // whoever was answered asks again
        let answered: Vec<ClientId> =
            small.iter().copied().filter(|c| !bench.engine.client_out(*c).is_empty()).collect();
        for client in answered {
            bench.read(client);
            bench.send(client, "get s\r\n");
            served += 1;
        }
        if bench.read_text(batch_client) == "END\r\n" {
            assert!(served > 300, "the small ones went on: {served}");
            return;
        }
    }
    panic!("the batch never ended");
}

#[test]
fn a_large_unsplit_request_is_not_overtaken_for_ever() {
    let mut settings = one_server();
    settings.pools[0].split = false;
    settings.pools[0].operations_in_flight = Operations(300);
    let mut bench = Bench::new(settings);
    let small: Vec<ClientId> = (0..400).map(|_| bench.open("crowd")).collect();
    for client in &small {
        bench.send(*client, "get s1 s2 s3\r\n");
    }
    let large = bench.open("large");
    bench.send(large, batch("b", 250));
    for turn in 0..5_000 {
        bench.turn();
        bench.answer(0, usize::MAX);
        if bench.read_text(large) == "END\r\n" {
            return;
        }
        for client in &small {
            if !bench.read(*client).is_empty() {
                bench.send(*client, "get s1 s2 s3\r\n");
            }
        }
        assert!(turn < 4_000, "never");
    }
}
