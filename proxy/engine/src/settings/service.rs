//! What an operator may choose about servers that answer calls (gRPC, Connect, HTTP).

use super::Address;
use crate::units::{Bytes, Span};
use std::sync::Arc;

/// Servers that answer the same calls. Each field is a bound or a switch with a config key of the same name.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSettings {
    /// Label value and config key.
    pub name: Arc<str>,
    /// Its servers. At least one.
    pub servers: Vec<Address>,
    /// Methods that are described, as in `bsky.Service/GetPostRecords`: these are label values, others are `_other`.
    pub methods: Arc<[Arc<str>]>,
    /// Calls for many keys are split where their method allows it.
    pub split: bool,
    /// Keys of one part of a split call. 1..=10000.
    pub chunk_keys: u32,
    /// Parts of one call in flight at once. 1..=1024.
    pub chunk_window: u32,
    /// Parts of split calls in flight per server, over all callers. 1..=1024.
    pub chunks_in_flight: u32,
    /// Instead of `chunk_window`, for a call of more parts than that, while a server of the service has a call that was passed on
    /// whole, and until they were given none for 20 ms. 1..=1024; above `chunk_window` it has no effect.
    pub chunks_beside_calls: u32,
    /// Calls passed on whole and not yet answered, over all servers of the service; the rest waits in weir. At least 1.
    pub calls_in_flight: u32,
    /// Calls under way, those that wait and those whose body has not come yet included; one more is refused. At least 1.
    pub calls_max: u32,
    /// Answers of parts held until the whole answer has left. While it is reached, only the oldest split call goes on.
    pub gather_bytes_max: Bytes,
    /// A call that waited this long in a queue of weir is refused.
    pub queue_timeout: Span,
    /// How long a call may take whose client sets no deadline.
    pub request_timeout: Span,
    /// How long a call may take whatever its client says.
    pub request_timeout_max: Span,
    /// Idempotent calls and parts that may be sent once more because a server failed them, in percent of those sent in
    /// the last ten seconds.
    pub retry_percent: u32,
}

impl ServiceSettings {
    /// A service of these servers with every default.
    #[must_use]
    pub fn new(name: &str, servers: Vec<Address>) -> ServiceSettings {
        ServiceSettings {
            name: name.into(),
            servers,
            methods: Arc::from([]),
            split: true,
            chunk_keys: 100,
            chunk_window: 4,
            chunks_in_flight: 4,
            chunks_beside_calls: 1,
            calls_in_flight: 1_024,
            calls_max: 8_192,
            gather_bytes_max: Bytes(64 << 20),
            queue_timeout: Span::secs(5),
            request_timeout: Span::secs(30),
            request_timeout_max: Span::secs(300),
            retry_percent: 10,
        }
    }
}
