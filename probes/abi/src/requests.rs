//! Requests that passed weir's own point `weir_request_done`.

/// Entries of the map `REQUESTS`; requests of further callers or methods are counted as lost.
pub const REQUESTS: u32 = 2_048;

/// Sizes are counted in powers of two of operations: bucket `n` holds those below 2^(n+1) and not in a lower one. The last
/// one begins at 131,072.
pub const BUCKETS: usize = 18;

/// The key of the map `REQUESTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestKey {
    /// The caller's hash, as weir passes it.
    pub caller: u64,
    /// The method's number, as weir passes it.
    pub method: u32,
    /// The weir's process (the kernel's `tgid`, in its first pid namespace).
    pub process: u32,
}

crate::record!(RequestKey, 16, align 8);

/// The value of the map `REQUESTS`. Only ever added to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requests {
    /// Requests that ended.
    pub requests: u64,
    /// Operations they asked for.
    pub operations: u64,
    /// Operations that went to the backends.
    pub backend_operations: u64,
    /// Requests by operations asked, see [`bucket`].
    pub sizes: [u64; BUCKETS],
}

crate::record!(Requests, (3 + BUCKETS) * 8, align 8);

impl Requests {
    /// Nothing counted.
    pub const ZERO: Requests =
        Requests { requests: 0, operations: 0, backend_operations: 0, sizes: [0; BUCKETS] };
}

/// The index of a request in [`Requests::sizes`] and in [`Work::sizes`](crate::work::Work::sizes).
#[must_use]
#[inline(always)]
pub const fn bucket(operations: u64) -> u32 {
    let power = (operations | 1).ilog2();
    if power < BUCKETS as u32 { power } else { BUCKETS as u32 - 1 }
}
