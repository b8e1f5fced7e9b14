//! The data plane with one running weir on all its legs: in front of it, and between it and memcached and the database. One
//! call is told from its keys to its rows.

#[macro_use]
mod support;

use std::path::Path;
use std::process::Command;
use support::servers::Servers;
use support::weir::{Front, Weir, weir};
use support::{World, free_port};
use tokio::sync::Mutex;
use tonic::Request;
use weir_dataplane::bsky::*;

on_each_store!(a_call_is_told_from_its_keys_to_its_rows, a_mark_that_reaches_the_server_changes_nothing);

const ANN: &str = "did:plc:ann";
const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OTHER: &str = "00000000000000000000000000000001";
/// The default timestamps of reads begin here (docs/amplification.md).
const MARKS: i64 = 1 << 62;

/// One test at a time: they count the sockets of this process.
static ALONE: Mutex<()> = Mutex::const_new(());

/// `weir request` of the one whose control socket is in this folder.
struct Told<'a> {
    program: &'a Path,
    folder: &'a Path,
}

impl Told<'_> {
    fn request(&self, words: &[&str]) -> String {
        let admin = format!("unix:{}/admin.sock", self.folder.display());
        let told = Command::new(self.program).arg("request").args(words).env("WEIR_ADMIN", admin).output();
        let told = told.expect("weir request");
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        String::from_utf8_lossy(&told.stdout).into_owned()
    }

    /// The numbers at this path of what it tells of a request.
    fn numbers<const N: usize>(&self, id: &str, leg: &str, names: [&str; N]) -> [u64; N] {
        let told: serde_json::Value = serde_json::from_str(&self.request(&[id, "--json"])).expect("JSON");
        names.map(|name| told[leg][name].as_u64().unwrap_or_else(|| panic!("{leg}.{name} of {told}")))
    }
}

fn asking<A>(id: &str, message: A) -> Request<A> {
    let mut request = Request::new(message);
    let header = format!("00-{id}-00f067aa0ba902b7-01");
    request.metadata_mut().insert("traceparent", header.parse().expect("a header"));
    request.metadata_mut().insert("x-weir-caller", "importer".parse().expect("a header"));
    request
}

/// weir on all legs: from the RPC to the rows.
async fn a_call_is_told_from_its_keys_to_its_rows(servers: Servers) {
    let Some(program) = weir() else { return };
    let _alone = ALONE.lock().await;
    let (memcached, folder) = (servers.memcached(), tempfile::tempdir().expect("a folder"));
    let node = &servers.cql;
    let cache = format!("unix:{}/cache.sock", folder.path().display());
    let [edge, service, cql] = [(); 3].map(|()| free_port());
    let text = format!(
        "[pool.main]\nservers = [\"127.0.0.1:{}\"]\n[cluster.main]\ncontacts = [\"{node}\"]\n\
         [service.dataplane]\nservers = [\"127.0.0.1:{service}\"]\npreset = \"bsky\"\n\
         [listener.edge]\naddress = \"127.0.0.1:{edge}\"\nservice = \"dataplane\"\ntrusted_names = [\"importer\"]\n\
         [listener.cache]\naddress = \"{cache}\"\npool = \"main\"\ntrusted_request_ids = [\"cache\"]\n\
         [listener.cql]\naddress = \"127.0.0.1:{cql}\"\ncluster = \"main\"\ntrusted_request_ids = [\"cql\"]\n",
        memcached.port
    );
    let weir = Weir::start(&program, folder.path(), &text);
    let words = vec![
        format!("--memcached={cache}"),
        format!("--cql=127.0.0.1:{cql}"),
        format!("--listen=127.0.0.1:{service}"),
    ];
    let world = World::behind(Front { words, weir: None }, memcached, &[], "weir").await;
    let told = Told { program: &program, folder: folder.path() };
    let mut client = support::client_of(&format!("127.0.0.1:{edge}")).await;
    let begun = std::time::Instant::now();
    while let Err(status) = client.ping(PingRequest::default()).await {
        assert!(begun.elapsed() < support::PATIENCE, "the data plane through weir: {status}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let mut uris = Vec::new();
    for number in 0..150 {
        uris.push(world.post(ANN, &number.to_string(), "").await);
    }
    for number in 0..350 {
        uris.push(format!("at://{ANN}/app.bsky.feed.post/missing{number}"));
    }
    for (round, calls) in [("cold", 1), ("warm", 2)] {
        let wanted = GetPostRecordsRequest { uris: uris.clone(), ..Default::default() };
        let answer = client.get_post_records(asking(ID, wanted)).await.expect(round).into_inner();
        let found: Vec<bool> = answer.records.iter().map(|record| !record.cid.is_empty()).collect();
        assert!(found.iter().enumerate().all(|(place, there)| *there == (place < 150)), "{round}");
        world.eventually("the cache holds them all", |world| world.memcached.stat("curr_items") >= 500).await;
        // RPC in -> cache operations -> misses -> database operations -> rows, all of it the request's
        assert_eq!(told.numbers(ID, "rpc", ["calls", "keys"]), [calls, 500 * calls], "{round}");
        let cached = told.numbers(ID, "cache", ["operations", "hits", "misses", "failed"]);
        assert_eq!(
            cached,
            [500 * calls, 500 * (calls - 1), 500, 0],
            "{round}: the ids themselves count for nothing"
        );
        let database = ["operations", "backend_operations", "hits", "failed"];
        assert_eq!(told.numbers(ID, "database", database), [500, 500, 150, 0], "{round}");
    }
    let words = told.request(&[ID]);
    for part in [
        "importer asked bsky.Service/GetPostRecords for 1,000 keys in 2 calls",
        "1,000 operations (1.00 per key)",
        "misses      500",
        "500 operations (0.50 per key)",
        "150 rows",
    ] {
        assert!(words.contains(part), "no {part:?} in:\n{words}");
    }
    // a read that is no read-through, and another request
    let wanted = GetFollowersRequest { actor_did: ANN.into(), limit: 10, ..Default::default() };
    client.get_followers(asking(OTHER, wanted)).await.expect("followers");
    assert_eq!(told.numbers(OTHER, "database", ["requests", "operations"]), [1, 1]);
    assert_eq!(told.numbers(ID, "database", ["operations"]), [500]);
    let labels = ["caller=\"importer\"", "origin=\"rpc\""];
    assert_eq!(weir.metric("weir_amplification_database_operations_total", &labels), 501.0);
    assert_eq!(weir.metric("weir_correlation_lost_total", &[]), 0.0);
    writes_bear_no_mark(&world, &uris[..150]).await;
    assert!(weir.metric("weir_client_connections", &["cql"]) >= 1.0, "the driver's connections are weir's");
    assert_eq!(sockets_to(node), 0, "no connection of the data plane goes past weir");
    world.running.stop().await.expect("it ends");
    support::drop_keyspace(&world.database).await;
}

/// What was written can be overwritten and deleted: no write has the timestamp of a read.
async fn writes_bear_no_mark(world: &World, uris: &[String]) {
    {
        let session = support::session(&world.database).await;
        let select =
            format!("SELECT WRITETIME(record) FROM {}.record WHERE uri IN ?", world.database.keyspace);
        let select = session.prepare(select).await.expect("prepared");
        let rows = session.execute_unpaged(&select, (uris,)).await.expect("rows");
        let rows = rows.into_rows_result().expect("rows");
        let times: Vec<i64> =
            rows.rows::<(i64,)>().expect("typed").map(|row| row.expect("typed").0).collect();
        assert!(times.len() == uris.len() && times.iter().all(|time| *time < MARKS), "{times:?}");
    }
    assert!(world.writer.delete_record(&uris[0]).await.expect("deleted"));
    let wanted = GetPostRecordsRequest { uris: vec![uris[0].clone()], ..Default::default() };
    let answer = world.client.clone().get_post_records(asking(ID, wanted)).await.expect("posts").into_inner();
    assert!(answer.records[0].cid.is_empty(), "it is gone");
}

/// What servers do with the timestamp of a read when there is no weir: nothing.
async fn a_mark_that_reaches_the_server_changes_nothing(servers: Servers) {
    let _alone = ALONE.lock().await;
    let memcached = servers.memcached();
    let words = vec![format!("--cql={}", servers.cql), format!("--memcached=127.0.0.1:{}", memcached.port)];
    let world = World::behind(Front { words, weir: None }, memcached, &[], "marks").await;
    let uri = world.post(ANN, "1", "").await;
    for id in [ID, OTHER, "ffffffffffffffffffffffffffffffff"] {
        let wanted = GetPostRecordsRequest { uris: vec![uri.clone()], ..Default::default() };
        let answer =
            world.client.clone().get_post_records(asking(id, wanted)).await.expect("posts").into_inner();
        assert!(!answer.records[0].cid.is_empty(), "{id}");
        world.eventually("it is in the cache", |world| world.memcached.stat("curr_items") >= 1).await;
        world.memcached.line("flush_all");
    }
    world.end().await;
}

/// Established connections of this process to this address.
fn sockets_to(address: &str) -> usize {
    let address: std::net::SocketAddrV4 = address.parse().expect("an IPv4 address");
    let [a, b, c, d] = address.ip().octets();
    let remote = format!("{d:02X}{c:02X}{b:02X}{a:02X}:{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("the sockets of this namespace");
    let inodes: Vec<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.get(2) == Some(&remote.as_str()) && fields.get(3) == Some(&"01"))
        .map(|fields| format!("socket:[{}]", fields[9]))
        .collect();
    let files = std::fs::read_dir("/proc/self/fd").expect("its files").flatten();
    let links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    links.filter(|link| inodes.iter().any(|inode| link.to_string_lossy() == *inode)).count()
}
