//! The programs that run in the kernel. They count in maps of fixed size, keyed after the fold of `weir_probes_abi::fold`,
//! and keep no payload. A program returns at the first thing that it does not know; what it could not keep it counts.
//!
//! - [`states`]: the hook of socket state changes; [`sockets`]: what is read of a socket
//! - [`transitions`]: those changes, counted, and life-times; [`lives`]: when connections began
//! - [`errors`]: bind(2) and connect(2) that failed
//! - [`flows`]: what connections to watched destinations moved
//! - [`bypass`]: processes that connect to watched destinations themselves; [`pardoned`]: those that may
//! - [`connects`]: whose connections to asked-about ports are
//! - [`work`]: what they ask there
//! - [`requests`]: requests that passed weir's own point
//! - [`services`]: what threads of chosen services spend on requests
//! - [`witness`]: connections that weir itself opened
//! - [`places`]: which slot a destination or a source has
//! - [`lost`]: counters of what could not be kept; [`atomic`]: addition and exchange
//!
//! What it reads of the kernel: fields of tracepoints, whose places the loader takes from their format files; fields of
//! sockets, whose places it takes from the kernel's types; and the registers of a system call, whose places are part of each
//! machine's ABI.

#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "the one in `atomic`")]

mod atomic;
mod bypass;
mod connects;
mod errors;
mod flows;
mod lives;
mod lost;
mod pardoned;
mod places;
mod requests;
mod services;
mod sockets;
mod states;
mod transitions;
mod witness;
mod work;

/// Helpers that read the kernel's memory are for programs under a licence that is compatible with the GPL. The sources
/// of this object are under Apache-2.0 or MIT; loaded into a kernel it is used under MIT.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: the verifier would refuse the loop, so a program that may panic does not load.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
