//! The RPC and HTTP edge: listeners in front of services, built on pingora. The only crate that names pingora.
//!
//! A connection passes through `listen` (accepting) -> `open` (TLS, which HTTP) -> `client` (the socket as pingora takes
//! it) -> `edge` (pingora's HTTP/1.1 and HTTP/2) -> `service` (pingora's questions). Each of its requests passes through
//! `exchange` (the stages of one request) -> `gate` (what to do with it: asked, not decided here) -> `upstream` (few
//! connections to the service). `answer` is the one place where a refusal becomes a status.
//!
//! [`Edge`] runs on a runtime of its owner and ends when the owner says so. Decisions about callers, keys and limits are
//! behind [`Gate`]; the default one, [`AdmitAll`], lets everything pass.
//!
//! docs/decisions/0006-pingora-as-a-library.md says what of pingora is used, and why not more.

mod answer;
mod body;
mod cache;
mod client;
mod deadline;
mod edge;
mod exchange;
mod front;
mod gate;
mod headers;
mod listen;
mod open;
mod parts;
mod protocol;
mod service;
mod settings;
mod stats;
mod trace;
mod upstream;
mod visit;

pub use answer::{Reason, Refusal};
pub use body::Body;
pub use cache::{CacheCounted, CacheSettings, CacheUse, Refreshed, ResponseCache, Unfit};
pub use client::{Client, Peer};
pub use edge::{Drained, Edge};
pub use front::ClientTimes;
pub use gate::{
    AdmitAll, BodyPlan, Call, Decision, End, Gate, Head, Opening, Outcome, Plan, Silent, TimeoutPlan, Verdict,
};
pub use headers::{CALLER_HEADERS, declared};
pub use listen::Door;
pub use parts::{Order, PartFailed, Parts, Progress, Retries};
pub use protocol::Protocol;
pub use settings::{
    ClientLimits, HealthCheck, HealthQuestion, RequestLimits, Settings, SettingsError, UpstreamProtocol,
    UpstreamSettings,
};
pub use stats::Counted;
pub use trace::TraceId;
pub use upstream::{OpenFailure, Server, UpstreamTls};
pub use visit::{Left, Unwatched, Visit};
