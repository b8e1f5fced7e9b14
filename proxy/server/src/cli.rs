//! The command line, declared. `weir COMMAND --help` shows an example of every command.

use crate::config::address::parse_address;
use crate::config::quantity::{parse_bytes, parse_count, parse_span};
use crate::overrides::{Bound, Class, Feature, Mode};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use weir_engine::settings::Address;
use weir_engine::units::Span;

mod cache;

pub use cache::{CacheArgs, CacheCommand, CachePurgeArgs};

/// A sidecar that measures and bounds the work behind requests to memcached, to CQL clusters and between services.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "weir",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  weir run --memcached 127.0.0.1:11311=127.0.0.1:11211     no file needed
  weir run --cql 127.0.0.1:9142=10.0.0.1:9042,10.0.0.2:9042
  weir run --rpc 127.0.0.1:3100=127.0.0.1:3000 --rpc-preset bsky
  weir run --config weir.toml
  weir check weir.toml                                     every problem at once
  weir top                                                 who asks for how much, live
  weir explain importer                                    one caller, and the command that caps it
  weir limits set importer --operations-per-request 500 --mode refuse --for 1h"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Carry traffic.
    Run(RunArgs),
    /// Check a configuration file, and compare it with a running weir.
    Check(CheckArgs),
    /// Live table of callers by work.
    Top(TopArgs),
    /// Everything about one caller, and the commands that cap it.
    Explain(ExplainArgs),
    /// What one request of a service came to: keys, cache operations, misses, database operations, bytes.
    Request(RequestArgs),
    /// Limits that end by themselves.
    Limits(LimitsArgs),
    /// Switch a feature off for a while.
    Switch(SwitchArgs),
    /// Refuse a method of a service for a while.
    Deny(DenyArgs),
    /// Serve a denied method again.
    Allow(AllowArgs),
    /// Throw away answers that weir keeps for a service.
    Cache(CacheArgs),
    /// Print expensive requests as they end.
    Tap(TapArgs),
    /// The fingerprint of a CQL statement, for a rule of its own.
    Fingerprint(FingerprintArgs),
    /// Print the reference of every key of weir.toml (Markdown).
    #[command(hide = true)]
    ConfigReference,
}

/// `weir run`.
#[derive(Clone, Debug, Default, Args)]
#[command(after_help = "\
LISTEN, SERVER and CONTACT are host:port, [v6]:port or unix:/path; LISTEN of --cql is TCP.

Examples:
  weir run --config /etc/weir/weir.toml
  weir run --memcached 127.0.0.1:11311=127.0.0.1:11211
  weir run --memcached unix:/run/weir/cache.sock=10.0.0.1:11211,10.0.0.2:11211 \\
           --metrics 127.0.0.1:9466 --admin unix:/run/weir/admin.sock --workers 2
  weir run --cql 127.0.0.1:9142=10.0.0.1:9042,10.0.0.2:9042
  weir run --memcached 127.0.0.1:11311=127.0.0.1:11211 --cql 127.0.0.1:9142=127.0.0.1:9042

  weir run --rpc 127.0.0.1:3100=127.0.0.1:3000 --rpc-preset bsky

Drivers are shown one node, at the address they dialled: a driver that asks for 127.0.0.1:9142 stays there.
Without a file weir splits big multigets, queues fairly, counts and warns; it refuses nothing but flush_all, and
that only when there is more than one --memcached.
SIGTERM drains and exits 0; SIGHUP reads the file again.")]
pub struct RunArgs {
    /// Configuration file (docs/configuration.md has every key).
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present_any = ["memcached", "cql", "rpc"],
        conflicts_with_all = ["memcached", "cql", "rpc"]
    )]
    pub config: Option<PathBuf>,
    /// A listener and the memcached servers behind it; may repeat.
    #[arg(long, value_name = "LISTEN=SERVER[,SERVER...]", value_parser = parse_route)]
    pub memcached: Vec<Route>,
    /// A listener for CQL and the nodes of the cluster behind it; may repeat.
    #[arg(long, value_name = "LISTEN=CONTACT[,CONTACT...]", value_parser = parse_cql_route)]
    pub cql: Vec<Route>,
    /// A listener for gRPC, Connect and other HTTP, and the servers (HTTP/2) of the service behind it; may repeat.
    #[arg(long, value_name = "LISTEN=UPSTREAM[,UPSTREAM...]", value_parser = parse_rpc_route)]
    pub rpc: Vec<Route>,
    /// The table of methods whose keys are counted, for every --rpc.
    #[arg(long, value_name = "NAME", requires = "rpc")]
    pub rpc_preset: Option<String>,
    /// Serve /metrics, /healthz and /readyz here; may repeat. Takes the place of the file's key.
    #[arg(long, value_name = "LISTEN", value_parser = parse_address)]
    pub metrics: Vec<Address>,
    /// Serve the control socket here; may repeat. Takes the place of the file's key.
    #[arg(long, value_name = "LISTEN", value_parser = parse_address)]
    pub admin: Vec<Address>,
    /// File with the token that --admin over TCP asks for.
    #[arg(long, value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// Data-path threads.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: Option<u32>,
    /// Keep overrides over a restart in this directory.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Let --memcached, --cql and --rpc listen where other machines can reach it.
    #[arg(long)]
    pub allow_remote: bool,
}

/// One `--memcached`, `--cql` or `--rpc`: where clients come in, and which servers or nodes answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where weir listens.
    pub listen: Address,
    /// At least one.
    pub servers: Vec<Address>,
}

/// `weir check`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  the file is good (warnings are allowed)
  1  the file has errors, or --against found listeners lost
  2  the file cannot be read, or the running weir cannot be asked

Examples:
  weir check weir.toml
  weir check weir.toml --json
  weir check weir.toml --against unix:/run/weir/admin.sock")]
pub struct CheckArgs {
    /// The file to check.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Compare with the weir behind this control socket: keys that move, limits tightened, listeners lost.
    #[arg(long, value_name = "ADMIN", value_parser = parse_address)]
    pub against: Option<Address>,
    /// File with the token, for a control socket over TCP.
    #[arg(long, value_name = "FILE", env = "WEIR_ADMIN_TOKEN_FILE")]
    pub admin_token_file: Option<PathBuf>,
}

/// Where the running weir is.
#[derive(Clone, Debug, Default, Args)]
pub struct AdminArgs {
    /// Control socket of the running weir: unix:/path or host:port. Default: weir/admin.sock under $XDG_RUNTIME_DIR,
    /// or under /run.
    #[arg(long, value_name = "ADMIN", env = "WEIR_ADMIN", value_parser = parse_address)]
    pub admin: Option<Address>,
    /// File with the token, for a control socket over TCP.
    #[arg(long, value_name = "FILE", env = "WEIR_ADMIN_TOKEN_FILE")]
    pub admin_token_file: Option<PathBuf>,
}

/// `weir top`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Keys: q or Ctrl-C leaves.

Examples:
  weir top
  weir top --once                one table, for a script or a ticket
  weir top --once --json         the same as JSON
  weir top --admin unix:/run/weir/admin.sock")]
pub struct TopArgs {
    /// Print one table and leave.
    #[arg(long)]
    pub once: bool,
    /// Show callers' statements instead of callers; the key s changes between both.
    #[arg(long)]
    pub statements: bool,
    /// Print JSON: one object with --once, otherwise one per line and second.
    #[arg(long)]
    pub json: bool,
    /// Where the running weir is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `weir explain`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  weir explain importer
  weir explain uid:1000 --json")]
pub struct ExplainArgs {
    /// The caller, as `weir top` or an alert names it.
    #[arg(value_name = "CALLER")]
    pub caller: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the running weir is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `weir request`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Requests are remembered for 30 s, the 64 with the most storage work of late for 10 min.

Examples:
  weir request 4bf92f3577b34da6a3ce929d0e0e4736
  weir request 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 --json
  weir request                                          the largest of late")]
pub struct RequestArgs {
    /// Its id: 32 hex digits, a traceparent, or the 22 characters that clients send. Without it, the largest of late.
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the running weir is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `weir limits`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  weir limits set importer --operations-per-request 500 --mode refuse --for 1h
  weir limits list
  weir limits clear importer")]
pub struct LimitsArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: LimitsCommand,
}

/// The commands of `weir limits`.
#[derive(Clone, Debug, Subcommand)]
pub enum LimitsCommand {
    /// Limit a caller for a while; what is not given stays as the file has it.
    Set(LimitsSetArgs),
    /// Show limits and overrides in force.
    List(LimitsListArgs),
    /// End a caller's override now.
    Clear(LimitsClearArgs),
}

/// `weir limits set`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
The override ends by itself and survives reload and restart until then. Setting it again takes its place whole.

Examples:
  weir limits set importer --operations-per-request 500 --mode refuse --for 1h --why 'incident 4711'
  weir limits set importer --operations-per-second 20_000 --mode pace --class batch --for 2h
  weir limits set timeline --operations-per-request none --for 30m")]
pub struct LimitsSetArgs {
    /// The caller, as `weir explain` names it.
    #[arg(value_name = "CALLER")]
    pub caller: String,
    /// Operations (keys) one request may ask for, or none.
    #[arg(long, value_name = "N", value_parser = parse_bound)]
    pub operations_per_request: Option<Bound>,
    /// Operations per second over all connections of the caller, or none.
    #[arg(long, value_name = "N", value_parser = parse_bound)]
    pub operations_per_second: Option<Bound>,
    /// Operations at once above the rate, or none (one second's worth).
    #[arg(long, value_name = "N", value_parser = parse_bound)]
    pub burst: Option<Bound>,
    /// Operations under way at once, or none.
    #[arg(long, value_name = "N", value_parser = parse_bound)]
    pub operations_in_flight: Option<Bound>,
    /// Estimated reply bytes under way at once (8MiB), or none.
    #[arg(long, value_name = "SIZE", value_parser = parse_byte_bound)]
    pub bytes_in_flight: Option<Bound>,
    /// What happens above a limit.
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// Who goes first under pressure.
    #[arg(long, value_enum)]
    pub class: Option<Class>,
    /// How long: 30m, 1h, 2d; at most 30d.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_override_time)]
    pub duration: Span,
    /// Why; kept with the override and in the log.
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the running weir is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `weir limits list`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  weir limits list
  weir limits list --json")]
pub struct LimitsListArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the running weir is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `weir limits clear`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  weir limits clear importer")]
pub struct LimitsClearArgs {
    /// The caller whose override ends.
    #[arg(value_name = "CALLER")]
    pub caller: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the running weir is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Position {
    /// End the override.
    On,
    /// Switch off for `--for`.
    Off,
}

/// `weir switch`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  weir switch split off --listener cache --for 30m --why 'suspect split'
  weir switch limits off --listener cache --for 10m
  weir switch split on --listener cache               before its time is over")]
pub struct SwitchArgs {
    /// What to switch.
    #[arg(value_enum)]
    pub feature: Feature,
    /// on or off.
    #[arg(value_enum)]
    pub position: Position,
    /// The listener's name.
    #[arg(long, value_name = "NAME")]
    pub listener: String,
    /// How long it is off: 30m, 1h; at most 30d.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_override_time, required_if_eq("position", "off"))]
    pub duration: Option<Span>,
    /// Why; kept with the override and in the log.
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the running weir is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `weir deny`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Clients are answered RESOURCE_EXHAUSTED (HTTP 429) with the time that is left, before anything of the call is read.

Examples:
  weir deny bsky.Service/GetTimeline --for 30m --why 'incident 4711'
  weir allow bsky.Service/GetTimeline                 before its time is over")]
pub struct DenyArgs {
    /// The method: package.Service/Method, or the path of a URL.
    #[arg(value_name = "METHOD")]
    pub method: String,
    /// How long: 30m, 1h; at most 30d.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_override_time)]
    pub duration: Span,
    /// Why; clients are told, and it is kept with the override and in the log.
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the running weir is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `weir allow`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  weir allow bsky.Service/GetTimeline")]
pub struct AllowArgs {
    /// The method, as `weir deny` was told.
    #[arg(value_name = "METHOD")]
    pub method: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the running weir is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `weir fingerprint`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  weir fingerprint 'SELECT * FROM shop.carts WHERE id = ?'
  weir fingerprint --keyspace shop 'SELECT * FROM carts WHERE id = 7'        the same")]
pub struct FingerprintArgs {
    /// The statement; its values do not matter.
    #[arg(value_name = "STATEMENT")]
    pub statement: String,
    /// The keyspace chosen by USE.
    #[arg(long, value_name = "NAME")]
    pub keyspace: Option<String>,
}

/// `weir tap`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  weir tap --min-operations 1000
  weir tap --json | jq .caller")]
pub struct TapArgs {
    /// Only requests that asked for at least this many operations.
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_count)]
    pub min_operations: u64,
    /// Only this caller.
    #[arg(long, value_name = "CALLER")]
    pub caller: Option<String>,
    /// Print one JSON object per line.
    #[arg(long)]
    pub json: bool,
    /// Where the running weir is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

fn parse_route(text: &str) -> Result<Route, String> {
    route(text, "SERVER", "127.0.0.1:11311=127.0.0.1:11211")
}

fn parse_cql_route(text: &str) -> Result<Route, String> {
    route(text, "CONTACT", "127.0.0.1:9142=127.0.0.1:9042")
}

fn parse_rpc_route(text: &str) -> Result<Route, String> {
    route(text, "UPSTREAM", "127.0.0.1:3100=127.0.0.1:3000")
}

fn route(text: &str, what: &str, example: &str) -> Result<Route, String> {
    let (listen, servers) =
        text.split_once('=').ok_or_else(|| format!("expected LISTEN={what}[,{what}...] (\"{example}\")"))?;
    let listen = parse_address(listen).map_err(|wrong| format!("LISTEN: {wrong}"))?;
    let servers = servers
        .split(',')
        .map(|server| parse_address(server).map_err(|wrong| format!("{what} {server:?}: {wrong}")))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Route { listen, servers })
}

fn parse_bound(text: &str) -> Result<Bound, String> {
    bound(text, parse_count)
}

fn parse_byte_bound(text: &str) -> Result<Bound, String> {
    bound(text, |text| parse_bytes(text).map(|bytes| bytes.0))
}

fn bound(text: &str, parse: impl Fn(&str) -> Result<u64, String>) -> Result<Bound, String> {
    match text {
        "none" => Ok(Bound::None),
        _ => match parse(text)? {
            0 => Err("a limit is at least 1; write none for no limit".to_owned()),
            count => Ok(Bound::At(count)),
        },
    }
}

fn parse_override_time(text: &str) -> Result<Span, String> {
    let span = parse_span(text)?;
    if span < Span::secs(1) || span > Span::secs(crate::overrides::LONGEST_SECONDS) {
        return Err(format!("\"{text}\" is not between 1s and 30d"));
    }
    Ok(span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_declaration_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn reads_the_documented_lines() {
        for line in [
            "weir run --config weir.toml",
            "weir run --memcached 127.0.0.1:1=127.0.0.1:2,unix:/a --metrics 0.0.0.0:9 --admin unix:/b --workers 2",
            "weir run --cql 127.0.0.1:3=127.0.0.1:4,127.0.0.1:5 --cql [::1]:3=db-1:9042",
            "weir run --memcached 127.0.0.1:1=127.0.0.1:2 --cql 127.0.0.1:3=127.0.0.1:4",
            "weir run --rpc 127.0.0.1:3=unix:/s,127.0.0.1:5 --rpc-preset bsky",
            "weir check weir.toml --against unix:/b",
            "weir top --once --json",
            "weir explain importer",
            "weir request 4bf92f3577b34da6a3ce929d0e0e4736 --json",
            "weir request",
            "weir limits set importer --operations-per-request 500 --mode refuse --for 1h",
            "weir limits set a --bytes-in-flight 8MiB --class batch --operations-in-flight none --for 2h",
            "weir limits list",
            "weir limits clear importer",
            "weir switch single-flight off --listener cache --for 30m",
            "weir switch split on --listener cache",
            "weir deny bsky.Service/GetTimeline --for 30m --why slow",
            "weir allow bsky.Service/GetTimeline",
            "weir cache purge --service appview --path /xrpc/ --why wrong",
            "weir cache purge --all",
            "weir tap --min-operations 1_000",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for line in [
            "weir run",
            "weir run --config a --memcached 127.0.0.1:1=127.0.0.1:2",
            "weir run --memcached 127.0.0.1:1",
            "weir run --memcached 127.0.0.1:1=127.0.0.1:2 --workers 0",
            "weir run --config a --cql 127.0.0.1:1=127.0.0.1:2",
            "weir run --cql 127.0.0.1:1",
            "weir run --cql 127.0.0.1:1=127.0.0.1:2,",
            "weir run --memcached 127.0.0.1:1=127.0.0.1:2 --rpc-preset bsky",
            "weir limits set a --mode refuse",
            "weir limits set a --mode refuse --for 31d",
            "weir limits set a --operations-per-request 0 --for 1h",
            "weir switch split off --listener cache",
            "weir deny bsky.Service/GetTimeline",
            "weir cache purge",
            "weir cache purge --all --path /xrpc/",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn every_command_shows_an_example() {
        fn visit(command: &clap::Command) {
            if command.is_hide_set() || command.get_name() == "help" {
                return;
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "{} has no example", command.get_name());
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }
}
