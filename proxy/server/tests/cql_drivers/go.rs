//! Go programs of the driver tests, built for one of the two drivers.

use super::support::process::run;
use super::support::{skip, target, which};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The longest wait for a compiler or a download.
const BUILD_LIMIT: Duration = Duration::from_secs(120);

/// Builds a program for one of the two drivers; `None`, said aloud, where that cannot be.
pub fn build(program: &str, version: &str, module: &str) -> Option<PathBuf> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cql_drivers/go");
    let what = format!("{module} (Go)");
    let Some(go) = which("go") else {
        skip(&what, "go is not installed");
        return None;
    };
    let folder = target().join("e2e/cql_drivers").join(format!("{version}-{program}"));
    std::fs::create_dir_all(&folder).expect("a folder");
    for name in ["go.mod", "go.sum", "snappy.go"] {
        std::fs::copy(sources.join(version).join(name), folder.join(name)).expect("copied");
    }
    let text = std::fs::read_to_string(sources.join(program)).expect("the program");
    let text = text.replace("\"github.com/gocql/gocql\"", &format!("\"{module}\""));
    std::fs::write(folder.join("main.go"), text).expect("written");
    let go = |words: &[&str]| run(Command::new(&go).current_dir(&folder).args(words), None, BUILD_LIMIT);
    let fetched = go(&["mod", "download"]);
    if !fetched.status.success() {
        let why = fetched.stderr.lines().last().unwrap_or("no reason given");
        skip(&what, &format!("its modules cannot be had: {why}"));
        return None;
    }
    go(&["build", "-mod=readonly", "-buildvcs=false", "-o", "driver", "."]).expect_success("go build");
    Some(folder.join("driver"))
}
