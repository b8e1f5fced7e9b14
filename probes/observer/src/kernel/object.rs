//! The object that `cargo xtask bpf` built and `object/provenance.json` describes.

/// The bytes, where a parser of ELF may read its headers in place.
#[repr(C, align(8))]
struct Aligned<Bytes: ?Sized>(Bytes);

static ALIGNED: &Aligned<[u8]> = &Aligned(*include_bytes!("../../object/weir.bpf.o"));

/// The programs and maps, as an ELF object for BPF.
#[must_use]
pub fn bytes() -> &'static [u8] {
    &ALIGNED.0
}
