//! What the committed object was built from and with: a file beside it. It can be checked without any compiler.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::bpf::compare::Summary;
use crate::bpf::toolchain::Toolchain;
use crate::bpf::{OBJECT, sources};
use crate::workspace::Workspace;

/// Its name, beside the object.
const NAME: &str = "provenance.json";

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The object's file.
    object: String,
    /// Its SHA-256.
    sha256: String,
    /// How it is rebuilt.
    rebuild: String,
    /// The compiler's flags.
    flags: String,
    /// What built it, with versions.
    versions: BTreeMap<String, String>,
    /// What is in it.
    contents: Summary,
    /// The SHA-256 of each file that it was built from.
    sources: BTreeMap<String, String>,
}

impl Provenance {
    /// Of an object that was just built.
    pub fn of(workspace: &Workspace, by: &Toolchain, object: &[u8], contents: Summary) -> Result<Provenance> {
        Ok(Provenance {
            object: OBJECT.to_owned(),
            sha256: sha256(object),
            rebuild: "cargo xtask bpf".to_owned(),
            flags: Toolchain::flags().to_owned(),
            versions: by.versions().clone(),
            contents,
            sources: digests(workspace)?,
        })
    }

    /// Reads it from the object's folder.
    pub fn read(folder: &Path) -> Result<Provenance> {
        let path = folder.join(NAME);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not as `cargo xtask bpf` writes it", path.display()))
    }

    /// Writes it into the object's folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(NAME);
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The object's.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What in the tree is not as this record says; `None` when all is.
    pub fn contradiction(&self, workspace: &Workspace, object: &[u8]) -> Result<Option<String>> {
        if sha256(object) != self.sha256 {
            return Ok(Some(format!("{OBJECT} is not the file that {NAME} describes")));
        }
        let now = digests(workspace)?;
        let mut changed: Vec<&str> = now
            .iter()
            .filter(|(path, digest)| self.sources.get(*path) != Some(digest))
            .chain(self.sources.iter().filter(|(path, _)| !now.contains_key(*path)))
            .map(|(path, _)| path.as_str())
            .collect();
        changed.dedup();
        Ok((!changed.is_empty()).then(|| format!("changed since {OBJECT} was built: {}", changed.join(", "))))
    }

    /// Which tools have other versions than those that built the object.
    pub fn other_versions(&self, now: &BTreeMap<String, String>) -> Vec<String> {
        let other = now.iter().filter(|(tool, version)| self.versions.get(*tool) != Some(version));
        other
            .map(|(tool, version)| {
                let then = self.versions.get(tool).map_or("unknown", String::as_str);
                format!("{tool} {version} (built with {then})")
            })
            .collect()
    }
}

fn digests(workspace: &Workspace) -> Result<BTreeMap<String, String>> {
    let mut digests = BTreeMap::new();
    for path in sources(workspace)? {
        let bytes = std::fs::read(workspace.root().join(&path))
            .with_context(|| format!("cannot read {}", path.display()))?;
        digests.insert(path.to_string_lossy().into_owned(), sha256(&bytes));
    }
    Ok(digests)
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_everybody() {
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn another_version_is_named_with_both() {
        let mut record = Provenance {
            object: String::new(),
            sha256: String::new(),
            rebuild: String::new(),
            flags: String::new(),
            versions: BTreeMap::from([("rustc".to_owned(), "1.96".to_owned())]),
            contents: Summary::default(),
            sources: BTreeMap::new(),
        };
        let now = BTreeMap::from([("rustc".to_owned(), "1.97".to_owned())]);
        assert_eq!(record.other_versions(&now), ["rustc 1.97 (built with 1.96)"]);
        record.versions = now.clone();
        assert!(record.other_versions(&now).is_empty());
    }
}
