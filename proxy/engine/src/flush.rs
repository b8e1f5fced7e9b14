//! `flush_all` by prefix: listing and deleting keys is maintenance that would hold up a shared lane, so the driver does it
//! on a connection of its own; the engine only keeps the answer's place among the answers the client is owed.

use crate::client::{Asked, Target};
use crate::engine::Engine;
use crate::error::Failure;
use crate::ledger::Outcome;
use crate::units::{ClientId, Instant, PoolId};
use std::sync::Arc;
use weir_memcached::{Verb, text};

/// Flushes by prefix under way at once, per worker; further ones are refused.
pub const FLUSHES_MAX: u32 = 4;

/// A flush by prefix for the driver to carry out.
#[derive(Clone, Debug)]
pub struct FlushJob {
    target: Target,
    /// Whose servers.
    pub pool: PoolId,
    /// Only keys that start with this.
    pub prefix: Arc<str>,
}

impl Engine {
    /// Takes a flush on, unless too many are under way.
    pub(crate) fn begin_flush(
        &mut self,
        id: ClientId,
        prefix: Arc<str>,
        noreply: bool,
        now: Instant,
    ) -> bool {
        if self.flushes_under_way >= FLUSHES_MAX {
            return false;
        }
        self.flushes_under_way += 1;
        let client = &self.clients[id.slot as usize];
        let mut asked = Asked::new(client.known, Verb::FlushAll, now, 1, 0);
        asked.hidden = noreply;
        asked.issued = Some(now);
        let pool = client.pool;
        let seq = self.ask(id, asked);
        self.flushes.push(FlushJob { target: Target { client: id, seq }, pool, prefix });
        true
    }

    /// Flushes to carry out; each must come back through [`Engine::flush_done`].
    pub fn take_flushes(&mut self, into: &mut Vec<FlushJob>) {
        into.append(&mut self.flushes);
    }

    /// A flush ended; `ok` when every matching key was deleted.
    pub fn flush_done(&mut self, job: &FlushJob, ok: bool, now: Instant) {
        self.flushes_under_way = self.flushes_under_way.saturating_sub(1);
        let Some(client) = self.client_mut(job.target.client) else { return };
        let failed = Failure::FlushFailed.line("");
        let bytes = client.answer(job.target.seq, if ok { text::OK } else { &failed });
        if let Some(asked) = client.request(job.target.seq).filter(|_| !ok) {
            asked.outcome = Outcome::Error;
        }
        self.reply_bytes += bytes;
        self.finish(job.target, now);
    }
}
