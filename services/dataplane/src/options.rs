//! The command line, and what is made of it: every problem is told at once.

use crate::world::draw::Shape;
use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  weir-dataplane migrate --cql 127.0.0.1:9142
  weir-dataplane seed --cql 127.0.0.1:9142 --users 1000 --seed 7
  weir-dataplane world --users 1000 --seed 7 > world.tsv
  weir-dataplane serve --memcached 127.0.0.1:11311 --cql 127.0.0.1:9142 --metrics 127.0.0.1:9160
  weir-dataplane serve --memcached unix:/run/weir/memcached.sock --cql 127.0.0.1:9142 --migrate

The addresses are weir's (or a server's own). `serve` prints a line that ends in `ready` when it can serve; SIGTERM and
SIGINT end it after the calls under way.";

/// bsky.Service on memcached and CQL
#[derive(Clone, Debug, Parser)]
#[command(name = "weir-dataplane", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Answer calls.
    Serve(Box<ServeArgs>),
    /// Make the tables, or what they lack.
    Migrate(MigrateArgs),
    /// Fill the database with a synthetic world; the same seed makes the same world
    Seed(SeedArgs),
    /// List who and what is in such a world, for those who ask for it
    World(WorldArgs),
}

/// Where the database is.
#[derive(Args, Clone, Debug)]
pub struct DatabaseArgs {
    /// host:port of the database, weir's listener in front of it; may repeat
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9042")]
    pub cql: Vec<String>,
    /// Keyspace of all tables
    #[arg(long, default_value = "weir_bsky")]
    pub keyspace: String,
    /// Consistency of reads and writes: one, local_one, local_quorum, quorum
    #[arg(long, default_value = "local_quorum")]
    pub consistency: String,
    /// Copies of each row in the keyspace, when it is made (SimpleStrategy)
    #[arg(long, default_value_t = 1)]
    pub replication: u32,
    /// Milliseconds for one statement
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    pub database_timeout_ms: u64,
    /// Statements under way at once, of all calls together
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub database_queries_max: usize,
    /// Keys of one IN list (Scylla refuses more than 100 unless told otherwise)
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub database_keys_per_query: usize,
}

/// `weir-dataplane migrate`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Example:\n  weir-dataplane migrate --cql 127.0.0.1:9142 --keyspace weir_bsky --replication 3"
)]
pub struct MigrateArgs {
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// `weir-dataplane seed`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  weir-dataplane seed --cql 127.0.0.1:9142 --users 1000
  weir-dataplane seed --users 50 --posts-per-user 20 --seed 42     a small world, always the same one

A run that was ended goes on where it was when it is started again with the same numbers. Nothing is written to the
cache: after seeding into a keyspace that a data plane reads, restart memcached or wait for the TTL.")]
pub struct SeedArgs {
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// What the world is like.
    #[command(flatten)]
    pub shape: ShapeArgs,
}

/// The numbers of a world.
#[derive(Args, Clone, Debug)]
pub struct ShapeArgs {
    /// What the world is drawn from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Accounts
    #[arg(long, default_value_t = 200)]
    pub users: u64,
    /// Threads that an account begins, in the mean
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub posts_per_user: u64,
    /// Accounts that an account follows, in the mean
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub follows_per_user: u64,
    /// Likes of a post, in the mean
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub likes_per_post: u64,
}

/// `weir-dataplane world`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Example:
  weir-dataplane world --users 1000 --seed 7 > world.tsv     what `seed` with the same numbers makes

A line for each account (actor, DID, handle), then one for each post (post, URI, CID), with tabs between.")]
pub struct WorldArgs {
    /// What the world is like.
    #[command(flatten)]
    pub shape: ShapeArgs,
}

/// `weir-dataplane serve`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Example:
  weir-dataplane serve --memcached 127.0.0.1:11311 --cql 127.0.0.1:9142 --listen 127.0.0.1:3000")]
pub struct ServeArgs {
    /// host:port for gRPC (h2c); port 0: any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    pub listen: String,
    /// host:port for GET /metrics; none: no metrics listener
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<String>,
    /// host:port or unix:/path of memcached, weir's listener in front of it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:11211")]
    pub memcached: String,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Make the tables first
    #[arg(long)]
    pub migrate: bool,
    /// Threads
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Threads for calls of more than --bulk-keys keys, which give way to the others (niceness 5); 0: none of their own
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub bulk_threads: usize,
    /// See --bulk-threads
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub bulk_keys: usize,
    /// Connections of callers at once; more are closed
    #[arg(long, value_name = "N", default_value_t = 1_024)]
    pub connections_max: usize,
    /// Calls under way at once; more are answered RESOURCE_EXHAUSTED
    #[arg(long, value_name = "N", default_value_t = 1_024)]
    pub requests_max: usize,
    /// Keys that one call may ask for; more are answered RESOURCE_EXHAUSTED
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    pub keys_per_request_max: usize,
    /// Keys of all calls under way; a call that would go beyond is answered RESOURCE_EXHAUSTED
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    pub keys_max: usize,
    /// Bytes of one request's or one reply's message
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub message_bytes_max: usize,
    /// Milliseconds for a call without a deadline, and the most that a client's own may be
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    pub deadline_ms: u64,
    /// Statements under way at once for one call
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub database_queries_per_request: usize,
    /// Connections to memcached; calls of more than --bulk-keys keys have half as many of their own
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub cache_connections: usize,
    /// Cache commands that may wait for a connection; when more would, a read goes on without the cache
    #[arg(long, value_name = "N", default_value_t = 1_024)]
    pub cache_queue_max: usize,
    /// Keys of one get
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub cache_keys_per_get: usize,
    /// Milliseconds for one cache command; a connection that takes longer is closed
    #[arg(long, value_name = "MS", default_value_t = 500)]
    pub cache_timeout_ms: u64,
    /// Fills (of up to --database-keys-per-query items) under way at once; when there are more, an item is not kept
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub cache_fills_max: usize,
    /// Seconds that the cache keeps a record, an account or an edge
    #[arg(long, value_name = "S", default_value_t = 300)]
    pub ttl: u32,
    /// Seconds that it keeps that something is not there
    #[arg(long, value_name = "S", default_value_t = 30)]
    pub ttl_missing: u32,
    /// Seconds that it keeps counts and lists
    #[arg(long, value_name = "S", default_value_t = 30)]
    pub ttl_lists: u32,
    /// Items of one page (feeds, followers, notifications)
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub page_max: usize,
    /// Accounts whose posts make a timeline, and whose follows are compared: of an account that follows more, the rest is left out
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    pub follows_max: usize,
    /// Addresses of one thread
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    pub thread_uris_max: usize,
    /// Copy of the April 2026 bug in GetPostRecords: a task, a connection with its own source bind and a log line per key,
    /// and no bound. It ends processes and hosts; for the story and its tests, with --i-know
    #[arg(long)]
    pub unbounded: bool,
    /// See --unbounded
    #[arg(long)]
    pub i_know: bool,
    /// Source address of the connections of --unbounded
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub unbounded_source: String,
}

/// A checked database.
#[derive(Clone, Debug)]
pub struct Database {
    /// `host:port` of each contact.
    pub contacts: Vec<String>,
    /// Letters, digits and underscores.
    pub keyspace: String,
    /// Of reads and writes.
    pub consistency: scylla::statement::Consistency,
    /// Copies of a row, when the keyspace is made.
    pub replication: u32,
    /// Of one statement.
    pub timeout: Duration,
    /// Statements under way at once.
    pub queries_max: usize,
    /// Keys of one IN list.
    pub keys_per_query: usize,
}

/// The checked options of `serve`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For calls.
    pub listen: SocketAddr,
    /// For metrics.
    pub metrics: Option<SocketAddr>,
    /// As the client crate takes it: `tcp://host:port` or `unix:///path`.
    pub memcached: String,
    /// The database.
    pub database: Database,
    /// The bounds and TTLs, as given.
    pub bounds: ServeArgs,
    /// Source address of unbounded connections, where that mode is on.
    pub unbounded: Option<(IpAddr, String)>,
}

impl DatabaseArgs {
    fn collect(&self, problems: &mut Vec<String>) -> Database {
        for contact in &self.cql {
            if !is_host_and_port(contact) {
                problems.push(format!("--cql {contact}: not host:port"));
            }
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let starts = self.keyspace.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
        if !starts || self.keyspace.len() > 48 || !self.keyspace.bytes().all(plain) {
            let name = &self.keyspace;
            problems.push(format!("--keyspace {name}: a letter, then letters, digits and _, 48 at the most"));
        }
        use scylla::statement::Consistency;
        let consistency = match self.consistency.as_str() {
            "one" => Consistency::One,
            "local_one" => Consistency::LocalOne,
            "quorum" => Consistency::Quorum,
            "local_quorum" => Consistency::LocalQuorum,
            other => {
                problems.push(format!("--consistency {other}: one, local_one, local_quorum or quorum"));
                Consistency::LocalQuorum
            }
        };
        within(problems, "--replication", u64::from(self.replication), 1, 16);
        within(problems, "--database-timeout-ms", self.database_timeout_ms, 1, 600_000);
        within(problems, "--database-queries-max", self.database_queries_max as u64, 1, 65_536);
        within(problems, "--database-keys-per-query", self.database_keys_per_query as u64, 1, 10_000);
        Database {
            contacts: self.cql.clone(),
            keyspace: self.keyspace.clone(),
            consistency,
            replication: self.replication,
            timeout: Duration::from_millis(self.database_timeout_ms),
            queries_max: self.database_queries_max.clamp(1, 65_536),
            keys_per_query: self.database_keys_per_query.clamp(1, 10_000),
        }
    }
}

impl MigrateArgs {
    /// The database, or every problem of the options.
    pub fn check(&self) -> Result<Database> {
        let mut problems = Vec::new();
        let database = self.database.collect(&mut problems);
        told(problems)?;
        Ok(database)
    }
}

impl SeedArgs {
    /// The database and the world, or every problem of the options.
    pub fn check(&self) -> Result<(Database, Shape)> {
        let mut problems = Vec::new();
        let database = self.database.collect(&mut problems);
        let shape = self.shape.collect(&mut problems);
        told(problems)?;
        Ok((database, shape))
    }
}

impl WorldArgs {
    /// The world, or every problem of the options.
    pub fn check(&self) -> Result<Shape> {
        let mut problems = Vec::new();
        let shape = self.shape.collect(&mut problems);
        told(problems)?;
        Ok(shape)
    }
}

impl ShapeArgs {
    fn collect(&self, problems: &mut Vec<String>) -> Shape {
        within(problems, "--users", self.users, 2, 100_000_000);
        within(problems, "--posts-per-user", self.posts_per_user, 0, 10_000);
        within(problems, "--follows-per-user", self.follows_per_user, 0, 10_000);
        within(problems, "--likes-per-post", self.likes_per_post, 0, 10_000);
        Shape {
            seed: self.seed,
            users: self.users,
            posts: self.posts_per_user,
            follows: self.follows_per_user,
            likes: self.likes_per_post,
        }
    }
}

impl ServeArgs {
    /// The checked settings, or every problem of the options.
    pub fn check(&self) -> Result<Settings> {
        let mut problems = Vec::new();
        let database = self.database.collect(&mut problems);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut address = |name: &str, text: &str| {
            text.parse().unwrap_or_else(|_| {
                problems.push(format!("{name} {text}: not an address and a port"));
                nowhere
            })
        };
        let listen = address("--listen", &self.listen);
        let metrics = self.metrics.as_ref().map(|text| address("--metrics", text));
        let memcached = match self.memcached.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => format!("unix://{path}"),
            None if is_host_and_port(&self.memcached) => format!("tcp://{}", self.memcached),
            _ => {
                problems.push(format!("--memcached {}: not host:port or unix:/path", self.memcached));
                String::new()
            }
        };
        within(&mut problems, "--threads", self.threads as u64, 1, 64);
        within(&mut problems, "--bulk-threads", self.bulk_threads as u64, 0, 64);
        within(&mut problems, "--bulk-keys", self.bulk_keys as u64, 1, 10_000_000);
        within(&mut problems, "--connections-max", self.connections_max as u64, 1, 1_000_000);
        within(&mut problems, "--requests-max", self.requests_max as u64, 1, 1_000_000);
        within(&mut problems, "--keys-per-request-max", self.keys_per_request_max as u64, 1, 10_000_000);
        within(&mut problems, "--keys-max", self.keys_max as u64, 1, 100_000_000);
        within(&mut problems, "--message-bytes-max", self.message_bytes_max as u64, 1 << 10, 1 << 30);
        within(&mut problems, "--deadline-ms", self.deadline_ms, 1, 3_600_000);
        within(
            &mut problems,
            "--database-queries-per-request",
            self.database_queries_per_request as u64,
            1,
            4_096,
        );
        within(&mut problems, "--cache-connections", self.cache_connections as u64, 1, 1_024);
        within(&mut problems, "--cache-queue-max", self.cache_queue_max as u64, 1, 1_000_000);
        within(&mut problems, "--cache-keys-per-get", self.cache_keys_per_get as u64, 1, 1_000);
        within(&mut problems, "--cache-timeout-ms", self.cache_timeout_ms, 1, 60_000);
        within(&mut problems, "--cache-fills-max", self.cache_fills_max as u64, 1, 65_536);
        // memcached reads more than 30 days as a point in time
        for (name, seconds) in
            [("--ttl", self.ttl), ("--ttl-missing", self.ttl_missing), ("--ttl-lists", self.ttl_lists)]
        {
            within(&mut problems, name, u64::from(seconds), 1, 30 * 24 * 3_600);
        }
        within(&mut problems, "--page-max", self.page_max as u64, 1, 10_000);
        within(&mut problems, "--follows-max", self.follows_max as u64, 1, 100_000);
        within(&mut problems, "--thread-uris-max", self.thread_uris_max as u64, 1, 100_000);
        if self.keys_max < self.keys_per_request_max {
            problems
                .push("--keys-max is below --keys-per-request-max: no such call would ever be served".into());
        }
        let source: Option<IpAddr> = self.unbounded_source.parse().ok();
        if source.is_none() {
            problems.push(format!("--unbounded-source {}: not an address", self.unbounded_source));
        }
        if self.unbounded && !self.i_know {
            problems.push(
                "--unbounded has no limit on purpose: one large call takes every local port of this host, \
                 then its memory. Say --i-know as well, in a network namespace of its own"
                    .into(),
            );
        }
        if self.i_know && !self.unbounded {
            problems.push("--i-know goes with --unbounded".into());
        }
        if self.unbounded && self.memcached.starts_with("unix:") {
            problems.push("--unbounded takes local ports: it needs --memcached host:port".into());
        }
        told(problems)?;
        let unbounded = source.filter(|_| self.unbounded).map(|source| (source, self.memcached.clone()));
        Ok(Settings { listen, metrics, memcached, database, bounds: self.clone(), unbounded })
    }
}

/// Notes a number that is out of bounds.
pub(crate) fn within(problems: &mut Vec<String>, name: &str, value: u64, least: u64, most: u64) {
    if value < least || value > most {
        problems.push(format!("{name} {value}: from {least} to {most}"));
    }
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

/// All problems in one error.
pub(crate) fn told(problems: Vec<String>) -> Result<()> {
    match problems.as_slice() {
        [] => Ok(()),
        [one] => bail!("{one}"),
        many => bail!("{} problems:\n  {}", many.len(), many.join("\n  ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(words: &[&str]) -> Result<Settings> {
        let words = ["weir-dataplane", "serve"].iter().chain(words);
        match Cli::try_parse_from(words).expect("parsed").command {
            Command::Serve(arguments) => arguments.check(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let told = serve(&[
            "--listen=nowhere",
            "--memcached=unix:relative",
            "--cql=:1",
            "--keyspace=a-b",
            "--threads=0",
            "--ttl=0",
            "--unbounded",
        ])
        .expect_err("refused")
        .to_string();
        // a relative socket is wrong by itself, and --unbounded has no use for a socket
        assert!(told.starts_with("8 problems:"), "{told}");
        for name in ["--listen", "--memcached", "--cql", "--keyspace", "--threads", "--ttl", "--i-know"] {
            assert!(told.contains(name), "{name} in {told}");
        }
    }

    #[test]
    fn the_unbounded_mode_asks_twice() {
        assert!(serve(&["--unbounded"]).is_err());
        assert!(serve(&["--i-know"]).is_err());
        assert!(serve(&["--unbounded", "--i-know"]).expect("accepted").unbounded.is_some());
        assert!(serve(&[]).expect("accepted").unbounded.is_none());
    }

    #[test]
    fn addresses_become_what_the_client_takes() {
        assert_eq!(
            serve(&["--memcached=unix:/run/m.sock"]).expect("accepted").memcached,
            "unix:///run/m.sock"
        );
        assert_eq!(serve(&["--memcached=cache:11211"]).expect("accepted").memcached, "tcp://cache:11211");
    }
}
