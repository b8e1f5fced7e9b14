//! The probe `witness`: connections that weir's own processes established to watched destinations.

use super::maps::{Slots, array};
use super::probe::{Probe, TO_LIVE, TO_LOAD};
use super::states;
use crate::picture::Destination;
use aya::Ebpf;
use aya::maps::MapError;
use weir_probes_abi::{lost, witness as abi};

/// The map of weir's own processes.
pub const OWN: &str = "OWN";

/// See the module.
pub const PROBE: Probe = Probe {
    name: "witness",
    loses: "whether weir opened the connections that it says it opened (--weir-metrics)",
    feature: states::FEATURE,
    to_load: TO_LOAD,
    to_live: TO_LIVE,
    programs: &[],
    shared: states::PROGRAMS,
    maps: &[OWN, "DIALLED"],
    lost: &[lost::DIALLED],
    prepare: states::prepare,
    attach: |ebpf, _, machine| states::attach(ebpf, machine),
};

/// Connections established since the probe was attached, by destination; those that weir has none to are left out.
///
/// # Errors
///
/// When a map cannot be read.
pub fn read(ebpf: &Ebpf) -> Result<Vec<(Destination, u64)>, MapError> {
    let slots = Slots::read(ebpf)?;
    let opened = array::<u64>(ebpf, "OPENED")?;
    let all = slots.iter().filter(|(slot, _)| *slot < abi::OPENED);
    let counts = all.map(|(slot, destination)| Ok((destination.clone(), opened.get(&slot, 0)?.0)));
    Ok(counts.collect::<Result<Vec<_>, MapError>>()?.into_iter().filter(|(_, count)| *count > 0).collect())
}
