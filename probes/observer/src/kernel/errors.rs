//! The probe `errors`: bind(2) and connect(2) that failed, by process, errno and place.

use super::machine::Machine;
use super::maps::hash;
use super::probe::{Probe, TO_LIVE, TO_LOAD, tracepoint};
use super::record::{Patch, Raw};
use super::refusal::Refusal;
use crate::picture::{Call, Destination, ErrorCount, Process};
use aya::Ebpf;
use aya::maps::MapError;
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
    maps: &["ERRORS"],
    lost: &[lost::ERRORS],
    prepare,
    attach: |ebpf, _| {
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

/// What the probe has counted since it was attached.
///
/// # Errors
///
/// When the map cannot be read.
pub fn read(ebpf: &Ebpf) -> Result<Vec<ErrorCount>, MapError> {
    let map = hash::<FailureKey, Failures>(ebpf, "ERRORS")?;
    let mut counts = Vec::new();
    for entry in map.iter() {
        let (Raw(key), Raw(failures)) = entry?;
        if failures.count > 0 {
            counts.push((key, shown(key, failures)));
        }
    }
    counts.sort_by_key(|(key, _)| *key); // the map's order is that of its hash
    Ok(counts.into_iter().map(|(_, count)| count).collect())
}

fn shown(key: FailureKey, failures: Failures) -> ErrorCount {
    let comm = failures.comm.split(|byte| *byte == 0).next().unwrap_or_default();
    ErrorCount {
        call: if u32::from(key.call) == BIND { Call::Bind } else { Call::Connect },
        errno: i32::from(key.errno),
        process: Process {
            pid: key.process,
            comm: String::from_utf8_lossy(comm).into_owned(),
            // Of those that found no room nothing is known.
            uid: (key.process != 0).then_some(failures.uid),
            ..Process::default()
        },
        destination: if key.place == Endpoint::NOWHERE {
            Destination::Other
        } else if key.place == Endpoint::v4([127, 0, 0, 0], key.place.port) {
            Destination::One(format!("127.0.0.0/8:{}", key.place.port))
        } else {
            key.place.into()
        },
        failures: failures.count,
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
        let count = shown(key(7, [127, 0, 0, 1], 0), failures);
        assert_eq!((count.call, count.failures, count.destination.label()), (Call::Bind, 30, "127.0.0.1:0"));
        assert_eq!((count.process.comm.as_str(), count.process.uid), ("gomemca", Some(1000)));
        assert_eq!(shown(key(7, [127, 0, 0, 0], 0), failures).destination.label(), "127.0.0.0/8:0");
        let folded = FailureKey { place: Endpoint::NOWHERE, ..key(0, [0; 4], 0) };
        assert_eq!(shown(folded, failures).destination, Destination::Other);
        assert_eq!(shown(folded, failures).process.uid, None);
    }
}
