//! What the edge counts. Whoever owns the metrics reads them; the edge names none.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! stats {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counters of one edge: they only grow, unless their words say `now`.
        #[derive(Debug, Default)]
        pub(crate) struct Stats {
            $(pub(crate) $name: Count,)+
        }

        /// What was counted up to a moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counted {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Stats {
            pub(crate) fn read(&self) -> Counted {
                Counted { $($name: self.$name.get(),)+ }
            }
        }
    };
}

stats! {
    /// Clients' connections accepted.
    client_connections,
    /// Clients' connections open now.
    client_connections_now,
    /// Clients turned away because of `max_connections`.
    clients_over_cap,
    /// Clients that sent nothing, or a head too slowly, within `opening_timeout`, or failed the TLS handshake.
    clients_not_opened,
    /// Connections cut with requests under way, because draining took longer than `drain_timeout`.
    clients_cut,
    /// Times that accepting rested because no descriptor was left.
    accept_pauses,
    /// Requests.
    requests,
    /// Requests under way now.
    requests_now,
    /// Requests that the edge or its gate refused.
    refused,
    /// Dials to the service that led to a connection.
    upstream_opens,
    /// Dials to the service that failed.
    upstream_open_failures,
    /// Connections to the service that are open now.
    upstream_connections_now,
    /// Requests sent to the service, repetitions included.
    upstream_requests,
    /// Requests waiting for a place or a connection now.
    upstream_waiting_now,
    /// Requests sent once more.
    retries,
    /// Requests that could have been sent once more but for the retry budget.
    retries_denied,
    /// Health checks with a bad answer or none.
    health_failures,
}

/// A counter or a level.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more, until the guard is dropped.
    pub(crate) fn hold(stats: &std::sync::Arc<Stats>, which: fn(&Stats) -> &Count) -> Held {
        which(stats).add();
        Held { stats: stats.clone(), which }
    }
}

/// Takes one off a level when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    stats: std::sync::Arc<Stats>,
    which: fn(&Stats) -> &Count,
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.which)(&self.stats).0.fetch_sub(1, Ordering::Relaxed);
    }
}
