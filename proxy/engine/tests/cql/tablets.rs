//! Tablets: what nodes tell in answers is where the next request goes, and no client hears of it.

use crate::bench::{Bench, Caller};
use crate::node::row_value;
use crate::placed::{Map, number, sharded};
use crate::routing::{READ, lanes_of, placed, replace};
use crate::wire::{self, Answer, With, int, list};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use weir_cql::envelope::{Flags, Opcode, Side};
use weir_cql::key::{Token, token};
use weir_cql::read::bytes_pairs;
use weir_cql::response::{Event, Prefix, SchemaChange, Tablet, TabletReplica, Target, tablet};
use weir_cql::{Version, own, write};
use weir_engine::cql::{Routed, TabletCounts, TabletForgotten, TabletTold};
use weir_engine::settings::Settings;
use weir_engine::units::{Bytes, ClusterId, LaneId};

const OTHER: &str = "SELECT v FROM shop.u WHERE k = ?";
const SHARDS: u16 = 4;

/// A cluster whose placement says of no table where it is, as of those with tablets.
fn map(nodes: impl IntoIterator<Item = usize>) -> Arc<Map> {
    let mut map = Map::of(nodes.into_iter().map(|n| sharded(n, "a/1", SHARDS)).collect(), 1);
    map.keyspace = "elsewhere";
    map.shared()
}

/// A bench whose nodes tell tablets, on a connection to each of their shards.
fn telling(map: &Arc<Map>, change: impl FnOnce(&mut Settings)) -> Bench {
    placed(1, map, change)
}

/// A client of it; its connections stand.
fn open(bench: &mut Bench, version: Version) -> Caller {
    let mut caller = bench.open(version);
    bench.prepare(&mut caller, READ);
    tell(bench, 0..6);
    caller
}

/// The connections to these nodes agree to tell tablets, each from another shard.
fn tell(bench: &mut Bench, nodes: std::ops::Range<usize>) {
    for node in nodes {
        for (place, lane) in lanes_of(bench, node).into_iter().enumerate() {
            let lane = LaneId(lane as u32);
            bench.engine.lane_tells_tablets(lane);
            bench.engine.lane_on_shard(lane, place as u16 % SHARDS);
        }
    }
}

fn tablet(after: i64, last: i64, replicas: &[(usize, u32)]) -> Tablet {
    let replica = |&(node, shard): &(usize, u32)| TabletReplica { host_id: [node as u8; 16], shard };
    let (after, last) = (Token::new(after), Token::new(last));
    Tablet { after, last, replicas: replicas.iter().map(replica).collect() }
}

/// The one that has only this key.
fn around(key: i32, replicas: &[(usize, u32)]) -> Tablet {
    let token = token(&int(key)).value();
    tablet(token - 1, token, replicas)
}

fn value(told: &Tablet) -> Vec<u8> {
    let mut value = Vec::new();
    told.write(&mut value);
    value
}

/// An answer with these entries in its payload.
fn with_payload(envelope: &[u8], entries: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut whole = envelope.to_vec();
    let answer: Answer = wire::take_messages(&mut whole, Side::Server).remove(0);
    let mut body = Vec::new();
    write::short(&mut body, entries.len() as u16);
    for (name, value) in entries {
        write::short_bytes(&mut body, name);
        write::bytes(&mut body, value);
    }
    body.extend_from_slice(&answer.body);
    let header = answer.header;
    let flags = header.flags.with(Flags::CUSTOM_PAYLOAD);
    wire::flagged(header.version, header.stream.0, header.opcode, flags, &body)
}

/// The payload that a client got.
fn payload(answer: &Answer) -> Vec<(Vec<u8>, Vec<u8>)> {
    let prefix = Prefix::locate(answer.header.version, answer.header.flags, &answer.body).expect("readable");
    let Some(payload) = prefix.payload else { return Vec::new() };
    let pairs = bytes_pairs(&answer.body, payload);
    pairs.map(|(name, value)| (name.to_vec(), value.expect("a value").to_vec())).collect()
}

fn counts(bench: &Bench) -> TabletCounts {
    bench.engine.cluster_counts()[0].tablets
}

fn told(bench: &Bench, what: TabletTold) -> u64 {
    counts(bench).told[what as usize]
}

fn forgotten(bench: &Bench, why: TabletForgotten) -> u64 {
    counts(bench).forgotten[why as usize]
}

/// What one node has prepared all have.
fn share_prepared(bench: &mut Bench) {
    let known = bench.nodes.iter().flat_map(|node| node.prepared.clone()).collect::<BTreeMap<_, _>>();
    bench.nodes.iter_mut().for_each(|node| node.prepared.clone_from(&known));
}

/// The lane that a read of this key was sent on, which is not answered yet.
fn sent(bench: &mut Bench, caller: &Caller, text: &str, key: i32) -> usize {
    let id = crate::node::statement_id(None, text.as_bytes());
    share_prepared(bench);
    bench.send(caller, &wire::execute(caller.version, 1, &id, &With::values(&[int(key)])));
    bench.turn();
    let busy: Vec<usize> =
        (0..bench.wires.len()).filter(|lane| !bench.wires[*lane].asked.is_empty()).collect();
    assert_eq!(busy.len(), 1, "one lane was asked");
    busy[0]
}

/// Answers the read on this lane with an entry for tablets; what the client got.
fn answered(bench: &mut Bench, caller: &mut Caller, lane: usize, told: &[u8]) -> Answer {
    let reply = bench.reply_to(lane, 0);
    bench.deliver(lane, &with_payload(&reply, &[(tablet::ENTRY, told)]));
    let mut answers = bench.answers(caller);
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

/// A read of this key that is answered with a tablet.
fn learn(bench: &mut Bench, caller: &mut Caller, text: &str, key: i32, told: &Tablet) {
    let lane = sent(bench, caller, text, key);
    let answer = answered(bench, caller, lane, &value(told));
    assert!(!answer.header.flags.has(Flags::CUSTOM_PAYLOAD), "clients did not ask for it");
    assert_eq!(answer.values().len(), 1);
}

/// Node and shard that a read of this key goes to.
fn goes(bench: &mut Bench, caller: &mut Caller, text: &str, key: i32) -> (usize, u16) {
    let lane = sent(bench, caller, text, key);
    let (_, info) = bench.engine.lanes().find(|(id, _)| id.0 as usize == lane).expect("a lane");
    let node = number(&info.address);
    let shard = lanes_of(bench, node).iter().position(|other| *other == lane).expect("one of its lanes");
    bench.one(caller);
    (node, shard as u16)
}

#[test]
fn requests_go_where_a_node_said_the_tablet_is() {
    for version in [Version::V4, Version::V5] {
        let mut bench = telling(&map(0..3), |_| {});
        let mut caller = open(&mut bench, version);
        let fallback = |bench: &Bench| bench.engine.cluster_counts()[0].routed[Routed::Fallback as usize];
        for key in 0..40 {
            let (node, shard) = (key as usize % 3, key as u32 % 4);
            let before = fallback(&bench);
            learn(&mut bench, &mut caller, READ, key, &around(key, &[(node, shard)]));
            assert_eq!(fallback(&bench), before + 1, "nobody knew");
        }
        for key in 0..40 {
            let want = (key as usize % 3, key as u16 % 4);
            assert_eq!(goes(&mut bench, &mut caller, READ, key), want, "key {key}");
        }
        assert_eq!(fallback(&bench), 40);
        assert_eq!((counts(&bench).known, told(&bench, TabletTold::Learned)), (40, 40));
        // it moves: the node that is asked in vain says so
        learn(&mut bench, &mut caller, READ, 7, &around(7, &[(2, 0)]));
        assert_eq!((goes(&mut bench, &mut caller, READ, 7), counts(&bench).known), ((2, 0), 40));
        // with several replicas the one that is up
        learn(&mut bench, &mut caller, READ, 8, &around(8, &[(0, 3), (1, 2)]));
        lanes_of(&bench, 0).into_iter().for_each(|lane| bench.fail(lane));
        assert_eq!(goes(&mut bench, &mut caller, READ, 8), (1, 2));
    }
}

#[test]
fn a_tablet_takes_the_place_of_those_it_overlaps() {
    let mut bench = telling(&map(0..3), |_| {});
    let mut caller = open(&mut bench, Version::V4);
    let at = |key| token(&int(key)).value();
    let mut keys: Vec<i32> = (0..30).collect();
    keys.sort_by_key(|key| at(*key));
    let (low, middle, high) = (keys[0], keys[14], keys[29]);
    // one for everything, then two halves, then one again
    learn(&mut bench, &mut caller, READ, high, &tablet(i64::MIN, i64::MAX, &[(0, 1)]));
    assert!(keys.iter().all(|key| goes(&mut bench, &mut caller, READ, *key) == (0, 1)));
    learn(&mut bench, &mut caller, READ, low, &tablet(i64::MIN, at(middle), &[(1, 2)]));
    assert_eq!(counts(&bench).known, 1);
    learn(&mut bench, &mut caller, READ, high, &tablet(at(middle), i64::MAX, &[(2, 3)]));
    assert_eq!(counts(&bench).known, 2);
    for (place, key) in keys.iter().enumerate() {
        let want = if place <= 14 { (1, 2) } else { (2, 3) };
        assert_eq!(goes(&mut bench, &mut caller, READ, *key), want, "{place}");
    }
    learn(&mut bench, &mut caller, READ, middle, &tablet(at(low), at(high), &[(0, 0)]));
    assert_eq!(counts(&bench).known, 1);
    assert_eq!(goes(&mut bench, &mut caller, READ, high), (0, 0));
    // another table has its own
    bench.prepare(&mut caller, OTHER);
    learn(&mut bench, &mut caller, OTHER, high, &tablet(i64::MIN, i64::MAX, &[(2, 1)]));
    assert_eq!(goes(&mut bench, &mut caller, OTHER, high), (2, 1));
    assert_eq!(goes(&mut bench, &mut caller, READ, high), (0, 0));
}

#[test]
fn only_what_weir_asked_for_is_taken_out() {
    let mut bench = telling(&map(0..2), |_| {});
    let mut caller = open(&mut bench, Version::V4);
    let (ours, trace) = (value(&around(1, &[(0, 0)])), (&b"trace"[..], &b"x"[..]));
    let lane = sent(&mut bench, &caller, READ, 1);
    let reply = bench.reply_to(lane, 0);
    bench.deliver(lane, &with_payload(&reply, &[trace, (tablet::ENTRY, &ours)]));
    let answer = bench.answers(&mut caller).remove(0);
    assert_eq!(payload(&answer), [(b"trace".to_vec(), b"x".to_vec())]);
    assert_eq!(answer.values(), [row_value("shop.t", 1)]);
    // a connection that did not agree to it has no tablets: whatever is called so is the client's
    let lane = sent(&mut bench, &caller, READ, 1);
    bench.lose(lane);
    bench.up(lane);
    bench.settle();
    bench.answers(&mut caller);
    (0..bench.wires.len()).filter(|other| *other != lane).for_each(|other| bench.fail(other));
    let lane = sent(&mut bench, &caller, READ, 2);
    let reply = bench.reply_to(lane, 0);
    bench.deliver(lane, &with_payload(&reply, &[(tablet::ENTRY, &ours)]));
    let answer = bench.answers(&mut caller).remove(0);
    assert_eq!(payload(&answer), [(tablet::ENTRY.to_vec(), ours)]);
    assert_eq!(told(&bench, TabletTold::Learned), 1);
}

#[test]
fn errors_and_preparations_tell_nothing_but_are_cleaned() {
    let mut bench = telling(&map(0..2), |_| {});
    let mut caller = open(&mut bench, Version::V4);
    let everything = value(&tablet(i64::MIN, i64::MAX, &[(0, 0)]));
    bench.send(&caller, &wire::prepare(Version::V4, 3, OTHER));
    bench.turn();
    let lane = (0..bench.wires.len()).find(|lane| !bench.wires[*lane].asked.is_empty()).expect("asked");
    let answer = answered(&mut bench, &mut caller, lane, &everything);
    assert_eq!((answer.prepared().len(), payload(&answer)), (16, Vec::new()));
    // a statement the node has forgotten: the error is repaired, and the tablet counts
    bench.nodes.iter_mut().for_each(|node| node.prepared.clear());
    let lane = sent(&mut bench, &caller, OTHER, 1);
    let reply = bench.reply_to(lane, 0);
    bench.deliver(lane, &with_payload(&reply, &[(tablet::ENTRY, &everything)]));
    assert_eq!(bench.one(&mut caller).values(), [row_value("shop.u", 1)]);
    assert_eq!((told(&bench, TabletTold::NotPlaced), told(&bench, TabletTold::Learned)), (1, 1));
    assert_eq!(goes(&mut bench, &mut caller, OTHER, 5), (0, 0));
}

#[test]
fn what_is_told_of_other_partitions_or_cannot_be_read_is_not_learned() {
    let mut bench = telling(&map(0..2), |_| {});
    let mut caller = open(&mut bench, Version::V4);
    let token = token(&int(1)).value();
    for told in [
        tablet(token, i64::MAX, &[(0, 0)]),
        tablet(i64::MIN, token - 1, &[(0, 0)]),
        tablet(token, token - 1, &[(0, 0)]),
    ] {
        learn(&mut bench, &mut caller, READ, 1, &told);
    }
    assert_eq!(told(&bench, TabletTold::NotPlaced), 3);
    // no partition at all
    bench.query(&caller, 4, "SELECT k, v FROM shop.t WHERE k IN (1, 2)");
    bench.turn();
    let lane = (0..bench.wires.len()).find(|lane| !bench.wires[*lane].asked.is_empty()).expect("asked");
    let answer = answered(&mut bench, &mut caller, lane, &value(&around(1, &[(0, 0)])));
    assert_eq!((payload(&answer), answer.values().len()), (Vec::new(), 2));
    assert_eq!(told(&bench, TabletTold::NotPlaced), 4);
    learn(&mut bench, &mut caller, READ, 1, &around(1, &[]));
    let lane = sent(&mut bench, &caller, READ, 1);
    let answer = answered(&mut bench, &mut caller, lane, b"no tablet");
    assert_eq!(payload(&answer), []);
    assert_eq!(told(&bench, TabletTold::Unreadable), 2);
    assert_eq!((counts(&bench).known, told(&bench, TabletTold::Learned)), (0, 0));
}

#[test]
fn a_large_reply_is_cleaned_wherever_it_is_cut() {
    for version in [Version::V4, Version::V5] {
        let mut bench = telling(&map(0..2), |settings| {
            settings.clusters[0].stream_reply_min = Bytes(64);
            settings.clusters[0].split = weir_engine::settings::SplitChoice::Off;
        });
        let mut caller = open(&mut bench, version);
        let many = bench.prepare(&mut caller, "SELECT k, v FROM shop.t WHERE k IN ?");
        share_prepared(&mut bench);
        let rows: Vec<String> = (0..40).map(|key| row_value("shop.t", key)).collect();
        let ours = value(&around(1, &[(0, 0)]));
        let entries = [(&b"trace"[..], &b"x"[..]), (tablet::ENTRY, &ours[..])];
        let (mut cut, mut length, mut early) = (1, usize::MAX, 0);
        while cut < length {
            bench.send(&caller, &wire::execute(version, 7, &many, &With::values(&[list(0..40)])));
            bench.turn();
            let lane =
                (0..bench.wires.len()).find(|lane| !bench.wires[*lane].asked.is_empty()).expect("asked");
            let reply = with_payload(&bench.reply_to(lane, 0), &entries);
            let reply = if version == Version::V5 { wire::in_segments(&reply, false) } else { reply };
            length = reply.len();
            let give = |bench: &mut Bench, bytes: &[u8]| {
                bench.engine.lane_input(LaneId(lane as u32), bytes, bench.now).expect("an honest node");
                bench.turn();
            };
            give(&mut bench, &reply[..cut]);
            early += usize::from(!bench.engine.client_out(caller.id).is_empty());
            give(&mut bench, &reply[cut..]);
            let answers = bench.answers(&mut caller);
            assert_eq!(answers.len(), 1, "{version:?} cut at {cut}");
            assert_eq!(answers[0].values(), rows, "{version:?} cut at {cut}");
            assert_eq!(payload(&answers[0]), [(b"trace".to_vec(), b"x".to_vec())]);
            cut += 13;
        }
        assert!(version == Version::V5 || early > 10, "{early} replies were passed on while they arrived");
    }
}

#[test]
fn the_table_that_was_not_asked_about_for_longest_is_forgotten() {
    let mut bench = telling(&map(0..2), |settings| settings.clusters[0].tablets_max = 10);
    let mut caller = open(&mut bench, Version::V4);
    bench.prepare(&mut caller, OTHER);
    for key in 0..5 {
        learn(&mut bench, &mut caller, READ, key, &around(key, &[(1, 1)]));
        learn(&mut bench, &mut caller, OTHER, key, &around(key, &[(1, 1)]));
    }
    assert_eq!((counts(&bench).known, forgotten(&bench, TabletForgotten::Room)), (10, 0));
    goes(&mut bench, &mut caller, READ, 0); // so the other one is the older
    learn(&mut bench, &mut caller, READ, 5, &around(5, &[(1, 1)]));
    assert_eq!((counts(&bench).known, forgotten(&bench, TabletForgotten::Room)), (6, 5));
    // alone it begins anew
    for key in 6..11 {
        learn(&mut bench, &mut caller, READ, key, &around(key, &[(0, 2)]));
    }
    assert_eq!((counts(&bench).known, forgotten(&bench, TabletForgotten::Room)), (1, 15));
    assert_eq!(goes(&mut bench, &mut caller, READ, 10), (0, 2));
    // a reload with less room, and with none
    for (max, want) in [(1, 1), (0, 0)] {
        let mut settings = (**bench.engine.settings()).clone();
        settings.clusters[0].tablets_max = max;
        bench.engine.apply(Arc::new(settings), bench.now);
        bench.turn();
        learn(&mut bench, &mut caller, READ, 10, &around(10, &[(0, 2)]));
        assert_eq!(counts(&bench).known, want);
    }
}

#[test]
fn a_node_that_leaves_takes_its_tablets_along() {
    let mut bench = telling(&map(0..3), |_| {});
    let mut caller = open(&mut bench, Version::V4);
    learn(&mut bench, &mut caller, READ, 1, &around(1, &[(0, 1), (1, 1)]));
    learn(&mut bench, &mut caller, READ, 2, &around(2, &[(2, 1), (0, 1)]));
    // a node that the cluster told of before the placement did: its replica is passed over, then known or forgotten
    learn(&mut bench, &mut caller, READ, 3, &around(3, &[(4, 2), (0, 3)]));
    learn(&mut bench, &mut caller, READ, 4, &around(4, &[(9, 2)]));
    assert_eq!(goes(&mut bench, &mut caller, READ, 3), (0, 3));
    replace(&mut bench, &map([4, 0, 1]));
    tell(&mut bench, 4..5);
    assert_eq!((counts(&bench).known, forgotten(&bench, TabletForgotten::Topology)), (2, 2));
    let nodes: Vec<usize> = (0..20).map(|_| goes(&mut bench, &mut caller, READ, 1).0).collect();
    assert!(nodes.iter().all(|node| *node < 2), "{nodes:?}");
    let places: Vec<_> = (0..20).map(|_| goes(&mut bench, &mut caller, READ, 3)).collect();
    assert!(places.contains(&(4, 2)) && places.contains(&(0, 3)), "{places:?}");
    // the same picture again changes nothing
    replace(&mut bench, &map([4, 0, 1]));
    assert_eq!(counts(&bench).known, 2);
}

#[test]
fn a_change_of_the_schema_ends_what_it_is_about() {
    let mut bench = telling(&map(0..2), |_| {});
    let mut caller = open(&mut bench, Version::V4);
    bench.prepare(&mut caller, OTHER);
    let registered = bench.engine.lanes().find(|(_, info)| info.registers).expect("a lane").0.0 as usize;
    let everything = tablet(i64::MIN, i64::MAX, &[(1, 3)]);
    let known = |bench: &mut Bench, caller: &mut Caller, target: Target<'_>, keyspace: &str| {
        learn(bench, caller, READ, 1, &everything);
        learn(bench, caller, OTHER, 1, &everything);
        let change = SchemaChange { change: b"UPDATED", target, keyspace: keyspace.as_bytes() };
        let mut event = Vec::new();
        own::event(&mut event, Version::V4, &Event::Schema(change));
        bench.deliver(registered, &event);
        counts(bench).known
    };
    assert_eq!(known(&mut bench, &mut caller, Target::Keyspace, "else"), 2);
    assert_eq!(known(&mut bench, &mut caller, Target::Table(b"t"), "else"), 2);
    assert_eq!(known(&mut bench, &mut caller, Target::Type(b"t"), "shop"), 2);
    assert_eq!(known(&mut bench, &mut caller, Target::Table(b"t"), "shop"), 1);
    assert_eq!(goes(&mut bench, &mut caller, OTHER, 1), (1, 3));
    assert_eq!(known(&mut bench, &mut caller, Target::Keyspace, "shop"), 0);
    assert_eq!(forgotten(&bench, TabletForgotten::Schema), 3);
    // its own DDL, before any event
    learn(&mut bench, &mut caller, OTHER, 1, &everything);
    bench.ask_text(&mut caller, "CREATE TABLE shop.t (k int PRIMARY KEY)");
    assert_eq!(counts(&bench).known, 1);
    bench.ask_text(&mut caller, "CREATE TABLE shop.u (k int PRIMARY KEY)");
    assert_eq!(counts(&bench).known, 0);
    // a connection that is lost ends nothing
    learn(&mut bench, &mut caller, OTHER, 1, &everything);
    bench.lose(registered);
    bench.up(registered);
    assert_eq!(counts(&bench).known, 1);
}

#[test]
fn what_one_user_s_connection_told_is_known_to_all() {
    let mut bench = telling(&map(0..2), |settings| {
        settings.clusters[0].clients = weir_engine::settings::ClientSignIn::Own;
    });
    let mut first = bench.open_own("first", Version::V4);
    bench.prepare(&mut first, READ);
    tell(&mut bench, 0..2);
    let lane = sent(&mut bench, &first, READ, 1);
    answered(&mut bench, &mut first, lane, &value(&around(1, &[(1, 2)])));
    let mut second = bench.open_own("second", Version::V4);
    bench.prepare(&mut second, READ);
    for _ in 0..4 {
        let lane = sent(&mut bench, &second, READ, 1);
        let (_, info) = bench.engine.lanes().find(|(id, _)| id.0 as usize == lane).expect("a lane");
        assert_eq!((number(&info.address), info.of), (1, ClusterId(0)));
        assert_eq!(info.principal.as_ref().map(|principal| &**principal.user()), Some("second"));
        bench.one(&mut second);
    }
    assert_eq!(counts(&bench).known, 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Against a list in which each tablet simply ends those it overlaps.
    #[test]
    fn the_last_word_on_a_token_counts(
        said in prop::collection::vec((0..12_i32, any::<(u16, u16)>(), 0..3_usize, 0..4_u32), 1..40)
    ) {
        let mut bench = telling(&map(0..3), |_| {});
        let mut caller = open(&mut bench, Version::V4);
        let mut model: Vec<(i64, i64, (usize, u16))> = Vec::new();
        for (key, (before, behind), node, shard) in said {
            let at = token(&int(key)).value();
            let after = at.saturating_sub(1 + (i64::from(before) << 47));
            let last = at.saturating_add(i64::from(behind) << 47);
            learn(&mut bench, &mut caller, READ, key, &tablet(after, last, &[(node, shard)]));
            model.retain(|(other_after, other_last, _)| *other_last <= after || last <= *other_after);
            model.push((after, last, (node, shard as u16)));
        }
        prop_assert_eq!(counts(&bench).known, model.len());
        for key in 0..12 {
            let at = token(&int(key)).value();
            if let Some((.., want)) = model.iter().find(|(after, last, _)| *after < at && at <= *last) {
                prop_assert_eq!(goes(&mut bench, &mut caller, READ, key), *want);
            }
        }
    }

    /// Whatever a node puts there, its client gets its rows.
    #[test]
    fn any_bytes_of_a_node(
        told in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..120), any::<bool>()), 1..12),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bench = telling(&map(0..2), |settings| settings.clusters[0].tablets_max = 4);
        let mut caller = open(&mut bench, Version::V4);
        for (key, (noise, like)) in (0..).zip(told) {
            let mut entry = if like { value(&around(key, &[(0, 1), (1, 1)])) } else { noise };
            for (at, byte) in &edits {
                if !entry.is_empty() {
                    let at = at.index(entry.len());
                    entry[at] = *byte;
                }
            }
            let lane = sent(&mut bench, &caller, READ, key);
            let answer = answered(&mut bench, &mut caller, lane, &entry);
            prop_assert_eq!(answer.values(), [row_value("shop.t", key)]);
            prop_assert!(payload(&answer).is_empty());
            prop_assert!(counts(&bench).known <= 4);
        }
    }
}

#[test]
fn a_shard_that_the_node_does_not_have_is_any() {
    let mut bench = telling(&map(0..2), |_| {});
    let mut caller = open(&mut bench, Version::V4);
    for shard in [u32::from(SHARDS), 70_000, i32::MAX as u32] {
        learn(&mut bench, &mut caller, READ, 1, &around(1, &[(1, shard)]));
        assert_eq!(goes(&mut bench, &mut caller, READ, 1).0, 1);
    }
    // an answer nobody asked for is no place to learn from
    let answer = wire::flagged(Version::V4, 99, Opcode::Result, Flags::default(), &1i32.to_be_bytes());
    let answer = with_payload(&answer, &[(tablet::ENTRY, &value(&around(1, &[(1, 0)])))]);
    let lane = lanes_of(&bench, 0)[0];
    assert!(bench.engine.lane_input(LaneId(lane as u32), &answer, bench.now).is_err());
}
