//! The data plane behind its own address for both storages: a running weir in front of memcached and Cassandra. What it
//! asks arrives over weir's few connections, in multigets with the request's id.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use support::{Memcached, World, free_port};
use tonic::Request;
use weir_dataplane::bsky::*;

const ANN: &str = "did:plc:ann";
const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The binary of this test run; `None`, said aloud, where it was not built.
fn weir() -> Option<PathBuf> {
    let folder = std::env::var_os("WEIR_TEST_BINARIES").map(PathBuf::from);
    let beside = std::env::current_exe().ok().and_then(|test| Some(test.parent()?.parent()?.to_owned()));
    let found = folder.or(beside).map(|folder| folder.join("weir")).filter(|program| program.exists());
    if found.is_none() {
        eprintln!(
            "SKIPPED: through weir: no weir in WEIR_TEST_BINARIES nor beside this test (cargo build -p weir)"
        );
    }
    found
}

struct Weir {
    child: Child,
    metrics: u16,
}

impl Drop for Weir {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Weir {
    /// With a file.
    fn start(program: &PathBuf, folder: &std::path::Path, text: &str) -> Weir {
        let metrics = free_port();
        let file = folder.join("weir.toml");
        std::fs::write(&file, text).expect("written");
        let mut child = Command::new(program)
            .args(["run", "--config"])
            .arg(&file)
            .args(["--metrics", &format!("127.0.0.1:{metrics}")])
            .args(["--admin", &format!("unix:{}/admin.sock", folder.display())])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("weir runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        assert!(lines.any(|line| line.expect("a line").trim_end().ends_with("ready")), "weir is ready");
        std::thread::spawn(move || lines.for_each(drop));
        Weir { child, metrics }
    }

    /// The sum of a metric's series that hold all of the parts.
    fn metric(&self, name: &str, parts: &[&str]) -> f64 {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.metrics)).expect("connected");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n").expect("sent");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("a page");
        let lines = page
            .lines()
            .filter(|line| line.starts_with(name) && parts.iter().all(|part| line.contains(part)));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

#[tokio::test]
async fn storage_is_read_through_weir_and_the_request_keeps_its_id() {
    let Some(node) = support::cassandra("the data plane through weir") else { return };
    let Some(program) = weir() else { return };
    let (memcached, folder) = (Memcached::start(), tempfile::tempdir().expect("a folder"));
    let (cache, cql) = (format!("unix:{}/cache.sock", folder.path().display()), free_port());
    let text = format!(
        "[pool.main]\nservers = [\"127.0.0.1:{}\"]\n[cluster.main]\ncontacts = [\"{node}\"]\n\
         [listener.cache]\naddress = \"{cache}\"\npool = \"main\"\ntrusted_request_ids = [\"cache\"]\n\
         [listener.cql]\naddress = \"127.0.0.1:{cql}\"\ncluster = \"main\"\n",
        memcached.port
    );
    let weir = Weir::start(&program, folder.path(), &text);
    let words = [format!("--memcached={cache}"), format!("--cql=127.0.0.1:{cql}")];
    let world = World::between(memcached, &words.each_ref().map(String::as_str), "weir").await;
    let mut uris = Vec::new();
    for number in 0..150 {
        uris.push(world.post(ANN, &number.to_string(), "").await);
    }
    for number in 0..350 {
        uris.push(format!("at://{ANN}/app.bsky.feed.post/missing{number}"));
    }
    for round in ["cold", "warm"] {
        let wanted = GetPostRecordsRequest { uris: uris.clone(), ..Default::default() };
        let mut request = Request::new(wanted);
        let header = format!("00-{ID}-00f067aa0ba902b7-01");
        request.metadata_mut().insert("traceparent", header.parse().expect("a header"));
        let answer = world.client.clone().get_post_records(request).await.expect(round).into_inner();
        let found: Vec<bool> = answer.records.iter().map(|record| !record.cid.is_empty()).collect();
        assert!(found.iter().enumerate().all(|(place, there)| *there == (place < 150)), "{round}");
        world.eventually("the cache holds them all", |world| world.memcached.stat("curr_items") >= 500).await;
    }
    let hits = world.metric("weir_dataplane_reads_total", &["record", "\"hit\""]);
    let missing = world.metric("weir_dataplane_reads_total", &["record", "\"missing\""]);
    assert!(hits >= 150.0 && missing >= 350.0, "warm: {hits} hits, {missing} known to be missing");
    let admin = format!("unix:{}/admin.sock", folder.path().display());
    let told =
        Command::new(&program).args(["request", ID]).env("WEIR_ADMIN", admin).output().expect("weir request");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    // 500 keys twice; the ids themselves count for nothing.
    assert!(told.contains("1,000 operations"), "{told}");
    assert!(weir.metric("weir_client_connections", &["cql"]) >= 1.0, "the driver's connections are weir's");
    assert_eq!(support_sockets(&node), 0, "no connection of the data plane goes past weir");
    world.running.stop().await.expect("it ends");
    support::drop_keyspace(&world.database).await;
}

/// Established connections of this process to this address.
fn support_sockets(address: &str) -> usize {
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
