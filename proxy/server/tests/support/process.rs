//! Children of a test: started, waited for under a limit, ended by their id.

use super::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a child may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// A child that runs beside the test. Dropping it ends it.
pub struct Process {
    /// The child.
    pub child: Child,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts a child. It stays in the test's process group, so that whoever ends that ends it too.
    pub fn start(name: &str, command: &mut Command) -> Process {
        let child = command.stdin(Stdio::null()).spawn();
        Process::of(child.unwrap_or_else(|error| panic!("{name} cannot be started: {error}")))
    }

    /// A child that was started before.
    pub fn of(child: Child) -> Process {
        Process { child, status: None }
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, when it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("a child of ours");
        }
        self.status
    }

    /// Waits for its end; none within [`PATIENCE`] is a failed test.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        self.wait_within(PATIENCE).unwrap_or_else(|| panic!("the process does not end within {PATIENCE:?}"))
    }

    /// Waits for its end.
    pub fn wait_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        while self.ended().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.status
    }

    /// Sends a signal (`libc::SIG...`), unless it was seen to end: its id may be somebody else's by then.
    pub fn signal(&self, signal: i32) {
        if self.status.is_none() {
            let signal = Signal::from_named_raw(signal).expect("a signal");
            kill_process(Pid::from_child(&self.child), signal).expect("the child is ours and not reaped");
        }
    }

    /// Ends it at once; a stopped process dies of SIGKILL too.
    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        self.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(libc::SIGTERM);
            if self.wait_within(GRACE).is_none() {
                self.signal(libc::SIGKILL);
            }
        }
        let _ = self.child.wait();
    }
}

/// What a child said until its end.
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Fails with what it said unless it ended well.
    #[track_caller]
    pub fn expect_success(self, name: &str) -> Finished {
        assert!(self.status.success(), "{name} ended with {}\n{}{}", self.status, self.stdout, self.stderr);
        self
    }
}

/// Runs a child to its end; past the limit it is ended and the test has failed.
#[track_caller]
pub fn run(command: &mut Command, input: Option<Vec<u8>>, limit: Duration) -> Finished {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
    let mut process = Process::of(child);
    if let (Some(mut stdin), Some(input)) = (process.child.stdin.take(), input) {
        std::thread::spawn(move || stdin.write_all(&input));
    }
    let stdout = collect(process.child.stdout.take().expect("piped"));
    let stderr = collect(process.child.stderr.take().expect("piped"));
    let status = process.wait_within(limit);
    if status.is_none() {
        process.signal(libc::SIGTERM);
        process.wait_within(GRACE);
    }
    drop(process);
    let (stdout, stderr) = (stdout.join().expect("read"), stderr.join().expect("read"));
    let Some(status) = status else { panic!("{name} did not end within {limit:?}\n{stdout}{stderr}") };
    Finished { status, stdout, stderr }
}

fn collect(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was said until the stream broke is still worth showing.
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
