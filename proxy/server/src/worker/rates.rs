//! Operations per second of each server, from two looks at what it was ever passed.

use std::collections::HashMap;
use std::sync::Arc;
use weir_engine::EngineSnapshot;
use weir_engine::settings::Backend;
use weir_engine::units::Instant;

#[derive(Clone, Copy, Debug)]
struct Seen {
    total: u64,
    at: Instant,
    per_second: f64,
}

/// What was seen last of each server.
#[derive(Debug, Default)]
pub(crate) struct Rates(HashMap<(Backend, Arc<str>), Seen>);

impl Rates {
    /// Looks again. Servers that are not there any more are forgotten.
    pub(crate) fn note(&mut self, snapshot: &EngineSnapshot, now: Instant) {
        self.0.retain(|(backend, name), _| {
            snapshot.servers.iter().any(|server| server.backend == *backend && server.name == *name)
        });
        for server in &snapshot.servers {
            let total = server.operations_total;
            let key = (server.backend, server.name.clone());
            let seen = self.0.entry(key).or_insert(Seen { total, at: now, per_second: 0.0 });
            let elapsed = now.since(seen.at).0;
            if elapsed > 0 {
                let per_second = total.saturating_sub(seen.total) as f64 * 1e6 / elapsed as f64;
                *seen = Seen { total, at: now, per_second };
            }
        }
    }

    /// Of this one; 0 before the second look.
    pub(crate) fn of(&self, backend: Backend, name: &str) -> f64 {
        self.0.get(&(backend, name.into())).map_or(0.0, |seen| seen.per_second)
    }
}
