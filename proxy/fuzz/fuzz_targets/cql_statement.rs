//! Text of a statement: shapes inside the text, a fingerprint that is its own, tables qualified once and for all.
#![no_main]

use weir_cql::statement::invariants;

libfuzzer_sys::fuzz_target!(|input: &[u8]| invariants::check_text(input));
