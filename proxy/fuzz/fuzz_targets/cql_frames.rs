//! CQL bytes of either side, segments, compressed bodies: what is read is inside the input and is written the same.
#![no_main]

use weir_cql::invariants;

libfuzzer_sys::fuzz_target!(|input: &[u8]| invariants::fuzz_frames(input));
