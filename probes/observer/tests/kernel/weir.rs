//! A real weir in front of a server that finds nothing.

use crate::namespace::own_address;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// weir, built beside this test.
pub fn program() -> Option<PathBuf> {
    let folder = std::env::current_exe().ok()?.parent()?.parent()?.to_owned();
    Some(folder.join("weir")).filter(|path| path.is_file())
}

/// A running weir, ended by its id when this is dropped.
pub struct Weir {
    child: Child,
    /// Where clients connect.
    pub door: SocketAddr,
    /// Where it serves its metrics.
    pub metrics: SocketAddr,
}

impl Weir {
    /// Starts one, and waits until it is ready.
    pub fn start(program: &Path, server: SocketAddr) -> Weir {
        let free = || TcpListener::bind((own_address(), 0)).and_then(|free| free.local_addr()).unwrap();
        let (door, metrics) = (free(), free());
        let mut command = Command::new(program);
        command.args(["run", "--memcached", &format!("{door}={server}"), "--metrics", &metrics.to_string()]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let weir = Weir { child, door, metrics };
        let mut line = String::new();
        while !line.trim_end().ends_with("ready") {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "weir ended early");
        }
        weir
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that answers every get with nothing found, and one for the key `bye` by closing after that. It ends with the
/// test's process.
pub fn server() -> SocketAddr {
    let listener = TcpListener::bind((own_address(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut answers = stream.try_clone().expect("a second handle");
                for line in BufReader::new(stream).lines() {
                    let Ok(line) = line else { return };
                    let answer: &[u8] = if line.starts_with("get") { b"END\r\n" } else { b"VERSION 1\r\n" };
                    if answers.write_all(answer).is_err() || line.starts_with("get bye") {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Asks so many times on one connection.
pub fn ask(to: SocketAddr, request: &str, times: usize) {
    let mut stream = TcpStream::connect(to).unwrap();
    for _ in 0..times {
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"END\r\n");
    }
}
