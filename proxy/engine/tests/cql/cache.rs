//! Answers that are given again: for a short time, to the same principal, and never past a write.

use crate::bench::{Bench, Caller, settings};
use crate::node::rows;
use crate::wire::{Answer, Part, With, batch, execute, flagged, int, list, query};
use std::sync::Arc;
use weir_cql::{CqlType, Flags, Native, Version, write};
use weir_engine::cql::ClusterCounts;
use weir_engine::settings::{Rule, Settings, Subject};
use weir_engine::units::{Bytes, Span};

const READ: &str = "SELECT v FROM shop.hot WHERE k = ?";
const WRITE: &str = "UPDATE shop.hot SET n = n + 1 WHERE k = ?";
const TTL: Span = Span::millis(500);

fn cached() -> Settings {
    let mut settings = settings(1);
    let subject = Subject::Table { keyspace: "shop".into(), table: "hot".into() };
    settings.clusters[0].rules = [Rule { cache_ttl: Some(TTL), ..Rule::new("hot", subject) }].into();
    settings
}

fn counts(bench: &Bench) -> ClusterCounts {
    bench.engine.cluster_counts().remove(0)
}

fn read(bench: &mut Bench, caller: &mut Caller, id: &[u8], key: i32, timestamp: i64) -> String {
    let with = With { timestamp: Some(timestamp), ..With::values(&[int(key)]) };
    let message = execute(caller.version, timestamp as i16, id, &with);
    let answer = bench.ask(caller, &message);
    assert_eq!(answer.stream(), timestamp as i16);
    answer.values().remove(0)
}

#[test]
fn an_answer_is_given_again_until_its_time_is_over() {
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut bench = Bench::new(cached());
        let (mut a, mut b) = (bench.open(version), bench.open(version));
        let mut other = bench.open_as("other", version, &[]);
        let id = bench.prepare(&mut a, READ);
        assert_eq!(read(&mut bench, &mut a, &id, 7, 1), "shop.hot/7#0@1");
        bench.engine.fold(|_, _, _| ());
        assert_eq!(read(&mut bench, &mut b, &id, 7, 2), "shop.hot/7#0@1");
        let mut backend = 0;
        bench
            .engine
            .fold(|_, _, tally| backend += tally.tallies().map(|(_, t)| t.backend_operations).sum::<u64>());
        assert_eq!(backend, 0, "no node was asked");
        assert_eq!(read(&mut bench, &mut a, &id, 8, 3), "shop.hot/8#0@3", "another key");
        assert_eq!(read(&mut bench, &mut other, &id, 7, 4), "shop.hot/7#0@4", "another principal");
        bench.wait(Span::millis(499));
        assert_eq!(read(&mut bench, &mut a, &id, 7, 5), "shop.hot/7#0@1");
        bench.wait(Span::millis(1));
        assert_eq!(read(&mut bench, &mut a, &id, 7, 6), "shop.hot/7#0@6");
        let counts = counts(&bench);
        assert_eq!((counts.cache_hits, counts.cache_misses, counts.cached), (2, 4, 3), "{version:?}");
        assert!(counts.cache_bytes > 0 && counts.cache_invalidated == 0);
        bench.engine.check_quiet();
    }
}

#[test]
fn a_write_ends_what_it_may_have_changed() {
    let version = Version::V4;
    let text = |text: &'static str| query(version, 3, text, &With::default());
    let mut bench = Bench::new(cached());
    let (mut a, mut writer) = (bench.open(version), bench.open_as("writer", version, &[]));
    let (id, write) = (bench.prepare(&mut a, READ), bench.prepare(&mut writer, WRITE));
    let other = bench.prepare(&mut writer, "UPDATE shop.c SET n = n + 1 WHERE k = ?");
    let of = |key: i32| execute(version, 3, &write, &With::values(&[int(key)]));
    let of_other = execute(version, 3, &other, &With::values(&[int(7)]));
    let parts = [Part::Id(&other, vec![int(7)]), Part::Id(&write, vec![int(7)])];
    let elsewhere = [Part::Text("UPDATE shop.c SET n = 1 WHERE k = 7"), Part::Id(&write, vec![int(8)])];
    for (what, message, ends) in [
        ("its partition", of(7), true),
        ("another partition", of(8), false),
        ("another table", of_other, false),
        ("a text: no partition is known", text("UPDATE shop.hot SET v = 'x' WHERE k = 8"), true),
        ("a text for another table", text("UPDATE shop.c SET v = 'x' WHERE k = 8"), false),
        ("a batch with its partition", batch(version, 3, &parts), true),
        ("a batch beside it", batch(version, 3, &elsewhere), false),
        ("the schema", text("CREATE TABLE shop.other (k int PRIMARY KEY)"), true),
        ("what nobody can read", text("TRUNCATE shop.hot"), true),
    ] {
        let before = read(&mut bench, &mut a, &id, 7, 1);
        assert_eq!(read(&mut bench, &mut a, &id, 7, 2), before, "kept before {what}");
        bench.ask(&mut writer, &message);
        let hits = counts(&bench).cache_hits;
        read(&mut bench, &mut a, &id, 7, 2);
        assert_eq!(counts(&bench).cache_hits - hits, u64::from(!ends), "{what}");
        bench.wait(TTL);
    }
    assert_eq!(counts(&bench).cache_invalidated, 5);
}

#[test]
fn an_answer_from_before_a_write_is_not_kept() {
    let mut bench = Bench::new(cached());
    let (mut a, mut writer) = (bench.open(Version::V4), bench.open(Version::V4));
    let (id, write) = (bench.prepare(&mut a, READ), bench.prepare(&mut writer, WRITE));
    let write = execute(Version::V4, 3, &write, &With::values(&[int(7)]));
    let with = |timestamp| With { timestamp: Some(timestamp), ..With::values(&[int(7)]) };
    // the node reads, then writes; the old row arrives after the write was answered
    bench.send(&a, &execute(Version::V4, 1, &id, &with(1)));
    bench.turn();
    let old = bench.reply_to(0, 0);
    bench.send(&writer, &write);
    assert!(bench.one(&mut writer).is_void());
    bench.deliver(0, &old);
    assert_eq!(bench.answers(&mut a)[0].values(), ["shop.hot/7#0@1"], "it was asked before");
    assert_eq!(read(&mut bench, &mut a, &id, 7, 2), "shop.hot/7#1@2");
    // a read between the beginning and the end of a write
    bench.wait(TTL);
    bench.send(&writer, &write);
    bench.turn();
    bench.send(&a, &execute(Version::V4, 1, &id, &with(3)));
    bench.turn();
    bench.answer(0, 1);
    assert_eq!(bench.answers(&mut a)[0].values(), ["shop.hot/7#1@3"]);
    bench.settle();
    assert!(bench.answers(&mut writer)[0].is_void());
    assert_eq!(read(&mut bench, &mut a, &id, 7, 4), "shop.hot/7#2@4");
    bench.engine.check_quiet();
}

#[test]
fn workers_hear_of_each_others_writes() {
    let writes = Arc::default();
    let mut benches = [0, 1].map(|_| {
        let mut bench = Bench::new(cached());
        bench.engine.share_writes(Arc::clone(&writes));
        bench
    });
    let [one, two] = &mut benches;
    let (mut a, mut b) = (one.open(Version::V4), two.open(Version::V4));
    let (id, write) = (one.prepare(&mut a, READ), two.prepare(&mut b, WRITE));
    assert_eq!(read(one, &mut a, &id, 7, 1), "shop.hot/7#0@1");
    assert_eq!(read(one, &mut a, &id, 7, 2), "shop.hot/7#0@1");
    assert!(two.ask(&mut b, &execute(Version::V4, 3, &write, &With::values(&[int(7)]))).is_void());
    assert_eq!(read(one, &mut a, &id, 7, 3), "shop.hot/7#0@3", "asked anew");
    assert_eq!(counts(one).cache_invalidated, 1);
}

#[test]
fn only_whole_answers_without_extras_are_kept() {
    let columns = [("k", CqlType::Native(Native::Int)), ("v", CqlType::Native(Native::Varchar))];
    let plain = rows(("shop", "hot"), &columns, false, &[vec![int(7), b"x".to_vec()]]).1;
    let mut warned = Vec::new();
    write::short(&mut warned, 1);
    write::string(&mut warned, "careful");
    warned.extend_from_slice(&plain);
    let mut paged = 2i32.to_be_bytes().to_vec();
    write::bits(&mut paged, 0x2 | 0x4);
    write::int(&mut paged, 2);
    write::bytes(&mut paged, b"next");
    write::int(&mut paged, 0);
    for (what, flags, body, kept) in
        [("plain", 0, plain, 1), ("warned", Flags::WARNING, warned, 0), ("paged", 0, paged, 0)]
    {
        let mut bench = Bench::new(cached());
        let mut a = bench.open(Version::V4);
        bench.query(&a, 1, "SELECT v FROM shop.hot WHERE k = 7");
        bench.turn();
        let request: Answer = bench.wires[0].asked.remove(0).expect("asked");
        let (version, stream) = (request.header.version, request.stream());
        bench.deliver(0, &flagged(version, stream, weir_cql::Opcode::Result, Flags(flags), &body));
        assert_eq!(bench.answers(&mut a).len(), 1);
        assert_eq!(counts(&bench).cached, kept, "{what}");
    }
    let mut bench = Bench::new(cached());
    let mut a = bench.open(Version::V4);
    let refused = bench.ask_text(&mut a, "SELECT v FROM hot WHERE k = 7");
    assert!(refused.code().is_some());
    assert_eq!(counts(&bench).cached, 0, "an error");
}

#[test]
fn bytes_are_bounded_and_what_is_used_stays() {
    let mut settings = cached();
    settings.clusters[0].cache_bytes_max = Bytes(8_000);
    let mut bench = Bench::new(settings);
    let mut a = bench.open(Version::V4);
    let id = bench.prepare(&mut a, READ);
    for key in 0..100 {
        read(&mut bench, &mut a, &id, key, 1);
        assert_eq!(read(&mut bench, &mut a, &id, 0, 2), "shop.hot/0#0@1", "used all the time");
    }
    let found = counts(&bench);
    assert!(found.cache_bytes <= 8_000 && found.cached > 5, "{found:?}");
    assert_eq!(found.cached as u64 + found.cache_evicted, 100);
    let of_list = bench.prepare(&mut a, "SELECT v FROM shop.hot WHERE k IN ?");
    bench.ask(&mut a, &execute(Version::V4, 1, &of_list, &With::values(&[list(0..100)])));
    assert_eq!(counts(&bench).cached, found.cached, "too large for it");
}

#[test]
fn new_rules_start_with_an_empty_cache() {
    let mut bench = Bench::new(cached());
    let mut a = bench.open(Version::V4);
    let id = bench.prepare(&mut a, READ);
    read(&mut bench, &mut a, &id, 7, 1);
    assert_eq!(read(&mut bench, &mut a, &id, 7, 2), "shop.hot/7#0@1");
    bench.engine.apply(Arc::new(cached()), bench.now);
    assert_eq!(read(&mut bench, &mut a, &id, 7, 3), "shop.hot/7#0@1", "the same rules");
    bench.engine.apply(Arc::new(settings(1)), bench.now);
    assert_eq!(counts(&bench).cached, 0);
    assert_eq!(read(&mut bench, &mut a, &id, 7, 4), "shop.hot/7#0@4");
    assert_eq!(read(&mut bench, &mut a, &id, 7, 5), "shop.hot/7#0@5");
    bench.engine.apply(Arc::new(cached()), bench.now);
    assert_eq!(read(&mut bench, &mut a, &id, 7, 6), "shop.hot/7#0@6");
    assert_eq!(read(&mut bench, &mut a, &id, 7, 7), "shop.hot/7#0@6");
    bench.engine.check_quiet();
}
