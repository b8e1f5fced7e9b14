//! Client bytes: every step makes progress, what is forwarded reads the same, and pieces do not matter.
#![no_main]

use weir_memcached::invariants;

libfuzzer_sys::fuzz_target!(|input: &[u8]| invariants::fuzz_requests(input));
