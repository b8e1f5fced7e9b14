//! The hook of socket state changes, which several probes share: one program does the work of all that are wanted. It reads
//! the socket itself where the kernel tells its types, and else the record that the kernel makes for tracers.

use super::machine::Machine;
use super::probe::{btf_tracepoint, is_loaded, tracepoint, unload};
use super::record::Patch;
use super::refusal::Refusal;
use aya::Ebpf;
use weir_probes_abi::settings::{RECORD, StateFields};
use weir_probes_abi::states::{self as abi, SocketFields};

/// What the hook is, for the operator.
pub const FEATURE: &str =
    "tracepoint sock/inet_sock_set_state, by the kernel's types (BTF) or else by its format";

/// The program: by the kernel's types, and by the format of the tracepoint. One of them is loaded at most.
pub const PROGRAMS: &[&str] = &[BY_TYPES, BY_FORMAT];

/// The first of them.
pub const BY_TYPES: &str = "states";
const BY_FORMAT: &str = "states_by_format";

const CATEGORY: &str = "sock";
const TRACEPOINT: &str = "inet_sock_set_state";

/// Where the program finds what it reads.
///
/// # Errors
///
/// When neither the kernel's types nor the tracepoint's format tell all of it.
pub fn prepare(machine: &Machine) -> Result<Vec<Patch>, Refusal> {
    match (sockets(machine), format(machine)) {
        (Err(types), Err(format)) => Err(worse(types, format)),
        (sockets, format) => {
            let format = format.ok().map(|fields| Patch::of("STATE_FIELDS", fields));
            Ok(sockets.ok().into_iter().chain(format).collect())
        }
    }
}

/// Tells the program which of these probes it is to do the work of; names of others mean nothing.
#[must_use]
pub fn of_probes<'a>(names: impl Iterator<Item = &'a str>) -> Patch {
    Patch::of("STATE_PROBES", names.map(bit).fold(0, |all, one| all | one))
}

fn bit(probe: &str) -> u32 {
    match probe {
        "transitions" => abi::TRANSITIONS,
        "bypass" => abi::BYPASS,
        "witness" => abi::WITNESS,
        "connects" => abi::CONNECTS,
        "flows" => abi::FLOWS,
        _ => 0,
    }
}

/// Loads and attaches the program, unless another probe has.
///
/// # Errors
///
/// When the kernel refuses it both ways.
pub fn attach(ebpf: &mut Ebpf, machine: &Machine) -> Result<(), Refusal> {
    if is_loaded(ebpf, BY_FORMAT) {
        return Ok(());
    }
    let Err(types) = attach_by_types(ebpf, machine) else { return Ok(()) };
    let by_format = format(machine).and_then(|_| tracepoint(ebpf, BY_FORMAT, CATEGORY, TRACEPOINT));
    by_format.map_err(|format| {
        unload(ebpf, &[BY_FORMAT]);
        worse(types, format)
    })
}

/// Likewise, for those that the record tells too little.
///
/// # Errors
///
/// When the kernel refuses it, or the program is there the other way.
pub fn attach_by_types(ebpf: &mut Ebpf, machine: &Machine) -> Result<(), Refusal> {
    if is_loaded(ebpf, BY_TYPES) {
        return Ok(());
    }
    if is_loaded(ebpf, BY_FORMAT) {
        return Err(Refusal::Unsupported("state changes come by the tracepoint's format".to_owned()));
    }
    let attached = sockets(machine).and_then(|_| btf_tracepoint(ebpf, BY_TYPES, TRACEPOINT));
    attached.inspect_err(|_| unload(ebpf, &[BY_TYPES]))
}

/// Of the refusals of two ways the one that somebody can do something about: no first way is no matter while there is a
/// second one.
#[must_use]
pub fn worse(first: Refusal, second: Refusal) -> Refusal {
    if matches!(first, Refusal::Refused { .. }) { first } else { second }
}

/// The places of a socket's fields.
///
/// # Errors
///
/// When the kernel does not tell its types, or one of these is not where it can be read.
pub fn sockets(machine: &Machine) -> Result<Patch, Refusal> {
    let types = machine.types()?;
    let common = |member| types.offset("sock_common", member);
    let nested = [
        types.offset("tcp_sock", "inet_conn")?,
        types.offset("inet_connection_sock", "icsk_inet")?,
        types.offset("inet_sock", "inet_sport")?,
    ];
    let local_port = nested.into_iter().try_fold(0_u16, u16::checked_add).ok_or_else(|| {
        Refusal::Unsupported("this kernel's struct tcp_sock has its local port too far behind".to_owned())
    })?;
    let fields = SocketFields {
        family: common("skc_family")?,
        protocol: types.offset("sock", "sk_protocol")?,
        remote_port: common("skc_dport")?,
        remote_v4: common("skc_daddr")?,
        remote_v6: common("skc_v6_daddr")?,
        local_port,
        local_v4: common("skc_rcv_saddr")?,
        local_v6: common("skc_v6_rcv_saddr")?,
    };
    Ok(Patch::of("SOCKET_FIELDS", fields))
}

/// The places of the record's fields.
fn format(machine: &Machine) -> Result<StateFields, Refusal> {
    let format = machine.tracefs()?.format(CATEGORY, TRACEPOINT)?;
    let offset = |name, size| format.offset(name, size, RECORD);
    Ok(StateFields {
        skaddr: offset("skaddr", 8)?,
        oldstate: offset("oldstate", 4)?,
        newstate: offset("newstate", 4)?,
        sport: offset("sport", 2)?,
        dport: offset("dport", 2)?,
        protocol: offset("protocol", 2)?,
        saddr_v6: offset("saddr_v6", 16)?,
        daddr_v6: offset("daddr_v6", 16)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::probe::PROBES;
    use super::*;

    #[test]
    fn every_probe_at_this_hook_has_a_bit_of_its_own_and_no_other_probe_has() {
        let mut all = 0_u32;
        for probe in PROBES {
            let bit = bit(probe.name);
            assert_eq!(bit.count_ones(), u32::from(!probe.shared.is_empty()), "{}", probe.name);
            assert_eq!(all & bit, 0, "{}", probe.name);
            all |= bit;
        }
        assert_eq!(of_probes(["bypass", "errors", "connects"].into_iter()).bytes, [10, 0, 0, 0]);
    }

    #[test]
    fn the_reason_is_the_one_that_something_can_be_done_about() {
        let missing = || Refusal::Unsupported("no types".to_owned());
        let refused = |reason: &str| Refusal::Refused { errno: Some(libc::EPERM), reason: reason.to_owned() };
        assert_eq!(worse(missing(), refused("no tracefs")), refused("no tracefs"));
        assert_eq!(worse(refused("no right"), missing()), refused("no right"));
        assert_eq!(worse(refused("no right"), refused("no tracefs")), refused("no right"));
    }
}
