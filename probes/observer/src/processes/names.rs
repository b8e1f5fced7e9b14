//! Names for the numbers that the programs in the kernel tell: the process's, not that of the thread that happened to be
//! running, with its program file and unit.
//!
//! The kernel counts by the numbers of its first process namespace, whatever namespace a process is in. `/proc` shows them
//! only where it is that namespace's: in a container with a process namespace of its own the same number is another
//! process, or none. There nothing is looked up ([`Numbers::Others`]), and what the kernel told stands.
//!
//! A name is given once and kept while the kernel's maps hold the process, so that no total moves from one name to another.

use super::read::Directory;
use crate::picture::Process;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// The inode of the first process namespace, the same on every kernel (`PROC_PID_INIT_INO`).
const FIRST: u64 = 0xEFFF_FFFC;

/// Whose numbers a proc file system shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// The kernel's own: those of the first process namespace.
    Kernels,
    /// Those of another namespace.
    Others,
}

impl Numbers {
    /// Of the proc file system at `root`.
    #[must_use]
    pub fn shown(root: &Path) -> Numbers {
        let own = Directory::named(root, "self").and_then(|own| own.process_namespace());
        // A process of another namespace may have been given the file system of the first one: there the threads of the
        // kernel are, and the one that starts them is always the second process.
        let second = Directory::open(root, 2).and_then(|second| second.stat());
        let first = own == Some(FIRST) || second.is_some_and(|stat| stat.is_kernels);
        if first { Numbers::Kernels } else { Numbers::Others }
    }
}

/// The names that were given.
#[derive(Debug)]
pub struct Names {
    root: PathBuf,
    numbers: Numbers,
    given: HashMap<u32, Given>,
}

#[derive(Debug)]
struct Given {
    process: Process,
    /// `None`: it was gone before anybody looked.
    start: Option<u64>,
}

impl Names {
    /// Of this system.
    #[must_use]
    pub fn of_this_system() -> Names {
        let root = Path::new("/proc");
        Names::under(root, Numbers::shown(root))
    }

    /// Of the proc file system at `root`.
    #[must_use]
    pub fn under(root: &Path, numbers: Numbers) -> Names {
        Names { root: root.to_path_buf(), numbers, given: HashMap::new() }
    }

    /// Whose numbers `/proc` shows.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// Puts the process in the place of the thread that the kernel told of. The user stays the one it told: that is who
    /// did it. What nobody can tell any more stays as it is.
    pub fn name(&mut self, told: &mut Process) {
        if told.pid == 0 || self.numbers == Numbers::Others {
            return;
        }
        if !self.given.contains_key(&told.pid) {
            let given = self.read(told);
            self.given.insert(told.pid, given);
        }
        if let Some(given) = self.given.get(&told.pid) {
            let uid = told.uid.or(given.process.uid);
            *told = Process { uid, ..given.process.clone() };
        }
    }

    fn read(&self, told: &Process) -> Given {
        let directory = Directory::open(&self.root, told.pid);
        let Some((directory, stat)) = directory.and_then(|one| one.stat().map(|stat| (one, stat))) else {
            return Given { process: told.clone(), start: None };
        };
        let details = directory.details();
        let process = Process {
            comm: stat.comm,
            uid: details.uid,
            executable: details.executable,
            unit: details.unit,
            ..told.clone()
        };
        Given { process, start: Some(stat.start) }
    }

    /// Whether the process is still there, and no other one with its number. Where that cannot be told it is.
    #[must_use]
    pub fn lives(&self, pid: u32) -> bool {
        if self.numbers == Numbers::Others {
            return true;
        }
        let now = Directory::open(&self.root, pid).and_then(|directory| directory.stat());
        let start = self.given.get(&pid).and_then(|given| given.start);
        now.is_some_and(|now| start.is_none_or(|start| start == now.start))
    }

    /// Forgets all others.
    pub fn keep(&mut self, pids: &BTreeSet<u32>) {
        self.given.retain(|pid, _| pids.contains(pid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pid: u32, comm: &str) -> Process {
        Process { pid, comm: comm.to_owned(), uid: Some(7), ..Process::default() }
    }

    #[test]
    fn a_thread_goes_by_the_name_of_its_process() {
        let mut names = Names::under(Path::new("/proc"), Numbers::Kernels);
        let mut process = told(std::process::id(), "tokio-runtime-w");
        names.name(&mut process);
        let comm = std::fs::read_to_string(format!("/proc/{0}/comm", std::process::id())).unwrap();
        assert_eq!(
            (process.comm.as_str(), process.uid),
            (comm.trim_end(), Some(7)),
            "the user is who did it"
        );
        let own = std::env::current_exe().unwrap();
        assert!(process.executable.is_some_and(|path| own.to_string_lossy().ends_with(&*path)));
        assert!(names.lives(std::process::id()));
    }

    #[test]
    fn what_nobody_can_tell_stays_as_the_kernel_told_it() {
        let mut names = Names::under(Path::new("/proc"), Numbers::Kernels);
        for pid in [0, u32::MAX] {
            let mut process = told(pid, "gone");
            names.name(&mut process);
            assert_eq!(process, told(pid, "gone"));
        }
        assert!(!names.lives(u32::MAX));
    }

    #[test]
    fn a_name_lasts_and_a_successor_does_not_take_it_over() {
        let folder = tempfile::tempdir().unwrap();
        let write = |comm: &str, start: u64| {
            let process = folder.path().join("4711");
            std::fs::create_dir_all(&process).unwrap();
            let zeros = "0 ".repeat(18);
            std::fs::write(process.join("stat"), format!("4711 ({comm}) S {zeros}{start} 0 0\n")).unwrap();
        };
        let mut names = Names::under(folder.path(), Numbers::Kernels);
        let name = |names: &mut Names| {
            let mut process = told(4711, "thread");
            names.name(&mut process);
            process.comm
        };
        write("sh", 100);
        assert_eq!(name(&mut names), "sh");
        write("importer", 100);
        assert_eq!((name(&mut names).as_str(), names.lives(4711)), ("sh", true), "exec: the same process");
        write("other", 200);
        assert_eq!(
            (name(&mut names).as_str(), names.lives(4711)),
            ("sh", false),
            "its number was given away"
        );
        names.keep(&BTreeSet::new());
        assert_eq!((name(&mut names).as_str(), names.lives(4711)), ("other", true));
    }

    #[test]
    fn where_the_numbers_are_others_nothing_is_looked_up() {
        let mut names = Names::under(Path::new("/proc"), Numbers::Others);
        let mut process = told(std::process::id(), "worker-0");
        names.name(&mut process);
        assert_eq!(process, told(std::process::id(), "worker-0"), "this number may be anybody's");
        assert!(names.lives(u32::MAX), "nobody can tell");
        assert_eq!(Numbers::shown(Path::new("/nonexistent")), Numbers::Others);
    }
}
