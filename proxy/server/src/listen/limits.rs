//! What the system allows: descriptors and the length of the backlog.

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

/// A sentence for the log if the kernel cuts this backlog (`listen` does so without a word).
#[must_use]
pub fn somaxconn_warning(backlog: u32) -> Option<String> {
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?.trim().parse().ok()?;
    warning(backlog, somaxconn)
}

fn warning(backlog: u32, somaxconn: u32) -> Option<String> {
    (backlog > somaxconn).then(|| {
        format!(
            "backlog {backlog} is cut to {somaxconn} by the system: clients beyond that wait for their handshake to be \
             repeated (1 s and more); raise it with `sysctl net.core.somaxconn={backlog}`"
        )
    })
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

    #[test]
    fn a_cut_backlog_is_said_aloud() {
        assert_eq!(warning(4096, 4096), None);
        assert!(warning(4097, 4096).is_some_and(|text| text.contains("4097") && text.contains("4096")));
        assert!(somaxconn_warning(u32::MAX).is_some());
        assert_eq!(somaxconn_warning(1), None);
    }
}
