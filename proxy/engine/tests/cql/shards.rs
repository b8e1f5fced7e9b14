//! Nodes that tell their shards: a connection for each, and requests on the one to their token's.

use crate::bench::Bench;
use crate::node::row_value;
use crate::placed::{Map, number, sharded};
use crate::routing::{READ, lanes_of, placed, replace};
use crate::wire::{self, With, int};
use weir_cql::Version;
use weir_cql::key::{shard_of, token};
use weir_engine::settings::ShardPorts;
use weir_engine::units::LaneId;

#[test]
fn each_shard_has_its_connections() {
    let ports = ShardPorts { first: 50_000, last: 50_999 };
    let nodes = || (0..2).map(|n| sharded(n, "a/1", 3)).collect();
    for tablet in [None, Some(2)] {
        let mut map = Map::of(nodes(), 1);
        map.tablet = tablet;
        let map = map.shared();
        let mut bench = placed(1, &map, |settings| {
            settings.clusters[0].shard_ports = Some(ports);
            settings.clusters[0].connections_per_node = 2;
        });
        let mut caller = bench.open(Version::V4);
        let id = bench.prepare(&mut caller, READ);
        bench.settle();
        let mut shards: Vec<(usize, u16)> = Vec::new();
        for (_, info) in bench.engine.lanes() {
            let dial = info.shard.expect("a shard");
            assert_eq!((dial.port, dial.shards.get(), dial.source_ports), (19_042, 3, ports));
            shards.push((number(&info.address), dial.shard));
        }
        shards.sort_unstable();
        let each: Vec<(usize, u16)> = (0..2).flat_map(|n| (0..3).flat_map(move |s| [(n, s); 2])).collect();
        assert_eq!(shards, each);
        // 333 of the ports lead to shard 2, and two connections of one worker to each node
        assert_eq!(bench.engine.cluster_counts()[0].shard_ports_free, Some(331));
        for key in 0..100 {
            bench.send(&caller, &wire::execute(Version::V4, 1, &id, &With::values(&[int(key)])));
            bench.turn();
            let lane = bench.wires.iter().position(|wire| !wire.asked.is_empty()).expect("a lane");
            let (_, info) = bench.engine.lanes().find(|(id, _)| id.0 as usize == lane).expect("a lane");
            let sharding = map.nodes[0].sharding.expect("shards");
            let want = tablet.map_or(shard_of(token(&int(key)), sharding), |shard| shard as u16);
            assert_eq!(info.shard.expect("a shard").shard, want);
            bench.one(&mut caller);
        }
        // without the lane of its shard a request takes another one
        (0..bench.wires.len()).filter(|lane| lane % 5 > 0).for_each(|lane| bench.fail(lane));
        for key in 0..20 {
            bench.send(&caller, &wire::execute(Version::V4, 1, &id, &With::values(&[int(key)])));
            assert_eq!(bench.one(&mut caller).values(), [row_value("shop.t", key)]);
        }
    }
}

#[test]
fn without_source_ports_the_node_says_which_shard_a_connection_got() {
    let map = Map::of(vec![sharded(0, "a/1", 4)], 1).shared();
    let mut bench = placed(1, &map, |_| {});
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    bench.settle();
    let lanes: Vec<usize> = lanes_of(&bench, 0);
    assert_eq!(lanes.len(), 4, "one for each shard");
    assert!(bench.engine.lanes().all(|(_, info)| info.shard.is_none() && info.tells_shard));
    assert_eq!(bench.engine.cluster_counts()[0].shard_ports_free, None);
    for (place, lane) in lanes.iter().enumerate() {
        bench.engine.lane_on_shard(LaneId(*lane as u32), 3 - place as u16);
    }
    for key in 0..50 {
        bench.send(&caller, &wire::execute(Version::V4, 1, &id, &With::values(&[int(key)])));
        bench.turn();
        let shard = shard_of(token(&int(key)), map.nodes[0].sharding.expect("shards"));
        assert_eq!(bench.wires[lanes[3 - usize::from(shard)]].asked.len(), 1);
        bench.one(&mut caller);
    }
    // a node with too many shards is connected as if it had none; one that changes them gets other connections
    for (shards, want) in [(257, 1), (256, 256), (2, 2)] {
        replace(&mut bench, &Map::of(vec![sharded(0, "a/1", shards)], 1).shared());
        assert_eq!(lanes_of(&bench, 0).len(), want);
        bench.send(&caller, &wire::execute(Version::V4, 1, &id, &With::values(&[int(1)])));
        assert_eq!(bench.one(&mut caller).values(), [row_value("shop.t", 1)]);
    }
    assert!(bench.wires.len() <= 258, "{} places for connections", bench.wires.len());
}

#[test]
fn the_ledger_tells_node_and_shard_of_a_request_while_the_node_is_there() {
    let map = Map::of((0..3).map(|n| sharded(n, "a/1", 4)).collect(), 1).shared();
    let mut bench = placed(1, &map, |_| {});
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    bench.settle();
    let key = 5;
    bench.send(&caller, &wire::execute(Version::V4, 1, &id, &With::values(&[int(key)])));
    assert_eq!(bench.one(&mut caller).values(), [row_value("shop.t", key)]);

    let owner = map.holders(token(&int(key)))[0];
    let sent: Vec<_> = bench.engine.ledger().expensive().filter_map(|kept| kept.entry.sent_to).collect();
    let read = sent.iter().find(|sent| sent.shard.is_some()).expect("the read, not the PREPARE");
    assert_eq!(read.shard, Some(shard_of(token(&int(key)), map.nodes[0].sharding.expect("shards"))));
    let node = |bench: &Bench| {
        let servers = bench.engine.snapshot(bench.now).servers;
        servers.into_iter().find(|server| server.serial == read.serial)
    };
    let found = node(&bench).expect("it is there");
    assert_eq!(*found.name, *map.nodes[owner].address.to_string());
    let place = found.place.expect("the cluster told");
    assert_eq!((&*place.data_center, &*place.rack, place.shards), ("a", "1", Some(4)));

    // others come and take its room, never its number
    for first in [10, 20] {
        let nodes = (first..first + 3).map(|n| sharded(n, "a/1", 4)).collect();
        replace(&mut bench, &Map::of(nodes, 1).shared());
        bench.wait(weir_engine::units::Span::millis(1));
        assert!(node(&bench).is_none());
    }
}
