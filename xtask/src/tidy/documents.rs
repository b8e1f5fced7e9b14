//! What Markdown points at exists: links to files and their headings everywhere, and in README.md also paths in
//! backticks, so that the "Where is ...?" table cannot rot.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{File, Problem};

/// First folders of paths in this tree: a word in backticks that begins so is a path.
const TOP: &[&str] = &["proxy/", "services/", "alerts/", "dashboards/", "docs/", "xtask/", ".ci/", ".cargo/"];

pub(super) fn check(root: &Path, files: &[File], problems: &mut Vec<Problem>) {
    for file in files.iter().filter(|file| file.has_extension("md")) {
        for (index, line) in prose(&file.text) {
            for link in links(line) {
                if let Some(problem) = broken_link(root, file, link, files) {
                    problems.push(file.problem(index, problem));
                }
            }
            let words = quoted(line).filter(|word| is_path(word));
            // Other documents may quote what a reader is to make; the README's words are a promise.
            for word in words.filter(|_| file.path == "README.md" || file.path == "docs/architecture.md") {
                if !exists(root, word) {
                    problems.push(file.problem(index, format!("`{word}` does not exist")));
                }
            }
        }
    }
}

/// Lines outside fenced blocks, counted from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((index + 1, line))
    })
}

/// The targets of `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(|target| {
        // A title may follow: (target "title").
        target.split_ascii_whitespace().next().unwrap_or("")
    })
}

/// The words in single backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Whether a quoted word claims to be a path of this tree. Patterns and placeholders claim nothing.
fn is_path(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '{' | '}' | ',');
    TOP.iter().any(|top| word.starts_with(top)) && word.chars().all(plain)
}

/// Whether a path, or each alternative of `a/{b,c}.rs`, exists.
fn exists(root: &Path, path: &str) -> bool {
    match (path.find('{'), path.find('}')) {
        (Some(open), Some(close)) if open < close => path[open + 1..close]
            .split(',')
            .all(|choice| exists(root, &format!("{}{choice}{}", &path[..open], &path[close + 1..]))),
        _ => root.join(path).exists(),
    }
}

fn broken_link(root: &Path, file: &File, link: &str, files: &[File]) -> Option<String> {
    if link.is_empty() || link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, heading) = link.split_once('#').map_or((link, None), |(path, heading)| (path, Some(heading)));
    let target = match path {
        "" => PathBuf::from(&file.path),
        path => normal(&Path::new(&file.path).parent().unwrap_or(Path::new("")).join(path)),
    };
    if !root.join(&target).exists() {
        return Some(format!("the link to {link} leads nowhere"));
    }
    let heading = heading?;
    let page = files.iter().find(|other| Path::new(&other.path) == target)?;
    let headings: BTreeSet<String> =
        prose(&page.text).filter(|(_, line)| line.starts_with('#')).map(|(_, line)| anchor(line)).collect();
    (!headings.contains(heading)).then(|| format!("the link to {link} leads to no heading"))
}

/// `a/b/../c` without the detour, so that it compares with the names of files.
fn normal(path: &Path) -> PathBuf {
    let mut parts: Vec<_> = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir if !parts.is_empty() => {
                parts.pop();
            }
            std::path::Component::CurDir => {}
            part => parts.push(part),
        }
    }
    parts.iter().collect()
}

/// The name under which a heading is linked: lower case, spaces to dashes, signs dropped.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::file;
    use super::*;

    fn problems_of(path: &str, text: &str) -> Vec<String> {
        let root = crate::workspace::Workspace::find().unwrap().root().to_path_buf();
        let mut problems = Vec::new();
        check(&root, &[file(path, text)], &mut problems);
        problems.into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn paths_in_the_readme_exist() {
        assert!(
            problems_of("README.md", "see `xtask/src/main.rs` and `xtask/src/{main,test}.rs`\n").is_empty()
        );
        assert_eq!(
            problems_of("README.md", "| `xtask/src/nothing.rs` |\n"),
            ["`xtask/src/nothing.rs` does not exist"]
        );
        assert_eq!(problems_of("README.md", "`xtask/src/{main,nothing}.rs`\n").len(), 1);
        assert!(problems_of("README.md", "`proxy/*/src` `weir.toml` `docs/<name>.md`\n").is_empty());
        assert!(problems_of("README.md", "```\n`xtask/none`\n```\n").is_empty());
    }

    #[test]
    fn links_lead_somewhere() {
        assert!(problems_of("README.md", "[a](xtask/Cargo.toml) [b](https://example.org/x)\n").is_empty());
        assert_eq!(problems_of("docs/x.md", "[a](../xtask/nothing.rs)\n").len(), 1);
        assert!(problems_of("docs/x.md", "[a](../xtask/src/main.rs)\n").is_empty());
    }

    #[test]
    fn headings_are_linked_by_their_anchor() {
        assert_eq!(anchor("## Where is ...?"), "where-is-");
        assert!(problems_of("Cargo.toml", "").is_empty());
    }
}
