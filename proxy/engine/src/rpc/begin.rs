//! The head of a call is here: who calls, what, by when; nothing of its body is read yet.

use super::RpcEngine;
use super::call::{Call, CallId, Stage};
use super::methods::Protocol;
use super::refusal::{CROWDED, Refusal, Why};
use super::settle::Books;
use crate::caller::Identity;
use crate::error::Rejected;
use crate::ledger::Outcome;
use crate::units::{Instant, Span};
use std::sync::Arc;

/// What the head of a call says.
#[derive(Clone, Debug)]
pub struct Head<'h> {
    /// Who calls ([`super::identity`]), and by which listener.
    pub identity: &'h Arc<Identity>,
    /// What it is spoken in.
    pub protocol: Protocol,
    /// What is called ([`super::method_of_path`]).
    pub method: &'h str,
    /// By when the client wants its answer; `None`: it does not say.
    pub deadline: Option<Instant>,
}

/// A call that may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Its name from now on.
    pub call: CallId,
    /// When weir ends it: the client's deadline or `request_timeout`, at most `request_timeout_max` from now.
    pub deadline: Instant,
}

impl RpcEngine {
    /// A call has begun.
    ///
    /// # Errors
    /// What it is to be answered with, and nothing of it is kept: its method is switched off, or as many calls as may be
    /// are under way.
    ///
    /// # Panics
    /// When the listener does not lead to a service: the driver hands the engine its own listeners only.
    pub fn begin(&mut self, head: &Head<'_>, now: Instant) -> Result<Begun, Refusal> {
        let listener = head.identity.listener;
        let place = self.place_of(listener).expect("the driver hands the engine its own listeners only");
        let known = self.known_of(head.identity);
        let method = self.methods.number(head.method);
        let service = &self.services[place];
        let settings = &service.settings;
        let refused = if let Some(denied) = self.denied.refuses(head.method, now) {
            self.counts.of(method).denied += 1;
            Some((Rejected::Denied, Why::Denied(denied.reason.clone()), 0, denied.until.since(now)))
        } else if service.calls >= settings.calls_max {
            Some((Rejected::CallsMax, Why::CallsMax, settings.calls_max.into(), CROWDED))
        } else {
            None
        };
        if let Some((rejected, why, ceiling, retry_after)) = refused {
            self.ledger.rejected(known, rejected, 1);
            let books = Books::refused(known, listener, head.protocol, method, now);
            self.book(&books, Outcome::Refused, 0, now);
            let caller = self.callers.known[known as usize].identity.name.clone();
            let method = self.methods.name(method).clone();
            return Err(Refusal { why, caller, method, asked: 0, ceiling, retry_after });
        }
        let longest = now.after(settings.request_timeout_max);
        let deadline = head.deadline.unwrap_or_else(|| now.after(settings.request_timeout)).min(longest);
        self.services[place].calls += 1;
        self.callers.known[known as usize].requests += 1;
        let call = self.calls.insert(Call {
            protocol: head.protocol,
            method,
            known,
            listener,
            service: place,
            stage: Stage::New,
            arrived: now,
            deadline,
            timer: deadline,
            counted: None,
            operations: 0,
            bytes_in: 0,
            idempotent: false,
            held: None,
            chunk_keys: 0,
            chunks: 0,
            next: 0,
            answered: 0,
            sent: 0,
            in_flight: Vec::new(),
            unsent: 0,
            backend_operations: 0,
            first_sent: None,
            gathered: 0,
            reply_keys: 0,
            serial: 0,
        });
        self.timers.insert((deadline, call));
        Ok(Begun { call, deadline })
    }

    /// How long a call has until its end, for the header the server gets.
    #[must_use]
    pub fn time_left(&self, call: CallId, now: Instant) -> Option<Span> {
        self.calls.get(call).map(|call| call.deadline.since(now))
    }

    /// The slot of a caller. The last [`super::RECENT_CALLERS`] keep theirs, and with it what is known of their replies.
    fn known_of(&mut self, identity: &Arc<Identity>) -> u32 {
        if let Some(known) = self.recent.get(identity) {
            return *known;
        }
        let known = self.callers.learn(identity.clone(), &self.settings, &mut self.ledger);
        if let Some((_, old)) = self.recent.push(identity.clone(), known) {
            self.callers.leave(old, &mut self.ledger);
        }
        known
    }
}
