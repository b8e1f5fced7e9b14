//! Finds the process that holds a socket: a bounded walk over `/proc/*/fd`.
//!
//! The kernel has no index from a socket's inode to its holder, so links have to be read, one system call each. The order
//! keeps that short: processes that held wanted sockets before, then processes of the sockets' users, then the rest; and
//! the walk stops as soon as nothing is wanted any more. A walk reads at most [`LINKS_MAX`] links; the next one then
//! starts where this one stopped, so that processes late in the table get their turn.
//!
//! A process is read through one descriptor of its `/proc` directory, which follows the process and not the number: when
//! it exits halfway, reads fail, and a successor with the same pid is never mistaken for it.

use super::{Unresolved, caller_name};
use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir, openat, readlinkat_raw, statat};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Links read in one walk. One costs 4 to 5 us when the kernel sees it for the first time, so this is half a second at
/// worst; the walk after a long one comes later (`REST_PER_WALK`).
pub(super) const LINKS_MAX: u64 = 100_000;
/// Processes remembered for the order of the next walk.
const KNOWN_MAX: usize = 64;
/// Longest path of an executable that is passed on.
const EXE_MAX: usize = 256;

/// A process that holds a client's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// As weir's own pid namespace numbers it.
    pub pid: u32,
    /// Its `comm` where the rule for names allows it, else `_invalid`.
    pub name: Arc<str>,
    /// Path of its executable as the kernel tells it, if it may be read: an outside string, to be escaped where it
    /// leaves. At most 256 bytes.
    pub exe: Option<Arc<str>>,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Walk {
    holders: HashMap<u32, Process>,
    /// Users that own processes whose file tables could not be read.
    denied: HashSet<u32>,
    cut: bool,
    /// Links read.
    pub(super) links: u64,
}

impl Walk {
    /// The holder of a socket, or the reason why none is known.
    pub(super) fn holder(&self, inode: u32, uid: u32) -> Result<Process, Unresolved> {
        match self.holders.get(&inode) {
            Some(process) => Ok(process.clone()),
            None if self.cut => Err(Unresolved::Budget),
            None if self.denied.contains(&uid) => Err(Unresolved::Denied),
            None => Err(Unresolved::NoHolder),
        }
    }
}

/// What is remembered from walk to walk. Only an order: every name is read afresh.
#[derive(Debug)]
pub(super) struct ProcessTable {
    root: PathBuf,
    /// Pids that held wanted sockets, best first.
    known: Vec<u32>,
    /// Where the last walk stopped at its bound.
    resume_at: u32,
    links_max: u64,
}

impl ProcessTable {
    pub(super) fn of_this_system() -> ProcessTable {
        ProcessTable::at(Path::new("/proc"), LINKS_MAX)
    }

    pub(super) fn at(root: &Path, links_max: u64) -> ProcessTable {
        ProcessTable { root: root.to_path_buf(), known: Vec::new(), resume_at: 0, links_max }
    }

    /// Looks for the holders of sockets (inode -> user id of the socket).
    pub(super) fn find(&mut self, wanted: &HashMap<u32, u32>) -> Walk {
        let mut search = Search {
            missing: wanted.keys().copied().collect(),
            walk: Walk::default(),
            hits: Vec::new(),
            links_max: self.links_max,
        };
        let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(proc) = openat(CWD, &self.root, directory, Mode::empty()) else {
            search.walk.cut = true;
            return search.walk;
        };

        // Half of the bound at most for them, so that a known process with a huge table cannot hide all others for ever.
        search.links_max = self.links_max / 2;
        for pid in &self.known {
            search.visit(proc.as_fd(), *pid);
        }
        search.links_max = self.links_max;
        let cut = std::mem::take(&mut search.walk.cut);
        self.search_all(&proc, wanted, &mut search);
        search.walk.cut |= cut;

        // The processes with most hits first, then those of earlier walks.
        search.hits.sort_by_key(|(_, hits)| std::cmp::Reverse(*hits));
        let mut order: Vec<u32> = search.hits.iter().map(|(pid, _)| *pid).collect();
        order.extend(self.known.iter().filter(|pid| search.hits.iter().all(|(hit, _)| hit != *pid)));
        order.truncate(KNOWN_MAX);
        self.known = order;
        search.walk
    }

    fn search_all(&mut self, proc: &OwnedFd, wanted: &HashMap<u32, u32>, search: &mut Search) {
        if search.done() {
            return;
        }
        let users: HashSet<u32> = wanted.values().copied().collect();
        let mut pids = pids(proc);
        pids.sort_unstable();
        let start = pids.partition_point(|pid| *pid < self.resume_at);
        pids.rotate_left(start);
        pids.retain(|pid| !self.known.contains(pid));

        let owner =
            |pid: &u32| statat(proc, pid.to_string(), rustix::fs::AtFlags::empty()).map(|stat| stat.st_uid);
        let (likely, others): (Vec<u32>, Vec<u32>) =
            pids.into_iter().partition(|pid| owner(pid).is_ok_and(|uid| users.contains(&uid)));
        for pid in likely.into_iter().chain(others) {
            if search.done() {
                return;
            }
            search.visit(proc.as_fd(), pid);
            if search.walk.cut {
                self.resume_at = pid;
                return;
            }
        }
    }
}

/// One walk under way.
struct Search {
    missing: HashSet<u32>,
    walk: Walk,
    /// Pid and number of wanted sockets it held.
    hits: Vec<(u32, usize)>,
    links_max: u64,
}

impl Search {
    fn done(&self) -> bool {
        self.missing.is_empty() || self.walk.cut
    }

    /// Reads one process's file table. A process that is gone is no news.
    fn visit(&mut self, proc: impl AsFd, pid: u32) {
        if self.done() {
            return;
        }
        let directory = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(proc, pid.to_string(), directory | OFlags::PATH, Mode::empty());
        let Some(process) = self.readable(opened) else { return };
        let table = match openat(&process, "fd", directory | OFlags::RDONLY, Mode::empty()) {
            Err(Errno::ACCESS | Errno::PERM) => {
                let uid = rustix::fs::fstat(&process).map(|stat| stat.st_uid);
                self.walk.denied.extend(uid);
                return;
            }
            opened => opened,
        };
        let Some(table) = self.readable(table) else { return };
        let held = self.read_links(&table);
        if held.is_empty() {
            return;
        }
        let Some(found) = identify(&process, pid) else {
            // It exited meanwhile. Somebody else may hold the sockets too.
            self.missing.extend(held);
            return;
        };
        self.hits.push((pid, held.len()));
        self.walk.holders.extend(held.into_iter().map(|inode| (inode, found.clone())));
    }

    /// Without descriptors or memory the walk ends here; any other error only means that the process is gone.
    fn readable(&mut self, opened: Result<OwnedFd, Errno>) -> Option<OwnedFd> {
        self.walk.cut |= matches!(opened, Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM));
        opened.ok()
    }

    /// The wanted inodes among the links of one file table; they are not missing any more.
    fn read_links(&mut self, table: &OwnedFd) -> Vec<u32> {
        let mut held = Vec::new();
        let mut entries = [MaybeUninit::uninit(); 8192];
        let mut entries = RawDir::new(table, &mut entries);
        while let Some(Ok(entry)) = entries.next() {
            if entry.file_type() != FileType::Symlink {
                continue;
            }
            if self.walk.links >= self.links_max {
                self.walk.cut = true;
                break;
            }
            self.walk.links += 1;
            let inode = socket_inode(table, entry.file_name());
            // Out of the missing at once: a process may hold one socket twice.
            held.extend(inode.filter(|inode| self.missing.remove(inode)));
            if self.missing.is_empty() {
                break;
            }
        }
        held
    }
}

/// `socket:[N]` behind a link of a file table.
fn socket_inode(table: &OwnedFd, link: &CStr) -> Option<u32> {
    let mut target = [MaybeUninit::uninit(); 32];
    let (target, _) = readlinkat_raw(table, link, &mut target).ok()?;
    let digits = target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The pids in `/proc`.
fn pids(proc: &OwnedFd) -> Vec<u32> {
    let mut found = Vec::new();
    let mut entries = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(proc, &mut entries);
    while let Some(Ok(entry)) = entries.next() {
        found.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok()));
    }
    found
}

fn identify(process: &OwnedFd, pid: u32) -> Option<Process> {
    let comm = openat(process, "comm", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut name = [0_u8; 64];
    let length = rustix::io::read(&comm, &mut name).ok().filter(|length| *length > 0)?;
    let mut exe = [MaybeUninit::uninit(); EXE_MAX];
    let exe =
        readlinkat_raw(process, c"exe", &mut exe).ok().map(|(path, _)| String::from_utf8_lossy(path).into());
    Some(Process { pid, name: caller_name(&name[..length]), exe })
}
