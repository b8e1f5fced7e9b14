//! Calls between services: what stands between the edge ([`weir_edge`], sockets and HTTP), the codec ([`weir_rpc`],
//! counting) and the engine's decisions ([`weir_engine::rpc`]).
//!
//! A call passes `gate` (its head: who, with `tokens` where a service token says so and `askers` who has called before; what, may it begin) -> `call` (its body is counted; admitted, made to wait or
//! refused; its reply is counted; its end), where it is large in `parts`, with `desk` (the one engine of the process, behind a mutex) and `answers` (what is
//! refused, in the edge's words; how it ended, in the ledger's). `visits` counts and bounds connections. `run` is the thread that
//! all of it runs on (with more than one of `workers`, the threads): one edge for each listener, the engine's clock, and the
//! control side's questions, which it answers as a worker does.
//!
//! Bounds: `max_connections` and `max_connections_per_principal`, those of [`weir_edge::Settings`] on bodies, `calls_max` on calls; one waiter per call that waits.

mod answers;
mod askers;
mod cache;
mod call;
mod desk;
mod gate;
mod parts;
mod run;
mod settings;
mod tokens;
mod visits;

pub(crate) use askers::ASKERS_MAX;
pub use run::{Setup, spawn};
