//! Warnings of several answers as those of one.

/// Different warnings that are passed on.
pub const WARNINGS_MAX: usize = 16;
/// Bytes of all warnings that are passed on.
pub const WARNING_BYTES: usize = 8 << 10;

/// The warnings so far, in the order they came; the same one is passed on once.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    each: Vec<Box<[u8]>>,
    bytes: usize,
}

impl Warnings {
    /// Takes one in, unless it is known or a bound is reached.
    pub(super) fn add(&mut self, warning: &[u8]) {
        let new = !self.each.iter().any(|known| **known == *warning);
        if new && self.each.len() < WARNINGS_MAX && self.bytes + warning.len() <= WARNING_BYTES {
            self.bytes += warning.len();
            self.each.push(warning.into());
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.each.iter().map(|warning| &**warning)
    }

    /// Memory held.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}
