//! What `/proc` tells of one process now. A process is read through one descriptor of its directory, which follows the
//! process and not the number: when it exits halfway, reads fail, and a successor is never taken for it.

use super::cgroup;
use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir, openat, readlinkat_raw};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::CStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Longest path of an executable that is kept, in bytes; of a longer one the end is.
pub const EXECUTABLE_MAX: usize = 256;
/// The kernel's own bound of a path that a link leads to.
const PATH_MAX: usize = 4_096;
/// Bytes of `stat` and `status` that are read: the fields wanted are at their begin.
const STAT_MAX: usize = 1_024;
/// Bytes of `cgroup` that are read: a dozen hierarchies of v1 with the longest paths that runtimes make.
const CGROUP_MAX: usize = 8_192;
/// `PF_KTHREAD` of a process's flags.
const KERNEL_THREAD: u64 = 0x0020_0000;
/// Bytes of a table that are asked for at once.
const LINES_BUFFER: usize = 16_384;

/// The directory of one process.
#[derive(Debug)]
pub struct Directory(OwnedFd);

/// What is cheap to read and tells one process from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its short name.
    pub comm: String,
    /// It has exited, and its parent has not asked for it yet: most of what it was cannot be read any more.
    pub is_zombie: bool,
    /// It is a thread of the kernel itself.
    pub is_kernels: bool,
    /// When it started, in ticks of the clock since boot.
    pub start: u64,
    /// Processor time of all its threads, of those that have ended too, in ticks.
    pub ticks: u64,
}

/// The rest. What may not be read is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Effective user.
    pub uid: Option<u32>,
    /// Its program file.
    pub executable: Option<String>,
    /// Its unit, container or pod.
    pub unit: Option<String>,
    /// The inode of its network namespace.
    pub network: Option<u64>,
}

impl Directory {
    /// The process that has this pid now, under the mount point of a proc file system. `None`: there is none.
    #[must_use]
    pub fn open(root: &Path, pid: u32) -> Option<Directory> {
        Directory::named(root, &pid.to_string())
    }

    /// The same by the name of its directory: `self` is this process.
    #[must_use]
    pub fn named(root: &Path, name: &str) -> Option<Directory> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, root.join(name), flags, Mode::empty()).ok().map(Directory)
    }

    /// Name, state and start. `None`: it has exited.
    #[must_use]
    pub fn stat(&self) -> Option<Stat> {
        parse_stat(&self.file(c"stat", STAT_MAX)?)
    }

    /// The rest.
    #[must_use]
    pub fn details(&self) -> Details {
        let text =
            |name, most| self.file(name, most).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Details {
            uid: text(c"status", STAT_MAX).and_then(|status| effective_uid(&status)),
            executable: self.link::<PATH_MAX>(c"exe").map(|path| shortened(&String::from_utf8_lossy(&path))),
            unit: text(c"cgroup", CGROUP_MAX).and_then(|cgroups| cgroup::unit(&cgroups)),
            network: self.network(),
        }
    }

    /// The inode of its network namespace.
    #[must_use]
    pub fn network(&self) -> Option<u64> {
        self.link::<64>(c"ns/net").and_then(|link| namespace(&link))
    }

    /// The inode of its process namespace.
    #[must_use]
    pub fn process_namespace(&self) -> Option<u64> {
        self.link::<64>(c"ns/pid").and_then(|link| namespace(&link))
    }

    /// Gives the lines of one of its files to `take`, without the first (a head), until that says enough.
    pub(crate) fn lines(&self, name: &CStr, mut take: impl FnMut(&str) -> bool) {
        let Ok(file) = openat(&self.0, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else { return };
        let lines = BufReader::with_capacity(LINES_BUFFER, File::from(file)).lines();
        for line in lines.skip(1).map_while(Result::ok) {
            if !take(&line) {
                return;
            }
        }
    }

    /// Those of the socket inodes that its file table holds. `None`: the table may not be read. Every link that is looked
    /// at is taken off `budget`; at 0 the rest of the table is left.
    pub(crate) fn sockets(&self, wanted: &HashSet<u64>, budget: &mut usize) -> Option<HashSet<u64>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let table = openat(&self.0, c"fd", flags, Mode::empty()).ok()?;
        let mut held = HashSet::new();
        let mut entries = [MaybeUninit::uninit(); 8192];
        let mut entries = RawDir::new(&table, &mut entries);
        while let Some(Ok(entry)) = entries.next() {
            if entry.file_type() != FileType::Symlink {
                continue;
            }
            if *budget == 0 || held.len() == wanted.len() {
                break;
            }
            *budget -= 1;
            held.extend(socket_inode(&table, entry.file_name()).filter(|inode| wanted.contains(inode)));
        }
        Some(held)
    }

    fn file(&self, name: &CStr, most: usize) -> Option<Vec<u8>> {
        let file = openat(&self.0, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut bytes = vec![0; most];
        let mut filled = 0;
        loop {
            match rustix::io::read(&file, &mut bytes[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
            if filled == most {
                break;
            }
        }
        bytes.truncate(filled);
        (filled > 0).then_some(bytes)
    }

    fn link<const MOST: usize>(&self, name: &CStr) -> Option<Vec<u8>> {
        let mut target = [MaybeUninit::uninit(); MOST];
        readlinkat_raw(&self.0, name, &mut target).ok().map(|(path, _)| path.to_vec())
    }
}

/// `socket:[N]` behind a link of a file table.
fn socket_inode(table: &OwnedFd, link: &CStr) -> Option<u64> {
    let mut target = [MaybeUninit::uninit(); 32];
    let (target, _) = readlinkat_raw(table, link, &mut target).ok()?;
    let digits = target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// `PID (COMM) STATE ...`, where the name may hold anything, a `)` included; flags are field 9, the processor times are
/// fields 14 and 15, the start is field 22.
fn parse_stat(line: &[u8]) -> Option<Stat> {
    let open = line.iter().position(|byte| *byte == b'(')?;
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let comm = String::from_utf8_lossy(line.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let is_zombie = matches!(fields.next()?, "Z" | "X" | "x");
    let flags: u64 = fields.nth(5)?.parse().ok()?;
    let user: u64 = fields.nth(4)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let start = fields.nth(6)?.parse().ok()?;
    let is_kernels = flags & KERNEL_THREAD != 0;
    Some(Stat { comm, is_zombie, is_kernels, start, ticks: user.saturating_add(system) })
}

/// The second of the four numbers after `Uid:`.
fn effective_uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// `net:[4026531840]`, and likewise for other kinds.
pub(crate) fn namespace(link: &[u8]) -> Option<u64> {
    let (_, inode) = std::str::from_utf8(link).ok()?.split_once(":[")?;
    inode.strip_suffix(']')?.parse().ok()
}

/// The end of a path that is too long to keep: the file's name is there.
fn shortened(path: &str) -> String {
    if path.len() <= EXECUTABLE_MAX {
        return path.to_owned();
    }
    let mut from = path.len() - (EXECUTABLE_MAX - 3);
    while !path.is_char_boundary(from) {
        from += 1;
    }
    format!("...{}", &path[from..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_what_ends_names() {
        let line =
            b"4242 (a) R (b) S 1 4242 4242 0 -1 4194304 120 0 0 0 1 2 0 0 20 0 1 0 987654 1000 1 184 0\n";
        let stat = parse_stat(line).expect("a process");
        assert_eq!((stat.comm.as_str(), stat.is_zombie, stat.start), ("a) R (b", false, 987_654));
        assert_eq!((stat.ticks, stat.is_kernels), (3, false));
        let kernels = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 1 0 0 20 0 1 0 5 0 0\n";
        assert!(parse_stat(kernels).expect("a process").is_kernels);
        let dead = b"7 (x) Z 1 7 7 0 -1 4194304 120 0 0 0 1 2 0 0 20 0 1 0 5 0 0\n";
        assert!(parse_stat(dead).expect("a process").is_zombie);
        let cut: [&[u8]; 4] = [b"", b"7 (x", b"7 (x) S 1 2", b"7 )x( S"];
        for line in cut {
            assert_eq!(parse_stat(line), None);
        }
    }

    #[test]
    fn the_effective_user_is_the_second_number() {
        assert_eq!(effective_uid("Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t5\t6\t7\t8\n"), Some(0));
        assert_eq!(effective_uid("Name:\tUid:\n"), None);
    }

    #[test]
    fn of_a_long_path_the_end_is_kept() {
        let path = format!("/{}/ä{}/importer", "x".repeat(400), "y".repeat(235));
        let kept = shortened(&path);
        assert!(
            kept.len() <= EXECUTABLE_MAX && kept.starts_with("...") && kept.ends_with("/importer"),
            "{kept}"
        );
        assert_eq!(shortened("/usr/bin/memcached"), "/usr/bin/memcached");
    }

    #[test]
    fn this_process_is_read() {
        let own = Directory::open(Path::new("/proc"), std::process::id()).expect("a directory");
        let stat = own.stat().expect("it runs");
        assert!(!stat.is_zombie && stat.start > 0);
        let details = own.details();
        assert_eq!(details.uid, Some(rustix::process::geteuid().as_raw()));
        let exe = std::env::current_exe().expect("a path");
        assert_eq!(details.executable, Some(shortened(&exe.to_string_lossy())));
        let network = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
        assert_eq!(details.network, namespace(network.to_string_lossy().as_bytes()));
        assert!(details.network.is_some());
        assert!(Directory::open(Path::new("/proc"), u32::MAX).is_none());
    }
}
