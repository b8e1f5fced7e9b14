//! A call in parts: which are sent and when is the gate's word ([`Parts`]); here they are under way, and one of five ends
//! takes those that are back from the service: all are answered, one failed, the replies do not fit together, the time is
//! over, the client left.
//!
//! Memory: the request and the replies are the gate's; here are the messages of the parts under way, their replies up to
//! `split_reply_bytes`, and the reply to the whole while it is written. With replies and their merger at the gate a call
//! comes to twice its reply at the peak (tests/edge/split_memory.rs).

use super::feed::{Feed, Step};
use super::part::{Answered, Ended, Room, Sending, Words, prefix};
use super::relay::Passed;
use super::{Done, Exchange, Stop, web, write};
use crate::answer::{Reason, Refusal};
use crate::deadline;
use crate::headers;
use crate::parts::{self, Order, Parts, Progress};
use crate::protocol::Protocol;
use crate::upstream::{Outgoing, Request, Sent};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{HeaderMap, header, response};
use pingora_http::ResponseHeader;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use tokio::time::Instant;

/// Bytes of the reply that are written at once: each such piece has its own time-out, and the gate sees it.
const PIECE: usize = 64 << 10;

/// What the head of the reply is made of.
struct First {
    head: response::Parts,
    trailers: HeaderMap,
}

/// Why a split call has no reply.
enum Fails {
    Stop(Stop),
    /// In the service's own words.
    Words(Words),
}

impl From<Refusal> for Fails {
    fn from(refusal: Refusal) -> Fails {
        Fails::Stop(Stop::Refuse(refusal))
    }
}

impl Exchange<'_> {
    /// Carries a call in parts. `whole` makes the request of a body; what differs in each part is said here.
    pub(super) async fn split(
        &mut self,
        mut parts: Box<dyn Parts>,
        idempotent: bool,
        uri: http::Uri,
        headers: &HeaderMap,
    ) -> Done {
        if !self.protocol.can_be_split() {
            let message = "the gate splits what cannot be split";
            return self.refuse(&Refusal::new(Reason::Merge, message)).await;
        }
        let headers = parts::headers_of_part(headers);
        let (method, protocol, deadline) = (self.head().method.clone(), self.protocol, self.deadline);
        let make = |body: Outgoing| {
            let mut request: Request = http::Request::new(body);
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = headers.clone();
            deadline.write(protocol, request.headers_mut(), Instant::now());
            request
        };
        let started = Instant::now();
        let (gathered, sent, retries) = {
            let mut gathering = Gathering { first: None, sent: 0, retries: 0 };
            let gathered = gathering.run(self, parts.as_mut(), idempotent, &make).await;
            (gathered.map(|message| (gathering.first, message)), gathering.sent, gathering.retries)
            // Here the parts under way are dropped: the service is told that nobody waits for them.
        };
        drop(parts);
        self.ending.served(started.elapsed(), retries);
        self.ending.parts(sent);
        match gathered {
            Ok((Some(first), message)) => self.answer_whole(first, message).await,
            Ok((None, _)) => {
                let message = "the first part was never sent";
                self.refuse(&Refusal::new(Reason::Merge, message)).await
            }
            Err(Fails::Stop(stop)) => stop.into_done(self).await,
            Err(Fails::Words(words)) => self.pass_words(words).await,
        }
    }

    async fn answer_whole(&mut self, first: First, message: Bytes) -> Done {
        let First { mut head, mut trailers } = first;
        parts::first_part(&mut head.headers);
        let mut front = Bytes::new();
        if self.protocol.has_prefixes() {
            trailers.insert("grpc-status", 0.into());
            front = prefix(&message);
        }
        let (behind, trailers) = self.behind(Some(trailers));
        if trailers.is_none() {
            let length = front.len() + message.len() + behind.len();
            head.headers.insert(header::CONTENT_LENGTH, length.into());
        }
        let end = front.is_empty() && message.is_empty() && behind.is_empty() && trailers.is_none();
        if !self.begin_reply(head, end).await {
            return self.gone();
        }
        if end {
            return self.answered();
        }
        let deadline = self.deadline.for_rest();
        let mut left = message;
        let mut piece = front;
        loop {
            if !piece.is_empty() {
                match self.pass_part(piece, deadline).await {
                    Passed::On | Passed::End => {}
                    Passed::Refused => return self.not_taken(deadline).await,
                }
            }
            if left.is_empty() {
                break;
            }
            piece = left.split_to(left.len().min(PIECE));
        }
        self.end_reply(behind, trailers, deadline).await
    }

    /// The error of a part is the error of the call.
    async fn pass_words(&mut self, words: Words) -> Done {
        let Words { mut head, body, trailers } = words;
        let (behind, trailers) = match self.protocol.has_prefixes() {
            true => self.behind(trailers),
            false => (Bytes::new(), trailers),
        };
        if self.protocol != Protocol::Grpc {
            head.headers.insert(header::CONTENT_LENGTH, (body.len() + behind.len()).into());
        }
        let end = body.is_empty() && behind.is_empty() && trailers.is_none();
        if !self.begin_reply(head, end).await {
            return self.gone();
        }
        if end {
            return self.answered();
        }
        let deadline = self.deadline.for_rest();
        if !body.is_empty() && matches!(self.pass_part(body, deadline).await, Passed::Refused) {
            return self.not_taken(deadline).await;
        }
        self.end_reply(behind, trailers, deadline).await
    }

    /// Where trailers go: gRPC has them behind its body, gRPC-web as the last message in it, the others nowhere.
    fn behind(&mut self, trailers: Option<HeaderMap>) -> (Bytes, Option<HeaderMap>) {
        match (self.protocol, trailers) {
            (Protocol::Grpc, trailers) => (Bytes::new(), trailers),
            (Protocol::GrpcWeb, Some(trailers)) => {
                self.ending.grpc_status(&trailers);
                (web::write(&trailers), None)
            }
            _ => (Bytes::new(), None),
        }
    }

    /// What is behind a reply's message, and its end.
    async fn end_reply(
        &mut self,
        behind: Bytes,
        trailers: Option<HeaderMap>,
        deadline: Option<Instant>,
    ) -> Done {
        if !behind.is_empty() && matches!(self.pass_part(behind, deadline).await, Passed::Refused) {
            return self.not_taken(deadline).await;
        }
        let ended = match trailers {
            Some(trailers) => !matches!(self.pass_trailers(trailers).await, Passed::Refused),
            None => write::end(self.session).await.is_ok(),
        };
        if ended { self.answered() } else { self.gone() }
    }

    /// Writes the head; `false` when the client is gone.
    async fn begin_reply(&mut self, mut head: response::Parts, end: bool) -> bool {
        headers::to_client(&mut head.headers);
        let status = head.status;
        self.ending.set_status(status.as_u16());
        self.ending.grpc_status(&head.headers);
        if let Some(call) = self.ending.call() {
            call.reply_head(status, &head.headers);
        }
        head.version = http::Version::HTTP_11;
        write::head(self.session, ResponseHeader::from(head), end).await.is_ok()
    }
}

/// The parts of one call, while they are under way.
struct Gathering {
    first: Option<First>,
    /// Parts sent.
    sent: u32,
    /// How often one was sent again.
    retries: u32,
}

impl Gathering {
    async fn run(
        &mut self,
        exchange: &mut Exchange<'_>,
        parts: &mut dyn Parts,
        idempotent: bool,
        make: &impl Fn(Outgoing) -> Request,
    ) -> Result<Bytes, Fails> {
        let deadline = exchange.deadline.for_head();
        let sending = Sending {
            upstream: Arc::clone(&exchange.shared.upstream),
            protocol: exchange.protocol,
            idempotent,
            by: deadline,
            room: Room::new(exchange.shared.settings.requests.split_reply_bytes),
        };
        let sending = &sending;
        let mut feed = Feed::none();
        let mut under_way = FuturesUnordered::new();
        loop {
            let landed = async {
                match under_way.next().await {
                    Some(landed) => landed,
                    None => pending().await,
                }
            };
            // Every branch is cancel-safe: parts stay in `under_way`, orders with the gate.
            let (part, ended, again) = tokio::select! {
                biased;
                landed = landed => landed,
                order = poll_fn(|context| parts.poll_next(context)) => {
                    let part = match order {
                        Order::Send(part) => part,
                        Order::End(refusal) => return Err(refusal.into()),
                    };
                    let (message, retries) = (parts.write(part), parts.retries(part));
                    self.sent += 1;
                    under_way.push(async move {
                        let (ended, again) = sending.send(make, message, retries).await;
                        (part, ended, again)
                    });
                    continue;
                }
                step = feed.step(exchange.session, exchange.ending) => match step {
                    Step::Moved => continue,
                    Step::Refuse(refusal) => return Err(refusal.into()),
                    Step::Gone => return Err(Fails::Stop(Stop::Gone)),
                },
                () = deadline::until(deadline) => return Err(Fails::Stop(Stop::Late)),
            };
            self.retries += again;
            if let Some(why) = ended.failed() {
                parts.failed(part, why);
            }
            match ended {
                Ended::Message(Answered { head, message, trailers }) => {
                    if part == 0 {
                        self.first = Some(First { head, trailers });
                    }
                    if parts.answered(part, message)? == Progress::Complete {
                        return Ok(parts.merged()?);
                    }
                }
                Ended::Error(words, _) => return Err(Fails::Words(words)),
                // Others may have been carried out: nobody can say any more that the service has seen nothing.
                Ended::Lost(failure) if self.sent > 1 && failure.sent != Sent::Overloaded => {
                    let what = failure.refusal().message;
                    return Err(Refusal::new(Reason::Broken, format!("of a split call: {what}")).into());
                }
                Ended::Lost(failure) => return Err(failure.refusal().into()),
                Ended::TooLarge => {
                    let most = exchange.shared.settings.requests.split_reply_bytes;
                    let message = format!("the replies of its parts are larger than {most} bytes together");
                    return Err(Refusal::new(Reason::ReplyTooLarge, message).into());
                }
                Ended::Unreadable(why) => return Err(Refusal::new(Reason::Merge, why).into()),
            }
        }
    }
}
