//! The probe `bypass`: processes that connect to watched destinations themselves.

use super::maps::{self, Slots, array, hash};
use super::past::{Past, comm};
use super::probe::{Probe, TO_LIVE, TO_LOAD};
use super::record::Raw;
use super::states;
use crate::picture::{BypassCount, Process};
use crate::processes::names::Names;
use aya::Ebpf;
use aya::maps::MapError;
use std::collections::BTreeSet;
use weir_probes_abi::bypass::{Caller, CallerKey};
use weir_probes_abi::fold;

/// See the module.
pub const PROBE: Probe = Probe {
    name: "bypass",
    loses: "which processes connect to storage without weir",
    feature: states::FEATURE,
    to_load: TO_LOAD,
    to_live: TO_LIVE,
    programs: &[],
    shared: states::PROGRAMS,
    maps: &["CALLERS"],
    // what finds no room counts without a name, see `read`
    lost: &[],
    prepare: states::prepare,
    attach: |ebpf, _, machine| states::attach(ebpf, machine),
};

/// Connections of processes that have ended.
#[derive(Clone, Debug, Default)]
pub struct Ended(Past<u32, u64>);

/// Processes that have an entry.
///
/// # Errors
///
/// When the map cannot be read.
pub fn processes(ebpf: &Ebpf) -> Result<BTreeSet<u32>, MapError> {
    hash::<CallerKey, Caller>(ebpf, "CALLERS")?.keys().map(|key| key.map(|key| key.0.process)).collect()
}

/// Takes the entries of these processes, which have ended, out of the map.
///
/// # Errors
///
/// When the map cannot be read or changed; what was taken out until then is kept.
pub fn sweep(
    ebpf: &mut Ebpf,
    ended: &mut Ended,
    gone: &BTreeSet<u32>,
    names: &mut Names,
) -> Result<(), MapError> {
    let mut callers = maps::hash_mut::<CallerKey, Caller>(ebpf, "CALLERS")?;
    let gone: Vec<_> =
        callers.iter().filter_map(Result::ok).filter(|(key, _)| gone.contains(&key.0.process)).collect();
    for (Raw(key), Raw(caller)) in gone {
        callers.remove(&Raw(key))?;
        let mut process = process(&key, &caller);
        names.name(&mut process);
        ended.0.add(process, key.slot, caller.connections, |sum, connections| *sum += connections);
    }
    Ok(())
}

fn process(key: &CallerKey, caller: &Caller) -> Process {
    Process { pid: key.process, comm: comm(&caller.comm), uid: Some(key.uid), ..Process::default() }
}

/// Connections since the probe was attached, by process; of those that have ended by name, and of those that found no room
/// as `_other`.
///
/// # Errors
///
/// When a map cannot be read.
pub fn read(ebpf: &Ebpf, slots: &Slots, ended: &Ended) -> Result<Vec<BypassCount>, MapError> {
    let mut counts = Vec::new();
    let mut count = |process, slot, connections| {
        if connections > 0 {
            counts.push(BypassCount { destination: slots.of(slot), process, connections });
        }
    };
    for entry in hash::<CallerKey, Caller>(ebpf, "CALLERS")?.iter() {
        let (Raw(key), Raw(caller)) = entry?;
        count(process(&key, &caller), key.slot, caller.connections);
    }
    ended.0.iter().for_each(|(process, slot, connections)| count(process, slot, *connections));
    let nameless = array::<u64>(ebpf, "NAMELESS")?;
    for slot in 0..fold::DESTINATIONS {
        let process = Process { comm: "_other".to_owned(), ..Process::default() };
        count(process, slot, nameless.get(&slot, 0)?.0);
    }
    counts.sort_by(|one, two| (&one.destination, &one.process).cmp(&(&two.destination, &two.process)));
    // one that was moved to another cgroup has an entry in each
    counts.dedup_by(|next, kept| {
        let same = (&next.destination, &next.process) == (&kept.destination, &kept.process);
        kept.connections += if same { next.connections } else { 0 };
        same
    });
    Ok(counts)
}
