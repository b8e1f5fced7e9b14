//! A client that compares answers byte for byte.

use super::peer::{Peer, is_a_peer};
use super::place::Place;
use std::io::ErrorKind;
use std::path::Path;

/// A client that speaks plain bytes.
pub struct Client(Peer);

is_a_peer!(Client);

impl Client {
    /// At a loopback port.
    #[track_caller]
    pub fn connect(port: u16) -> Client {
        Client(Peer::connect(&Place::local(port)))
    }

    /// At a Unix socket.
    #[track_caller]
    pub fn connect_unix(path: &Path) -> Client {
        Client(Peer::connect(&Place::Unix(path.to_owned())))
    }

    /// Sends and compares the answer, byte for byte.
    #[track_caller]
    pub fn ask(&mut self, request: &str, answer: &str) {
        self.send(request);
        self.expect(answer);
    }

    /// Compares what comes.
    #[track_caller]
    pub fn expect(&mut self, answer: &str) {
        let got = self.take(answer.len());
        assert_eq!(String::from_utf8_lossy(&got), answer);
    }

    /// Exactly so many bytes, or what came before the end.
    #[track_caller]
    pub fn take(&mut self, length: usize) -> Vec<u8> {
        while self.unread() < length && !self.at_end() {}
        let length = length.min(self.unread());
        self.take_held(length)
    }

    /// Lines up to and with one that satisfies `last`.
    #[track_caller]
    pub fn lines_until(&mut self, last: impl Fn(&str) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            let done = last(&line);
            lines.push(line);
            if done {
                return lines;
            }
        }
    }

    /// Whether the connection ends (or was reset) without another byte.
    #[track_caller]
    pub fn is_over(&mut self) -> bool {
        self.unread() == 0 && self.at_end()
    }

    /// Reads more; whether there is none. Silence is a failed test.
    #[track_caller]
    fn at_end(&mut self) -> bool {
        match self.more() {
            Ok(()) => false,
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                true
            }
            Err(error) => panic!("reading: {error}; held: {:?}", self.held()),
        }
    }
}
