//! Faults, end to end: a real `weir` process between clients and a backend (the real memcached, or one that follows a
//! script) while something goes wrong. What is asserted: no wrong value, no client left hanging or out of step, bounded
//! memory and connections, and recovery within the documented times.
//!
//! Every test ends within a minute, starts what it needs on free loopback ports or sockets in a directory of its own, and
//! ends by pid what it started. Where something is missing (memcached, open files) a test prints
//! `SKIPPED: what: why` and passes.
//!
//! Not covered: loss of packets between machines, a full disk, a backend behind TLS.

mod backend;
mod client;
mod crowds;
#[path = "../support/mod.rs"]
mod e2e;
mod garbage;
mod leaving;
mod life;
mod memcached;
mod replies;
mod requests;
mod scripted;
mod sizes;
mod stalls;
mod support;
mod values;
mod weir;
