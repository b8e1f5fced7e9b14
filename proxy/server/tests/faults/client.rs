//! A client that checks what it reads: every value must be its key's.

pub use crate::e2e::PATIENCE;
use crate::e2e::peer::{Peer, is_a_peer};
pub use crate::e2e::place::{Place, Stream};
use crate::values::{flags_of, set_command};
use std::io;
use std::time::Duration;

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
pub struct Client(Peer);

is_a_peer!(Client);

impl Client {
    pub fn new(stream: Stream) -> Client {
        Client(Peer::new(stream))
    }

    pub fn try_connect(place: &Place) -> io::Result<Client> {
        Peer::try_connect(place).map(Client)
    }

    #[track_caller]
    pub fn connect(place: &Place) -> Client {
        Client(Peer::connect(place))
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

    /// Whether what was read so far is all there is for now: nothing arrives within `time`.
    pub fn is_quiet(&mut self, time: Duration) -> bool {
        if self.unread() > 0 {
            return false;
        }
        self.stream.patience(time).expect("an option");
        let outcome = self.more();
        self.stream.patience(PATIENCE).expect("an option");
        outcome
            .is_err_and(|error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }

    /// Reads to the end of the stream; a reset is an end too.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        let (rest, ended) = self.read_to_end();
        if let Err(error) = ended {
            let cut = matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
            assert!(cut, "neither an answer nor an end: {error}");
        }
        rest
    }
}
