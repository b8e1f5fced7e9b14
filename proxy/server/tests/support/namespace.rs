//! A private network namespace for what uses up ports or needs other limits of the kernel: the machine's own are never
//! touched. A test runs itself again inside; with it a process namespace, so that whatever it starts ends with it.

use super::process::run;
use super::{skip, which};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Set inside; says how it was entered.
const INSIDE: &str = "WEIR_TEST_NAMESPACE";
/// Longest run of one test inside.
const LIMIT: Duration = Duration::from_secs(60);

/// Whether this process is inside a namespace of ours.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// What [`enter`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// This is the private namespace: test.
    Inside,
    /// The test ran, and passed, in a namespace of its own: nothing is left to do.
    Done,
    /// No namespace is to be had here (said aloud).
    Outside,
}

/// Runs the test of this name again in a fresh namespace, with the kernel's settings changed there (names below
/// `/proc/sys`); fails when that fails.
#[track_caller]
pub fn enter(test: &str, settings: &[(&str, &str)]) -> Place {
    if is_inside() {
        for (name, value) in settings {
            let path = Path::new("/proc/sys").join(name);
            std::fs::write(&path, value).unwrap_or_else(|error| panic!("{name} cannot be {value}: {error}"));
        }
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.is_ok_and(|status| status.success()), "loopback does not come up");
        return Place::Inside;
    }
    let Some(how) = find() else { return Place::Outside };
    let mut command = unshare(how);
    command.arg(std::env::current_exe().expect("this program"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(INSIDE, how);
    let done = run(&mut command, None, LIMIT).expect_success(test);
    assert!(done.stdout.contains("1 passed"), "{test} was not run inside:\n{}", done.stdout);
    // What it measured, and what it skipped; not the harness's own lines, which would be counted twice.
    let prefix = format!("test {test} ... ");
    let lines = done.stdout.lines().map(|line| line.strip_prefix(&prefix).unwrap_or(line));
    lines
        .filter(|line| line.contains(": ") && !line.starts_with("test result"))
        .for_each(|line| println!("{line}"));
    Place::Done
}

fn unshare(how: &str) -> Command {
    let mut command = Command::new("unshare");
    if how == "user" {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command
}

/// As root directly, otherwise inside a user namespace where the kernel allows one.
fn find() -> Option<&'static str> {
    for program in ["unshare", "ip"] {
        if which(program).is_none() {
            skip(
                "private network namespace",
                &format!("there is no {program} (Debian: util-linux, iproute2)"),
            );
            return None;
        }
    }
    let how = if rustix::process::geteuid().is_root() { "root" } else { "user" };
    let tried = run(unshare(how).arg("true"), None, Duration::from_secs(10));
    if !tried.status.success() {
        skip("private network namespace", tried.stderr.trim());
        return None;
    }
    Some(how)
}
