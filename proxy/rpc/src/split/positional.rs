//! Whether the parts agree about a field that has an element for each key.

use super::MergeError;

/// Whether a positional field is filled, as the parts so far agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Filled {
    Unknown,
    No,
    Yes,
}

impl Filled {
    /// Holds the elements of another part against its keys: as many, or none in all parts.
    pub(super) fn hold(&mut self, field: &str, keys: usize, elements: u64) -> Result<(), MergeError> {
        if keys == 0 && elements == 0 {
            return Ok(());
        }
        let now = if elements == 0 { Filled::No } else { Filled::Yes };
        let agrees = *self == Filled::Unknown || *self == now;
        if !agrees || (elements != 0 && elements != keys as u64) {
            return Err(MergeError::LengthMismatch { field: field.into(), keys, elements });
        }
        *self = now;
        Ok(())
    }
}
