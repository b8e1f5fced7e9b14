//! A backend that does what a test says: one thread per connection, which runs the script with the number of the
//! connection (from 0).

use crate::values::{value_block, value_of};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a waiting script looks whether the test is over.
const TICK: Duration = Duration::from_millis(20);
/// Length of the values an honest backend makes up.
pub const HONEST_LENGTH: usize = 100;

struct Shared {
    over: AtomicBool,
    connections: AtomicUsize,
    /// Command lines of all connections.
    heard: Mutex<Vec<String>>,
}

/// A scripted backend; ends with the value.
pub struct Scripted {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Scripted {
    pub fn start(script: impl Fn(usize, &mut Talk) -> io::Result<()> + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            over: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            heard: Mutex::default(),
        });
        let (of_acceptor, script) = (shared.clone(), Arc::new(script));
        let acceptor = std::thread::spawn(move || {
            let mut talks = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                if of_acceptor.over.load(Ordering::Acquire) {
                    break;
                }
                let number = of_acceptor.connections.fetch_add(1, Ordering::AcqRel);
                let (shared, script) = (of_acceptor.clone(), script.clone());
                talks.push(std::thread::spawn(move || {
                    stream.set_read_timeout(Some(TICK)).expect("an option");
                    stream.set_nodelay(true).expect("an option");
                    let mut talk = Talk { stream, shared, held: Vec::new() };
                    // A script ends by closing: with its own end, or with that of the connection.
                    let _ = script(number, &mut talk);
                }));
            }
            for talk in talks {
                // What a script asserts fails the test.
                talk.join().expect("the script holds");
            }
        });
        Scripted { address, shared, acceptor: Some(acceptor) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// Command lines so far that start so.
    pub fn heard(&self, start: &str) -> usize {
        let heard = self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().filter(|line| line.starts_with(start)).count()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        let ended = self.acceptor.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the script failed");
        }
    }
}

/// One connection of a scripted backend.
pub struct Talk {
    stream: TcpStream,
    shared: Arc<Shared>,
    held: Vec<u8>,
}

impl Talk {
    /// Reads more; an error at the end of the connection or of the test.
    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 << 10];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    self.held.extend_from_slice(&piece[..n]);
                    return Ok(());
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if self.shared.over.load(Ordering::Acquire) {
                        return Err(io::ErrorKind::Interrupted.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next command line, without its end. The data of a store is skipped.
    pub fn line(&mut self) -> io::Result<String> {
        let end = loop {
            match self.held.iter().position(|byte| *byte == b'\n') {
                Some(end) => break end,
                None => self.fill()?,
            }
        };
        let line = String::from_utf8_lossy(&self.held[..end]).trim_end().to_owned();
        self.held.drain(..=end);
        if let ["set", _, _, _, length, ..] = line.split(' ').collect::<Vec<_>>().as_slice() {
            let whole = length.parse::<usize>().expect("weir sends valid lines") + 2;
            while self.held.len() < whole {
                self.fill()?;
            }
            self.held.drain(..whole);
        }
        self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone());
        Ok(line)
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Reads and answers nothing until the other side or the test ends.
    pub fn swallow(&mut self) -> io::Result<()> {
        loop {
            self.fill()?;
            self.held.clear();
        }
    }

    /// Answers one command as memcached would: every key is there, with the value that follows from it.
    pub fn answer(&mut self, line: &str) -> io::Result<()> {
        let mut words = line.split(' ');
        let mut reply = Vec::new();
        match words.next() {
            Some("get" | "gets") => {
                for key in words {
                    reply.extend_from_slice(&value_block(key, &value_of(key, HONEST_LENGTH)));
                }
                reply.extend_from_slice(b"END\r\n");
            }
            Some("set") => reply.extend_from_slice(b"STORED\r\n"),
            _ => reply.extend_from_slice(b"ERROR\r\n"),
        }
        self.send(reply)
    }

    /// From here on as memcached would.
    pub fn be_honest(&mut self) -> io::Result<()> {
        loop {
            let line = self.line()?;
            self.answer(&line)?;
        }
    }
}
