//! A message or body of a call: counted alike however it is cut, and its parts have its keys.
#![no_main]

use weir_rpc::invariants;

libfuzzer_sys::fuzz_target!(|input: &[u8]| invariants::fuzz_message(input));
