//! The command line, declared.

use crate::free_ports::LIMIT_MAX;
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

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
  weir-probes top                           destinations, ports and errors, live
  weir-probes free-ports --destination 127.0.0.1:11211 --dry-run
                                            how many local ports wait in TIME_WAIT towards a destination"
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
    /// Failed calls as they come, a line each.
    Trace(TraceArgs),
    /// End TIME_WAIT sockets towards one destination, so that clients have local ports again.
    FreePorts(FreePortsArgs),
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
    /// Time the threads of a service: processor time and blocked time of its requests, for the processes of that short
    /// name, id, or program file; may repeat.
    #[arg(long, value_name = "NAME=PROCESS")]
    pub service: Vec<String>,
    /// Compare what a weir of --own says at its /metrics here with what the kernel sees of it; may repeat.
    #[arg(long, value_name = "HOST:PORT")]
    pub weir_metrics: Vec<String>,
    /// Answer weir here whose its clients are (its key `attribution`), over a Unix socket.
    #[arg(long, value_name = "unix:/PATH")]
    pub attribution: Option<String>,
    /// A user that weir runs as and that may ask there, by number; may repeat [default: the own one, and root].
    #[arg(long, value_name = "UID", requires = "attribution")]
    pub attribution_user: Vec<u32>,
    /// A group that may open that socket, by number.
    #[arg(long, value_name = "GID", requires = "attribution")]
    pub attribution_group: Option<u32>,
}

/// `weir-probes top`.
#[derive(Clone, Debug, Args)]
pub struct TopArgs {
    /// Show what a running weir-probes serves at /metrics here, instead of looking oneself.
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["watch", "allow", "own", "netns", "work"])]
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
    /// Count requests and keys of processes that go past weir, from the first bytes of what they write: an estimate, and
    /// it costs each of their writes something.
    #[arg(long)]
    pub work: bool,
}

/// `weir-probes trace`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  weir-probes trace --errors
  weir-probes trace --errors --watch 10.0.0.7:11211=memcached
  weir-probes trace --errors --seconds 10 --json

Several failures of one kind within a quarter of a second are one line, with their number.")]
pub struct TraceArgs {
    /// bind(2) and connect(2) that failed, by process, errno and destination.
    #[arg(long)]
    pub errors: bool,
    /// A destination that is told apart from all others; may repeat [default: *:11211, *:9042, *:19042].
    #[arg(long, value_name = "ADDRESS:PORT=memcached|cql")]
    pub watch: Vec<String>,
    /// End after so many seconds; without it, when interrupted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: Option<u64>,
    /// A JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// `weir-probes free-ports`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
For the moment when clients fail with EADDRNOTAVAIL or EADDRINUSE because every local port waits
in TIME_WAIT. Only such sockets are ended, only those whose other end is the destination, and no
connection in use. It needs CAP_NET_ADMIN (--dry-run needs nothing). Who ended how many is a line
on stderr and in syslog.

TIME_WAIT keeps late segments of a connection away from the next one with the same addresses
(RFC 1337). On loopback none are late; between machines some may be, hence --allow-remote.
docs/probes.md says more.

It buys a minute: a client that dials for each request uses the ports up again. Find it with
weir-probes top.

Examples:
  weir-probes free-ports --destination 127.0.0.1:11211 --dry-run      count, end nothing
  weir-probes free-ports --destination 127.0.0.1:11211
  weir-probes free-ports --destination [::1]:9042 --limit 5000 --json
  weir-probes free-ports --destination 127.0.0.1:11211 --netns /proc/4711/ns/net
  weir-probes free-ports --destination 10.0.0.7:11211 --allow-remote

Exit code: 0 done, 1 not or not wholly done, 2 wrong use.")]
pub struct FreePortsArgs {
    /// The other end of the sockets to end: ADDRESS:PORT, an IPv6 address in brackets.
    #[arg(long, value_name = "ADDR")]
    pub destination: SocketAddr,
    /// Count, and end nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// End at most so many.
    #[arg(long, value_name = "N", default_value_t = 30_000,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(LIMIT_MAX)))]
    pub limit: u32,
    /// Let the destination be on another machine.
    #[arg(long)]
    pub allow_remote: bool,
    /// Look into this network namespace: /run/netns/NAME or /proc/PID/ns/net.
    #[arg(long, value_name = "PATH")]
    pub netns: Option<PathBuf>,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}
