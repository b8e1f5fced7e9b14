//! Checks of the tree itself that no compiler makes: what documents point at exists, files stay readable, banned calls
//! stay out, and alerts, dashboards, runbooks and the list of metrics agree with each other. Reads files, changes
//! nothing (except [`fix`]), takes well under a second.

mod alerts;
mod dashboards;
mod documents;
mod metrics;
mod promql;
mod sources;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::suites::Verdict;
use crate::workspace::Workspace;

/// Folders that hold nothing anybody wrote.
const SKIPPED_FOLDERS: &[&str] = &[".git", "target", "artifacts"];

/// A file of the tree as text.
#[derive(Debug)]
struct File {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

impl File {
    fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|other| other == extension)
    }

    fn problem(&self, line: usize, message: impl Into<String>) -> Problem {
        Problem { path: self.path.clone(), line, message: message.into() }
    }
}

/// One thing that is not as it should be. `line` counts from 1; 0 is the whole file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Problem {
    path: String,
    line: usize,
    message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// Runs every rule.
pub fn verdict(workspace: &Workspace) -> Result<Verdict> {
    let files = files(workspace)?;
    let mut problems = Vec::new();
    sources::check(&files, &mut problems);
    documents::check(workspace.root(), &files, &mut problems);
    let catalogue = metrics::Catalogue::of(&files);
    let known = alerts::check(&files, catalogue.as_ref(), &mut problems);
    if let Some(catalogue) = catalogue {
        dashboards::check(&files, &catalogue, &known, &mut problems);
        metrics::check_words(&files, &catalogue, &known, &mut problems);
    } else if files
        .iter()
        .any(|file| file.path.starts_with("alerts/") || file.path.starts_with("dashboards/"))
    {
        problems.push(Problem {
            path: metrics::PAGE.into(),
            line: 0,
            message: "has no table of metrics".into(),
        });
    }
    problems.sort();
    problems.dedup();
    if problems.is_empty() {
        return Ok(Verdict::Passed(format!("{} files are tidy", files.len())));
    }
    let lines: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
    Ok(Verdict::Failed(format!("{} problems\n{}", lines.len(), lines.join("\n"))))
}

/// Rewrites what has a canonical form.
pub fn fix(workspace: &Workspace) -> Result<()> {
    for file in files(workspace)? {
        if let Some(canonical) = dashboards::canonical(&file)
            && canonical != file.text
        {
            std::fs::write(workspace.root().join(&file.path), canonical)?;
            println!("rewrote {}", file.path);
        }
    }
    Ok(())
}

/// The rule files and the test files of `alerts/`, as arguments for promtool.
pub fn alert_files(workspace: &Workspace) -> Result<(Vec<String>, Vec<String>)> {
    let (mut rules, mut tests) = (Vec::new(), Vec::new());
    for file in files(workspace)? {
        match alerts::kind(&file) {
            Some(alerts::Kind::Rules) => rules.push(file.path),
            Some(alerts::Kind::Tests) => tests.push(file.path),
            None => {}
        }
    }
    Ok((rules, tests))
}

/// Every text file of the tree, in order. Files that are no text (fuzz corpora) are left out.
fn files(workspace: &Workspace) -> Result<Vec<File>> {
    let mut paths = Vec::new();
    walk(workspace.root(), workspace.target(), &mut paths)?;
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(File { path: workspace.relative(&path).to_string_lossy().into_owned(), text });
        }
    }
    Ok(files)
}

fn walk(folder: &Path, target: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let skipped = SKIPPED_FOLDERS.iter().any(|name| entry.file_name() == *name) || path == target;
        if kind.is_dir() && !skipped {
            walk(&path, target, into)?;
        } else if kind.is_file() {
            into.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file for the rules' own tests.
    pub(super) fn file(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into() }
    }

    #[test]
    fn this_tree_is_walked_without_what_is_built() {
        let workspace = Workspace::find().unwrap();
        let files = files(&workspace).unwrap();
        assert!(files.iter().any(|file| file.path == "xtask/src/main.rs"));
        assert!(!files.iter().any(|file| file.path.starts_with("target/") || file.path.starts_with(".git/")));
    }
}
