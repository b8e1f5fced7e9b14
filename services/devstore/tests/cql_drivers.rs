//! The programs that try the Python and the Go driver on weir (proxy/server/tests/cql_drivers), on the store: everything
//! they do to a Cassandra works, the store is killed and started again in between, and they find their rows.
//!
//! `cargo xtask test` prepares the drivers; one that cannot be had is skipped aloud.

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{Devstore, Folder};

/// The longest run of a driver.
const LIMIT: Duration = Duration::from_secs(150);
/// What each does; it says `ok NAME` after each.
const CHECKS: [&str; 11] = [
    "connect",
    "ddl",
    "inserts",
    "in",
    "burst",
    "paging",
    "batch",
    "keyspaces",
    "schema change",
    "errors",
    "reconnect",
];

fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proxy/server/tests/cql_drivers")
}

fn target() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_weir-devstore"));
    binary.ancestors().nth(2).expect("target/profile/binary").to_owned()
}

/// Runs a driver against a store that is killed once it says `ready`.
fn check(name: &str, program: &Path, arguments: &[PathBuf], settings: &[&str]) {
    for setting in settings {
        let folder = Folder::new();
        let mut store = Devstore::start(&folder.0);
        let address = store.address;
        let mut command = Command::new(program);
        command.args(arguments).args(["127.0.0.1", &address.port().to_string(), &format!("drivers_{name}")]);
        command.args(setting.split(' ')).arg("reconnect").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut driver = command.spawn().expect("the driver starts");
        let mut errors = driver.stderr.take().expect("piped");
        let complaints = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = std::io::Read::read_to_string(&mut errors, &mut text);
            text
        });
        let begun = Instant::now();
        let pid = driver.id().to_string();
        let (ended, watched) = std::sync::mpsc::sync_channel::<()>(1);
        let watch = std::thread::spawn(move || {
            if watched.recv_timeout(LIMIT).is_err() {
                let _ = Command::new("kill").args(["-KILL", &pid]).status();
            }
        });
        let mut said = Vec::new();
        for line in BufReader::new(driver.stdout.take().expect("piped")).lines().map_while(Result::ok) {
            if line == "ready" {
                store.kill();
                store = Devstore::start_at(&folder.0, address);
            }
            said.push(line);
        }
        let _ = ended.send(());
        watch.join().expect("watched");
        let status = driver.wait().expect("it ends");
        let complaints = complaints.join().expect("read");
        let told = || {
            let last = said.iter().rev().take(12).rev().cloned().collect::<Vec<_>>().join("\n");
            let end: String = complaints
                .lines()
                .rev()
                .take(12)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect::<Vec<_>>()
                .join("\n");
            format!("{name} {setting} said:\n{last}\nand complained:\n{end}")
        };
        assert!(status.success(), "{status} after {:?}: {}", begun.elapsed(), told());
        assert_eq!(said.last().map(String::as_str), Some("done"), "{}", told());
        for check in CHECKS {
            let done = said
                .iter()
                .any(|line| *line == format!("ok {check}") || line.starts_with(&format!("ok {check}:")));
            assert!(done, "no {check}: {}", told());
        }
        let rows = said.iter().filter(|line| line.contains("rows=1000 ")).count();
        assert!(rows >= 1, "{}", told());
        println!("{name} {setting}: {:.1} s", begun.elapsed().as_secs_f64());
    }
}

#[test]
fn the_python_driver() {
    let named = std::env::var_os("WEIR_TEST_CQL_PYTHON").map(PathBuf::from);
    let installed = target().join("xtask/cql-python/bin/python3");
    let Some(python) = [named, Some(installed)].into_iter().flatten().find(|python| python.is_file()) else {
        println!("SKIPPED: cassandra-driver (Python) is not installed (cargo xtask test installs it)");
        return;
    };
    check("python", &python, &[programs().join("python/driver.py")], &["5 none", "4 none", "4 lz4", "5 lz4"]);
}

fn go(version: &str, module: &str, settings: &[&str]) {
    let folder = target().join("e2e/devstore").join(format!("go-{version}"));
    std::fs::create_dir_all(&folder).expect("a folder");
    let sources = programs().join("go");
    for name in ["go.mod", "go.sum", "snappy.go"] {
        std::fs::copy(sources.join(version).join(name), folder.join(name)).expect("copied");
    }
    let text = std::fs::read_to_string(sources.join("main.go")).expect("the program");
    let text = text.replace("\"github.com/gocql/gocql\"", &format!("\"{module}\""));
    std::fs::write(folder.join("main.go"), text).expect("written");
    let run = |words: &[&str]| Command::new("go").current_dir(&folder).args(words).output();
    match run(&["mod", "download"]) {
        Ok(done) if done.status.success() => {}
        _ => return println!("SKIPPED: {module}: go or its modules cannot be had"),
    }
    let built = run(&["build", "-mod=readonly", "-buildvcs=false", "-o", "driver", "."]).expect("go runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    check(&format!("go_{version}"), &folder.join("driver"), &[], settings);
}

#[test]
fn gocql_1() {
    go("v1", "github.com/gocql/gocql", &["4 none", "4 snappy"]);
}

#[test]
fn gocql_2() {
    go("v2", "github.com/apache/cassandra-gocql-driver/v2", &["5 none", "4 none"]);
}
