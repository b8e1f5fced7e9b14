//! A call in parts: which is sent when is the engine's word, cut and put together by [`weir_rpc`], carried by the edge.
//!
//! Cut before the engine is asked, so that what cannot be cut goes whole. Every part that the engine started is told of
//! once: answered, failed, or over when the call is dropped, whoever ended it.
//!
//! Bounds: one order per part and one for the end wait at most; parts are `split_factor` times the message
//! together, and `split_floor`; replies have `split_reply_max`.

use super::desk::Desk;
use crate::clock::seconds;
use bytes::Bytes;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use weir_edge::{Body, Order, PartFailed, Parts, Progress, Protocol, Reason, Refusal, Retries};
use weir_engine::rpc::{CallId, PartId};
use weir_engine::settings::Address;
use weir_rpc::framing::{Flags, PREFIX_LEN, prefix};
use weir_rpc::{AnyCut, AnyMerge, Codec, CutLimits, MergeError, SplitPlan};
use weir_telemetry::{Event, Severity};

/// How a request may be cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct CutRules {
    /// Keys of one part.
    pub(super) chunk_keys: u32,
    /// Parts of a request may have this many times its bytes together: what stands beside the keys goes with each.
    pub(super) factor: u32,
    /// And this many bytes more, so that small requests with long fields beside their keys are split too.
    pub(super) floor: u64,
}

impl CutRules {
    fn bytes_max(self, message: usize) -> usize {
        let floor = usize::try_from(self.floor).unwrap_or(usize::MAX);
        message.saturating_mul(self.factor as usize).saturating_add(floor)
    }
}

/// A request that was cut.
pub(super) struct Pieces {
    plan: Arc<SplitPlan>,
    message: Bytes,
    cut: AnyCut,
}

impl Pieces {
    /// Cuts a plain request of one message; `None`: it goes whole.
    pub(super) fn of(
        plan: &Arc<SplitPlan>,
        protocol: Protocol,
        codec: Codec,
        body: &Body,
        keys: u64,
        rules: CutRules,
    ) -> Option<Pieces> {
        let mut message = match body.parts() {
            [one] => one.clone(),
            parts => {
                let mut whole = Vec::with_capacity(usize::try_from(body.len()).ok()?);
                parts.iter().for_each(|part| whole.extend_from_slice(part));
                whole.into()
            }
        };
        if matches!(protocol, Protocol::Grpc | Protocol::GrpcWeb) {
            let length = u32::try_from(message.len().checked_sub(PREFIX_LEN)?).ok()?;
            let front = message.split_to(PREFIX_LEN);
            // Plain, and nothing behind it.
            if *front != prefix(Flags::default(), length) {
                return None;
            }
        }
        let limits =
            CutLimits { chunk_keys: rules.chunk_keys as usize, bytes_max: rules.bytes_max(message.len()) };
        let cut = AnyCut::new(plan, codec, &message, limits).ok()?;
        // A method with keys in other fields too is admitted by all of them, and could not be cut into as many parts.
        let all = cut.keys().iter().map(|keys| *keys as u64).sum::<u64>() == keys;
        all.then(|| Pieces { plan: plan.clone(), message, cut })
    }

    /// They are as many as the engine starts.
    pub(super) fn fit(&self, chunks: u32) -> bool {
        self.cut.len() == chunks as usize
    }
}

/// Where a call's orders come from, and which parts the engine still waits for.
pub(super) struct Orders {
    desk: Arc<Desk>,
    call: CallId,
    from: mpsc::Receiver<Order>,
    under_way: Vec<u32>,
}

impl Orders {
    pub(super) fn new(desk: Arc<Desk>, call: CallId, from: mpsc::Receiver<Order>) -> Orders {
        Orders { desk, call, from, under_way: Vec::new() }
    }

    fn part(&self, index: u32) -> PartId {
        PartId { call: self.call, index }
    }

    fn landed(&mut self, part: u32) {
        self.under_way.retain(|other| *other != part);
    }

    fn failed(&mut self, part: u32) {
        self.landed(part);
        let id = self.part(part);
        self.desk.with(|state, now| state.engine.part_failed(id, now));
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        let Orders { desk, call, from, under_way } = self;
        desk.with(|state, now| {
            state.unsplit(*call);
            while let Ok(order) = from.try_recv() {
                if let Order::Send(part) = order {
                    under_way.push(part);
                }
            }
            let mut parts = under_way.drain(..).map(|index| PartId { call: *call, index });
            if let Some(part) = parts.next() {
                // Where the call has not ended, nothing more of it is started.
                state.engine.part_failed(part, now);
            }
            parts.for_each(|part| state.engine.part_over(part, now));
        });
    }
}

/// A split call, as the edge asks it.
pub(super) struct RpcParts {
    orders: Orders,
    method: Arc<str>,
    pieces: Pieces,
    merge: Option<AnyMerge<Bytes>>,
}

impl RpcParts {
    pub(super) fn new(orders: Orders, method: Arc<str>, pieces: Pieces) -> RpcParts {
        // The edge bounds replies by their sum before they come here.
        let merge = AnyMerge::new(&pieces.plan, &pieces.cut, usize::MAX);
        RpcParts { orders, method, pieces, merge: Some(merge) }
    }

    /// Replies do not fit together: what the client is told.
    fn wrong(&self, error: &MergeError) -> Refusal {
        if error.stops_splitting() {
            let field = match error {
                MergeError::UnknownField { number } => *number,
                // JSON has no numbers; the event has the name.
                _ => 0,
            };
            self.stop(field, error);
        }
        Refusal::new(Reason::Merge, error.to_string())
    }

    /// The next call of the method goes whole. Said once, until the next reload.
    fn stop(&self, field: u32, why: &dyn std::fmt::Display) {
        let method = &*self.method;
        let stopped = self.orders.desk.with(|state, now| {
            state.engine.stop_splitting(method, field, now).then(|| state.books.telemetry().clone())
        });
        if let Some(telemetry) = stopped {
            let (why, now) = (why.to_string(), seconds(self.orders.desk.clock.now()));
            let what = "a method is not split any more, until the next reload";
            let event = Event::new(Severity::Warn, "split_stopped", what).text("method", method);
            telemetry.events().emit(&event.text("error", &why), now);
        }
    }
}

impl Parts for RpcParts {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Order> {
        match self.orders.from.poll_recv(context) {
            Poll::Ready(Some(order)) => {
                if let Order::Send(part) = order {
                    self.orders.under_way.push(part);
                }
                Poll::Ready(order)
            }
            // The engine has nothing more to say; the edge ends the call.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn write(&mut self, part: u32) -> Bytes {
        let Pieces { message, cut, .. } = &self.pieces;
        let mut out = Vec::new();
        cut.write(part as usize, message, &mut out);
        out.into()
    }

    fn answered(&mut self, part: u32, message: Bytes) -> Result<Progress, Refusal> {
        let bytes = message.len() as u64;
        let Some(merge) = &mut self.merge else { return Err(self.wrong(&MergeError::Parts)) };
        if let Err(error) = merge.add(part as usize, message) {
            self.orders.failed(part);
            return Err(self.wrong(&error));
        }
        let complete = merge.missing() == 0;
        self.orders.landed(part);
        let id = self.orders.part(part);
        // Rows are counted in the reply to the whole.
        self.orders.desk.with(|state, now| state.engine.part_answered(id, 0, bytes, now));
        Ok(if complete { Progress::Complete } else { Progress::More })
    }

    fn failed(&mut self, part: u32, why: PartFailed) {
        self.orders.failed(part);
        if why == PartFailed::Unreadable {
            self.stop(0, &"the reply of a part is not one plain message and a status");
        }
    }

    fn merged(&mut self) -> Result<Bytes, Refusal> {
        let merge = self.merge.take().ok_or(MergeError::Parts);
        let merged = merge.and_then(AnyMerge::finish);
        merged.map(Bytes::from).map_err(|error| self.wrong(&error))
    }

    fn retries(&self, part: u32) -> Option<Arc<dyn Retries>> {
        Some(Arc::new(Again { desk: self.orders.desk.clone(), part: self.orders.part(part) }))
    }
}

/// Where a call or a part goes, and the retry budget, which is one for both: the engine's words.
pub(super) struct Again {
    pub(super) desk: Arc<Desk>,
    pub(super) part: PartId,
}

impl Retries for Again {
    fn may_send_again(&self) -> bool {
        self.desk.with(|state, now| state.engine.retry(self.part, now).is_some())
    }

    fn server(&self) -> Option<Address> {
        self.desk.with(|state, _| state.engine.server_of(self.part).cloned())
    }

    fn went(&self, to: &Address) {
        self.desk.with(|state, now| state.engine.went(self.part, to, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: CutRules = CutRules { chunk_keys: 10, factor: 2, floor: 1 << 20 };

    /// 25 keys, and a field beside them.
    fn message() -> Vec<u8> {
        let mut message = Vec::new();
        (0..25).for_each(|_| weir_rpc::wire::write_len(1, b"at://key", &mut message));
        weir_rpc::wire::write_len(3, &[b'v'; 100], &mut message);
        message
    }

    fn parts(protocol: Protocol, body: &[&[u8]], keys: u64) -> Option<usize> {
        parts_by(RULES, protocol, body, keys)
    }

    fn parts_by(rules: CutRules, protocol: Protocol, body: &[&[u8]], keys: u64) -> Option<usize> {
        parts_in(Codec::Proto, rules, protocol, body, keys)
    }

    fn parts_in(
        codec: Codec,
        rules: CutRules,
        protocol: Protocol,
        body: &[&[u8]],
        keys: u64,
    ) -> Option<usize> {
        let table = weir_rpc::table::preset("bsky").expect("is there").load().expect("is good");
        let method = table.find("/bsky.Service/GetPostRecords").expect("is there");
        let mut whole = Body::default();
        body.iter().for_each(|part| whole.push(Bytes::copy_from_slice(part)));
        let plan = method.split.as_ref().expect("is split");
        Pieces::of(plan, protocol, codec, &whole, keys, rules).map(|pieces| pieces.cut.len())
    }

    #[test]
    fn one_plain_message_is_cut_wherever_the_network_did() {
        let message = message();
        let front = prefix(Flags::default(), u32::try_from(message.len()).expect("small"));
        let framed = [&front[..], &message].concat();
        assert_eq!(parts(Protocol::ConnectUnary, &[&message], 25), Some(3));
        for at in [1, 5, 17] {
            let (front, rest) = framed.split_at(at);
            assert_eq!(parts(Protocol::Grpc, &[front, rest], 25), Some(3), "{at}");
        }
        assert_eq!(parts(Protocol::Grpc, &[&framed], 26), None, "keys in other fields too");
        assert_eq!(parts(Protocol::Grpc, &[&framed, &framed], 25), None, "two messages");
        assert_eq!(parts(Protocol::Grpc, &[&framed[..framed.len() - 1]], 25), None, "cut off");
        assert_eq!(parts(Protocol::Grpc, &[&[1], &framed[1..]], 25), None, "compressed");
        assert_eq!(parts(Protocol::Grpc, &[&framed[..3]], 25), None, "no message");
    }

    #[test]
    fn so_is_one_in_json_and_one_of_grpc_web() {
        let keys = vec!["\"at://key\""; 25].join(",");
        let message = format!("{{\"viewerDid\":\"did:plc:v\",\"uris\":[{keys}]}}");
        let front = prefix(Flags::default(), u32::try_from(message.len()).expect("small"));
        let framed = [&front[..], message.as_bytes()].concat();
        let json = |protocol, body: &[u8], keys| parts_in(Codec::Json, RULES, protocol, &[body], keys);
        assert_eq!(json(Protocol::Http, message.as_bytes(), 25), Some(3));
        assert_eq!(json(Protocol::ConnectUnary, message.as_bytes(), 25), Some(3));
        assert_eq!(json(Protocol::ConnectUnary, message.as_bytes(), 24), None, "counted otherwise");
        assert_eq!(json(Protocol::GrpcWeb, &framed, 25), Some(3));
        assert_eq!(json(Protocol::Http, b"{}", 0), None);
        let message = self::message();
        let front = prefix(Flags::default(), u32::try_from(message.len()).expect("small"));
        let framed = [&front[..], &message].concat();
        assert_eq!(parts(Protocol::GrpcWeb, &[&framed], 25), Some(3));
        let trailers = prefix(Flags::TRAILERS, 0);
        assert_eq!(parts(Protocol::GrpcWeb, &[&framed, &trailers], 25), None, "more than one");
        assert_eq!(parts_in(Codec::Other, RULES, Protocol::GrpcWeb, &[&framed], 25), None);
    }

    #[test]
    fn what_would_be_repeated_too_often_goes_whole() {
        let mut message = message();
        weir_rpc::wire::write_len(2, &vec![b'x'; (1 << 20) + 1], &mut message);
        // Three parts have the long field three times, which the floor still allows; five do not.
        assert_eq!(parts(Protocol::ConnectUnary, &[&message], 25), Some(3));
        (0..25).for_each(|_| weir_rpc::wire::write_len(1, b"at://key", &mut message));
        assert_eq!(parts(Protocol::ConnectUnary, &[&message], 50), None);
        let wider = CutRules { floor: 4 << 20, ..RULES };
        assert_eq!(parts_by(wider, Protocol::ConnectUnary, &[&message], 50), Some(5));
        let tighter = CutRules { factor: 1, floor: 0, ..RULES };
        assert_eq!(parts_by(tighter, Protocol::ConnectUnary, &[&message[..]], 50), None);
    }
}
