//! A statement as a reader takes it in.

use crate::config::problem::Escaped;

/// Longest text of a statement within a sentence, in characters.
const BRIEF: usize = 120;

/// A statement within a sentence: a long list of columns is left out, and the table told where the text does not say it
/// whole. Escaped for a terminal.
#[must_use]
pub fn brief(text: &str, table: &str) -> String {
    let mut shown = text.to_owned();
    if shown.chars().count() > BRIEF
        && let Some((columns, rest)) = shown.split_once(" from ")
        && columns.starts_with("select ")
    {
        shown = format!("select ... from {rest}");
    }
    if shown.chars().count() > BRIEF {
        shown = shown.chars().take(BRIEF - 3).collect::<String>() + "...";
    }
    if !table.is_empty() && !text.contains(table) {
        shown = format!("{shown} on {table}");
    }
    Escaped(&shown).to_string()
}

/// The same behind what is done with it, where its first word does not say that.
#[must_use]
pub fn asked(method: &str, text: &str, table: &str) -> String {
    let shown = brief(text, table);
    match text.split_once(' ') {
        Some((word, _)) if word == method => shown,
        _ => format!("{} of {shown}", Escaped(method)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_of_a_long_statement_is_kept() {
        let columns: Vec<String> = (0..40).map(|n| format!("column_{n}")).collect();
        let text = format!("select {} from posts where uri in ?", columns.join(", "));
        assert_eq!(brief(&text, "ks.posts"), "select ... from posts where uri in ? on ks.posts");
        let text = "select a from ks.posts where uri in ?";
        assert_eq!(brief(text, "ks.posts"), text);
        let insert = format!("insert into t({})", columns.join(", "));
        let shown = brief(&insert, "");
        assert!(shown.chars().count() == BRIEF && shown.ends_with("..."), "{shown}");
        assert_eq!(asked("select", text, ""), text);
        assert_eq!(asked("batch", "update t set a = ?", "k.t"), "batch of update t set a = ? on k.t");
        assert_eq!(brief("select \u{1b} from t", "k.t"), "select \\u{1b} from t on k.t");
    }
}
