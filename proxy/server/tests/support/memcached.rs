//! The real memcached as a child: on a port or a socket of its own, killed, stopped, started again.

use super::client::Client;
use super::peer::Peer;
use super::place::Place;
use super::process::Process;
use super::wire::Wire;
use super::{eventually, free_port, skip, which};
use std::process::{Command, Stdio};

/// Connections it takes at the most, where this process may have so many files.
const CONNECTIONS: u64 = 18_000;

/// The real memcached.
pub struct Memcached {
    /// Where it listens; 0 on a Unix socket.
    pub port: u16,
    place: Place,
    arguments: Vec<String>,
    process: Option<Process>,
    _directory: tempfile::TempDir,
}

impl Memcached {
    /// On a port; `None`, said aloud, where it is not installed.
    pub fn start() -> Option<Memcached> {
        Memcached::start_with(&[])
    }

    /// The same with more arguments.
    pub fn start_with(more: &[&str]) -> Option<Memcached> {
        Memcached::start_at(true, "memcached", more)
    }

    /// On a port or on a socket; `what` is said where it is not installed.
    pub fn start_at(tcp: bool, what: &str, more: &[&str]) -> Option<Memcached> {
        let Some(program) = which("memcached") else {
            skip(what, "memcached not found");
            return None;
        };
        let directory = tempfile::tempdir().expect("a directory");
        let port = if tcp { free_port() } else { 0 };
        let place = match tcp {
            true => Place::local(port),
            false => Place::Unix(directory.path().join("memcached.sock")),
        };
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        let connections = CONNECTIONS.min(files.unwrap_or(u64::MAX).saturating_sub(100));
        let mut arguments = vec![program.to_string_lossy().into_owned()];
        let fixed = ["-U", "0", "-t", "2", "-m", "256", "-c", &connections.to_string()];
        arguments.extend(fixed.map(str::to_owned));
        if rustix::process::geteuid().is_root() {
            // It refuses to run as root unless told to, and another user could not use a private directory.
            arguments.extend(["-u", "root"].map(str::to_owned));
        }
        match &place {
            Place::Tcp(address) => {
                let (host, port) = (address.ip().to_string(), port.to_string());
                arguments.extend(["-l", &host, "-p", &port].map(str::to_owned));
            }
            Place::Unix(path) => arguments.extend(["-s".to_owned(), path.display().to_string()]),
        }
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        let mut server = Memcached { port, place, arguments, process: None, _directory: directory };
        server.restart();
        Some(server)
    }

    /// Starts it again at the same place, empty.
    pub fn restart(&mut self) {
        self.stop();
        let mut command = Command::new(&self.arguments[0]);
        command.args(&self.arguments[1..]).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(Process::start("memcached", &mut command));
        eventually("memcached answers", || {
            // whatever it says to this, where it wants credentials too
            let answer = Peer::try_connect(&self.place).and_then(|mut peer| {
                peer.try_send("version\r\n")?;
                peer.try_line()
            });
            answer.is_ok()
        });
    }

    /// Kills it.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Stops it from running, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        let process = self.process.as_ref().expect("it runs");
        process.signal(if frozen { libc::SIGSTOP } else { libc::SIGCONT });
        // A thread stops when it is next scheduled: until then it may still answer.
        let tasks = format!("/proc/{}/task", process.pid());
        eventually("every thread has heard", || {
            std::fs::read_dir(&tasks).expect("threads").flatten().all(|task| {
                let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')) == frozen
            })
        });
    }

    /// Where it listens.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The same as weir takes it.
    pub fn address(&self) -> String {
        self.place.to_string()
    }

    /// A connection past weir, to compare bytes.
    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// A connection past weir, to take answers apart.
    pub fn wire(&self) -> Wire {
        Wire::tcp(self.port)
    }

    /// A number of `stats`, after an opening command that is answered by one line (signing in), if any is needed.
    pub fn stat(&self, name: &str, opening: Option<&str>) -> u64 {
        let mut peer = Peer::connect(&self.place);
        if let Some(opening) = opening {
            assert_eq!(peer.ask(opening), "STORED");
        }
        peer.send("stats\r\n");
        let mut found = None;
        loop {
            let line = peer.line();
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["END"] => return found.unwrap_or_else(|| panic!("no {name} in stats")),
                ["STAT", held, value] if *held == name => found = value.parse().ok(),
                _ => {}
            }
        }
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        self.stop();
    }
}
