//! The Go client of the services weir was made for (`proxy/server/tests/clients/gomemcache`), built by the tests that run it.

use super::process::run;
use super::{skip, target, which};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The longest wait for a compiler or a download.
const LIMIT: Duration = Duration::from_secs(120);
/// The same from every package whose tests include this file.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proxy/server/tests/clients/gomemcache");

/// Where the program lies once it is built.
pub fn program() -> PathBuf {
    target().join("e2e/gomemcache")
}

/// Builds it; false, said aloud, where that cannot be.
pub fn build() -> bool {
    build_as(&program(), ".")
}

/// Builds a package of its module; false, said aloud, where that cannot be.
pub fn build_as(program: &Path, package: &str) -> bool {
    let Some(go) = which("go") else {
        skip("gomemcache", "go is not installed");
        return false;
    };
    let go = |words: &[&str]| run(Command::new(&go).current_dir(SOURCE).args(words), None, LIMIT);
    let fetched = go(&["mod", "download"]);
    if !fetched.status.success() {
        let why = fetched.stderr.lines().last().unwrap_or("no reason given").to_owned();
        skip("gomemcache", &format!("its module cannot be had: {why}"));
        return false;
    }
    let out = program.to_string_lossy().into_owned();
    go(&["build", "-mod=readonly", "-buildvcs=false", "-o", &out, package]).expect_success("go build");
    true
}
