//! `weir-dataplane`: see [`weir_dataplane::options`] for the command line.

use clap::Parser as _;
use std::process::ExitCode;
use weir_dataplane::bulk::slice;
use weir_dataplane::options::{Cli, Command};
use weir_dataplane::{migrate, serve, world};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let threads = match &cli.command {
        Command::Serve(arguments) => arguments.threads.clamp(1, 64),
        Command::Migrate(_) | Command::Seed(_) | Command::World(_) => 1,
    };
    if let Command::Serve(_) = &cli.command {
        // Of the threads started below, too. Where it is refused they are threads like others.
        if let Err(error) = slice::short() {
            eprintln!(
                "weir-dataplane: no short slices of the processor, small calls may wait for large ones: {error}"
            );
        }
    }
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match builder.worker_threads(threads).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::from(error).context("starting tokio")),
    };
    let done = runtime.block_on(async {
        match &cli.command {
            Command::Serve(arguments) => serve::run(arguments).await,
            Command::Migrate(arguments) => migrate::run(arguments).await,
            Command::Seed(arguments) => world::run(arguments).await,
            Command::World(arguments) => world::list::run(arguments),
        }
    });
    // A name look-up that hangs is no reason to stay.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("weir-dataplane: {error:#}");
    ExitCode::FAILURE
}
