//! Accounts held back: what a new connection did while it is being found out who it belongs to. The account is then
//! booked once, under the name that was found or under the listener's; nothing that was booked is ever booked anew.
//!
//! Only the books wait: limits, queues and answers go on under the connection's principal. Bounds: [`HELD_MAX`] accounts
//! per worker, each for [`HELD_FOR`] at most; without a free place a request is booked under the listener's name at once.

use super::entry::{Entry, Method, RequestId};
use super::statements::{Statement, StatementTally, Sums};
use super::tally::IdentityTally;
use crate::units::{ClientId, Instant, ListenerId, ServerId, Span};
use rustc_hash::FxHashMap;
use slab::Slab;

/// Accounts held per worker.
pub const HELD_MAX: usize = 4_096;
/// Of those, as many may be opened by a request of at most [`LARGE`] operations: a crowd of small requests leaves room
/// for the large one that somebody will want to have named.
pub const HELD_BY_SMALL_MAX: usize = 3_072;
/// A request of more operations than this may take any place.
pub const LARGE: u64 = 100;
/// How long an account is held at most, from the opening of its connection.
pub const HELD_FOR: Span = Span::millis(1_000);
/// Requests per account that may enter the list of the most expensive ones.
pub const EXPENSIVE_KEPT: usize = 4;
/// Statements per account that are told apart; those of further ones are known as a rest only.
pub const STATEMENTS_KEPT: usize = 4;

/// Accounts by number are told from identities by this bit.
pub(crate) const HELD: u32 = 1 << 31;

/// What one connection did so far.
#[derive(Debug)]
pub(crate) struct HeldAccount {
    pub(crate) client: ClientId,
    /// The identity it is booked under when no name is found.
    pub(crate) known: u32,
    pub(crate) listener: ListenerId,
    /// It is booked now at the latest.
    pub(crate) until: Instant,
    /// When the connection closed: an answer about its addresses that was read later may be about somebody else.
    pub(crate) closed: Option<Instant>,
    pub(crate) tally: IdentityTally,
    pub(crate) operations: u64,
    pub(crate) expensive: Vec<(Entry, RequestId, Option<Statement>)>,
    pub(crate) statements: Vec<(Method, Statement, StatementTally)>,
    /// Of statements without a place in `statements`.
    pub(crate) rest: Sums,
    pub(crate) spent: Vec<(ServerId, u64)>,
}

impl HeldAccount {
    pub(crate) fn new(client: ClientId, known: u32, listener: ListenerId, until: Instant) -> HeldAccount {
        HeldAccount {
            client,
            known,
            listener,
            until,
            closed: None,
            tally: IdentityTally::default(),
            operations: 0,
            expensive: Vec::new(),
            statements: Vec::new(),
            rest: Sums::default(),
            spent: Vec::new(),
        }
    }

    pub(crate) fn record(&mut self, entry: &Entry, request: RequestId, statement: Option<&Statement>) {
        self.tally.method(entry.method).record(entry, request);
        self.operations = self.operations.saturating_add(entry.operations);
        if self.expensive.len() < EXPENSIVE_KEPT {
            self.expensive.push((*entry, request, statement.cloned()));
        } else if let Some(least) = self.expensive.iter_mut().min_by_key(|(kept, ..)| kept.operations)
            && least.0.operations < entry.operations
        {
            *least = (*entry, request, statement.cloned());
        }
        if let Some(statement) = statement {
            self.record_statement(entry, statement);
        }
    }

    fn record_statement(&mut self, entry: &Entry, statement: &Statement) {
        let known = |(method, kept, _): &&mut (Method, Statement, StatementTally)| {
            *method == entry.method && kept == statement
        };
        if let Some((.., counted)) = self.statements.iter_mut().find(known) {
            counted.record(entry);
        } else if self.statements.len() < STATEMENTS_KEPT {
            let mut counted = StatementTally::default();
            counted.record(entry);
            self.statements.push((entry.method, statement.clone(), counted));
        } else {
            self.rest.record(entry);
        }
    }

    /// Notes operations that a server was asked for. At most one line per server.
    pub(crate) fn spend(&mut self, server: ServerId, operations: u64) {
        match self.spent.iter_mut().find(|(known, _)| *known == server) {
            Some((_, spent)) => *spent += operations,
            None => self.spent.push((server, operations)),
        }
    }
}

/// All accounts of a worker that are held.
#[derive(Debug, Default)]
pub(crate) struct HeldAccounts {
    accounts: Slab<Box<HeldAccount>>,
    /// Those whose connection has closed.
    gone: FxHashMap<ClientId, u32>,
}

impl HeldAccounts {
    /// A place for an account that a request of so many operations opens. None: all are taken.
    pub(crate) fn open(&mut self, account: HeldAccount, operations: u64) -> Option<u32> {
        let room = if operations > LARGE { HELD_MAX } else { HELD_BY_SMALL_MAX };
        (self.accounts.len() < room).then(|| self.accounts.insert(Box::new(account)) as u32)
    }

    pub(crate) fn get(&self, account: u32) -> Option<&HeldAccount> {
        self.accounts.get(account as usize).map(Box::as_ref)
    }

    pub(crate) fn get_mut(&mut self, account: u32) -> Option<&mut HeldAccount> {
        self.accounts.get_mut(account as usize).map(Box::as_mut)
    }

    /// Takes an account out, to be booked. Memory is given back with the last one.
    pub(crate) fn take(&mut self, account: u32) -> Option<Box<HeldAccount>> {
        let taken = self.accounts.try_remove(account as usize)?;
        if taken.closed.is_some() {
            self.gone.remove(&taken.client);
        }
        if self.accounts.is_empty() {
            *self = HeldAccounts::default();
        }
        Some(taken)
    }

    /// The connection of an account closed.
    pub(crate) fn leave(&mut self, account: u32, now: Instant) {
        if let Some(held) = self.accounts.get_mut(account as usize) {
            held.closed = Some(now);
            self.gone.insert(held.client, account);
        }
    }

    /// The account of a connection that has closed.
    pub(crate) fn of_gone(&self, client: ClientId) -> Option<u32> {
        self.gone.get(&client).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.accounts.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &HeldAccount)> {
        self.accounts.iter().map(|(account, held)| (account as u32, held.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(slot: u32) -> HeldAccount {
        HeldAccount::new(ClientId { slot, generation: 0 }, 0, ListenerId(0), Instant(0))
    }

    #[test]
    fn small_requests_leave_room_for_large_ones_and_all_of_it_is_bounded() {
        let mut held = HeldAccounts::default();
        for slot in 0..HELD_BY_SMALL_MAX as u32 {
            assert!(held.open(account(slot), 1).is_some());
        }
        assert_eq!(held.open(account(9_000), LARGE), None);
        for slot in HELD_BY_SMALL_MAX as u32..HELD_MAX as u32 {
            assert!(held.open(account(slot), LARGE + 1).is_some());
        }
        assert_eq!(held.open(account(9_000), 15_000), None);
        assert_eq!(held.len(), HELD_MAX);
        assert!(held.take(7).is_some());
        assert_eq!(held.open(account(9_000), 15_000), Some(7));
    }

    #[test]
    fn the_account_of_a_closed_connection_is_found_until_it_is_taken() {
        let mut held = HeldAccounts::default();
        let place = held.open(account(3), 1).expect("room");
        let client = ClientId { slot: 3, generation: 0 };
        assert_eq!(held.of_gone(client), None, "still open");
        held.leave(place, Instant(5));
        assert_eq!(held.of_gone(client), Some(place));
        assert_eq!(held.take(place).and_then(|held| held.closed), Some(Instant(5)));
        assert_eq!((held.of_gone(client), held.len()), (None, 0));
    }
}
