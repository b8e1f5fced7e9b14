//! One side of the story: start the backend (and weir), store the keys, an ordinary load, the storm in its two forms;
//! with weir also who it was, and the storm once more after the command that caps it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::culprit::{self, Culprit};
use super::stage::{Stage, StageReport, Storm};
use super::table;
use super::witness::Witness;
use crate::netns::Isolation;
use crate::proc::{self, Others};
use crate::scenario::Scenario;
use crate::servers::{self, Door, Server, Weir};
use crate::workspace::{Profile, Workspace};

/// Without or with weir.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Side {
    Direct,
    Weir,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Side::Direct => "direct",
            Side::Weir => "weir",
        }
    }
}

/// Arguments of the hidden command that runs one side.
#[derive(Clone, Debug, clap::Args)]
pub struct SideArgs {
    side: Side,
    #[arg(long)]
    seconds: u32,
    /// Where the report goes.
    #[arg(long)]
    report: PathBuf,
    /// This process is alone in a network namespace, entered in this way.
    #[arg(long)]
    pub isolated: Option<Isolation>,
    /// weir-probes beside it.
    #[arg(long)]
    probes: bool,
    /// Print the table against this report of the other side, and leave everything running until Ctrl-C.
    #[arg(long)]
    keep_beside: Option<PathBuf>,
}

/// What one side saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SideReport {
    pub backend: String,
    pub ordinary: StageReport,
    /// `None` where no namespace may be had.
    pub connections: Option<StageReport>,
    pub multiget: StageReport,
    /// Part of the machine's CPU time, 0 to 1, that programs other than the demo's took meanwhile.
    pub others: f64,
    /// weir's memory in KiB before any load.
    pub weir_idle: Option<u64>,
    pub culprit: Option<Culprit>,
    /// The storm after the cap.
    pub capped: Option<StageReport>,
}

/// Runs one side and writes its report.
pub fn run(workspace: &Workspace, args: &SideArgs) -> Result<()> {
    let program = workspace.binary(Profile::Release, "weir-scenario")?;
    // Alone in a namespace the usual ports are free; they also lie outside its range of local ports.
    let isolated = args.isolated.is_some();
    let door = |usual| if isolated { Ok(Door::Tcp(usual)) } else { Door::free_port() };
    let (backend, backend_name) = match servers::memcached(workspace, door(11_211)?)? {
        Some(server) => (server, "memcached"),
        None => (servers::devstore(workspace, door(11_211)?)?, "weir-devstore"),
    };
    let weir = match args.side {
        Side::Direct => None,
        Side::Weir => Some(Weir::start(workspace, "demo", door(11_311)?, &backend.door)?),
    };
    let mut report = SideReport { backend: backend_name.into(), ..SideReport::default() };
    if let Some(weir) = &weir {
        report.weir_idle = Some(proc::memory(weir.server.pid())?.resident);
    }
    println!("  storing {} keys", crate::report::thousands(u64::from(crate::scenario::KEYS)));
    Scenario::new("fill", &backend.door.to_string()).run(&program).context("storing the keys")?;

    let witness = args.probes.then(|| Witness::start(workspace, &backend.door)).transpose()?;
    let mut servers = vec![backend.pid()];
    servers.extend(weir.as_ref().map(|weir| weir.server.pid()));
    servers.extend(witness.iter().flat_map(Witness::pids));
    let before = Others::watch(&servers);
    let phases = 2 + u32::from(isolated) + u32::from(weir.is_some());
    let mut number = 0;
    let mut stage = |storm: Option<Storm>| {
        number += 1;
        let label = format!("[{number}/{phases}]");
        run_stage(&program, args, &backend, (weir.as_ref(), witness.as_ref()), label, storm)
    };
    report.ordinary = stage(None)?;
    // The multigets come first: the ports that the other form uses up stay used for a minute.
    report.multiget = stage(Some(Storm::Multiget))?;
    if isolated {
        report.connections = Some(stage(Some(Storm::Connections))?);
    }
    if let Some(weir) = &weir {
        let culprit = culprit::name(weir)?;
        println!("{}", culprit.explained);
        println!("  running: {}", culprit.command);
        culprit::cap(workspace, weir, &culprit)?;
        report.culprit = Some(culprit);
        report.capped = Some(stage(Some(Storm::Multiget))?);
    }
    report.others = Others::watch(&servers).share_since(before);
    std::fs::write(&args.report, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("cannot write {}", args.report.display()))?;
    if let (Some(beside), Some(weir)) = (&args.keep_beside, &weir) {
        print!("{}", table::ending(&super::read_report(beside)?, &report));
        keep(args, weir);
    }
    Ok(())
}

fn run_stage(
    program: &std::path::Path,
    args: &SideArgs,
    backend: &Server,
    (weir, witness): (Option<&Weir>, Option<&Witness>),
    label: String,
    storm: Option<Storm>,
) -> Result<StageReport> {
    let front = weir.map_or(backend, |weir| &weir.server);
    let stage = Stage {
        program,
        label,
        server: front.door.to_string(),
        backend_port: backend.door.port(),
        front_port: front.door.port(),
        processes: (weir.map(|weir| weir.server.pid()), backend.pid()),
        seconds: f64::from(args.seconds),
        storm,
        witness,
    };
    stage.run()
}

/// Leaves everything running until Ctrl-C.
fn keep(args: &SideArgs, weir: &Weir) {
    println!("\nmemcached and weir run on; Ctrl-C ends them. weir's control socket:");
    println!("  export WEIR_ADMIN=unix:{}", weir.admin.display());
    println!("  target/release/weir top --once");
    if let Some(isolation) = args.isolated {
        println!("Its ports are in a network namespace; for example:");
        println!("  {} curl -s {}/metrics", isolation.join(weir.server.pid()), weir.metrics);
    } else {
        println!("  curl -s {}/metrics", weir.metrics);
    }
    loop {
        std::thread::sleep(Duration::from_secs(3_600));
    }
}
