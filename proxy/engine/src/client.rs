//! One client connection: its input not yet carried out, what it asked and is still owed, and why it is held.
//!
//! Rule of order: answers leave in the order of the questions, and a command is passed on only after every earlier
//! command of the same connection was. At most one request per connection is held back (unparsed, in `input`, or as
//! [`Bulk`]); the ones behind it wait as raw bytes.

use crate::buffer::{InputBuffer, OutBuffer};
use crate::correlate::CorrelationId;
use crate::error::Failure;
use crate::ledger::Outcome;
use crate::ledger::held::HELD;
use crate::readers::Reader;
use crate::split::{Bulk, Merge};
use crate::units::{Bytes, ClientId, Instant, ListenerId, Operations, PoolId, ServerId, Span};
use crate::waiting::Queued;
use std::collections::VecDeque;
use weir_memcached::{DecodeLimits, RequestDecoder, Verb};

/// Requests of one connection that may be under way at once; further ones wait as bytes.
pub(crate) const PIPELINE_MAX: usize = 1_024;

/// The list of requests under way keeps no more room than this once it is empty.
const ASKED_KEPT: usize = 8;

/// Why a connection is to be closed once its output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseHow {
    /// The client said `quit` or closed its side.
    Client,
    /// What it sent cannot be followed (binary protocol, a line that memcached closes on).
    Protocol,
    /// A reply that it had in part cannot be ended: the node that sent it is gone.
    Broken,
}

/// What is left to say about a closed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSummary {
    /// Requests it made.
    pub requests: u64,
}

/// Why no further request of this connection is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Waits for its turn at a server.
    Queued(ServerId),
    /// Its big multiget waits for its turn at a server.
    Bulk(ServerId),
    /// Its big multiget waits until all parts under way are answered (several servers: one segment at a time).
    Segment,
    /// Its big multiget waits until the client has read.
    Unread,
    /// Its big multiget waits until what was passed on before the pool changed is answered.
    Moved,
    /// A limit paces it.
    Paced,
}

/// One request that is not yet fully answered.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Who asked: the name it had then, whatever it is called now.
    pub(crate) known: u32,
    pub(crate) verb: Verb,
    pub(crate) arrived: Instant,
    pub(crate) issued: Option<Instant>,
    pub(crate) operations: u64,
    /// Parts passed on and not yet answered.
    pub(crate) outstanding: u32,
    /// Nothing is left to be passed on.
    pub(crate) complete: bool,
    pub(crate) done: bool,
    /// noreply: the client gets no bytes.
    pub(crate) hidden: bool,
    /// A multiget: `END` follows the values unless `error` does.
    pub(crate) ends: bool,
    pub(crate) error: Option<Vec<u8>>,
    pub(crate) outcome: Outcome,
    /// Answer bytes held until the requests before it have been answered.
    pub(crate) reply: Vec<u8>,
    pub(crate) merge: Option<Box<Merge>>,
    pub(crate) held: Option<Held>,
    /// Its share of the client's `expected`.
    pub(crate) expected: u64,
    pub(crate) chunks: u32,
    pub(crate) backend_operations: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) coalesced: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Which request of a service it is a part of.
    pub(crate) correlation: Option<Box<CorrelationId>>,
}

/// What admission booked for a request and must be returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) operations: Operations,
    pub(crate) bytes: Bytes,
}

impl Asked {
    pub(crate) fn new(known: u32, verb: Verb, arrived: Instant, operations: u64, bytes_in: u64) -> Asked {
        Asked {
            known,
            verb,
            arrived,
            issued: None,
            operations,
            outstanding: 0,
            complete: true,
            done: false,
            hidden: false,
            ends: false,
            error: None,
            outcome: Outcome::Ok,
            reply: Vec::new(),
            merge: None,
            held: None,
            expected: 0,
            chunks: 0,
            backend_operations: 0,
            hits: 0,
            misses: 0,
            coalesced: 0,
            bytes_in,
            bytes_out: 0,
            correlation: None,
        }
    }
}

/// Points at one request of one connection; harmless when either is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) client: ClientId,
    pub(crate) seq: u64,
}

impl Target {
    /// No request of this client: nobody waits for the answer.
    pub(crate) fn nobody(client: ClientId) -> Target {
        Target { client, seq: u64::MAX }
    }
}

/// A key whose old value must go because weir refused its new one.
#[derive(Debug)]
pub(crate) struct StaleDelete {
    /// The refused store, which is not done before the delete is.
    pub(crate) seq: u64,
    /// The command, with its CRLF.
    pub(crate) line: Vec<u8>,
    /// The key as stored.
    pub(crate) key: Vec<u8>,
    pub(crate) verb: Verb,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) generation: u32,
    pub(crate) open: bool,
    pub(crate) listener: ListenerId,
    pub(crate) pool: PoolId,
    pub(crate) known: u32,
    /// Until when its name is awaited.
    pub(crate) unnamed_until: Option<Instant>,
    /// Its account while the name is awaited and it has asked for something.
    pub(crate) held: Option<u32>,
    pub(crate) decoder: RequestDecoder,
    /// Bytes not yet carried out.
    pub(crate) input: InputBuffer,
    pub(crate) out: OutBuffer,
    pub(crate) asked: VecDeque<Asked>,
    /// Sequence number of `asked[0]`.
    pub(crate) first_seq: u64,
    /// Answer bytes held in `asked` for order.
    pub(crate) held_reply: usize,
    /// No request is looked at before all those below this number are answered: the servers changed, or a flush by prefix
    /// is among them, and on other connections a new command could overtake an old one.
    pub(crate) barrier: u64,
    pub(crate) hold: Option<Hold>,
    /// What it waits with, while it is in the queue of a server.
    pub(crate) queued: Option<Queued>,
    /// Since when the held request waits (pace and queue together).
    pub(crate) held_since: Option<Instant>,
    /// The request at the front of `input` was admitted already.
    pub(crate) granted: Option<Held>,
    /// The id that the command that is looked at says; of a held one it is found again.
    pub(crate) correlation: Option<Box<CorrelationId>>,
    /// Estimated reply bytes of the reads under way.
    pub(crate) expected: u64,
    /// The request at the front of `input` is to be answered with this.
    pub(crate) doomed: Option<Failure>,
    /// To be passed on before the next request is looked at.
    pub(crate) stale: Option<Box<StaleDelete>>,
    pub(crate) bulk: Option<Box<Bulk>>,
    pub(crate) closing: Option<CloseHow>,
    pub(crate) eof: bool,
    pub(crate) dirty: bool,
    /// It is on the list of clients whose held input may go on.
    pub(crate) resuming: bool,
    /// The queue of this server gave it a turn: one request may pass the ones still queued.
    pub(crate) turn: Option<ServerId>,
    pub(crate) requests: u64,
    pub(crate) reader: Reader,
    /// How much input is kept while the connection is held.
    pub(crate) input_max: usize,
}

impl Client {
    pub(crate) fn closed() -> Client {
        Client {
            generation: 0,
            open: false,
            listener: ListenerId(0),
            pool: PoolId(0),
            known: 0,
            unnamed_until: None,
            held: None,
            decoder: RequestDecoder::new(DecodeLimits::default()),
            input: InputBuffer::default(),
            out: OutBuffer::default(),
            asked: VecDeque::new(),
            first_seq: 0,
            held_reply: 0,
            barrier: 0,
            hold: None,
            queued: None,
            held_since: None,
            granted: None,
            correlation: None,
            expected: 0,
            doomed: None,
            stale: None,
            bulk: None,
            closing: None,
            eof: false,
            dirty: false,
            resuming: false,
            turn: None,
            requests: 0,
            reader: Reader::new(Instant(0)),
            input_max: 0,
        }
    }

    /// Where the ledger notes what it asks.
    pub(crate) fn account(&self) -> u32 {
        self.held.map_or(self.known, |account| account | HELD)
    }

    /// Whether the next request may be looked at.
    pub(crate) fn may_decode(&self, reply_buffer: usize) -> bool {
        self.open
            && self.hold.is_none()
            && self.bulk.is_none()
            && self.closing.is_none()
            && self.asked.len() < PIPELINE_MAX
            && (self.unread() as u64 + self.expected <= reply_buffer as u64 || self.idle_but_input())
            && self.first_seq >= self.barrier
    }

    /// Nothing is under way or unread: one request may always go, however large its answer may be.
    fn idle_but_input(&self) -> bool {
        self.asked.is_empty() && self.unread() == 0
    }

    /// Answer bytes the client has not taken, those that wait for earlier answers included.
    pub(crate) fn unread(&self) -> usize {
        self.out.len() + self.held_reply
    }

    pub(crate) fn idle(&self) -> bool {
        self.asked.is_empty()
            && self.out.is_empty()
            && self.input.is_empty()
            && self.bulk.is_none()
            && self.stale.is_none()
    }

    pub(crate) fn request(&mut self, seq: u64) -> Option<&mut Asked> {
        let index = seq.checked_sub(self.first_seq)?;
        self.asked.get_mut(usize::try_from(index).ok()?)
    }

    /// Appends answer bytes of request `seq`; they leave at once when nothing asked earlier is owed. Returns how many
    /// bytes are now held.
    pub(crate) fn answer(&mut self, seq: u64, bytes: &[u8]) -> usize {
        let Some(index) = seq.checked_sub(self.first_seq) else { return 0 };
        let Some(asked) = self.asked.get_mut(index as usize) else { return 0 };
        if asked.hidden || asked.done {
            return 0;
        }
        asked.bytes_out += bytes.len() as u64;
        if index == 0 {
            self.out.push(bytes);
        } else {
            asked.reply.extend_from_slice(bytes);
            self.held_reply += bytes.len();
        }
        bytes.len()
    }

    /// Adds a request at the end of the queue of answers.
    pub(crate) fn ask(&mut self, asked: Asked) -> u64 {
        let seq = self.next_seq();
        self.asked.push_back(asked);
        self.requests += 1;
        seq
    }

    /// The number of the next request.
    pub(crate) fn next_seq(&self) -> u64 {
        self.first_seq + self.asked.len() as u64
    }

    /// Lets the answers that are complete, in order, leave.
    pub(crate) fn advance(&mut self) {
        while self.asked.front().is_some_and(|asked| asked.done) {
            self.asked.pop_front();
            self.first_seq += 1;
            if let Some(next) = self.asked.front_mut()
                && !next.reply.is_empty()
            {
                let reply = std::mem::take(&mut next.reply);
                self.held_reply -= reply.len();
                self.out.push(&reply);
            }
        }
        if self.asked.is_empty() && self.asked.capacity() > ASKED_KEPT {
            self.asked = VecDeque::new();
        }
    }

    pub(crate) fn waited(&self, now: Instant) -> Span {
        self.held_since.map_or(Span(0), |since| now.since(since))
    }

    /// The multiget may go on at the new servers: everything passed on before they changed is answered.
    pub(crate) fn settled(&mut self, seq: u64) -> bool {
        self.first_seq == seq && self.request(seq).is_some_and(|asked| asked.outstanding == 0)
    }
}
