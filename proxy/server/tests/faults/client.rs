//! A client that checks what it reads: one connection, blocking, with a time-out on everything.

use crate::values::{flags_of, set_command};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Nothing a test waits for takes longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Where to connect to.
#[derive(Clone, Debug)]
pub enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Tcp(address) => write!(f, "{address}"),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub fn connect(place: &Place) -> io::Result<Stream> {
        let stream = match place {
            Place::Tcp(address) => Stream::Tcp(TcpStream::connect_timeout(address, PATIENCE)?),
            Place::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
        };
        stream.patience(PATIENCE)?;
        Ok(stream)
    }

    pub fn patience(&self, patience: Duration) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))
            }
            Stream::Unix(stream) => {
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))
            }
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).read(into),
            Stream::Unix(stream) => (&*stream).read(into),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).write(bytes),
            Stream::Unix(stream) => (&*stream).write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a get brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    Value(Vec<u8>),
    Miss,
    /// An error line, without its line end.
    Error(String),
}

impl Got {
    pub fn is_server_error(&self) -> bool {
        matches!(self, Got::Error(line) if line.starts_with("SERVER_ERROR "))
    }
}

/// What a multiget brought.
#[derive(Debug, Default)]
pub struct Many {
    /// Keys and values in the order they came.
    pub values: Vec<(String, Vec<u8>)>,
    /// The line in the place of END, if it was another.
    pub error: Option<String>,
}

#[derive(Debug)]
pub struct Client {
    pub stream: Stream,
    held: Vec<u8>,
    at: usize,
    received: u64,
}

impl Client {
    pub fn new(stream: Stream) -> Client {
        Client { stream, held: Vec::new(), at: 0, received: 0 }
    }

    pub fn try_connect(place: &Place) -> io::Result<Client> {
        Stream::connect(place).map(Client::new)
    }

    pub fn connect(place: &Place) -> Client {
        Client::try_connect(place).expect("connected")
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("sent");
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        (&self.stream).write_all(bytes.as_ref())
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.at == self.held.len() {
            self.held.clear();
            self.at = 0;
        }
        let mut piece = [0; 16 << 10];
        match (&self.stream).read(&mut piece)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.received += n as u64;
                self.held.extend_from_slice(&piece[..n]);
                Ok(())
            }
        }
    }

    /// The next line, without its end.
    pub fn try_line(&mut self) -> io::Result<String> {
        let mut seen = self.at;
        loop {
            if let Some(end) = self.held[seen..].iter().position(|byte| *byte == b'\n') {
                let line = &self.held[self.at..seen + end];
                let line = line.strip_suffix(b"\r").expect("lines end in CR LF");
                let line = String::from_utf8_lossy(line).into_owned();
                self.at = seen + end + 1;
                return Ok(line);
            }
            let unread = self.held.len() - self.at;
            assert!(unread < 1 << 20, "no line within a MiB: {:?}", &self.held[self.at..self.at + 100]);
            self.fill()?;
            seen = self.at + unread;
        }
    }

    pub fn line(&mut self) -> String {
        self.try_line().expect("a line")
    }

    pub fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.held.len() - self.at < count {
            self.fill()?;
        }
        let bytes = self.held[self.at..self.at + count].to_vec();
        self.at += count;
        Ok(bytes)
    }

    /// Sends a command and reads one line.
    pub fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n"));
        self.line()
    }

    pub fn try_set(&mut self, key: &str, value: &[u8]) -> io::Result<String> {
        self.try_send(set_command(key, value))?;
        self.try_line()
    }

    pub fn set(&mut self, key: &str, value: &[u8]) {
        assert_eq!(self.try_set(key, value).expect("an answer"), "STORED", "{key}");
    }

    pub fn try_get(&mut self, key: &str) -> io::Result<Got> {
        self.try_send(format!("get {key}\r\n"))?;
        self.try_got(key)
    }

    pub fn get(&mut self, key: &str) -> Got {
        self.try_get(key).expect("an answer")
    }

    /// Reads the answer to a get of this key. Any other key's value is a failed test at once.
    pub fn try_got(&mut self, key: &str) -> io::Result<Got> {
        let many = self.try_many()?;
        Ok(match (many.error, many.values.as_slice()) {
            (Some(error), []) => Got::Error(error),
            (None, []) => Got::Miss,
            (None, [(held, value)]) if held == key => Got::Value(value.clone()),
            (error, values) => {
                let keys: Vec<_> = values.iter().map(|(key, value)| (key, value.len())).collect();
                panic!("asked for {key:?}, got {keys:?} and {error:?}");
            }
        })
    }

    /// Reads values up to END or an error line.
    pub fn try_many(&mut self) -> io::Result<Many> {
        let mut many = Many::default();
        loop {
            let line = self.try_line()?;
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["END"] => return Ok(many),
                ["VALUE", key, flags, length] => {
                    assert_eq!(flags.parse(), Ok(flags_of(key)), "flags of {key}");
                    let length: usize = length.parse().expect("a length");
                    let mut value = self.bytes(length + 2)?;
                    assert!(value.ends_with(b"\r\n"), "{key}: the value ends where it says");
                    value.truncate(length);
                    many.values.push(((*key).to_owned(), value));
                }
                ["SERVER_ERROR" | "CLIENT_ERROR" | "ERROR", ..] => {
                    many.error = Some(line);
                    return Ok(many);
                }
                _ => panic!("out of step: {line:?}"),
            }
        }
    }

    /// Bytes that ever came.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// What was read and not used, as text.
    pub fn held(&self) -> String {
        String::from_utf8_lossy(&self.held[self.at..]).into_owned()
    }

    /// Whether what was read so far is all there is for now: nothing arrives within `time`.
    pub fn is_quiet(&mut self, time: Duration) -> bool {
        if self.at < self.held.len() {
            return false;
        }
        self.stream.patience(time).expect("an option");
        let outcome = self.fill();
        self.stream.patience(PATIENCE).expect("an option");
        outcome
            .is_err_and(|error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }

    /// Reads to the end of the stream; a reset is an end too.
    pub fn rest(&mut self) -> Vec<u8> {
        loop {
            match self.fill() {
                Ok(()) => assert!(self.held.len() < 64 << 20, "an endless answer"),
                Err(error) => {
                    let ended = matches!(
                        error.kind(),
                        io::ErrorKind::UnexpectedEof
                            | io::ErrorKind::ConnectionReset
                            | io::ErrorKind::BrokenPipe
                    );
                    assert!(ended, "neither an answer nor an end: {error}");
                    return self.held.split_off(std::mem::take(&mut self.at));
                }
            }
        }
    }
}
