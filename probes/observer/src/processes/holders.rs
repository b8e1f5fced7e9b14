//! Which process holds a socket: a bounded walk over `/proc/*/fd`, for sockets that no kernel program told of.
//!
//! The kernel has no index from a socket's inode to its holder, so links have to be read, at 4 to 5 us each. Processes that
//! held wanted sockets before go first, and the walk ends when all are found. Of several holders (after a fork) the first
//! that is found counts.

use super::read::Directory;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Links read in one walk: half a second at worst.
pub const LINKS_MAX: usize = 100_000;
/// Processes remembered for the order of the next walk.
const REMEMBERED_MAX: usize = 64;

/// Finds holders. What it remembers is only an order.
#[derive(Debug, Default)]
pub struct Holders {
    /// Pids that held wanted sockets, the last ones first.
    remembered: Vec<u32>,
}

impl Holders {
    /// The pid that holds each of these socket inodes, of those that could be found.
    pub fn find(&mut self, root: &Path, inodes: impl IntoIterator<Item = u64>) -> HashMap<u64, u32> {
        let mut missing: HashSet<u64> = inodes.into_iter().collect();
        let mut found = HashMap::new();
        let mut budget = LINKS_MAX;
        let mut hits = Vec::new();
        let entries = std::fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
        let all = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let first = std::mem::take(&mut self.remembered);
        for pid in first.iter().copied().chain(all.filter(|pid| !first.contains(pid))) {
            if missing.is_empty() || budget == 0 {
                break;
            }
            let held = Directory::open(root, pid).and_then(|process| process.sockets(&missing, &mut budget));
            let held = held.unwrap_or_default();
            if !held.is_empty() {
                hits.push(pid);
            }
            missing.retain(|inode| !held.contains(inode));
            found.extend(held.into_iter().map(|inode| (inode, pid)));
        }
        hits.extend(first.into_iter().filter(|pid| !hits.contains(pid)).collect::<Vec<_>>());
        hits.truncate(REMEMBERED_MAX);
        self.remembered = hits;
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    fn inode(socket: impl AsFd) -> u64 {
        rustix::fs::fstat(socket).expect("open").st_ino
    }

    #[test]
    fn own_sockets_are_found_and_strangers_are_not() {
        let one = TcpListener::bind("127.0.0.1:0").expect("a port");
        let two = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (one, two, own) = (inode(&one), inode(&two), std::process::id());
        let mut holders = Holders::default();
        let found = holders.find(Path::new("/proc"), [one, two, u64::MAX]);
        assert_eq!(found.get(&u64::MAX), None);
        // Another test's child has copies of all sockets of this process from its fork to its exec.
        if found.values().all(|pid| *pid == own) {
            assert_eq!(holders.remembered, [own]);
        }
        assert_eq!(found.len(), 2);
        assert!(holders.find(Path::new("/proc"), []).is_empty());
        assert!(holders.find(Path::new("/nonexistent"), [one]).is_empty() || !holders.remembered.is_empty());
    }
}
