//! One connection that is read by lines and by lengths: what every client of these tests is made of.
//!
//! Bounds: a line of [`LINE_MAX`], [`REST_MAX`] up to the end of a connection, [`super::PATIENCE`] for bytes to come.

use super::place::{Place, Stream};
use std::io::{self, Read as _, Write as _};

/// No answer has a longer line.
const LINE_MAX: usize = 1 << 20;
/// More than this before the end is an endless answer.
const REST_MAX: usize = 64 << 20;

/// Makes a wrapper of a [`Peer`] have everything a peer has.
macro_rules! is_a_peer {
    ($wrapper:ident) => {
        impl std::ops::Deref for $wrapper {
            type Target = Peer;
            fn deref(&self) -> &Peer {
                &self.0
            }
        }

        impl std::ops::DerefMut for $wrapper {
            fn deref_mut(&mut self) -> &mut Peer {
                &mut self.0
            }
        }
    };
}
pub(crate) use is_a_peer;

/// A connection, and what was read of it and not used.
#[derive(Debug)]
pub struct Peer {
    pub stream: Stream,
    held: Vec<u8>,
    at: usize,
    received: u64,
}

impl Peer {
    /// On a connection that was made before.
    pub fn new(stream: Stream) -> Peer {
        Peer { stream, held: Vec::new(), at: 0, received: 0 }
    }

    /// `Err` while nobody listens.
    pub fn try_connect(place: &Place) -> io::Result<Peer> {
        Stream::connect(place).map(Peer::new)
    }

    /// Connects.
    #[track_caller]
    pub fn connect(place: &Place) -> Peer {
        Peer::try_connect(place).unwrap_or_else(|error| panic!("connecting to {place}: {error}"))
    }

    /// The port of this side; 0 on a Unix socket.
    pub fn local_port(&self) -> u16 {
        match &self.stream {
            Stream::Tcp(stream) => stream.local_addr().expect("an address").port(),
            Stream::Unix(_) => 0,
        }
    }

    /// Closes the writing side only.
    pub fn half_close(&self) {
        self.stream.half_close();
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("sent");
    }

    /// The same, with what the system says.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        (&self.stream).write_all(bytes.as_ref())
    }

    /// Reads some more. The end of the connection is an error.
    pub fn more(&mut self) -> io::Result<()> {
        if self.at == self.held.len() {
            self.held.clear();
            self.at = 0;
        }
        let mut piece = [0; 64 << 10];
        let length = loop {
            match (&self.stream).read(&mut piece) {
                // a machine that was paused
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => break done?,
            }
        };
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.received += length as u64;
        self.held.extend_from_slice(&piece[..length]);
        Ok(())
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
            let unread = self.unread();
            assert!(unread < LINE_MAX, "no line within a MiB: {:?}", &self.held[self.at..self.at + 100]);
            self.more()?;
            seen = self.at + unread;
        }
    }

    /// The same; no line is a failed test.
    #[track_caller]
    pub fn line(&mut self) -> String {
        self.try_line()
            .unwrap_or_else(|error| panic!("no line but {error}; before it came {:?}", self.held()))
    }

    /// Sends a command and reads one line.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n"));
        self.line()
    }

    /// Exactly so many bytes.
    pub fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.unread() < count {
            self.more()?;
        }
        Ok(self.take_held(count))
    }

    /// Reads on to the end of the connection: what came, and the error it ended with, if any.
    pub fn read_to_end(&mut self) -> (Vec<u8>, io::Result<()>) {
        let mut all = Vec::new();
        loop {
            all.append(&mut self.take_held(self.unread()));
            assert!(all.len() < REST_MAX, "an endless answer");
            match self.more() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return (all, Ok(())),
                Err(error) => return (all, Err(error)),
            }
        }
    }

    /// Bytes that were read and not used.
    pub fn unread(&self) -> usize {
        self.held.len() - self.at
    }

    /// Takes bytes that were read.
    pub fn take_held(&mut self, count: usize) -> Vec<u8> {
        let bytes = self.held[self.at..self.at + count].to_vec();
        self.at += count;
        bytes
    }

    /// What was read and not used, as text.
    pub fn held(&self) -> String {
        String::from_utf8_lossy(&self.held[self.at..]).into_owned()
    }

    /// Bytes that ever came.
    pub fn received(&self) -> u64 {
        self.received
    }
}
