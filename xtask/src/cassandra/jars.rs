//! What a Cassandra needs that is not in this tree: Java 17 and 100 jars from Maven Central (67 MB). Both are looked for,
//! then fetched where that may be done; the error says what is missing. Bounds: a download ends within [`FETCH_LIMIT`].

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::install;
use crate::process;
use crate::report::seconds;
use crate::workspace::{Workspace, which};

/// The version that `cassandra/pom.xml` names.
pub const VERSION: &str = "5.0.9";

/// What Maven is told to fetch.
const POM: &str = include_str!("../../cassandra/pom.xml");

/// Maven's own plugin that copies what a project depends on; its version is pinned like everything else.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies";

/// Debian's Java 17; the newest Debian has none.
pub const JAVA_PACKAGE: &str = "openjdk-17-jre-headless";

/// Debian's Maven, wanted only while the jars are not here.
pub const MAVEN_PACKAGE: &str = "maven";

/// The first download takes half a minute; a slow line takes minutes.
const FETCH_LIMIT: Duration = Duration::from_secs(10 * 60);

/// `java -version` starts a virtual machine.
const JAVA_LIMIT: Duration = Duration::from_secs(30);

/// Where Debian puts its Java versions.
const JAVA_FOLDER: &str = "/usr/lib/jvm";

/// Everything that a node is started with.
#[derive(Clone, Debug)]
pub struct Kit {
    /// A Java 17.
    pub java: PathBuf,
    /// The folder of the jars.
    pub jars: PathBuf,
    /// The agent that Cassandra wants loaded to measure its own objects; one of the jars.
    pub jamm: PathBuf,
}

impl Kit {
    /// Finds Java and the jars, fetching what is missing when `may_install` allows it.
    pub fn find(workspace: &Workspace, may_install: bool) -> Result<Self> {
        let java = match java() {
            Some(java) => java,
            None => {
                install(JAVA_PACKAGE, may_install).context("it needs Java 17, and no newer one")?;
                java().with_context(|| format!("{JAVA_PACKAGE} brought no Java 17"))?
            }
        };
        let jars = workspace.cache().join(format!("cassandra-{VERSION}"));
        if !jars.is_dir() {
            if !may_install {
                bail!(
                    "the jars of Cassandra {VERSION} are not in {} and --no-install was given",
                    jars.display()
                );
            }
            fetch(&jars)?;
        }
        let jamm = jamm(&jars)?;
        Ok(Self { java, jars, jamm })
    }
}

fn install(package: &str, may_install: bool) -> Result<()> {
    if may_install {
        println!("installing the Debian package {package}");
    }
    install::debian(&[package], may_install).with_context(|| format!("Debian package {package}"))
}

/// A Java 17: that of `JAVA_HOME`, of the search path, or of Debian's folder; Cassandra 5.0 runs on no newer one.
fn java() -> Option<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    let installed = std::fs::read_dir(JAVA_FOLDER).into_iter().flatten().flatten();
    let installed = installed.map(|entry| entry.path().join("bin/java"));
    home.into_iter().chain(which("java")).chain(installed).find(|java| java.is_file() && is_17(java))
}

fn is_17(java: &Path) -> bool {
    let said = process::run("java", Command::new(java).arg("-version"), JAVA_LIMIT);
    said.is_ok_and(|said| names_17(&said.stderr))
}

/// The first line is like `openjdk version "17.0.15" 2025-04-15`.
fn names_17(said: &str) -> bool {
    let version = said.split('"').nth(1).unwrap_or_default();
    version == "17" || version.starts_with("17.")
}

/// Fetches into a folder beside `jars` and renames it: a folder of that name is always complete, also when two fetch.
fn fetch(jars: &Path) -> Result<()> {
    let mvn = match which("mvn") {
        Some(mvn) => mvn,
        None => {
            install(MAVEN_PACKAGE, true).context("Maven fetches the jars")?;
            which("mvn").with_context(|| format!("{MAVEN_PACKAGE} brought no mvn"))?
        }
    };
    println!("fetching the jars of Cassandra {VERSION} into {} (67 MB, once)", jars.display());
    let begun = Instant::now();
    let partial = jars.with_extension(format!("partial-{}", std::process::id()));
    std::fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    let _removed = crate::interrupt::Temporary::promise(&partial);
    let pom = partial.join("pom.xml");
    std::fs::write(&pom, POM)?;
    let mut command = Command::new(mvn);
    // -C: a file that does not have the checksum its registry gives is refused.
    command.args(["-B", "-q", "-C", "-f"]).arg(&pom).args([COPY, "-DincludeScope=runtime"]);
    command.arg(format!("-DoutputDirectory={}", partial.display()));
    let done = process::run("mvn", &mut command, FETCH_LIMIT)?;
    if !done.status.success() {
        let error = done.stdout.lines().find(|line| line.contains("ERROR")).unwrap_or("no reason given");
        bail!("Maven could not fetch Cassandra {VERSION}: {error}");
    }
    jamm(&partial)?;
    match std::fs::rename(&partial, jars) {
        Err(_) if jars.is_dir() => {} // Another process was first.
        renamed => renamed.with_context(|| format!("cannot make {}", jars.display()))?,
    }
    println!("fetched in {}", seconds(begun.elapsed()));
    Ok(())
}

fn jamm(jars: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(jars).with_context(|| format!("cannot list {}", jars.display()))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    let is_jamm = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("jamm-") && name.ends_with(".jar")
    };
    paths.find(is_jamm).with_context(|| format!("{} is not complete: remove it", jars.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pom_names_the_version_of_the_cache_folder() {
        assert!(POM.contains(&format!("<version>{VERSION}</version>")));
    }

    #[test]
    fn only_java_17_will_do() {
        assert!(names_17("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime ..."));
        assert!(names_17("openjdk version \"17\" 2021-09-14"));
        assert!(!names_17("openjdk version \"21.0.2\" 2024-01-16"));
        assert!(!names_17("java version \"1.8.0_171\""));
        assert!(!names_17(""));
    }
}
