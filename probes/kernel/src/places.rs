//! Which slot a destination or a local address has. The order is by cost: most sockets of a machine have nothing to do
//! with what is watched and are told so by one bit.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use weir_probes_abi::Endpoint;
use weir_probes_abi::fold::{self, is_loopback_v4};
use weir_probes_abi::lost as counters;
use weir_probes_abi::settings::{PORT_WORDS, Ports, Settings};

use crate::{atomic, lost};

/// The loader's word on what is counted.
#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// A bit for each port.
#[map]
static PORTS: Array<Ports> = Array::with_max_entries(PORT_WORDS, 0);

/// The slot of each destination that has one.
#[map]
static DESTINATIONS: HashMap<Endpoint, u32> = HashMap::with_max_entries(fold::DESTINATIONS, 0);

/// The slot of each local address that has one.
#[map]
static SOURCES: HashMap<[u8; 16], u32> = HashMap::with_max_entries(fold::SOURCES, 0);

/// The next free slot of destinations and of sources.
#[map]
static NEXT: Array<u64> = Array::with_max_entries(2, 0);

const NEXT_DESTINATION: u32 = 0;
const NEXT_SOURCE: u32 = 1;

/// What is counted; `None` before the loader has said it.
#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

/// Whether some watched destination has this port.
#[inline(always)]
pub fn is_watched(port: u16) -> bool {
    ports(port).is_some_and(|word| word.watched & bit(port) != 0)
}

/// The slot of a destination, or [`fold::OTHER`].
#[inline(always)]
pub fn destination(place: &Endpoint) -> u32 {
    slot(place.port, || *place)
}

/// The slot of the destination with this port, which is only asked for as a whole when its port is watched.
#[inline(always)]
pub fn slot(port: u16, place: impl FnOnce() -> Endpoint) -> u32 {
    let Some(word) = ports(port) else { return fold::OTHER };
    if word.watched & bit(port) == 0 {
        return fold::OTHER;
    }
    let place = &place();
    // SAFETY: a copy of four bytes; the loader and `take` write an entry once and nothing removes it.
    if let Some(slot) = unsafe { DESTINATIONS.get(place) } {
        return known(*slot);
    }
    // A socket that listens on every address is no place that anybody connects to.
    if word.everywhere & bit(port) == 0 || place.is_unspecified() {
        return fold::OTHER;
    }
    match take(NEXT_DESTINATION, fold::DESTINATIONS, &DESTINATIONS, place) {
        Some(slot) => slot,
        None => {
            lost::count(counters::FOLDED_DESTINATIONS);
            fold::OTHER
        }
    }
}

/// The slot of a local address, [`fold::LOOPBACK`] or [`fold::OTHER_SOURCE`].
#[inline(always)]
pub fn source(address: &[u8; 16]) -> u32 {
    // SAFETY: as above.
    if let Some(slot) = unsafe { SOURCES.get(address) } {
        return if *slot < fold::SOURCES { *slot } else { fold::OTHER_SOURCE };
    }
    if let Some(slot) = take(NEXT_SOURCE, fold::SOURCES, &SOURCES, address) {
        return slot;
    }
    if is_loopback_v4(address) {
        return fold::LOOPBACK;
    }
    lost::count(counters::FOLDED_SOURCES);
    fold::OTHER_SOURCE
}

/// What the loader wrote, made a bound that the verifier sees.
#[inline(always)]
fn known(slot: u32) -> u32 {
    if slot < fold::DESTINATIONS { slot } else { fold::OTHER }
}

/// A free slot for a newcomer. Of two CPUs that see it at the same time one keeps its slot; the other's stays unused.
#[inline(always)]
fn take<K>(next: u32, bound: u32, map: &HashMap<K, u32>, key: &K) -> Option<u32> {
    let next = NEXT.get_ptr_mut(next)?;
    // Read first: past the bound the number must not run on and come round.
    // SAFETY: a pointer that the map gave, aligned as its type; after the loader's first word only added to.
    if unsafe { next.read_volatile() } >= u64::from(bound) {
        return None;
    }
    // SAFETY: as above.
    let slot = unsafe { atomic::next(next) } as u32;
    if slot >= bound {
        return None;
    }
    if map.insert(key, slot, u64::from(BPF_NOEXIST)).is_ok() {
        return Some(slot);
    }
    // SAFETY: as above.
    unsafe { map.get(key) }.map(|slot| *slot).filter(|slot| *slot < bound)
}

#[inline(always)]
fn ports(port: u16) -> Option<&'static Ports> {
    PORTS.get(u32::from(port) / 64)
}

#[inline(always)]
fn bit(port: u16) -> u64 {
    1 << (port % 64)
}
