//! Messages that could not be followed, by listener and cause, between two folds. Bound: one entry per listener and cause
//! (causes are fixed words of the codecs), however much garbage comes in.

use crate::units::ListenerId;

/// The counts since they were last taken.
#[derive(Debug, Default)]
pub(crate) struct Invalid(Vec<(ListenerId, &'static str, u64)>);

impl Invalid {
    /// One more.
    pub(crate) fn count(&mut self, listener: ListenerId, cause: &'static str) {
        match self.0.iter_mut().find(|(at, of, _)| *at == listener && *of == cause) {
            Some((.., count)) => *count += 1,
            None => self.0.push((listener, cause, 1)),
        }
    }

    /// Moves them out.
    pub(crate) fn take(&mut self, into: &mut Vec<(ListenerId, &'static str, u64)>) {
        into.append(&mut self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_of_a_kind_take_one_place() {
        let mut invalid = Invalid::default();
        for _ in 0..1_000 {
            invalid.count(ListenerId(0), "version");
            invalid.count(ListenerId(1), "version");
        }
        invalid.count(ListenerId(0), "message");
        let mut taken = Vec::new();
        invalid.take(&mut taken);
        let expected = [(0, "version", 1_000), (1, "version", 1_000), (0, "message", 1)];
        assert_eq!(taken, expected.map(|(listener, cause, count)| (ListenerId(listener), cause, count)));
        invalid.take(&mut taken);
        assert_eq!(taken.len(), 3, "they were taken once");
    }
}
