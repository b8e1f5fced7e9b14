//! `cargo xtask test`: everything that decides whether the tree is good, in the order of cost, with the time of each.
//! Bounds: each cargo command ends within [`SUITE_LIMIT`] or has failed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cassandra::Shared;
use crate::install::{self, Tools};
use crate::process::{self, Stream};
use crate::suites::{Suites, Verdict};
use crate::workspace::{Profile, Workspace, which};
use crate::{bpf, fuzz, layering, tidy};

/// No suite may hang: past this it is ended and has failed. The first cargo suite pays for the build.
const SUITE_LIMIT: Duration = Duration::from_secs(20 * 60);

/// The package whose integration tests are the end-to-end suites.
const SERVER: &str = "weir";

/// Integration tests whose name begins so are told the address of a node that all of them share, in
/// `WEIR_TEST_CASSANDRA`; it is started when there is such a test.
const SHARED_CASSANDRA: &str = "cql";

/// The package whose tests of that kind run on weir-devstore as well: they run where there is no node, too.
const ON_DEVSTORE: &str = "weir-dataplane";

/// Integration tests whose name begins so start, kill and restart nodes of their own.
const OWN_CASSANDRA: &str = "cassandra";

/// What the command line chose.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// Install nothing; what is missing is skipped, and said.
    #[arg(long)]
    no_install: bool,
    /// The long suites too: more property cases, ignored tests, longer fuzzing.
    #[arg(long)]
    full: bool,
    /// Only the suites against a real Cassandra.
    #[arg(long)]
    cql: bool,
}

/// Runs every suite; the last line printed is the sum.
pub fn run(workspace: &Workspace, options: Options) -> Result<bool> {
    let tools = install::prepare(workspace, !options.no_install)?;
    let before = tracked_changes(workspace);
    let mut suites = Suites::new();

    if !options.cql {
        checks(workspace, &tools, &mut suites);
        suites.check("probes' object", || bpf::check(workspace, !options.no_install));
    }
    suites.check("build", || {
        loud(workspace.cargo().args(["build", "--workspace", "--bins"]), "every binary is built")
    });

    let command = |packages: &[&str], arguments: &[&str]| {
        let mut command = workspace.cargo();
        command.arg("test").args(packages).args(arguments).arg("--no-fail-fast");
        environment(&mut command, workspace, &tools, options);
        command
    };
    let harness: &[&str] =
        if options.full { &["--", "--show-output", "--include-ignored"] } else { &["--", "--show-output"] };
    // By package and name: two packages may each have a test of the same name.
    let of_package = |package: &str, tests: &[String]| {
        let names: Vec<&str> = tests.iter().flat_map(|test| ["--test", test.as_str()]).collect();
        let mut command = command(&["-p", package], &names);
        command.args(harness);
        command
    };
    let all = ["--workspace"];
    if !options.cql {
        let unit = vec![command(&all, &["--lib", "--bins"]), command(&all, &["--doc"])];
        suites.cargo("unit", unit, SUITE_LIMIT);
    }
    let mut targets = BTreeMap::new();
    suites.check("list of integration tests", || {
        targets = test_targets(workspace)?;
        Ok(Verdict::Passed(format!("{} packages have some", targets.len())))
    });
    let cql = take_cql(&mut targets);
    if options.cql {
        cql_suites(&mut suites, &cql, &tools, of_package);
        return Ok(suites.finish());
    }
    let libraries = targets.iter().filter(|(package, _)| package.as_str() != SERVER);
    let libraries = libraries.map(|(package, tests)| of_package(package, tests)).collect();
    suites.cargo("property and simulation", libraries, SUITE_LIMIT);
    for name in targets.get(SERVER).into_iter().flatten() {
        suites.cargo(
            &format!("{SERVER}: {name}"),
            vec![of_package(SERVER, std::slice::from_ref(name))],
            SUITE_LIMIT,
        );
    }
    cql_suites(&mut suites, &cql, &tools, of_package);
    fuzz::smoke(workspace, &mut suites, options.full)?;
    // Elsewhere somebody may be editing while the tests run.
    if std::env::var_os("CI").is_some() {
        suites.check("tree unchanged", || {
            let after = tracked_changes(workspace);
            if before == after {
                return Ok(Verdict::Passed("no suite changed a tracked file".into()));
            }
            Ok(Verdict::Failed(format!("a generated file is out of date; commit what changed:\n{after}")))
        });
    }
    Ok(suites.finish())
}

/// What is checked without running anything of ours.
fn checks(workspace: &Workspace, tools: &Tools, suites: &mut Suites) {
    suites.check("fmt", || {
        quiet(workspace.cargo().args(["fmt", "--all", "--check"]), "every file is formatted")
    });
    suites.check("tidy", || tidy::verdict(workspace));
    suites.check("layering", || layering::verdict(workspace));
    suites.check("clippy", || {
        let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        loud(workspace.cargo().args(clippy), "no warning")
    });
    suites.check("doc", || {
        let doc = ["doc", "--workspace", "--no-deps", "--document-private-items"];
        loud(workspace.cargo().args(doc).env("RUSTDOCFLAGS", "-D warnings"), "every link resolves")
    });
    suites.check("licences, bans, sources", || deny(workspace, tools));
    suites.check("alert rules (promtool)", || alert_rules(workspace));
}

/// Takes the suites that speak to a real Cassandra out of the others, those that start nodes of their own first.
fn take_cql(targets: &mut BTreeMap<String, Vec<String>>) -> Vec<(String, String)> {
    let mut cql = Vec::new();
    for prefix in [OWN_CASSANDRA, SHARED_CASSANDRA] {
        for (package, tests) in &mut *targets {
            let taken = tests.extract_if(.., |name| name.starts_with(prefix));
            cql.extend(taken.map(|name| (package.clone(), name)));
        }
    }
    targets.retain(|_, tests| !tests.is_empty());
    cql
}

/// Runs them: one node, started when the first suite wants it, for all that share one.
fn cql_suites(
    suites: &mut Suites,
    cql: &[(String, String)],
    tools: &Tools,
    of_package: impl Fn(&str, &[String]) -> Command,
) {
    let mut node: Option<Result<Shared, String>> = None;
    for (package, name) in cql {
        let title = format!("{package}: {name}");
        let mut command = of_package(package, std::slice::from_ref(name));
        let shares = name.starts_with(SHARED_CASSANDRA);
        let nowhere = match tools.cassandra {
            None => Some("no Cassandra can be started here".to_owned()),
            Some(_) if shares => match node.get_or_insert_with(|| start_shared(suites)) {
                Ok(node) => {
                    command.env("WEIR_TEST_CASSANDRA", node.address().to_string());
                    None
                }
                Err(why) => Some(why.clone()),
            },
            Some(_) => None,
        };
        // What needs a node says itself that it was skipped.
        if let Some(why) = nowhere.filter(|_| !(shares && package == ON_DEVSTORE)) {
            suites.check(&title, || Ok(Verdict::Skipped(why)));
            continue;
        }
        suites.cargo(&title, vec![command], SUITE_LIMIT);
    }
    if let Some(Ok(node)) = node {
        suites.check("Cassandra still answers", || match node.lives() {
            true => Ok(Verdict::Passed("no suite brought it down".into())),
            false => Ok(Verdict::Failed("a suite brought it down".into())),
        });
    }
}

fn start_shared(suites: &mut Suites) -> Result<Shared, String> {
    let mut node = None;
    suites.check("start Cassandra", || {
        let started = node.insert(Shared::start()?);
        Ok(Verdict::Passed(started.line().to_owned()))
    });
    node.ok_or_else(|| "Cassandra did not start".to_owned())
}

/// What the end-to-end suites are told of the machine.
fn environment(command: &mut Command, workspace: &Workspace, tools: &Tools, options: Options) {
    command.env("WEIR_TEST_BINARIES", workspace.binaries(Profile::Dev));
    if let Some(python) = &tools.python {
        command.env("WEIR_TEST_PYTHON", python);
    }
    if let Some(python) = &tools.cql_python {
        command.env("WEIR_TEST_CQL_PYTHON", python);
    }
    if let Some(folder) = &tools.cql_node {
        command.env("WEIR_TEST_NODE", folder);
    }
    if let Some(folder) = &tools.rpc_node {
        command.env("WEIR_TEST_RPC_NODE", folder);
    }
    if options.full {
        command.env("WEIR_TEST_FULL", "1").env("PROPTEST_CASES", "4096");
    }
}

/// Runs a command and shows what it said only when it failed.
fn quiet(command: &mut Command, good: &str) -> Result<Verdict> {
    let done = process::run("cargo", command, SUITE_LIMIT)?;
    if done.status.success() {
        return Ok(Verdict::Passed(good.to_owned()));
    }
    Ok(Verdict::Failed(format!("it ended with {}\n{}{}", done.status, done.stdout, done.stderr)))
}

/// Runs a command that takes long and shows what it says.
fn loud(command: &mut Command, good: &str) -> Result<Verdict> {
    let status = process::stream("cargo", command, SUITE_LIMIT, |stream, line| match stream {
        Stream::Out => println!("{line}"),
        Stream::Err => eprintln!("{line}"),
    })?;
    Ok(if status.success() {
        Verdict::Passed(good.to_owned())
    } else {
        Verdict::Failed(format!("it ended with {status}"))
    })
}

/// linkerd's three checks; `advisories` needs a database from the open internet and is no gate.
fn deny(workspace: &Workspace, tools: &Tools) -> Result<Verdict> {
    let Some(program) = &tools.cargo_deny else {
        return Ok(Verdict::Skipped("cargo-deny is not here".into()));
    };
    // It reads the manifests of every crate of Cargo.lock, those of other platforms too, which a build does not download.
    if let Verdict::Failed(why) = loud(workspace.cargo().args(["fetch", "--locked"]), "")? {
        return Ok(Verdict::Failed(why));
    }
    let mut command = Command::new(program);
    command.current_dir(workspace.root()).args(["--offline", "--workspace", "--log-level", "error"]);
    command.args(["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
    quiet(&mut command, "licences, banned crates and sources are as deny.toml says")
}

fn alert_rules(workspace: &Workspace) -> Result<Verdict> {
    let Some(promtool) = which("promtool") else {
        return Ok(Verdict::Skipped("promtool is not here (Debian: prometheus)".into()));
    };
    let (rules, tests) = tidy::alert_files(workspace)?;
    if rules.is_empty() || tests.is_empty() {
        return Ok(Verdict::Failed("alerts/ holds no rule or no test".into()));
    }
    let mut check = Command::new(&promtool);
    let checked = quiet(check.current_dir(workspace.root()).args(["check", "rules"]).args(&rules), "")?;
    if let Verdict::Failed(_) = checked {
        return Ok(checked);
    }
    let mut test = Command::new(&promtool);
    test.current_dir(workspace.root()).args(["test", "rules"]).args(&tests);
    quiet(&mut test, &format!("{} rule files, {} test files", rules.len(), tests.len()))
}

/// The integration tests of each package, as cargo knows them.
fn test_targets(workspace: &Workspace) -> Result<BTreeMap<String, Vec<String>>> {
    let mut command = workspace.cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    let done = process::run("cargo metadata", &mut command, Duration::from_secs(60))?;
    if !done.status.success() {
        bail!("cargo metadata failed:\n{}", done.stderr);
    }
    parse_targets(&done.stdout)
}

fn parse_targets(metadata: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let metadata: serde_json::Value = serde_json::from_str(metadata).context("cargo metadata is no JSON")?;
    let mut targets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        for target in package["targets"].as_array().into_iter().flatten() {
            let is_test =
                target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "test"));
            if is_test && let Some(test) = target["name"].as_str() {
                targets.entry(name.to_owned()).or_default().push(test.to_owned());
            }
        }
    }
    targets.values_mut().for_each(|names| names.sort());
    Ok(targets)
}

/// What git calls changed, to see whether a suite wrote over a tracked file. Without git, nothing ever changes.
fn tracked_changes(workspace: &Workspace) -> String {
    let mut git = Command::new("git");
    // A digest of the differences, not the list: a file that was changed before may be changed again.
    git.current_dir(workspace.root()).args(["diff", "--stat=200", "HEAD"]);
    match process::run("git", &mut git, Duration::from_secs(60)) {
        Ok(done) if done.status.success() => done.stdout,
        _ => String::new(),
    }
}

/// `cargo xtask ci`: `.ci/run` as the automation runs it.
pub fn ci(workspace: &Workspace) -> Result<bool> {
    let script: PathBuf = workspace.root().join(".ci/run");
    let mut command = Command::new("bash");
    command.current_dir(workspace.root()).arg(script).env("CI", "true");
    let mut running = process::Running::spawn_inherited(".ci/run", &mut command)?;
    Ok(running.wait(Duration::from_secs(90 * 60))?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integration_tests_are_found_by_package() {
        let metadata = r#"{"packages":[
            {"name":"weir","targets":[{"kind":["lib"],"name":"weir"},{"kind":["test"],"name":"storm"},
                                      {"kind":["test"],"name":"clients"}]},
            {"name":"weir-engine","targets":[{"kind":["test"],"name":"simulation"}]}]}"#;
        let targets = parse_targets(metadata).unwrap();
        assert_eq!(targets["weir"], ["clients", "storm"]);
        assert_eq!(targets["weir-engine"], ["simulation"]);
    }

    #[test]
    fn suites_that_need_a_cassandra_are_kept_apart() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut targets = BTreeMap::from([
            ("weir".to_owned(), names(&["cql_split", "storm", "cassandra_faults"])),
            ("xtask".to_owned(), names(&["cassandra"])),
        ]);
        let cql = take_cql(&mut targets);
        let titles: Vec<String> = cql.iter().map(|(package, name)| format!("{package}: {name}")).collect();
        assert_eq!(titles, ["weir: cassandra_faults", "xtask: cassandra", "weir: cql_split"]);
        assert_eq!(targets, BTreeMap::from([("weir".to_owned(), names(&["storm"]))]));
    }
}
