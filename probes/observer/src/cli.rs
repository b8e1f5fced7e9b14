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
  weir-probes check                         what works here, and what each missing right costs
  weir-probes run --listen 0.0.0.0:9467     look every five seconds, and serve /metrics
  weir-probes top                           destinations, ports and errors, live"
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
    /// Look at the kernel, and serve what is seen at /metrics until told to end.
    Run(RunArgs),
    /// Destinations with their sockets, ports and errors, and who goes past weir; live.
    Top(TopArgs),
}

/// `weir-probes check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

/// `weir-probes run`. Values are checked together, so that every problem is told at once.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Serve /metrics, /healthz and /readyz here, and nothing else.
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// What is looked at.
    #[command(flatten)]
    pub look: LookArgs,
    /// Time between two looks.
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub interval: String,
}

/// `weir-probes top`.
#[derive(Clone, Debug, Args)]
pub struct TopArgs {
    /// Show what a running weir-probes serves at /metrics here, instead of looking oneself.
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["watch", "allow", "own", "netns"])]
    pub from: Option<String>,
    /// Print the table once and end.
    #[arg(long)]
    pub once: bool,
    /// One JSON object a second, or one with --once.
    #[arg(long)]
    pub json: bool,
    /// What is looked at.
    #[command(flatten)]
    pub look: LookArgs,
}

/// What is looked at.
#[derive(Clone, Debug, Default, Args)]
pub struct LookArgs {
    /// A destination that is told apart from all others; may repeat [default: *:11211, *:9042, *:19042].
    #[arg(long, value_name = "ADDRESS:PORT=memcached|cql")]
    pub watch: Vec<String>,
    /// A process that may go past weir: its short name, id, or program file; may repeat.
    #[arg(long, value_name = "PROCESS")]
    pub allow: Vec<String>,
    /// A process that is weir itself; may repeat [default: weir].
    #[arg(long, value_name = "PROCESS")]
    pub own: Vec<String>,
    /// A network namespace to look into beside one's own; may repeat.
    #[arg(long, value_name = "NAME=PATH")]
    pub netns: Vec<String>,
}
