//! The whole of April 2026 with a data plane in it: an AppView's ordinary traffic, then a new internal service that sends fewer
//! than three requests a second, each for 15 to 20 thousand posts. First against the data plane with the bug and no weir, in a
//! network namespace with as many local ports as hosts have; then against the bounded one, weir in front of it and behind.

mod act;
mod cast;
mod ending;
mod phase;
mod plane;
mod words;

use std::net::{SocketAddr, SocketAddrV4, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{read_report, run_part};
use anyhow::{Context, Result};

use self::act::{Act, ActReport};
pub use self::act::{ActArgs, run as run_act};
use crate::netns::Isolation;
use crate::report::Steps;
use crate::servers::{self, Door, PrivateFolder, Server};
use crate::workspace::Workspace;

/// Time an act may take beyond its phases: seeding from nothing, slow ends.
const SLACK: u64 = 20 * 60;

#[derive(Clone, Debug, clap::Args)]
pub struct StoryOptions {
    /// A memcached of yours (host:port) for the scene `story`, with --cql; otherwise weir-devstore. What the first act left in it
    /// is there in the second
    #[arg(long, value_name = "ADDR", requires = "cql")]
    memcached: Option<String>,
    /// A Cassandra or Scylla of yours (host:port) for the scene `story`, with --memcached: a keyspace `weir_demo` is made there and
    /// left there. The address must be the one that it tells its drivers; of several nodes only this one is reached
    #[arg(long, value_name = "ADDR", requires = "memcached")]
    cql: Option<String>,
    /// Accounts of the world of the scene `story`; each has about 40 posts. Seeded once, kept for the next time
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(50..=1_000_000))]
    users: u32,
}

/// Ways to servers that were there before, passable from inside a namespace; ended when dropped.
struct Ways {
    memcached: Option<String>,
    cql: Option<String>,
    node: Option<SocketAddrV4>,
    _relays: Vec<Server>,
    _folder: Option<PrivateFolder>,
}

impl Ways {
    fn make(workspace: &Workspace, options: &StoryOptions, isolated: bool) -> Result<Self> {
        let mut ways = Self {
            memcached: options.memcached.clone(),
            cql: options.cql.clone(),
            node: options.cql.as_deref().map(node).transpose()?,
            _relays: Vec::new(),
            _folder: None,
        };
        let (Some(memcached), Some(cql), true) = (&options.memcached, &options.cql, isolated) else {
            return Ok(ways);
        };
        let folder = PrivateFolder::new("ways")?;
        let mut relay = |name: &str, server: &str| -> Result<String> {
            let door = Door::Unix(folder.file(name));
            let way = door.to_string();
            ways._relays.push(servers::relay(workspace, name, door, server)?);
            Ok(way)
        };
        let (memcached, cql) = (relay("memcached.sock", memcached)?, relay("cql.sock", cql)?);
        (ways.memcached, ways.cql) = (Some(memcached), Some(cql));
        ways._folder = Some(folder);
        Ok(ways)
    }
}

/// Where a database is, by the address that it has in IPv4.
fn node(server: &str) -> Result<SocketAddrV4> {
    let mut addresses = server.to_socket_addrs().with_context(|| format!("--cql {server}"))?;
    let address = addresses.find_map(|address| match address {
        SocketAddr::V4(address) => Some(address),
        SocketAddr::V6(_) => None,
    });
    address.with_context(|| format!("--cql {server}: no IPv4 address"))
}

/// Tells it.
pub fn tell(
    workspace: &Workspace,
    options: &StoryOptions,
    seconds: u32,
    keep: bool,
    steps: &mut Steps,
) -> Result<()> {
    let isolation = match Isolation::find() {
        Ok(isolation) => Some(isolation),
        Err(error) => {
            println!("\nSKIPPED: the act without weir: {error:#}");
            println!("         (it would use up the local ports and the memory of this machine)");
            None
        }
    };
    let acts = if isolation.is_some() { 2 } else { 1 };
    println!(
        "\nApril 2026: `appview` does what it does every day; then a new internal service, `feed-backfill`, sends fewer than 3\n\
         requests a second, each for 15 to 20 thousand posts. About {} seconds from here, and the seeding of the world once.",
        acts * (3 * seconds + 15)
    );
    let world = cast::list_world(workspace, options.users)?;
    let ways = Ways::make(workspace, options, isolation.is_some())?;
    let tell = |act, more: &[String]| {
        let mut arguments = arguments(workspace, act, (options, seconds), (&world, &ways))?;
        arguments.extend_from_slice(more);
        one(workspace, act, isolation, arguments, keep && act == Act::Weir)
    };
    let without = match isolation {
        Some(_) => Some(steps.step("the data plane of April, without weir", || tell(Act::Unbounded, &[]))?),
        None => None,
    };
    let mut more = Vec::new();
    if keep {
        more.push("--keep".to_owned());
        if without.is_some() {
            more.push("--beside".to_owned());
            more.push(report_of(workspace, Act::Unbounded)?.to_string_lossy().into_owned());
        }
    }
    let with = steps.step("bounded, weir in front and behind", || tell(Act::Weir, &more))?;
    print!("{}", ending::ending(without.as_ref(), &with));
    Ok(())
}

fn report_of(workspace: &Workspace, act: Act) -> Result<PathBuf> {
    Ok(workspace.scratch("demo")?.join(format!("story-{}.json", act.name())))
}

fn arguments(
    workspace: &Workspace,
    act: Act,
    (options, seconds): (&StoryOptions, u32),
    (world, ways): (&Path, &Ways),
) -> Result<Vec<String>> {
    let mut arguments: Vec<String> = vec!["demo-act".into(), act.name().into()];
    let mut with = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    with("--seconds", seconds.to_string());
    with("--users", options.users.to_string());
    with("--world", world.to_string_lossy().into_owned());
    with("--report", report_of(workspace, act)?.to_string_lossy().into_owned());
    if let (Some(memcached), Some(cql)) = (&ways.memcached, &ways.cql) {
        with("--memcached", memcached.clone());
        with("--cql", cql.clone());
    }
    if let Some(node) = ways.node {
        with("--node", node.to_string());
    }
    Ok(arguments)
}

/// One act, by this program started again.
fn one(
    workspace: &Workspace,
    act: Act,
    isolation: Option<Isolation>,
    arguments: Vec<String>,
    keep: bool,
) -> Result<ActReport> {
    let report = report_of(workspace, act)?;
    let _none_from_before = std::fs::remove_file(&report);
    let limit = if keep { Duration::from_secs(24 * 60 * 60) } else { Duration::from_secs(SLACK) };
    run_part(act.name(), isolation, arguments, limit)?;
    read_report(&report)
}
