//! Which keys a call asks for, once each, and how the answers get back to their places. A mistake here hands out somebody
//! else's post: the property tests compare it with a plain map.

use crate::cache::key;
use rustc_hash::{FxBuildHasher, FxHashMap};

/// The distinct keys of a call and the place of each in what was asked.
pub struct Plan {
    /// Each once, in the order of its first place; what storage cannot be asked about is not among them.
    pub keys: Vec<String>,
    /// For each place, the index into `keys`; `None`: nothing that can be stored has this name.
    places: Vec<Option<u32>>,
}

/// A plan that is being made, key by key: a call for many keys makes it in turns with other calls.
#[derive(Default)]
pub struct Planner<'a> {
    index: FxHashMap<&'a str, u32>,
    keys: Vec<String>,
    places: Vec<Option<u32>>,
}

impl<'a> Planner<'a> {
    /// For about so many keys.
    pub fn with_capacity(keys: usize) -> Planner<'a> {
        Planner {
            index: FxHashMap::with_capacity_and_hasher(keys, FxBuildHasher),
            keys: Vec::with_capacity(keys),
            places: Vec::with_capacity(keys),
        }
    }

    /// The next key as it was asked, be it a duplicate or nonsense.
    pub fn add(&mut self, name: &'a str) {
        let place = key::can_be_asked(name).then(|| {
            *self.index.entry(name).or_insert_with(|| {
                self.keys.push(name.to_owned());
                // messages are bounded far below 2^32 keys
                u32::try_from(self.keys.len() - 1).unwrap_or(u32::MAX)
            })
        });
        self.places.push(place);
    }

    /// The plan.
    pub fn done(self) -> Plan {
        Plan { keys: self.keys, places: self.places }
    }
}

impl Plan {
    /// Of the keys as they were asked, duplicates and nonsense included.
    pub fn new<'a>(asked: impl IntoIterator<Item = &'a str>) -> Plan {
        let mut planner = Planner::default();
        asked.into_iter().for_each(|name| planner.add(name));
        planner.done()
    }

    /// One item per place, in the order of the request: what `found` has of its key, or nothing.
    pub fn slots<'a, V>(&'a self, found: &'a FxHashMap<String, V>) -> impl Iterator<Item = Option<&'a V>> {
        self.places.iter().map(move |place| {
            let name = self.keys.get(usize::try_from((*place)?).ok()?)?;
            found.get(name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn every_place_gets_its_own_key(
            asked in proptest::collection::vec("[a-d]{0,2}|x{2040,2056}", 0..60),
            stored in proptest::collection::btree_map("[a-d]{0,2}", any::<u32>(), 0..20),
        ) {
            let plan = Plan::new(asked.iter().map(String::as_str));
            // storage answers only what it is asked, and in an order of its own
            let mut found = FxHashMap::default();
            for name in plan.keys.iter().rev() {
                if let Some(value) = stored.get(name) {
                    prop_assert!(found.insert(name.clone(), *value).is_none(), "asked twice: {}", name);
                }
            }
            let got: Vec<Option<u32>> = plan.slots(&found).map(|slot| slot.copied()).collect();
            let oracle: &BTreeMap<String, u32> = &stored;
            let wanted: Vec<Option<u32>> =
                asked.iter().map(|name| if name.is_empty() { None } else { oracle.get(name).copied() }).collect();
            prop_assert_eq!(got, wanted);
            prop_assert!(plan.keys.iter().all(|name| !name.is_empty() && name.len() <= 2_048));
        }
    }
}
