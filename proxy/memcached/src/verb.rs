//! Every command weir carries, as a closed set: metric labels and tally arrays are indexed by it.

/// A command of the classic text or the meta protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Verb {
    /// `get`, and the ancient synonym `bget`.
    Get,
    /// `gets`: get with the CAS number.
    Gets,
    /// `gat`: get and touch.
    Gat,
    /// `gats`: get and touch with the CAS number.
    Gats,
    /// `set`
    Set,
    /// `add`
    Add,
    /// `replace`
    Replace,
    /// `append`
    Append,
    /// `prepend`
    Prepend,
    /// `cas`
    Cas,
    /// `incr`
    Incr,
    /// `decr`
    Decr,
    /// `delete`
    Delete,
    /// `touch`
    Touch,
    /// `mg`: meta get.
    Mg,
    /// `ms`: meta set.
    Ms,
    /// `md`: meta delete.
    Md,
    /// `ma`: meta arithmetic.
    Ma,
    /// `me`: meta debug.
    Me,
    /// `mn`: meta no-op.
    Mn,
    /// `flush_all`
    FlushAll,
    /// `stats`
    Stats,
    /// `version`
    Version,
    /// `verbosity`
    Verbosity,
    /// `quit`
    Quit,
    /// `shutdown`
    Shutdown,
}

impl Verb {
    /// How many verbs there are.
    pub const COUNT: usize = 26;

    /// Every verb, in the order of [`Verb::index`].
    pub const ALL: [Verb; Verb::COUNT] = [
        Verb::Get,
        Verb::Gets,
        Verb::Gat,
        Verb::Gats,
        Verb::Set,
        Verb::Add,
        Verb::Replace,
        Verb::Append,
        Verb::Prepend,
        Verb::Cas,
        Verb::Incr,
        Verb::Decr,
        Verb::Delete,
        Verb::Touch,
        Verb::Mg,
        Verb::Ms,
        Verb::Md,
        Verb::Ma,
        Verb::Me,
        Verb::Mn,
        Verb::FlushAll,
        Verb::Stats,
        Verb::Version,
        Verb::Verbosity,
        Verb::Quit,
        Verb::Shutdown,
    ];

    /// The word as it is sent; also the metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::Gets => "gets",
            Verb::Gat => "gat",
            Verb::Gats => "gats",
            Verb::Set => "set",
            Verb::Add => "add",
            Verb::Replace => "replace",
            Verb::Append => "append",
            Verb::Prepend => "prepend",
            Verb::Cas => "cas",
            Verb::Incr => "incr",
            Verb::Decr => "decr",
            Verb::Delete => "delete",
            Verb::Touch => "touch",
            Verb::Mg => "mg",
            Verb::Ms => "ms",
            Verb::Md => "md",
            Verb::Ma => "ma",
            Verb::Me => "me",
            Verb::Mn => "mn",
            Verb::FlushAll => "flush_all",
            Verb::Stats => "stats",
            Verb::Version => "version",
            Verb::Verbosity => "verbosity",
            Verb::Quit => "quit",
            Verb::Shutdown => "shutdown",
        }
    }

    /// Position in [`Verb::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Reads that change no item: `get` and `gets`. `gat` and `gats` touch; `mg` depends on its flags, see
    /// [`Meta::plain_read`](crate::Meta::plain_read).
    pub const fn is_read(self) -> bool {
        matches!(self, Verb::Get | Verb::Gets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_in_index_order_and_names_are_distinct() {
        for (position, verb) in Verb::ALL.iter().enumerate() {
            assert_eq!(verb.index(), position);
        }
        let mut names: Vec<_> = Verb::ALL.iter().map(|verb| verb.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Verb::COUNT);
    }
}
