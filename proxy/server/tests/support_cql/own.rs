//! Nodes of a test's own, through `cargo xtask cassandra`.

use crate::support::{WEIR, skip};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Nodes that only this test knows. They end with their command's standard input, so also when this process is killed.
pub struct Nodes {
    command: Child,
    lines: BufReader<ChildStdout>,
    /// Where each speaks CQL.
    pub addresses: Vec<String>,
    /// Process ids, as they were when the nodes were last started.
    pub pids: Vec<i32>,
}

impl Nodes {
    /// Starts them with these flags; `None`, said aloud with the reason, where that cannot be done here.
    pub fn start(what: &str, name: &str, flags: &[&str]) -> Option<Nodes> {
        let xtask = Path::new(WEIR).with_file_name("xtask");
        if !xtask.is_file() {
            skip(what, "the xtask binary is not beside weir's: cargo build -p xtask");
            return None;
        }
        let found =
            Command::new(&xtask).args(["cassandra", "fetch", "--no-install"]).output().expect("it runs");
        if !found.status.success() {
            skip(what, String::from_utf8_lossy(&found.stderr).trim());
            return None;
        }
        let name = format!("weir-{name}-{}", std::process::id());
        let mut command = Command::new(xtask);
        command.args(["cassandra", "start", "--attached", "--ready-soon", "--no-install", "--name", &name]);
        command.args(flags);
        let mut command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
        let lines = BufReader::new(command.stdout.take().expect("piped"));
        let mut nodes = Nodes { command, lines, addresses: Vec::new(), pids: Vec::new() };
        loop {
            let line = nodes.line();
            if line.trim() == "ready" {
                return Some(nodes);
            }
            if let Some((address, pid)) = node(&line) {
                nodes.addresses.push(address);
                nodes.pids.push(pid);
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.lines.read_line(&mut line).expect("its output"), 0, "it ended; its words are above");
        line
    }

    /// `kill 1` or `start 1`; returns when it is done.
    pub fn tell(&mut self, words: &str) {
        let stdin = self.command.stdin.as_mut().expect("stdin is open");
        writeln!(stdin, "{words}").expect("it listens");
        let line = self.line();
        if let Some((address, pid)) = node(&line) {
            let index = self.addresses.iter().position(|known| *known == address).expect("one of them");
            self.pids[index] = pid;
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        drop(self.command.stdin.take());
        let _ = self.command.wait();
    }
}

/// `address=127.1.2.3:9042 pid=1 ...`
fn node(line: &str) -> Option<(String, i32)> {
    let word = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
    Some((word("address=")?.to_owned(), word("pid=")?.parse().ok()?))
}
