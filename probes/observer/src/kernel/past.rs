//! What processes that have ended did: their entries leave the kernel's maps, so that these stay small, and their counts stay
//! here by name, so that no total ever falls.

use crate::picture::Process;
use std::collections::BTreeMap;
use std::path::Path;

/// Names that are kept apart, times destinations; later ones count together as `_other`.
pub const NAMES: usize = 256;

/// Sums by name and slot.
#[derive(Clone, Debug)]
pub struct Past<V> {
    sums: BTreeMap<(Name, u32), V>,
}

/// A process that has ended, as far as the kernel's side told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Its short name.
    pub comm: String,
    /// Its user; `None` for those that count together.
    pub uid: Option<u32>,
}

impl<V> Default for Past<V> {
    fn default() -> Past<V> {
        Past { sums: BTreeMap::new() }
    }
}

impl<V> Past<V> {
    /// Adds the counts of a process to those of its name.
    pub fn add(&mut self, name: Name, slot: u32, counts: V, add: impl FnOnce(&mut V, V)) {
        let mut key = (name, slot);
        if !self.sums.contains_key(&key) && self.sums.len() >= NAMES {
            key.0 = Name { comm: "_other".to_owned(), uid: None };
        }
        match self.sums.get_mut(&key) {
            Some(sum) => add(sum, counts),
            None => drop(self.sums.insert(key, counts)),
        }
    }

    /// The sums.
    pub fn iter(&self) -> impl Iterator<Item = (Process, u32, &V)> {
        self.sums.iter().map(|((name, slot), sum)| {
            (Process { comm: name.comm.clone(), uid: name.uid, ..Process::default() }, *slot, sum)
        })
    }
}

/// The text of a short name as the kernel keeps it, ended by NUL.
#[must_use]
pub fn comm(bytes: &[u8; 16]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// Whether the process is there. A process that cannot be told from another one with its number counts as there: its entry
/// then waits for that one's end.
#[must_use]
pub fn lives(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(index: usize) -> Name {
        Name { comm: format!("p{index}"), uid: Some(0) }
    }

    #[test]
    fn names_are_bounded_and_nothing_is_lost_of_the_sum() {
        let mut past = Past::default();
        for index in 0..10_000 {
            past.add(name(index), 3, 2_u64, |sum, counts| *sum += counts);
            past.add(name(7), 3, 1, |sum, counts| *sum += counts);
        }
        assert!(past.sums.len() <= NAMES + 1);
        assert_eq!(past.iter().map(|(_, _, sum)| sum).sum::<u64>(), 30_000);
        let of =
            |name: &str| past.iter().filter(|(process, ..)| process.comm == name).map(|(.., sum)| *sum).sum();
        assert_eq!((of("p7"), of("_other")), (10_002, 2 * (10_000 - NAMES as u64)));
    }

    #[test]
    fn a_short_name_ends_at_its_nul() {
        assert_eq!(comm(b"memtier\0garbage\0"), "memtier");
        assert_eq!(comm(b"sixteen bytes !!"), "sixteen bytes !!");
        assert!(lives(std::process::id()) && !lives(u32::MAX));
    }
}
