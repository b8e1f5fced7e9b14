//! What no throughput shows: the memory a proxy keeps after storms, and 15,000 connections at once.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::cases::Contender;
use super::measure::{HUGE, Rig};
use crate::netns::{self, Isolation};
use crate::proc;
use crate::scenario::{Scenario, number};
use crate::servers::{self, Door, PrivateFolder, Server, Weir};
use crate::workspace::{Profile, Workspace};

/// Connections of the burst.
const BURST: u32 = 15_000;

/// The address that the burst over TCP binds to before it connects, as a client of April 2026 did.
const BOUND_SOURCE: &str = "127.32.0.1";

/// How long after the storms memory is read.
const AFTER: Duration = Duration::from_secs(10);

/// Resident memory in KiB around the storms, and upstream connections at their height.
#[derive(Clone, Copy, Debug)]
pub struct MemoryUse {
    pub idle: u64,
    pub peak: u64,
    pub after: u64,
    pub upstream_connections: usize,
}

/// Multigets of 15,000 keys by 1, 4 and 16 clients back to back, then 500 connections of depth 8.
pub fn memory(
    workspace: &Workspace,
    rig: &Rig,
    contender: Contender,
    seconds: f64,
) -> Result<Option<MemoryUse>> {
    // A fresh process: what earlier cases left behind is not what this one asks.
    let door = Door::free_port()?;
    let server = match contender {
        Contender::Direct => return Ok(None),
        Contender::Twemproxy => match servers::nutcracker(workspace, &rig.memcached.door)? {
            Some(server) => server,
            None => return Ok(None),
        },
        Contender::Weir => Weir::start(workspace, "memory", door, &rig.memcached.door)?.server,
    };
    std::thread::sleep(Duration::from_secs(1));
    let idle = proc::memory(server.pid())?.resident;
    let address = server.door.to_string();
    let mut upstream_connections = 0;
    for clients in [1, 4, 16] {
        let noise = Scenario::new("noise", &address)
            .with("--clients", clients)
            .with("--keys-min", HUGE)
            .with("--keys-max", HUGE)
            .seconds(seconds)
            .start(&rig.scenario)?;
        std::thread::sleep(Duration::from_secs_f64(seconds / 2.0));
        upstream_connections =
            upstream_connections.max(proc::connections_to(server.pid(), rig.memcached.door.port()));
        noise.finish()?;
    }
    let many = Scenario::new("load", &address).with("--connections", 500).with("--depth", 8);
    many.seconds(seconds).run(&rig.scenario)?;
    std::thread::sleep(AFTER);
    let memory = proc::memory(server.pid())?;
    server.stop();
    Ok(Some(MemoryUse { idle, peak: memory.peak, after: memory.resident, upstream_connections }))
}

/// How a burst went.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Burst {
    pub failed: u64,
    pub time_wait: u64,
    pub seconds: f64,
}

fn burst(program: &Path, scenario: Scenario) -> Result<Burst> {
    let report = scenario.with("--connections", BURST).run(program)?;
    let sockets = &report["sockets_after"];
    let waiting = ["towards", "at"].map(|side| sockets[side]["TIME_WAIT"].as_u64().unwrap_or(0));
    Ok(Burst {
        failed: number(&report, "calls_failed")? as u64 + number(&report, "missing")? as u64,
        time_wait: waiting.iter().sum(),
        seconds: number(&report, "burst_seconds")?,
    })
}

/// 15,000 connections at once. Over TCP: with an explicit source address in a range of 2,000 ports; over Unix sockets: all
/// open before the first asks. In a namespace of its own for each contender: ports that wait from one would hinder the
/// next, and the longest accept queue (net.core.somaxconn) can be what weir asks for. The error says why there is none.
pub fn burst_isolated(
    workspace: &Workspace,
    isolation: Isolation,
    kind: &str,
    contender: Contender,
) -> Result<Burst> {
    let name = format!("{kind}-{}", contender.name());
    let report = workspace.scratch("bench")?.join(format!("burst-{name}.json"));
    let _none_from_before = std::fs::remove_file(&report);
    let arguments = ["bench-burst", &name, &report.to_string_lossy()].map(str::to_owned);
    netns::run_self(isolation, &arguments, Duration::from_secs(180))?;
    let text = std::fs::read_to_string(&report).context("the burst left no report")?;
    Ok(serde_json::from_str(&text)?)
}

/// The part of [`burst_isolated`] that runs inside the namespace.
pub fn burst_inside(workspace: &Workspace, contender: &str, report: &Path) -> Result<()> {
    netns::set_up()?;
    let scenario = workspace.binary(Profile::Release, "weir-scenario")?;
    let folder = PrivateFolder::new("burst-doors")?;
    let unix = contender.starts_with("unix-");
    let door =
        if contender == "unix-direct" { Door::Unix(folder.file("direct.sock")) } else { Door::Tcp(11_211) };
    let memcached = servers::memcached(workspace, door)?.context("memcached is not installed")?;
    Scenario::new("fill", &memcached.door.to_string()).run(&scenario)?;
    let proxy: Option<Server> = match contender {
        "tcp-direct" | "unix-direct" => None,
        "tcp-twemproxy" => {
            Some(servers::nutcracker(workspace, &memcached.door)?.context("nutcracker is not installed")?)
        }
        "tcp-weir" => Some(Weir::start(workspace, "burst", Door::Tcp(11_311), &memcached.door)?.server),
        "unix-weir" => {
            let door = Door::Unix(folder.file("weir.sock"));
            Some(Weir::start(workspace, "burst", door, &memcached.door)?.server)
        }
        other => bail!("{other} is no contender"),
    };
    let door = proxy.as_ref().map_or(&memcached.door, |proxy| &proxy.door).to_string();
    let burst_of = Scenario::new("burst", &door);
    let burst_of = if unix { burst_of.flag("--hold") } else { burst_of.with("--source-bind", BOUND_SOURCE) };
    let result = burst(&scenario, burst_of)?;
    std::fs::write(report, serde_json::to_string(&result)?)?;
    Ok(())
}
