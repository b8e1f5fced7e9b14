//! The body of a call is whole and its keys are counted: may it run, now or later, and whole or in parts?

use super::RpcEngine;
use super::call::{CallId, Stage};
use super::parts::Start;
use super::refusal::{CROWDED, NEVER_FITS, Refusal, Why};
use super::service::unsplit;
use crate::admit::{self, Ask, admit, book};
use crate::client::Held;
use crate::error::LimitKind;
use crate::ledger::Outcome;
use crate::settings::LimitMode;
use crate::units::{Bytes, Instant, Operations, Span};

/// What the codec found in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    /// Keys, by the method's description; 0 where it has none.
    pub keys: u64,
    /// Bytes received.
    pub bytes: u64,
    /// The description allows the call to be cut, and the codec has cut points.
    pub splittable: bool,
    /// Asking twice does no more than asking once.
    pub idempotent: bool,
}

/// What is to be done with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Pass it on whole, now.
    Forward(Start),
    /// Pass it on whole when an [`super::Event::Start`] says so.
    Queued,
    /// Cut it into so many parts of so many keys (the last one may have fewer); an [`super::Event::Start`] for each says
    /// when it is to be sent.
    Split {
        /// Parts.
        chunks: u32,
        /// Keys of each.
        chunk_keys: u32,
    },
    /// Ask again at this time, with the same body.
    Wait {
        /// When.
        until: Instant,
    },
    /// Answer it with this; it is over.
    Refuse(Refusal),
    /// It is over already: there was an [`super::Event::Ended`].
    Gone,
}

impl RpcEngine {
    /// The body of a call was counted, before a server saw anything of it. Asked again after [`Verdict::Wait`].
    pub fn counted(&mut self, id: CallId, body: &Body, now: Instant) -> Verdict {
        match self.admitted(id, body, now) {
            Ok(()) => self.run(id, body.splittable, now),
            Err(verdict) => verdict,
        }
    }

    /// Instead of [`RpcEngine::counted`], for a call whose answer weir has: it counts against its caller's limits and takes no
    /// server's place. [`RpcEngine::answered`] ends it.
    ///
    /// # Errors
    /// What is to be done instead of answering: [`Verdict::Wait`], [`Verdict::Refuse`] or [`Verdict::Gone`].
    pub fn kept(&mut self, id: CallId, body: &Body, now: Instant) -> Result<(), Verdict> {
        self.admitted(id, body, now)?;
        if let Some(call) = self.calls.get_mut(id) {
            call.stage = Stage::Kept;
        }
        Ok(())
    }

    fn admitted(&mut self, id: CallId, body: &Body, now: Instant) -> Result<(), Verdict> {
        let Some(call) = self.calls.get_mut(id) else { return Err(Verdict::Gone) };
        if call.stage != Stage::New {
            return Err(Verdict::Gone);
        }
        let known = &self.callers.known[call.known as usize];
        let first_look = call.counted.is_none();
        if first_look {
            call.counted = Some(now);
            // every call is work, also one that names no key
            call.operations = body.keys.max(1);
            call.bytes_in = body.bytes;
            call.idempotent = body.idempotent;
            self.ledger.asked(call.known, call.method.in_ledger(call.protocol), call.operations);
        }
        let ask = Ask {
            operations: Operations(call.operations),
            bytes: Bytes(known.reply_bytes.saturating_mul(call.operations)),
            waited: now.since(call.counted.unwrap_or(now)),
            invalidation: false,
        };
        let verdict = if self.settings.listeners[call.listener.0 as usize].switches.limits {
            admit(&known.state, &known.limits, ask, now)
        } else {
            book(&known.state, ask);
            admit::Verdict::Admit { over: None }
        };
        let known_slot = call.known;
        match verdict {
            admit::Verdict::Admit { over } => {
                if let Some(kind) = over {
                    self.ledger.over_limit(known_slot, kind, LimitMode::Observe);
                }
                call.held = Some(Held { operations: ask.operations, bytes: ask.bytes });
                Ok(())
            }
            admit::Verdict::Wait { wait, kind } => {
                if first_look {
                    self.ledger.over_limit(known_slot, kind, LimitMode::Pace);
                }
                Err(Verdict::Wait { until: now.after(wait) })
            }
            admit::Verdict::Refuse { kind, ceiling } => {
                self.ledger.over_limit(known_slot, kind, LimitMode::Refuse);
                let retry_after = match kind {
                    LimitKind::OperationsPerRequest => NEVER_FITS,
                    LimitKind::OperationsPerSecond => known.state.debt(now).max(Span::millis(1)),
                    LimitKind::OperationsInFlight | LimitKind::BytesInFlight => CROWDED,
                };
                let refusal = Refusal {
                    why: Why::Limit(kind),
                    caller: known.identity.name.clone(),
                    method: self.methods.name(call.method).clone(),
                    asked: call.operations,
                    ceiling,
                    retry_after,
                };
                self.over(id, Outcome::Refused, 0, 0, now);
                Err(Verdict::Refuse(refusal))
            }
        }
    }

    /// An admitted call: whole or in parts, now or when it is its turn.
    fn run(&mut self, id: CallId, splittable: bool, now: Instant) -> Verdict {
        let Some(call) = self.calls.get_mut(id) else { return Verdict::Gone };
        let service = &mut self.services[call.service];
        let settings = &service.settings;
        let chunk_keys = u64::from(settings.chunk_keys.max(1));
        if call.operations > chunk_keys {
            let switched_on =
                settings.split && self.settings.listeners[call.listener.0 as usize].switches.split;
            let whole = match () {
                () if !splittable => Some(unsplit::METHOD),
                () if !switched_on => Some(unsplit::SWITCHED_OFF),
                () if self.stops.has(call.method) => Some(unsplit::STOPPED),
                () => None,
            };
            match whole {
                Some(cause) => service.unsplit(cause),
                None => {
                    // a count that needs more parts than fit a number is cut into larger ones
                    let chunks = u32::try_from(call.operations.div_ceil(chunk_keys)).unwrap_or(u32::MAX);
                    let chunk_keys = call.operations.div_ceil(u64::from(chunks)).max(chunk_keys);
                    return self.split(id, chunks, chunk_keys, now);
                }
            }
        }
        (call.chunk_keys, call.chunks) = (call.operations, 1);
        call.unsent = call.operations;
        let known = &mut self.callers.known[call.known as usize];
        known.queued += call.operations;
        call.stage = Stage::Queued;
        if service.small.is_empty()
            && service.has_call_room()
            && let Some(start) = self.start_whole(id, now)
        {
            return Verdict::Forward(start);
        }
        let Some(call) = self.calls.get(id) else { return Verdict::Gone };
        let known = &self.callers.known[call.known as usize];
        let queue = &mut self.services[call.service].small;
        queue.push(known.principal, known.limits.class, id, call.operations, now);
        self.time_queue(id, now);
        Verdict::Queued
    }

    fn split(&mut self, id: CallId, chunks: u32, chunk_keys: u64, now: Instant) -> Verdict {
        let Some(call) = self.calls.get_mut(id) else { return Verdict::Gone };
        (call.chunks, call.chunk_keys, call.stage) = (chunks, chunk_keys, Stage::Split);
        call.unsent = call.operations;
        call.serial = self.next_serial;
        let (place, serial) = (call.service, call.serial);
        self.callers.known[call.known as usize].queued += call.operations;
        self.next_serial += 1;
        self.services[place].splits.insert(serial, id);
        self.time_queue(id, now);
        self.offer(id, now);
        self.pump(place, now);
        let chunk_keys = u32::try_from(chunk_keys).unwrap_or(u32::MAX);
        Verdict::Split { chunks, chunk_keys }
    }
}
