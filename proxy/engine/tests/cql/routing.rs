//! Requests find a replica of their partition, and another one when it fails them.

use crate::bench::{Bench, Caller, settings};
use crate::node::row_value;
use crate::placed::{Map, node, number};
use crate::wire::{self, Part, With, int};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use weir_cql::key::{KeyType, token};
use weir_cql::response::{ErrorBody, ErrorCode, ErrorDetail};
use weir_cql::{Opcode, Version};
use weir_engine::cql::{FailoverCause, Routed};
use weir_engine::settings::Settings;
use weir_engine::units::{ClusterId, Span};

/// Keys and tokens that a real Cassandra gave: type, key (of several columns: with commas), token.
const RECORDED: &str = include_str!("../../../cql/tests/keys/cassandra-5.0.9.tsv");

pub const READ: &str = "SELECT v FROM shop.t WHERE k = ?";
const COUNT: &str = "UPDATE shop.t SET n = n + 1 WHERE k = ?";
const MAIN: ClusterId = ClusterId(0);

fn recorded() -> impl Iterator<Item = (&'static str, Vec<Vec<u8>>, i64)> {
    RECORDED.lines().map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        let byte = |text: &str, at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
        let bytes = |text: &str| (0..text.len()).step_by(2).map(|at| byte(text, at)).collect();
        (fields[0], fields[1].split(',').map(bytes).collect(), fields[2].parse().expect("a token"))
    })
}

/// A bench of which the first `contacts` nodes are known before it is placed.
pub fn placed(contacts: usize, map: &Arc<Map>, change: impl FnOnce(&mut Settings)) -> Bench {
    let mut settings = settings(contacts);
    change(&mut settings);
    let mut bench = Bench::new(settings);
    bench.turn();
    replace(&mut bench, map);
    bench
}

pub fn replace(bench: &mut Bench, map: &Arc<Map>) {
    bench.engine.place(MAIN, map.clone(), bench.now);
    bench.turn();
    bench.cut();
}

/// The node that a lane leads to.
fn node_of(bench: &Bench, lane: usize) -> usize {
    let (_, info) = bench.engine.lanes().find(|(id, _)| id.0 as usize == lane).expect("a lane");
    number(&info.address)
}

/// Nodes that have requests they did not answer, with their number.
fn asked(bench: &Bench) -> BTreeMap<usize, usize> {
    let busy = bench.wires.iter().enumerate().filter(|(_, wire)| !wire.asked.is_empty());
    let mut asked = BTreeMap::new();
    for (lane, wire) in busy {
        *asked.entry(node_of(bench, lane)).or_default() += wire.asked.len();
    }
    asked
}

pub fn lanes_of(bench: &Bench, n: usize) -> Vec<usize> {
    let lanes = bench.engine.lanes().filter(|(_, info)| number(&info.address) == n);
    lanes.map(|(id, _)| id.0 as usize).collect()
}

/// A read of this key reaches one node, and is answered; the node.
fn reaches(bench: &mut Bench, caller: &mut Caller, id: &[u8], key: i32) -> usize {
    bench.send(caller, &wire::execute(caller.version, 1, id, &With::values(&[int(key)])));
    bench.turn();
    let asked = asked(bench);
    assert_eq!(asked.values().sum::<usize>(), 1);
    assert_eq!(bench.one(caller).values(), [row_value("shop.t", key)]);
    *asked.first_key_value().expect("a node").0
}

fn routed(bench: &Bench, way: Routed) -> u64 {
    bench.engine.cluster_counts()[0].routed[way as usize]
}

fn failovers(bench: &Bench, cause: FailoverCause) -> u64 {
    bench.engine.cluster_counts()[0].failovers[cause as usize]
}

fn holders(map: &Map, key: i32) -> Vec<usize> {
    map.holders(token(&int(key)))
}

fn last_int(body: &[u8]) -> i32 {
    i32::from_be_bytes(*body.last_chunk().expect("an int"))
}

fn three_racks() -> Vec<weir_engine::cql::PlacedNode> {
    (0..6).map(|n| node(n, ["a/1", "a/2", "a/3", "b/1", "b/2", "b/3"][n])).collect()
}

#[test]
fn tokens_are_those_that_cassandra_gave() {
    let map = Map::of(vec![node(0, "a/1")], 1).typed(None).shared();
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut bench = placed(1, &map, |_| {});
        let mut caller = bench.open(version);
        let one = bench.prepare(&mut caller, READ);
        let three = bench.prepare(&mut caller, "SELECT v FROM shop.trio WHERE c = ? AND a = ? AND b = ?");
        map.take_asked();
        let mut count = 0;
        for (kind, key, want) in recorded() {
            let (table, id, values) = match &key[..] {
                [a, b, c] => ("shop.trio", &three, vec![c.clone(), a.clone(), b.clone()]),
                _ => ("shop.t", &one, key.clone()),
            };
            let values = With::values(&values);
            bench.send(&caller, &wire::execute(version, 1, id, &values));
            assert_eq!(map.take_asked(), [(table.to_owned(), want)], "EXECUTE of {kind} {key:02x?}");
            if key.len() == 1 {
                bench.send(&caller, &wire::query(version, 2, READ, &values));
                assert_eq!(map.take_asked(), [(table.to_owned(), want)], "QUERY of {kind} {key:02x?}");
                let parts = [Part::Id(&one, key), Part::Text("UPDATE shop.t SET v = 'x' WHERE k = 3")];
                bench.send(&caller, &wire::batch(version, 3, &parts));
                assert_eq!(map.take_asked(), [(table.to_owned(), want)], "BATCH of {kind}");
            }
            bench.engine.close_client(caller.id, bench.now);
            caller = bench.open(version);
            count += 1;
        }
        assert!(count > 1_000, "{count} keys");
    }
}

#[test]
fn keys_in_the_text_are_read_where_they_are_certain() {
    let map = Map::of(vec![node(0, "a/1")], 1).typed(Some(KeyType::Int)).shared();
    let mut bench = placed(1, &map, |_| {});
    let mut caller = bench.open(Version::V4);
    let seven = token(&int(7)).value();
    let three = weir_cql::key::composite(&[&int(1), &int(2), &int(3)]).expect("short");
    let three = token(&three).value();
    let certain = [
        ("SELECT v FROM shop.t WHERE k = 7", "shop.t", seven),
        ("SELECT v FROM Shop.T WHERE K = 7 AND c > 3", "shop.t", seven),
        ("INSERT INTO shop.t (v, k) VALUES ('x', 7)", "shop.t", seven),
        ("DELETE FROM shop.t WHERE k = 7 IF EXISTS", "shop.t", seven),
        ("SELECT v FROM shop.trio WHERE b = 2 AND c = 3 AND a = 1", "shop.trio", three),
        (
            "BEGIN BATCH UPDATE shop.t SET v = 1 WHERE k = 7; DELETE FROM shop.t WHERE k = 8; APPLY BATCH",
            "shop.t",
            seven,
        ),
    ];
    for (text, table, want) in certain {
        bench.query(&caller, 1, text);
        assert_eq!(map.take_asked(), [(table.to_owned(), want)], "{text}");
    }
    let uncertain = [
        "SELECT v FROM shop.t",
        "SELECT v FROM shop.t WHERE k IN (7)",
        "SELECT v FROM shop.t WHERE k = 7 AND k = 8",
        "SELECT v FROM shop.t WHERE token(k) > 7",
        "SELECT v FROM shop.t WHERE k = 'seven'",
        "SELECT v FROM shop.t WHERE k = now()",
        "SELECT v FROM shop.trio WHERE a = 1 AND b = 2",
        "SELECT v FROM elsewhere.t WHERE k = 7",
        "SELECT * FROM system.local WHERE k = 7",
        "INSERT INTO shop.t JSON '{\"k\": 7}'",
        "CREATE TABLE shop.x (k int PRIMARY KEY)",
    ];
    for text in uncertain {
        bench.query(&caller, 1, text);
        assert_eq!(map.take_asked(), [], "{text}");
    }
    bench.settle();
    bench.answers(&mut caller);
    // without a keyspace in the text, the connection's counts
    bench.use_keyspace(&mut caller, "shop");
    bench.query(&caller, 1, "SELECT v FROM t WHERE k = 7");
    assert_eq!(map.take_asked(), [("shop.t".to_owned(), seven)]);
}

#[test]
fn the_nearest_replicas_are_asked() {
    for (rack, remote) in [(None, false), (Some("2"), false), (None, true), (Some("9"), true)] {
        let map = Map::of(three_racks(), 4).shared();
        let mut bench = placed(2, &map, |settings| {
            settings.clusters[0].local_dc = Some("a".into());
            settings.clusters[0].local_rack = rack.map(Into::into);
            settings.clusters[0].remote_failover = remote;
        });
        let mut caller = bench.open(Version::V4);
        let id = bench.prepare(&mut caller, READ);
        bench.settle();
        let (mut found, mut near) = (BTreeSet::new(), [0, 0]);
        for key in 0..200 {
            let local: Vec<usize> =
                holders(&map, key).into_iter().filter(|n| map.nodes[*n].data_center == "a".into()).collect();
            let racked = |n: &usize| rack.is_some_and(|rack| &*map.nodes[*n].rack == rack);
            let best: Vec<usize> = match local.iter().copied().filter(racked).collect::<Vec<_>>() {
                none if none.is_empty() => local,
                racked => racked,
            };
            let reached = reaches(&mut bench, &mut caller, &id, key);
            assert!(best.contains(&reached), "{key}: {reached} of {best:?}");
            near[usize::from(rack.is_some() && !racked(&reached))] += 1;
            found.insert((holders(&map, key)[0], reached));
        }
        assert_eq!([routed(&bench, Routed::Replica), routed(&bench, Routed::OtherRack)], near);
        assert!(routed(&bench, Routed::Remote) == 0 && routed(&bench, Routed::Fallback) == 0);
        if rack.is_none() {
            let first: BTreeSet<usize> = found.iter().filter(|(h, _)| *h == 0).map(|(_, n)| *n).collect();
            assert_eq!(first, BTreeSet::from([0, 1, 2]), "equal replicas take turns");
        }
        bench.engine.check_quiet();
    }
}

#[test]
fn other_data_centers_are_asked_only_when_nobody_is_left_and_only_if_they_may() {
    for remote in [false, true] {
        let map = Map::of(three_racks(), 6).shared();
        let mut bench = placed(1, &map, |settings| settings.clusters[0].remote_failover = remote);
        let mut caller = bench.open(Version::V4);
        let id = bench.prepare(&mut caller, READ);
        bench.settle();
        // the first contact, node 0, is in a: so that is the local one
        bench.fail(lanes_of(&bench, 0)[0]);
        bench.fail(lanes_of(&bench, 1)[0]);
        assert_eq!(reaches(&mut bench, &mut caller, &id, 5), 2, "the last one of a");
        bench.fail(lanes_of(&bench, 2)[0]);
        if !remote {
            let execute = wire::execute(Version::V4, 1, &id, &With::values(&[int(5)]));
            let answer = bench.ask(&mut caller, &execute);
            assert!(answer.error().1.contains("no node of main can be reached"), "{}", answer.describe());
            assert_eq!(routed(&bench, Routed::Remote), 0);
            continue;
        }
        assert!(reaches(&mut bench, &mut caller, &id, 5) >= 3);
        assert_eq!(routed(&bench, Routed::Remote), 1);
        bench.up(lanes_of(&bench, 1)[0]);
        assert_eq!(reaches(&mut bench, &mut caller, &id, 5), 1, "back home at once");
        bench.engine.check_quiet();
    }
}

#[test]
fn the_home_is_the_first_contacts_for_good_and_a_name_that_nobody_has_is_nobodys() {
    let mut map = Map::of(three_racks(), 1);
    map.first_contact = Some(4);
    let mut bench = placed(1, &map.shared(), |_| {});
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    let mut map = Map::of(three_racks(), 6);
    map.first_contact = Some(1);
    replace(&mut bench, &map.shared());
    for key in 0..30 {
        assert!(reaches(&mut bench, &mut caller, &id, key) >= 3, "b stays the home");
    }
    let typo = |settings: &mut Settings| settings.clusters[0].local_dc = Some("A".into());
    let mut bench = placed(1, &Map::of(three_racks(), 6).shared(), typo);
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    let reached: BTreeSet<usize> = (0..60).map(|key| reaches(&mut bench, &mut caller, &id, key)).collect();
    assert_eq!(reached.len(), 6, "all are near");
}

#[test]
fn a_node_goes_down_under_load_and_comes_back() {
    let map = Map::of((0..3).map(|n| node(n, "a/1")).collect(), 2).shared();
    let mut bench = placed(3, &map, |settings| settings.clusters[0].retry_percent = 100);
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    bench.settle();
    for key in 0..60 {
        bench.send(&caller, &wire::execute(Version::V4, key as i16, &id, &With::values(&[int(key)])));
    }
    bench.turn();
    let before = asked(&bench);
    assert!(before.values().all(|count| *count >= 15), "spread over all: {before:?}");
    let lane = lanes_of(&bench, 1)[0];
    bench.lose(lane);
    bench.fail(lane);
    bench.turn();
    assert_eq!(asked(&bench).values().sum::<usize>(), 60);
    assert_eq!(failovers(&bench, FailoverCause::Lost), before[&1] as u64);
    for (lane, wire) in bench.wires.iter().enumerate() {
        for request in &wire.asked {
            let holders = holders(&map, last_int(&request.body));
            let to = node_of(&bench, lane);
            assert!(holders.contains(&to), "{to} is no replica of {holders:?}");
        }
    }
    bench.settle();
    let mut answers = bench.answers(&mut caller);
    answers.sort_by_key(|answer| answer.stream());
    let wanted: Vec<String> = (0..60).map(|key| row_value("shop.t", key)).collect();
    assert_eq!(answers.iter().flat_map(|answer| answer.values()).collect::<Vec<_>>(), wanted);
    // nobody goes there while it is down; all as before once it is back
    let away = (0..40).map(|key| reaches(&mut bench, &mut caller, &id, key)).collect::<BTreeSet<_>>();
    assert_eq!(away, BTreeSet::from([0, 2]));
    assert_eq!(bench.engine.cluster_counts()[0].nodes_up, 2);
    bench.up(lane);
    let back = (0..40).map(|key| reaches(&mut bench, &mut caller, &id, key)).collect::<BTreeSet<_>>();
    assert_eq!(back, BTreeSet::from([0, 1, 2]));
    bench.engine.check_quiet();
}

#[test]
fn what_waits_for_a_node_goes_to_another_when_it_is_lost() {
    let map = Map::of((0..2).map(|n| node(n, "a/1")).collect(), 1).shared();
    let mut bench = placed(2, &map, |settings| settings.clusters[0].requests_in_flight.0 = 1);
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, COUNT);
    bench.settle();
    let key = (0..).find(|key| holders(&map, *key) == [0]).expect("a key of node 0");
    for stream in 0..3 {
        bench.send(&caller, &wire::execute(Version::V4, stream, &id, &With::values(&[int(key)])));
    }
    bench.turn();
    assert_eq!(asked(&bench), BTreeMap::from([(0, 1)]));
    let lane = lanes_of(&bench, 0)[0];
    bench.lose(lane);
    bench.fail(lane);
    bench.settle();
    let answers = bench.answers(&mut caller);
    assert_eq!(answers.len(), 3);
    let lost: Vec<i16> = answers.iter().filter(|a| a.code().is_some()).map(|a| a.stream()).collect();
    assert_eq!(lost, [0], "the one that was sent is a counter: its outcome is unknown");
    assert_eq!(failovers(&bench, FailoverCause::Down), 2);
    assert_eq!(routed(&bench, Routed::Fallback), 2);
    bench.engine.check_quiet();
}

fn error(code: ErrorCode) -> Vec<u8> {
    let mut body = Vec::new();
    let detail = match code {
        ErrorCode::UNAVAILABLE => {
            ErrorDetail::Unavailable { consistency: weir_cql::Consistency::ONE, required: 1, alive: 0 }
        }
        _ => ErrorDetail::Plain(&[]),
    };
    ErrorBody { code, message: b"not now", detail }.write(Version::V4, &mut body);
    body
}

/// Every request that a node has is answered with this error; the nodes.
fn refuse_all(bench: &mut Bench, code: ErrorCode) -> Vec<usize> {
    let mut nodes = Vec::new();
    for lane in 0..bench.wires.len() {
        while let Some(request) = bench.wires[lane].asked.pop_front() {
            nodes.push(node_of(bench, lane));
            let stream = request.stream();
            bench.deliver(lane, &wire::message(Version::V4, stream, Opcode::Error, &error(code)));
        }
    }
    bench.turn();
    nodes
}

#[test]
fn a_node_that_cannot_now_is_followed_by_the_next_replica() {
    let causes = [
        (ErrorCode::UNAVAILABLE, FailoverCause::Unavailable),
        (ErrorCode::OVERLOADED, FailoverCause::Overloaded),
        (ErrorCode::IS_BOOTSTRAPPING, FailoverCause::Bootstrapping),
    ];
    for (code, cause) in causes {
        let map = Map::of((0..4).map(|n| node(n, "a/1")).collect(), 3).shared();
        let mut bench = placed(1, &map, |_| {});
        let mut caller = bench.open(Version::V4);
        let (read, count) = (bench.prepare(&mut caller, READ), bench.prepare(&mut caller, COUNT));
        bench.settle();
        bench.send(&caller, &wire::execute(Version::V4, 1, &read, &With::values(&[int(8)])));
        bench.turn();
        let mut reached = refuse_all(&mut bench, code);
        reached.extend(refuse_all(&mut bench, code));
        reached.extend(refuse_all(&mut bench, code));
        reached.sort_unstable();
        let mut want = holders(&map, 8);
        want.sort_unstable();
        assert_eq!(reached, want, "each replica once, and then it is said");
        assert_eq!(bench.answers(&mut caller).remove(0).code(), Some(code));
        assert_eq!(failovers(&bench, cause), 2);
        // a second replica that can is all it takes
        bench.send(&caller, &wire::execute(Version::V4, 1, &read, &With::values(&[int(8)])));
        bench.turn();
        refuse_all(&mut bench, code);
        assert_eq!(bench.one(&mut caller).values(), [row_value("shop.t", 8)]);
        // a counter is not repeated
        bench.send(&caller, &wire::execute(Version::V4, 1, &count, &With::values(&[int(8)])));
        bench.turn();
        refuse_all(&mut bench, code);
        assert_eq!(bench.answers(&mut caller).remove(0).code(), Some(code));
        assert_eq!((failovers(&bench, cause), routed(&bench, Routed::Replica)), (3, 6));
        bench.engine.check_quiet();
    }
}

#[test]
fn failing_over_has_a_budget_and_needs_another_node() {
    let map = Map::of((0..2).map(|n| node(n, "a/1")).collect(), 2).shared();
    let mut bench = placed(1, &map, |settings| settings.clusters[0].retry_percent = 0);
    let mut caller = bench.open(Version::V4);
    let read = bench.prepare(&mut caller, READ);
    bench.settle();
    let ask = |bench: &mut Bench, caller: &Caller, count: i16| {
        for stream in 0..count {
            bench.send(caller, &wire::execute(Version::V4, stream, &read, &With::values(&[int(8)])));
        }
        bench.turn();
    };
    ask(&mut bench, &caller, 30);
    let mut refused = 0;
    while !asked(&bench).is_empty() {
        refused += refuse_all(&mut bench, ErrorCode::OVERLOADED).len();
    }
    assert_eq!(refused, 40, "ten for free");
    assert_eq!(bench.answers(&mut caller).len(), 30);
    assert_eq!(bench.engine.cluster_counts()[0].retries_refused, 20);
    bench.now = bench.now.after(Span::secs(11));
    bench.fail(lanes_of(&bench, 1)[0]);
    ask(&mut bench, &caller, 1);
    refuse_all(&mut bench, ErrorCode::OVERLOADED);
    assert_eq!(bench.answers(&mut caller).len(), 1, "there is nobody else to ask");
    assert_eq!(failovers(&bench, FailoverCause::Overloaded), 10);
}

#[test]
fn conditional_statements_go_to_the_first_replica_that_is_up() {
    let map = Map::of((0..5).map(|n| node(n, ["a/1", "a/2", "a/3"][n % 3])).collect(), 3).shared();
    let mut bench = placed(1, &map, |settings| settings.clusters[0].local_rack = Some("3".into()));
    let mut caller = bench.open(Version::V4);
    let once = bench.prepare(&mut caller, "INSERT INTO shop.t (k, v) VALUES (?, 'x') IF NOT EXISTS");
    bench.settle();
    let to = |bench: &mut Bench, caller: &mut Caller, key: i32| {
        bench.send(caller, &wire::execute(Version::V4, 1, &once, &With::values(&[int(key)])));
        bench.turn();
        let node = *asked(bench).first_key_value().expect("a node").0;
        bench.one(caller);
        node
    };
    for key in 0..40 {
        assert_eq!(to(&mut bench, &mut caller, key), holders(&map, key)[0], "{key}");
    }
    bench.fail(lanes_of(&bench, 2)[0]);
    for key in 0..40 {
        let first = holders(&map, key).into_iter().find(|n| *n != 2).expect("another");
        assert_eq!(to(&mut bench, &mut caller, key), first, "{key}");
    }
}

#[test]
fn a_node_that_others_think_down_comes_last_but_is_not_given_up() {
    let mut map = Map::of((0..3).map(|n| node(n, "a/1")).collect(), 2);
    map.nodes[1].is_up = false;
    let map = map.shared();
    let mut bench = placed(1, &map, |_| {});
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    bench.settle();
    for key in 0..60 {
        assert_ne!(reaches(&mut bench, &mut caller, &id, key), 1, "{key}");
    }
    bench.fail(lanes_of(&bench, 0)[0]);
    bench.fail(lanes_of(&bench, 2)[0]);
    assert_eq!(reaches(&mut bench, &mut caller, &id, 3), 1, "its connection works");
}

#[test]
fn nodes_are_those_the_cluster_tells_within_a_bound() {
    let nodes = |count: usize| (0..count).map(|n| node(n, if n % 2 == 0 { "a/1" } else { "b/1" })).collect();
    let known = |bench: &Bench| {
        let addresses = bench.engine.lanes().map(|(_, info)| number(&info.address));
        addresses.collect::<BTreeSet<usize>>()
    };
    let mut bench = placed(2, &Map::of(nodes(6), 1).shared(), |settings| {
        settings.clusters[0].nodes_max = 4;
        settings.clusters[0].local_dc = Some("b".into());
    });
    let mut caller = bench.open(Version::V4);
    bench.ask_text(&mut caller, "SELECT v FROM shop.t WHERE k = 1");
    assert_eq!(known(&bench), BTreeSet::from([0, 1, 3, 5]), "those of b first");
    let counts = bench.engine.cluster_counts().remove(0);
    assert_eq!((counts.nodes, counts.nodes_up, counts.nodes_left_out), (4, 4, 2));
    // a picture of nothing is none
    replace(&mut bench, &Map::of(Vec::new(), 0).shared());
    assert_eq!(known(&bench).len(), 4);
    bench.ask_text(&mut caller, "SELECT v FROM shop.t WHERE k = 1");

    let mut bench =
        placed(2, &Map::of(nodes(6), 6).shared(), |settings| settings.clusters[0].discover = false);
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    bench.settle();
    assert_eq!(known(&bench), BTreeSet::from([0, 1]), "contacts only");
    for key in 0..20 {
        assert_eq!(reaches(&mut bench, &mut caller, &id, key), 0, "the only one of the home");
    }
    // new settings keep the picture
    let mut settings = settings(2);
    settings.clusters[0].local_dc = Some("b".into());
    bench.engine.apply(Arc::new(settings), bench.now);
    bench.turn();
    assert_eq!(known(&bench).len(), 6);
    assert_eq!(reaches(&mut bench, &mut caller, &id, 3) % 2, 1, "b is the home now");
}

#[test]
fn nodes_change_under_load_for_years_and_nothing_is_lost_or_left() {
    let mut bench = placed(1, &Map::of(vec![node(0, "a/1")], 1).shared(), |settings| {
        settings.clusters[0].connections_per_node = 2;
    });
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    let (mut next, mut answers) = (0, Vec::new());
    for round in 0..200_usize {
        for _ in 0..8 {
            bench.send(&caller, &wire::execute(Version::V4, next, &id, &With::values(&[int(next.into())])));
            next += 1;
        }
        bench.turn();
        let owed = bench.asked();
        // every node leaves for one with an address nobody had before
        let nodes = (0..3).map(|n| node(round + 1 + n, "a/1")).collect();
        bench.engine.place(MAIN, Map::of(nodes, 2).shared(), bench.now);
        bench.turn();
        assert_eq!(bench.asked(), owed, "nothing is sent twice");
        bench.settle();
        answers.extend(bench.answers(&mut caller));
        bench.wait(Span::millis(200));
        bench.cut();
        bench.engine.fold_nodes(|_, _, _, _| ()); // a name is kept until what it did is told
    }
    answers.sort_by_key(|answer| answer.stream());
    let wanted: Vec<String> = (0..i32::from(next)).map(|key| row_value("shop.t", key)).collect();
    assert_eq!(answers.iter().flat_map(|answer| answer.values()).collect::<Vec<_>>(), wanted);
    assert_eq!(bench.engine.lanes().count(), 6);
    assert!(bench.wires.len() <= 12, "{} places for connections", bench.wires.len());
    assert!(bench.nodes.len() <= 6, "{} places for nodes", bench.nodes.len());
    assert_eq!(bench.engine.snapshot(bench.now).servers.len(), 3);
    bench.engine.check_quiet();
}
