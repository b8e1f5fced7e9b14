//! The probe `connects`: connections to ports that somebody asks about, one by one, with the process that made each. The
//! kernel's side puts them into a ring buffer of fixed size; [`Feed`] takes them out.

use super::machine::Machine;
use super::probe::{Probe, TO_LIVE, TO_LOAD};
use super::record::Patch;
use super::refusal::Refusal;
use super::states;
use aya::Ebpf;
use aya::maps::{Array, MapData, MapError, RingBuf};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use weir_probes_abi::connects::{Connected, NetworkFields, RING};
use weir_probes_abi::lost;

/// See the module.
pub const PROBE: Probe = Probe {
    name: "connects",
    loses: "attribution of clients that are gone before anybody looks",
    feature: "tracepoint sock/inet_sock_set_state, ring buffer (5.8) and the kernel's types (BTF)",
    to_load: TO_LOAD,
    to_live: TO_LIVE,
    programs: &[],
    shared: states::PROGRAMS,
    maps: &["ASKED", "BEGUN", "CONNECTED", "UNTOLD"],
    lost: &[lost::CONNECTS],
    prepare,
    attach: |ebpf, _, machine| states::attach(ebpf, machine),
};

/// Connections taken at once: as many as the ring holds, so that a flood that goes on does not hold the reader.
const TAKEN_MAX: usize = RING as usize / (size_of::<Connected>() + 8);

fn prepare(machine: &Machine) -> Result<Vec<Patch>, Refusal> {
    let types = machine.types()?;
    let (inside, inode) = (types.offset("net", "ns")?, types.offset("ns_common", "inum")?);
    let inode = inside.checked_add(inode).ok_or_else(|| {
        Refusal::Unsupported("this kernel's struct net has its number too far behind".to_owned())
    })?;
    let fields = NetworkFields { namespace: types.offset("sock_common", "skc_net")?, inode };
    let mut patches = states::prepare(machine)?;
    patches.push(Patch::of("NETWORK_FIELDS", fields));
    Ok(patches)
}

/// The reader's end of the ring buffer.
pub struct Feed {
    ring: RingBuf<MapData>,
    asked: Array<MapData, u64>,
    untold: Array<MapData, u64>,
    /// Ports that the kernel's side was told of.
    told: BTreeSet<u16>,
    /// Of `untold`, those that the caller knows of.
    known_untold: u64,
}

impl Feed {
    /// Takes the maps out of an object whose probe is attached. `None` where it has none (any more).
    pub(super) fn of(ebpf: &mut Ebpf) -> Option<Feed> {
        let mut array = |name| Array::try_from(ebpf.take_map(name)?).ok();
        let (asked, untold) = (array("ASKED")?, array("UNTOLD")?);
        let ring = RingBuf::try_from(ebpf.take_map("CONNECTED")?).ok()?;
        Some(Feed { ring, asked, untold, told: BTreeSet::new(), known_untold: 0 })
    }

    /// From now on connections to these ports are told, in every network namespace, and no others.
    ///
    /// # Errors
    ///
    /// When the map cannot be written; the next call tries again.
    pub fn ask(&mut self, ports: &BTreeSet<u16>) -> Result<(), MapError> {
        if *ports == self.told {
            return Ok(());
        }
        let mut words: BTreeMap<u32, u64> = BTreeMap::new();
        for port in &self.told {
            words.entry(u32::from(*port) / 64).or_default();
        }
        for port in ports {
            *words.entry(u32::from(*port) / 64).or_default() |= 1 << (port % 64);
        }
        for (index, word) in words {
            self.asked.set(index, word, 0)?;
        }
        self.told.clone_from(ports);
        Ok(())
    }

    /// Takes what has come so far. Returns how many more were made that it cannot tell of: there was no room, or they were
    /// begun before anybody asked. Where that cannot be read it is one.
    pub fn take(&mut self, mut each: impl FnMut(Connected)) -> u64 {
        // read first: what is missing of what is taken below is then known at the latest the next time
        let untold = self.untold.get(&0, 0).unwrap_or(self.known_untold.wrapping_add(1));
        for _ in 0..TAKEN_MAX {
            let Some(item) = self.ring.next() else { break };
            if let Some(connected) = Connected::of(&item) {
                drop(item);
                each(connected);
            }
        }
        untold.wrapping_sub(std::mem::replace(&mut self.known_untold, untold))
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("told", &self.told).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_probes_abi::Endpoint;
    use weir_probes_abi::connects::Begun;

    #[test]
    fn a_record_is_its_bytes_and_other_bytes_are_none() {
        let end = |port| Endpoint::v4([127, 0, 0, 1], port);
        let begun =
            Begun { when: 7, process: 8, uid: 9, network: 10, zero: 0, comm: *b"importer\0\0\0\0\0\0\0\0" };
        let connected = Connected { begun, client: end(40_000), server: end(11_211) };
        let bytes = Patch::of("", connected).bytes;
        assert_eq!(Connected::of(&bytes), Some(connected));
        assert_eq!((Connected::of(&bytes[1..]), Connected::of(&[])), (None, None));
    }
}
