//! Answers that the service calls `public`, kept for other clients: which requests, under which key, which answers, for
//! how long. Decisions only: time is told, nothing is sent. `exchange/cached.rs` and `refresh.rs` carry them out.
//!
//! In the order of a request: `route` (is it one for the cache, its key, what of it the service sees) -> `flights` (it is
//! answered, waits for another, or goes) -> `terms` (may the answer be kept) -> `intake` (its body) -> `entry`, `store`
//! (kept, bounded) -> `conditions`, `report` (what the client is told).
//!
//! docs/decisions/0008-http-cache.md says why not another cache.

mod conditions;
mod control;
mod counts;
mod entry;
mod flights;
mod intake;
mod purge;
pub(crate) mod refresh;
mod report;
pub(crate) mod route;
mod settings;
mod store;
mod terms;

pub use counts::{CacheCounted, CacheUse, Refreshed};
pub use flights::ResponseCache;
pub use settings::CacheSettings;
pub use terms::Unfit;

pub(crate) use entry::{Entry, Standing};
pub(crate) use flights::{Landing, Lead, Look, Waiter};
pub(crate) use intake::{Begun, Intake, begin};
pub(crate) use report::{Forwarded, report_bypass, report_forwarded, report_hit};
pub(crate) use route::{Asked, Bypass, Way};
