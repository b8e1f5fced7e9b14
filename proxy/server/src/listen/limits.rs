//! What the system allows: open files.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard limit, which needs no privilege. Returns the soft limit before and
/// after; they are equal when there was nothing to gain or the system refused.
///
/// The soft limit is 1,024 in most environments, for the sake of old programs that use `select`.
#[must_use]
pub fn raise_nofile() -> (u64, u64) {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current.unwrap_or(u64::MAX);
    limit.current = limit.maximum;
    // What the kernel says afterwards counts, so the outcome of the call adds nothing.
    let _ = setrlimit(Resource::Nofile, limit);
    (before, getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_limit() {
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        let (before, after) = raise_nofile();
        assert!(before <= after);
        assert_eq!(after, hard);
        assert_eq!(raise_nofile(), (after, after));
    }
}
