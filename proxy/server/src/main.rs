//! `weir`: see [`weir::cli`] for the command line and [`weir::run`] for what `weir run` puts together.

use clap::Parser as _;
use std::process::ExitCode;
use weir::cli::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => weir::run::run(args),
        command => weir::commands::run(command),
    }
}
