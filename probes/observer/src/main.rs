//! `weir-probes`: see [`weir_probes::cli`] for the command line.

use clap::Parser as _;
use std::process::ExitCode;
use weir_probes::cli::Cli;
use weir_probes::commands;

fn main() -> ExitCode {
    commands::run(&Cli::parse().command)
}
