//! One act, told by this program started again, inside a network namespace where there is one: gather everybody, an ordinary
//! day, the storm; with weir also what weir says of it.

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::cast::Cast;
use super::ending;
use super::phase::{Phase, PhaseReport};
use super::words::{self, Words};
use crate::netns::{self, Isolation};
use crate::proc::Others;
use crate::servers;
use crate::workspace::{Profile, Workspace};

/// Local ports, first and last: enough for the connections that the data plane of April makes on an ordinary day, a port for a
/// minute each, and few enough that running out of them takes seconds. The usual ports of servers are not among them.
pub const PORTS: (u16, u16) = (20_000, 31_999);

/// How the data plane is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Act {
    /// The bug of April, nothing in front of it and nothing behind.
    Unbounded,
    /// The bounded one, weir on every leg.
    Weir,
}

impl Act {
    pub fn name(self) -> &'static str {
        match self {
            Act::Unbounded => "unbounded",
            Act::Weir => "weir",
        }
    }
}

/// Arguments of the hidden command that runs one act.
#[derive(Clone, Debug, clap::Args)]
pub struct ActArgs {
    act: Act,
    #[arg(long)]
    pub seconds: u32,
    /// Accounts of the world.
    #[arg(long)]
    pub users: u32,
    /// The list of what is in it.
    #[arg(long)]
    pub world: PathBuf,
    /// Where the report goes.
    #[arg(long)]
    pub report: PathBuf,
    /// Ways to servers that were there before.
    #[arg(long)]
    pub memcached: Option<String>,
    #[arg(long)]
    pub cql: Option<String>,
    /// Where the database is outside: it tells its clients to go there, so there it must be inside, too.
    #[arg(long)]
    pub node: Option<SocketAddrV4>,
    /// This process is alone in a network namespace, entered in this way.
    #[arg(long)]
    pub isolated: Option<Isolation>,
    /// Print the ending, and leave everything running until Ctrl-C.
    #[arg(long)]
    pub keep: bool,
    /// The other act's report, for the ending.
    #[arg(long)]
    pub beside: Option<PathBuf>,
}

impl ActArgs {
    pub fn with_weir(&self) -> bool {
        self.act == Act::Weir
    }
}

/// What an act came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ActReport {
    pub storage: String,
    pub ordinary: PhaseReport,
    pub storm: PhaseReport,
    /// Part of the machine's CPU time, 0 to 1, that programs other than the demo's took meanwhile.
    pub others: f64,
    pub words: Option<Words>,
}

/// Runs one act and writes its report.
pub fn run(workspace: &Workspace, args: &ActArgs) -> Result<()> {
    servers::raise_open_files();
    if args.isolated.is_some() {
        netns::set_up_with_ports(PORTS.0, PORTS.1)?;
    }
    let program = workspace.binary(Profile::Release, "weir-scenario")?;
    let mut cast = Cast::gather(workspace, args)?;
    let before = Others::watch(&cast.pids());
    let seconds = f64::from(args.seconds);
    let phase =
        |label, seconds, storm| Phase { program: &program, world: &args.world, label, seconds, storm };
    let mut report = ActReport { storage: cast.storage.clone(), ..ActReport::default() };
    report.ordinary = phase("[1/2]", seconds, false).run(&mut cast)?;
    cast.plane.must_serve()?;
    report.storm = phase("[2/2]", 2.0 * seconds, true).run(&mut cast)?;
    report.words = cast.weir.as_ref().map(words::ask).transpose()?;
    report.others = Others::watch(&cast.pids()).share_since(before);
    std::fs::write(&args.report, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("cannot write {}", args.report.display()))?;
    if args.keep {
        let beside = args.beside.as_deref().map(super::read_report).transpose()?;
        print!("{}", ending::ending(beside.as_ref(), &report));
        keep(args, &cast);
    }
    Ok(())
}

/// Leaves everything running until Ctrl-C.
fn keep(args: &ActArgs, cast: &Cast) {
    println!("\nEverything runs on; Ctrl-C ends it. To look around:");
    if let Some(weir) = &cast.weir {
        println!("  export WEIR_ADMIN=unix:{}", weir.admin.display());
        println!("  target/release/weir top --once");
        println!("  target/release/weir request");
    }
    // Whoever is asked by its port is asked inside the namespace.
    let inside = args.isolated.map_or_else(String::new, |isolation| isolation.join(cast.plane.pid()) + " ");
    if let Some(weir) = &cast.weir {
        println!("  {inside}curl -s {}/metrics                    weir", weir.metrics);
    }
    println!("  {inside}curl -s {}/metrics                    the data plane", cast.plane_metrics);
    println!(
        "  {inside}target/release/weir-scenario rpc-mix --server {} --world {} --caller somebody",
        cast.front,
        args.world.display()
    );
    loop {
        std::thread::sleep(Duration::from_secs(3_600));
    }
}
