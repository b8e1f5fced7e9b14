//! The real memcached as a child: started on a free port or a socket of its own, killed, stopped, started again.

use crate::client::{Client, PATIENCE, Place};
use crate::support::{eventually, free_port, signal, skip};
use rustix::process::Signal;
use std::process::{Child, Command, Stdio};

/// The real memcached.
pub struct Memcached {
    child: Child,
    arguments: Vec<String>,
    place: Place,
    _directory: tempfile::TempDir,
}

impl Memcached {
    /// `None`, and says so, where memcached is not installed.
    pub fn start(tcp: bool, what: &str, more: &[&str]) -> Option<Memcached> {
        let directory = tempfile::tempdir().expect("a directory");
        let place = match tcp {
            true => Place::Tcp(([127, 0, 0, 1], free_port()).into()),
            false => Place::Unix(directory.path().join("memcached.sock")),
        };
        let mut arguments: Vec<String> =
            ["-U", "0", "-t", "1", "-m", "256", "-c", "1024"].map(str::to_owned).into();
        // memcached refuses to run as root unless told to.
        arguments.extend(["-u".to_owned(), "root".to_owned()]);
        match &place {
            Place::Tcp(address) => {
                arguments.extend(["-l".to_owned(), address.ip().to_string()]);
                arguments.extend(["-p".to_owned(), address.port().to_string()]);
            }
            Place::Unix(path) => arguments.extend(["-s".to_owned(), path.display().to_string()]),
        }
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        let child = match launch(&arguments) {
            Ok(child) => child,
            Err(error) => {
                skip(what, &format!("memcached cannot be started: {error}"));
                return None;
            }
        };
        let memcached = Memcached { child, arguments, place, _directory: directory };
        memcached.wait_until_up();
        Some(memcached)
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    fn wait_until_up(&self) {
        eventually(PATIENCE, "memcached answers", || {
            Client::try_connect(&self.place)
                .is_ok_and(|mut client| client.ask("version").starts_with("VERSION"))
        });
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.place)
    }

    /// A number of `stats`.
    pub fn stat(&self, name: &str) -> u64 {
        let mut client = self.client();
        client.send("stats\r\n");
        let mut found = None;
        loop {
            let line = client.line();
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["END"] => return found.unwrap_or_else(|| panic!("no {name} in stats")),
                ["STAT", held, value] if *held == name => found = value.parse().ok(),
                _ => {}
            }
        }
    }

    pub fn kill(&mut self) {
        signal(&self.child, Signal::KILL);
        self.child.wait().expect("it ends");
    }

    /// As it was, empty. It must have been killed.
    pub fn restart(&mut self) {
        self.child = launch(&self.arguments).expect("as before");
        self.wait_until_up();
    }

    pub fn stop(&self) {
        signal(&self.child, Signal::STOP);
        // a thread stops when it is next scheduled: until then it may still answer
        let tasks = format!("/proc/{}/task", self.child.id());
        let stopped = |task: &std::path::Path| {
            let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
        };
        eventually(PATIENCE, "every thread has stopped", || {
            std::fs::read_dir(&tasks).expect("threads").flatten().all(|task| stopped(&task.path()))
        });
    }

    pub fn go_on(&self) {
        signal(&self.child, Signal::CONT);
    }
}

fn launch(arguments: &[String]) -> std::io::Result<Child> {
    Command::new("memcached")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

impl Drop for Memcached {
    fn drop(&mut self) {
        // a stopped process dies of SIGKILL too
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
