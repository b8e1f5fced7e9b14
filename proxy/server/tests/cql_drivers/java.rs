//! Java programs of the driver tests, compiled against the Java driver. Its jars come from Maven once, into the target
//! folder, and only those are taken whose checksums are `java/jars.sha256`'s.

use super::support::process::run;
use super::support::{skip, target, which};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The longest wait for a compiler or a download (10 MB).
const BUILD_LIMIT: Duration = Duration::from_secs(120);
/// Maven's own plugin that copies what a project depends on.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies";
const WHAT: &str = "java-driver-core (Java)";

/// Compiles a program; it, and the arguments that start it. `None`, said aloud, where that cannot be.
pub fn build(class: &str) -> Option<(PathBuf, Vec<PathBuf>)> {
    let (Some(java), Some(javac)) = (which("java"), which("javac")) else {
        skip(WHAT, "java or javac is not installed (a JDK, 17 or later)");
        return None;
    };
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cql_drivers/java");
    let sums = std::fs::read_to_string(sources.join("jars.sha256")).expect("the checksums");
    let folder = target().join("e2e/cql_drivers/java-jars");
    if let Err(why) = jars(&sources, &sums, &folder) {
        skip(WHAT, &format!("its jars cannot be had: {why}"));
        return None;
    }
    let classes = target().join("e2e/cql_drivers").join(format!("java-{class}"));
    std::fs::create_dir_all(&classes).expect("a folder");
    let named = sums.lines().filter_map(|line| line.split_whitespace().nth(1));
    let path = std::env::join_paths(named.map(|jar| folder.join(jar)).chain([classes.clone()]));
    let path = PathBuf::from(path.expect("no colon in a folder's name"));
    let mut compile = Command::new(javac);
    compile.args(["--release", "17", "-cp"]).arg(&path).arg("-d").arg(&classes);
    run(compile.arg(sources.join(format!("{class}.java"))), None, BUILD_LIMIT).expect_success("javac");
    Some((java, vec!["-Xmx256m".into(), "-cp".into(), path, class.into()]))
}

/// The jars in this folder, fetched where they are not there, and their checksums compared.
fn jars(sources: &Path, sums: &str, folder: &Path) -> Result<(), String> {
    let sums_hold = |folder: &Path| {
        let mut check = Command::new("sha256sum");
        let done = run(
            check.args(["--check", "--strict", "--quiet"]).current_dir(folder),
            Some(sums.as_bytes().to_vec()),
            BUILD_LIMIT,
        );
        done.status.success().then_some(()).ok_or_else(|| format!("checksums differ: {}", done.stdout.trim()))
    };
    if folder.is_dir() {
        return sums_hold(folder);
    }
    let mvn = which("mvn").ok_or("mvn is not installed (cargo xtask test installs it)")?;
    // beside it, then renamed: a folder of that name is always complete
    let partial = folder.with_extension(format!("partial-{}", std::process::id()));
    std::fs::create_dir_all(&partial).map_err(|error| format!("{}: {error}", partial.display()))?;
    let mut fetch = Command::new(mvn);
    // -C: a file that does not have the checksum its registry gives is refused
    fetch.args(["-B", "-q", "-C", "-f"]).arg(sources.join("pom.xml")).args([COPY, "-DincludeScope=runtime"]);
    fetch.arg(format!("-DoutputDirectory={}", partial.display()));
    let done = run(&mut fetch, None, BUILD_LIMIT);
    let fetched = match done.status.success() {
        true => sums_hold(&partial),
        false => Err(done
            .stdout
            .lines()
            .find(|line| line.contains("ERROR"))
            .unwrap_or("no reason given")
            .to_owned()),
    };
    let placed = fetched.and_then(|()| match std::fs::rename(&partial, folder) {
        Err(error) if !folder.is_dir() => Err(format!("{}: {error}", folder.display())),
        _ => Ok(()), // another process may have been first
    });
    let _ = std::fs::remove_dir_all(&partial);
    placed
}
