//! The process with a CQL store on a folder of its own.

#![allow(dead_code, reason = "each test file uses a part of it")]

#[path = "../../../../proxy/server/tests/support_cql/answer.rs"]
pub mod answer;
#[path = "../../../../proxy/server/tests/support_cql/raw.rs"]
pub mod raw;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_weir-devstore");

/// The longest wait for an answer.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// A folder that goes with its owner.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("weir-devstore-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running process; it is killed when this goes.
pub struct Devstore {
    pub child: Child,
    pub address: SocketAddr,
    pub banner: String,
}

impl Devstore {
    pub fn start(folder: &Path) -> Self {
        Self::start_at(folder, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub fn start_at(folder: &Path, address: SocketAddr) -> Self {
        Self::start_by(Command::new(PROGRAM), folder, address)
    }

    /// By a command whose further words are the program's.
    pub fn start_by(mut command: Command, folder: &Path, address: SocketAddr) -> Self {
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--cql", &address.to_string(), "--data"])
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let banner = lines.next().expect("a line").expect("a line");
        let ready = lines.next().expect("a second line").expect("a second line");
        assert!(ready.ends_with("ready"), "{ready}");
        let address = banner.rsplit(' ').next().and_then(|word| word.parse().ok()).expect("an address");
        Self { child, address, banner }
    }

    /// kill -9
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }
}

impl Drop for Devstore {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
