//! Real servers for the demo and the benchmarks, on loopback only: memcached (or `weir-devstore` where there is none),
//! nutcracker as the peer to compare with, and weir. Each is ended when its value is dropped.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::interrupt::Temporary;
use crate::process::Running;
use crate::workspace::{Profile, Workspace, is_root, which};

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(10);

/// A door: where a server listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Door {
    /// A port on 127.0.0.1.
    Tcp(u16),
    /// An address and a port.
    At(SocketAddrV4),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Door {
    /// A free port, as the kernel gives one.
    pub fn free_port() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on loopback")?;
        Ok(Self::Tcp(listener.local_addr()?.port()))
    }

    /// The port; 0 for a Unix socket.
    pub fn port(&self) -> u16 {
        match self {
            Self::Tcp(port) => *port,
            Self::At(address) => address.port(),
            Self::Unix(_) => 0,
        }
    }

    fn is_open(&self) -> bool {
        match self {
            Self::Tcp(port) => Self::At(SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port)).is_open(),
            Self::At(address) => {
                TcpStream::connect_timeout(&SocketAddr::V4(*address), Duration::from_millis(200)).is_ok()
            }
            Self::Unix(path) => UnixStream::connect(path).is_ok(),
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "127.0.0.1:{port}"),
            Self::At(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A server that runs.
pub struct Server {
    running: Running,
    /// Where it listens.
    pub door: Door,
}

impl Server {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Ends it and waits.
    pub fn stop(mut self) {
        self.running.stop();
    }

    /// Starts a foreign program that will listen at `door`, its output in a file, and waits until it accepts.
    pub fn start_foreign(
        workspace: &Workspace,
        name: &str,
        command: &mut Command,
        door: Door,
    ) -> Result<Self> {
        let log = workspace.scratch("logs")?.join(format!("{name}-{}.log", door.port()));
        Self::listening(Running::spawn_to_file(name, command, &log)?, door, &log)
    }

    /// Waits until the server of a foreign program accepts: it says nothing when it does.
    fn listening(mut running: Running, door: Door, log: &Path) -> Result<Self> {
        let deadline = Instant::now() + START;
        while !door.is_open() {
            if let Some(status) = running.poll()? {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                bail!("the server for {door} ended ({status}):\n{said}");
            }
            if Instant::now() > deadline {
                bail!("nothing listens on {door} after {START:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { running, door })
    }
}

/// The real memcached; `None` when it is not installed.
pub fn memcached(workspace: &Workspace, door: Door) -> Result<Option<Server>> {
    let Some(program) = which("memcached") else { return Ok(None) };
    let log = workspace.scratch("logs")?.join(format!("memcached-{}.log", door.port()));
    let mut command = Command::new(program);
    command.args(["-t", "2", "-m", "1024", "-c", "20000", "-b", "16384", "-U", "0"]);
    if is_root() {
        // It refuses to run as root unless told so; it serves loopback and ends with us.
        command.args(["-u", "root"]);
    }
    match &door {
        Door::Tcp(port) => command.args(["-l", "127.0.0.1", "-p", &port.to_string()]),
        Door::At(at) => command.args(["-l", &at.ip().to_string(), "-p", &at.port().to_string()]),
        Door::Unix(path) => command.arg("-s").arg(path).args(["-a", "0700"]),
    };
    let running = Running::spawn_to_file("memcached", &mut command, &log)?;
    Server::listening(running, door, &log).map(Some)
}

/// The embedded memcached of this repository.
pub fn devstore(workspace: &Workspace, door: Door) -> Result<Server> {
    let log = workspace.scratch("logs")?.join(format!("devstore-{}.log", door.port()));
    let mut command = Command::new(workspace.binary(Profile::Release, "weir-devstore")?);
    command.args(["--listen", &door.to_string()]);
    let running = Running::spawn_to_file("weir-devstore", &mut command, &log)?;
    Server::listening(running, door, &log)
}

/// twemproxy, Debian's `nutcracker`; `None` when it is not installed.
pub fn nutcracker(workspace: &Workspace, server: &Door) -> Result<Option<Server>> {
    let Some(program) = which("nutcracker") else { return Ok(None) };
    let (door, stats) = (Door::free_port()?, Door::free_port()?);
    let folder = workspace.scratch("logs")?;
    let config = folder.join("nutcracker.yml");
    std::fs::write(&config, nutcracker_config(&door, server))?;
    let log = folder.join("nutcracker.log");
    let mut command = Command::new(program);
    command.args(["-a", "127.0.0.1", "-s", &stats.port().to_string(), "-c"]).arg(&config);
    let running = Running::spawn_to_file("nutcracker", &mut command, &log)?;
    Server::listening(running, door, &log).map(Some)
}

/// The same with its CQL store beside it at `cql`, whose file is in the folder `data`.
pub fn devstore_with_cql(workspace: &Workspace, door: Door, cql: &Door, data: &Path) -> Result<Server> {
    let mut command = Command::new(workspace.binary(Profile::Release, "weir-devstore")?);
    command.args(["--listen", &door.to_string(), "--memory-mib", "256", "--connections", "60000"]);
    command.args(["--cql", &cql.to_string()]);
    // It listens for memcached when CQL is served.
    Server::start_foreign(workspace, "weir-devstore", command.arg("--data").arg(data), door)
}

/// `weir-scenario raw-proxy`: the least that a proxy in user space costs.
pub fn raw_proxy(workspace: &Workspace, door: Door, server: SocketAddrV4) -> Result<Server> {
    relay(workspace, "raw-proxy", door, &server.to_string())
}

/// The same as a way into a network namespace: a Unix socket is the same inside and outside. `server` is an address, or
/// `unix:/path`.
pub fn relay(workspace: &Workspace, name: &str, door: Door, server: &str) -> Result<Server> {
    let mut command = Command::new(workspace.binary(Profile::Release, "weir-scenario")?);
    command.args(["raw-proxy", "--listen", &door.to_string(), "--server", server]);
    Server::start_foreign(workspace, name, &mut command, door)
}

/// One connection per server, as weir has; a backlog that takes the burst.
fn nutcracker_config(door: &Door, server: &Door) -> String {
    format!(
        "bench:\n  listen: {door}\n  hash: fnv1a_64\n  distribution: ketama\n  preconnect: true\n  \
         server_connections: 1\n  backlog: 16384\n  servers:\n   - {server}:1\n"
    )
}

/// weir, as a reader starts it: no file, safe defaults.
pub struct Weir {
    /// The process and its door for clients.
    pub server: Server,
    /// Where its metrics are.
    pub metrics: Door,
    /// Its control socket.
    pub admin: PathBuf,
    program: PathBuf,
    _folder: PrivateFolder,
}

impl Weir {
    /// Starts `weir run` in front of `server` and waits for the line that ends in `ready`.
    pub fn start(workspace: &Workspace, name: &str, door: Door, server: &Door) -> Result<Self> {
        Self::start_route(workspace, name, door, "--memcached", &server.to_string())
    }

    /// Starts it in front of a node that speaks CQL.
    pub fn start_cql(workspace: &Workspace, name: &str, door: Door, node: SocketAddrV4) -> Result<Self> {
        Self::start_route(workspace, name, door, "--cql", &node.to_string())
    }

    /// Starts it with a configuration file, of which `door` is a listener.
    pub fn start_with_file(workspace: &Workspace, name: &str, door: Door, text: &str) -> Result<Self> {
        let file = workspace.scratch("logs")?.join(format!("weir-{name}.toml"));
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Self::start_flags(workspace, name, door, &["--config", &file.to_string_lossy()])
    }

    fn start_route(workspace: &Workspace, name: &str, door: Door, flag: &str, server: &str) -> Result<Self> {
        let route = format!("{door}={server}");
        Self::start_flags(workspace, name, door, &[flag, &route])
    }

    fn start_flags(workspace: &Workspace, name: &str, door: Door, flags: &[&str]) -> Result<Self> {
        let program = workspace.binary(Profile::Release, "weir")?;
        let metrics = Door::free_port()?;
        let folder = PrivateFolder::new(name)?;
        let admin = folder.file("admin.sock");
        let mut command = Command::new(&program);
        command.arg("run").args(flags);
        command
            .args(["--metrics", &metrics.to_string()])
            .arg("--admin")
            .arg(format!("unix:{}", admin.display()));
        let log = workspace.scratch("logs")?.join(format!("weir-{name}.log"));
        let mut running = Running::spawn_logging("weir", &mut command, &log)?;
        if let Err(error) = running.wait_for_line(START, |line| line.trim_end().ends_with("ready")) {
            bail!("{error:#}{}", std::fs::read_to_string(&log).unwrap_or_default());
        }
        Ok(Self { server: Server { running, door }, metrics, admin, program, _folder: folder })
    }

    /// One of weir's own commands, asked of this weir.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).env("WEIR_ADMIN", format!("unix:{}", self.admin.display()));
        command
    }
}

/// A folder that only this user enters, with a short path (Unix sockets take 107 bytes at most), gone when dropped.
pub struct PrivateFolder {
    path: PathBuf,
    _promise: Temporary,
}

impl PrivateFolder {
    /// Makes one; `name` tells it from others of this process.
    pub fn new(name: &str) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("weir-xtask-{}-{name}", std::process::id()));
        let promise = Temporary::promise(&path);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, _promise: promise })
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Room for as many open files as the system gives: children inherit it.
pub fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const WANTED: u64 = 65_536;
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    for maximum in [hard.max(WANTED), hard] {
        let wanted = Rlimit { current: Some(maximum.min(WANTED)), maximum: Some(maximum) };
        if setrlimit(Resource::Nofile, wanted).is_ok() {
            break;
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_are_written_as_weir_reads_them() {
        assert_eq!(Door::Tcp(11_211).to_string(), "127.0.0.1:11211");
        assert_eq!(Door::Unix("/run/x.sock".into()).to_string(), "unix:/run/x.sock");
        assert!(Door::free_port().unwrap().port() > 0);
    }

    #[test]
    fn nutcracker_is_told_one_connection_per_server() {
        let config = nutcracker_config(&Door::Tcp(1), &Door::Tcp(2));
        assert!(config.contains("listen: 127.0.0.1:1\n") && config.contains("   - 127.0.0.1:2:1\n"));
        assert!(config.contains("server_connections: 1\n") && config.contains("preconnect: true\n"));
    }
}
