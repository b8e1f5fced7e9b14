//! Child processes. Every child leads a process group of its own and is ended by that number, first politely, then
//! not; [`crate::interrupt`] ends those that are left when the run is interrupted. Bounds: a child gets [`GRACE`] to end
//! itself.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use crate::interrupt::{self, GRACE, group_lives, signal_group};

/// Lines kept of a child's output to show when it fails.
const TAIL: usize = 60;

/// Which of a child's two streams a line came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A child that runs beside this program: a server, or a load that is waited for later.
pub struct Running {
    name: String,
    child: Child,
    group: Pid,
    lines: Receiver<(Stream, String)>,
    tail: VecDeque<String>,
    status: Option<ExitStatus>,
}

impl Running {
    /// Starts a child whose output can be read line by line. At most 4,096 unread lines are kept; a server that
    /// writes more than that waits, so servers with much to say get [`Running::spawn_to_file`].
    pub fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Self::start(name, command)?;
        let (sender, receiver) = sync_channel(4_096);
        if let Some(out) = running.child.stdout.take() {
            forward(Stream::Out, out, sender.clone())?;
        }
        if let Some(err) = running.child.stderr.take() {
            forward(Stream::Err, err, sender)?;
        }
        running.lines = receiver;
        Ok(running)
    }

    /// Starts a child like [`Running::spawn`] that sees its stdin close when this program ends, in whatever way.
    pub fn spawn_tied(name: &str, command: &mut Command) -> Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut running = Self::start_with(name, command, Stdio::piped())?;
        let (sender, receiver) = sync_channel(4_096);
        if let Some(out) = running.child.stdout.take() {
            forward(Stream::Out, out, sender)?;
        }
        running.lines = receiver;
        Ok(running)
    }

    /// Starts a server whose stdout can be read line by line and whose log (stderr) goes to a file: however much it
    /// logs, it never waits for this program.
    pub fn spawn_logging(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdout(Stdio::piped()).stderr(file);
        let mut running = Self::start(name, command)?;
        let (sender, receiver) = sync_channel(4_096);
        if let Some(out) = running.child.stdout.take() {
            forward(Stream::Out, out, sender)?;
        }
        running.lines = receiver;
        Ok(running)
    }

    /// Starts a server whose stdout can be read line by line and whose log (stderr) is handed to `watch`, line by line, and
    /// kept nowhere: a million lines a second fill no disk.
    pub fn spawn_watched(
        name: &str,
        command: &mut Command,
        mut watch: impl FnMut(&str) + Send + 'static,
    ) -> Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Self::start(name, command)?;
        let (sender, receiver) = sync_channel(4_096);
        if let Some(out) = running.child.stdout.take() {
            forward(Stream::Out, out, sender)?;
        }
        if let Some(err) = running.child.stderr.take() {
            thread::Builder::new().name("log".into()).spawn(move || {
                let (mut reader, mut bytes) = (BufReader::new(err), Vec::new());
                while reader.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
                    watch(String::from_utf8_lossy(&bytes).trim_end());
                    bytes.clear();
                }
            })?;
        }
        running.lines = receiver;
        Ok(running)
    }

    /// Starts a child whose output goes to a file.
    pub fn spawn_to_file(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdout(file.try_clone()?).stderr(file);
        Self::start(name, command)
    }

    /// Starts a child that writes to this program's own output.
    pub fn spawn_inherited(name: &str, command: &mut Command) -> Result<Self> {
        command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
        Self::start(name, command)
    }

    fn start(name: &str, command: &mut Command) -> Result<Self> {
        Self::start_with(name, command, Stdio::null())
    }

    fn start_with(name: &str, command: &mut Command, stdin: Stdio) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let (child, group) = interrupt::start(|| {
            let child = command.stdin(stdin).process_group(0).spawn().with_context(|| {
                format!("cannot start {name} ({})", command.get_program().to_string_lossy())
            })?;
            let group = Pid::from_child(&child);
            Ok(((child, group), group))
        })?;
        let (_, lines) = sync_channel(1);
        Ok(Self { name: name.to_owned(), child, group, lines, tail: VecDeque::new(), status: None })
    }

    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of output, or `None` when there was none in time or the child closed its output.
    pub fn line(&mut self, timeout: Duration) -> Option<(Stream, String)> {
        match self.lines.recv_timeout(timeout) {
            Ok((stream, line)) => {
                if self.tail.len() == TAIL {
                    self.tail.pop_front();
                }
                self.tail.push_back(line.clone());
                Some((stream, line))
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Reads output until a line of stdout satisfies `wanted`; fails when the child ends or the time is over.
    pub fn wait_for_line(&mut self, timeout: Duration, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some((stream, line)) = self.line(Duration::from_millis(50)) {
                if stream == Stream::Out && wanted(&line) {
                    return Ok(line);
                }
                continue;
            }
            if let Some(status) = self.poll()? {
                while self.line(Duration::from_millis(20)).is_some() {}
                bail!("{} ended ({status}) before it was ready\n{}", self.name, self.said());
            }
            if Instant::now() > deadline {
                bail!("{} was not ready within {timeout:?}\n{}", self.name, self.said());
            }
        }
    }

    /// The last lines the child wrote, for an error message.
    pub fn said(&self) -> String {
        self.tail.iter().map(|line| format!("    | {line}\n")).collect()
    }

    /// The exit status, when the child has ended.
    pub fn poll(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait().with_context(|| format!("cannot wait for {}", self.name))?;
        }
        Ok(self.status)
    }

    /// Waits until the child ends by itself; past the limit it is ended and that is an error.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.poll()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.stop();
                bail!("{} did not end within {limit:?} and was ended", self.name);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Writes a line to the stdin of a child of [`Running::spawn_tied`].
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().with_context(|| format!("{} has no stdin", self.name))?;
        writeln!(stdin, "{line}").with_context(|| format!("{} does not listen", self.name))
    }

    /// Closes the stdin of a child of [`Running::spawn_tied`] and waits until it has ended by itself.
    pub fn untie(&mut self, limit: Duration) -> Result<ExitStatus> {
        drop(self.child.stdin.take());
        self.wait(limit)
    }

    /// Ends the child and everything in its group at once, as a crash does, and waits for it.
    pub fn kill(&mut self) -> Result<()> {
        signal_group(self.group, Signal::KILL);
        self.status = Some(self.child.wait().with_context(|| format!("cannot wait for {}", self.name))?);
        Ok(())
    }

    /// Leaves the child running when this program ends; an interrupt spares it from now on.
    pub fn release(self) {
        interrupt::ended(self.group);
        // Neither the drop nor an interrupt may end it; what is lost is a closed handle or two.
        let _running = std::mem::ManuallyDrop::new(self);
    }

    /// Ends the child and everything in its group: SIGTERM, [`GRACE`], SIGKILL. Ending an ended child does nothing.
    pub fn stop(&mut self) {
        if matches!(self.poll(), Ok(None)) {
            signal_group(self.group, Signal::TERM);
            let deadline = Instant::now() + GRACE;
            while matches!(self.poll(), Ok(None)) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
        }
        if group_lives(self.group) {
            signal_group(self.group, Signal::KILL);
        }
        if let Ok(status) = self.child.wait() {
            self.status = Some(status);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        interrupt::hold_if_interrupted();
        self.stop();
        interrupt::ended(self.group);
    }
}

fn forward(stream: Stream, from: impl Read + Send + 'static, to: SyncSender<(Stream, String)>) -> Result<()> {
    thread::Builder::new().name("output".into()).spawn(move || {
        let mut reader = BufReader::new(from);
        let mut bytes = Vec::new();
        // Bytes, not `lines()`: a test may print what is no UTF-8, and that must not end the reading.
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            bytes.clear();
            if to.send((stream, line)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// What a finished child said.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs a child to its end and keeps what it says.
pub fn run(name: &str, command: &mut Command, limit: Duration) -> Result<Finished> {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let status = stream(name, command, limit, |stream, line| {
        let text = if stream == Stream::Out { &mut stdout } else { &mut stderr };
        text.push_str(line);
        text.push('\n');
    })?;
    Ok(Finished { status, stdout, stderr })
}

/// Runs a child to its end and hands each line to `on_line` as it comes; past the limit the child is ended and that is
/// an error.
pub fn stream(
    name: &str,
    command: &mut Command,
    limit: Duration,
    mut on_line: impl FnMut(Stream, &str),
) -> Result<ExitStatus> {
    let mut running = Running::spawn(name, command)?;
    let deadline = Instant::now() + limit;
    let mut ended: Option<Instant> = None;
    loop {
        match running.lines.recv_timeout(Duration::from_millis(100)) {
            Ok((stream, line)) => on_line(stream, &line),
            // Both streams are closed: the child and all that inherited them have ended or will say no more.
            Err(RecvTimeoutError::Disconnected) => return running.wait(GRACE),
            // A daemon that a child left behind may hold the stream open for ever. But on a loaded machine the last
            // lines may also still be on their way, and none may be lost.
            Err(RecvTimeoutError::Timeout) => {
                if let Some(status) = running.poll()? {
                    let since = *ended.get_or_insert_with(Instant::now);
                    if since.elapsed() > GRACE {
                        return Ok(status);
                    }
                }
            }
        }
        if Instant::now() > deadline {
            running.stop();
            bail!("{name} did not end within {limit:?} and was ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_streams_of_a_child_are_kept() {
        let done = run("sh", &mut shell("echo out; echo err >&2; exit 3"), GRACE).unwrap();
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(done.status.code(), Some(3));
    }

    #[test]
    fn a_daemon_that_keeps_the_stream_open_is_not_waited_for() {
        let begun = Instant::now();
        let done = run("sh", &mut shell("echo out; sleep 30 & exit 0"), Duration::from_secs(25)).unwrap();
        assert_eq!((done.stdout.as_str(), done.status.success()), ("out\n", true));
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_child_past_its_limit_is_ended_with_its_children() {
        let begun = Instant::now();
        let error =
            run("sh", &mut shell("sleep 30 & sleep 30; wait"), Duration::from_millis(200)).unwrap_err();
        assert!(error.to_string().contains("was ended"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_server_is_ready_when_it_says_so() {
        let mut server =
            Running::spawn("server", &mut shell("echo starting; echo serving, ready; sleep 30")).unwrap();
        let line = server.wait_for_line(GRACE, |line| line.ends_with("ready")).unwrap();
        assert_eq!(line, "serving, ready");
        let group = server.group;
        drop(server);
        // The shell's own child is reaped by the system, a moment later.
        let deadline = Instant::now() + GRACE;
        while group_lives(group) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(!group_lives(group));
    }

    #[test]
    fn a_watched_log_is_read_to_its_end() {
        let (sender, lines) = sync_channel(16);
        let watch = move |line: &str| drop(sender.send(line.to_owned()));
        let mut script = shell("echo ready; for n in 1 2 3; do echo line $n >&2; done");
        let mut server = Running::spawn_watched("server", &mut script, watch).unwrap();
        server.wait_for_line(GRACE, |line| line == "ready").unwrap();
        assert_eq!(lines.iter().collect::<Vec<_>>(), ["line 1", "line 2", "line 3"]);
    }

    #[test]
    fn a_server_that_dies_is_quoted() {
        let mut server = Running::spawn("server", &mut shell("echo no such file >&2; exit 1")).unwrap();
        let error = server.wait_for_line(GRACE, |line| line.ends_with("ready")).unwrap_err();
        assert!(error.to_string().contains("no such file"), "{error}");
    }
}
