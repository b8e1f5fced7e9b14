//! What processes that have ended did: their entries leave the kernel's maps, so that these stay small, and their counts stay
//! here by name, so that no total ever falls.

use crate::picture::Process;
use std::collections::BTreeMap;

/// Names that are kept apart, times what they are counted by; later ones count together as `_other`.
pub const NAMES: usize = 256;

/// Sums by name and, of each, by what is counted (a destination's slot, a call and its errno).
#[derive(Clone, Debug)]
pub struct Past<K, V> {
    sums: BTreeMap<(Process, K), V>,
}

impl<K, V> Default for Past<K, V> {
    fn default() -> Past<K, V> {
        Past { sums: BTreeMap::new() }
    }
}

impl<K: Ord + Copy, V> Past<K, V> {
    /// Adds the counts of a process to those of its name, user and unit.
    pub fn add(&mut self, process: Process, key: K, counts: V, add: impl FnOnce(&mut V, V)) {
        let mut key = (Process { pid: 0, executable: None, ended: true, ..process }, key);
        if !self.sums.contains_key(&key) && self.sums.len() >= NAMES {
            key.0 = Process { comm: "_other".to_owned(), ended: true, ..Process::default() };
        }
        match self.sums.get_mut(&key) {
            Some(sum) => add(sum, counts),
            None => drop(self.sums.insert(key, counts)),
        }
    }

    /// The sums.
    pub fn iter(&self) -> impl Iterator<Item = (Process, K, &V)> {
        self.sums.iter().map(|((process, key), sum)| (process.clone(), *key, sum))
    }
}

/// The text of a short name as the kernel keeps it, ended by NUL.
#[must_use]
pub fn comm(bytes: &[u8; 16]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(index: usize) -> Process {
        Process { comm: format!("p{index}"), uid: Some(0), ..Process::default() }
    }

    #[test]
    fn names_are_bounded_and_nothing_is_lost_of_the_sum() {
        let mut past = Past::default();
        for index in 0..10_000 {
            past.add(name(index), 3_u32, 2_u64, |sum, counts| *sum += counts);
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
    }
}
