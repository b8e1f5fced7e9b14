//! The one node that all CQL suites of a test run share. It is held by this program run a second time, which ends it when
//! its stdin closes: however the test run ends, no node stays behind.

use std::net::SocketAddrV4;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::probe;
use crate::interrupt::INSIDE;
use crate::netns::this_program;
use crate::process::Running;

/// The node's own limit and some room: the jars are there already.
const START: Duration = Duration::from_secs(200);

/// The holder gives the node its grace, kills it and removes its data.
const END: Duration = Duration::from_secs(20);

/// A node that answers CQL while this value lives.
pub struct Shared {
    holder: Running,
    line: String,
    address: SocketAddrV4,
    pid: u32,
}

impl Shared {
    /// Starts one node and waits until it answers.
    pub fn start() -> Result<Self> {
        let name = format!("test-{}", std::process::id());
        let mut command = Command::new(this_program());
        command.args(["cassandra", "start", "--attached", "--no-install", "--name", &name]);
        let mut holder = Running::spawn_tied("Cassandra", command.env(INSIDE, "1"))?;
        let line = holder.wait_for_line(START, |line| line.starts_with("address="))?;
        let (address, pid) = (field(&line, "address=")?, field(&line, "pid=")?);
        Ok(Self { holder, line, address, pid })
    }

    /// Where it listens, `127.x.y.1:9042`.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Address, pid, seconds to ready, memory.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The node's own process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills it, as a crash does.
    pub fn kill(&mut self) -> Result<()> {
        self.holder.tell("kill 1")?;
        self.holder.wait_for_line(END, |line| line == "killed 1").map(drop)
    }

    /// Starts it again after [`Shared::kill`], on its data, and waits until it answers.
    pub fn start_again(&mut self) -> Result<()> {
        self.holder.tell("start 1")?;
        self.line = self.holder.wait_for_line(START, |line| line.starts_with("address="))?;
        self.pid = field(&self.line, "pid=")?;
        Ok(())
    }

    /// Whether it still answers: a suite may have brought it down.
    pub fn lives(&self) -> bool {
        probe::answers(self.address)
    }
}

/// A field of a node's line.
fn field<T: std::str::FromStr>(line: &str, name: &str) -> Result<T> {
    let word = line.split(' ').find_map(|word| word.strip_prefix(name));
    word.and_then(|word| word.parse().ok()).with_context(|| format!("no {name} in: {line}"))
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Err(error) = self.holder.untie(END) {
            println!("{error:#}");
        }
    }
}
