//! Memory is given back: glibc raises its mmap threshold (to 32 MiB at most) each time a large block is freed, after which
//! large buffers come from the heap and one small block above them keeps their pages resident. A fixed threshold turns
//! that off: every buffer above it is its own mapping and gone when freed (mallopt(3), M_MMAP_THRESHOLD).
//!
//! The requests and answers of large multigets are below both thresholds: at 128 and 256 KiB a quarter of weir's processor
//! time for an IN of 15,000 keys went into getting the same pages again. What stays in the heap [`super::trim`] gives back.

/// Blocks of this size and more are mappings of their own.
const MMAP_THRESHOLD: libc::c_int = 2 << 20;
/// Free memory at the end of the heap above which it is returned.
const TRIM_THRESHOLD: libc::c_int = 4 << 20;

/// Fixes the allocator's thresholds. Call before threads start; does nothing where the C library is not glibc.
pub fn give_back_large_blocks() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "mallopt has no safe binding")]
    // SAFETY: mallopt takes two integers and no pointers; it is called before any other thread exists.
    unsafe {
        // A refused value leaves the default in force: more memory is kept, nothing breaks.
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD);
    }
}
