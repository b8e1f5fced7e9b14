//! `weir-devstore`: the embedded development store as a process.

mod server;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use server::{Address, Limits, Server};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use weir_devstore::cql::{engine, serve};

const EXAMPLES: &str = "\
Examples:
  weir-devstore --listen 127.0.0.1:11211
  weir-devstore --listen 127.0.0.1:0 --listen unix:/run/weir/devstore.sock --memory-mib 256
  weir-devstore --cql 127.0.0.1:9042 --data /var/tmp/weir-devstore
  weir-devstore --listen 127.0.0.1:0 --cql 127.0.0.1:0 --data ./store

With --cql it is a little Cassandra, too (protocol v3 to v5): keyspaces, tables, INSERT, UPDATE, DELETE, SELECT by key,
counters, batches. What it has not is answered with an error that says so. Its data is one file in the folder of --data:
what was answered is there after a crash. SELECT * FROM system_views.embedded_development_store tells its counters.

The last line it prints when it can serve ends in `ready`. SIGTERM and SIGINT end it.";

/// Embedded development store: memcached in memory, and CQL on disk with --cql; never for production
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    /// host:port (port 0: any free one) or unix:/path; may repeat
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:11211")]
    listen: Vec<Address>,
    /// Memory for items in MiB; the least recently used ones go when it is full
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=1 << 20))]
    memory_mib: u32,
    /// Connections at once; more are closed with an error line
    #[arg(long, default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// host:port for CQL (port 0: any free one); with --data
    #[arg(long, value_name = "ADDR", requires = "data")]
    cql: Option<SocketAddr>,
    /// Folder for the file of the CQL store; made where it is not there
    #[arg(long, value_name = "DIR", requires = "cql")]
    data: Option<PathBuf>,
    /// Memory for pages of that file in MiB
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    cql_cache_mib: u32,
    /// Connections of CQL at once; more are closed
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    cql_connections: u32,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-devstore: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    ensure!(!cli.listen.is_empty(), "nowhere to listen");
    let limits = Limits { memory: cli.memory_mib as usize * (1 << 20), connections: cli.connections };
    let _cql = start_cql(cli)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("starting tokio")?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, Server::new(limits).serve(&cli.listen))
}

/// Opens the store and serves it, where that is asked for. It says so before memcached's last line.
fn start_cql(cli: &Cli) -> Result<Option<serve::Running>> {
    let (Some(address), Some(folder)) = (cli.cql, &cli.data) else { return Ok(None) };
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr().context("asking for the address")?;
    let limits =
        engine::Limits { cache: cli.cql_cache_mib as usize * (1 << 20), ..engine::Limits::default() };
    let engine = Arc::new(engine::Engine::open(folder, address, limits)?);
    let running = serve::start(listener, engine, cli.cql_connections)?;
    println!("{}", serve::banner(folder, address));
    Ok(Some(running))
}
