//! Panics are contained: to the client or lane whose event it was, counted, and logged once a second.
//!
//! What belongs to no socket (the end of a turn, timers), and a socket that cannot even be taken down, may leave the
//! engine inconsistent. That is survived once; twice within [`WINDOW`] ends the worker, and with it the process: a
//! restart is better than wrong answers.

use super::ready::Token;
use super::{Worker, to_u32};
use crate::clock::seconds;
use std::panic::{AssertUnwindSafe, catch_unwind};
use weir_engine::units::{Instant, LaneId, Span};
use weir_telemetry::{CloseHow, Event, Severity};

/// Two doubtful states within this time are one too many.
const WINDOW: Span = Span::secs(60);

/// What is remembered about panics.
#[derive(Debug, Default)]
pub(super) struct Panics {
    doubtful: Option<Instant>,
    /// It cannot go on.
    pub(super) broken: bool,
}

impl Panics {
    /// The engine may be inconsistent.
    fn doubt(&mut self, now: Instant) {
        self.broken |= self.doubtful.is_some_and(|before| now.since(before) < WINDOW);
        self.doubtful = Some(now);
    }
}

impl Worker {
    /// Does some work on behalf of a source. Nothing comes back when it panicked.
    pub(super) fn contained<R>(
        &mut self,
        source: Option<Token>,
        work: impl FnOnce(&mut Worker) -> R,
    ) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(|| work(self))) {
            Ok(done) => Some(done),
            Err(_) => {
                self.panicked(source);
                None
            }
        }
    }

    #[cold]
    fn panicked(&mut self, source: Option<Token>) {
        self.telemetry.panicked();
        let cleaned = catch_unwind(AssertUnwindSafe(|| match source {
            Some(Token::Client(slot)) => {
                if let Some(Some(client)) = self.clients.get(slot as usize) {
                    let id = client.id;
                    self.close_client(id, CloseHow::Panic);
                }
                true
            }
            Some(Token::Lane(index)) => {
                self.give_up_lane(LaneId(index));
                true
            }
            Some(Token::Gate(_) | Token::Arrivals | Token::Orders | Token::Flushes) | None => false,
        }));
        if let (Err(_), Some(Token::Client(slot))) = (&cleaned, source) {
            // at least its socket goes
            if let Some(client) = self.clients.get_mut(slot as usize).and_then(Option::take) {
                drop(client);
                self.open = self.open.saturating_sub(1);
            }
        }
        if !matches!(cleaned, Ok(true)) {
            self.panics.doubt(self.now);
        }
        let what = match source {
            Some(Token::Client(_)) => "client",
            Some(Token::Lane(_)) => "backend connection",
            Some(Token::Gate(_) | Token::Arrivals) => "accepting",
            Some(Token::Orders) => "control",
            Some(Token::Flushes) => "flush by prefix",
            None => "end of a turn",
        };
        let message = if self.panics.broken { "the worker cannot go on" } else { "contained" };
        let event = Event::new(Severity::Error, "panic", message)
            .text("source", what)
            .number("worker", u64::from(self.index))
            .number("clients", u64::from(to_u32(self.open)));
        self.telemetry.events().emit(&event, seconds(self.now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_doubtful_state_is_survived_and_two_in_a_minute_are_not() {
        let mut panics = Panics::default();
        panics.doubt(Instant(1_000_000));
        assert!(!panics.broken);
        panics.doubt(Instant(1_000_000).after(WINDOW));
        assert!(!panics.broken, "a minute later");
        panics.doubt(Instant(2_000_000).after(WINDOW));
        assert!(panics.broken);
    }
}
