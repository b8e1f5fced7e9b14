//! One Cassandra node on a loopback address: its folder, its virtual machine, its readiness and its end. A node ends by its
//! own pid and only when that process still is this node. Bounds: ready within [`START_LIMIT`], drained within
//! [`DRAIN_LIMIT`].

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::jars::Kit;
use super::probe;
use crate::proc;
use crate::process::Running;

const YAML: &str = include_str!("../../cassandra/cassandra.yaml");
const JVM_OPTIONS: &str = include_str!("../../cassandra/jvm.options");
const LOGBACK: &str = include_str!("../../cassandra/logback.xml");

/// The port between nodes; each node has an address of its own, so all have the same.
pub const STORAGE_PORT: u16 = 7000;

/// 9 s on an idle machine, 29 s for a ring's node beside two others on a busy one.
const START_LIMIT: Duration = Duration::from_secs(180);

/// A drain takes 4 to 7 s.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// For nodes that do little once they are there: only the first of Java's compilers. Ready after 4.8 s of processor time
/// instead of 7.9.
const READY_SOON: &str = "-XX:TieredStopAtLevel=1";

/// Lines of the log that are shown when a node does not start.
const LOG_TAIL: usize = 20;

/// Which node, where, and how large.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its folder: configuration, data, log, pid. No white space (the server reads its configuration by a URL).
    pub folder: PathBuf,
    /// Where it listens for CQL.
    pub address: SocketAddrV4,
    /// The first node of its ring; itself when it is alone.
    pub seed: Ipv4Addr,
    /// Heap, MiB. The process takes 350 to 550 MiB more.
    pub heap_mib: u32,
    /// Ready soon rather than fast later ([`READY_SOON`]).
    pub ready_soon: bool,
    /// More lines of its configuration.
    pub settings: String,
}

/// A node that answers.
pub struct Node {
    running: Running,
    plan: Plan,
    ready_after: Duration,
}

impl Node {
    /// Starts it on whatever data its folder holds and waits until CQL answers.
    pub fn start(kit: &Kit, plan: &Plan) -> Result<Self> {
        let folder = &plan.folder;
        if folder.to_string_lossy().contains(char::is_whitespace) {
            bail!("Cassandra cannot work below a folder with white space in its name: {}", folder.display());
        }
        std::fs::create_dir_all(folder.join("conf"))
            .with_context(|| format!("cannot make {}", folder.display()))?;
        std::fs::write(folder.join("conf/cassandra.yaml"), yaml(plan))?;
        std::fs::write(folder.join("conf/logback.xml"), LOGBACK)?;
        std::fs::write(folder.join("address"), plan.address.to_string())?;
        let log = folder.join("out.log");
        let begun = Instant::now();
        let mut running = Running::spawn_to_file("Cassandra", &mut command(kit, plan), &log)?;
        std::fs::write(folder.join("pid"), running.pid().to_string())?;
        while !probe::answers(plan.address) {
            if let Some(status) = running.poll()? {
                bail!("Cassandra ended ({status}) before it was ready\n{}", tail(&log));
            }
            if begun.elapsed() > START_LIMIT {
                bail!("Cassandra did not answer within {START_LIMIT:?}\n{}", tail(&log));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(Self { running, plan: plan.clone(), ready_after: begun.elapsed() })
    }

    /// Ends it at once, without a drain, as a crash does.
    pub fn kill(mut self) -> Result<()> {
        self.running.kill()
    }

    /// Leaves it running when this program ends.
    pub fn release(self) {
        self.running.release();
    }
}

/// `address=127.3.1.1:9042 pid=77 ready_s=9.8 rss_mb=612 folder=...`
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pid = self.running.pid();
        let rss = proc::memory(pid).map_or(0, |memory| memory.resident / 1024);
        let (address, ready) = (self.plan.address, self.ready_after.as_secs_f64());
        write!(f, "address={address} pid={pid} ready_s={ready:.1} rss_mb={rss} ")?;
        write!(f, "folder={}", self.plan.folder.display())
    }
}

/// A node of an earlier command that still runs, by its folder.
pub fn pid_of(folder: &Path) -> Option<u32> {
    let pid = std::fs::read_to_string(folder.join("pid")).ok()?.trim().parse().ok()?;
    is_node(pid, folder).then_some(pid)
}

/// Where the node of this folder was last.
pub fn address_of(folder: &Path) -> Option<SocketAddrV4> {
    std::fs::read_to_string(folder.join("address")).ok()?.trim().parse().ok()
}

/// Ends the node of a folder: a drain, and when that takes too long a kill. The time it took; `None` when none runs.
pub fn stop(folder: &Path) -> Result<Option<(u32, Duration)>> {
    let Some(number) = pid_of(folder) else { return Ok(None) };
    let pid = i32::try_from(number).ok().and_then(Pid::from_raw).context("a pid that is none")?;
    let begun = Instant::now();
    kill_process(pid, Signal::TERM).with_context(|| format!("cannot end {number}"))?;
    while is_node(number, folder) || is_ending(number) {
        if begun.elapsed() > DRAIN_LIMIT {
            println!("pid {number} did not drain within {DRAIN_LIMIT:?} and is killed");
            kill_process(pid, Signal::KILL).with_context(|| format!("cannot kill {number}"))?;
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(Some((number, begun.elapsed())))
}

/// Whether nothing listens there: a node could be started.
pub fn is_free(address: Ipv4Addr, port: u16) -> bool {
    [port, STORAGE_PORT].iter().all(|port| TcpListener::bind((address, *port)).is_ok())
}

/// Pids are used again: only a process that was started with this very folder is the node.
fn is_node(pid: u32, folder: &Path) -> bool {
    let wanted = storage(folder);
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    line.split(|byte| *byte == 0).any(|argument| argument == wanted.as_bytes())
}

/// Whether a process has given its memory back, and with that its command line, and is not over yet: its sockets may still
/// be open.
fn is_ending(pid: u32) -> bool {
    let file = |name: &str| std::fs::read(format!("/proc/{pid}/{name}"));
    let (Ok(line), Ok(stat)) = (file("cmdline"), file("stat")) else { return false };
    let state = stat.iter().rposition(|byte| *byte == b')').and_then(|at| stat.get(at + 2));
    line.is_empty() && !matches!(state, None | Some(b'Z' | b'X'))
}

fn storage(folder: &Path) -> String {
    format!("-Dcassandra.storagedir={}", folder.display())
}

fn yaml(plan: &Plan) -> String {
    YAML.replace("@DATA@", &plan.folder.to_string_lossy())
        .replace("@ADDRESS@", &plan.address.ip().to_string())
        .replace("@PORT@", &plan.address.port().to_string())
        .replace("@STORAGE_PORT@", &STORAGE_PORT.to_string())
        .replace("@SEED@", &plan.seed.to_string())
        + &plan.settings
}

fn command(kit: &Kit, plan: &Plan) -> Command {
    let folder = plan.folder.display();
    let mut command = Command::new(&kit.java);
    command.current_dir(&plan.folder).arg(format!("-javaagent:{}", kit.jamm.display()));
    command.args(JVM_OPTIONS.lines().filter(|line| line.starts_with('-')));
    if plan.ready_soon {
        command.arg(READY_SOON);
    }
    let heap = plan.heap_mib;
    command.args([format!("-Xms{heap}m"), format!("-Xmx{heap}m"), "-XX:MaxDirectMemorySize=256m".to_owned()]);
    command.arg(format!("-Dcassandra.config=file://{folder}/conf/cassandra.yaml"));
    command.arg(storage(&plan.folder)).arg(format!("-Dcassandra.logdir={folder}"));
    command.arg(format!("-Dlogback.configurationFile={folder}/conf/logback.xml"));
    command.args([format!("-Djna.tmpdir={folder}"), format!("-Djava.io.tmpdir={folder}")]);
    command
        .args(["-Dcassandra-foreground=yes", "-cp"])
        .arg(format!("{folder}/conf:{}/*", kit.jars.display()));
    command.arg("org.apache.cassandra.service.CassandraDaemon");
    command
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last: Vec<String> = lines
        .iter()
        .skip(lines.len().saturating_sub(LOG_TAIL))
        .map(|line| format!("    | {line}\n"))
        .collect();
    format!("{}    log: {}", last.concat(), log.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            folder: "/x/n2".into(),
            address: SocketAddrV4::new(Ipv4Addr::new(127, 3, 4, 2), 9042),
            seed: Ipv4Addr::new(127, 3, 4, 1),
            heap_mib: 256,
            ready_soon: false,
            settings: "authenticator: x\n".to_owned(),
        }
    }

    #[test]
    fn every_blank_of_the_configuration_is_filled_in() {
        let yaml = yaml(&plan());
        assert!(yaml.lines().filter(|line| !line.starts_with('#')).all(|line| !line.contains('@')), "{yaml}");
        assert!(yaml.contains("\nrpc_address: 127.3.4.2\n") && yaml.contains("\"127.3.4.1:7000\""));
        assert!(yaml.contains("\nnative_transport_port: 9042\n") && yaml.contains("\"/x/n2/data\""));
        assert!(yaml.ends_with("\nauthenticator: x\n"));
    }

    #[test]
    fn a_process_is_a_node_only_of_its_own_folder() {
        let own = std::process::id();
        assert!(!is_node(own, Path::new("/x/n2")));
        let folder = std::env::temp_dir().join(format!("weir-xtask-node-{own}"));
        let _removed = crate::interrupt::Temporary::promise(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("pid"), own.to_string()).unwrap();
        assert_eq!(pid_of(&folder), None, "the pid file names a process that is no node");
        let mut command = Command::new("sh");
        let script = "sleep 30; true"; // Not one command: the shell would become it and lose its arguments.
        let mut shell = Running::spawn("sh", command.args(["-c", script, "sh", &storage(&folder)])).unwrap();
        std::fs::write(folder.join("pid"), shell.pid().to_string()).unwrap();
        // Its arguments can be read a moment after it was started.
        let until = Instant::now() + Duration::from_secs(10);
        while pid_of(&folder).is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(pid_of(&folder), Some(shell.pid()));
        shell.stop();
        assert_eq!(pid_of(&folder), None);
    }
}
