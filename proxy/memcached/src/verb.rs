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
    /// What begins with none of the words above; never carried, so no request has it.
    Unknown,
}

/// Bytes of the longest word that names a command, and one more.
const WORD_MAX: usize = 10;

impl Verb {
    /// How many verbs there are.
    pub const COUNT: usize = 27;

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
        Verb::Unknown,
    ];

    /// The word as it is sent (but for [`Verb::Unknown`]); also the metric label.
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
            Verb::Unknown => "unknown",
        }
    }

    /// Position in [`Verb::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The command a line names, whether the rest of it is well formed or not; for the books about refused lines.
    pub fn of_line(line: &[u8]) -> Verb {
        let start = line.iter().position(|byte| *byte != b' ').unwrap_or(line.len());
        let word = &line[start..line.len().min(start + WORD_MAX)];
        let end = word.iter().position(|byte| matches!(byte, b' ' | b'\r' | b'\n')).unwrap_or(word.len());
        match &word[..end] {
            b"bget" => Verb::Get,
            word => {
                let named = Verb::ALL.into_iter().find(|verb| verb.name().as_bytes() == word);
                named.unwrap_or(Verb::Unknown)
            }
        }
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
    fn a_line_names_its_command_however_wrong_the_rest_is() {
        for verb in Verb::ALL {
            let name = verb.name();
            assert!(name.len() < WORD_MAX);
            for line in [format!("{name}\n"), format!("  {name} \x01 x"), format!("{name}\r\nget a\r\n")] {
                assert_eq!(Verb::of_line(line.as_bytes()), verb, "{line:?}");
            }
            assert_eq!(
                Verb::of_line(format!("{name}x a\r\n").as_bytes()) == verb,
                verb == Verb::Unknown,
                "{name}"
            );
        }
        assert_eq!(Verb::of_line(b"bget a\r\n"), Verb::Get);
        for nothing in [&b""[..], b" ", b"\r\n", b"GET / HTTP/1.1\r\n", b"\x80\0", b"flush_all_of_it\r\n"] {
            assert_eq!(Verb::of_line(nothing), Verb::Unknown);
        }
    }

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
