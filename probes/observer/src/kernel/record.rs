//! Records of `weir_probes_abi` as the loader's library wants them.

use aya::Pod;
use weir_probes_abi::Record;

/// A record as key or value of a map. (`Pod` is a trait of aya and the records are another crate's, hence the wrapper.)
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Raw<R: Record>(pub R);

// SAFETY: what `Record` promises is what `Pod` asks for, and the wrapper is transparent.
#[expect(unsafe_code, reason = "a promise on layout, made by the record's own crate")]
unsafe impl<R: Record> Pod for Raw<R> {}

/// A value to be written over a static of the object, before it is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The static's name.
    pub symbol: &'static str,
    /// As many bytes as it has.
    pub bytes: Vec<u8>,
}

impl Patch {
    /// This record in place of that static.
    #[must_use]
    pub fn of<R: Record>(symbol: &'static str, record: R) -> Patch {
        // SAFETY: the pointer and length of one value that lives until the copy is made; a record has no padding.
        #[expect(unsafe_code, reason = "the bytes of a record")]
        let bytes = unsafe { std::slice::from_raw_parts((&raw const record).cast::<u8>(), size_of::<R>()) };
        Patch { symbol, bytes: bytes.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_probes_abi::settings::CallFields;

    #[test]
    fn a_patch_is_the_records_bytes() {
        let patch = Patch::of("CALL_FIELDS", CallFields { ret: 16, second_argument: 0x0168 });
        assert_eq!(patch.bytes, [16, 0, 0x68, 1], "little-endian, as every machine that is supported");
    }
}
