//! Statements while they are written: words, and values that become literals or markers.

use crate::draw::Draw;
use crate::kinds::{Bound, Kind};

/// How values are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// `?`
    Marks,
    /// `:name`
    Names,
    /// Literals wherever there is one, and markers by turns.
    Mixed,
    /// Literals wherever there is one.
    Literals,
}

/// A statement, or the part of it that is written.
#[derive(Clone, Debug)]
pub struct Text {
    /// Its text.
    pub text: String,
    /// Its values, each with the name of its marker.
    pub values: Vec<(String, Bound)>,
    style: Style,
}

/// What stands for the keyspace: there are two that are the same.
pub const KEYSPACE: &str = "{ks}.";

impl Text {
    /// Nothing yet.
    pub fn new(style: Style) -> Text {
        Text { text: String::new(), values: Vec::new(), style }
    }

    /// Whether markers have names.
    pub fn named(&self) -> bool {
        self.style == Style::Names
    }

    /// Writes words as they are.
    pub fn push(&mut self, words: &str) -> &mut Text {
        self.text.push_str(words);
        self
    }

    /// Writes a marker for this value.
    pub fn mark(&mut self, value: Bound) -> &mut Text {
        let name = format!("n{}", self.values.len());
        let marker = if self.named() { format!(":{name}") } else { "?".to_owned() };
        self.values.push((name, value));
        self.push(&marker)
    }

    /// Writes a value of this type.
    pub fn value(&mut self, kind: &Kind, value: Bound, draw: &mut Draw) -> &mut Text {
        let literal = match self.style {
            Style::Marks | Style::Names => false,
            Style::Mixed => draw.percent(50),
            Style::Literals => true,
        };
        let text = match &value {
            Bound::Value(bytes) if literal => kind.literal(bytes),
            Bound::Null if literal => Some("null".to_owned()),
            _ => None,
        };
        match text {
            Some(text) => self.push(&text),
            None => self.mark(value),
        }
    }

    /// Writes a whole number.
    pub fn number(&mut self, number: i64, draw: &mut Draw) -> &mut Text {
        self.value(&Kind::INT, Bound::Value((number as i32).to_be_bytes().to_vec()), draw)
    }

    /// Writes each with the words between.
    pub fn each<T>(
        &mut self,
        between: &str,
        all: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Text, T),
    ) -> &mut Text {
        for (at, one) in all.into_iter().enumerate() {
            if at > 0 {
                self.push(between);
            }
            write(self, one);
        }
        self
    }
}
