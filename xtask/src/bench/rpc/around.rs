//! What no throughput shows: connections to the service, and memory around the largest calls.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::cases::Contender;
use super::rig::{Proxy, Rig};
use crate::bench::frame::failures;
use crate::proc;
use crate::scenario::{Scenario, number};
use crate::servers::Server;
use crate::workspace::Workspace;

/// Keys of the largest calls.
const LARGEST: u32 = 70_000;

/// Clients of the connection count.
const CLIENTS: u32 = 200;

/// Connections to the service: with one client, with 64 calls at once on one, with [`CLIENTS`] clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    pub one: usize,
    pub at_once: usize,
    pub clients: usize,
}

/// Memory of a process, KiB, and the messages that passed, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    pub idle: u64,
    pub peak: u64,
    pub request: u64,
    pub reply: u64,
}

impl MemoryUse {
    /// The peak above idle, as so many times the larger message.
    pub fn times(&self) -> f64 {
        self.peak.saturating_sub(self.idle) as f64 * 1_024.0 / self.request.max(self.reply).max(1) as f64
    }
}

/// Counts what a contender opens towards the service.
pub fn connections(rig: &Rig, contender: Contender) -> Result<Connections> {
    let count = |load: Scenario| -> Result<usize> {
        let load = load.with("--pause-ms", 2).seconds(1.0).start(&rig.scenario)?;
        std::thread::sleep(Duration::from_secs(1));
        let pid = rig.quick.proxy(contender).map_or(load.pid(), Server::pid);
        let count = proc::connections_to(pid, rig.quick.service.door.port());
        failures(&load.finish()?)?;
        Ok(count)
    };
    let load = || rig.quick.load(contender);
    Ok(Connections {
        one: count(load())?,
        at_once: count(load().with("--depth", 64))?,
        clients: count(load().flag("--connect").with("--connections", CLIENTS))?,
    })
}

/// Memory of a fresh proxy before and at the height of calls for [`LARGEST`] keys, one at a time.
pub fn memory(workspace: &Workspace, rig: &Rig, contender: Contender, seconds: f64) -> Result<MemoryUse> {
    let proxy = Proxy::start(workspace, "memory", contender, &rig.quick.service.door)?;
    let proxy = proxy.context("there is no proxy to measure")?;
    let server = proxy.server();
    let load = |keys: u32, seconds: f64| {
        let load = Scenario::of("rpc-load", &server.door.to_string(), LARGEST).with("--keys-per-call", keys);
        load.with("--warmup", 0).seconds(seconds).run(&rig.scenario)
    };
    // Tables are read, connections and threads are there.
    failures(&load(20, 0.5)?)?;
    std::thread::sleep(Duration::from_millis(500));
    // What starting took is not what calls take: the high-water mark begins anew.
    std::fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").context("the high-water mark")?;
    let idle = proc::memory(server.pid())?.resident;
    let report = load(LARGEST, seconds)?;
    failures(&report)?;
    ensure!(number(&report, "operations")? > 0.0, "no call ended in the measured time");
    let peak = proc::memory(server.pid())?.peak;
    let bytes = |name| number(&report, name).map(|bytes| bytes as u64);
    Ok(MemoryUse { idle, peak, request: bytes("request_bytes")?, reply: bytes("reply_bytes")? })
}
