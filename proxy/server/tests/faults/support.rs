//! What all fault tests need: their turn on the machine, free ports, open files, and a way to wait.

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use std::io::Write as _;
use std::net::TcpListener;
use std::process::Child;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

static MACHINE: RwLock<()> = RwLock::new(());

/// For tests that mostly wait.
pub fn shared() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// For tests that measure, or that open very many sockets: nothing runs beside them.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// Says that a test did not run, past the harness, which keeps what a passing test prints to itself.
pub fn skip(what: &str, why: &str) {
    // nobody to tell is no reason to fail
    let _ = writeln!(std::io::stdout(), "SKIPPED: {what}: {why}");
}

/// A port nobody listens at, on 127.0.0.1. Below those the system gives to clients, so that it stays free for a server
/// that is started again.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run side by side begin apart from each other.
    let begin = (std::process::id() % 97) as u16 * 101;
    let mut ports =
        (0..9_900).map(|_| 20_000 + begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 9_900);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

/// Raises the soft limit of open files. `None`, and says so, where `count` of them are not to be had.
pub fn open_files(count: u64, what: &str) -> Option<()> {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    if hard < count {
        skip(what, &format!("the hard limit of open files is {hard}, {count} are needed"));
        return None;
    }
    if limit.current.is_some_and(|soft| soft < count) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(count), ..limit }).expect("below the hard limit");
    }
    Some(())
}

/// Waits until `check` holds; the time it took.
pub fn eventually(within: Duration, what: &str, mut check: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    start.elapsed()
}

/// Sends a signal to a child that was not reaped.
pub fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("the process is ours and not reaped");
}
