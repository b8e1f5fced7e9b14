//! Outside strings, made harmless where they leave weir: process names, declared callers, addresses, error texts.
//! Each function returns text that means the same to its reader and nothing else to anybody on the way: a terminal, a
//! log viewer that renders HTML, a shell into which a line is pasted.

use std::borrow::Cow;
use std::fmt::Write;

/// Text inside the double quotes of a JSON string or a logfmt value. Besides what JSON demands, everything a terminal,
/// an HTML page or a shell could act on (`<`, `>`, `&`, `'`, `$`, backquote, control and bidirectional characters)
/// becomes a `\u` escape, which every JSON reader undoes.
#[must_use]
pub fn quoted(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_plain(c) => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    Cow::Owned(out)
}

/// Text for a terminal: control and bidirectional characters become `\u{..}`; the rest is as it was.
#[must_use]
pub fn terminal(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unprintable(c) {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Text for HTML, in element content or a quoted attribute.
#[must_use]
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in terminal(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// One word of a POSIX shell command line, for the commands weir suggests. Control characters are made visible first:
/// a suggested command never contains a byte that the reader cannot see.
#[must_use]
pub fn shell_word(text: &str) -> Cow<'_, str> {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"._:/@-+=,%".contains(&b);
    if !text.is_empty() && !text.starts_with('-') && text.bytes().all(safe) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", terminal(text).replace('\'', "'\\''")))
}

fn is_plain(c: char) -> bool {
    !is_unprintable(c) && !matches!(c, '"' | '\\' | '<' | '>' | '&' | '\'' | '$' | '`')
}

/// Characters that change what a reader sees rather than being seen: C0, DEL, C1, line and paragraph separators, zero
/// width and bidirectional formatting, byte order mark, interlinear marks, tags.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOSTILE: &str = "a\u{1b}[2Jb\nc$(reboot)`id`<script>alert('x')</script>\u{202e}\u{9b}31m\"\\";

    #[test]
    fn a_hostile_name_is_inert_everywhere() {
        let log = quoted(HOSTILE);
        assert!(!log.chars().any(|c| is_unprintable(c) || "<>&$`'".contains(c)), "{log}");
        let screen = terminal(HOSTILE);
        assert!(!screen.chars().any(is_unprintable), "{screen}");
        let page = html(HOSTILE);
        assert!(!page.chars().any(|c| is_unprintable(c) || "<>\"'".contains(c)), "{page}");
        assert_eq!(shell_word("$(reboot)\n"), "'$(reboot)\\u{a}'");
        assert_eq!(shell_word("it's"), "'it'\\''s'");
        assert_eq!(shell_word("--for"), "'--for'");
        assert_eq!(shell_word("import/worker@2"), "import/worker@2");
    }

    proptest! {
        #[test]
        fn a_json_reader_gets_the_text_back(text in any::<String>()) {
            let json = format!("\"{}\"", quoted(&text));
            prop_assert_eq!(serde_json::from_str::<String>(&json).expect("valid JSON"), text);
        }

        #[test]
        fn nothing_unprintable_is_left(text in any::<String>()) {
            prop_assert!(!quoted(&text).chars().any(is_unprintable));
            prop_assert!(!shell_word(&text).chars().any(is_unprintable));
            prop_assert!(!html(&text).contains('<'));
        }
    }
}
