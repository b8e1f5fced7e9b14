//! The RPC edge's decisions, without an edge: limits, split calls, deadlines, methods that are switched off, retries.

mod bench;
mod deny;
mod limits;
mod oracle;
#[path = "../simulation/random.rs"]
#[expect(dead_code, reason = "calls have no pieces")]
mod random;
mod reload;
mod retry;
mod simulation;
mod split;
