//! memcached's text protocol by hand: a command and its answer, taken apart.

use super::peer::{Peer, is_a_peer};
use super::place::{Place, Stream};
use std::net::TcpStream;
use std::path::Path;

/// A client's connection.
pub struct Wire(Peer);

is_a_peer!(Wire);

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
    #[track_caller]
    pub fn tcp(port: u16) -> Wire {
        Wire(Peer::connect(&Place::local(port)))
    }

    /// A connection that was made before.
    pub fn of(stream: TcpStream) -> Wire {
        let stream = Stream::Tcp(stream);
        stream.patience(super::PATIENCE).expect("a limit");
        Wire(Peer::new(stream))
    }

    /// Connects to a Unix socket.
    #[track_caller]
    pub fn unix(path: &Path) -> Wire {
        Wire(Peer::connect(&Place::Unix(path.to_owned())))
    }

    /// Stores a value.
    #[track_caller]
    pub fn set(&mut self, key: &str, value: &[u8]) {
        self.send(set(key, value));
        assert_eq!(self.line(), "STORED", "{key}");
    }

    /// Stores `value` under each key, a hundred at a time.
    #[track_caller]
    pub fn fill(&mut self, keys: &[String], value: &[u8]) {
        for some in keys.chunks(100) {
            self.send(some.iter().flat_map(|key| set(key, value)).collect::<Vec<u8>>());
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
            let mut value = self.bytes(length + 2)?;
            assert!(value.ends_with(b"\r\n"), "{key}: the value has another length");
            value.truncate(length);
            found.push((key.to_owned(), value));
        }
    }
}

fn set(key: &str, value: &[u8]) -> Vec<u8> {
    [format!("set {key} 0 0 {}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

/// `count` keys that begin with a word.
pub fn keys(word: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{word}:{number}")).collect()
}
