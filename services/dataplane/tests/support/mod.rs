//! What the tests share: the servers of a test ([`servers`]), a keyspace of its own there, and a data plane, in this process
//! ([`World`]) or as the program it is ([`program`]); weir between them ([`weir`]), and load ([`load`]).
#![allow(dead_code, reason = "each test program is compiled with all of this and uses a part of it")]

pub mod load;
pub mod program;
pub mod servers;
pub mod weir;

use clap::Parser as _;
use servers::{Memcached, Servers};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tonic::transport::Channel;
use weir::Front;
use weir_dataplane::bsky::service_client::ServiceClient;
use weir_dataplane::migrate;
use weir_dataplane::options::{Cli, Command as Words, Database, Settings};
use weir_dataplane::serve::{self, Running};
use weir_dataplane::write::effects::Incoming;
use weir_dataplane::write::{Account, Writer};

/// How long something may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A program of this tree; others lie beside it.
pub const WEIR: &str = env!("CARGO_BIN_EXE_weir-dataplane");

/// Each of these tests on weir-devstore, which needs nothing installed, and on the real memcached and Cassandra.
#[allow(unused_macros, reason = "some tests are of one store only")]
macro_rules! on_each_store {
    ($($test:ident),+ $(,)?) => {
        mod on_devstore {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(super::support::servers::Servers::devstore()).await;
                }
            )+
        }

        mod on_real_servers {
            $(
                #[tokio::test]
                async fn $test() {
                    let servers = super::support::servers::Servers::real(stringify!($test));
                    if let Some(servers) = servers {
                        super::$test(servers).await;
                    }
                }
            )+
        }
    };
}

/// Says that a test, or a part of one, cannot run here.
pub fn skip(what: &str, why: &str) {
    eprintln!("SKIPPED: {what}: {why}");
}

/// A client of the data plane.
pub type Client = ServiceClient<Channel>;

/// A keyspace name that no other test and no other run uses.
pub fn keyspace(test: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("dp_{test}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The checked options of `serve` with these words.
pub fn settings(words: &[&str]) -> Settings {
    let fixed = ["weir-dataplane", "serve", "--metrics=127.0.0.1:0"];
    let anywhere = (!words.iter().any(|word| word.starts_with("--listen"))).then_some("--listen=127.0.0.1:0");
    match Cli::try_parse_from(fixed.iter().chain(&anywhere).chain(words)).expect("options").command {
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
    /// What is between it and storage.
    pub front: Front,
}

impl World {
    /// At these servers, through weir, in a new keyspace, with these options besides.
    pub async fn start(servers: &Servers, test: &str, words: &[&str]) -> World {
        let memcached = servers.memcached();
        let front = Front::of(servers, memcached.port);
        World::behind(front, memcached, words, test).await
    }

    /// The same behind this.
    pub async fn behind(front: Front, memcached: Memcached, words: &[&str], test: &str) -> World {
        let keyspace = format!("--keyspace={}", keyspace(test));
        let settings =
            settings(&[&[keyspace.as_str(), "--database-timeout-ms=20000"], &*front.with(words)].concat());
        migrate::migrate(&settings.database).await.expect("tables");
        let running = serve::start(&settings).await.expect("a data plane");
        let client = connect(&running).await;
        let writer = Writer::new(running.reads.clone());
        World { memcached, running, client, writer, database: settings.database, front }
    }

    /// Words for a program that is a data plane of the same world.
    pub fn words(&self) -> Vec<String> {
        let mut words = self.front.words.clone();
        words.push(format!("--keyspace={}", self.database.keyspace));
        words
    }

    /// The sum of a metric's series that hold all of the parts.
    pub fn metric(&self, name: &str, parts: &[&str]) -> f64 {
        sum(&self.running.metrics.page(), name, parts)
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

/// The sum of a metric's series on a page that hold all of the parts.
pub fn sum(page: &str, name: &str, parts: &[&str]) -> f64 {
    let lines =
        page.lines().filter(|line| line.starts_with(name) && parts.iter().all(|part| line.contains(part)));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
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
    client_of(&running.address.to_string()).await
}

/// A client of what listens there.
pub async fn client_of(address: &str) -> Client {
    let address = format!("http://{address}");
    let channel = Channel::from_shared(address).expect("an address").connect().await.expect("connected");
    ServiceClient::new(channel).max_decoding_message_size(64 << 20).max_encoding_message_size(64 << 20)
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port()
}
