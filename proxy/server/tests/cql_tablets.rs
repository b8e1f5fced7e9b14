//! Tablets from end to end: weir agrees to be told them, learns, and sends each key to its shard; its clients see nothing
//! of it. The node is a real Cassandra behind a script that plays ScyllaDB: there was no ScyllaDB.

#[path = "cql_tablets/relay.rs"]
mod relay;
mod support;
mod support_cql;

use relay::{Relay, shard_of};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use support::{Weir, wait_for};
use support_cql::{Cql, SOON, With, cassandra, counted, create_keyspace, file, int, keyspace};
use weir_cql::envelope::Flags;
use weir_cql::key::{Sharding, token};
use weir_cql::response::supported;
use weir_cql::{Response, Version};

const KEYS: i32 = 60;

fn main_series(weir: &Weir, name: &str, more: &[(&str, &str)]) -> f64 {
    weir.series(name, &[&[("cluster", "main")], more].concat()).unwrap_or(0.0)
}

#[test]
fn each_key_goes_to_the_shard_that_the_node_named() {
    let Some(node) = cassandra("tablets") else { return };
    let at: SocketAddr = node.parse().expect("an address");
    let mut direct = Cql::open(at, Version::V4);
    let host_id = direct.query("SELECT host_id FROM system.local WHERE key = 'local'").cell("host_id");
    let host_id: [u8; 16] = host_id.expect("a value").try_into().expect("a UUID");
    let keyspace = keyspace("tablets");
    direct.query(&create_keyspace(&keyspace)).expect_result();
    direct.query(&format!("CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v int)")).expect_result();
    for key in 0..KEYS {
        let insert = format!("INSERT INTO {keyspace}.t (k, v) VALUES ({key}, {})", key * 7);
        direct.query(&insert).expect_result();
    }

    let relay = Relay::start(at, host_id);
    let first = 20_000 + std::process::id() % 100 * 100;
    let cluster = format!("shard_ports = \"{first}-{}\"", first + 99);
    let text = format!("workers = 1\n{}", file(&relay.address.to_string(), &cluster, ""));
    let weir = Weir::with_config(&text, &[]);
    counted(&weir, "weir_cql_placement_nodes", &[("cluster", "main")], 1.0);
    let mut cql = Cql::connect((Ipv4Addr::LOCALHOST, weir.port), Version::V4);
    let options = cql.options();
    let Response::Supported(list) = options.read() else { panic!("{options:?}") };
    let names: Vec<_> =
        supported(&options.body, list).map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    assert!(!names.iter().any(|name| name.contains("SCYLLA") || name.contains("TABLETS")), "{names:?}");
    cql.startup(&[]);
    let select = cql.prepare(&format!("SELECT v FROM {keyspace}.t WHERE k = ?")).prepared();
    // one connection to each shard
    let mut agreed = 0;
    wait_for("weir has agreed to be told on both of its connections", SOON, || {
        agreed += relay.take().agreed;
        (agreed >= 2).then_some(())
    });

    let mut read_all = || {
        for key in 0..KEYS {
            let answer = cql.execute(&select, &With::values(&[int(key)]));
            assert!(!answer.header.flags.has(Flags::CUSTOM_PAYLOAD), "key {key}");
            assert_eq!(answer.rows(), [[Some(int(key * 7))]]);
        }
        relay.take()
    };
    // the shard of the token is asked first, once the connections to both stand
    let mut told = 0;
    let seen = wait_for("both shards are asked, and nothing more is told", SOON, || {
        let seen = read_all();
        told += seen.told;
        let both = [0, 1].iter().all(|shard| seen.executed.iter().any(|(_, asked)| asked == shard));
        (both && seen.told == 0).then_some(seen)
    });
    assert_eq!(seen.executed.len(), KEYS as usize);
    for (key, shard) in seen.executed {
        assert_eq!(shard, shard_of(key), "key {key}");
    }
    let sharding = Sharding { shards: NonZeroU16::new(2).expect("two"), ignore_msb: 12 };
    let elsewhere = |key: &i32| weir_cql::key::shard_of(token(&int(*key)), sharding) != shard_of(*key);
    let least = (0..KEYS).filter(elsewhere).count();
    assert!(least > 10 && told >= least, "{told} were told, {least} are not where their token says");
    let known = counted(&weir, "weir_cql_tablets", &[("cluster", "main")], least as f64);
    assert!(known <= f64::from(KEYS), "{known}");
    let learned = main_series(&weir, "weir_cql_tablets_told_total", &[("result", "learned")]);
    assert!(learned >= known, "{learned} were learned, {known} are known");
    for result in ["not_placed", "unreadable"] {
        assert_eq!(main_series(&weir, "weir_cql_tablets_told_total", &[("result", result)]), 0.0);
    }

    direct.query(&format!("ALTER TABLE {keyspace}.t ADD w int")).expect_result();
    let schema = [("cluster", "main"), ("cause", "schema")];
    let forgotten = counted(&weir, "weir_cql_tablets_forgotten_total", &schema, 1.0);
    assert_eq!((forgotten, main_series(&weir, "weir_cql_tablets", &[])), (known, 0.0));
}
