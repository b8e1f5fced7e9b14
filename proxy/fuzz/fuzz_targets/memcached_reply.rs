//! Server bytes: a line is read alike with anything behind it, and a piece of it is incomplete.
#![no_main]

use weir_memcached::invariants;

libfuzzer_sys::fuzz_target!(|input: &[u8]| invariants::read_replies(input));
