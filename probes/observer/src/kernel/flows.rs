//! The probe `flows`: bytes, round trips and retransmits of connections to watched destinations, as each of them closes.

use super::machine::Machine;
use super::maps::{Slots, array};
use super::probe::{Probe, TO_LIVE, TO_LOAD, missing};
use super::record::Patch;
use super::refusal::Refusal;
use super::states;
use crate::host::Host;
use crate::picture::{ByteCount, RetransmitCount, RoundTrips, Sizes};
use aya::Ebpf;
use aya::maps::MapError;
use aya::programs::{CgroupAttachMode, SockOps};
use std::fs::File;
use std::sync::LazyLock;
use weir_probes_abi::flows::{BUCKETS, Flow, FlowFields};
use weir_probes_abi::fold;

const PROGRAM: &str = "flows";

/// See the module.
pub const PROBE: Probe = Probe {
    name: "flows",
    loses: "bytes, round trips and retransmits of connections to watched destinations",
    feature: "tracepoint sock/inet_sock_set_state, by the kernel's types (BTF); or else sock_ops at the root of the cgroup v2 tree (CAP_NET_ADMIN)",
    to_load: TO_LOAD,
    to_live: TO_LIVE,
    programs: &[PROGRAM],
    shared: &[states::BY_TYPES],
    maps: &["FLOWS"],
    lost: &[],
    prepare,
    attach: |ebpf, _, machine| {
        let by_types = fields(machine).and_then(|_| states::attach_by_types(ebpf, machine));
        by_types.or_else(|types| by_cgroup(ebpf).map_err(|cgroup| states::worse(types, cgroup)))
    },
};

/// The program of its own needs nothing.
fn prepare(machine: &Machine) -> Result<Vec<Patch>, Refusal> {
    Ok(fields(machine).unwrap_or_default())
}

/// Whether the program that several probes share can do it.
#[must_use]
pub fn is_by_types(machine: &Machine) -> bool {
    fields(machine).is_ok()
}

/// Where the kernel keeps what is read.
fn fields(machine: &Machine) -> Result<Vec<Patch>, Refusal> {
    let types = machine.types()?;
    let fields = FlowFields {
        acked: types.offset("tcp_sock", "bytes_acked")?,
        received: types.offset("tcp_sock", "bytes_received")?,
        retransmits: types.offset("tcp_sock", "total_retrans")?,
        round_trip: types.offset("tcp_sock", "srtt_us")?,
    };
    Ok(vec![Patch::of("FLOW_FIELDS", fields), states::sockets(machine)?])
}

fn by_cgroup(ebpf: &mut Ebpf) -> Result<(), Refusal> {
    let Some(root) = Host::read().cgroup2 else {
        return Err(Refusal::Unsupported("the cgroup v2 tree is mounted nowhere".to_owned()));
    };
    let root =
        File::open(&root).map_err(|error| Refusal::of_io(&format!("opening {}", root.display()), &error))?;
    let program: &mut SockOps = ebpf
        .program_mut(PROGRAM)
        .ok_or_else(|| missing(PROGRAM))?
        .try_into()
        .map_err(|error| Refusal::of_program(PROGRAM, &error))?;
    program.load().map_err(|error| Refusal::of_program(PROGRAM, &error))?;
    // A link of the kernel's stands beside those of others in any case; the mode that says so is refused for links.
    program.attach(root, CgroupAttachMode::Single).map_err(|error| Refusal::of_program(PROGRAM, &error))?;
    Ok(())
}

/// What was counted since the probe was attached: one entry of each for every watched destination, with zeros where no
/// connection has closed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Bytes.
    pub bytes: Vec<ByteCount>,
    /// Round trips.
    pub round_trips: Vec<RoundTrips>,
    /// Segments that were sent again.
    pub retransmits: Vec<RetransmitCount>,
}

/// Reads the map.
///
/// # Errors
///
/// When it cannot be read.
pub fn read(ebpf: &Ebpf, slots: &Slots) -> Result<Seen, MapError> {
    let flows = array::<Flow>(ebpf, "FLOWS")?;
    let mut seen = Seen::default();
    for (slot, destination) in slots.iter().filter(|(slot, _)| *slot != fold::OTHER) {
        let flow = flows.get(&slot, 0)?.0;
        let destination = destination.clone();
        seen.bytes.push(ByteCount {
            destination: destination.clone(),
            sent: flow.sent,
            received: flow.received,
        });
        let sum = flow.rtt_microseconds as f64 / 1e6;
        let rtt = Sizes { bounds: bounds(), counts: flow.rtt.to_vec(), sum };
        seen.round_trips.push(RoundTrips { destination: destination.clone(), rtt });
        seen.retransmits.push(RetransmitCount { destination, segments: flow.retransmits });
    }
    Ok(seen)
}

/// The upper bounds of the buckets of round trips, in seconds; the last one has none.
#[must_use]
pub fn bounds() -> &'static [f64] {
    static BOUNDS: LazyLock<Vec<f64>> =
        LazyLock::new(|| (1..BUCKETS as i32).map(|power| 2f64.powi(power) / 1e6).collect());
    &BOUNDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_probes_abi::flows::bucket;

    #[test]
    fn a_round_trip_is_below_the_bound_of_its_bucket_and_not_of_the_one_before() {
        assert_eq!(bounds().len(), BUCKETS - 1);
        for microseconds in [0, 1, 2, 61, 612, 1_000_000] {
            let (index, seconds) = (bucket(microseconds) as usize, f64::from(microseconds) / 1e6);
            assert!(
                seconds < bounds()[index] && (index == 0 || seconds >= bounds()[index - 1]),
                "{microseconds} us"
            );
        }
        assert_eq!(bucket(u32::MAX) as usize, BUCKETS - 1);
    }
}
