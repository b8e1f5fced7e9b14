//! `weir-probes`: what the kernel sees of storage traffic, also of processes that never asked for weir.
//!
//! In the order in which a number travels:
//!
//! - [`cli`]: the command line; [`settings`]: what was asked for, checked; [`commands`]: one module for each command
//! - [`host`]: what this machine and this process's rights offer; [`rights`]: giving up those not needed any more
//! - [`source`]: whoever looks, behind one small trait
//! - [`sockets`]: states and ports without BPF, in each of [`namespaces`]; [`ports`]: capacity, and when it is used up
//! - [`free_ports`]: ends TIME_WAIT sockets towards one destination; [`audit`]: who did
//! - [`picture`]: what was seen, as plain data between those who look and those who show
//! - [`looker`]: takes a picture every interval, on a thread of its own
//! - [`fetch`]: a page of another process
//! - [`metrics`]: a picture as numbers of the catalogue; [`errno`]: error numbers by name
//! - [`serve`]: `/metrics`, `/healthz`, `/readyz`
//! - [`kernel`]: the programs in the kernel: loaded, and read
//! - [`processes`]: from a pid to name, user, unit
//! - [`witness`]: what weir says against what the kernel saw
//! - [`attribution`]: which process a connection is from, for weir to ask

pub mod attribution;
pub mod audit;
pub mod cli;
pub mod commands;
pub mod errno;
pub mod fetch;
pub mod free_ports;
pub mod host;
pub mod kernel;
pub mod looker;
pub mod metrics;
pub mod namespaces;
pub mod picture;
pub mod ports;
pub mod processes;
pub mod rights;
pub mod serve;
pub mod settings;
pub mod sockets;
pub mod source;
pub mod witness;
