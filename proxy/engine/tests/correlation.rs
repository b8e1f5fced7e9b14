//! Ids in opaques and first keys: taken out and noted for those whose word is taken, ordinary for everybody else; answers are
//! byte for byte those of the same commands without ids.

mod support;

use proptest::prelude::*;
use std::sync::Arc;
use support::{Bench, settings};
use weir_engine::correlate::{CorrelationId, Correlator, Origin, Tracked};
use weir_engine::settings::{CallerLimits, LimitMode, Settings};
use weir_engine::units::{Operations, Span};
use weir_memcached::correlation::id_text;

fn id(n: u8) -> CorrelationId {
    CorrelationId([n; 16])
}

fn key(n: u8) -> String {
    format!("__weir:{}", id_text(&[n; 16]))
}

fn trusting(servers: usize) -> Settings {
    let mut settings = settings(servers);
    settings.listeners[0].trusted_request_ids = vec!["service".into()];
    settings
}

fn bench(settings: Settings) -> (Bench, Arc<Correlator>) {
    let mut bench = Bench::new(settings);
    bench.values.insert(b"a".to_vec(), b"1".to_vec());
    bench.values.insert(b"b".to_vec(), b"22".to_vec());
    // a server that has no idea of ids may well store such a key
    bench.values.insert(key(1).into_bytes(), b"stored".to_vec());
    bench.warm_up("service");
    bench.warm_up("stranger");
    let correlator = Arc::new(Correlator::new(100, 1));
    bench.engine.share_correlator(&correlator);
    (bench, correlator)
}

fn ask(bench: &mut Bench, principal: &str, bytes: impl AsRef<[u8]>) -> String {
    let client = bench.open(principal);
    bench.send(client, bytes);
    bench.settle();
    let answer = bench.read_text(client);
    bench.engine.close_client(client, bench.now);
    answer
}

fn found(correlator: &Correlator, n: u8, bench: &Bench) -> Option<Tracked> {
    correlator.find(id(n), bench.now)
}

#[test]
fn a_first_key_is_taken_out_and_what_follows_is_noted() {
    let (mut bench, correlator) = bench(trusting(1));
    let answer = ask(&mut bench, "service", format!("get {} a b c\r\n", key(1)));
    assert_eq!(answer, "VALUE a 0 1\r\n1\r\nVALUE b 0 2\r\n22\r\nEND\r\n");
    let tracked = found(&correlator, 1, &bench).expect("it was noted");
    assert_eq!(tracked.service.as_deref(), Some("service"));
    let cache = tracked.cache;
    assert_eq!((cache.requests, cache.operations, cache.hits, cache.misses), (1, 3, 2, 1));
    assert_eq!((cache.backend_operations, cache.chunks, cache.failed), (3, 1, 0));
    assert_eq!(cache.bytes_out, answer.len() as u64);
    assert_eq!(tracked.database.requests, 0);

    // alone it asks for nothing
    assert_eq!(ask(&mut bench, "service", format!("get {}\r\n", key(2))), "END\r\n");
    assert_eq!(ask(&mut bench, "service", format!("gats 60 {}\r\n", key(2))), "END\r\n");
    let cache = found(&correlator, 2, &bench).expect("it was noted").cache;
    assert_eq!((cache.requests, cache.operations, cache.backend_operations), (2, 0, 0));
}

#[test]
fn anywhere_else_it_is_an_ordinary_key() {
    let (mut bench, correlator) = bench(trusting(1));
    let line = format!("get a {} b\r\n", key(1));
    let stored =
        format!("VALUE a 0 1\r\n1\r\nVALUE {} 0 6\r\nstored\r\nVALUE b 0 2\r\n22\r\nEND\r\n", key(1));
    assert_eq!(ask(&mut bench, "service", line), stored);
    assert_eq!(found(&correlator, 1, &bench), None);
    // a second one behind the first is a key too
    let answer = ask(&mut bench, "service", format!("get {} {}\r\n", key(2), key(1)));
    assert_eq!(answer, format!("VALUE {} 0 6\r\nstored\r\nEND\r\n", key(1)));
    assert_eq!(found(&correlator, 2, &bench).expect("noted").cache.operations, 1);
}

#[test]
fn a_stranger_s_id_is_a_key_like_any_other() {
    let (mut bench, correlator) = bench(trusting(1));
    let answer = ask(&mut bench, "stranger", format!("get {} a\r\n", key(1)));
    assert_eq!(answer, format!("VALUE {} 0 6\r\nstored\r\nVALUE a 0 1\r\n1\r\nEND\r\n", key(1)));
    assert_eq!(found(&correlator, 1, &bench), None);
    assert_eq!(correlator.sums(), []);
}

#[test]
fn trust_comes_and_goes_with_the_settings() {
    let (mut bench, correlator) = bench(settings(1));
    let client = bench.open("service");
    let ask = |bench: &mut Bench| {
        bench.send(client, format!("get {} a\r\n", key(1)));
        bench.settle();
        bench.read_text(client).contains("stored")
    };
    assert!(ask(&mut bench), "nobody is trusted unless the file says so");
    bench.apply(trusting(1));
    assert!(!ask(&mut bench));
    assert!(correlator.find(id(1), bench.now).is_some());
    bench.apply(settings(1));
    assert!(ask(&mut bench));
}

#[test]
fn pipelined_commands_keep_their_places_and_their_ids() {
    let (mut bench, correlator) = bench(trusting(1));
    let pipeline = format!(
        "get {one} a\r\nget {two}\r\nset x 0 0 1\r\ny\r\nget b\r\nget {two} b a\r\nmn\r\n",
        one = key(1),
        two = key(2)
    );
    assert_eq!(
        ask(&mut bench, "service", pipeline),
        "VALUE a 0 1\r\n1\r\nEND\r\nEND\r\nSTORED\r\nVALUE b 0 2\r\n22\r\nEND\r\n\
         VALUE b 0 2\r\n22\r\nVALUE a 0 1\r\n1\r\nEND\r\nMN\r\n"
    );
    assert_eq!(found(&correlator, 1, &bench).expect("noted").cache.operations, 1);
    let two = found(&correlator, 2, &bench).expect("noted").cache;
    assert_eq!((two.requests, two.operations), (2, 2), "the set and the get between them bear no id");
}

#[test]
fn the_ceiling_counts_keys_and_not_the_id() {
    let mut settings = trusting(1);
    settings.undeclared = CallerLimits {
        operations_per_request: Some(Operations(3)),
        mode: LimitMode::Refuse,
        ..CallerLimits::default()
    };
    let (mut bench, correlator) = bench(settings);
    assert!(ask(&mut bench, "service", format!("get {} a b c\r\n", key(1))).ends_with("END\r\n"));
    let refused = ask(&mut bench, "service", format!("get {} a b c d\r\n", key(2)));
    assert!(refused.starts_with("SERVER_ERROR"), "{refused}");
    let cache = found(&correlator, 2, &bench).expect("a refused one is noted too").cache;
    assert_eq!((cache.operations, cache.backend_operations, cache.failed), (4, 0, 1));
}

#[test]
fn work_of_an_rpc_is_its_caller_s() {
    let (mut bench, correlator) = bench(trusting(1));
    correlator.rpc_began(id(1), &"importer".into(), &"bsky.Service/GetPostRecords".into(), 2, bench.now);
    ask(&mut bench, "service", format!("get {} a nobody\r\n", key(1)));
    let sums = correlator.sums();
    assert_eq!(sums.len(), 1);
    assert_eq!((&*sums[0].caller, sums[0].origin), ("importer", Origin::Rpc));
    assert_eq!((sums[0].sums.rpc_keys, sums[0].sums.cache_operations, sums[0].sums.cache_misses), (2, 2, 1));
}

#[test]
fn what_waits_for_its_turn_or_is_paced_keeps_its_id() {
    let mut settings = trusting(1);
    settings.pools[0].operations_in_flight = Operations(2);
    settings.pools[0].bulk_keys_in_flight = Operations(2);
    settings.pools[0].chunk_keys = 1;
    settings.undeclared = CallerLimits {
        operations_per_second: Some(Operations(100)),
        mode: LimitMode::Pace,
        pace_max_wait: Span::secs(5),
        ..CallerLimits::default()
    };
    let (mut bench, correlator) = bench(settings);
    let clients: Vec<_> = (1..5_u8).map(|n| (n, bench.open("service"))).collect();
    for (n, client) in &clients {
        let id = key(*n);
        let one = format!("get {id} a\r\ngets {id}\r\nget {id} a b c\r\nget a\r\n");
        bench.send(*client, one.repeat(8));
    }
    let mut read: Vec<String> = vec![String::new(); clients.len()];
    for _ in 0..200 {
        bench.settle();
        for ((_, client), read) in clients.iter().zip(&mut read) {
            read.push_str(&bench.read_text(*client));
        }
        bench.wait(Span::millis(50));
    }
    let single = "VALUE a 0 1\r\n1\r\nEND\r\n";
    let want = format!("{single}END\r\nVALUE a 0 1\r\n1\r\nVALUE b 0 2\r\n22\r\nEND\r\n{single}").repeat(8);
    for ((n, _), read) in clients.iter().zip(read) {
        assert_eq!(read, want, "client {n}");
        let cache = found(&correlator, *n, &bench).expect("noted").cache;
        assert_eq!(
            (cache.requests, cache.operations),
            (24, 32),
            "client {n}: the get at the end bears no id"
        );
    }
}

#[derive(Clone, Debug)]
struct Case {
    /// Keys of each command of the pipeline, and which has an id.
    commands: Vec<(Vec<u16>, bool)>,
    present: u16,
    servers: usize,
    chunk_keys: u32,
    /// Where the bytes are cut on their way in.
    cut: usize,
}

fn cases() -> impl Strategy<Value = Case> {
    let command = (prop::collection::vec(0..100_u16, 1..120), any::<bool>());
    let commands = prop::collection::vec(command, 1..6);
    (commands, 0..100_u16, 1..4_usize, prop::sample::select(vec![1, 7, 64]), 1..4_000_usize).prop_map(
        |(commands, present, servers, chunk_keys, cut)| Case { commands, present, servers, chunk_keys, cut },
    )
}

impl Case {
    fn run(&self, ids: bool) -> (Vec<u8>, u64) {
        let mut settings = trusting(self.servers);
        settings.pools[0].chunk_keys = self.chunk_keys;
        let (mut bench, correlator) = bench(settings);
        for key in 0..self.present {
            bench.values.insert(format!("k{key}").into_bytes(), vec![b'v'; usize::from(key)]);
        }
        let mut bytes = Vec::new();
        for (keys, has_id) in &self.commands {
            let keys: Vec<String> = keys.iter().map(|key| format!("k{key}")).collect();
            let first = if ids && *has_id { format!(" {}", key(9)) } else { String::new() };
            bytes.extend_from_slice(format!("gets{first} {}\r\n", keys.join(" ")).as_bytes());
        }
        let client = bench.open("service");
        let mut read = Vec::new();
        for piece in bytes.chunks(self.cut) {
            bench.send(client, piece);
            bench.settle();
            read.extend(bench.read(client));
        }
        bench.settle();
        read.extend(bench.read(client));
        let operations = correlator.find(id(9), bench.now).map_or(0, |tracked| tracked.cache.operations);
        (read, operations)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn answers_are_the_same_with_ids_and_without(case in cases()) {
        let (with, noted) = case.run(true);
        let (without, none) = case.run(false);
        prop_assert_eq!(String::from_utf8_lossy(&with), String::from_utf8_lossy(&without));
        let asked = case.commands.iter().filter(|(_, has_id)| *has_id).map(|(keys, _)| keys.len() as u64);
        prop_assert_eq!((noted, none), (asked.sum::<u64>(), 0));
    }
}
