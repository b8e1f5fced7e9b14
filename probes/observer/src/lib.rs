//! `weir-probes`: what the kernel sees of storage traffic, also of processes that never asked for weir.
//!
//! - [`cli`]: the command line; [`commands`]: one module for each command
//! - [`picture`]: what was seen, as plain data between those who look and those who show
//! - [`host`]: what this machine and this process's rights offer

pub mod cli;
pub mod commands;
pub mod host;
pub mod picture;
