//! A private network namespace for what uses up ports: the machine's own port range is never touched. A part of a
//! command runs itself again inside the namespace; as root directly, otherwise inside a user namespace where the kernel
//! allows one. Where neither may be had, the reason is told and the part is skipped.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::interrupt::INSIDE;
use crate::process::{self, Running};
use crate::workspace::{is_root, which};

/// Local ports inside: few, so that running out takes a second instead of a minute.
pub const FIRST_PORT: u16 = 20_000;
/// The last local port inside.
pub const LAST_PORT: u16 = 21_999;

/// How a namespace is entered here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Isolation {
    /// `unshare --net`, as root.
    Root,
    /// `unshare --user --map-root-user --net`, as anybody.
    User,
}

impl Isolation {
    /// What works on this machine; the error says why nothing does.
    pub fn find() -> Result<Self> {
        for program in ["unshare", "ip"] {
            if which(program).is_none() {
                bail!("there is no `{program}` on this system (Debian: util-linux, iproute2)");
            }
        }
        let wanted = if is_root() { Self::Root } else { Self::User };
        // What [`set_up`] will do, tried: a container may allow the namespace and forbid its settings.
        let probe = "ip link set lo up && echo 0 > /proc/sys/net/ipv4/tcp_tw_reuse";
        let done = process::run("unshare", wanted.wrap("sh").args(["-c", probe]), Duration::from_secs(10))?;
        if !done.status.success() {
            bail!("a private network namespace is refused: {}", done.stderr.trim());
        }
        Ok(wanted)
    }

    /// A command that joins the namespaces of a process from outside, as somebody types it.
    pub fn join(self, pid: u32) -> String {
        match self {
            Self::Root => format!("nsenter --net --target {pid}"),
            Self::User => format!("nsenter --user --preserve-credentials --net --target {pid}"),
        }
    }

    /// A command that runs `program` (with arguments added by the caller) inside a fresh namespace.
    pub fn command(self, program: &Path) -> Command {
        self.wrap(&program.to_string_lossy())
    }

    fn wrap(self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        match self {
            Self::Root => command.arg("--net"),
            Self::User => command.args(["--user", "--map-root-user", "--net"]),
        };
        command.arg("--").arg(program);
        command
    }
}

/// Inside a fresh namespace: brings loopback up, narrows the port range to few ports and forbids that waiting ports are used
/// again, which on loopback is the kernel's default and on a network between two hosts is not.
pub fn set_up() -> Result<()> {
    set_up_with_ports(FIRST_PORT, LAST_PORT)
}

/// The same with these local ports.
pub fn set_up_with_ports(first: u16, last: u16) -> Result<()> {
    let up =
        process::run("ip", Command::new("ip").args(["link", "set", "lo", "up"]), Duration::from_secs(10))?;
    if !up.status.success() {
        bail!("loopback does not come up: {}", up.stderr.trim());
    }
    set("net/ipv4/ip_local_port_range", &format!("{first} {last}"))?;
    set("net/ipv4/tcp_tw_reuse", "0")?;
    set("net/core/somaxconn", "16384")
}

/// Inside a fresh namespace: an address of a server outside becomes one of this namespace's own, for a relay to listen at. Those
/// of loopback all are.
pub fn take_address(address: Ipv4Addr) -> Result<()> {
    if address.is_loopback() {
        return Ok(());
    }
    let address = format!("{address}/32");
    let mut command = Command::new("ip");
    command.args(["address", "add", &address, "dev", "lo"]);
    let added = process::run("ip", &mut command, Duration::from_secs(10))?;
    if !added.status.success() {
        bail!("the namespace does not take the address {address}: {}", added.stderr.trim());
    }
    Ok(())
}

fn set(key: &str, value: &str) -> Result<()> {
    std::fs::write(format!("/proc/sys/{key}"), value).with_context(|| format!("cannot set {key} to {value}"))
}

/// This very program, also when cargo has put a newer one in its place meanwhile.
pub fn this_program() -> PathBuf {
    PathBuf::from(format!("/proc/{}/exe", std::process::id()))
}

/// Runs this very program again inside a fresh namespace, with these arguments and its output on ours.
pub fn run_self(isolation: Isolation, arguments: &[String], limit: Duration) -> Result<()> {
    // By descriptor: inside a new user namespace `/proc/PID/exe` of a process outside may not be followed. `dup` leaves
    // out close-on-exec, so that the child inherits it.
    let program = File::open("/proc/self/exe").context("this program's own file cannot be opened")?;
    let program = rustix::io::dup(&program)?;
    let path = format!("/proc/self/fd/{}", program.as_raw_fd());
    let mut command = isolation.command(Path::new(&path));
    let mut running = Running::spawn_inherited("namespace", command.args(arguments).env(INSIDE, "1"))?;
    drop(program);
    let status = running.wait(limit)?;
    if !status.success() {
        bail!("the part inside the namespace failed ({status})");
    }
    Ok(())
}
