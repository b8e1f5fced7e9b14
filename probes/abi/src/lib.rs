//! The records that the kernel's side of the probes (`probes/kernel`) and its reader (`probes/observer`) share: keys and
//! values of maps, what a ring buffer carries, and the bounds of the maps. Plain integers in `repr(C)` without holes, so
//! that a record is the same bytes on both sides and a map never compares padding; every size is asserted at compile time.
//!
//! - [`endpoint`]: an address and a port
//! - [`fold`]: which destinations and sources are told apart, and what the others become
//! - [`settings`]: what the loader tells the programs: watched ports, errnos, the fields of tracepoints
//! - [`states`]: the hook of socket state changes; [`transitions`]: those, counted, and life-times
//! - [`errors`]: bind(2) and connect(2) that failed
//! - [`flows`]: what connections to watched destinations moved
//! - [`bypass`]: processes that connect to watched destinations themselves
//! - [`connects`]: connections to ports that somebody asks about, one by one
//! - [`work`]: what they ask there; [`scan`]: how that is told from the first bytes
//! - [`requests`]: requests that passed weir's own point
//! - [`services`]: what threads of chosen services spend on requests
//! - [`witness`]: connections that weir itself opened
//! - [`lost`]: what a program could not keep

#![no_std]

pub mod bypass;
pub mod connects;
pub mod endpoint;
pub mod errors;
pub mod flows;
pub mod fold;
pub mod lost;
pub mod requests;
pub mod scan;
pub mod services;
pub mod settings;
pub mod states;
pub mod transitions;
pub mod witness;
pub mod work;

pub use endpoint::Endpoint;

/// A record that may cross between kernel and user space as bytes.
///
/// # Safety
///
/// The type is `repr(C)`, has no padding, and every bit pattern is a value of it.
#[expect(unsafe_code, reason = "a promise on layout is what this trait is")]
pub unsafe trait Record: Copy + 'static {}

/// Asserts the size at compile time and makes the type a [`Record`].
macro_rules! record {
    ($record:ty, $bytes:expr, align $align:expr) => {
        const _: () = assert!(size_of::<$record>() == $bytes && align_of::<$record>() == $align);
        // SAFETY: `repr(C)`, integers only; the sum of its fields is the size asserted above, so there is no padding.
        #[expect(unsafe_code, reason = "the layout was just asserted")]
        unsafe impl $crate::Record for $record {}
    };
}
pub(crate) use record;

record!(u32, 4, align 4);
record!(u64, 8, align 8);
