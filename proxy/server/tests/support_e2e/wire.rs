//! memcached's text protocol by hand, over TCP or a Unix socket. Bounds: [`LIMIT`] for bytes to come.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The longest wait for bytes.
const LIMIT: Duration = Duration::from_secs(20);

/// A client's connection.
pub struct Wire {
    reader: BufReader<Stream>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(into),
            Stream::Unix(stream) => stream.read(into),
        }
    }
}

/// The answer to a `get`.
#[derive(Debug, PartialEq, Eq)]
pub struct Values {
    /// Keys and values, as they came.
    pub found: Vec<(String, Vec<u8>)>,
    /// The line that ended it: `END`, or an error.
    pub end: String,
}

impl Wire {
    /// Connects to a loopback port.
    pub fn tcp(port: u16) -> Wire {
        Wire::try_tcp(port).expect("connected")
    }

    /// The same, `None` while nobody listens.
    pub fn try_tcp(port: u16) -> Option<Wire> {
        Some(Wire::of(TcpStream::connect(("127.0.0.1", port)).ok()?))
    }

    /// A connection that was made before.
    pub fn of(stream: TcpStream) -> Wire {
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.set_nodelay(true).expect("no delay");
        Wire { reader: BufReader::new(Stream::Tcp(stream)) }
    }

    /// Connects to a Unix socket.
    pub fn unix(path: &Path) -> Wire {
        let stream = UnixStream::connect(path).expect("connected");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        Wire { reader: BufReader::new(Stream::Unix(stream)) }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = match self.reader.get_mut() {
            Stream::Tcp(stream) => stream.write_all(bytes.as_ref()),
            Stream::Unix(stream) => stream.write_all(bytes.as_ref()),
        };
        sent.expect("sent");
    }

    /// Closes the writing side only.
    pub fn half_close(&mut self) {
        let closed = match self.reader.get_mut() {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
        closed.expect("half closed");
    }

    /// A line without its end.
    #[track_caller]
    pub fn line(&mut self) -> String {
        self.try_line().expect("a line")
    }

    /// The same, with what the system says when there is none.
    pub fn try_line(&mut self) -> std::io::Result<String> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
            None => Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Reads on to the end of the connection: how many bytes came, and the error it ended with, if any.
    pub fn rest(&mut self) -> (usize, std::io::Result<()>) {
        let mut rest = Vec::new();
        let ended = self.reader.read_to_end(&mut rest);
        (rest.len(), ended.map(|_| ()))
    }

    /// One command, one line of answer.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n"));
        self.line()
    }

    /// Stores a value.
    #[track_caller]
    pub fn set(&mut self, key: &str, value: &[u8]) {
        self.send([format!("set {key} 0 0 {}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat());
        assert_eq!(self.line(), "STORED", "{key}");
    }

    /// Stores `value` under each key, a hundred at a time.
    #[track_caller]
    pub fn fill(&mut self, keys: &[String], value: &[u8]) {
        for some in keys.chunks(100) {
            let mut out = Vec::new();
            for key in some {
                out.extend_from_slice(format!("set {key} 0 0 {}\r\n", value.len()).as_bytes());
                out.extend_from_slice(value);
                out.extend_from_slice(b"\r\n");
            }
            self.send(out);
            some.iter().for_each(|key| assert_eq!(self.line(), "STORED", "{key}"));
        }
    }

    /// Reads keys in one request.
    #[track_caller]
    pub fn get(&mut self, keys: &[String]) -> Values {
        self.send(format!("get {}\r\n", keys.join(" ")));
        self.values()
    }

    /// The answer to a `get` that was sent.
    #[track_caller]
    pub fn values(&mut self) -> Values {
        self.try_values().expect("an answer")
    }

    /// The same, with what the system says when it breaks off.
    pub fn try_values(&mut self) -> std::io::Result<Values> {
        let mut found = Vec::new();
        loop {
            let line = self.try_line()?;
            let Some(head) = line.strip_prefix("VALUE ") else { return Ok(Values { found, end: line }) };
            let mut words = head.split(' ');
            let (key, length) = (words.next(), words.nth(1).and_then(|length| length.parse::<usize>().ok()));
            let (Some(key), Some(length)) = (key, length) else { return Ok(Values { found, end: line }) };
            let mut value = vec![0; length + 2];
            self.reader.read_exact(&mut value)?;
            assert!(value.ends_with(b"\r\n"), "{key}: the value has another length");
            value.truncate(length);
            found.push((key.to_owned(), value));
        }
    }
}

/// `count` keys that begin with a word.
pub fn keys(word: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{word}:{number}")).collect()
}
