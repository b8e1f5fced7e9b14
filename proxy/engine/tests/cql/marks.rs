//! Ids in the default timestamps of reads: taken out and counted for those whose word is taken, and only there.

use crate::bench::{Bench, Caller, settings};
use crate::wire::{Answer, Part, With, batch_with, execute, flagged, int, list, query};
use proptest::prelude::*;
use std::sync::Arc;
use weir_cql::request::{REQUEST_ID, RequestMark};
use weir_cql::{Flags, HEADER_LEN, Opcode, Version, write};
use weir_engine::correlate::{CorrelationId, Correlator, Counts, Tracked};
use weir_engine::settings::{Rule, Settings, Subject};
use weir_engine::units::{Operations, Span};

const READ: &str = "SELECT v FROM shop.hot WHERE k = ?";
const LIST: &str = "SELECT v FROM shop.items WHERE k IN ?";
const VERSIONS: [Version; 3] = [Version::V3, Version::V4, Version::V5];

fn id(n: u8) -> CorrelationId {
    CorrelationId([n; 16])
}

/// The default timestamp that says this request.
fn mark(n: u8) -> i64 {
    RequestMark::of(&[n; 16]).timestamp()
}

fn marked(n: u8, values: &[Vec<u8>]) -> With {
    With { timestamp: Some(mark(n)), ..With::values(values) }
}

/// A bench that takes the word of `caller`, and knows of requests 1 and 2.
fn bench(mut settings: Settings) -> (Bench, Arc<Correlator>) {
    settings.listeners[0].trusted_request_ids = vec!["caller".into()];
    let mut bench = Bench::new(settings);
    let correlator = Arc::new(Correlator::new(100, 1));
    bench.engine.share_correlator(&correlator);
    for n in [1, 2] {
        correlator.rpc_began(id(n), &"feed".into(), &"GetPostRecords".into(), 20, bench.now);
    }
    (bench, correlator)
}

fn tracked(bench: &mut Bench, correlator: &Correlator, n: u8) -> Tracked {
    bench.turn();
    correlator.find(id(n), bench.now).expect("it is remembered")
}

/// Sends and takes what arrives at the node, which then answers; the request as it was there.
fn passed_on(bench: &mut Bench, caller: &mut Caller, message: &[u8]) -> (Answer, Answer) {
    bench.send(caller, message);
    bench.turn();
    let lane = (0..bench.wires.len()).find(|lane| !bench.wires[*lane].asked.is_empty()).expect("it was sent");
    let seen = bench.wires[lane].asked[0].clone();
    let answer = bench.one(caller);
    (seen, answer)
}

#[test]
fn a_mark_is_taken_out_and_what_came_of_it_is_the_request_s() {
    for version in VERSIONS {
        let (mut bench, correlator) = bench(settings(1));
        let mut caller = bench.open(version);
        let list_id = bench.prepare(&mut caller, LIST);
        let text = "SELECT v FROM shop.items WHERE k = 1";
        let messages = |with: &dyn Fn(&[Vec<u8>]) -> With| {
            [execute(version, 5, &list_id, &with(&[list(0..10)])), query(version, 5, text, &with(&[]))]
        };
        let (plain, said) = (messages(&With::values), messages(&|values| marked(1, values)));
        for (plain, said) in plain.iter().zip(&said) {
            let (wanted, direct) = passed_on(&mut bench, &mut caller, plain);
            let (seen, answer) = passed_on(&mut bench, &mut caller, said);
            assert_eq!((seen.header.flags, &seen.body), (wanted.header.flags, &wanted.body), "{version:?}");
            assert_eq!((answer.header, &answer.body), (direct.header, &direct.body));
        }
        let request = tracked(&mut bench, &correlator, 1);
        assert_eq!(request.rpc.expect("an RPC").keys, 20);
        assert_eq!(request.service.as_deref(), Some("caller"));
        let database = request.database;
        assert_eq!((database.requests, database.operations, database.backend_operations), (2, 11, 11));
        assert_eq!(tracked(&mut bench, &correlator, 2).database.requests, 0);
        let counts = correlator.counts(bench.now);
        assert_eq!((counts.unknown, counts.ambiguous), (0, 0));
        bench.engine.check_quiet();
    }
}

#[test]
fn a_keyspace_in_use_is_said_beside_it() {
    for version in [Version::V4, Version::V5] {
        let (mut bench, correlator) = bench(settings(1));
        let mut caller = bench.open(version);
        bench.use_keyspace(&mut caller, "shop");
        let text = "SELECT v FROM items WHERE k = 1";
        let (wanted, _) = passed_on(&mut bench, &mut caller, &query(version, 5, text, &With::default()));
        let (seen, _) = passed_on(&mut bench, &mut caller, &query(version, 5, text, &marked(1, &[])));
        assert_eq!(seen.body, wanted.body, "{version:?}");
        assert_eq!(tracked(&mut bench, &correlator, 1).database.requests, 1);
    }
}

#[test]
fn a_write_passes_byte_for_byte_whatever_its_timestamp() {
    for version in VERSIONS {
        let (mut bench, correlator) = bench(settings(1));
        let mut caller = bench.open(version);
        let insert = bench.prepare(&mut caller, "INSERT INTO shop.items (k, v) VALUES (?, 'x')");
        let part = || Part::Id(&insert, vec![int(2)]);
        let text = |text: &str| query(version, 5, text, &marked(1, &[]));
        for message in [
            execute(version, 5, &insert, &marked(1, &[int(1)])),
            text("INSERT INTO shop.items (k, v) VALUES (1, 'x')"),
            text("UPDATE shop.items SET v = 'x' WHERE k = 1"),
            text("DELETE FROM shop.items WHERE k = 1"),
            text("INSERT INTO shop.items (k, v) VALUES (1, 'x') IF NOT EXISTS"),
            text("BEGIN BATCH INSERT INTO shop.items (k, v) VALUES (1, 'x') APPLY BATCH"),
            text("TRUNCATE shop.items"),
            text("SELECTED, which nobody can read"),
            batch_with(version, 5, 1, &[part()], &marked(1, &[])),
        ] {
            let (seen, _) = passed_on(&mut bench, &mut caller, &message);
            assert_eq!(seen.body, message[HEADER_LEN..], "{version:?}");
        }
        assert_eq!(tracked(&mut bench, &correlator, 1).database.requests, 0);
        let counts = correlator.counts(bench.now);
        assert_eq!((counts.unknown, counts.ambiguous, counts.dropped), (0, 0, 0), "nobody even asked");
    }
}

#[test]
fn timestamps_that_are_none_and_those_of_strangers_pass_untouched() {
    let (mut bench, correlator) = bench(settings(1));
    let (mut caller, mut stranger) = (bench.open(Version::V4), bench.open_as("stranger", Version::V4, &[]));
    let text = "SELECT v FROM shop.items WHERE k = 1";
    for timestamp in [i64::MIN, -1, 0, 1_775_254_560_000_000, (1 << 62) - 1] {
        let with = With { timestamp: Some(timestamp), ..With::default() };
        let message = query(Version::V4, 5, text, &with);
        let (seen, _) = passed_on(&mut bench, &mut caller, &message);
        assert_eq!(seen.body, message[HEADER_LEN..], "{timestamp}");
    }
    let message = query(Version::V4, 5, text, &marked(1, &[]));
    let (seen, _) = passed_on(&mut bench, &mut stranger, &message);
    assert_eq!(seen.body, message[HEADER_LEN..]);
    assert_eq!(tracked(&mut bench, &correlator, 1).database.requests, 0);
    assert_eq!(correlator.counts(bench.now), Counts { tracked: 2, ..Counts::default() });
}

#[test]
fn a_mark_that_means_nobody_or_two_is_in_no_sum() {
    let (mut bench, correlator) = bench(settings(1));
    let mut caller = bench.open(Version::V4);
    // another id that ends like that of request 1
    let alike = CorrelationId([[9; 8], [1; 8]].concat().try_into().expect("16 bytes"));
    let text = "SELECT v FROM shop.items WHERE k = 1";
    let (wanted, _) = passed_on(&mut bench, &mut caller, &query(Version::V4, 5, text, &With::default()));
    let said = |n: u8| query(Version::V4, 5, text, &marked(n, &[]));
    let (seen, _) = passed_on(&mut bench, &mut caller, &said(77));
    assert_eq!(seen.body, wanted.body, "the server sees none either way");
    bench.turn();
    correlator.rpc_began(alike, &"other".into(), &"GetTimeline".into(), 1, bench.now);
    passed_on(&mut bench, &mut caller, &said(1));
    bench.turn();
    let counts = correlator.counts(bench.now);
    assert_eq!((counts.tracked, counts.unknown, counts.ambiguous), (3, 1, 1));
    let sums = correlator.sums();
    assert_eq!(sums.iter().map(|sums| sums.sums.database_operations).sum::<u64>(), 0, "{sums:?}");
}

#[test]
fn of_a_mark_and_a_payload_the_payload_is_taken() {
    let (mut bench, correlator) = bench(settings(1));
    let mut caller = bench.open(Version::V4);
    let text = "SELECT v FROM shop.items WHERE k = 1";
    let mut body = Vec::new();
    write::short(&mut body, 2);
    for (name, value) in [(&b"mine"[..], &b"kept"[..]), (REQUEST_ID, &id(2).0)] {
        write::short_bytes(&mut body, name);
        write::bytes(&mut body, value);
    }
    let payload = body.len();
    body.extend_from_slice(&query(Version::V4, 5, text, &marked(1, &[]))[HEADER_LEN..]);
    let flags = Flags::default().with(Flags::CUSTOM_PAYLOAD);
    let (seen, _) = passed_on(&mut bench, &mut caller, &flagged(Version::V4, 5, Opcode::Query, flags, &body));
    let plain = query(Version::V4, 5, text, &With::default());
    assert!(payload > 40 && seen.body.ends_with(&plain[HEADER_LEN..]), "neither is left of them");
    assert!(seen.body.windows(4).any(|bytes| bytes == b"kept"), "the other entry is");
    assert_eq!(tracked(&mut bench, &correlator, 1).database.requests, 0);
    assert_eq!(tracked(&mut bench, &correlator, 2).database.requests, 1);
}

#[test]
fn a_large_list_is_split_like_one_without() {
    let (mut bench, correlator) = bench(settings(1));
    let mut caller = bench.open(Version::V4);
    let statement = bench.prepare(&mut caller, LIST);
    let ask = |with: &With| execute(Version::V4, 5, &statement, with);
    let direct = bench.ask(&mut caller, &ask(&With::values(&[list(0..1_000)])));
    let answer = bench.ask(&mut caller, &ask(&marked(1, &[list(0..1_000)])));
    assert_eq!(answer.body, direct.body);
    let database = tracked(&mut bench, &correlator, 1).database;
    assert_eq!((database.operations, database.backend_operations), (1_000, 1_000));
    assert!(database.chunks >= 10, "{database:?}");
    // page by page
    let paged = |with: With, state: Option<Vec<u8>>| With { page_size: Some(100), page_state: state, ..with };
    let mut pages = 0;
    let (mut plain, mut said) = (None, None);
    loop {
        let of = |with: With, state: &Option<Vec<u8>>| ask(&paged(with, state.clone()));
        let one = bench.ask(&mut caller, &of(With::values(&[list(0..1_000)]), &plain));
        let two = bench.ask(&mut caller, &of(marked(2, &[list(0..1_000)]), &said));
        assert_eq!(one.values(), two.values(), "page {pages}");
        (plain, said) = (one.page_state(), two.page_state());
        assert_eq!(plain.is_some(), said.is_some());
        pages += 1;
        if plain.is_none() {
            break;
        }
    }
    assert!(pages > 1);
    assert_eq!(tracked(&mut bench, &correlator, 2).database.requests, pages);
}

#[test]
fn joined_reads_are_counted_for_each_and_asked_once() {
    let mut narrow = settings(1);
    narrow.clusters[0].requests_in_flight = Operations(1);
    for version in VERSIONS {
        let (mut bench, correlator) = bench(narrow.clone());
        let mut callers: Vec<Caller> = (0..3).map(|_| bench.open(version)).collect();
        let read = bench.prepare(&mut callers[0], READ);
        let mut blocker = bench.open_as("blocker", version, &[]);
        bench.query(&blocker, 77, "SELECT v FROM shop.slow WHERE k = 1");
        bench.turn();
        let plain = With::values(&[int(7)]);
        for (caller, with) in callers.iter().zip([marked(1, &[int(7)]), plain, marked(2, &[int(7)])]) {
            bench.send(caller, &execute(version, 3, &read, &with));
        }
        bench.settle();
        let heard = bench.nodes[0].heard.iter().filter(|text| text.contains("shop.hot")).count();
        assert_eq!(heard, 1, "{version:?}");
        for caller in &mut callers {
            assert_eq!(
                bench.answers(caller)[0].values(),
                ["shop.hot/7#0@0"],
                "no timestamp came to the node"
            );
        }
        assert_eq!(bench.answers(&mut blocker).len(), 1);
        let [one, two] = [1, 2].map(|n| tracked(&mut bench, &correlator, n).database);
        assert_eq!((one.requests, one.operations, one.coalesced, one.backend_operations), (1, 1, 0, 1));
        assert_eq!((two.requests, two.operations, two.coalesced, two.backend_operations), (1, 1, 1, 0));
        bench.engine.check_quiet();
    }
}

#[test]
fn a_kept_answer_is_given_again_to_another_request() {
    let mut cached = settings(1);
    let subject = Subject::Table { keyspace: "shop".into(), table: "hot".into() };
    let rule = Rule { cache_ttl: Some(Span::millis(500)), ..Rule::new("hot", subject) };
    cached.clusters[0].rules = [rule].into();
    let (mut bench, correlator) = bench(cached);
    let mut caller = bench.open(Version::V4);
    let read = bench.prepare(&mut caller, READ);
    for with in [marked(1, &[int(7)]), marked(2, &[int(7)]), With::values(&[int(7)])] {
        let answer = bench.ask(&mut caller, &execute(Version::V4, 3, &read, &with));
        assert_eq!(answer.values(), ["shop.hot/7#0@0"]);
    }
    let counts = bench.engine.cluster_counts().remove(0);
    assert_eq!((counts.cache_hits, counts.cache_misses), (2, 1));
    let [one, two] = [1, 2].map(|n| tracked(&mut bench, &correlator, n).database);
    assert_eq!((one.operations, one.backend_operations), (1, 1));
    assert_eq!((two.operations, two.backend_operations), (1, 0));
}

#[test]
fn what_is_sent_again_counts_once() {
    let (mut bench, correlator) = bench(settings(1));
    let mut caller = bench.open(Version::V4);
    let read = bench.prepare(&mut caller, READ);
    let message = execute(Version::V4, 3, &read, &marked(1, &[int(7)]));
    // the node has forgotten the statement
    bench.nodes[0].prepared.clear();
    assert_eq!(bench.ask(&mut caller, &message).values(), ["shop.hot/7#0@0"]);
    assert_eq!(bench.engine.cluster_counts()[0].repaired, 1);
    // its connection is lost while it is asked
    bench.send(&caller, &message);
    bench.turn();
    let lane = (0..bench.wires.len()).find(|lane| !bench.wires[*lane].asked.is_empty()).expect("it was sent");
    bench.lose(lane);
    bench.turn();
    bench.up(lane);
    assert_eq!(bench.one(&mut caller).values(), ["shop.hot/7#0@0"]);
    let database = tracked(&mut bench, &correlator, 1).database;
    assert_eq!((database.requests, database.operations, database.hits, database.failed), (2, 2, 2, 0));
    bench.engine.check_quiet();
}

proptest! {
    /// Whatever the timestamp, whoever says it and whatever the statement: a read of a trusted one without a mark or any
    /// other message arrives as it was sent, a marked read arrives as if it had none.
    #[test]
    fn only_marks_of_reads_of_the_trusted_are_taken(
        timestamp in prop_oneof![any::<i64>(), (1_i64 << 62)..=i64::MAX],
        version in prop_oneof![Just(Version::V3), Just(Version::V4), Just(Version::V5)],
        trusted: bool,
        statement in 0_usize..3,
        prepared: bool,
        page_size in prop::option::of(1_i32..50),
    ) {
        let (mut bench, correlator) = bench(settings(1));
        let mut caller = bench.open_as(if trusted { "caller" } else { "stranger" }, version, &[]);
        let text = [
            "SELECT v FROM shop.items WHERE k = 1",
            "UPDATE shop.items SET v = 'x' WHERE k = 1",
            "DELETE FROM shop.items WHERE k = 1",
        ][statement];
        let prepared = prepared.then(|| bench.prepare(&mut caller, text));
        let with = |timestamp| With { timestamp, page_size, ..With::default() };
        let message = |with: &With| match &prepared {
            Some(id) => execute(version, 5, id, with),
            None => query(version, 5, text, with),
        };
        let (seen, _) = passed_on(&mut bench, &mut caller, &message(&with(Some(timestamp))));
        let taken = trusted && statement == 0 && timestamp >= 1 << 62;
        let wanted = message(&with(Some(timestamp).filter(|_| !taken)));
        prop_assert_eq!(&seen.body[..], &wanted[HEADER_LEN..]);
        bench.turn();
        prop_assert_eq!(correlator.counts(bench.now).unknown, u64::from(taken));
    }
}
