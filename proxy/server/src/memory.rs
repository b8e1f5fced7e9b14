//! Memory is given back: glibc raises its mmap threshold (to 32 MiB at most) each time a large block is freed, after which
//! large buffers come from the heap and one small block above them keeps their pages resident. A fixed threshold turns
//! that off: every buffer above 128 KiB is its own mapping and gone when freed (mallopt(3), M_MMAP_THRESHOLD).

/// Blocks of this size and more are mappings of their own.
const MMAP_THRESHOLD: libc::c_int = 128 << 10;
/// Free memory at the end of the heap above which it is returned.
const TRIM_THRESHOLD: libc::c_int = 256 << 10;

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
