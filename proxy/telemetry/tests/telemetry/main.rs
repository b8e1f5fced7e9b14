//! The crate from outside: what a scrape and a log show after the server has counted.

mod artifacts;
mod bounds;
mod catalogue;
mod events;
mod probes;
mod sample;
