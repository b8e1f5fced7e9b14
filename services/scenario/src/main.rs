//! `weir-scenario`: a verifying load generator for memcached and whatever speaks like one, and the storms weir is
//! built for.
//!
//! Every value is checked: the key asked for, in the order asked, with the length, flags and body that follow from
//! the key; every request ends exactly once. Wrong and missing answers are part of every report. Each run prints one
//! JSON object on stdout.
//!
//! `cql-*` are the same for a table of Cassandra or Scylla, `rpc-*` for calls of a service.
//!
//! One thread and plain epoll, so that the tool takes little of the cores it shares with what it measures.
//! From the bottom: `keys`, `values` (what is stored), `wire` (requests out, replies checked), `net`, `epoll`,
//! `client` (connections), `closed_loop` and `open_loop` (when to ask), then one file per scenario.

mod ask;
mod burst;
mod calls;
mod client;
mod clock;
mod closed_loop;
mod cql;
mod epoll;
mod faults;
mod fill;
mod histogram;
mod idle;
mod keys;
mod load;
mod net;
mod noise;
mod normal;
mod open_loop;
mod options;
mod quiet;
mod random;
mod raw_proxy;
mod report;
mod rpc;
mod slow_readers;
mod sockets;
mod storm;
mod usage;
mod values;
mod wire;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  weir-scenario fill  --server 127.0.0.1:11211 --keys 100000 --value-size 100 --verify
  weir-scenario load  --server 127.0.0.1:11211 --connections 16 --depth 16 --seconds 3 --watch memcached=4711
  weir-scenario quiet --server unix:/run/weir/memcached.sock --connections 20 --rate 20 --seconds 10 --human
  weir-scenario noise --server 127.0.0.1:11211 --clients 1 --rate 3
  weir-scenario storm --server 127.0.0.1:11211 --mode connections --source-bind 127.32.0.1 --name feed-backfill
  weir-scenario burst --server 127.0.0.1:11211 --connections 15000
  weir-scenario sockets --destination 127.0.0.1:11211
  weir-scenario cql-fill --server 127.0.0.1:9042 --keys 50000
  weir-scenario cql-load --server 127.0.0.1:9142 --depth 64 --seconds 3
  weir-scenario rpc-service --listen 127.0.0.1:3000 --key-micros 15
  weir-scenario rpc-load --server 127.0.0.1:3100 --depth 64 --keys-per-call 20 --seconds 3
  weir-dataplane world --users 500 > world.tsv      what the data plane was seeded with, for the next two
  weir-scenario rpc-mix --server 127.0.0.1:3100 --world world.tsv --caller appview --rate 8
  weir-scenario rpc-backfill --server 127.0.0.1:3100 --world world.tsv --caller feed-backfill

`fill` first; what reads must be given the same --keys, --value-size, --key-style and --seed.
Exit status: 0 the run was carried out (failures are in the report), 1 an answer was wrong, 2 it could not run.";

/// Verifying load generator and storms for memcached and weir
#[derive(Parser)]
// Every option may be given again: the last one counts, so scripts can append to a base.
#[command(version, after_help = EXAMPLES, args_override_self = true)]
struct Cli {
    /// Name of this process as others see it (/proc/PID/comm, at most 15 bytes)
    #[arg(long, global = true)]
    name: Option<String>,
    /// Also print the report for people, on stderr
    #[arg(long, global = true)]
    human: bool,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// Store the key set
    Fill(fill::Fill),
    /// Closed loop: what the server can do, and what an operation costs
    Load(load::Load),
    /// Open loop of single gets on a few connections: what a neighbour feels
    Quiet(quiet::Quiet),
    /// Multigets of 15 to 20 thousand keys, at a rate or back to back
    Noise(noise::Noise),
    /// An ordinary day: many small batches, popular keys, some misses, some writes
    Normal(normal::Normal),
    /// April 2026: huge requests, each key on a connection of its own or all in one line
    Storm(storm::Storm),
    /// Hold very many idle connections, then check that each still answers
    Idle(idle::Idle),
    /// Ask for large values and do not read for a while
    SlowReaders(slow_readers::SlowReaders),
    /// Very many connections at once, one get each
    Burst(burst::Burst),
    /// CQL: make the table and its rows
    CqlFill(cql::CqlFill),
    /// CQL: a closed loop of prepared SELECTs of one key or of a long IN
    CqlLoad(cql::CqlLoad),
    /// CQL: open many connections, one statement each, and keep them
    CqlHold(cql::CqlHold),
    /// CQL: one SELECT every 20 ms on one connection, through whatever happens to the server
    CqlProbe(cql::CqlProbe),
    /// RPC: a data plane that knows every key, gRPC and Connect
    RpcService(rpc::RpcService),
    /// RPC: a closed loop of calls of GetPostRecords
    RpcLoad(rpc::RpcLoad),
    /// RPC: what an AppView asks of its data plane, page by page, at a rate
    RpcMix(rpc::RpcMix),
    /// RPC: April 2026: few requests, each for 15 to 20 thousand posts
    RpcBackfill(rpc::RpcBackfill),
    /// Pass bytes on, one upstream connection per client connection: the floor of what a proxy costs
    #[command(hide = true)]
    RawProxy(raw_proxy::RawProxy),
    /// Count the sockets towards an address by state
    Sockets {
        /// host:port of the server
        #[arg(long, value_name = "ADDR")]
        destination: SocketAddr,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(outcome) => {
            report::print_line(&outcome.report);
            if cli.human {
                report::print_human(&outcome.report, 0);
            }
            ExitCode::from(u8::from(outcome.falsified))
        }
        Err(error) => {
            eprintln!("weir-scenario: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> Result<options::Outcome> {
    // Before anything opens a socket: whoever looks up the peer must find this name.
    if let Some(name) = &cli.name {
        usage::set_process_name(name)?;
    }
    match &cli.scenario {
        Scenario::Fill(options) => fill::fill(options),
        Scenario::Load(options) => load::load(options),
        Scenario::Quiet(options) => quiet::quiet(options),
        Scenario::Noise(options) => noise::noise(options),
        Scenario::Normal(options) => normal::normal(options),
        Scenario::Storm(options) => storm::storm(options),
        Scenario::Idle(options) => idle::idle(options),
        Scenario::SlowReaders(options) => slow_readers::slow_readers(options),
        Scenario::Burst(options) => burst::burst(options),
        Scenario::CqlFill(options) => cql::fill(options),
        Scenario::CqlLoad(options) => cql::load(options),
        Scenario::CqlHold(options) => cql::hold(options),
        Scenario::CqlProbe(options) => cql::probe(options),
        Scenario::RawProxy(options) => raw_proxy::serve(options)
            .map(|()| options::Outcome { report: serde_json::Value::Null, falsified: false }),
        Scenario::RpcService(options) => rpc::serve(options)
            .map(|()| options::Outcome { report: serde_json::Value::Null, falsified: false }),
        Scenario::RpcLoad(options) => rpc::load(options),
        Scenario::RpcMix(options) => rpc::mix(options),
        Scenario::RpcBackfill(options) => rpc::backfill(options),
        Scenario::Sockets { destination } => {
            let report = serde_json::to_value(sockets::report(*destination)?)?;
            Ok(options::Outcome { report, falsified: false })
        }
    }
}
