//! What all fault tests need besides `tests/support`: their turn on the machine, open files, and a way to wait.

pub use crate::e2e::{free_port, skip};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
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
#[track_caller]
pub fn eventually(within: Duration, what: &str, mut check: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    crate::e2e::wait_for(what, within, || check().then_some(()));
    start.elapsed()
}
