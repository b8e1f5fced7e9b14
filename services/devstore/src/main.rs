//! `weir-devstore`: the embedded development store as a process.

mod server;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use server::{Address, Limits, Server};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  weir-devstore --listen 127.0.0.1:11211
  weir-devstore --listen 127.0.0.1:0 --listen unix:/run/weir/devstore.sock --memory-mib 256

The last line it prints when it can serve ends in `ready`. SIGTERM and SIGINT end it.";

/// Embedded in-memory memcached for development: one thread, no persistence, never for production
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("starting tokio")?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, Server::new(limits).serve(&cli.listen))
}
