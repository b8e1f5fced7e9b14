//! Rules on text, line by line: length of files, banned calls with what to use instead, paths of one machine, misspelt
//! words. The compiler's own lints come first (clippy.toml); what is here it cannot see or sees too late.

use super::{File, Problem};

/// A Rust file longer than this hides its own structure. There are no exceptions; should one be needed, it gets a list
/// with reasons here.
const MAX_LINES: usize = 600;

/// This folder spells what it bans.
const OWN_FOLDER: &str = "xtask/src/tidy/";

/// A piece of text that may not occur in Rust code, and what to write instead.
struct Ban {
    text: &'static str,
    instead: &'static str,
    /// Paths the ban holds for; empty = everywhere.
    only_in: &'static [&'static str],
}

const LIBRARIES: &[&str] = &[
    "proxy/memcached/src/",
    "proxy/cql/src/",
    "proxy/rpc/src/",
    "proxy/engine/src/",
    "proxy/telemetry/src/",
];
const PRODUCT: &[&str] = &["proxy/"];

const BANS: &[Ban] = &[
    Ban {
        text: "unbounded_channel",
        instead: "tokio::sync::mpsc::channel(n) with a named bound",
        only_in: &[],
    },
    Ban { text: "mpsc::unbounded", instead: "a channel with a named bound", only_in: &[] },
    Ban { text: "mpsc::channel()", instead: "std::sync::mpsc::sync_channel(n)", only_in: &[] },
    Ban {
        text: "lazy_static",
        instead: "std::sync::LazyLock, or better a value that is passed in",
        only_in: &[],
    },
    Ban {
        text: "once_cell",
        instead: "std::sync::OnceLock, or better a value that is passed in",
        only_in: &[],
    },
    Ban { text: "static mut", instead: "a value that is passed in", only_in: &[] },
    Ban { text: "todo!(", instead: "the code, or an issue", only_in: &[] },
    Ban { text: "unimplemented!(", instead: "an error that says what is not supported", only_in: &[] },
    Ban { text: "dbg!(", instead: "a log line or nothing", only_in: &[] },
    Ban { text: "TODO", instead: "an issue", only_in: &[] },
    Ban { text: "FIXME", instead: "an issue", only_in: &[] },
    Ban { text: "#[ignore]", instead: "#[ignore = \"why\"]", only_in: &[] },
    Ban {
        text: "println!(",
        instead: "a value that is returned: a library does not print",
        only_in: LIBRARIES,
    },
    Ban { text: "process::exit(", instead: "an error that main turns into an exit code", only_in: LIBRARIES },
    Ban { text: "#[allow(warnings", instead: "the one lint, with its reason", only_in: &[] },
    Ban { text: "Box::leak", instead: "a value with an owner", only_in: PRODUCT },
    Ban { text: "from_utf8_unchecked", instead: "bytes: network input is not text", only_in: PRODUCT },
    Ban { text: "\"pkill\"", instead: "the pid of what was started", only_in: &[] },
    Ban { text: "\"killall\"", instead: "the pid of what was started", only_in: &[] },
];

/// Folders that exist on one machine only.
const MACHINE_FOLDERS: &[&str] = &["/work/", "/root/", "/home/", "/Users/"];

/// Words that are misspelt often; whole words, any case of the first letter.
const MISSPELT: &[(&str, &str)] = &[
    ("accomodate", "accommodate"),
    ("adress", "address"),
    ("aquire", "acquire"),
    ("begining", "beginning"),
    ("boundry", "boundary"),
    ("definately", "definitely"),
    ("dependant", "dependent"),
    ("existance", "existence"),
    ("explicitely", "explicitly"),
    ("garantee", "guarantee"),
    ("independant", "independent"),
    ("lenght", "length"),
    ("maintainance", "maintenance"),
    ("neccessary", "necessary"),
    ("occured", "occurred"),
    ("occurence", "occurrence"),
    ("recieve", "receive"),
    ("refered", "referred"),
    ("seperate", "separate"),
    ("succesful", "successful"),
    ("teh", "the"),
    ("threshhold", "threshold"),
    ("untill", "until"),
    ("wich", "which"),
];

pub(super) fn check(files: &[File], problems: &mut Vec<Problem>) {
    for file in files.iter().filter(|file| !file.path.starts_with(OWN_FOLDER) && file.path != "Cargo.lock") {
        if file.has_extension("rs") {
            lengths(file, problems);
            bans(file, problems);
        }
        for (index, line) in file.text.lines().enumerate() {
            if let Some(folder) = machine_folder(line) {
                problems
                    .push(file.problem(index + 1, format!("names a folder of one machine ({folder}...)")));
            }
            // Fixtures of tests may be wrong on purpose.
            let words =
                file.has_extension("md") || (file.has_extension("rs") && line.trim_start().starts_with("//"));
            for (wrong, right) in misspelt(line).into_iter().filter(|_| words) {
                problems.push(file.problem(index + 1, format!("`{wrong}` is spelt `{right}`")));
            }
        }
        if !file.text.is_empty() && !file.text.ends_with('\n') && !file.path.contains("/corpus/") {
            problems.push(file.problem(0, "does not end with a line feed"));
        }
    }
}

fn lengths(file: &File, problems: &mut Vec<Problem>) {
    let lines = file.text.lines().count();
    if lines > MAX_LINES {
        problems.push(file.problem(0, format!("{lines} lines; at most {MAX_LINES}: split it by stage")));
    }
}

fn bans(file: &File, problems: &mut Vec<Problem>) {
    let applies =
        |ban: &&Ban| ban.only_in.is_empty() || ban.only_in.iter().any(|folder| file.path.starts_with(folder));
    for ban in BANS.iter().filter(applies) {
        for (index, line) in file.text.lines().enumerate() {
            let comment = line.trim_start().starts_with("//");
            // A comment may talk about a call; it may not hold a note for later.
            if holds(line, ban.text) && (!comment || ban.text.chars().all(char::is_uppercase)) {
                let problem = format!("`{}` is banned; use {}", ban.text, ban.instead);
                problems.push(file.problem(index + 1, problem));
            }
        }
    }
}

/// Whether `text` occurs and is not the tail of a longer name (`eprintln!(` holds no `println!(`).
fn holds(line: &str, text: &str) -> bool {
    line.match_indices(text).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !text.starts_with(char::is_alphanumeric) || !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// An absolute path into a folder of one machine. A path in the middle of a longer one (`docs/home/`, a URL) is none.
fn machine_folder(line: &str) -> Option<&'static str> {
    MACHINE_FOLDERS.iter().copied().find(|folder| {
        line.match_indices(folder).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before
                .is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '}' | ')' | '*' | '~'))
        })
    })
}

fn misspelt(line: &str) -> Vec<(&'static str, &'static str)> {
    let words = line.split(|c: char| !c.is_alphabetic()).map(str::to_lowercase);
    words.filter_map(|word| MISSPELT.iter().copied().find(|(wrong, _)| *wrong == word)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::file;
    use super::*;

    fn problems_of(path: &str, text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        check(&[file(path, text)], &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(problems_of("proxy/engine/src/split.rs", &"//\n".repeat(600)), Vec::<String>::new());
        assert_eq!(problems_of("proxy/engine/src/split.rs", &"//\n".repeat(601)).len(), 1);
    }

    #[test]
    fn banned_calls_come_with_their_replacement() {
        let found = problems_of("proxy/server/src/x.rs", "let (a, b) = unbounded_channel();\n");
        assert_eq!(
            found,
            [
                "proxy/server/src/x.rs:1: `unbounded_channel` is banned; use tokio::sync::mpsc::channel(n) with a named bound"
            ]
        );
        assert_eq!(
            problems_of("proxy/server/src/x.rs", "// no unbounded_channel here\n"),
            Vec::<String>::new()
        );
        assert_eq!(problems_of("proxy/server/src/x.rs", "// TODO later\n").len(), 1);
    }

    #[test]
    fn only_libraries_may_not_print() {
        assert_eq!(problems_of("proxy/engine/src/x.rs", "println!(\"x\");\n").len(), 1);
        assert!(problems_of("proxy/engine/src/x.rs", "eprintln!(\"x\");\n").is_empty());
        assert!(problems_of("proxy/server/src/top.rs", "println!(\"x\");\n").is_empty());
    }

    #[test]
    fn folders_of_one_machine_are_found() {
        assert_eq!(problems_of("docs/x.md", "see /home/ann/weir\n").len(), 1);
        assert_eq!(problems_of("docs/x.md", "`/root/.cargo`\n").len(), 1);
        assert!(problems_of("docs/x.md", "docs/work/x and ~/work/x and https://host/work/y\n").is_empty());
    }

    #[test]
    fn misspelt_words_are_found_whole() {
        assert_eq!(problems_of("docs/x.md", "Recieve it\n").len(), 1);
        assert!(problems_of("docs/x.md", "the sandwich\n").is_empty());
    }
}
