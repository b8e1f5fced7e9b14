//! The records that the kernel's side of the probes (`probes/kernel`) and its reader (`probes/observer`) share: keys and
//! values of maps, and what a ring buffer carries. Plain integers in `repr(C)` without holes, so that a record is the
//! same bytes on both sides and a map never compares padding; `layout` asserts it at compile time.

#![no_std]

pub mod endpoint;

pub use endpoint::Endpoint;
