//! One call from its admission to its end.

use super::answers;
use super::askers::Asker;
use super::desk::{Desk, Turn};
use super::gate::reply_counter;
use super::parts::{Again, CutRules, Orders, Pieces, RpcParts};
use http::{HeaderMap, StatusCode};
use std::sync::Arc;
use tokio::sync::oneshot;
use weir_edge::{Body, Call, Decision, End, Protocol, Refusal, Retries, Verdict};
use weir_engine::correlate::{CorrelationId, RpcEnd};
use weir_engine::ledger::Outcome;
use weir_engine::rpc::{self, CallId, PartId};
use weir_engine::units::{Instant, ServiceId, Span};
use weir_rpc::{Codec, CountError, Counter, Method};

/// What is counted of a call.
pub(super) struct Counting {
    /// Counts its body; nothing where no description says how.
    pub(super) request: Option<Counter>,
    /// Counts its reply.
    pub(super) reply: Option<Counter>,
    /// Keys in its query.
    pub(super) query: u64,
    /// All its keys, once its body is there.
    pub(super) keys: Option<u64>,
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
    pub(super) asker: Arc<Asker>,
    pub(super) protocol: Protocol,
    pub(super) service: ServiceId,
    /// How its one message each way is written, as far as its head tells; `None`: it goes whole.
    pub(super) splits_as: Option<Codec>,
    /// More keys than this go in parts, as the service's settings were at its head. The engine has the last word.
    pub(super) split_above: Option<u32>,
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
    Split { orders: Orders, chunks: u32, chunk_keys: u32 },
}

impl RpcCall {
    fn keys(&self) -> u64 {
        if let Some(keys) = self.counting.keys {
            return keys;
        }
        let counted = self.counting.request.as_ref().map_or(0, |counter| counter.counts().total());
        counted.saturating_add(self.counting.query)
    }

    /// `splittable`: it can be cut, as far as that is known; `whole`: there is no more of it than was counted.
    fn ask(&mut self, splittable: bool, whole: bool) -> Said {
        let body = rpc::Body {
            keys: self.keys(),
            bytes: self.counting.request.as_ref().map_or(0, Counter::bytes),
            splittable,
            // the edge asks for retries of what can be repeated without harm only
            idempotent: true,
        };
        let (id, desk) = (self.id, &self.desk);
        desk.with(|state, now| match state.engine.counted(id, &body, now) {
            rpc::Verdict::Forward(_) => Said::Go,
            rpc::Verdict::Queued => Said::Queue(state.wait(id)),
            rpc::Verdict::Wait { until } => Said::Again(until),
            rpc::Verdict::Refuse(refusal) if whole => Said::Refuse(answers::refusal(&refusal)),
            rpc::Verdict::Refuse(refusal) => Said::Refuse(answers::refusal_of_a_part(&refusal)),
            rpc::Verdict::Gone => Said::Refuse(answers::late()),
            rpc::Verdict::Split { chunks, chunk_keys } => {
                let orders = Orders::new(desk.clone(), id, state.split(id, chunks));
                Said::Split { orders, chunks, chunk_keys }
            }
        })
    }

    /// Its answer is at hand: only its caller's limits are asked.
    async fn judge_kept(&mut self) -> Verdict {
        let body = rpc::Body { keys: self.keys(), bytes: 0, splittable: false, idempotent: true };
        loop {
            let id = self.id;
            match self.desk.with(|state, now| state.engine.kept(id, &body, now)) {
                Ok(()) => return Verdict::Admit,
                Err(rpc::Verdict::Wait { until }) => {
                    tokio::time::sleep_until(self.desk.clock.std(until).into()).await;
                }
                Err(rpc::Verdict::Refuse(refusal)) => return Verdict::Refuse(answers::refusal(&refusal)),
                Err(_) => return Verdict::Refuse(answers::late()),
            }
        }
    }

    /// The service is about to hear of it.
    fn begin(&mut self) {
        let (keys, correlator) = (self.keys().max(1), &self.desk.correlator);
        let caller = &self.asker.identity.name;
        if !correlator.takes_ids() {
            return correlator.rpc_counted(caller, keys);
        }
        correlator.rpc_began(self.trace, caller, &self.name(), keys, self.desk.clock.now());
        self.began = true;
    }

    /// Its method, as a label.
    fn name(&self) -> Arc<str> {
        self.method.as_ref().map_or(rpc::methods::OTHER, |method| &method.name).into()
    }

    /// Admits a call whose body passes as it comes.
    ///
    /// # Errors
    /// When it may not, or not now: it cannot wait.
    pub(super) fn admit_at_once(&mut self) -> Result<(), Refusal> {
        match self.ask(false, true) {
            Said::Go => {
                self.begin();
                Ok(())
            }
            Said::Refuse(refusal) => Err(refusal),
            Said::Again(until) => Err(answers::not_now(until.since(self.desk.clock.now()))),
            Said::Queue(_) | Said::Split { .. } => Err(answers::not_now(crowded())),
        }
    }

    /// What the engine says of a body that is there. Most calls go on at once.
    fn judge<'a>(&'a mut self, body: &'a Body) -> Decision<'a> {
        let plain = match self.counting.request.as_mut().map(Counter::finish) {
            Some(Err(cause)) => return Decision::Now(Verdict::Refuse(self.unreadable(cause))),
            Some(Ok(counted)) => counted.messages == 1 && counted.blind.is_none(),
            None => false,
        };
        self.splits_as = self.splits_as.filter(|_| plain);
        self.counting.keys = Some(self.keys());
        let (splittable, pieces) = self.cut(body);
        match self.ask(splittable, true) {
            Said::Go => {
                self.begin();
                Decision::Now(Verdict::Admit)
            }
            Said::Refuse(refusal) => Decision::Now(Verdict::Refuse(refusal)),
            said => Decision::Later(Box::pin(self.judge_later(body, splittable, pieces, said))),
        }
    }

    /// The rest of it, from what the engine has `said`.
    async fn judge_later(
        &mut self,
        body: &Body,
        splittable: bool,
        mut pieces: Option<Pieces>,
        mut said: Said,
    ) -> Verdict {
        loop {
            match said {
                Said::Go => break,
                Said::Refuse(refusal) => return Verdict::Refuse(refusal),
                Said::Again(until) => tokio::time::sleep_until(self.desk.clock.std(until).into()).await,
                Said::Queue(turn) => match turn.await {
                    Ok(Turn::Start) => break,
                    Ok(Turn::Ended(Some(refusal))) => return Verdict::Refuse(answers::refusal(&refusal)),
                    Ok(Turn::Ended(None)) | Err(_) => return Verdict::Refuse(answers::late()),
                },
                Said::Split { orders, chunks, chunk_keys } => {
                    // Settings may be others than when it was cut.
                    if pieces.as_ref().is_none_or(|pieces| !pieces.fit(chunks)) {
                        pieces = self.pieces(body, chunk_keys).filter(|pieces| pieces.fit(chunks));
                    }
                    let Some(pieces) = pieces else { return Verdict::Refuse(answers::not_now(crowded())) };
                    self.begin();
                    return Verdict::Split(Box::new(RpcParts::new(orders, self.name(), pieces)));
                }
            }
            said = self.ask(splittable, true);
        }
        self.begin();
        Verdict::Admit
    }

    /// Whether the engine may split it, and its pieces where they are worth the work: not of small calls, and not where
    /// nothing is split anyway (which the engine counts as such).
    fn cut(&self, body: &Body) -> (bool, Option<Pieces>) {
        let Some(chunk_keys) = self.split_above.filter(|most| self.keys() > u64::from(*most)) else {
            return (self.method.as_ref().is_some_and(|method| method.split.is_some()), None);
        };
        let pieces = self.pieces(body, chunk_keys);
        (pieces.is_some(), pieces)
    }

    fn pieces(&self, body: &Body, chunk_keys: u32) -> Option<Pieces> {
        let (plan, codec) = (self.method.as_ref()?.split.as_ref()?, self.splits_as?);
        let place = self.service.0 as usize;
        let (factor, floor) = self.desk.with(|state, _| {
            let (edge, _) = state.in_force.config.services.get(place)?;
            Some((edge.split_factor, edge.split_floor.0))
        })?;
        let rules = CutRules { chunk_keys, factor, floor };
        Pieces::of(plan, self.protocol, codec, body, self.keys(), rules)
    }

    fn unreadable(&mut self, cause: CountError) -> Refusal {
        let outcome = if cause.is_limit() { Outcome::Refused } else { Outcome::Invalid };
        self.over(outcome, 0, 0);
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

fn crowded() -> Span {
    Span::secs(1)
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
            if let Said::Refuse(refusal) = self.ask(false, false) {
                return Err(refusal);
            }
        }
        Ok(())
    }

    fn whole<'a>(&'a mut self, body: &'a Body) -> Decision<'a> {
        self.judge(body)
    }

    fn kept(&mut self) -> Decision<'_> {
        Decision::Later(Box::pin(self.judge_kept()))
    }

    fn retries(&self) -> Option<Arc<dyn Retries>> {
        Some(Arc::new(Again { desk: self.desk.clone(), part: PartId { call: self.id, index: 0 } }))
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
                chunks: end.parts.max(1),
                bytes_in: end.request_bytes,
                bytes_out: end.reply_bytes,
                at: self.desk.clock.now(),
            };
            self.desk.correlator.rpc_ended(self.trace, end);
        }
    }
}
