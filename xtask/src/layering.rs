//! The arrows of docs/architecture.md, checked by machine: which crate may not reach which, whatever is in between.
//! Only what ends up in the product counts; what a crate's tests use does not.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::process;
use crate::suites::Verdict;
use crate::workspace::Workspace;

/// I/O, clocks and randomness: what a crate that decides or decodes may not reach. `*` ends a prefix.
const IMPURE: &[&str] = &[
    "tokio",
    "mio",
    "hyper",
    "hyper-util",
    "pingora*",
    "async-std",
    "smol",
    "socket2",
    "rustix",
    "rand",
    "rand_core",
    "getrandom",
    "fastrand",
    "chrono",
    "time",
];

/// What one crate may not reach.
struct Rule {
    package: &'static str,
    never: &'static [&'static [&'static str]],
    /// The crates of this workspace that it may reach; every other is an arrow that points up or sideways.
    may_reach: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule { package: "weir-memcached", never: &[IMPURE, &["prometheus-client"]], may_reach: &[] },
    Rule { package: "weir-cql", never: &[IMPURE, &["prometheus-client"]], may_reach: &[] },
    Rule { package: "weir-rpc", never: &[IMPURE, &["prometheus-client"]], may_reach: &[] },
    Rule {
        package: "weir-engine",
        never: &[IMPURE, &["prometheus-client"]],
        may_reach: &["weir-cql", "weir-memcached"],
    },
    // The only crate of the product that names pingora. Nothing of the metrics: it counts, and its owner reads.
    Rule {
        package: "weir-edge",
        never: &[&["prometheus*", "scylla*"]],
        may_reach: &["weir-cql", "weir-engine", "weir-memcached"],
    },
    Rule { package: "weir-telemetry", never: &[&["tokio", "mio", "hyper", "pingora*"]], may_reach: &[] },
    // Asks the kernel by system calls, and waits by itself: whoever uses it brings the thread.
    Rule {
        package: "weir-sock-diag",
        never: &[&["tokio", "mio", "hyper", "pingora*", "aya*", "prometheus-client"]],
        may_reach: &[],
    },
    // The records are used in the kernel: they reach nothing. The observer holds BPF rights and never parses traffic.
    Rule { package: "weir-probes-abi", never: &[IMPURE, &["aya*", "prometheus-client"]], may_reach: &[] },
    // What weir and weir-probes say to each other: all that the two may share besides telemetry.
    Rule { package: "weir-attribution", never: &[IMPURE, &["prometheus-client"]], may_reach: &[] },
    Rule {
        package: "weir-probes",
        never: &[&["pingora*", "scylla*"]],
        may_reach: &["weir-attribution", "weir-probes-abi", "weir-sock-diag", "weir-telemetry"],
    },
    // A service like any other: it knows weir by its addresses only.
    Rule { package: "weir-dataplane", never: &[&["pingora*"]], may_reach: &[] },
    Rule {
        package: "weir-devstore",
        never: &[&["hyper", "pingora*"]],
        may_reach: &["weir-cql", "weir-memcached"],
    },
    // The scenarios judge weir from outside: sharing code with it would share its mistakes. The CQL load measures on the
    // codec (a driver would blur what a proxy costs), whose judges are the crates that its own tests compare it with.
    Rule { package: "weir-scenario", never: &[&["pingora*"]], may_reach: &["weir-cql"] },
    // A bare pingora to compare weir with: it must not be weir.
    Rule { package: "weir-passthrough", never: &[&["prometheus-client"]], may_reach: &[] },
    Rule { package: "xtask", never: &[&["tokio", "pingora*"]], may_reach: &[] },
];

/// Crates whose own `clippy.toml` must ban calls, with calls that must be in the list.
const BANS: &[(&str, &[&str])] = &[
    ("proxy/engine", &["std::time::Instant::now", "std::time::SystemTime::now", "std::thread::spawn"]),
    ("proxy/memcached", &["std::time::Instant::now", "std::time::SystemTime::now", "std::thread::spawn"]),
    ("proxy/cql", &["std::time::Instant::now", "std::time::SystemTime::now", "std::thread::spawn"]),
    ("proxy/rpc", &["std::time::Instant::now", "std::time::SystemTime::now", "std::thread::spawn"]),
];

/// Checks every rule.
pub fn verdict(workspace: &Workspace) -> Result<Verdict> {
    let mut problems = Vec::new();
    for rule in RULES {
        let reached = reached_by(workspace, rule.package)?;
        println!("{}: reaches {} crates", rule.package, reached.len());
        for name in forbidden(rule, &reached) {
            problems.push(format!(
                "{} reaches {name}; see: cargo tree -p {} --edges normal,build -i {name}",
                rule.package, rule.package
            ));
        }
    }
    problems.extend(missing_bans(workspace));
    if problems.is_empty() {
        return Ok(Verdict::Passed(format!("{} crates reach only what they may", RULES.len())));
    }
    Ok(Verdict::Failed(format!("{} broken\n  {}", problems.len(), problems.join("\n  "))))
}

/// Every crate that ends up in a build of `package`.
fn reached_by(workspace: &Workspace, package: &str) -> Result<BTreeSet<String>> {
    let mut command = workspace.cargo();
    command.args(["tree", "-p", package, "--edges", "normal,build", "--target", "all"]);
    command.args(["--prefix", "none", "--format", "{p}"]);
    let done = process::run("cargo tree", &mut command, Duration::from_secs(120))?;
    if !done.status.success() {
        bail!("cargo tree -p {package} failed:\n{}", done.stderr);
    }
    // The tree begins with the package itself; an empty one would let every rule pass.
    if !done.stdout.starts_with(package) {
        bail!("cargo tree -p {package} printed no tree:\n{}{}", done.stdout, done.stderr);
    }
    Ok(parse_tree(&done.stdout, package))
}

/// `name v1.2.3 (path) (*)`: the first word of each line.
fn parse_tree(text: &str, package: &str) -> BTreeSet<String> {
    let names = text.lines().filter_map(|line| line.split_ascii_whitespace().next());
    names.filter(|name| *name != package).map(str::to_owned).collect()
}

fn forbidden<'a>(rule: &Rule, reached: &'a BTreeSet<String>) -> Vec<&'a str> {
    let banned = |name: &str| {
        rule.never.iter().flat_map(|list| list.iter()).any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == *pattern,
        })
    };
    let ours = |name: &str| name == "weir" || name == "xtask" || name.starts_with("weir-");
    reached
        .iter()
        .map(String::as_str)
        .filter(|name| banned(name) || (ours(name) && !rule.may_reach.contains(name)))
        .collect()
}

/// Clippy reads only the nearest `clippy.toml`, so a crate's own file must repeat what the root's bans.
fn missing_bans(workspace: &Workspace) -> Vec<String> {
    let root =
        banned_paths(&std::fs::read_to_string(workspace.root().join("clippy.toml")).unwrap_or_default());
    let mut problems = Vec::new();
    if root.is_empty() {
        problems.push("clippy.toml at the root bans nothing".to_owned());
    }
    for (folder, wanted) in BANS {
        let file = format!("{folder}/clippy.toml");
        let Ok(text) = std::fs::read_to_string(workspace.root().join(&file)) else {
            problems.push(format!("{file} does not exist: it keeps the clock and threads out of the crate"));
            continue;
        };
        let banned = banned_paths(&text);
        let must = wanted.iter().map(|path| (*path).to_owned()).chain(root.iter().cloned());
        for path in must.filter(|path| !banned.contains(path)) {
            problems.push(format!("{file} does not ban {path}"));
        }
    }
    problems
}

/// The values of `path = "..."` in a `clippy.toml`.
fn banned_paths(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let values = lines.flat_map(|line| line.split("path = \"").skip(1));
    values.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINE: Rule = Rule { package: "weir-engine", never: &[IMPURE], may_reach: &["weir-memcached"] };

    #[test]
    fn a_tree_is_read_by_its_first_words() {
        let tree = "weir-engine v0.1.0 (/x/proxy/engine)\nslab v0.4.11\nweir-memcached v0.1.0 (/x)\nslab v0.4.11 (*)\n";
        let reached = parse_tree(tree, "weir-engine");
        assert_eq!(reached.iter().map(String::as_str).collect::<Vec<_>>(), ["slab", "weir-memcached"]);
        assert!(forbidden(&ENGINE, &reached).is_empty());
    }

    #[test]
    fn io_and_upward_arrows_are_found() {
        let reached = ["pingora-core", "slab", "tokio", "weir", "weir-telemetry"].map(str::to_owned).into();
        assert_eq!(forbidden(&ENGINE, &reached), ["pingora-core", "tokio", "weir", "weir-telemetry"]);
    }

    #[test]
    fn bans_are_read_and_comments_are_not() {
        let text = "disallowed-methods = [\n  { path = \"std::thread::spawn\", reason = \"x\" },\n  # { path = \"a::b\" }\n]";
        assert_eq!(banned_paths(text).into_iter().collect::<Vec<_>>(), ["std::thread::spawn"]);
    }
}
