//! From a server's bytes to clients' answers. The lane's oldest debt says whose the next reply is; the key of every
//! VALUE is compared with the key asked, and anything unexpected is a [`Desync`].

use crate::client::Target;
use crate::engine::Engine;
use crate::ledger::Outcome;
use crate::multiplex::{Cost, CutCause, Desync, KeysWork, LaneState, Owner, Pending, Work};
use crate::settle::Fault;
use crate::units::{Instant, LaneId};
use weir_memcached::{LineKind, ReplyHead, Verb, parse_reply, quiet_hides, text};

/// A VALUE announced larger than this is not believed (memcached's `-I` allows at most 1 GiB).
const VALUE_BELIEVED_MAX: u32 = 1 << 30;

/// Bytes of one server's statistics beyond which they are not believed.
const LINES_MAX: usize = 16 << 20;

struct Step {
    consumed: usize,
    done: bool,
    /// The error line an implicit batch was answered with.
    failed_batch: Option<Vec<u8>>,
}

impl Step {
    fn more(consumed: usize) -> Step {
        Step { consumed, done: false, failed_batch: None }
    }

    fn done(consumed: usize) -> Step {
        Step { consumed, done: true, failed_batch: None }
    }
}

impl Engine {
    /// Bytes a server sent.
    ///
    /// # Errors
    /// [`Desync`]: the driver must cut the connection and call `lane_lost`.
    pub fn lane_input(&mut self, id: LaneId, bytes: &[u8], now: Instant) -> Result<(), Desync> {
        let lane = &mut self.lanes[id.0 as usize];
        if lane.desynced {
            return Err(Desync::Malformed); // whatever follows answers nothing
        }
        lane.heard = now;
        let mut held = std::mem::take(&mut lane.input);
        if held.is_empty() {
            let used = self.replies(id, bytes, now)?;
            if used < bytes.len() {
                self.lanes[id.0 as usize].input.extend_from_slice(&bytes[used..]);
            }
        } else {
            held.extend_from_slice(bytes);
            let used = self.replies(id, &held, now)?;
            if used < held.len() {
                if used > 0 {
                    held.drain(..used);
                }
                self.lanes[id.0 as usize].input = held;
            }
        }
        Ok(())
    }

    fn replies(&mut self, id: LaneId, input: &[u8], now: Instant) -> Result<usize, Desync> {
        let mut at = 0;
        while at < input.len() {
            let Some(mut pending) = self.lanes[id.0 as usize].owed.pop_front() else {
                return self.desync(id, Desync::Unasked);
            };
            let step = match &mut pending.work {
                Work::Keys(keys) => self.keys_reply(keys, &input[at..], now),
                Work::Line { target, verb, quiet } => {
                    let (target, verb, quiet) = (*target, *verb, *quiet);
                    self.line_reply(target, verb, quiet, &input[at..], now)
                }
                Work::Lines { target, part } => {
                    let (target, part) = (*target, *part);
                    self.lines_reply(target, part, &input[at..], now)
                }
                Work::Discard => Err(Desync::Unasked),
            };
            match step {
                Ok(step) if step.done => {
                    at += step.consumed;
                    self.paid(id, pending, step.failed_batch, now);
                }
                Ok(step) => {
                    at += step.consumed;
                    self.lanes[id.0 as usize].owed.push_front(pending);
                    break;
                }
                Err(desync) => {
                    self.lanes[id.0 as usize].owed.push_front(pending);
                    return self.desync(id, desync);
                }
            }
        }
        Ok(at)
    }

    fn desync<T>(&mut self, id: LaneId, desync: Desync) -> Result<T, Desync> {
        self.desyncs += 1;
        self.lanes[id.0 as usize].desynced = true;
        Err(desync)
    }

    /// A debt is settled: budgets come back, estimates are corrected, waiting clients may go.
    fn paid(&mut self, id: LaneId, pending: Pending, failed_batch: Option<Vec<u8>>, now: Instant) {
        let server = self.lanes[id.0 as usize].info.server;
        self.servers[server.0 as usize].release(pending.cost);
        if let Work::Keys(keys) = pending.work {
            if let Some(line) = failed_batch {
                self.batch_failed(id, &keys, line, now);
            } else if let Owner::One(target) | Owner::Part(target, _) = keys.owner
                && let Some(known) = self.client(target.client).map(|client| client.known)
            {
                self.callers.known[known as usize].learn(keys.seen, keys.len() as u64);
            }
            self.recycle(keys);
        }
        self.cut_if_retired(id);
    }

    /// A lane that left the settings has answered all it owed.
    pub(crate) fn cut_if_retired(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id.0 as usize];
        if lane.state == LaneState::Retired && lane.owed.is_empty() && lane.batch.is_none() && !lane.cut {
            lane.cut = true;
            self.cuts.push((id, CutCause::Retired));
        }
    }

    fn keys_reply(&mut self, keys: &mut KeysWork, input: &[u8], now: Instant) -> Result<Step, Desync> {
        let (mut at, mut hits, mut misses) = (0, 0, 0);
        // Some: the reply ends here, with END or an error line of this many bytes
        let end: Option<(usize, bool)> = loop {
            match parse_reply(&input[at..]) {
                ReplyHead::Value { key, bytes, line_len } => {
                    if bytes > VALUE_BELIEVED_MAX {
                        return Err(Desync::Malformed);
                    }
                    let whole = line_len + bytes as usize + 2;
                    let from = keys.cursor;
                    let found = (from..keys.len()).find(|&index| keys.key(index) == key);
                    let Some(found) = found else { return Err(Desync::WrongKey) };
                    let Some(block) = input.get(at..at + whole) else { break None };
                    if !block.ends_with(b"\r\n") {
                        return Err(Desync::Malformed);
                    }
                    keys.seen += whole as u64;
                    match keys.owner {
                        Owner::Each => {
                            self.missed(keys, from, found, now);
                            self.hit(keys, found, block, now);
                        }
                        Owner::Part(target, _) if target.seq != u64::MAX => {
                            let start = keys.values.len();
                            keys.values.extend_from_slice(block);
                            keys.spans.push((keys.positions[found], start, keys.values.len()));
                            self.keep_merge(whole);
                        }
                        Owner::One(_) | Owner::Part(..) => {}
                    }
                    misses += (found - from) as u64;
                    hits += 1;
                    keys.cursor = found + 1;
                    at += whole;
                }
                ReplyHead::End { line_len } => {
                    misses += (keys.len() - keys.cursor) as u64;
                    break Some((line_len, false));
                }
                ReplyHead::Line { kind, line_len, .. } if kind.is_error() => break Some((line_len, true)),
                ReplyHead::Incomplete => break None,
                ReplyHead::Malformed => return Err(Desync::Malformed),
                ReplyHead::Line { .. } | ReplyHead::MetaValue { .. } => return Err(Desync::WrongKind),
            }
        };
        match keys.owner {
            Owner::Each => {}
            Owner::One(target) => self.forward(target, &input[..at], hits, misses),
            Owner::Part(target, _) => self.forward(target, &[], hits, misses),
        }
        let Some((line_len, failed)) = end else { return Ok(Step::more(at)) };
        let error = failed.then(|| input[at..at + line_len].to_vec());
        let mut step = Step::done(at + line_len);
        if keys.owner == Owner::Each && failed {
            step.failed_batch = error;
        } else {
            self.keys_answered(keys, error, now);
        }
        Ok(step)
    }

    /// The end of a reply to keys: END, or an error line.
    pub(crate) fn keys_answered(&mut self, keys: &mut KeysWork, error: Option<Vec<u8>>, now: Instant) {
        let fault = error.map(|line| Fault { line, outcome: Outcome::Error });
        match keys.owner {
            Owner::Each => self.missed(keys, keys.cursor, keys.len(), now),
            Owner::One(target) => self.part_answered(target, fault, now),
            Owner::Part(target, number) => {
                if let Some(asked) = self.client_mut(target.client).and_then(|c| c.request(target.seq))
                    && let Some(part) = asked.merge.as_mut().and_then(|merge| merge.parts.get_mut(number))
                {
                    part.bytes = std::mem::take(&mut keys.values);
                    part.spans = std::mem::take(&mut keys.spans);
                }
                self.part_answered(target, fault, now);
            }
        }
    }

    /// The value of one key of an implicit batch, for everybody who waits for it.
    fn hit(&mut self, keys: &KeysWork, index: usize, block: &[u8], now: Instant) {
        keys.each_waiter(index, |target| {
            let Some(client) = self.client_mut(target.client) else { return };
            let bytes = client.answer(target.seq, block) + client.answer(target.seq, text::END);
            let known = client.known as usize;
            if let Some(asked) = client.request(target.seq) {
                asked.hits = 1;
            }
            self.reply_bytes += bytes;
            self.callers.known[known].learn(block.len() as u64, 1);
            self.finish(target, now);
        });
    }

    fn missed(&mut self, keys: &KeysWork, from: usize, to: usize, now: Instant) {
        for index in from..to {
            keys.each_waiter(index, |target| {
                let Some(client) = self.client_mut(target.client) else { return };
                let bytes = client.answer(target.seq, text::END);
                let known = client.known as usize;
                if let Some(asked) = client.request(target.seq) {
                    asked.misses = 1;
                }
                self.reply_bytes += bytes;
                self.callers.known[known].learn(0, 1);
                self.finish(target, now);
            });
        }
    }

    /// The server answered an implicit batch with an error line: its keys are asked again one by one, once, so that
    /// nobody suffers for a neighbour's key. Who has passed on a write since gets the error: the read must not come
    /// after it.
    fn batch_failed(&mut self, id: LaneId, keys: &KeysWork, line: Vec<u8>, now: Instant) {
        let server = self.lanes[id.0 as usize].info.server;
        let again = keys.len() > 1 && self.lanes[id.0 as usize].state != LaneState::Retired;
        for index in keys.cursor..keys.len() {
            let mut targets = Vec::new();
            keys.each_waiter(index, |target| targets.push(target));
            let mut single = self.new_keys(Verb::Get, Owner::Each);
            single.retried = true;
            for target in targets {
                let repeatable = self.client_mut(target.client).is_some_and(|client| {
                    let later = target.seq.saturating_sub(client.first_seq) as usize + 1;
                    client.asked.iter().skip(later).all(|asked| asked.verb == Verb::Get)
                        && client.request(target.seq).is_some()
                });
                if again && repeatable {
                    single.push_waiter(keys.key(index), target, 0, true);
                } else {
                    let fault = Fault { line: line.clone(), outcome: Outcome::Error };
                    self.part_answered(target, Some(fault), now);
                }
            }
            if single.len() == 0 {
                self.recycle(single);
                continue;
            }
            single.each_waiter(0, |target| {
                let asked = self.client_mut(target.client).and_then(|client| client.request(target.seq));
                if let Some(asked) = asked.filter(|asked| asked.coalesced == 0) {
                    asked.backend_operations += 1;
                }
            });
            // what the batch held was returned a moment ago and covers this
            let cost = Cost { operations: 1, bytes: keys.cost.bytes / keys.len() as u64, bulk: 0 };
            single.cost = cost;
            let lane = &mut self.lanes[id.0 as usize];
            lane.close_batch(now);
            lane.send_keys(now, single, cost);
            self.servers[server.0 as usize].book_regardless(cost);
            self.mark_lane(id);
        }
    }

    pub(crate) fn forward(&mut self, target: Target, values: &[u8], hits: u64, misses: u64) {
        let Some(client) = self.client_mut(target.client) else { return };
        let bytes = if values.is_empty() { 0 } else { client.answer(target.seq, values) };
        if let Some(asked) = client.request(target.seq) {
            asked.hits += hits;
            asked.misses += misses;
        }
        if bytes > 0 {
            self.reply_bytes += bytes;
            self.mark_client(target.client);
        }
    }

    fn line_reply(
        &mut self,
        target: Target,
        verb: Verb,
        quiet: bool,
        input: &[u8],
        now: Instant,
    ) -> Result<Step, Desync> {
        let meta = matches!(verb, Verb::Mg | Verb::Ms | Verb::Md | Verb::Ma | Verb::Me);
        let (whole, hidden, error, found) = match parse_reply(input) {
            ReplyHead::Incomplete => return Ok(Step::more(0)),
            ReplyHead::Malformed => return Err(Desync::Malformed),
            ReplyHead::MetaValue { bytes, line_len } if meta => {
                if bytes > VALUE_BELIEVED_MAX {
                    return Err(Desync::Malformed);
                }
                let whole = line_len + bytes as usize + 2;
                let Some(block) = input.get(..whole) else { return Ok(Step::more(0)) };
                if !block.ends_with(b"\r\n") {
                    return Err(Desync::Malformed);
                }
                (whole, quiet && quiet_hides(verb, b"VA"), false, Some(true))
            }
            ReplyHead::Line { kind, line, line_len } if answers(verb, kind) => {
                let found = match kind {
                    LineKind::Hd => Some(true),
                    LineKind::En => Some(false),
                    _ => None,
                };
                (line_len, quiet && quiet_hides(verb, line), kind.is_error(), found)
            }
            _ => return Err(Desync::WrongKind),
        };
        if let Some(client) = self.client_mut(target.client) {
            let merging = client.request(target.seq).is_some_and(|asked| asked.merge.is_some());
            let bytes = if hidden || merging { 0 } else { client.answer(target.seq, &input[..whole]) };
            let mut merged = 0;
            let known = client.known as usize;
            if let Some(asked) = client.request(target.seq) {
                if verb == Verb::Mg {
                    asked.hits += u64::from(found == Some(true));
                    asked.misses += u64::from(found == Some(false));
                }
                if error {
                    asked.outcome = Outcome::Error;
                }
                if let Some(merge) = &mut asked.merge {
                    let part = merge.parts.len() - merge.left;
                    if let Some(part) = merge.parts.get_mut(part) {
                        part.bytes = input[..whole].to_vec();
                        merged = whole;
                    }
                }
            }
            self.reply_bytes += bytes;
            self.keep_merge(merged);
            if verb == Verb::Mg && found == Some(true) {
                self.callers.known[known].learn(whole as u64, 1);
            }
        }
        self.part_answered(target, None, now);
        Ok(Step::done(whole))
    }

    fn lines_reply(
        &mut self,
        target: Target,
        part: usize,
        input: &[u8],
        now: Instant,
    ) -> Result<Step, Desync> {
        let mut at = 0;
        let (done, error) = loop {
            match parse_reply(&input[at..]) {
                ReplyHead::Incomplete => break (false, false),
                ReplyHead::Malformed => return Err(Desync::Malformed),
                ReplyHead::End { line_len } => {
                    at += line_len;
                    break (true, false);
                }
                ReplyHead::Line { kind, line_len, .. } => {
                    at += line_len;
                    // a text that is neither STAT nor an answer of its own (ITEM lines, detail dumps) goes on
                    if !matches!(kind, LineKind::Stat | LineKind::Other) {
                        break (true, kind.is_error());
                    }
                }
                ReplyHead::Value { .. } | ReplyHead::MetaValue { .. } => return Err(Desync::WrongKind),
            }
        };
        if let Some(client) = self.client_mut(target.client) {
            let (mut bytes, mut merged) = (0, 0);
            match client.request(target.seq) {
                Some(asked) if asked.merge.is_some() => {
                    if let Some(part) = asked.merge.as_mut().and_then(|merge| merge.parts.get_mut(part)) {
                        if part.bytes.len() + at > LINES_MAX {
                            return Err(Desync::Malformed);
                        }
                        part.bytes.extend_from_slice(&input[..at]);
                        merged = at;
                    }
                }
                Some(asked) => {
                    if asked.bytes_out as usize + at > LINES_MAX {
                        return Err(Desync::Malformed);
                    }
                    bytes = client.answer(target.seq, &input[..at]);
                }
                None => {}
            }
            if error && let Some(asked) = client.request(target.seq) {
                asked.outcome = Outcome::Error;
            }
            self.reply_bytes += bytes;
            self.keep_merge(merged);
            if bytes > 0 {
                self.mark_client(target.client);
            }
        }
        if done {
            self.part_answered(target, None, now);
        }
        Ok(if done { Step::done(at) } else { Step::more(at) })
    }
}

/// Whether a command of this kind can be answered with a line of that one.
fn answers(verb: Verb, kind: LineKind) -> bool {
    use LineKind::{
        Deleted, En, Ex, Exists, Hd, Me, Nf, NotFound, NotStored, Ns, Number, Ok, Stored, Touched, Version,
    };
    let own: &[LineKind] = match verb {
        Verb::Set | Verb::Add | Verb::Replace | Verb::Append | Verb::Prepend | Verb::Cas => {
            &[Stored, NotStored, Exists, NotFound]
        }
        Verb::Incr | Verb::Decr => &[Number, NotFound],
        Verb::Delete => &[Deleted, NotFound],
        Verb::Touch => &[Touched, NotFound],
        Verb::FlushAll => &[Ok],
        Verb::Version => &[Version],
        Verb::Me => &[Me, En],
        _ => &[Hd, En, Nf, Ns, Ex],
    };
    kind.is_error() || own.contains(&kind)
}
