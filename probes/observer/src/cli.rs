//! The command line, declared.

use clap::{Args, Parser, Subcommand};

/// The kernel's witness: socket states, local ports, failed connects and storage work, by process.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "weir-probes",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  weir-probes check            what works here, and what each missing right costs"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// What this machine and this process's rights offer.
    Check(CheckArgs),
}

/// `weir-probes check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}
