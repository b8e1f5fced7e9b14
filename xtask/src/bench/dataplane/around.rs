//! Memory around the largest calls, of fresh processes.

use std::time::Duration;

use anyhow::{Context, Result};

use super::cases::Contender;
use super::rig::{BATCH, NEIGHBOUR_KEYS, Rig, answered};
use super::stage::Stage;
use crate::proc;
use crate::workspace::Workspace;

/// Resident memory of a process, KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Before large calls.
    pub idle: u64,
    /// The most during them.
    pub peak: u64,
}

/// The processes of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub plane: MemoryUse,
    pub weir: Option<MemoryUse>,
}

/// Memory of a fresh data plane, and of a fresh weir, before and at the height of cold calls for [`BATCH`] keys.
pub fn memory(workspace: &Workspace, rig: &Rig, contender: Contender, seconds: f64) -> Result<Memory> {
    let stage = Stage::start(workspace, "memory", &rig.memcached.door, rig.cassandra.address())?;
    let load = |keys: u32, seconds: f64| -> Result<()> {
        let load = rig.cold(stage.load(contender, &rig.large), keys);
        let report = load.with("--warmup", 0).seconds(seconds).run(&rig.scenario)?;
        answered(&report)
    };
    // Statements are prepared, connections and threads are there.
    load(NEIGHBOUR_KEYS, 1.0)?;
    std::thread::sleep(Duration::from_millis(500));
    let pids = [Some(stage.plane(contender).server.pid()), stage.weir(contender).map(|weir| weir.pid())];
    let mut idle = [0; 2];
    for (idle, pid) in idle.iter_mut().zip(pids) {
        let Some(pid) = pid else { continue };
        // What starting took is not what calls take: the high-water mark begins anew.
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5").context("the high-water mark")?;
        *idle = proc::memory(pid)?.resident;
    }
    load(BATCH, seconds * 2.0)?;
    let used = |place: usize| -> Result<Option<MemoryUse>> {
        let Some(pid) = pids[place] else { return Ok(None) };
        Ok(Some(MemoryUse { idle: idle[place], peak: proc::memory(pid)?.peak }))
    };
    Ok(Memory { plane: used(0)?.context("a data plane")?, weir: used(1)? })
}
