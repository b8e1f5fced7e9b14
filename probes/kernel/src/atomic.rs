//! Addition and exchange that are one step for all CPUs. The BPF target has the instructions, but not all that the standard
//! library asks of a target before it offers the methods, hence the compiler's intrinsics.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};

/// Adds to a number.
///
/// # Safety
///
/// The pointer is one that a map gave, aligned, and the number is only ever changed by the functions here.
#[inline(always)]
pub unsafe fn add(number: *mut u64, more: u64) {
    // SAFETY: what this function asks for.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(number, more) };
}

/// Adds one to a number and returns what it was before.
///
/// Not relaxed: for a relaxed one LLVM 22 takes the instruction that gives nothing back, and returns what was added.
///
/// # Safety
///
/// As [`add`].
#[inline(always)]
pub unsafe fn next(number: *mut u64) -> u64 {
    // SAFETY: what this function asks for.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(number, 1) }
}

/// Puts another number in the place of a known one; `false` where it is not there any more.
///
/// # Safety
///
/// As [`add`].
#[inline(always)]
pub unsafe fn replace(number: *mut u64, known: u64, by: u64) -> bool {
    const ORDER: AtomicOrdering = AtomicOrdering::SeqCst;
    // SAFETY: what this function asks for.
    unsafe { atomic_cxchg::<u64, ORDER, ORDER>(number, known, by) }.1
}
