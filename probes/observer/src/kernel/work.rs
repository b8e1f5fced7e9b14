//! The probe `work`: what processes ask of watched destinations themselves. An estimate; see `weir_probes_abi::scan` for what
//! is counted and what stays unseen.

use super::machine::Machine;
use super::maps::{self, Slots};
use super::past::{Past, comm};
use super::probe::{Probe, TO_LIVE, TO_LOAD, btf_tracepoint};
use super::record::{Patch, Raw};
use super::refusal::Refusal;
use super::requests::sizes;
use super::states;
use crate::picture::{BypassWork, Process};
use crate::processes::names::Names;
use aya::Ebpf;
use aya::maps::MapError;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeSet;
use weir_probes_abi::work::{SendFields, Work, WorkKey};
use weir_probes_abi::{lost, requests};

const PROGRAM: &str = "work";
const HOOK: &str = "sock_send_length";

/// `rdx` of `struct pt_regs` and `x2` of `struct user_pt_regs`, bytes: see `Machine::second_argument`.
const THIRD_ARGUMENT: u16 = if cfg!(target_arch = "x86_64") { 12 * 8 } else { 16 };

/// See the module.
pub const PROBE: Probe = Probe {
    name: "work",
    loses: "requests and operations of processes that ask storage without weir",
    feature: "tracepoint sock/sock_send_length (6.3) and the kernel's types (BTF)",
    to_load: TO_LOAD,
    to_live: TO_LIVE,
    programs: &[PROGRAM],
    shared: &[],
    maps: &["WORK"],
    lost: &[lost::WORK],
    prepare,
    attach: |ebpf, _, _| btf_tracepoint(ebpf, PROGRAM, HOOK),
};

fn prepare(machine: &Machine) -> Result<Vec<Patch>, Refusal> {
    let types = machine.types()?;
    let call = |number: libc::c_long| {
        u16::try_from(number)
            .map_err(|_| Refusal::Unsupported(format!("system call {number} has too large a number")))
    };
    let fields = SendFields {
        call: types.offset("pt_regs", if cfg!(target_arch = "x86_64") { "orig_ax" } else { "syscallno" })?,
        second: machine.second_argument,
        third: THIRD_ARGUMENT,
        write: call(libc::SYS_write)?,
        writev: call(libc::SYS_writev)?,
        sendto: call(libc::SYS_sendto)?,
        sendmsg: call(libc::SYS_sendmsg)?,
        zero: 0,
    };
    Ok(vec![Patch::of("SEND_FIELDS", fields), states::sockets(machine)?])
}

/// Work of processes that have ended.
#[derive(Clone, Debug, Default)]
pub struct Ended(Past<u32, Work>);

/// Processes that have an entry.
///
/// # Errors
///
/// When the map cannot be read.
pub fn processes(ebpf: &Ebpf) -> Result<BTreeSet<u32>, MapError> {
    maps::per_cpu_hash::<WorkKey, Work>(ebpf, "WORK")?
        .keys()
        .map(|key| key.map(|key| key.0.process))
        .collect()
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
    let mut map = maps::per_cpu_hash_mut::<WorkKey, Work>(ebpf, "WORK")?;
    let gone: Vec<WorkKey> = map
        .keys()
        .filter_map(Result::ok)
        .map(|key| key.0)
        .filter(|key| gone.contains(&key.process))
        .collect();
    for key in gone {
        let work = sum(map.get(&Raw(key), 0)?.iter().map(|raw| raw.0));
        map.remove(&Raw(key))?;
        let mut process = process(key, &work);
        names.name(&mut process);
        ended.0.add(process, key.slot, work, |sum, work| sum.add(&work));
    }
    Ok(())
}

fn process(key: WorkKey, work: &Work) -> Process {
    Process { pid: key.process, comm: comm(&work.comm), uid: Some(work.uid), ..Process::default() }
}

/// Work since the probe was attached, by process; of those that have ended by name.
///
/// # Errors
///
/// When the map cannot be read.
pub fn read(ebpf: &Ebpf, slots: &Slots, ended: &Ended) -> Result<Vec<BypassWork>, MapError> {
    let now = clock_gettime(ClockId::Monotonic);
    let now = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
    let mut seen = Vec::new();
    for entry in maps::per_cpu_hash::<WorkKey, Work>(ebpf, "WORK")?.iter() {
        let (Raw(key), cpus) = entry?;
        let work = sum(cpus.iter().map(|raw| raw.0));
        seen.push(shown(process(key, &work), slots, key.slot, &work, now));
    }
    seen.extend(ended.0.iter().map(|(process, slot, work)| shown(process, slots, slot, work, now)));
    seen.sort_by(|one, two| (&one.destination, &one.process).cmp(&(&two.destination, &two.process)));
    Ok(seen)
}

fn shown(process: Process, slots: &Slots, slot: u32, work: &Work, now: u64) -> BypassWork {
    BypassWork {
        destination: slots.of(slot),
        process,
        requests: work.requests,
        operations: work.operations,
        sizes: sizes(&work.sizes, work.operations),
        largest_last_minute: work.largest_at(now),
        bytes: work.bytes,
        writes: work.writes,
        unseen: work.unseen,
    }
}

fn sum(cpus: impl Iterator<Item = Work>) -> Work {
    cpus.fold(Work::ZERO, |mut all, one| {
        all.add(&one);
        all
    })
}

const _: () = assert!(requests::BUCKETS == Work::ZERO.sizes.len(), "one set of bounds serves both");
