//! `cargo xtask cassandra`: a real Apache Cassandra on loopback for the suites that speak CQL; one node, or a ring of three
//! for routing and node loss. The nodes of one name lie below `target/xtask/cassandra/NAME`, at addresses made from that
//! path: trees and names live side by side, and what is started again is where it was.

mod jars;
mod node;
mod probe;
mod shared;

use std::io::{BufRead, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub use jars::{JAVA_PACKAGE, Kit, MAVEN_PACKAGE, VERSION};
use node::{Node, Plan};
pub use shared::Shared;

use crate::interrupt::Temporary;
use crate::report::seconds;
use crate::workspace::Workspace;

/// The default port of CQL.
const CQL_PORT: u16 = 9042;

/// How many address ranges are tried before the machine is called full.
const RANGES: u32 = 32;

/// Heap, MiB: of a node alone, and of each node of a ring.
const HEAP_ALONE: u32 = 512;
const HEAP_RING: u32 = 320;

/// Below this the server does not get through its start.
const HEAP_LEAST: u32 = 192;

/// Gossip takes a second per round and a few rounds.
const RING_LIMIT: Duration = Duration::from_secs(60);

/// Commands to a real Cassandra.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Start a node (or a ring of three) on fresh data and leave it running
    ///
    /// Prints `address=127.x.y.1:9042 pid=.. ready_s=.. rss_mb=.. folder=..` per node. Fetches what is missing first: Java 17
    /// and Maven (Debian, root), 67 MB of jars (once, into the user's cache folder).
    #[command(after_help = "Examples:\n  cargo xtask cassandra start\n  \
        cargo xtask cassandra start --nodes 3 --name ring\n  \
        cargo xtask cassandra start --heap 256m --port 9142 --name small\n  \
        cargo xtask cassandra start --again              # what ended, on the data it has\n  \
        kill -9 PID && cargo xtask cassandra start --again --name ring --nodes 3")]
    Start(StartOptions),
    /// Drain and end the nodes of one name, by their pids
    #[command(
        after_help = "Examples:\n  cargo xtask cassandra stop\n  cargo xtask cassandra stop --name ring\n  \
        cargo xtask cassandra stop --all"
    )]
    Stop(StopOptions),
    /// Get Java and the jars now; succeeds when a node could be started
    #[command(after_help = "Examples:\n  cargo xtask cassandra fetch\n  \
        cargo xtask cassandra fetch --no-install      # only look, say what is missing")]
    Fetch {
        /// Install and fetch nothing
        #[arg(long)]
        no_install: bool,
    },
}

/// What `start` is told.
#[derive(Debug, clap::Args)]
pub struct StartOptions {
    /// One node, or a ring of three
    #[arg(long, default_value = "1", value_parser = ["1", "3"])]
    nodes: String,
    /// Heap of each node, `m` or `g`; the process takes 350 to 550 MiB more [default: 512m, in a ring 320m]
    #[arg(long, value_parser = heap)]
    heap: Option<u32>,
    /// Port for CQL, the same on every node
    #[arg(long, default_value_t = CQL_PORT, value_parser = clap::value_parser!(u16).range(1024..))]
    port: u16,
    /// Which nodes: the name of their folder below target/xtask/cassandra
    #[arg(long, default_value = "node", value_parser = name)]
    name: String,
    /// A file with more lines of cassandra.yaml: TLS, passwords
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Keep the data and the addresses; start only what has ended
    #[arg(long)]
    again: bool,
    /// Stay, and end the nodes when stdin is closed; meanwhile take lines `kill N` (as a crash) and `start N`
    #[arg(long, conflicts_with = "again")]
    attached: bool,
    /// Ready in two thirds of the time, and slower from then on: for nodes that do little
    #[arg(long)]
    ready_soon: bool,
    /// Install and fetch nothing; say what is missing
    #[arg(long)]
    no_install: bool,
}

/// What `stop` is told.
#[derive(Debug, clap::Args)]
pub struct StopOptions {
    /// Which nodes
    #[arg(long, default_value = "node", value_parser = name)]
    name: String,
    /// Every node that was started in this tree
    #[arg(long, conflicts_with = "name")]
    all: bool,
}

/// Carries out one command.
pub fn run(workspace: &Workspace, action: Action) -> Result<bool> {
    match action {
        Action::Start(options) => start(workspace, &options)?,
        Action::Stop(options) => stop(workspace, &options)?,
        Action::Fetch { no_install } => {
            let kit = Kit::find(workspace, !no_install)?;
            let (java, jars) = (kit.java.display(), kit.jars.display());
            println!("Cassandra {} can be started: {java}, jars in {jars}", jars::VERSION);
        }
    }
    Ok(true)
}

/// `512m` or `1g`, as MiB.
fn heap(text: &str) -> Result<u32, String> {
    let (number, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let mib = match (number.parse::<u32>(), unit) {
        (Ok(number), "m" | "M") => Some(number),
        (Ok(number), "g" | "G") => number.checked_mul(1024),
        _ => None,
    };
    match mib {
        Some(mib) if mib >= HEAP_LEAST => Ok(mib),
        Some(_) => Err(format!("Cassandra needs {HEAP_LEAST}m at least")),
        None => Err("a whole number and m or g, as in 512m".into()),
    }
}

/// A name is a folder's name and no way out of the folder.
fn name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !text.is_empty() && text.len() <= 40 && text.chars().all(good) {
        return Ok(text.to_owned());
    }
    Err("letters, digits, - and _ only, 40 at most".into())
}

fn start(workspace: &Workspace, options: &StartOptions) -> Result<()> {
    let base = workspace.scratch("cassandra")?;
    // Two commands must not start the same nodes; the lock goes with this process, however it ends.
    let path = base.join(format!("{}.lock", options.name));
    let lock = std::fs::File::create(&path)?;
    if lock.try_lock().is_err() {
        bail!("another command starts or holds {} right now; give another --name", options.name);
    }
    let kit = Kit::find(workspace, !options.no_install)?;
    let folder = base.join(&options.name);
    let plans = plans(&folder, options)?;
    // Declared before the nodes: removed after they ended. An interrupt during the start removes it too.
    let _data = options.attached.then(|| [&folder, &path].map(|path| Temporary::promise(path)));
    let mut nodes = Vec::new();
    for plan in &plans {
        if options.again
            && let Some(pid) = node::pid_of(&plan.folder)
        {
            println!("address={} pid={pid} runs already", plan.address);
            continue;
        }
        let node = Node::start(&kit, plan)?;
        say(&node);
        nodes.push(node);
    }
    wait_for_ring(&plans)?;
    if options.attached {
        return attend(&kit, &plans, nodes);
    }
    nodes.into_iter().for_each(Node::release);
    println!("stop with: cargo xtask cassandra stop --name {}", options.name);
    Ok(())
}

/// A node answers before the others have heard of it: waits until every node knows every other.
fn wait_for_ring(plans: &[Plan]) -> Result<()> {
    let (begun, others) = (Instant::now(), plans.len() as u64 - 1);
    for plan in plans.iter().filter(|_| others > 0) {
        while probe::peers(plan.address).ok() != Some(others) {
            if begun.elapsed() > RING_LIMIT {
                let known = probe::peers(plan.address);
                bail!("{} knows {known:?} other nodes after {RING_LIMIT:?}, not {others}", plan.address);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    if others > 0 {
        say(&format_args!("every node knows the other {others} after another {}", seconds(begun.elapsed())));
    }
    Ok(())
}

/// The nodes' addresses and folders; wipes what is there unless it is to be started again.
fn plans(folder: &Path, options: &StartOptions) -> Result<Vec<Plan>> {
    let count: u8 = if options.nodes == "3" { 3 } else { 1 };
    if options.port == node::STORAGE_PORT {
        bail!("port {} is the one between nodes", options.port);
    }
    let first = match node::address_of(&folder.join("n1")) {
        Some(first) if options.again => first,
        None if options.again => bail!("nothing was started as {} yet", options.name),
        _ => {
            if let Some(pid) = folders(folder).iter().find_map(|node| node::pid_of(node)) {
                bail!("{} runs already (pid {pid}): stop it, or give another --name", options.name);
            }
            if folder.is_dir() {
                std::fs::remove_dir_all(folder)
                    .with_context(|| format!("cannot remove {}", folder.display()))?;
            }
            SocketAddrV4::new(free_range(folder, count, options.port)?, options.port)
        }
    };
    let settings = match &options.settings {
        None => String::new(),
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
        }
    };
    let heap_mib = options.heap.unwrap_or(if count == 1 { HEAP_ALONE } else { HEAP_RING });
    let plan = |number: u8| {
        let [a, b, c, _] = first.ip().octets();
        Plan {
            folder: folder.join(format!("n{number}")),
            address: SocketAddrV4::new(Ipv4Addr::new(a, b, c, number), first.port()),
            seed: *first.ip(),
            heap_mib,
            ready_soon: options.ready_soon,
            settings: settings.clone(),
        }
    };
    Ok((1..=count).map(plan).collect())
}

/// 127.A.B.1, where A and B come from the folder's path: the same folder gets the same addresses, another one others.
/// Where somebody listens already the next range is taken. No port is drawn from the range that clients draw theirs from.
fn free_range(folder: &Path, count: u8, port: u16) -> Result<Ipv4Addr> {
    // FNV-1a: no release of Rust may move the addresses.
    let hash = folder
        .to_string_lossy()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let range = |attempt: u32| {
        let [_, _, a, b] = hash.wrapping_add(attempt).to_be_bytes();
        [a.clamp(1, 254), b]
    };
    let free = |[a, b]: &[u8; 2]| (1..=count).all(|n| node::is_free(Ipv4Addr::new(127, *a, *b, n), port));
    match (0..RANGES).map(range).find(free) {
        Some([a, b]) => Ok(Ipv4Addr::new(127, a, b, 1)),
        None => bail!("port {port} or {} is taken on every loopback address tried", node::STORAGE_PORT),
    }
}

/// Holds the nodes until stdin is closed: whoever started this command and dies in whatever way takes them along.
fn attend(kit: &Kit, plans: &[Plan], nodes: Vec<Node>) -> Result<()> {
    say(&"ready");
    let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
    for line in std::io::stdin().lock().lines() {
        let line = line.context("stdin cannot be read")?;
        let (word, number) = line.trim().split_once(' ').unwrap_or((line.trim(), "1"));
        let index = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        let Some((index, slot)) = index.and_then(|index| Some((index, nodes.get_mut(index)?))) else {
            bail!("there is no node {number}");
        };
        match (word, slot.take()) {
            ("kill", Some(node)) => {
                node.kill()?;
                say(&format_args!("killed {number}"));
            }
            ("start", None) => {
                let node = Node::start(kit, &plans[index])?;
                say(&node);
                *slot = Some(node);
            }
            ("kill" | "start", _) => bail!("{word} {number}: it is so already"),
            _ => bail!("{word}: not known; `kill N` or `start N`"),
        }
    }
    // Their data goes too: nothing is worth a drain.
    nodes.into_iter().flatten().try_for_each(Node::kill)
}

/// A line for whoever started this; when nobody reads any more the end of stdin tells it soon enough.
fn say(what: &dyn std::fmt::Display) {
    let _nobody_reads = writeln!(std::io::stdout(), "{what}");
}

fn stop(workspace: &Workspace, options: &StopOptions) -> Result<()> {
    let base = workspace.scratch("cassandra")?;
    let names = if options.all { folders(&base) } else { vec![base.join(&options.name)] };
    let mut found = false;
    for folder in names.iter().flat_map(|name| folders(name)) {
        if let Some((pid, took)) = node::stop(&folder)? {
            found = true;
            println!("stopped pid={pid} after={} folder={}", seconds(took), folder.display());
        }
    }
    if !found {
        println!("nothing runs");
    }
    Ok(())
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heaps_are_read_in_mib() {
        assert_eq!(heap("512m"), Ok(512));
        assert_eq!(heap("2G"), Ok(2048));
        for bad in ["", "m", "512", "512k", "64m", "5000000g", "\u{e9}"] {
            assert!(heap(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_stay_in_their_folder() {
        assert!(name("ring-2").is_ok());
        for bad in ["", "..", "a/b", "a b", &"x".repeat(41)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_are_loopback_and_stay_with_their_folder() {
        let of = |folder: &str| free_range(Path::new(folder), 3, 9042).unwrap();
        assert_eq!(of("/a/target/xtask/cassandra/node"), of("/a/target/xtask/cassandra/node"));
        assert_ne!(of("/a/target/xtask/cassandra/node"), of("/b/target/xtask/cassandra/node"));
        assert!(of("/c").is_loopback() && of("/c").octets()[3] == 1);
    }

    #[test]
    fn an_address_that_is_taken_is_not_given() {
        let folder = Path::new("/weir/test/of/a/taken/address");
        let first = free_range(folder, 3, 9042).unwrap();
        let [a, b, c, _] = first.octets();
        let _taken = std::net::TcpListener::bind((Ipv4Addr::new(a, b, c, 3), node::STORAGE_PORT)).unwrap();
        assert_ne!(free_range(folder, 3, 9042).unwrap(), first);
        assert_eq!(free_range(folder, 2, 9042).unwrap(), first, "the third address is not asked for");
    }
}
