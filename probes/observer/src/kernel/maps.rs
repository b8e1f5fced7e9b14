//! The maps of the object: what the loader writes into them, and how they are read.

use super::record::Raw;
use super::{Options, errors};
use crate::picture::Destination;
use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuHashMap};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use weir_probes_abi::settings::{Ports, Settings};
use weir_probes_abi::{Endpoint, Record, fold};

/// The port range that the kernel gives to clients where it cannot be read: its default.
const EPHEMERAL: (u16, u16) = (32_768, 60_999);

/// Tells the programs what is watched and what is counted.
///
/// # Errors
///
/// When a map cannot be written.
pub fn fill(ebpf: &mut Ebpf, options: &Options) -> Result<(), MapError> {
    let destinations = options.watched();
    let mut slots = HashMap::<_, Raw<Endpoint>, u32>::try_from(of(ebpf, "DESTINATIONS")?)?;
    for (slot, endpoint) in (0..).zip(&destinations) {
        slots.insert(Raw(*endpoint), slot, 0)?;
    }
    let mut words: BTreeMap<u32, Ports> = BTreeMap::new();
    let mut mark = |port: u16, everywhere: bool| {
        let (word, bit) = (words.entry(u32::from(port) / 64).or_default(), 1 << (port % 64));
        word.watched |= bit;
        if everywhere {
            word.everywhere |= bit;
        }
    };
    destinations.iter().for_each(|endpoint| mark(endpoint.port, false));
    options.ports.iter().for_each(|port| mark(*port, true));
    let mut ports = Array::<_, Raw<Ports>>::try_from(of(ebpf, "PORTS")?)?;
    for (index, word) in words {
        ports.set(index, Raw(word), 0)?;
    }
    Array::<_, u64>::try_from(of(ebpf, "NEXT")?)?.set(0, destinations.len() as u64, 0)?;
    let (first_ephemeral, last_ephemeral) = ephemeral();
    let settings = Settings { errnos: errors::counted(), first_ephemeral, last_ephemeral, zero: 0 };
    Array::<_, Raw<Settings>>::try_from(of(ebpf, "SETTINGS")?)?.set(0, Raw(settings), 0)
}

fn of<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::maps::Map, MapError> {
    ebpf.map_mut(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })
}

/// `ip_local_port_range` of this network namespace.
fn ephemeral() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) => (first, last),
        _ => EPHEMERAL,
    }
}

/// An endpoint as the programs compare it: IPv4 as IPv4-mapped.
#[must_use]
pub fn endpoint(address: SocketAddr) -> Endpoint {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => Endpoint::v4(ip.octets(), address.port()),
        IpAddr::V6(ip) => Endpoint::v6(ip.octets(), address.port()),
    }
}

/// A map of one value for each index and CPU.
///
/// # Errors
///
/// When the object has no such map, or it is another one.
pub fn per_cpu<'a, R: Record>(
    ebpf: &'a Ebpf,
    name: &str,
) -> Result<PerCpuArray<&'a MapData, Raw<R>>, MapError> {
    PerCpuArray::try_from(ebpf.map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })?)
}

/// A map of keys and values.
///
/// # Errors
///
/// When the object has no such map, or it is another one.
pub fn hash<'a, K: Record, V: Record>(
    ebpf: &'a Ebpf,
    name: &str,
) -> Result<HashMap<&'a MapData, Raw<K>, Raw<V>>, MapError> {
    HashMap::try_from(ebpf.map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })?)
}

/// The same, to be changed.
///
/// # Errors
///
/// As above.
pub fn hash_mut<'a, K: Record, V: Record>(
    ebpf: &'a mut Ebpf,
    name: &str,
) -> Result<HashMap<&'a mut MapData, Raw<K>, Raw<V>>, MapError> {
    HashMap::try_from(of(ebpf, name)?)
}

/// A map of keys, and a value for each CPU.
///
/// # Errors
///
/// As above.
pub fn per_cpu_hash<'a, K: Record, V: Record>(
    ebpf: &'a Ebpf,
    name: &str,
) -> Result<PerCpuHashMap<&'a MapData, Raw<K>, Raw<V>>, MapError> {
    PerCpuHashMap::try_from(there(ebpf, name)?)
}

/// The same, to be changed.
///
/// # Errors
///
/// As above.
pub fn per_cpu_hash_mut<'a, K: Record, V: Record>(
    ebpf: &'a mut Ebpf,
    name: &str,
) -> Result<PerCpuHashMap<&'a mut MapData, Raw<K>, Raw<V>>, MapError> {
    PerCpuHashMap::try_from(of(ebpf, name)?)
}

/// A map of one value for each index.
///
/// # Errors
///
/// As above.
pub fn array<'a, V: Record>(ebpf: &'a Ebpf, name: &str) -> Result<Array<&'a MapData, Raw<V>>, MapError> {
    Array::try_from(there(ebpf, name)?)
}

fn there<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a Map, MapError> {
    ebpf.map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })
}

/// Which destination each slot is, [`fold::OTHER`] last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots(BTreeMap<u32, Destination>);

impl Slots {
    /// Reads them: the programs give out slots while they run.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn read(ebpf: &Ebpf) -> Result<Slots, MapError> {
        let name = "DESTINATIONS";
        let map = ebpf.map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })?;
        let map = HashMap::<_, Raw<Endpoint>, u32>::try_from(map)?;
        let mut slots = BTreeMap::from([(fold::OTHER, Destination::Other)]);
        for entry in map.iter() {
            let (Raw(endpoint), slot) = entry?;
            if slot < fold::DESTINATIONS {
                slots.insert(slot, endpoint.into());
            }
        }
        Ok(Slots(slots))
    }

    /// The destination of a slot.
    #[must_use]
    pub fn of(&self, slot: u32) -> Destination {
        self.0.get(&slot).cloned().unwrap_or(Destination::Other)
    }

    /// Slots and destinations, in the order of slots.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Destination)> {
        self.0.iter().map(|(slot, destination)| (*slot, destination))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_the_same_place_as_the_plain_one() {
        let plain = endpoint("127.0.0.1:11211".parse().unwrap());
        assert_eq!(endpoint("[::ffff:127.0.0.1]:11211".parse().unwrap()), plain);
        assert!(plain.is_v4() && !endpoint("[::1]:11211".parse().unwrap()).is_v4());
    }

    #[test]
    fn this_machines_port_range_can_be_read() {
        let (first, last) = ephemeral();
        assert!(0 < first && first < last, "{first}..{last}");
    }
}
