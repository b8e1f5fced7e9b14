//! The admin server: metrics for anybody who may reach them, control for the operator on this machine.
//!
//! ```text
//! listen.rs (sockets) -> serve.rs (accept, bounds) -> peer.rs (who is it, may it) -> routes.rs -> plane.rs (the weir)
//! client.rs asks the same socket from `weir top`, `explain`, `limits`, `switch` and `check --against`
//! ```
//! Two doors. The metrics door serves /metrics, /healthz and /readyz and nothing else; it may be reached from other
//! machines. The control door is a Unix socket of mode 0600 that serves its own user and root, or loopback TCP with a
//! token and a checked Host header; what changes something is POST or DELETE with a JSON body, and is audited.
//!
//! Bounds: [`serve::CONNECTIONS_MAX`] connections per door, heads of 16 KiB, bodies of [`serve::BODY_MAX`], 10 s per
//! request.

pub mod amplification;
pub mod client;
pub mod listen;
pub mod model;
pub mod peer;
pub mod plane;
mod routes;
pub mod serve;

pub use listen::{AdminListener, Door};
pub use plane::{Answer, Audit, Change, ControlError, Exposition, Outcome, Plane};
pub use serve::serve;
