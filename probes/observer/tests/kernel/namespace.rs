//! A private network namespace: a test runs itself again inside, as root. The process namespace stays: the programs know
//! processes by their first one's numbers. Where that, or BPF, is not to be had the test is skipped, and says so.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

/// Set inside.
const INSIDE: &str = "WEIR_TEST_NETWORK_NAMESPACE";

/// Whether this process is inside a namespace of ours.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// What [`enter`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// This is the private namespace: test.
    Inside,
    /// The test ran, and passed, in a namespace of its own, or was skipped aloud: nothing is left to do.
    Done,
}

/// Runs the test of this name again in a fresh network namespace, with the kernel's settings changed there (names below
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
    if !rustix::process::geteuid().is_root() {
        return skip(test, "only root may load programs into the kernel");
    }
    match Command::new("unshare").args(["--net", "--", "ip", "link", "set", "lo", "up"]).output() {
        Err(error) => {
            return skip(test, &format!("there is no unshare or ip (util-linux, iproute2): {error}"));
        }
        Ok(tried) if !tried.status.success() => {
            let said = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
            return skip(test, &format!("a private network namespace is refused: {said}"));
        }
        Ok(_) => {}
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--"]).arg(std::env::current_exe().expect("this program"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    let done = command.output().expect("unshare");
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && out.contains("1 passed"), "{test} failed inside:\n{out}\n{err}");
    // What it skipped or measured; not the harness's own lines, which would be counted twice.
    for line in out.lines() {
        let said = ["SKIPPED:", "measured:"].iter().find_map(|mark| line.find(mark));
        if let Some(start) = said {
            println!("{}", &line[start..]);
        }
    }
    Place::Done
}

/// Says that a test did not run.
pub fn skip(test: &str, reason: &str) -> Place {
    println!("SKIPPED: {test}: {reason}");
    Place::Done
}

/// A loopback address that no other test uses: the programs see every network namespace of the machine, and an address
/// means the same in each.
pub fn own_address() -> Ipv4Addr {
    let [_, higher, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + (higher & 0x3f), high, low)
}
