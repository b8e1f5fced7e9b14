//! From a client's bytes to admitted requests: decode, answer what needs no server, price, admit, or hold.
//! `issue` passes on what was admitted.

use crate::admit::{Ask, Verdict, admit, book};
use crate::client::{Asked, Held, Hold, StaleDelete, Target};
use crate::correlate::CorrelationId;
use crate::engine::Engine;
use crate::error::{Failure, Rejected, refusal};
use crate::ledger::{FlushEnd, Outcome};
use crate::settings::{FlushPolicy, LimitMode};
use crate::units::{Bytes, ClientId, Instant, Operations, Span};
use std::cmp::Reverse;
use weir_memcached::{Meta, Request, Step, Verb, text};

/// Entries of the list of paced clients that may belong to connections closed since, beyond one per client.
const STALE_PACED_MAX: usize = 64;

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its bytes are used up.
    Taken,
    /// It is held; its bytes stay in front of the input.
    Held,
}

impl Engine {
    /// Bytes a client sent. Whole requests are carried out straight from `bytes`; only the rest is copied.
    pub fn client_input(&mut self, id: ClientId, bytes: &[u8], now: Instant) {
        if self.client(id).is_none() {
            return;
        }
        let slot = id.slot as usize;
        if self.clients[slot].input.is_empty() {
            let used = self.decode(id, bytes, now);
            let rest = &bytes[used..];
            if !rest.is_empty() {
                self.keep_input(slot, rest);
            }
        } else {
            self.keep_input(slot, bytes);
            self.decode_held(id, now);
        }
    }

    /// Keeps what cannot be carried out yet. What is counted is the memory it takes.
    fn keep_input(&mut self, slot: usize, bytes: &[u8]) {
        let input = &mut self.clients[slot].input;
        let before = input.capacity();
        input.push(bytes);
        self.input_bytes = self.input_bytes + input.capacity() - before;
        // not only at the end of the turn: many reads may come before that
        self.input_crowded |= self.over_input_bound();
    }

    /// Goes on with input that was held.
    pub(crate) fn decode_held(&mut self, id: ClientId, now: Instant) {
        let slot = id.slot as usize;
        let mut input = std::mem::take(&mut self.clients[slot].input);
        let before = input.capacity();
        let used = self.decode(id, input.unread(), now);
        input.consume(used);
        self.input_bytes = self.input_bytes + input.capacity() - before;
        self.clients[slot].input = input;
        if used > 0 {
            self.mark_client(id); // it may be read again
        }
    }

    fn decode(&mut self, id: ClientId, input: &[u8], now: Instant) -> usize {
        let slot = id.slot as usize;
        let mut at = 0;
        if self.clients[slot].stale.is_some() && !self.pass_stale(id, now) {
            return 0;
        }
        while at < input.len() {
            let client = &mut self.clients[slot];
            let reply_buffer = self.settings.listeners[client.listener.0 as usize].reply_buffer;
            if !client.may_decode(reply_buffer) {
                if client.closing.is_some() {
                    return input.len();
                }
                break;
            }
            match client.decoder.decode(&input[at..]) {
                Step::Incomplete { .. } => break,
                Step::Swallowed { consumed } => at += consumed,
                Step::Request { request, consumed } => {
                    let fate = if self.callers.known[client.known as usize].request_ids {
                        self.accept_correlated(id, request, consumed, now)
                    } else {
                        self.accept(id, &request, consumed, now)
                    };
                    if fate == Fate::Held {
                        break;
                    }
                    at += consumed;
                }
                Step::Reject { reply, consumed } => {
                    self.invalid.count(client.listener, reply.cause());
                    if let Some(why) = Rejected::of(reply.kind()) {
                        self.ledger.rejected(client.known, why, 1);
                    }
                    let verb = Verb::of_line(&input[at..]);
                    if let Some(key) = reply.stale_key() {
                        let stale = stale(&input[at..][key.range()], key.base64(), client.next_seq());
                        client.stale = Some(Box::new(stale));
                    }
                    at += consumed;
                    self.hold_account(id, 0, now);
                    self.local(id, verb, 0, reply.reply(), Outcome::Invalid, consumed, now);
                    if reply.close() {
                        self.clients[slot].closing = Some(crate::CloseHow::Protocol);
                    }
                    if self.clients[slot].stale.is_some() && !self.pass_stale(id, now) {
                        break;
                    }
                }
                Step::Binary { reply, .. } => {
                    self.invalid.count(client.listener, "binary_protocol");
                    self.ledger.rejected(client.known, Rejected::CommandPolicy, 1);
                    self.local(id, Verb::Unknown, 0, &reply[..], Outcome::Invalid, input.len() - at, now);
                    self.clients[slot].closing = Some(crate::CloseHow::Protocol);
                    return input.len();
                }
            }
        }
        at
    }

    /// Answers without asking any server; in its place among the answers owed. An empty line is no answer.
    #[expect(clippy::too_many_arguments, reason = "one call per command kind, all of them needed")]
    fn local(
        &mut self,
        id: ClientId,
        verb: Verb,
        operations: u64,
        line: &[u8],
        outcome: Outcome,
        bytes_in: usize,
        now: Instant,
    ) {
        let client = &mut self.clients[id.slot as usize];
        let arrived = client.held_since.take().unwrap_or(now);
        let mut asked = Asked::new(client.known, verb, arrived, operations, bytes_in as u64);
        asked.outcome = outcome;
        asked.correlation = client.correlation.take();
        let seq = self.ask(id, asked);
        let client = &mut self.clients[id.slot as usize];
        self.reply_bytes += client.answer(seq, line);
        let unfinished = client.stale.as_ref().is_some_and(|stale| stale.seq == seq);
        match client.request(seq).filter(|_| unfinished) {
            // the client has its answer, and a delete goes on behind it
            Some(asked) => (asked.hidden, asked.outstanding) = (true, 1),
            None => self.finish(Target { client: id, seq }, now),
        }
        self.mark_client(id);
    }

    /// The same for a principal whose word is taken for which request a command is a part of.
    fn accept_correlated(
        &mut self,
        id: ClientId,
        mut request: Request<'_>,
        consumed: usize,
        now: Instant,
    ) -> Fate {
        let (mut correlation, mut nothing_left) = (None, false);
        match &mut request {
            Request::Meta(meta) => correlation = meta.request_id(),
            Request::Retrieve(retrieve) => {
                if let Some((id, rest)) = retrieve.split_request_id() {
                    nothing_left = rest.keys.is_empty();
                    (correlation, *retrieve) = (Some(id), rest);
                }
            }
            _ => {}
        }
        self.clients[id.slot as usize].correlation = correlation.map(|id| Box::new(CorrelationId(id)));
        if nothing_left {
            self.hold_account(id, 0, now);
            self.local(id, request.verb(), 0, text::END, Outcome::Ok, consumed, now);
            return Fate::Taken;
        }
        self.accept(id, &request, consumed, now)
    }

    fn accept(&mut self, id: ClientId, request: &Request<'_>, consumed: usize, now: Instant) -> Fate {
        let slot = id.slot as usize;
        let verb = request.verb();
        let hidden = noreply(request);
        if self.clients[slot].unnamed_until.is_some() {
            self.hold_account(id, price(request), now);
        }
        if let Some(failure) = self.clients[slot].doomed.take() {
            self.drop_grant(id);
            let line = failure.line(&self.pool_name_of(id));
            self.refuse(id, request, &line, Outcome::Timeout, consumed, now);
            return Fate::Taken;
        }
        match request {
            Request::Quit => {
                self.clients[slot].closing = Some(crate::CloseHow::Client);
                self.mark_client(id);
                return Fate::Taken;
            }
            Request::MetaNoop => {
                self.local(id, verb, 0, text::META_NOOP, Outcome::Ok, consumed, now);
                return Fate::Taken;
            }
            Request::Verbosity { .. } => {
                let line = if hidden { b"" } else { text::OK };
                self.local(id, verb, 0, line, Outcome::Ok, consumed, now);
                return Fate::Taken;
            }
            Request::Shutdown => {
                self.ledger.rejected(self.clients[slot].known, Rejected::CommandPolicy, 1);
                self.local(id, verb, 0, text::SHUTDOWN_DISABLED, Outcome::Refused, consumed, now);
                return Fate::Taken;
            }
            Request::Stats { args } if *args == b"weir" => {
                let lines = self.stats_weir();
                self.local(id, verb, 0, &lines, Outcome::Ok, consumed, now);
                return Fate::Taken;
            }
            Request::FlushAll { delay, .. } => {
                let client = &self.clients[slot];
                let policy = self.settings.pools[client.pool.0 as usize].flush_all.clone();
                let account = client.account();
                let first_look = client.held_since.is_none();
                if *delay == 0 && matches!(policy, FlushPolicy::Prefix(_)) && !client.asked.is_empty() {
                    // it goes another way than the commands before it, and must not overtake them
                    self.clients[slot].barrier = self.clients[slot].next_seq();
                    return Fate::Held;
                }
                let taken = match policy {
                    FlushPolicy::Prefix(prefix) if *delay == 0 => self.begin_flush(id, prefix, hidden, now),
                    _ => false,
                };
                let allowed = taken
                    || self.settings.pools[self.clients[slot].pool.0 as usize].flush_all
                        == FlushPolicy::Allow;
                // one that was taken on is counted when it has ended
                if first_look && !taken {
                    let end = if allowed { FlushEnd::Sent } else { FlushEnd::Refused };
                    self.ledger.flush_all(account, end);
                }
                if taken {
                    self.drop_grant(id);
                    return Fate::Taken;
                }
                if !allowed {
                    self.drop_grant(id);
                    self.refuse(
                        id,
                        request,
                        &Failure::FlushRefused.line(""),
                        Outcome::Refused,
                        consumed,
                        now,
                    );
                    return Fate::Taken;
                }
            }
            _ => {}
        }
        if self.clients[slot].granted.is_none()
            && let Some(fate) = self.admit(id, verb, request, consumed, now)
        {
            return fate;
        }
        let fate = self.issue(id, request, consumed as u64, now);
        if fate == Fate::Taken {
            self.clients[slot].held_since = None;
        }
        fate
    }

    /// Answers a request that is not carried out; one that wanted no reply is only counted.
    fn refuse(
        &mut self,
        id: ClientId,
        request: &Request<'_>,
        line: &[u8],
        outcome: Outcome,
        consumed: usize,
        now: Instant,
    ) {
        let hidden = noreply(request);
        if hidden {
            self.ledger.noreply_dropped(1);
        }
        let line = if hidden { b"" } else { line };
        self.local(id, request.verb(), price(request), line, outcome, consumed, now);
    }

    /// None: admitted (booked as `granted`). Some: refused and answered, or held.
    fn admit(
        &mut self,
        id: ClientId,
        verb: Verb,
        request: &Request<'_>,
        consumed: usize,
        now: Instant,
    ) -> Option<Fate> {
        let client = &mut self.clients[id.slot as usize];
        let known = &self.callers.known[client.known as usize];
        let price = price(request);
        let first_look = client.held_since.is_none();
        if first_look {
            self.ledger.asked(client.account(), verb, price);
        }
        let ask = Ask {
            operations: Operations(price),
            bytes: Bytes(known.reply_bytes.saturating_mul(price)),
            waited: client.waited(now),
            invalidation: matches!(verb, Verb::Delete | Verb::Touch | Verb::Md),
        };
        let enforced = self.settings.listeners[client.listener.0 as usize].switches.limits;
        let verdict = if enforced {
            admit(&known.state, &known.limits, ask, now)
        } else {
            book(&known.state, ask);
            Verdict::Admit { over: None }
        };
        match verdict {
            Verdict::Admit { over } => {
                if let Some(kind) = over {
                    self.ledger.over_limit(client.account(), kind, LimitMode::Observe);
                }
                client.granted = Some(Held { operations: ask.operations, bytes: ask.bytes });
                None
            }
            Verdict::Wait { wait, kind } => {
                if first_look {
                    self.ledger.over_limit(client.account(), kind, LimitMode::Pace);
                }
                client.hold = Some(Hold::Paced);
                client.held_since.get_or_insert(now);
                self.pace(id, now.after(wait));
                Some(Fate::Held)
            }
            Verdict::Refuse { kind, ceiling } => {
                self.ledger.over_limit(client.account(), kind, LimitMode::Refuse);
                let line = refusal(kind, &known.identity.name, Operations(price), ceiling);
                self.refuse(id, request, &line, Outcome::Refused, consumed, now);
                Some(Fate::Taken)
            }
        }
    }

    fn pace(&mut self, id: ClientId, until: Instant) {
        let most = 2 * (self.clients.len() - self.free.len()) + STALE_PACED_MAX;
        if self.paced.len() >= most {
            let clients = &self.clients;
            self.paced.retain(|Reverse((_, slot, generation))| {
                clients.get(*slot as usize).is_some_and(|c| c.open && c.generation == *generation)
            });
        }
        self.paced.push(Reverse((until, id.slot, id.generation)));
    }

    pub(crate) fn paced_due(&mut self, now: Instant) {
        while let Some(&Reverse((due, slot, generation))) = self.paced.peek() {
            if due > now {
                break;
            }
            self.paced.pop();
            let id = ClientId { slot, generation };
            let Some(client) = self.client_mut(id) else { continue };
            if client.hold == Some(Hold::Paced) {
                client.hold = None;
                self.decode_held(id, now);
            }
        }
        if self.paced.is_empty() && self.paced.capacity() > STALE_PACED_MAX {
            self.paced = std::collections::BinaryHeap::new();
        }
    }

    pub(crate) fn next_paced(&self) -> Option<Instant> {
        self.paced.peek().map(|Reverse((due, ..))| *due)
    }

    fn drop_grant(&mut self, id: ClientId) {
        let client = &mut self.clients[id.slot as usize];
        if let Some(held) = client.granted.take() {
            self.callers.known[client.known as usize].state.release(held.operations, held.bytes);
        }
    }

    pub(crate) fn pool_name_of(&self, id: ClientId) -> String {
        let pool = self.clients[id.slot as usize].pool;
        format!("pool {}", self.settings.pools[pool.0 as usize].name)
    }

    pub(crate) fn queue_wait(&self, asked: &Asked) -> Span {
        asked.issued.map_or(Span(0), |issued| issued.since(asked.arrived))
    }
}

/// memcached forgets the old value when it refuses a new one (too large); so must the server behind weir.
fn stale(key: &[u8], base64: bool, seq: u64) -> StaleDelete {
    if !base64 {
        let line = [b"delete ", key, b"\r\n"].concat();
        return StaleDelete { seq, line, key: key.to_vec(), verb: Verb::Delete };
    }
    let line = [b"md ", key, b" b\r\n"].concat();
    let meta = Meta { verb: Verb::Md, key, line: b"", data: None, quiet: false, base64, plain_read: false };
    let mut scratch = [0; 256];
    StaleDelete { seq, key: meta.routing_key(&mut scratch).to_vec(), line, verb: Verb::Md }
}

fn noreply(request: &Request<'_>) -> bool {
    match request {
        Request::Store(store) => store.noreply,
        Request::Mutate(mutate) => mutate.noreply,
        Request::FlushAll { noreply, .. } | Request::Verbosity { noreply } => *noreply,
        _ => false,
    }
}

/// Operations a request is charged before it runs.
pub(crate) fn price(request: &Request<'_>) -> u64 {
    match request {
        Request::Retrieve(retrieve) => retrieve.keys.len() as u64,
        Request::Store(store) => Bytes(store.data.len() as u64).as_operations().0.max(1),
        Request::Meta(meta) => meta.data.map_or(1, |data| Bytes(data.len() as u64).as_operations().0.max(1)),
        _ => 1,
    }
}
