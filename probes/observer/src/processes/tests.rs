//! Real child processes, and a `/proc` written by hand where a pid has to come back.

use super::*;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

/// `sh` that says when it is there and waits for a line of input.
struct Shell(Child);

impl Shell {
    fn start(script: &str) -> Shell {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("echo there; read line; {script}")]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell is everywhere");
        let mut word = [0; 6];
        child.stdout.as_mut().expect("piped").read_exact(&mut word).expect("it says so");
        Shell(child)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn go_on(&mut self) {
        self.0.stdin.as_mut().expect("piped").write_all(b"\n").expect("it reads");
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for what a process does in its own time.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_child_is_read_and_known_after_its_exit_for_a_bounded_time() {
    let mut processes = Processes::of_this_system();
    let shell = Shell::start("true");
    let now = Instant::now();
    let before = processes.latest(shell.pid(), now).expect("it runs");
    assert_eq!((before.process.pid, before.process.comm.as_str()), (shell.pid(), "sh"));
    assert_eq!(before.process.uid, Some(rustix::process::geteuid().as_raw()));
    assert!(before.process.executable.as_deref().is_some_and(|path| path.starts_with('/')), "{before:?}");
    let event = SinceBoot::now();
    let pid = shell.pid();
    drop(shell);

    let after = processes.latest(pid, now).expect("kept");
    assert_eq!(after, before);
    assert_eq!(processes.at(pid, event, now).as_ref(), Some(&before), "an event of its life");
    let later = now + EXITED_KEPT - Duration::from_secs(1);
    assert_eq!(processes.latest(pid, later).as_ref(), Some(&before));
    assert_eq!(processes.latest(pid, now + EXITED_KEPT), None, "and then no more");
    assert!(processes.is_empty());
}

#[test]
fn a_zombie_keeps_what_was_known_of_the_process() {
    let mut processes = Processes::of_this_system();
    let mut shell = Shell::start("exit 0");
    let now = Instant::now();
    let before = processes.latest(shell.pid(), now).expect("it runs");
    shell.go_on();
    eventually("it has exited and nobody asked for its end", || {
        let directory = Directory::open(Path::new("/proc"), shell.pid()).expect("not reaped");
        directory.stat().expect("not reaped").is_zombie
    });
    let after = processes.latest(shell.pid(), now + DETAILS_KEPT).expect("kept");
    assert_eq!(after, before, "its program file cannot be read any more");
}

#[test]
fn exec_is_noticed_at_the_next_look() {
    let mut processes = Processes::of_this_system();
    let mut shell = Shell::start("exec sleep 60");
    let now = Instant::now();
    let before = processes.latest(shell.pid(), now).expect("it runs");
    assert_eq!(before.process.comm, "sh");
    shell.go_on();
    let mut after = before.clone();
    eventually("it is another program", || {
        after = processes.latest(shell.pid(), now).expect("it runs");
        after.process.comm == "sleep"
    });
    assert_eq!(after.id, before.id, "the same process");
    assert_ne!(after.process.executable, before.process.executable);
    assert_eq!(processes.len(), 1);
}

#[test]
fn a_process_that_was_gone_before_is_what_the_kernel_told_of_it() {
    let mut processes = Processes::of_this_system();
    let shell = Shell::start("true");
    let (pid, event) = (shell.pid(), SinceBoot::now());
    drop(shell);
    let now = Instant::now();
    assert_eq!(processes.at(pid, event, now), None, "nobody looked in time");
    let told = Told { comm: "curl".to_owned(), uid: Some(7) };
    let known = processes.at_or_told(pid, event, &told, now);
    assert_eq!(
        (known.process.comm.as_str(), known.process.uid, &known.process.unit),
        ("curl", Some(7), &None)
    );
    let other = Told { comm: "a thread".to_owned(), uid: Some(7) };
    assert_eq!(
        processes.at_or_told(pid, SinceBoot(event.0 + 50_000_000), &other, now),
        known,
        "the same one"
    );
    assert_eq!(processes.counts(), Counts { told: 1, ..Counts::default() });
}

/// A `/proc` of files.
struct Proc(tempfile::TempDir);

impl Proc {
    fn new() -> Proc {
        Proc(tempfile::tempdir().expect("a directory"))
    }

    fn write(&self, pid: u32, comm: &str, start: u64, unit: &str) {
        let folder = self.0.path().join(pid.to_string());
        std::fs::create_dir_all(&folder).expect("made");
        let stat = format!("{pid} ({comm}) S 1 1 1 0 -1 4194304 1 0 0 0 1 2 0 0 20 0 1 0 {start} 1000 1\n");
        std::fs::write(folder.join("stat"), stat).expect("written");
        std::fs::write(folder.join("status"), "Name:\tx\nUid:\t1000\t1001\t1000\t1000\n").expect("written");
        std::fs::write(folder.join("cgroup"), format!("0::/system.slice/{unit}\n")).expect("written");
    }

    fn exit(&self, pid: u32) {
        std::fs::remove_dir_all(self.0.path().join(pid.to_string())).expect("removed");
    }

    fn processes(&self, most: usize) -> Processes {
        Processes::under(self.0.path(), most)
    }
}

/// The moment that many ticks after boot.
fn ticks(ticks: u64) -> SinceBoot {
    SinceBoot(ticks * (1_000_000_000 / procfs::ticks_per_second()))
}

#[test]
fn a_pid_that_is_used_again_is_another_process() {
    let proc = Proc::new();
    let mut processes = proc.processes(KNOWN_MAX);
    let now = Instant::now();
    proc.write(77, "importer", 1_000, "importer.service");
    let first = processes.latest(77, now).expect("it runs");
    assert_eq!(first.process.unit.as_deref(), Some("importer.service"));
    assert_eq!((first.process.uid, &first.process.executable), (Some(1_001), &None), "unknown stays unknown");

    // the same name, even: only the start tells
    proc.exit(77);
    proc.write(77, "importer", 5_000, "other.service");
    let second = processes.latest(77, now).expect("it runs");
    assert_eq!(second.id, ProcessId { pid: 77, start: 5_000 });
    assert_eq!(second.process.unit.as_deref(), Some("other.service"));

    let unit = |known: Option<Known>| known.and_then(|known| known.process.unit.clone());
    assert_eq!(unit(processes.at(77, ticks(4_999), now)).as_deref(), Some("importer.service"));
    assert_eq!(unit(processes.at(77, ticks(5_000), now)).as_deref(), Some("other.service"));
    assert_eq!(processes.at(77, ticks(999), now), None, "before either");

    // A successor alone is never taken for the process of an earlier event.
    proc.write(78, "successor", 9_000, "new.service");
    assert_eq!(processes.at(78, ticks(8_000), now), None);
    let told = Told { comm: "gone".to_owned(), uid: None };
    assert_eq!(processes.at_or_told(78, ticks(8_000), &told, now).process.comm, "gone");
    assert_eq!(processes.latest(78, now).expect("it runs").process.comm, "successor");
}

#[test]
fn what_may_change_is_read_again() {
    let proc = Proc::new();
    let mut processes = proc.processes(KNOWN_MAX);
    let now = Instant::now();
    proc.write(5, "worker", 10, "a.service");
    assert_eq!(processes.latest(5, now).expect("it runs").process.unit.as_deref(), Some("a.service"));
    proc.write(5, "worker", 10, "b.service");
    let unit = |known: Option<Known>| known.expect("it runs").process.unit.clone().expect("a unit");
    assert_eq!(unit(processes.latest(5, now)), "a.service", "believed");
    assert_eq!(unit(processes.latest(5, now + DETAILS_KEPT)), "b.service");
    proc.write(5, "renamed", 10, "c.service");
    assert_eq!(unit(processes.latest(5, now + DETAILS_KEPT)), "c.service", "another name: at once");
    assert_eq!(processes.counts().read, 3);
}

#[test]
fn the_cache_is_bounded_and_the_dead_go_first() {
    let proc = Proc::new();
    let mut processes = proc.processes(64);
    let now = Instant::now();
    proc.write(1, "long-lived", 10, "a.service");
    processes.latest(1, now).expect("it runs");
    for index in 0..10_000 {
        let at = now + Duration::from_millis(index);
        let told = Told { comm: "short".to_owned(), uid: None };
        processes.at_or_told(1_000 + index as u32, ticks(100), &told, at);
        assert!(processes.len() <= 64);
    }
    assert!(processes.counts().evicted >= 10_000 - 64);
    assert_eq!(processes.counts().read, 1);
    proc.exit(1);
    assert_eq!(processes.latest(1, now).expect("kept").process.comm, "long-lived");

    // Of running ones those go that nobody asked for for longest.
    let mut processes = proc.processes(64);
    for pid in 1..=65 {
        proc.write(pid, "server", 10, "a.service");
        processes.latest(pid, now + Duration::from_millis(u64::from(pid))).expect("it runs");
    }
    assert_eq!(processes.counts().evicted, 8);
    proc.exit(1);
    proc.exit(9);
    assert_eq!(processes.latest(1, now), None, "it was the first to go");
    assert!(processes.latest(9, now).is_some());
}
