//! What the tests share: a real memcached as a child, a keyspace of its own at the Cassandra of this test run, and a data
//! plane in this process between them.
#![allow(dead_code, reason = "each test program is compiled with all of this and uses a part of it")]

use clap::Parser as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tonic::transport::Channel;
use weir_dataplane::bsky::service_client::ServiceClient;
use weir_dataplane::migrate;
use weir_dataplane::options::{Cli, Command as Words, Database, Settings};
use weir_dataplane::serve::{self, Running};
use weir_dataplane::write::effects::Incoming;
use weir_dataplane::write::{Account, Writer};

/// How long something may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A client of the data plane.
pub type Client = ServiceClient<Channel>;

/// The real memcached; ended with this.
pub struct Memcached {
    /// Where it listens.
    pub port: u16,
    child: Option<Child>,
}

impl Memcached {
    pub fn start() -> Memcached {
        let port = free_port();
        let mut server = Memcached { port, child: None };
        server.run();
        server
    }

    /// Starts it (again, and empty) at its port.
    pub fn run(&mut self) {
        let port = self.port.to_string();
        let child = Command::new("memcached")
            .args([
                "-l",
                "127.0.0.1",
                "-p",
                &port,
                "-U",
                "0",
                "-t",
                "2",
                "-m",
                "128",
                "-c",
                "4096",
                "-u",
                "root",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("memcached is installed");
        self.child = Some(child);
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "memcached does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("ended");
        }
    }

    /// One command whose answer is one line.
    pub fn line(&self, command: &str) -> String {
        use std::io::{BufRead as _, BufReader, Write as _};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        stream.write_all(format!("{command}\r\n").as_bytes()).expect("sent");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// A number of `stats`.
    pub fn stat(&self, name: &str) -> u64 {
        use std::io::{BufRead as _, BufReader, Write as _};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        stream.write_all(b"stats\r\n").expect("sent");
        for line in BufReader::new(stream).lines() {
            let line = line.expect("a line");
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["STAT", found, value] if *found == name => return value.parse().expect("a number"),
                ["END"] => break,
                _ => {}
            }
        }
        panic!("no {name} in stats")
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where the node of this test run listens; `None`, said aloud, where there is none.
pub fn cassandra(what: &str) -> Option<String> {
    let address = std::env::var("WEIR_TEST_CASSANDRA").ok();
    if address.is_none() {
        eprintln!(
            "SKIPPED: {what}: WEIR_TEST_CASSANDRA is not set; `cargo xtask test` sets it, by hand: the address that \
             `cargo xtask cassandra start` prints"
        );
    }
    address
}

/// A keyspace name that no other test and no other run uses.
pub fn keyspace(test: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("dp_{test}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The checked options of `serve` with these words.
pub fn settings(words: &[&str]) -> Settings {
    let fixed = ["weir-dataplane", "serve", "--listen=127.0.0.1:0", "--metrics=127.0.0.1:0"];
    match Cli::try_parse_from(fixed.iter().chain(words)).expect("options").command {
        Words::Serve(arguments) => arguments.check().expect("settings"),
        other => panic!("{other:?}"),
    }
}

/// A data plane with storages of its own.
pub struct World {
    pub memcached: Memcached,
    pub running: Running,
    pub client: Client,
    pub writer: Writer,
    pub database: Database,
}

impl World {
    /// At the node, in a new keyspace, with these options besides.
    pub async fn start(node: &str, test: &str, words: &[&str]) -> World {
        let memcached = Memcached::start();
        let (cql, cache) = (format!("--cql={node}"), format!("--memcached=127.0.0.1:{}", memcached.port));
        World::between(memcached, &[&[cql.as_str(), cache.as_str()], words].concat(), test).await
    }

    /// The same with the addresses of both storages among the options.
    pub async fn between(memcached: Memcached, words: &[&str], test: &str) -> World {
        let keyspace = format!("--keyspace={}", keyspace(test));
        let settings = settings(&[&[keyspace.as_str(), "--database-timeout-ms=20000"], words].concat());
        migrate::migrate(&settings.database).await.expect("tables");
        let running = serve::start(&settings).await.expect("a data plane");
        let client = connect(&running).await;
        let writer = Writer::new(running.reads.clone());
        World { memcached, running, client, writer, database: settings.database }
    }

    /// The sum of a metric's series that hold all of the parts.
    pub fn metric(&self, name: &str, parts: &[&str]) -> f64 {
        let page = self.running.metrics.page();
        let lines = page
            .lines()
            .filter(|line| line.starts_with(name) && parts.iter().all(|part| line.contains(part)));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until this is so.
    pub async fn eventually(&self, what: &str, mut so: impl FnMut(&World) -> bool) {
        let begun = Instant::now();
        while !so(self) {
            assert!(begun.elapsed() < PATIENCE, "{what}:\n{}", self.running.metrics.page());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stores a post and returns its address.
    pub async fn post(&self, author: &str, key: &str, more: &str) -> String {
        let uri = format!("at://{author}/app.bsky.feed.post/{key}");
        let json = format!(
            r#"{{"$type":"app.bsky.feed.post","text":"{uri}","createdAt":"2026-04-03T22:16:00Z"{more}}}"#
        );
        self.put(&uri, &json, 1_775_254_560_000).await;
        uri
    }

    /// Stores a record.
    pub async fn put(&self, uri: &str, json: &str, indexed_at: i64) -> bool {
        let record =
            Incoming { uri: uri.into(), cid: format!("cid-of-{uri}"), json: json.into(), indexed_at };
        self.writer.put_record(&record).await.expect("stored")
    }

    /// Stores a follow, a like ...: a record whose subject is this.
    pub async fn deed(&self, actor: &str, collection: &str, key: &str, subject: &str, at: i64) -> String {
        let uri = format!("at://{actor}/{collection}/{key}");
        let subject = match collection {
            "app.bsky.graph.follow" | "app.bsky.graph.block" => format!(r#""{subject}""#),
            _ => format!(r#"{{"uri":"{subject}","cid":"cid-of-{subject}"}}"#),
        };
        self.put(&uri, &format!(r#"{{"subject":{subject}}}"#), at).await;
        uri
    }

    /// Stores an account.
    pub async fn account(&self, did: &str, handle: &str) {
        let account = Account {
            did: did.into(),
            handle: handle.into(),
            keys: br#"{"atproto":{"Type":"Multikey"}}"#.to_vec(),
            rev: format!("rev-of-{did}"),
        };
        self.writer.put_account(&account).await.expect("stored");
    }

    /// Takes its keyspace away.
    pub async fn end(self) {
        self.running.stop().await.expect("it ends");
        drop_keyspace(&self.database).await;
    }
}

/// Takes a keyspace away.
pub async fn drop_keyspace(database: &Database) {
    let session = session(database).await;
    let drop = format!("DROP KEYSPACE {}", database.keyspace);
    session.query_unpaged(drop, ()).await.expect("dropped");
}

/// A session past the data plane.
pub async fn session(database: &Database) -> scylla::client::session::Session {
    let builder = scylla::client::session_builder::SessionBuilder::new().known_nodes(&database.contacts);
    builder.build().await.expect("a session")
}

/// A client of its own connection.
pub async fn connect(running: &Running) -> Client {
    let address = format!("http://{}", running.address);
    let channel = Channel::from_shared(address).expect("an address").connect().await.expect("connected");
    ServiceClient::new(channel).max_decoding_message_size(64 << 20).max_encoding_message_size(64 << 20)
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port()
}
