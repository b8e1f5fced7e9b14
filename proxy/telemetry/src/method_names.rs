//! Names of a protocol's methods, by number: a list in the code, or one that grows as methods are described.

use crate::labels::OTHER;
use std::sync::OnceLock;

/// Methods of one protocol whose names come from the configuration.
pub const GROWING_MAX: usize = 256;

/// A table that only grows: a number never names another method. What has no name is [`OTHER`].
#[derive(Debug)]
pub struct GrowingNames([OnceLock<Box<str>>; GROWING_MAX]);

impl GrowingNames {
    /// A table without names.
    #[must_use]
    pub const fn new() -> GrowingNames {
        GrowingNames([const { OnceLock::new() }; GROWING_MAX])
    }

    /// Gives a number its name; the first one stays, and a number beyond the table has none.
    pub fn name(&self, number: usize, name: &str) {
        if let Some(slot) = self.0.get(number) {
            slot.get_or_init(|| name.into());
        }
    }
}

impl Default for GrowingNames {
    fn default() -> GrowingNames {
        GrowingNames::new()
    }
}

/// The methods of a protocol, by number.
#[derive(Clone, Copy, Debug)]
pub enum MethodNames {
    /// Every verb, at least one.
    Fixed(&'static [&'static str]),
    /// Described ones, as they become known.
    Growing(&'static GrowingNames),
}

impl MethodNames {
    /// Numbers there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            MethodNames::Fixed(names) => names.len(),
            MethodNames::Growing(_) => GROWING_MAX,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of a number; [`OTHER`] where it has none.
    #[must_use]
    pub fn get(&self, number: usize) -> &'static str {
        match self {
            MethodNames::Fixed(names) => names.get(number).copied().unwrap_or(OTHER),
            MethodNames::Growing(names) => {
                names.0.get(number).and_then(OnceLock::get).map_or(OTHER, |name| name)
            }
        }
    }

    /// Every number with a name, and it.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &'static str)> {
        let names = *self;
        let named = move |number: &usize| match names {
            MethodNames::Fixed(_) => true,
            MethodNames::Growing(names) => names.0[*number].get().is_some(),
        };
        (0..self.len()).filter(named).map(move |number| (number, names.get(number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_keeps_its_first_name() {
        static NAMES: GrowingNames = GrowingNames::new();
        let names = MethodNames::Growing(&NAMES);
        NAMES.name(3, "a.S/M");
        NAMES.name(3, "a.S/Other");
        NAMES.name(GROWING_MAX, "none");
        assert_eq!((names.get(3), names.get(4), names.get(GROWING_MAX)), ("a.S/M", OTHER, OTHER));
        assert_eq!(names.iter().collect::<Vec<_>>(), [(3, "a.S/M")]);
        let fixed = MethodNames::Fixed(&["get", "set"]);
        assert_eq!(fixed.iter().collect::<Vec<_>>(), [(0, "get"), (1, "set")]);
        assert_eq!((fixed.get(1), fixed.get(2)), ("set", OTHER));
    }
}
