//! `flush_all` by prefix: listing and deleting keys is maintenance that would hold up a shared lane, so the driver does it
//! on connections of its own; the engine keeps the answer's place among the answers the client is owed, and the order: it
//! begins when the client's commands before it are answered, and those behind it wait until it has ended.

use crate::caller::Identity;
use crate::client::{Asked, Target};
use crate::engine::Engine;
use crate::error::Failure;
use crate::ledger::held::HELD;
use crate::ledger::{FlushEnd, Outcome};
use crate::units::{ClientId, Instant, PoolId};
use std::sync::Arc;
use weir_memcached::{Verb, text};

/// Flushes by prefix under way at once, per worker; further ones are refused.
pub const FLUSHES_MAX: u32 = 4;

/// A flush by prefix for the driver to carry out.
#[derive(Clone, Debug)]
pub struct FlushJob {
    target: Target,
    /// Who asked, as far as was known then.
    identity: Arc<Identity>,
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
        let identity = self.callers.known[client.known as usize].identity.clone();
        let seq = self.ask(id, asked);
        // what follows goes another way, and must not overtake it
        self.clients[id.slot as usize].barrier = seq + 1;
        self.flushes.push(FlushJob { target: Target { client: id, seq }, identity, pool, prefix });
        true
    }

    /// Flushes to carry out; each must come back through [`Engine::flush_done`].
    pub fn take_flushes(&mut self, into: &mut Vec<FlushJob>) {
        into.append(&mut self.flushes);
    }

    /// A flush ended; `ok` when every matching key was deleted.
    pub fn flush_done(&mut self, job: &FlushJob, ok: bool, now: Instant) {
        self.flushes_under_way = self.flushes_under_way.saturating_sub(1);
        self.count_flush(job, if ok { FlushEnd::Sent } else { FlushEnd::Failed });
        let Some(client) = self.client_mut(job.target.client) else { return };
        let failed = Failure::FlushFailed.line("");
        let bytes = client.answer(job.target.seq, if ok { text::OK } else { &failed });
        if let Some(asked) = client.request(job.target.seq).filter(|_| !ok) {
            asked.outcome = Outcome::Error;
        }
        self.reply_bytes += bytes;
        self.finish(job.target, now);
    }

    /// Counts it for who asked, whose connection may have been named, or have closed, since.
    fn count_flush(&mut self, job: &FlushJob, end: FlushEnd) {
        let id = job.target.client;
        let account = match self.client(id) {
            Some(client) => Some(client.account()),
            None => self.ledger.held().of_gone(id).map(|account| account | HELD),
        };
        match account {
            Some(account) => self.ledger.flush_all(account, end),
            None => {
                let known = self.learn_identity(job.identity.clone());
                self.ledger.flush_all(known, end);
                self.callers.known[known as usize].clients -= 1; // nobody bears it on that account
                self.forget_identity(known);
            }
        }
    }
}
