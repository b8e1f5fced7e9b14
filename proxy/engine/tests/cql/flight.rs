//! Single flight: what waits to be sent is asked once, and everybody gets an answer of its own.

use crate::bench::{Bench, Caller, settings};
use crate::node::row_value;
use crate::wire::{Answer, With, execute, flagged, int, query};
use weir_cql::response::ErrorCode;
use weir_cql::{Consistency, Flags, Version};
use weir_engine::cql::{Apart, Method};
use weir_engine::settings::{CallerLimits, LimitMode, Rule, Settings, Subject};
use weir_engine::units::{Bytes, Operations, Span};

const READ: &str = "SELECT v FROM shop.hot WHERE k = ?";
const WRITE: &str = "UPDATE shop.hot SET n = n + 1 WHERE k = ?";
const BLOCK: &str = "SELECT v FROM shop.slow WHERE k = 1";

/// One request in flight: what comes behind it waits.
fn narrow() -> Settings {
    let mut settings = settings(1);
    settings.clusters[0].requests_in_flight = Operations(1);
    settings
}

/// Reads of `shop.hot` may be joined in flight.
fn in_flight(mut settings: Settings) -> Settings {
    let subject = Subject::Table { keyspace: "shop".into(), table: "hot".into() };
    settings.clusters[0].rules = [Rule { join_in_flight: true, ..Rule::new("hot", subject) }].into();
    settings
}

fn read(caller: &Caller, stream: i16, id: &[u8], key: i32, timestamp: i64) -> Vec<u8> {
    let with = With { timestamp: Some(timestamp), ..With::values(&[int(key)]) };
    execute(caller.version, stream, id, &with)
}

/// `principal` occupies the only place, so that what follows waits.
fn block(bench: &mut Bench, version: Version) -> Caller {
    let caller = bench.open_as("blocker", version, &[]);
    bench.query(&caller, 77, BLOCK);
    bench.turn();
    assert_eq!(bench.asked(), 1);
    caller
}

fn heard(bench: &Bench, part: &str) -> usize {
    bench.nodes.iter().flat_map(|node| &node.heard).filter(|text| text.contains(part)).count()
}

fn apart(bench: &Bench, cause: Apart) -> u64 {
    bench.engine.cluster_counts()[0].apart[cause as usize]
}

#[test]
fn reads_that_wait_are_asked_once_whatever_their_timestamps() {
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut bench = Bench::new(narrow());
        let mut callers: Vec<Caller> = (0..5).map(|_| bench.open(version)).collect();
        let id = bench.prepare(&mut callers[0], READ);
        let lz4 = bench.open_as("caller", version, &[("COMPRESSION", "lz4")]);
        callers.push(lz4);
        let mut blocker = block(&mut bench, version);
        bench.engine.fold(|_, _, _| ());
        for (index, caller) in callers.iter().enumerate() {
            let stream = 10 + index as i16;
            bench.send(caller, &read(caller, stream, &id, 7, 1_000 + index as i64));
        }
        bench.turn();
        bench.settle();
        assert_eq!(heard(&bench, "shop.hot"), 1, "{version:?}");
        for (index, caller) in callers.iter_mut().enumerate() {
            let answers = bench.answers(caller);
            assert_eq!(answers.len(), 1);
            assert_eq!(answers[0].stream(), 10 + index as i16);
            assert_eq!(answers[0].values(), ["shop.hot/7#0@1000"], "as the leader asked");
        }
        assert_eq!(bench.answers(&mut blocker).len(), 1);
        let mut sum = (0, 0, 0, 0);
        bench.engine.fold(|_, _, tally| {
            for (_, tally) in tally.tallies() {
                sum.0 += tally.requests.iter().sum::<u64>();
                sum.1 += tally.operations;
                sum.2 += tally.coalesced;
                sum.3 += tally.backend_operations;
            }
        });
        assert_eq!(sum, (7, 7, 5, 2), "requests, operations, joined, asked: {version:?}");
        let counts = &bench.engine.cluster_counts()[0];
        assert_eq!((counts.joined, counts.flights), (5, 1));
        bench.engine.check_quiet();
    }
}

#[test]
fn what_differs_is_asked_apart() {
    let text = |text: &'static str| move |v| query(v, 1, text, &With::default());
    let of = |with: With| move |v| query(v, 1, READ, &with);
    let one = || With::values(&[int(1)]);
    let serial = || With { consistency: Some(Consistency::LOCAL_SERIAL), ..one() };
    let traced = |v| {
        let plain = query(v, 1, "SELECT v FROM shop.hot WHERE k = 1", &With::default());
        flagged(v, 1, weir_cql::Opcode::Query, Flags(Flags::TRACING), &plain[weir_cql::HEADER_LEN..])
    };
    type Make = Box<dyn Fn(Version) -> Vec<u8>>;
    let pairs: Vec<(&str, Make, Make)> = vec![
        ("values", Box::new(of(one())), Box::new(of(With::values(&[int(2)])))),
        (
            "consistency",
            Box::new(of(one())),
            Box::new(of(With { consistency: Some(Consistency::QUORUM), ..one() })),
        ),
        ("page size", Box::new(of(one())), Box::new(of(With { page_size: Some(7), ..one() }))),
        ("metadata", Box::new(of(one())), Box::new(of(With { skip_metadata: true, ..one() }))),
        ("a timestamp or none", Box::new(of(one())), Box::new(of(With { timestamp: Some(1), ..one() }))),
        ("serial", Box::new(of(serial())), Box::new(of(serial()))),
        ("traced", Box::new(traced), Box::new(traced)),
        (
            "functions",
            Box::new(text("SELECT now() FROM shop.hot WHERE k = 1")),
            Box::new(text("SELECT now() FROM shop.hot WHERE k = 1")),
        ),
        (
            "unknown functions",
            Box::new(text("SELECT mine(v) FROM shop.hot WHERE k = 1")),
            Box::new(text("SELECT mine(v) FROM shop.hot WHERE k = 1")),
        ),
        (
            "writes",
            Box::new(text("UPDATE shop.hot SET v = 'x' WHERE k = 1")),
            Box::new(text("UPDATE shop.hot SET v = 'x' WHERE k = 1")),
        ),
    ];
    for version in [Version::V4, Version::V5] {
        for (what, first, second) in &pairs {
            let mut bench = Bench::new(narrow());
            let callers = [bench.open(version), bench.open(version)];
            block(&mut bench, version);
            bench.send(&callers[0], &first(version));
            bench.send(&callers[1], &second(version));
            bench.settle();
            assert_eq!(heard(&bench, "shop.hot"), 2, "{what} in {version:?}");
        }
    }
}

#[test]
fn principals_versions_and_keyspaces_are_apart() {
    let ask = |callers: [&str; 2], versions: [Version; 2], keyspaces: [Option<&str>; 2]| {
        let mut bench = Bench::new(narrow());
        let mut open = [0, 1].map(|at| bench.open_as(callers[at], versions[at], &[]));
        for (caller, keyspace) in open.iter_mut().zip(keyspaces) {
            if let Some(keyspace) = keyspace {
                bench.use_keyspace(caller, keyspace);
            }
        }
        block(&mut bench, versions[0]);
        if versions[0] != versions[1] {
            block(&mut bench, versions[1]);
        }
        for caller in &open {
            bench.query(caller, 1, "SELECT v FROM hot WHERE k = 1");
        }
        bench.settle();
        open.iter_mut().for_each(|caller| assert_eq!(bench.answers(caller).len(), 1));
        heard(&bench, "hot")
    };
    let (v4, v5) = (Version::V4, Version::V5);
    let shop = Some("shop");
    assert_eq!(ask(["a", "a"], [v4, v4], [shop, shop]), 1);
    assert_eq!(ask(["a", "a"], [v5, v5], [shop, shop]), 1);
    assert_eq!(ask(["a", "b"], [v4, v4], [shop, shop]), 2);
    assert_eq!(ask(["a", "a"], [v4, v4], [shop, Some("\"My Ks\"")]), 2);
    assert_eq!(ask(["a", "a"], [v5, v5], [shop, Some("\"My Ks\"")]), 2);
}

#[test]
fn what_was_sent_is_joined_under_a_rule_and_never_after_a_write() {
    for version in [Version::V4, Version::V5] {
        let mut bench = Bench::new(settings(1));
        let (mut a, mut b) = (bench.open(version), bench.open(version));
        let id = bench.prepare(&mut a, READ);
        bench.send(&a, &read(&a, 1, &id, 7, 1));
        bench.send(&b, &read(&b, 1, &id, 7, 2));
        bench.turn();
        assert_eq!(bench.asked(), 2, "without a rule");
        bench.settle();
        bench.answers(&mut a);
        bench.answers(&mut b);

        let mut bench = Bench::new(in_flight(settings(1)));
        let (mut a, mut b) = (bench.open(version), bench.open(version));
        let (id, write) = (bench.prepare(&mut a, READ), bench.prepare(&mut a, WRITE));
        bench.send(&a, &read(&a, 1, &id, 7, 1));
        bench.send(&b, &read(&b, 2, &id, 7, 2));
        bench.turn();
        assert_eq!(bench.asked(), 1, "joined in flight");
        // another partition does not matter
        let other = execute(version, 3, &write, &With::values(&[int(8)]));
        bench.send(&b, &other);
        bench.send(&b, &read(&b, 4, &id, 7, 3));
        bench.turn();
        assert_eq!(bench.asked(), 2, "still joined");
        // the write is only under way: its client must not see less than it once it was answered
        bench.send(&a, &execute(version, 5, &write, &With::values(&[int(7)])));
        bench.turn();
        bench.send(&b, &read(&b, 6, &id, 7, 4));
        bench.turn();
        assert_eq!(bench.asked(), 4, "read, two writes, read");
        assert_eq!(apart(&bench, Apart::Written), 1);
        bench.settle();
        let joined: Vec<String> = bench.answers(&mut b).iter().filter(|a| !a.is_void()).map(value).collect();
        assert_eq!(joined, ["shop.hot/7#0@1", "shop.hot/7#0@1", "shop.hot/7#1@4"]);
        bench.answers(&mut a);
        bench.engine.check_quiet();
    }
}

fn value(answer: &Answer) -> String {
    answer.values().remove(0)
}

#[test]
fn when_the_leaders_client_goes_the_others_get_their_answer() {
    for sent in [false, true] {
        let mut bench = Bench::new(in_flight(narrow()));
        let (mut a, mut b, mut c) =
            (bench.open(Version::V4), bench.open(Version::V4), bench.open(Version::V4));
        let id = bench.prepare(&mut a, READ);
        let blocker = (!sent).then(|| block(&mut bench, Version::V4));
        for (caller, stamp) in [(&a, 1), (&a, 2), (&b, 3), (&c, 4)] {
            bench.send(caller, &read(caller, stamp as i16, &id, 7, stamp));
        }
        bench.turn();
        assert_eq!(bench.asked(), 1);
        bench.engine.close_client(a.id, bench.now);
        bench.engine.check_invariants();
        bench.settle();
        assert_eq!(heard(&bench, "shop.hot"), 1, "asked once, sent: {sent}");
        let by = if sent { 1 } else { 3 };
        assert_eq!(value(&bench.answers(&mut b)[0]), format!("shop.hot/7#0@{by}"));
        assert_eq!(value(&bench.answers(&mut c)[0]), format!("shop.hot/7#0@{by}"));
        if let Some(mut blocker) = blocker {
            bench.answers(&mut blocker);
        }
        bench.engine.check_quiet();
    }
}

#[test]
fn each_has_its_own_time() {
    let mut settings = in_flight(settings(1));
    settings.clusters[0].request_timeout = Span::millis(1_000);
    let mut bench = Bench::new(settings);
    let (mut a, mut b) = (bench.open(Version::V4), bench.open(Version::V4));
    let id = bench.prepare(&mut a, READ);
    bench.send(&a, &read(&a, 1, &id, 7, 1));
    bench.turn();
    bench.wait(Span::millis(600));
    bench.send(&b, &read(&b, 2, &id, 7, 2));
    bench.turn();
    assert_eq!(bench.asked(), 1);
    (0..5).for_each(|_| bench.wait(Span::millis(100)));
    assert_eq!(bench.answers(&mut a)[0].code(), Some(ErrorCode::READ_TIMEOUT), "its second is over");
    assert_eq!(bench.answers(&mut b).len(), 0, "its own is not");
    bench.settle();
    assert_eq!(value(&bench.answers(&mut b)[0]), "shop.hot/7#0@1");
    bench.engine.check_quiet();

    // and one that joined late does not wait longer than its leader's reply takes, either
    bench.send(&a, &read(&a, 1, &id, 7, 1));
    bench.send(&b, &read(&b, 2, &id, 7, 2));
    bench.turn();
    (0..11).for_each(|_| bench.wait(Span::millis(100)));
    for caller in [&mut a, &mut b] {
        assert_eq!(bench.answers(caller)[0].code(), Some(ErrorCode::READ_TIMEOUT));
    }
    bench.settle();
    bench.engine.check_quiet();
}

#[test]
fn time_in_the_queue_is_ones_own_too() {
    let mut settings = narrow();
    settings.clusters[0].queue_timeout = Span::millis(1_000);
    settings.clusters[0].request_timeout = Span::secs(60);
    settings.clusters[0].stall_timeout = Span::secs(90);
    let mut bench = Bench::new(settings);
    let (mut a, mut b, mut c) = (bench.open(Version::V4), bench.open(Version::V4), bench.open(Version::V4));
    let id = bench.prepare(&mut a, READ);
    let mut blocker = block(&mut bench, Version::V4);
    bench.send(&a, &read(&a, 1, &id, 7, 1));
    bench.wait(Span::millis(600));
    bench.send(&b, &read(&b, 2, &id, 7, 2));
    bench.wait(Span::millis(100));
    bench.send(&c, &read(&c, 3, &id, 7, 3));
    (0..4).for_each(|_| bench.wait(Span::millis(100)));
    assert_eq!(bench.answers(&mut a)[0].code(), Some(ErrorCode::SERVER_ERROR), "queue_timeout of the leader");
    assert_eq!(bench.answers(&mut b).len(), 0);
    (0..5).for_each(|_| bench.wait(Span::millis(100)));
    assert_eq!(bench.answers(&mut b)[0].code(), Some(ErrorCode::SERVER_ERROR), "of its heir, since it came");
    assert_eq!(bench.answers(&mut c).len(), 0);
    bench.settle();
    assert_eq!(value(&bench.answers(&mut c)[0]), "shop.hot/7#0@3");
    bench.answers(&mut blocker);
    bench.engine.check_quiet();
}

#[test]
fn errors_are_everybodys() {
    let mut bench = Bench::new(narrow());
    let mut callers = [bench.open(Version::V4), bench.open(Version::V4)];
    let mut blocker = block(&mut bench, Version::V4);
    for caller in &callers {
        bench.query(caller, 4, "SELECT v FROM hot WHERE k = 1"); // in no keyspace
    }
    bench.settle();
    for caller in &mut callers {
        assert_eq!(bench.answers(caller)[0].code(), Some(ErrorCode::INVALID));
    }
    assert_eq!(heard(&bench, "hot"), 1);
    bench.answers(&mut blocker);
    bench.query(&blocker, 5, BLOCK);
    bench.turn();
    for caller in &callers {
        bench.query(caller, 6, "SELECT v FROM shop.hot WHERE k = 1");
    }
    bench.fail(0);
    for caller in &mut callers {
        assert_eq!(bench.answers(caller)[0].code(), Some(ErrorCode::SERVER_ERROR), "no node");
    }
    bench.answers(&mut blocker);
    bench.engine.check_quiet();
}

#[test]
fn a_node_that_forgot_the_statement_is_told_once() {
    let mut bench = Bench::new(narrow());
    let mut callers: Vec<Caller> = (0..4).map(|_| bench.open(Version::V5)).collect();
    let id = bench.prepare(&mut callers[0], READ);
    let mut blocker = block(&mut bench, Version::V5);
    callers.iter().for_each(|caller| bench.send(caller, &read(caller, 1, &id, 3, 1)));
    bench.nodes[0].prepared.clear();
    bench.settle();
    for caller in &mut callers {
        assert_eq!(value(&bench.answers(caller)[0]), "shop.hot/3#0@1");
    }
    assert_eq!(bench.nodes[0].prepares, 2, "at first, and again");
    bench.answers(&mut blocker);
    bench.engine.check_quiet();
}

#[test]
fn followers_are_bounded() {
    for (per_read, in_all, asked, cause) in [
        (2, 100, 4, Apart::FollowersPerRead),
        (100, 3, 2 + 6 - 3, Apart::FollowersMax),
        (100, 100, 1, Apart::Sent),
    ] {
        let mut settings = narrow();
        settings.clusters[0].followers_per_read = per_read;
        settings.clusters[0].followers_max = in_all;
        let mut bench = Bench::new(settings);
        let mut callers: Vec<Caller> = (0..10).map(|_| bench.open(Version::V4)).collect();
        let mut blocker = block(&mut bench, Version::V4);
        callers.iter().for_each(|caller| bench.query(caller, 1, "SELECT v FROM shop.hot WHERE k = 1"));
        bench.settle();
        let heard = heard(&bench, "shop.hot");
        if cause == Apart::FollowersMax {
            assert_eq!(heard, 7, "three followed");
        } else {
            assert_eq!(heard, asked);
        }
        assert_eq!(apart(&bench, cause) > 0, cause != Apart::Sent);
        callers.iter_mut().for_each(|caller| assert_eq!(bench.answers(caller).len(), 1));
        bench.answers(&mut blocker);
        bench.engine.check_quiet();
    }
    let mut settings = narrow();
    settings.clusters[0].followers_max = 0;
    let mut bench = Bench::new(settings);
    let callers = [bench.open(Version::V4), bench.open(Version::V4)];
    block(&mut bench, Version::V4);
    callers.iter().for_each(|caller| bench.query(caller, 1, "SELECT v FROM shop.hot WHERE k = 1"));
    bench.settle();
    assert_eq!(heard(&bench, "shop.hot"), 2);
}

#[test]
fn a_large_answer_is_not_copied_beyond_the_bound_on_replies() {
    let mut settings = narrow();
    settings.reply_bytes_max = Bytes(100_000);
    let mut bench = Bench::new(settings);
    let mut callers: Vec<Caller> = (0..6).map(|_| bench.open(Version::V4)).collect();
    let mut blocker = block(&mut bench, Version::V4);
    let keys: Vec<String> = (0..2_000).map(|key| key.to_string()).collect();
    let text = format!("SELECT v FROM shop.hot WHERE k IN ({})", keys.join(","));
    callers.iter().for_each(|caller| bench.query(caller, 1, &text));
    bench.turn();
    bench.answer(0, 0);
    bench.answers(&mut blocker);
    assert_eq!(bench.asked(), 1);
    let reply = bench.reply_to(0, 0);
    assert!((30_000..90_000).contains(&reply.len()), "{}", reply.len());
    bench.deliver(0, &reply);
    let unread = bench.engine.snapshot(bench.now).reply_bytes;
    assert!(unread < 100_000 + reply.len() + 100, "{unread}");
    assert!(apart(&bench, Apart::Crowded) > 0);
    let mut answered = 0;
    for _ in 0..10 {
        for caller in &mut callers {
            answered += bench.answers(caller).iter().filter(|answer| answer.values().len() == 2_000).count();
        }
        bench.settle();
    }
    assert_eq!(answered, 6);
    assert!(heard(&bench, "shop.hot") < 6);
    bench.engine.check_quiet();
}

#[test]
fn a_limit_is_that_of_the_one_who_asks() {
    let mut settings = narrow();
    settings.listeners[0].trusted_names = vec!["slow".into()];
    let limits = CallerLimits {
        operations_per_second: Some(Operations(1)),
        burst: Some(Operations(1)),
        mode: LimitMode::Refuse,
        ..CallerLimits::default()
    };
    settings.callers.insert("slow".into(), limits);
    let mut bench = Bench::new(settings);
    let mut slow = bench.open_as("caller", Version::V4, &[("APPLICATION_NAME", "slow")]);
    let mut free = bench.open(Version::V4);
    let mut blocker = block(&mut bench, Version::V4);
    for stream in 0..3 {
        bench.query(&slow, stream, "SELECT v FROM shop.hot WHERE k = 1");
        bench.query(&free, stream, "SELECT v FROM shop.hot WHERE k = 1");
    }
    bench.settle();
    let refused = bench.answers(&mut slow).iter().filter(|a| a.code() == Some(ErrorCode::INVALID)).count();
    assert!((1..3).contains(&refused), "{refused}: followers pay as well");
    let answers = bench.answers(&mut free);
    assert_eq!((answers.len(), answers.iter().filter(|a| a.code().is_none()).count()), (3, 3));
    assert_eq!(heard(&bench, "shop.hot"), 1);
    bench.answers(&mut blocker);
    bench.engine.check_quiet();
}

#[test]
fn an_operator_can_switch_it_off() {
    let mut settings = narrow();
    settings.listeners[0].switches.single_flight = false;
    let mut bench = Bench::new(settings);
    let mut callers = [bench.open(Version::V4), bench.open(Version::V4)];
    block(&mut bench, Version::V4);
    callers.iter().for_each(|caller| bench.query(caller, 1, "SELECT v FROM shop.hot WHERE k = 1"));
    bench.settle();
    assert_eq!(heard(&bench, "shop.hot"), 2);
    callers.iter_mut().for_each(|caller| assert_eq!(value(&bench.answers(caller)[0]), "shop.hot/1#0@0"));
    assert_eq!(bench.tallied(Method::Select), (3, 3));
    assert_eq!(row_value("shop.hot", 1), "shop.hot/1");
}

#[test]
fn a_large_reply_is_gathered_for_those_who_wait_and_joined_by_nobody_once_it_arrives() {
    for version in [Version::V3, Version::V4] {
        let mut settings = in_flight(settings(1));
        settings.clusters[0].stream_reply_min = Bytes(1_000);
        let mut bench = Bench::new(settings);
        let keys: Vec<String> = (0..2_000).map(|key| key.to_string()).collect();
        let text = format!("SELECT v FROM shop.hot WHERE k IN ({})", keys.join(","));
        for joins_before in [true, false] {
            let (mut a, mut b) = (bench.open(version), bench.open(version));
            bench.query(&a, 1, &text);
            bench.turn();
            if joins_before {
                bench.query(&b, 2, &text);
                bench.turn();
            }
            assert_eq!(bench.asked(), 1);
            let reply = bench.reply_to(0, 0);
            let (first, rest) = reply.split_at(4_000);
            let lane = weir_engine::units::LaneId(0);
            bench.engine.lane_input(lane, first, bench.now).expect("honest");
            bench.engine.check_invariants();
            if !joins_before {
                bench.query(&b, 2, &text);
                bench.turn();
                assert_eq!(bench.asked(), 1, "asked apart");
            }
            bench.engine.lane_input(lane, rest, bench.now).expect("honest");
            bench.settle();
            for caller in [&mut a, &mut b] {
                let answers = bench.answers(caller);
                assert_eq!((answers.len(), answers[0].values().len()), (1, 2_000));
                bench.engine.close_client(caller.id, bench.now);
            }
        }
        let counts = &bench.engine.cluster_counts()[0];
        assert_eq!((counts.joined, counts.streamed, counts.apart[Apart::Sent as usize]), (1, 1, 1));
        bench.engine.check_quiet();
    }
}
