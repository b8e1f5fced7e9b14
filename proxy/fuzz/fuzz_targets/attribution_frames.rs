//! What weir and weir-probes say to each other: what is read is written the same, and no part of it reads as the whole.
#![no_main]

use weir_attribution::invariants;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    invariants::read_stream(input);
});
