//! `weir cache`.

use super::AdminArgs;
use clap::{ArgGroup, Args, Subcommand};

/// `weir cache`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  weir cache purge --service appview --path /xrpc/app.bsky.feed.getFeed --why 'incident 4711'
  weir cache purge --all")]
pub struct CacheArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// The commands of `weir cache`.
#[derive(Clone, Debug, Subcommand)]
pub enum CacheCommand {
    /// Throw away kept answers now: those of a path and of all below it, or all.
    Purge(CachePurgeArgs),
}

/// `weir cache purge`.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["path", "all"])))]
#[command(after_help = "\
What was asked of the service before is not kept after it; answers that are being sent go on. It concerns this weir only.

Examples:
  weir cache purge --service appview --path /xrpc/app.bsky.feed.getFeed --why 'incident 4711'
  weir cache purge --all                              of every service with cache_paths")]
pub struct CachePurgeArgs {
    /// Of this service. Default: all that keep answers.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// This path and all below it: /a/b is /a/b and /a/b/c, not /a/bc.
    #[arg(long, value_name = "PREFIX")]
    pub path: Option<String>,
    /// Everything.
    #[arg(long)]
    pub all: bool,
    /// Why; for the log.
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the running weir is.
    #[command(flatten)]
    pub admin: AdminArgs,
}
