//! What the end-to-end tests share: real servers as children, weir itself, and ways to ask them.
//!
//! Every child is ended by its own id when its owner is dropped, also when a test fails. Everything listens on loopback
//! ports that were free a moment ago, and is waited for before it is used. What a machine lacks is skipped aloud: a line
//! `SKIPPED: what: why`, which `cargo xtask test` collects.
#![allow(
    dead_code,
    unused_imports,
    reason = "each test program is compiled with all of this and uses a part of it"
)]

pub mod client;
pub mod gomemcache;
pub mod http;
pub mod memcached;
pub mod namespace;
pub mod peer;
pub mod place;
pub mod process;
pub mod series;
pub mod weir;
pub mod wire;

pub use client::Client;
pub use memcached::Memcached;
pub use process::Process;
pub use weir::{WEIR, Weir, file};

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Where ports for servers are looked for: below every range from which clients draw theirs.
const PORTS: std::ops::Range<u16> = 10_000..19_900;
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// Says that something was not tested, past the harness, which keeps what a passing test prints to itself.
pub fn skip(what: &str, why: &str) {
    // nobody to tell is no reason to fail
    let _ = writeln!(std::io::stdout(), "SKIPPED: {what}: {why}");
}

/// The first program of that name on the search path, system folders included.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// A port on which nobody listens, and which no client is given, so that it stays free for a server that is started
/// again.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    // Test programs that run side by side begin apart from each other.
    let begin = (std::process::id() % 199) as u16 * 49;
    for _ in 0..count {
        let port = PORTS.start + begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free from {} to {}", PORTS.start, PORTS.end);
}

/// Tries until it holds; fails after [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, PATIENCE, || holds().then_some(()));
}

/// Asks until there is an answer; fails after `limit`.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(LOOK);
    }
}

/// The name that others see of this process.
pub fn own_name() -> String {
    let name = std::fs::read_to_string("/proc/self/comm").expect("its own name");
    name.trim_end().to_owned()
}

/// The root of the tree.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Cargo's target folder: weir lies in `debug` or `release` below it.
pub fn target() -> PathBuf {
    let folder = Path::new(WEIR).parent().and_then(Path::parent);
    folder.expect("cargo's layout").to_owned()
}
