//! Names that arrive later than the connection: its first requests wait for theirs in a held account
//! (`ledger::held`), and are booked once.
//!
//! The driver says with [`Engine::await_name`] that somebody is finding out who a connection belongs to, and passes the
//! answer on with [`Engine::name_client`]. Without an answer in time the account goes to the listener's name; a name that
//! comes later still is for later requests only.

use crate::admit::{Ask, book};
use crate::caller::{Identity, Known};
use crate::engine::Engine;
use crate::ledger::held::{HELD_FOR, HeldAccount, HeldAccounts, LARGE};
use crate::units::{ClientId, Instant, ServerId, Span};
use std::sync::Arc;

/// Accounts that are overdue are looked for no more often than this.
const SWEEP: Span = Span::millis(100);

/// What became of held accounts. Plain counts since they were last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamingCounts {
    /// Accounts booked under the name that was found.
    pub named: u64,
    /// Accounts booked under the listener's name, because none could be found.
    pub unnamed: u64,
    /// Accounts booked under the listener's name, because no answer came in time.
    pub late: u64,
    /// Requests booked under the listener's name at once, because too many accounts were held.
    pub overflow: u64,
}

/// The engine's part of naming, apart from the accounts themselves.
#[derive(Debug, Default)]
pub(crate) struct Naming {
    pub(crate) counts: NamingCounts,
    /// A request over its ceiling waits for its name.
    pub(crate) urgent: bool,
    /// When overdue accounts are looked for. 0: nothing is held.
    pub(crate) due: Instant,
}

impl Naming {
    /// Opens an account for a client that is known as this so far; `None`, and counted, where there is no room.
    pub(crate) fn open(
        &mut self,
        account: HeldAccount,
        operations: u64,
        held: &mut HeldAccounts,
        known: &mut Known,
    ) -> Option<u32> {
        let until = account.until;
        let Some(opened) = held.open(account, operations) else {
            self.counts.overflow += 1;
            return None;
        };
        known.held += 1;
        if self.due == Instant(0) {
            self.due = until;
        }
        Some(opened)
    }

    /// Accounts that have waited long enough: they are to be booked now. None before it is time to look.
    pub(crate) fn overdue(&mut self, held: &HeldAccounts, now: Instant) -> Vec<u32> {
        if self.due == Instant(0) || now < self.due {
            return Vec::new();
        }
        let (overdue, others): (Vec<_>, Vec<_>) = held.iter().partition(|(_, held)| held.until <= now);
        let next = others.iter().map(|(_, held)| held.until).min();
        self.due = next.map_or(Instant(0), |next| next.max(now.after(SWEEP)));
        overdue.into_iter().map(|(account, _)| account).collect()
    }
}

impl Engine {
    /// Somebody is finding out who this connection belongs to: what it does is booked when the answer is there, or
    /// [`HELD_FOR`] from now.
    pub fn await_name(&mut self, id: ClientId, now: Instant) {
        if let Some(client) = self.client_mut(id) {
            client.unnamed_until = Some(now.after(HELD_FOR));
        }
    }

    /// The identity that a closed connection had whose requests are not booked yet.
    #[must_use]
    pub fn held_identity(&self, id: ClientId) -> Option<Arc<Identity>> {
        let account = self.ledger.held().get(self.ledger.held().of_gone(id)?)?;
        Some(self.callers.known[account.known as usize].identity.clone())
    }

    /// The answer for a connection whose name was awaited, read from the system at `read_at`; `None`: no better name than
    /// it has. Everything it did that is not booked yet, requests under way included, bears the name. A connection that
    /// had closed before `read_at` keeps the name it had: its addresses may belong to somebody else by then.
    pub fn name_client(&mut self, id: ClientId, name: Option<Arc<Identity>>, read_at: Instant) {
        let Some(client) = self.client_mut(id) else { return self.name_gone(id, name, read_at) };
        client.unnamed_until = None;
        let account = client.held.take();
        match (account, name) {
            (Some(account), Some(identity)) => {
                let old = self.clients[id.slot as usize].known;
                let new = self.learn_identity(identity);
                self.move_requests(id, old, new);
                self.change_known(id, new);
                self.book_account(account, new);
                self.naming.counts.named += 1;
            }
            (Some(account), None) => {
                self.book_as_it_was(account);
                self.naming.counts.unnamed += 1;
            }
            (None, Some(identity)) => self.rename_client(id, identity),
            (None, None) => {}
        }
    }

    fn name_gone(&mut self, id: ClientId, name: Option<Arc<Identity>>, read_at: Instant) {
        let Some(account) = self.ledger.held().of_gone(id) else { return };
        let closed = self.ledger.held().get(account).and_then(|held| held.closed);
        match name.filter(|_| closed.is_some_and(|closed| read_at <= closed)) {
            Some(identity) => {
                let known = self.learn_identity(identity);
                self.book_account(account, known);
                self.callers.known[known as usize].clients -= 1; // nobody bears it on that account
                self.forget_identity(known);
                self.naming.counts.named += 1;
            }
            None => {
                self.book_as_it_was(account);
                self.naming.counts.unnamed += 1;
            }
        }
    }

    /// Attribution arrived: later requests bear the new name. Requests under way keep the old one.
    pub fn rename_client(&mut self, id: ClientId, identity: Arc<Identity>) {
        if self.client(id).is_none() {
            return;
        }
        let known = self.learn_identity(identity);
        self.change_known(id, known);
    }

    fn change_known(&mut self, id: ClientId, known: u32) {
        let client = &mut self.clients[id.slot as usize];
        let old = std::mem::replace(&mut client.known, known);
        if let Some(held) = client.granted.take() {
            // admitted but not yet passed on: it is admitted again, under the new name
            self.callers.known[old as usize].state.release(held.operations, held.bytes);
        }
        self.rename_queued(id);
        self.callers.known[old as usize].clients -= 1;
        self.forget_identity(old);
    }

    /// Requests under way go over to another identity, with what they hold of its budget.
    fn move_requests(&mut self, id: ClientId, old: u32, new: u32) {
        let (from, to) =
            (self.callers.known[old as usize].state.clone(), self.callers.known[new as usize].state.clone());
        let mut moved = 0;
        let under_way = self.clients[id.slot as usize].asked.iter_mut();
        for asked in under_way.filter(|asked| !asked.done && asked.known == old) {
            asked.known = new;
            moved += 1;
            if let Some(held) = asked.held {
                let ask = Ask {
                    operations: held.operations,
                    bytes: held.bytes,
                    waited: Span(0),
                    invalidation: false,
                };
                from.release(held.operations, held.bytes);
                book(&to, ask);
            }
        }
        self.callers.known[old as usize].requests -= moved;
        self.callers.known[new as usize].requests += moved;
    }

    /// A request of a connection without a name yet: opens its account where there is room.
    pub(crate) fn hold_account(&mut self, id: ClientId, operations: u64, now: Instant) {
        let client = &mut self.clients[id.slot as usize];
        let Some(until) = client.unnamed_until else { return };
        let limits = &self.callers.known[client.known as usize].limits;
        let ceiling = limits.operations_per_request.map_or(LARGE, |ceiling| ceiling.0);
        if client.held.is_none() {
            if now >= until {
                client.unnamed_until = None;
                return;
            }
            let account = HeldAccount::new(id, client.known, client.listener, until);
            let known = &mut self.callers.known[client.known as usize];
            client.held = self.naming.open(account, operations, self.ledger.held_mut(), known);
            if client.held.is_none() {
                return;
            }
        }
        self.naming.urgent |= operations > ceiling;
    }

    /// Whether, since the last call, a request over its ceiling began to wait for its name: finding out should not wait
    /// for company, the connection may soon be gone.
    pub fn take_urgent(&mut self) -> bool {
        std::mem::take(&mut self.naming.urgent)
    }

    /// What became of held accounts since the last call.
    pub fn take_naming_counts(&mut self) -> NamingCounts {
        std::mem::take(&mut self.naming.counts)
    }

    /// Books what has waited long enough.
    pub(crate) fn book_overdue(&mut self, now: Instant) {
        for account in self.naming.overdue(self.ledger.held(), now) {
            self.give_up(account);
        }
    }

    /// Books everything that is held: nobody will answer any more.
    pub fn book_held(&mut self) {
        for account in self.ledger.held().iter().map(|(account, _)| account).collect::<Vec<_>>() {
            self.give_up(account);
        }
        self.naming.due = Instant(0);
    }

    fn give_up(&mut self, account: u32) {
        let client = self.ledger.held().get(account).map(|held| held.client);
        if let Some(client) = client.and_then(|id| self.client_mut(id)) {
            (client.held, client.unnamed_until) = (None, None);
        }
        self.book_as_it_was(account);
        self.naming.counts.late += 1;
    }

    fn book_as_it_was(&mut self, account: u32) {
        if let Some(known) = self.ledger.held().get(account).map(|held| held.known) {
            self.book_account(account, known);
        }
    }

    fn book_account(&mut self, account: u32, target: u32) {
        let Some(held) = self.ledger.held_mut().take(account) else { return };
        for (server, operations) in &held.spent {
            if let Some(server) = self.servers.get_mut(server.0 as usize) {
                server.spend(target, *operations);
            }
        }
        let known = held.known;
        self.ledger.book(*held, target, &self.callers.known[target as usize].identity.name);
        self.callers.known[known as usize].held -= 1;
        self.forget_identity(known);
    }

    /// Notes that a server was asked for operations of a client.
    pub(crate) fn spend(&mut self, server: ServerId, client: ClientId, operations: u64) {
        let Some(client) = self.client(client) else { return };
        let (known, held) = (client.known, client.held);
        match held.and_then(|account| self.ledger.held_mut().get_mut(account)) {
            Some(held) => held.spend(server, operations),
            None => self.servers[server.0 as usize].spend(known, operations),
        }
    }
}
