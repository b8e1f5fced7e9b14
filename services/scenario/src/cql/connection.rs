//! One blocking connection: requests are gathered and leave in one write, answers are taken out of what one read brought.
//! Bounds: an answer of [`ANSWER_MAX`] bytes, a wait of the time-out given.

use anyhow::{Context, Result, bail, ensure};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use weir_cql::envelope::Open;
use weir_cql::request::handshake::Startup;
use weir_cql::request::{Prepare, Query};
use weir_cql::response::{ErrorBody, ResultBody};
use weir_cql::{
    Consistency, Dialect, EnvelopeLimits, Flags, Header, Opcode, Response, Side, Step, StreamId, Version,
    read_header,
};

/// The protocol version that is spoken.
pub const VERSION: Version = Version::V4;

/// What follows from it.
pub const DIALECT: Dialect = Dialect::of(VERSION);

/// Longest answer: 15,000 rows are about 8 MB.
const ANSWER_MAX: u32 = 64 << 20;

/// Bytes that one read may bring.
const READ: usize = 256 * 1024;

/// A connection after STARTUP.
pub struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    start: usize,
    end: usize,
    out: Vec<u8>,
}

impl Connection {
    /// Dials and says STARTUP. No answer within `patience` is an error, here and later.
    pub fn open(server: SocketAddr, patience: Duration) -> Result<Self> {
        let stream =
            TcpStream::connect_timeout(&server, patience).with_context(|| format!("connect {server}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut connection = Self { stream, input: vec![0; READ], start: 0, end: 0, out: Vec::new() };
        connection.ask(StreamId(0), Opcode::Startup, |out| {
            Startup::write([("CQL_VERSION", "3.0.0"), ("DRIVER_NAME", "weir-scenario")], out);
        })?;
        match connection.answer()? {
            (header, _) if header.opcode == Opcode::Ready => Ok(connection),
            (header, body) => {
                bail!("STARTUP was answered with {}: {}", header.opcode.name(), said(&header, body))
            }
        }
    }

    /// Puts a request behind those that wait for [`Connection::flush`].
    pub fn ask(&mut self, stream: StreamId, opcode: Opcode, body: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let open = Open::new(&mut self.out, VERSION, Flags::default(), stream, opcode);
        body(&mut self.out);
        open.close(&mut self.out).map_err(|_| anyhow::anyhow!("a request too long to be sent"))
    }

    /// Sends what was asked.
    pub fn flush(&mut self) -> Result<()> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).context("send")?;
            self.out.clear();
        }
        Ok(())
    }

    /// The next answer, sending and waiting only when none is here already.
    pub fn answer(&mut self) -> Result<(Header, &[u8])> {
        loop {
            let limits = EnvelopeLimits { body: ANSWER_MAX, newest: VERSION };
            let waiting = &self.input[self.start..self.end];
            let needed = match read_header(waiting, Side::Server, limits) {
                Step::Envelope { header } if waiting.len() >= header.envelope_len() => {
                    let body = self.start + weir_cql::HEADER_LEN..self.start + header.envelope_len();
                    self.start = body.end;
                    return Ok((header, &self.input[body]));
                }
                Step::Envelope { header } => header.envelope_len(),
                Step::Incomplete { needed } => needed,
                other => bail!("out of step: {other:?}"),
            };
            self.flush()?;
            self.fill(needed)?;
        }
    }

    /// Reads once; makes room for `needed` bytes first.
    fn fill(&mut self, needed: usize) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.start + needed.max(READ / 4) > self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.input.len() < needed {
                self.input.resize(needed, 0);
            }
        }
        loop {
            match self.stream.read(&mut self.input[self.end..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(bytes) => {
                    self.end += bytes;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => bail!("no answer in time"),
                Err(error) => return Err(error).context("receive"),
            }
        }
    }

    /// Runs a statement that gives no rows that matter.
    pub fn query(&mut self, text: &str) -> Result<()> {
        self.ask(StreamId(0), Opcode::Query, |out| Query::write(text, Consistency::LOCAL_ONE, DIALECT, out))?;
        let (header, body) = self.answer()?;
        ensure!(header.opcode == Opcode::Result, "{text}: {}", said(&header, body));
        Ok(())
    }

    /// Prepares a statement; its id.
    pub fn prepare(&mut self, text: &str) -> Result<Vec<u8>> {
        self.ask(StreamId(0), Opcode::Prepare, |out| Prepare::write(text.as_bytes(), None, DIALECT, out))?;
        let (header, body) = self.answer()?;
        match Response::locate(&header, body, DIALECT) {
            Ok((_, Response::Result(ResultBody::Prepared(prepared)))) => Ok(prepared.id.of(body).to_vec()),
            _ => bail!("{text}: {}", said(&header, body)),
        }
    }
}

/// What an ERROR says; for other messages their name.
pub fn said(header: &Header, body: &[u8]) -> String {
    match Response::locate(header, body, DIALECT) {
        Ok((_, Response::Error(ErrorBody { code, message, .. }))) => {
            format!("ERROR {:#06x} {}", code.0, String::from_utf8_lossy(message))
        }
        Ok(_) => header.opcode.name().to_owned(),
        Err(reason) => format!("{} that cannot be read: {reason:?}", header.opcode.name()),
    }
}
