//! A client of the native protocol, one message at a time: every version, with compression and segments.
//!
//! Bounds: [`PATIENCE`] for bytes to come.

use super::answer::{Answer, Statement};
use crate::support::PATIENCE;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use weir_cql::envelope::{BODY_MAX, EnvelopeLimits, Flags, Header, Opcode, Side, Step, read_header};
use weir_cql::request::{AuthResponse, Prepare, Register, Startup};
use weir_cql::segment::SegmentStep;
use weir_cql::{
    Compression, Consistency, Dialect, HEADER_LEN, SegmentDecoder, StreamId, Version, write, write_segments,
};

/// One connection.
pub struct Cql {
    stream: Box<dyn Wire>,
    local_port: u16,
    /// The version it asks in.
    pub version: Version,
    compression: Option<Compression>,
    segments: Option<SegmentDecoder>,
    input: Vec<u8>,
    plain: Vec<u8>,
    next: i16,
}

/// What carries it: TCP, or TLS over TCP.
pub trait Wire: io::Read + io::Write + Send {}
impl<T: io::Read + io::Write + Send> Wire for T {}

/// Parameters of QUERY and EXECUTE.
#[derive(Clone, Default)]
pub struct With {
    /// Bound values.
    pub values: Vec<Vec<u8>>,
    /// Leave the columns out of the answer.
    pub skip_metadata: bool,
    /// Rows per page.
    pub page_size: Option<i32>,
    /// Where the pages go on.
    pub page_state: Option<Vec<u8>>,
    /// How many replicas must answer; one when it is not said.
    pub consistency: Option<Consistency>,
    /// The default timestamp, as most drivers send one.
    pub timestamp: Option<i64>,
}

impl With {
    /// Only values.
    pub fn values(values: &[Vec<u8>]) -> With {
        With { values: values.to_vec(), ..With::default() }
    }

    fn write(&self, version: Version, out: &mut Vec<u8>) {
        write::consistency(out, self.consistency.unwrap_or(Consistency::ONE));
        let flags = u32::from(!self.values.is_empty())
            | u32::from(self.skip_metadata) << 1
            | u32::from(self.page_size.is_some()) << 2
            | u32::from(self.page_state.is_some()) << 3
            | u32::from(self.timestamp.is_some()) << 5;
        match version {
            Version::V5 => write::bits(out, flags),
            _ => write::byte(out, flags as u8),
        }
        if !self.values.is_empty() {
            write::short(out, self.values.len() as u16);
            self.values.iter().for_each(|value| write::bytes(out, value));
        }
        if let Some(size) = self.page_size {
            write::int(out, size);
        }
        if let Some(state) = &self.page_state {
            write::bytes(out, state);
        }
        if let Some(timestamp) = self.timestamp {
            write::long(out, timestamp);
        }
    }
}

impl Cql {
    /// A connection on which nothing was said.
    #[track_caller]
    pub fn connect(address: impl Into<SocketAddr>, version: Version) -> Cql {
        let address = address.into();
        let stream = TcpStream::connect_timeout(&address, PATIENCE);
        let stream = stream.unwrap_or_else(|error| panic!("connecting to {address}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time limit");
        stream.set_nodelay(true).expect("no delay");
        let port = stream.local_addr().expect("an address").port();
        Cql::over(Box::new(stream), port, version)
    }

    /// A connection on which nothing was said, over whatever carries it from this port.
    pub fn over(stream: Box<dyn Wire>, local_port: u16, version: Version) -> Cql {
        let (input, plain) = (Vec::new(), Vec::new());
        Cql { stream, local_port, version, compression: None, segments: None, input, plain, next: 0 }
    }

    /// A connection that is open for requests.
    #[track_caller]
    pub fn open(address: impl Into<SocketAddr>, version: Version) -> Cql {
        Cql::open_with(address, version, &[])
    }

    /// The same with more options of STARTUP; COMPRESSION is carried out.
    #[track_caller]
    pub fn open_with(address: impl Into<SocketAddr>, version: Version, options: &[(&str, &str)]) -> Cql {
        let mut cql = Cql::connect(address, version);
        cql.startup(options);
        cql
    }

    /// STARTUP, up to READY.
    #[track_caller]
    pub fn startup(&mut self, options: &[(&str, &str)]) {
        let mut body = Vec::new();
        Startup::write([("CQL_VERSION", "3.0.0")].into_iter().chain(options.iter().copied()), &mut body);
        self.send(0, Opcode::Startup, &body).expect("sent");
        let compression = options.iter().find(|(name, _)| *name == "COMPRESSION");
        // Cassandra compresses its answer to STARTUP already
        self.compression = compression.and_then(|(_, name)| Compression::from_name(name.as_bytes()));
        let answer = self.answer();
        assert_eq!(answer.header.opcode, Opcode::Ready, "{answer:?}");
        if self.version >= Version::V5 {
            self.segments = Some(SegmentDecoder::new(self.compression.is_some(), BODY_MAX));
        }
    }

    /// STARTUP, which must be answered with AUTHENTICATE.
    #[track_caller]
    pub fn startup_asks(&mut self, options: &[(&str, &str)]) -> Answer {
        let mut body = Vec::new();
        Startup::write([("CQL_VERSION", "3.0.0")].into_iter().chain(options.iter().copied()), &mut body);
        self.send(0, Opcode::Startup, &body).expect("sent");
        let answer = self.answer();
        assert_eq!(answer.header.opcode, Opcode::Authenticate, "{answer:?}");
        if self.version >= Version::V5 {
            self.segments = Some(SegmentDecoder::new(false, BODY_MAX));
        }
        answer
    }

    /// AUTH_RESPONSE with a user name and a password, and its answer.
    #[track_caller]
    pub fn credentials(&mut self, user: &str, password: &str) -> Answer {
        let mut body = Vec::new();
        AuthResponse::write(Some(format!("\0{user}\0{password}").as_bytes()), &mut body);
        self.ask(Opcode::AuthResponse, &body)
    }

    /// REGISTER, up to READY.
    #[track_caller]
    pub fn register(&mut self, events: &[&str]) {
        let mut body = Vec::new();
        Register::write(events.iter().copied(), &mut body);
        assert_eq!(self.ask(Opcode::Register, &body).header.opcode, Opcode::Ready);
    }

    /// The port of this side.
    pub fn local_port(&self) -> u16 {
        self.local_port
    }

    /// Bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a request under a stream id; compressed where that was agreed on.
    pub fn send(&mut self, stream: i16, opcode: Opcode, body: &[u8]) -> io::Result<()> {
        self.send_flagged(Flags::default(), stream, opcode, body)
    }

    /// The same with flags in its header.
    pub fn send_flagged(&mut self, flags: Flags, stream: i16, opcode: Opcode, body: &[u8]) -> io::Result<()> {
        let mut flags = flags;
        let mut packed = body.to_vec();
        if let (Some(compression), None) = (self.compression, &self.segments) {
            flags = flags.with(Flags::COMPRESSED);
            packed.clear();
            compression.compress(body, &mut packed);
        }
        let header = Header {
            version: self.version,
            flags,
            stream: StreamId(stream),
            opcode,
            body_len: packed.len() as u32,
        };
        let mut wire = Vec::new();
        header.write(&mut wire);
        wire.extend_from_slice(&packed);
        if self.segments.is_some() {
            let plain = std::mem::take(&mut wire);
            let whole = write_segments(&plain, self.compression.is_some(), &mut wire);
            assert_eq!(whole, Ok(plain.len()));
        }
        self.stream.write_all(&wire)
    }

    /// The next message.
    pub fn try_answer(&mut self) -> io::Result<Answer> {
        loop {
            if let Some(segments) = &mut self.segments {
                while let SegmentStep::Segment { consumed } = segments.decode(&self.input, &mut self.plain) {
                    self.input.drain(..consumed);
                }
            } else {
                self.plain.append(&mut self.input);
            }
            match read_header(&self.plain, Side::Server, EnvelopeLimits::default()) {
                Step::Envelope { header } if self.plain.len() >= header.envelope_len() => {
                    return Ok(self.take(header));
                }
                Step::Envelope { .. } | Step::Incomplete { .. } => {}
                other => return Err(io::Error::other(format!("{other:?}"))),
            }
            let mut chunk = [0; 64 << 10];
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => self.input.extend_from_slice(&chunk[..length]),
            }
        }
    }

    fn take(&mut self, mut header: Header) -> Answer {
        let mut body = self.plain[HEADER_LEN..header.envelope_len()].to_vec();
        self.plain.drain(..header.envelope_len());
        if header.flags.has(Flags::COMPRESSED) {
            let compression = self.compression.expect("compressed as agreed");
            let packed = std::mem::take(&mut body);
            compression.decompress(&packed, BODY_MAX as usize, &mut body).expect("decompressed");
            header.flags = header.flags.without(Flags::COMPRESSED);
        }
        Answer { header, body }
    }

    /// The next message.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.try_answer().unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// A request and its answer, which must be the next message and on the request's stream.
    pub fn try_ask(&mut self, opcode: Opcode, body: &[u8]) -> io::Result<Answer> {
        self.next = (self.next + 1) & 0x3ff;
        let stream = self.next;
        self.send(stream, opcode, body)?;
        let answer = self.try_answer()?;
        assert_eq!(answer.header.stream, StreamId(stream), "the answer to another request: {answer:?}");
        assert_eq!(answer.header.version, self.version, "{answer:?}");
        Ok(answer)
    }

    /// The same; a lost connection fails the test.
    #[track_caller]
    pub fn ask(&mut self, opcode: Opcode, body: &[u8]) -> Answer {
        self.try_ask(opcode, body).unwrap_or_else(|error| panic!("{}: {error}", opcode.name()))
    }

    /// OPTIONS.
    #[track_caller]
    pub fn options(&mut self) -> Answer {
        self.ask(Opcode::Options, &[])
    }

    /// QUERY without parameters.
    #[track_caller]
    pub fn query(&mut self, text: &str) -> Answer {
        self.query_with(text, &With::default())
    }

    /// QUERY.
    #[track_caller]
    pub fn query_with(&mut self, text: &str, with: &With) -> Answer {
        let mut body = Vec::new();
        write::bytes(&mut body, text.as_bytes());
        with.write(self.version, &mut body);
        self.ask(Opcode::Query, &body)
    }

    /// PREPARE.
    #[track_caller]
    pub fn prepare(&mut self, text: &str) -> Answer {
        let mut body = Vec::new();
        Prepare::write(text.as_bytes(), None, Dialect::of(self.version), &mut body);
        self.ask(Opcode::Prepare, &body)
    }

    /// EXECUTE.
    #[track_caller]
    pub fn execute(&mut self, statement: &Statement, with: &With) -> Answer {
        let body = self.execute_body(statement, with);
        self.ask(Opcode::Execute, &body)
    }

    /// The body of an EXECUTE.
    pub fn execute_body(&self, statement: &Statement, with: &With) -> Vec<u8> {
        let mut body = Vec::new();
        write::short_bytes(&mut body, &statement.id);
        if Dialect::of(self.version).metadata_ids {
            write::short_bytes(&mut body, &statement.result_id);
        }
        with.write(self.version, &mut body);
        body
    }
}

/// A value: an int.
pub fn int(value: i32) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

/// A value: a list of ints.
pub fn list(keys: impl IntoIterator<Item = i32>) -> Vec<u8> {
    let keys: Vec<i32> = keys.into_iter().collect();
    let mut bytes = int(keys.len() as i32);
    keys.iter().for_each(|key| write::bytes(&mut bytes, &key.to_be_bytes()));
    bytes
}
