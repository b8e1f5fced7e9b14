//! One call from its admission to its end.

use super::answers;
use super::desk::{Desk, Turn};
use super::gate::reply_counter;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;
use tokio::sync::oneshot;
use weir_edge::{Body, Call, Decision, End, Protocol, Refusal, Verdict};
use weir_engine::correlate::{CorrelationId, RpcEnd};
use weir_engine::ledger::Outcome;
use weir_engine::rpc::{self, CallId};
use weir_engine::units::Instant;
use weir_rpc::{CountError, Counter, Method};

/// What is counted of a call.
pub(super) struct Counting {
    /// Counts its body; nothing where no description says how.
    pub(super) request: Option<Counter>,
    /// Counts its reply.
    pub(super) reply: Option<Counter>,
    /// Keys in its query.
    pub(super) query: u64,
    /// More keys than this are refused whatever follows.
    pub(super) refuse_above: Option<u64>,
    /// Its body is held until it was admitted.
    pub(super) holds: bool,
}

/// A call that was begun.
pub(super) struct RpcCall {
    pub(super) desk: Arc<Desk>,
    pub(super) id: CallId,
    pub(super) trace: CorrelationId,
    pub(super) caller: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) protocol: Protocol,
    pub(super) idempotent: bool,
    pub(super) method: Option<Arc<Method>>,
    pub(super) counting: Counting,
    /// The correlator knows of it.
    pub(super) began: bool,
}

/// What the engine says to a call.
enum Said {
    Go,
    Refuse(Refusal),
    Again(Instant),
    Queue(oneshot::Receiver<Turn>),
}

impl RpcCall {
    fn keys(&self) -> u64 {
        let counted = self.counting.request.as_ref().map_or(0, |counter| counter.counts().total());
        counted.saturating_add(self.counting.query)
    }

    fn ask(&mut self) -> Said {
        let body = rpc::Body {
            keys: self.keys(),
            bytes: self.counting.request.as_ref().map_or(0, Counter::bytes),
            // what is not split for another reason than its description is counted as such
            splittable: self.method.as_ref().is_some_and(|method| method.split.is_some()),
            idempotent: self.idempotent,
        };
        let id = self.id;
        self.desk.with(|state, now| match state.engine.counted(id, &body, now) {
            rpc::Verdict::Forward(_) => Said::Go,
            rpc::Verdict::Queued => Said::Queue(state.wait(id)),
            rpc::Verdict::Wait { until } => Said::Again(until),
            rpc::Verdict::Refuse(refusal) => Said::Refuse(answers::refusal(&refusal)),
            rpc::Verdict::Gone => Said::Refuse(answers::late()),
            // The configuration refuses `split = true` until the edge can do it.
            rpc::Verdict::Split { .. } => Said::Refuse(answers::late()),
        })
    }

    /// The service is about to hear of it.
    fn begin(&mut self) {
        self.began = true;
        let (keys, now) = (self.keys().max(1), self.desk.clock.now());
        self.desk.correlator.rpc_began(self.trace, &self.caller, &self.name, keys, now);
    }

    /// Admits a call whose body passes as it comes.
    ///
    /// # Errors
    /// When it may not, or not now: it cannot wait.
    pub(super) fn admit_at_once(&mut self) -> Result<(), Refusal> {
        match self.ask() {
            Said::Go => {
                self.begin();
                Ok(())
            }
            Said::Refuse(refusal) => Err(refusal),
            Said::Again(until) => Err(answers::not_now(until.since(self.desk.clock.now()))),
            Said::Queue(_) => Err(answers::not_now(rpc_crowded())),
        }
    }

    async fn judge(&mut self) -> Verdict {
        if let Some(Err(cause)) = self.counting.request.as_mut().map(Counter::finish) {
            return Verdict::Refuse(self.unreadable(cause));
        }
        loop {
            match self.ask() {
                Said::Go => break,
                Said::Refuse(refusal) => return Verdict::Refuse(refusal),
                Said::Again(until) => tokio::time::sleep_until(self.desk.clock.std(until).into()).await,
                Said::Queue(turn) => match turn.await {
                    Ok(Turn::Start) => break,
                    Ok(Turn::Ended(Some(refusal))) => return Verdict::Refuse(answers::refusal(&refusal)),
                    Ok(Turn::Ended(None)) | Err(_) => return Verdict::Refuse(answers::late()),
                },
            }
        }
        self.begin();
        Verdict::Admit
    }

    fn unreadable(&mut self, cause: CountError) -> Refusal {
        self.over(Outcome::Invalid, 0, 0);
        answers::uncountable(cause)
    }

    /// Its last word in the engine's books; later ones change nothing.
    pub(super) fn over(&mut self, outcome: Outcome, reply_keys: u64, bytes: u64) {
        let id = self.id;
        self.desk.with(|state, now| {
            if outcome == Outcome::ClientGone {
                // the edge has broken it off at the service already
                state.engine.cancelled(id, now);
            } else {
                state.engine.answered(id, &rpc::End { outcome, reply_keys, bytes }, now);
            }
            state.forget(id, now);
        });
    }
}

fn rpc_crowded() -> weir_engine::units::Span {
    weir_engine::units::Span::secs(1)
}

impl Call for RpcCall {
    fn part(&mut self, part: &[u8]) -> Result<(), Refusal> {
        let Some(counter) = &mut self.counting.request else { return Ok(()) };
        if let Err(cause) = counter.feed(part) {
            // What passes as it comes is the service's to judge.
            return if self.counting.holds { Err(self.unreadable(cause)) } else { Ok(()) };
        }
        let above = self.counting.refuse_above.is_some_and(|most| self.keys() > most);
        if above && self.counting.holds {
            // It is refused whatever follows: the rest need not come.
            if let Said::Refuse(refusal) = self.ask() {
                return Err(refusal);
            }
        }
        Ok(())
    }

    fn whole<'a>(&'a mut self, _body: &'a Body) -> Decision<'a> {
        Box::pin(self.judge())
    }

    fn reply_head(&mut self, _status: StatusCode, headers: &HeaderMap) {
        let method = self.method.as_deref();
        self.counting.reply = method.and_then(|method| reply_counter(method, headers, self.protocol));
    }

    fn reply_part(&mut self, part: &[u8]) {
        if let Some(counter) = &mut self.counting.reply {
            // What was counted before an error stays; whether the reply is any good is its reader's matter.
            let _ = counter.feed(part);
        }
    }

    fn end(&mut self, end: &End) {
        let rows = self.counting.reply.as_ref().map_or(0, |counter| counter.counts().largest());
        let outcome = answers::outcome(end, self.protocol);
        self.over(outcome, rows, end.reply_bytes);
        if self.began {
            let end = RpcEnd {
                outcome,
                chunks: 1,
                bytes_in: end.request_bytes,
                bytes_out: end.reply_bytes,
                at: self.desk.clock.now(),
            };
            self.desk.correlator.rpc_ended(self.trace, end);
        }
        self.desk.news.notify_one();
    }
}
