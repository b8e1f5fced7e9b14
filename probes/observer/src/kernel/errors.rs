//! The probe `errors`: bind(2) and connect(2) that failed, by process, errno and place.

use super::machine::Machine;
use super::maps::{hash, hash_mut};
use super::past::{Past, comm};
use super::probe::{Probe, TO_LIVE, TO_LOAD, tracepoint};
use super::record::{Patch, Raw};
use super::refusal::Refusal;
use crate::picture::{Call, Destination, ErrorCount, Process};
use crate::processes::names::Names;
use aya::Ebpf;
use aya::maps::MapError;
use std::collections::BTreeSet;
use weir_probes_abi::errors::{FailureKey, Failures};
use weir_probes_abi::settings::{BIND, CONNECT, CallFields, ERRNOS, RECORD};
use weir_probes_abi::{Endpoint, lost};

/// Errnos of bind(2) that are counted: no port is left, the port or the address is taken, not there, or not allowed.
const OF_BIND: &[i32] = &[libc::EADDRINUSE, libc::EADDRNOTAVAIL, libc::EACCES];

/// Errnos of connect(2) that are counted. Left out are those of calls that go on (EINPROGRESS, EALREADY, EISCONN,
/// EINTR) and those of programming errors; Unix sockets, whose ENOENT is many a host's noise, never get here.
const OF_CONNECT: &[i32] = &[
    libc::EADDRNOTAVAIL,
    libc::EADDRINUSE,
    libc::EAGAIN,
    libc::ECONNREFUSED,
    libc::ECONNRESET,
    libc::ETIMEDOUT,
    libc::ENETUNREACH,
    libc::EHOSTUNREACH,
    libc::EACCES,
    libc::EPERM,
];

/// See the module.
pub const PROBE: Probe = Probe {
    name: "errors",
    loses: "which process fails to bind or connect, with which errno, towards which destination",
    feature: "tracepoints syscalls/sys_exit_bind and sys_exit_connect; bpf_task_pt_regs (5.15)",
    to_load: TO_LOAD,
    to_live: TO_LIVE,
    programs: &["bind_failed", "connect_failed"],
    shared: &[],
    maps: &["ERRORS"],
    lost: &[lost::ERRORS],
    prepare,
    attach: |ebpf, _, _| {
        tracepoint(ebpf, "bind_failed", "syscalls", "sys_exit_bind")?;
        tracepoint(ebpf, "connect_failed", "syscalls", "sys_exit_connect")
    },
};

fn prepare(machine: &Machine) -> Result<Vec<Patch>, Refusal> {
    let tracefs = machine.tracefs()?;
    let bind = tracefs.format("syscalls", "sys_exit_bind")?.offset("ret", 8, RECORD)?;
    let connect = tracefs.format("syscalls", "sys_exit_connect")?.offset("ret", 8, RECORD)?;
    if bind != connect {
        return Err(Refusal::Unsupported("the exits of two system calls have different records".to_owned()));
    }
    Ok(vec![Patch::of("CALL_FIELDS", CallFields { ret: bind, second_argument: machine.second_argument })])
}

/// Which errnos are counted, as the programs look them up.
#[must_use]
pub fn counted() -> [[u64; (ERRNOS / 64) as usize]; 2] {
    let mut bits = [[0; (ERRNOS / 64) as usize]; 2];
    for (call, errnos) in [(BIND, OF_BIND), (CONNECT, OF_CONNECT)] {
        for errno in errnos.iter().map(|errno| errno.unsigned_abs()) {
            bits[call as usize][errno as usize / 64] |= 1 << (errno % 64);
        }
    }
    bits
}

/// Makes the entries that count what finds no room.
///
/// # Errors
///
/// When the map cannot be written.
pub fn make_room(ebpf: &mut Ebpf) -> Result<(), MapError> {
    let Some(map) = ebpf.map_mut("ERRORS") else { return Ok(()) };
    let mut map = aya::maps::HashMap::<_, Raw<FailureKey>, Raw<Failures>>::try_from(map)?;
    let none = Failures { count: 0, uid: 0, zero: 0, comm: [0; 16] };
    for (call, errnos) in [(BIND, OF_BIND), (CONNECT, OF_CONNECT)] {
        for errno in errnos {
            let key =
                FailureKey { process: 0, errno: *errno as u16, call: call as u16, place: Endpoint::NOWHERE };
            map.insert(Raw(key), Raw(none), 0)?;
        }
    }
    Ok(())
}

/// Failures of processes that have ended. Their keys name no process.
#[derive(Clone, Debug, Default)]
pub struct Ended(Past<FailureKey, u64>);

/// Processes that have an entry.
///
/// # Errors
///
/// When the map cannot be read.
pub fn processes(ebpf: &Ebpf) -> Result<BTreeSet<u32>, MapError> {
    let keys = hash::<FailureKey, Failures>(ebpf, "ERRORS")?;
    let mut processes: BTreeSet<u32> =
        keys.keys().map(|key| key.map(|key| key.0.process)).collect::<Result<_, _>>()?;
    processes.remove(&0); // the loader's entries stay
    Ok(processes)
}

/// Takes the entries of these processes, which have ended, out of the map: none of their threads counts there any more.
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
    let mut map = hash_mut::<FailureKey, Failures>(ebpf, "ERRORS")?;
    let gone: Vec<_> =
        map.iter().filter_map(Result::ok).filter(|(key, _)| gone.contains(&key.0.process)).collect();
    for (Raw(key), Raw(failures)) in gone {
        map.remove(&Raw(key))?;
        let mut process = process(&key, &failures);
        names.name(&mut process);
        ended.0.add(process, FailureKey { process: 0, ..key }, failures.count, |sum, count| *sum += count);
    }
    Ok(())
}

/// What the probe has counted since it was attached, by process; of those that have ended by name.
///
/// # Errors
///
/// When the map cannot be read.
pub fn read(ebpf: &Ebpf, ended: &Ended) -> Result<Vec<ErrorCount>, MapError> {
    let map = hash::<FailureKey, Failures>(ebpf, "ERRORS")?;
    let mut counts = Vec::new();
    for entry in map.iter() {
        let (Raw(key), Raw(failures)) = entry?;
        if failures.count > 0 {
            counts.push((key, shown(key, process(&key, &failures), failures.count)));
        }
    }
    let past = ended.0.iter().map(|(process, key, count)| (key, shown(key, process, *count)));
    counts.extend(past);
    counts.sort_by_key(|(key, _)| *key); // the map's order is that of its hash
    Ok(counts.into_iter().map(|(_, count)| count).collect())
}

fn process(key: &FailureKey, failures: &Failures) -> Process {
    Process {
        pid: key.process,
        comm: comm(&failures.comm),
        // Of those that found no room nothing is known.
        uid: (key.process != 0).then_some(failures.uid),
        ..Process::default()
    }
}

fn shown(key: FailureKey, process: Process, failures: u64) -> ErrorCount {
    ErrorCount {
        call: if u32::from(key.call) == BIND { Call::Bind } else { Call::Connect },
        errno: i32::from(key.errno),
        process,
        destination: if key.place == Endpoint::NOWHERE {
            Destination::Other
        } else if key.place == Endpoint::v4([127, 0, 0, 0], key.place.port) {
            Destination::One(format!("127.0.0.0/8:{}", key.place.port))
        } else {
            key.place.into()
        },
        failures,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errnos_of_the_incident_are_counted_and_noise_is_not() {
        let [bind, connect] = counted();
        let has = |bits: [u64; 3], errno: i32| bits[errno as usize / 64] & (1 << (errno % 64)) != 0;
        assert!(has(bind, libc::EADDRINUSE) && has(connect, libc::EADDRNOTAVAIL));
        for errno in [libc::EINPROGRESS, libc::ENOENT, libc::EINTR, libc::EBADF] {
            assert!(!has(connect, errno) && !has(bind, errno), "{errno}");
        }
    }

    #[test]
    fn a_failure_reads_as_process_and_place() {
        let mut comm = [0; 16];
        comm[..7].copy_from_slice(b"gomemca");
        let failures = Failures { count: 30, uid: 1000, zero: 0, comm };
        let key = |process, address: [u8; 4], port| FailureKey {
            process,
            errno: libc::EADDRINUSE as u16,
            call: BIND as u16,
            place: Endpoint::v4(address, port),
        };
        let shown = |key: FailureKey| shown(key, process(&key, &failures), failures.count);
        let count = shown(key(7, [127, 0, 0, 1], 0));
        assert_eq!((count.call, count.failures, count.destination.label()), (Call::Bind, 30, "127.0.0.1:0"));
        assert_eq!((count.process.comm.as_str(), count.process.uid), ("gomemca", Some(1000)));
        assert_eq!(shown(key(7, [127, 0, 0, 0], 0)).destination.label(), "127.0.0.0/8:0");
        let folded = FailureKey { place: Endpoint::NOWHERE, ..key(0, [0; 4], 0) };
        assert_eq!(shown(folded).destination, Destination::Other);
        assert_eq!(shown(folded).process.uid, None);
    }
}
