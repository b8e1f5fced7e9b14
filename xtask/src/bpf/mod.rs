//! `cargo xtask bpf`: the object with the programs that the probes load into the kernel. It is committed, with a record of
//! what it was built from and with, so that a plain `cargo build` needs no second compiler; here it is rebuilt, and
//! `--check` says whether the committed one is what these sources give.

mod compare;
mod provenance;
mod toolchain;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::bpf::provenance::Provenance;
use crate::bpf::toolchain::Toolchain;
use crate::suites::Verdict;
use crate::workspace::Workspace;

pub use toolchain::WANTED;

/// The folder of the committed object.
const FOLDER: &str = "probes/observer/object";

/// The object's name there.
const OBJECT: &str = "weir.bpf.o";

/// The crate that it is built from.
const CRATE: &str = "probes/kernel";

/// What the command line chose.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// Write nothing; compare the committed object with what the sources give.
    #[arg(long)]
    check: bool,
    /// Install nothing; without the compiler the command fails (and --check is skipped).
    #[arg(long)]
    no_install: bool,
}

/// Builds and writes, or checks.
pub fn run(workspace: &Workspace, options: Options) -> Result<bool> {
    println!("will install what of this is missing: {WANTED}");
    if options.check {
        return Ok(crate::show(check(workspace, !options.no_install)?));
    }
    let toolchain = Toolchain::find(workspace, !options.no_install)?;
    let object = toolchain.build(workspace)?;
    let bytes = read(&object)?;
    let summary = compare::summary(&bytes)?;
    let folder = workspace.root().join(FOLDER);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let provenance = Provenance::of(workspace, &toolchain, &bytes, summary.clone())?;
    std::fs::write(folder.join(OBJECT), &bytes)?;
    provenance.write(&folder)?;
    for (program, instructions) in &summary.programs {
        println!("{program:<24} {instructions} instructions");
    }
    println!("wrote {FOLDER}/{OBJECT}: {} bytes, sha256 {}", bytes.len(), provenance.sha256());
    Ok(true)
}

/// Whether the committed object is the one that the sources give: byte for byte where the same versions built it, else
/// instruction by instruction and map by map. Without the compiler only what needs none is checked, and that is said.
pub fn check(workspace: &Workspace, install: bool) -> Result<Verdict> {
    let folder = workspace.root().join(FOLDER);
    let committed = read(&folder.join(OBJECT))?;
    let provenance = Provenance::read(&folder)?;
    if let Some(difference) = provenance.contradiction(workspace, &committed)? {
        return Ok(Verdict::Failed(format!("{difference}; run `cargo xtask bpf` and commit {FOLDER}")));
    }
    if let Verdict::Failed(why) = toolchain::formatted(workspace)? {
        return Ok(Verdict::Failed(why));
    }
    let toolchain = match Toolchain::find(workspace, install) {
        Ok(toolchain) => toolchain,
        Err(error) => {
            let done = "sources and object are those of the provenance, but the object was not rebuilt";
            return Ok(Verdict::Skipped(format!("{done}: {error:#}")));
        }
    };
    let built = read(&toolchain.build(workspace)?)?;
    let other = provenance.other_versions(toolchain.versions());
    if other.is_empty() {
        return Ok(if built == committed {
            Verdict::Passed(format!("the same {} bytes, built by the same versions", committed.len()))
        } else {
            Verdict::Failed(format!(
                "the same versions give other bytes ({} for {}):\n  {}",
                built.len(),
                committed.len(),
                compare::differences(&committed, &built)?.join("\n  ")
            ))
        });
    }
    let differences = compare::differences(&committed, &built)?;
    let other = other.join(", ");
    Ok(if differences.is_empty() {
        Verdict::Passed(format!("the same instructions and maps for each program; other versions: {other}"))
    } else {
        Verdict::Failed(format!("other versions ({other}) give:\n  {}", differences.join("\n  ")))
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Every file that the object is built from, relative to the root, sorted.
fn sources(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in [CRATE, "probes/abi"] {
        let folder = workspace.root().join(folder);
        for name in ["Cargo.toml", "Cargo.lock"] {
            found.extend(Some(folder.join(name)).filter(|path| path.is_file()));
        }
        rust_files(&folder.join("src"), &mut found)?;
    }
    found.iter_mut().for_each(|path| *path = workspace.relative(path).to_owned());
    found.sort();
    if found.is_empty() {
        bail!("{CRATE} has no source");
    }
    Ok(found)
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_are_those_of_the_programs_and_of_the_records() {
        let found = sources(&Workspace::find().unwrap()).unwrap();
        for path in ["probes/kernel/src/main.rs", "probes/kernel/Cargo.lock", "probes/abi/src/endpoint.rs"] {
            assert!(found.iter().any(|found| found == Path::new(path)), "{path} is missing in {found:?}");
        }
    }

    #[test]
    fn the_committed_object_is_described_by_its_provenance() {
        let workspace = Workspace::find().unwrap();
        let folder = workspace.root().join(FOLDER);
        let committed = read(&folder.join(OBJECT)).unwrap();
        let provenance = Provenance::read(&folder).unwrap();
        assert_eq!(provenance.contradiction(&workspace, &committed).unwrap(), None);
        let mut other = committed.clone();
        *other.last_mut().unwrap() ^= 1;
        assert!(provenance.contradiction(&workspace, &other).unwrap().is_some());
    }
}
