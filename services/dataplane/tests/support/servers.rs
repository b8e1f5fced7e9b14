//! The storages of a test: weir-devstore for both, or the real memcached and the Cassandra of this test run. All are children
//! of the test but Cassandra, which the tests of a run share.

use super::{PATIENCE, free_port, skip};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Which programs store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Store {
    /// weir-devstore, its half of memcached and its half of CQL in a process each: one can be lost without the other.
    Devstore,
    /// memcached and Cassandra.
    Real,
}

/// Where a test stores.
pub struct Servers {
    pub store: Store,
    /// `host:port` of the database.
    pub cql: String,
    /// The database, where it is this test's own.
    pub database: Option<Devstore>,
}

impl Servers {
    /// Needs nothing installed.
    pub fn devstore() -> Servers {
        let database = Devstore::start();
        Servers {
            store: Store::Devstore,
            cql: format!("127.0.0.1:{}", database.port),
            database: Some(database),
        }
    }

    /// `None`, said aloud, where this test run has no Cassandra.
    pub fn real(what: &str) -> Option<Servers> {
        let Ok(cql) = std::env::var("WEIR_TEST_CASSANDRA") else {
            let why = "WEIR_TEST_CASSANDRA is not set; `cargo xtask test` sets it, by hand: the address that \
                       `cargo xtask cassandra start` prints";
            skip(what, why);
            return None;
        };
        Some(Servers { store: Store::Real, cql, database: None })
    }

    /// A memcached of this test's own, empty.
    pub fn memcached(&self) -> Memcached {
        Memcached::start(self.store)
    }

    /// The database that this test may end.
    pub fn own_database(&mut self) -> &mut Devstore {
        self.database.as_mut().expect("a database of this test's own")
    }
}

/// weir-devstore as a database, on disk; ended with this.
pub struct Devstore {
    pub port: u16,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Devstore {
    pub fn start() -> Devstore {
        let folder = tempfile::tempdir().expect("a folder");
        let mut database = Devstore { port: free_port(), folder, child: None };
        database.run();
        database
    }

    /// Starts it (again, on what is on disk) at its port.
    pub fn run(&mut self) {
        let mut command = Command::new(devstore());
        command.args(["--listen", "127.0.0.1:0", "--cql", &format!("127.0.0.1:{}", self.port), "--data"]);
        command.arg(self.folder.path()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("weir-devstore runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        self.child = Some(child);
        assert!(lines.any(|line| line.expect("a line").trim_end().ends_with("ready")), "devstore is ready");
    }

    /// kill -9
    pub fn kill(&mut self) {
        end(&mut self.child);
    }
}

impl Drop for Devstore {
    fn drop(&mut self) {
        self.kill();
    }
}

/// memcached, or weir-devstore as one; ended with this.
pub struct Memcached {
    /// Where it listens.
    pub port: u16,
    store: Store,
    child: Option<Child>,
}

impl Memcached {
    pub fn start(store: Store) -> Memcached {
        let mut server = Memcached { port: free_port(), store, child: None };
        server.run();
        server
    }

    /// Starts it (again, and empty) at its port.
    pub fn run(&mut self) {
        let port = self.port.to_string();
        let mut command = match self.store {
            Store::Devstore => {
                let mut command = Command::new(devstore());
                command.args(["--listen", &format!("127.0.0.1:{port}"), "--memory-mib", "128"]);
                command
            }
            Store::Real => {
                let mut command = Command::new("memcached");
                command.args(["-l", "127.0.0.1", "-p", &port, "-U", "0", "-t", "2", "-m", "128"]);
                command.args(["-c", "4096", "-u", "root"]);
                command
            }
        };
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("memcached is installed"));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "memcached does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn kill(&mut self) {
        end(&mut self.child);
    }

    /// Sends it a signal: STOP and CONT make it hang, and go on.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill runs");
        assert!(sent.success(), "kill -{name}");
    }

    /// One command whose answer is one line.
    pub fn line(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        stream.write_all(format!("{command}\r\n").as_bytes()).expect("sent");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// A number of `stats`.
    pub fn stat(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        stream.write_all(b"stats\r\n").expect("sent");
        for line in BufReader::new(stream).lines() {
            let line = line.expect("a line");
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["STAT", found, value] if *found == name => return value.parse().expect("a number"),
                ["END"] => break,
                _ => {}
            }
        }
        panic!("no {name} in stats")
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        self.kill();
    }
}

fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
}

/// The folder of this test run's programs.
pub fn binaries() -> PathBuf {
    let beside = || Path::new(super::WEIR).parent().expect("a folder").to_owned();
    std::env::var_os("WEIR_TEST_BINARIES").map_or_else(beside, PathBuf::from)
}

/// The program weir-devstore. `cargo test` builds those of the package it tests only: where it is not there it is built.
fn devstore() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = binaries();
        let program = folder.join("weir-devstore");
        if !program.exists() {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut build = Command::new(cargo);
            build.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "-p", "weir-devstore"]);
            if folder.ends_with("release") {
                build.arg("--release");
            }
            build.arg("--target-dir").arg(folder.parent().expect("the target folder"));
            assert!(build.status().expect("cargo runs").success(), "weir-devstore is built");
        }
        program
    })
}
