//! What no throughput shows: upstream sockets, memory around large requests, and the time after a node's restart.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::HUGE;
use super::cases::Contender;
use super::measure::{KEYSPACES, ROWS, Rig, failures};
use crate::proc;
use crate::scenario::{Scenario, number};
use crate::servers::{self, Door, Server, Weir};
use crate::workspace::Workspace;

/// Clients of the socket count.
pub const CLIENTS: u32 = 200;

/// How long after the load memory is read.
const AFTER: Duration = Duration::from_secs(10);

/// Time from the first SELECT of a probe to the kill, and from the ready node to the probe's end.
const AROUND: Duration = Duration::from_secs(2);
const RECOVERY: f64 = 10.0;

/// Time a node's restart may take within a probe.
const RESTART: f64 = 40.0;

/// Sockets to the node with 200 clients: without a keyspace, and with 20 by USE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sockets {
    pub plain: usize,
    pub keyspaces: usize,
}

/// Resident memory, KiB.
#[derive(Clone, Copy, Debug)]
pub struct MemoryUse {
    pub idle: u64,
    pub peak: u64,
    pub after: u64,
}

/// How a restart was seen through one contender.
#[derive(Clone, Copy, Debug)]
pub struct Recovery {
    /// Seconds from the node's readiness to the first good answer; negative when the answer came first.
    pub seconds: f64,
    pub reconnects: u64,
    pub failed: u64,
}

/// Counts what a contender opens towards the node.
pub fn sockets(rig: &Rig, contender: Contender) -> Result<Sockets> {
    let mut counts = [0; 2];
    for (count, keyspaces) in counts.iter_mut().zip([0, KEYSPACES]) {
        let hold = Scenario::of("cql-hold", &rig.address(contender), ROWS).with("--connections", CLIENTS);
        let mut hold = hold.with("--keyspaces", keyspaces).seconds(2.0).start(&rig.scenario)?;
        while hold.news().is_empty() && hold.lives()? {
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(300));
        let pid = rig.proxy(contender).map_or(hold.pid(), Server::pid);
        *count = proc::connections_to(pid, rig.cassandra.address().port());
        let report = hold.finish()?;
        anyhow::ensure!(number(&report, "failed")? == 0.0, "clients failed: {report}");
    }
    Ok(Sockets { plain: counts[0], keyspaces: counts[1] })
}

/// Memory of a fresh proxy around 4 clients of IN 15,000.
pub fn memory(
    workspace: &Workspace,
    rig: &Rig,
    contender: Contender,
    seconds: f64,
) -> Result<Option<MemoryUse>> {
    let node = rig.cassandra.address();
    let server: Server = match contender {
        Contender::Direct => return Ok(None),
        Contender::Raw => servers::raw_proxy(workspace, Door::free_port()?, node)?,
        Contender::CqlProxy | Contender::Shotover => rig.peers.another(workspace, contender, node)?,
        Contender::Weir => Weir::start_cql(workspace, "cql-memory", Door::free_port()?, node)?.server,
    };
    std::thread::sleep(Duration::from_secs(1));
    let idle = proc::memory(server.pid())?.resident;
    let load = Scenario::of("cql-load", &server.door.to_string(), ROWS).with("--connections", 4);
    failures(&load.with("--keys-per-get", HUGE).seconds(seconds * 2.0).run(&rig.scenario)?)?;
    std::thread::sleep(AFTER);
    let memory = proc::memory(server.pid())?;
    server.stop();
    Ok(Some(MemoryUse { idle, peak: memory.peak, after: memory.resident }))
}

/// Kills the node and starts it again while a client of each contender asks on.
pub fn restart(rig: &mut Rig) -> Result<BTreeMap<Contender, Recovery>> {
    let mut probes = Vec::new();
    for contender in rig.contenders() {
        let probe = Scenario::of("cql-probe", &rig.address(contender), ROWS).with("--timeout", 2);
        probes.push((contender, probe.seconds(RESTART).start(&rig.scenario)?));
    }
    std::thread::sleep(AROUND);
    rig.cassandra.kill()?;
    std::thread::sleep(AROUND / 2);
    rig.cassandra.start_again()?;
    let ready = now();
    let mut seen = BTreeMap::new();
    for (contender, probe) in probes {
        let report = probe.finish()?;
        let noticed = number(&report, "failed")? > 0.0;
        anyhow::ensure!(noticed || contender.is_peer(), "{} did not notice the kill", contender.name());
        let again = number(&report, "works_again").unwrap_or(f64::INFINITY);
        seen.insert(
            contender,
            Recovery {
                seconds: again - ready,
                reconnects: number(&report, "reconnects")? as u64,
                failed: number(&report, "failed")? as u64,
            },
        );
    }
    anyhow::ensure!(
        now() - ready >= RECOVERY,
        "the node took so long to start that recovery was not watched for {RECOVERY} s"
    );
    Ok(seen)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}
