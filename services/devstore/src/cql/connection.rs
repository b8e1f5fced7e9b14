//! One connection: bytes to envelopes, envelopes to the session, answers back.
//!
//! Reads are answered at once, writes when they are on disk, so answers come in any order. Bounds: a body has at most
//! [`BODY_MAX`] bytes; [`IN_FLIGHT`] writes may wait for the disk, and [`UNSENT`] bytes of answers for the client, before
//! no more is read.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{broadcast, mpsc};
use weir_cql::request::Startup;
use weir_cql::response::{ErrorBody, ErrorCode};
use weir_cql::{
    Compression, Dialect, EnvelopeLimits, Flags, HEADER_LEN, Header, Opcode, Request, SegmentDecoder,
    SegmentStep, Side, Step, StreamId, Version, own, read_header, write_segments,
};

use super::answer;
use super::engine::Engine;
use super::refusal::Refusal;
use super::session::{Outcome, Pending, Session};
use super::store::{Answer, Job};

/// Longest body of a request, bytes.
pub const BODY_MAX: u32 = 16 << 20;
/// Writes of one connection that wait for the disk.
pub const IN_FLIGHT: usize = 1_024;
/// Bytes of answers that wait for the client.
pub const UNSENT: usize = 256 << 10;
/// Bytes read at once.
const READ_SIZE: usize = 64 << 10;
/// Bodies from this length on may take long: other connections of the thread are moved to another.
const LONG: usize = 4 << 10;

/// A write that is done, or refused.
type Done = (Pending, Result<Answer, Refusal>);

struct Connection {
    session: Session,
    /// STARTUP was answered.
    ready: bool,
    compression: Option<Compression>,
    segments: Option<SegmentDecoder>,
    /// As it came from the socket.
    wire: Vec<u8>,
    /// Envelopes; with segments, what was in them.
    input: Vec<u8>,
    /// Envelopes to be sent.
    out: Vec<u8>,
    /// How much of that goes without segments, although there are some: everything up to the READY of STARTUP.
    plain: usize,
    /// Writes that wait for the disk.
    waiting: usize,
    done: mpsc::Sender<Done>,
    /// The connection is out of step: it is closed when everything was sent.
    closing: bool,
}

/// Serves a connection to its end.
///
/// # Errors
/// Those of the socket.
pub async fn serve(mut stream: TcpStream, engine: Arc<Engine>) -> Result<()> {
    let dialled = stream.local_addr()?;
    let (done, mut finished) = mpsc::channel(IN_FLIGHT);
    let mut events = engine.events.subscribe();
    let mut connection = Connection::new(Arc::clone(&engine), dialled, done);
    loop {
        connection.work(&mut stream).await?;
        connection.send(&mut stream).await?;
        if connection.closing && connection.waiting == 0 {
            stream.shutdown().await?;
            return Ok(());
        }
        let room = connection.waiting < IN_FLIGHT && !connection.closing;
        let registered = connection.session.registered;
        connection.wire.reserve(READ_SIZE);
        // All three are safe to drop: bytes stay in the socket, messages in their channels.
        tokio::select! {
            count = stream.read_buf(&mut connection.wire), if room => {
                if count? == 0 {
                    return Ok(());
                }
            }
            Some(done) = finished.recv() => {
                connection.finish(done);
                while let Ok(done) = finished.try_recv() {
                    connection.finish(done);
                }
            }
            told = events.recv(), if registered => match told {
                Ok(told) => answer::event(&mut connection.out, connection.session.dialect.version, &told),
                // it is told the next ones
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
        }
    }
}

impl Connection {
    fn new(engine: Arc<Engine>, dialled: SocketAddr, done: mpsc::Sender<Done>) -> Self {
        let dialect = Dialect::of(Version::V5);
        Self {
            session: Session { engine, dialect, keyspace: None, dialled, registered: false },
            ready: false,
            compression: None,
            segments: None,
            wire: Vec::new(),
            input: Vec::new(),
            out: Vec::new(),
            plain: 0,
            waiting: 0,
            done,
            closing: false,
        }
    }

    /// Takes the request at the front of what has come, again and again.
    async fn work(&mut self, stream: &mut TcpStream) -> Result<()> {
        let mut input = std::mem::take(&mut self.input);
        let mut at = 0;
        while !self.closing && self.waiting < IN_FLIGHT {
            if self.segments.is_none() {
                input.append(&mut self.wire);
            }
            match read_header(&input[at..], Side::Client, LIMITS) {
                Step::Envelope { header } if input.len() - at >= header.envelope_len() => {
                    let end = at + header.envelope_len();
                    let segmented = self.segments.is_some();
                    self.request(&header, &input[at + HEADER_LEN..end]).await;
                    at = end;
                    if !segmented && self.segments.is_some() {
                        // what follows STARTUP is segments
                        self.wire = input.split_off(at);
                    }
                }
                Step::Unsupported { version, stream, consumed } => {
                    own::unsupported_version(&mut self.out, version, stream, Version::V5);
                    at += consumed;
                }
                Step::Malformed { reason, stream } => {
                    self.out_of_step(stream.unwrap_or_default(), &format!("Invalid message: {reason}"));
                }
                Step::Envelope { .. } | Step::Incomplete { .. } => {
                    if !self.segment(&mut input) {
                        break;
                    }
                }
            }
            if self.out.len() >= UNSENT {
                self.send(stream).await?;
            }
        }
        input.drain(..at);
        if input.is_empty() && input.capacity() > 2 * READ_SIZE {
            // an idle client owns no large buffer
            input = Vec::new();
        }
        self.input = input;
        Ok(())
    }

    /// Takes a segment, if there is a whole one.
    fn segment(&mut self, input: &mut Vec<u8>) -> bool {
        let Some(decoder) = &mut self.segments else { return false };
        match decoder.decode(&self.wire, input) {
            SegmentStep::Segment { consumed } => {
                self.wire.drain(..consumed);
                true
            }
            SegmentStep::Incomplete { .. } => false,
            SegmentStep::Malformed(reason) => {
                self.out_of_step(StreamId(0), &format!("Invalid segment: {reason}"));
                false
            }
        }
    }

    fn out_of_step(&mut self, stream: StreamId, message: &str) {
        let body = ErrorBody::plain(ErrorCode::PROTOCOL_ERROR, message);
        own::error(&mut self.out, self.session.dialect.version, stream, &body);
        self.closing = true;
    }

    async fn request(&mut self, header: &Header, body: &[u8]) {
        let mut plain = Vec::new();
        let body = if header.flags.has(Flags::COMPRESSED) && header.version < Version::V5 {
            let Some(compression) = self.compression else {
                return self
                    .out_of_step(header.stream, "a compressed body, and no compression was agreed on");
            };
            if let Err(reason) = compression.decompress(body, BODY_MAX as usize, &mut plain) {
                return self.out_of_step(header.stream, &format!("Invalid message: {reason}"));
            }
            &plain[..]
        } else {
            body
        };
        if !self.ready {
            return self.handshake(header, body);
        }
        if header.version != self.session.dialect.version {
            return self.out_of_step(header.stream, "Invalid message version");
        }
        if header.opcode == Opcode::Options {
            return self.supported(header);
        }
        let start = self.out.len();
        let outcome = match body.len() >= LONG {
            true => tokio::task::block_in_place(|| self.session.handle(header, body, &mut self.out)),
            false => self.session.handle(header, body, &mut self.out),
        };
        match outcome {
            Outcome::Answered => self.compress(start),
            Outcome::Wait(work, pending) => {
                self.waiting += 1;
                let done = self.done.clone();
                let stream = pending.stream;
                let events = self.session.engine.events.clone();
                let tell = Box::new(move |answer: Result<Answer, Refusal>| {
                    if let Ok(Answer::Schema(Some(told))) = &answer {
                        // everybody who listens is told, also when this client is gone; nobody may listen
                        let _ = events.send(told.clone());
                    }
                    // never full: there is room for every write that waits; closed: the client is gone
                    let _ = done.try_send((pending, answer));
                });
                if let Err(refusal) = self.session.engine.writer.send(Job { work, tell }).await {
                    self.waiting -= 1;
                    own::error(&mut self.out, self.session.dialect.version, stream, &refusal.body());
                }
            }
        }
    }

    fn finish(&mut self, (pending, answer): Done) {
        self.waiting -= 1;
        let start = self.out.len();
        let seconds = (self.session.engine.micros() / 1_000_000) as u32;
        self.session.finish(pending, answer, seconds, &mut self.out);
        self.compress(start);
    }

    /// v3 and v4: compresses the bodies of the envelopes behind `start`.
    fn compress(&mut self, start: usize) {
        let Some(compression) = self.compression.filter(|_| self.session.dialect.version < Version::V5)
        else {
            return;
        };
        let plain = self.out.split_off(start);
        let mut rest = &plain[..];
        while let Step::Envelope { header } = read_header(rest, Side::Server, EnvelopeLimits::default()) {
            let Some((envelope, behind)) = rest.split_at_checked(header.envelope_len()) else { break };
            let mut body = Vec::new();
            compression.compress(&envelope[HEADER_LEN..], &mut body);
            let flags = header.flags.with(Flags::COMPRESSED);
            Header { flags, body_len: body.len() as u32, ..header }.write(&mut self.out);
            self.out.extend_from_slice(&body);
            rest = behind;
        }
    }

    /// OPTIONS and STARTUP.
    fn handshake(&mut self, header: &Header, body: &[u8]) {
        self.session.dialect = Dialect::of(header.version);
        match Request::locate(header, body, self.session.dialect) {
            Ok(Request::Options) => self.supported(header),
            Ok(Request::Startup(startup)) => self.startup(header, startup, body),
            Ok(_) => self.out_of_step(header.stream, "Unexpected message, expecting STARTUP or OPTIONS"),
            Err(reason) => self.out_of_step(header.stream, &format!("Invalid message: {reason}")),
        }
    }

    fn supported(&mut self, header: &Header) {
        let options: [(&str, &[&str]); 3] = [
            ("CQL_VERSION", &["3.4.7"]),
            ("COMPRESSION", &["snappy", "lz4"]),
            ("PROTOCOL_VERSIONS", &["3/v3", "4/v4", "5/v5"]),
        ];
        own::supported(&mut self.out, header.version, header.stream, options);
    }

    fn startup(&mut self, header: &Header, startup: Startup, body: &[u8]) {
        if startup.get(body, "CQL_VERSION").is_none() {
            return self.out_of_step(header.stream, "Missing value CQL_VERSION in STARTUP message");
        }
        let compression = match startup.get(body, "COMPRESSION") {
            None | Some(b"") => None,
            Some(name) => match Compression::from_name(name) {
                Some(Compression::Snappy) if header.version >= Version::V5 => None,
                found => found,
            },
        };
        if startup.get(body, "COMPRESSION").is_some_and(|name| !name.is_empty()) && compression.is_none() {
            return self.out_of_step(header.stream, "Unknown compression algorithm");
        }
        own::ready(&mut self.out, header.version, header.stream);
        self.compression = compression;
        self.ready = true;
        if header.version >= Version::V5 {
            self.segments = Some(SegmentDecoder::new(compression == Some(Compression::Lz4), BODY_MAX));
            self.plain = self.out.len();
        }
    }

    /// Sends what there is.
    async fn send(&mut self, stream: &mut TcpStream) -> Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let first = match self.segments {
            None => self.out.len(),
            Some(_) => std::mem::take(&mut self.plain),
        };
        stream.write_all(&self.out[..first]).await?;
        if first < self.out.len() {
            let mut segments = Vec::new();
            let compressed = self.compression == Some(Compression::Lz4);
            write_segments(&self.out[first..], compressed, &mut segments)?;
            stream.write_all(&segments).await?;
        }
        self.out.clear();
        if self.out.capacity() > 2 * UNSENT {
            // an idle client owns no large buffer
            self.out = Vec::new();
        }
        if self.wire.is_empty() && self.wire.capacity() > 2 * READ_SIZE {
            self.wire = Vec::new();
        }
        Ok(())
    }
}

const LIMITS: EnvelopeLimits = EnvelopeLimits { body: BODY_MAX, newest: Version::V5 };
