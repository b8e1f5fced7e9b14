//! Mistakes of clients.

use crate::text::KEYSPACE;

/// What a client does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The last value is not sent.
    TooFew,
    /// One value more is sent.
    TooMany,
    /// The first value has a byte too many.
    Length,
    /// The first value is far too long.
    Long,
    /// EXECUTE names another statement.
    Id,
    /// v5: it knows other columns.
    Columns,
    /// A page state that nobody gave.
    State,
    /// A table that does not exist.
    Table,
    /// A column that does not exist.
    Column,
    /// A word that is none.
    Word,
}

impl Fault {
    /// Every mistake.
    pub const ALL: [Fault; 10] = [
        Fault::TooFew,
        Fault::TooMany,
        Fault::Length,
        Fault::Long,
        Fault::Id,
        Fault::Columns,
        Fault::State,
        Fault::Table,
        Fault::Column,
        Fault::Word,
    ];

    /// The text with it.
    pub fn text(self, text: &str) -> String {
        match self {
            Fault::Table => text.replace(KEYSPACE, &format!("{KEYSPACE}no_")),
            Fault::Column => text.replacen(" FROM ", ", nothing FROM ", 1),
            Fault::Word => text.replacen(" FROM ", " FORM ", 1),
            _ => text.to_owned(),
        }
    }
}
