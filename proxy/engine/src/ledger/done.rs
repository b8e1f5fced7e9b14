//! The point where a request ends, for tracers: `weir_request_done`, a function that does nothing and that every finished
//! request calls once with its caller, method and work. A uprobe on it (bpftrace, perf, weir-probes) sees each request
//! without weir's cooperation; without one the call is all it costs (docs/operating.md has the commands and the figure).
//!
//! The name, the order and the meaning of the arguments are an interface: add a new function rather than change this one.

use super::entry::Entry;
use std::hint::black_box;

/// Which list of methods the argument `method` counts in; the low byte is the position in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodSpace {
    /// [`weir_memcached::Verb::index`].
    Memcached = 0x000,
    /// [`crate::cql::Method::index`].
    Cql = 0x100,
    /// [`crate::rpc::methods`]: gRPC; 0x300 is Connect, 0x400 other HTTP.
    Rpc = 0x200,
}

/// A caller as a number: FNV-1a (64 bits) of its name in labels, so that anybody can compute it.
#[must_use]
pub fn caller_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A request has ended. `caller` is the [`caller_hash`] of the name known by then (of a connection that still waits for
/// its name: the principal's), `method` a [`MethodSpace`] plus the method's number, `operations` as asked,
/// `backend_operations` as sent.
#[expect(
    unsafe_code,
    reason = "a symbol of a fixed name is the interface; weir_ keeps it from meeting another"
)]
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_request_done(caller: u64, method: u32, operations: u64, backend_operations: u64) {
    // Without a use of the arguments the optimiser would see that nothing happens here and drop the calls.
    black_box((caller, method, operations, backend_operations));
}

/// Shows an entry to whoever traces.
#[inline]
pub(crate) fn request_done(caller: u64, space: MethodSpace, entry: &Entry) {
    let method = space as u32 + entry.method.index() as u32;
    weir_request_done(caller, method, entry.operations, entry.backend_operations);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        // draft-eastlake-fnv, test vectors of FNV-1a 64
        assert_eq!(caller_hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(caller_hash("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(caller_hash("foobar"), 0x8594_4171_f739_67e8);
    }
}
