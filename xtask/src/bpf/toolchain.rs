//! The compiler for the kernel's side: Debian's, whose packages bring the sources of `core` that match it, and a linker
//! for BPF that loads that compiler's own LLVM. (rustup's compiler here has no such sources, and others' do not fit it.)

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::bpf::CRATE;
use crate::install;
use crate::process::{self, Stream};
use crate::suites::Verdict;
use crate::workspace::Workspace;

/// What is installed, in words.
pub const WANTED: &str = "Debian packages rustc-web, rust-web-src, cargo-web (as root; 145 MB to load, 810 MB on disk); \
    bpf-linker 0.10.3 by cargo (about 2 minutes, once, into the user's cache folder)";

const PACKAGES: &[&str] = &["rustc-web", "rust-web-src", "cargo-web"];

/// Later ones want the development files of LLVM.
const LINKER: &str = "0.10.3";

/// Little-endian, as every machine that the probes support.
const TARGET: &str = "bpfel-unknown-none";

/// `v3`: 32-bit operations and atomic ones that return a value (kernel 5.12).
const FLAGS: &str = "-Ctarget-cpu=v3 -Zlocation-detail=none";

const LINKER_LIMIT: Duration = Duration::from_secs(20 * 60);
const BUILD_LIMIT: Duration = Duration::from_secs(10 * 60);
const SECONDS: Duration = Duration::from_secs(60);

/// Where its parts are.
#[derive(Clone, Debug)]
pub struct Toolchain {
    rustc: PathBuf,
    cargo: PathBuf,
    linker: PathBuf,
    /// A folder with the one libLLVM that the linker may load: it takes the first that it finds.
    llvm: PathBuf,
    versions: BTreeMap<String, String>,
}

impl Toolchain {
    /// Finds the parts; installs what is missing where that is allowed. The error says all that is not to be had, and the
    /// commands that bring it.
    pub fn find(workspace: &Workspace, install: bool) -> Result<Toolchain> {
        let installed = |file: &str, package: &str| file_of(package, file);
        let lacked: Vec<&str> =
            PACKAGES.iter().filter(|package| files_of(package).is_err()).copied().collect();
        let folder = linker_folder(workspace);
        let lacks_linker = !linker_in(&folder).is_file();
        if !lacked.is_empty() {
            install::debian(&lacked, install)
                .with_context(|| lacking(&lacked, lacks_linker.then_some(folder.as_path())))?;
        }
        if lacks_linker && !install {
            bail!("{}: --no-install was given", lacking(&[], Some(&folder)));
        }
        let rustc = installed("/bin/rustc", "rustc-web")?;
        let cargo = installed("/bin/cargo", "cargo-web")?;
        let about = said(Command::new(&rustc).arg("-vV"))?;
        let llvm_version = about
            .lines()
            .find_map(|line| line.strip_prefix("LLVM version: "))
            .with_context(|| format!("{} names no version of LLVM", rustc.display()))?;
        let llvm = one_llvm(workspace, llvm_version)?;
        let linker = linker(workspace)?;
        let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        let versions = BTreeMap::from([
            ("rustc".to_owned(), first(&about)),
            ("llvm".to_owned(), llvm_version.to_owned()),
            ("bpf-linker".to_owned(), LINKER.to_owned()),
        ]);
        Ok(Toolchain { rustc, cargo, linker, llvm, versions })
    }

    /// What decides on the bytes of the object, with its version.
    pub fn versions(&self) -> &BTreeMap<String, String> {
        &self.versions
    }

    /// The flags that decide on them.
    pub fn flags() -> &'static str {
        FLAGS
    }

    /// Builds the object; where it is.
    pub fn build(&self, workspace: &Workspace) -> Result<PathBuf> {
        let target = workspace.scratch("bpf/target")?;
        let mut command = Command::new(&self.cargo);
        command.current_dir(workspace.root().join(CRATE));
        command.args(["build", "--release", "--locked", "--target", TARGET, "-Z", "build-std=core"]);
        command.arg("--target-dir").arg(&target);
        // Cargo told this program about its own package and compiler.
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy().into_owned();
            if name.starts_with("CARGO_") && name != "CARGO_HOME" || name.starts_with("RUST") {
                command.env_remove(key);
            }
        }
        let flags = format!("-Clinker={} {FLAGS} {}", self.linker.display(), remapped(workspace));
        command.env("RUSTC", &self.rustc).env("RUSTC_BOOTSTRAP", "1");
        command.env("LD_LIBRARY_PATH", &self.llvm).env("RUSTFLAGS", flags);
        loud("the build for BPF", &mut command, BUILD_LIMIT)?;
        let object = target.join(TARGET).join("release/weir-probes-kernel");
        if !object.is_file() {
            bail!("the build made no {}", object.display());
        }
        Ok(object)
    }
}

/// No path of the builder's machine may be in the object.
fn remapped(workspace: &Workspace) -> String {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let home = home.map(|home| remap(&home, "/cargo")).unwrap_or_default();
    format!("{} {home}", remap(workspace.root(), "/weir"))
}

/// The files of an installed Debian package.
fn files_of(package: &str) -> Result<String> {
    said(Command::new("dpkg").args(["-L", package]))
}

fn file_of(package: &str, end: &str) -> Result<PathBuf> {
    let files = files_of(package)?;
    let file = files.lines().find(|line| line.ends_with(end) && Path::new(line).exists());
    file.map(PathBuf::from).with_context(|| format!("the package {package} has no file that ends in {end}"))
}

/// `22.1.8` is `libLLVM.so.22.1` of the package `libllvm22`.
fn one_llvm(workspace: &Workspace, version: &str) -> Result<PathBuf> {
    let mut numbers = version.split('.');
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        bail!("`{version}` is no version of LLVM");
    };
    let name = format!("libLLVM.so.{major}.{minor}");
    let library = file_of(&format!("libllvm{major}"), &format!("/{name}"))?;
    let folder = workspace.scratch("bpf/llvm")?;
    for entry in std::fs::read_dir(&folder)? {
        std::fs::remove_file(entry?.path())?;
    }
    symlink(&library, folder.join(name))?;
    Ok(folder)
}

fn linker_folder(workspace: &Workspace) -> PathBuf {
    workspace.cache().join(format!("bpf-linker-{LINKER}"))
}

fn linker_in(folder: &Path) -> PathBuf {
    folder.join("bin/bpf-linker")
}

/// What is not there and the commands that bring it, in one message: nobody should have to try again to hear of the rest.
fn lacking(packages: &[&str], linker: Option<&Path>) -> String {
    let mut commands = Vec::new();
    if !packages.is_empty() {
        let packages = packages.join(" ");
        commands.push(format!(
            "apt-get update && apt-get install -y --no-install-recommends {packages} (Debian 12 or later, as root)"
        ));
    }
    if let Some(folder) = linker {
        commands.push(format!("cargo install --locked bpf-linker@{LINKER} --root {}", folder.display()));
    }
    let what: Vec<&str> = packages.iter().copied().chain(linker.map(|_| "bpf-linker")).collect();
    format!("the compiler for BPF lacks {}; what brings it: {}", what.join(", "), commands.join("; then "))
}

/// The linker in the user's cache folder, built there once.
fn linker(workspace: &Workspace) -> Result<PathBuf> {
    let folder = linker_folder(workspace);
    let program = linker_in(&folder);
    if program.is_file() {
        return Ok(program);
    }
    println!("building bpf-linker {LINKER} (about 2 minutes, once)");
    let scratch = workspace.scratch("bpf/linker")?;
    let mut command = workspace.cargo();
    command.args(["install", "--locked", "--quiet", &format!("bpf-linker@{LINKER}"), "--root"]).arg(&folder);
    command.env("CARGO_TARGET_DIR", &scratch);
    let built = loud("cargo install bpf-linker", &mut command, LINKER_LIMIT);
    std::fs::remove_dir_all(&scratch)?;
    built?;
    if !program.is_file() {
        bail!("cargo installed no bpf-linker");
    }
    Ok(program)
}

/// Whether the crate is formatted: it is no member of the workspace, so nothing else looks.
pub fn formatted(workspace: &Workspace) -> Result<Verdict> {
    let manifest = workspace.root().join(CRATE).join("Cargo.toml");
    let mut command = workspace.cargo();
    command.args(["fmt", "--check", "--manifest-path"]).arg(manifest);
    let done = process::run("cargo fmt", &mut command, SECONDS)?;
    if done.status.success() {
        return Ok(Verdict::Passed(format!("{CRATE} is formatted")));
    }
    Ok(Verdict::Failed(format!("{CRATE} is not formatted (cargo fmt in it)\n{}{}", done.stdout, done.stderr)))
}

fn said(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = process::run(&name, command, SECONDS)?;
    if !done.status.success() {
        bail!("{name} failed: {}", done.stderr.lines().next().unwrap_or("no reason given"));
    }
    Ok(done.stdout)
}

fn loud(name: &str, command: &mut Command, limit: Duration) -> Result<()> {
    let status = process::stream(name, command, limit, |stream, line| match stream {
        Stream::Out => println!("{line}"),
        Stream::Err => eprintln!("{line}"),
    })?;
    if !status.success() {
        bail!("{name} ended with {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_said_at_once_with_the_commands_that_bring_it() {
        let said = lacking(&["rustc-web", "cargo-web"], Some(Path::new("/cache/bpf-linker")));
        assert_eq!(
            said,
            "the compiler for BPF lacks rustc-web, cargo-web, bpf-linker; what brings it: apt-get update && apt-get install \
             -y --no-install-recommends rustc-web cargo-web (Debian 12 or later, as root); then cargo install --locked \
             bpf-linker@0.10.3 --root /cache/bpf-linker"
        );
        assert!(!lacking(&["rustc-web"], None).contains("bpf-linker"));
        assert!(!lacking(&[], Some(Path::new("/cache"))).contains("apt-get"));
    }
}
