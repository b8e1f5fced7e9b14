//! What is wrong with a configuration: where, which key, what, and what to write instead.
//!
//! A file's problems are collected and told together, in the order of the file; nothing is accepted half. Texts that
//! come out of the file are escaped here, so that a key name cannot move the reader's cursor.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether a problem refuses the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken, and the operator should know.
    Warning,
}

/// A place in a file; lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's name as it was given.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it refuses the configuration.
    pub severity: Severity,
    /// Where, when it comes from a file.
    pub place: Option<Place>,
    /// The path of the key (`pool.main.chunk_keys`); empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl Problem {
    /// An error about the key `path`.
    #[must_use]
    pub fn error(path: impl Into<String>, what: impl Into<String>) -> Problem {
        Problem { severity: Severity::Error, place: None, path: path.into(), what: what.into(), help: None }
    }

    /// A warning about the key `path`.
    #[must_use]
    pub fn warning(path: impl Into<String>, what: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(path, what) }
    }

    /// The same, with what to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }
}

impl Problem {
    /// The same as JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let place = self.place.as_ref();
        serde_json::json!({
            "severity": match self.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            "file": place.map(|place| &*place.file),
            "line": place.map(|place| place.line),
            "column": place.map(|place| place.column),
            "key": self.path,
            "what": self.what,
            "help": self.help,
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}:{}:{}: ", Escaped(&place.file), place.line, place.column)?;
        }
        f.write_str(match self.severity {
            Severity::Error => "error: ",
            Severity::Warning => "warning: ",
        })?;
        if !self.path.is_empty() {
            write!(f, "{}: ", Escaped(&self.path))?;
        }
        write!(f, "{}", Escaped(&self.what))?;
        if let Some(help) = &self.help {
            write!(f, "\n    help: {}", Escaped(help))?;
        }
        Ok(())
    }
}

/// Every problem of one configuration, in the order of the file. At least one of them is an error.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// How many of them refuse the configuration.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.0.iter().filter(|problem| problem.severity == Severity::Error).count()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        let errors = self.errors();
        let warnings = self.0.len() - errors;
        write!(f, "{}, {}", counted(errors, "error"), counted(warnings, "warning"))
    }
}

impl std::error::Error for Problems {}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Text from outside as it may be shown on a terminal or written to a log: control characters, and characters that
/// turn the direction of the line or cannot be seen, are written as `\u{..}`; what remains is what a reader sees.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for c in self.0.chars() {
            if is_deceptive(c) { write!(f, "{}", c.escape_unicode())? } else { f.write_char(c)? }
        }
        Ok(())
    }
}

fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Turns byte offsets of one text into lines and columns.
#[derive(Debug)]
pub struct Lines<'t> {
    file: Arc<str>,
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    /// Reads where the lines of `text` begin.
    #[must_use]
    pub fn new(file: &str, text: &'t str) -> Lines<'t> {
        let mut starts = vec![0];
        starts.extend(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1));
        Lines { file: file.into(), text, starts }
    }

    /// The place of the byte `at`; offsets beyond the text are its end.
    #[must_use]
    pub fn place(&self, at: usize) -> Place {
        let at = at.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= at).saturating_sub(1);
        let start = self.starts.get(line).copied().unwrap_or(0);
        let column = self.text.get(start..at).map_or(at - start, |before| before.chars().count());
        Place { file: self.file.clone(), line: to_u32(line + 1), column: to_u32(column + 1) }
    }
}

fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A file name as it appears in problems.
#[must_use]
pub fn file_name(path: &Path) -> String {
    PathBuf::from(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_from_one() {
        let lines = Lines::new("f", "a = 1\né = 2\n");
        assert_eq!((lines.place(0).line, lines.place(0).column), (1, 1));
        let second = lines.place("a = 1\né ".len());
        assert_eq!((second.line, second.column), (2, 3));
        assert_eq!(lines.place(10_000).line, 3);
    }

    #[test]
    fn outside_text_cannot_move_the_cursor() {
        let shown = format!("{}", Escaped("a\x1b[2J\nb\u{202e}c"));
        assert_eq!(shown, "a\\u{1b}[2J\\u{a}b\\u{202e}c");
    }
}
