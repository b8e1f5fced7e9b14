//! What must hold for any text: no panic, shapes inside the text, fingerprints that do not see what does not matter.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use weir_cql::statement::{Body, InValues, OpaqueCause, STATEMENT_MAX, fingerprint, invariants, read};

/// The statements of the table, as seeds.
fn seeds() -> Vec<String> {
    [
        include_str!("statements/select.txt"),
        include_str!("statements/modify.txt"),
        include_str!("statements/batch.txt"),
    ]
    .iter()
    .flat_map(|file| file.lines())
    .filter_map(|line| line.strip_prefix("> "))
    .map(|text| text.replace("\\n", "\n"))
    .collect()
}

/// Tokens that are no blank and no comment, with the literals marked: a small splitter of its own for texts made here.
fn pieces() -> Vec<Vec<&'static str>> {
    vec![
        vec![
            "SELECT", "a", ",", "\"B\"", "FROM", "ks", ".", "t", "WHERE", "k", "IN", "(", "'#'", ",", "'#'",
            ")", "LIMIT", "#",
        ],
        vec![
            "SELECT",
            "count",
            "(",
            "*",
            ")",
            "FROM",
            "t",
            "WHERE",
            "k",
            "=",
            "#",
            "AND",
            "c",
            ">=",
            "'#'",
            "ALLOW",
            "FILTERING",
        ],
        vec![
            "INSERT", "INTO", "t", "(", "a", ",", "b", ")", "VALUES", "(", "#", ",", "{", "'#'", ":", "#",
            "}", ")", "USING", "TTL", "#",
        ],
        vec![
            "UPDATE", "t", "SET", "c", "=", "c", "+", "#", ",", "m", "[", "'#'", "]", "=", "?", "WHERE", "k",
            "=", "#",
        ],
        vec![
            "BEGIN", "BATCH", "DELETE", "FROM", "t", "WHERE", "k", "=", "'#'", ";", "UPDATE", "t", "SET",
            "v", "=", "#", "WHERE", "k", "=", "'#'", "APPLY", "BATCH", ";",
        ],
    ]
}

/// The pieces with these blanks between them, these numbers for `#`, and upper case where the bits say so.
fn write(pieces: &[&str], blanks: &[&str], numbers: &[u32], upper: &[bool]) -> String {
    let mut out = String::new();
    for (at, piece) in pieces.iter().enumerate() {
        out.push_str(blanks[at % blanks.len()]);
        let quoted = piece.starts_with('"') || piece.contains('#');
        let piece = piece.replace('#', &numbers[at % numbers.len()].to_string());
        if quoted {
            out.push_str(&piece);
        } else if upper[at % upper.len()] {
            out.push_str(&piece.to_uppercase());
        } else {
            out.push_str(&piece.to_lowercase());
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes(text in vec(any::<u8>(), 0..200)) {
        invariants::check_text(&text);
    }

    #[test]
    fn random_tokens(tokens in vec(select(vec![
        "SELECT", "FROM", "WHERE", "IN", "AND", "a", "t", ".", ",", "(", ")", "[", "]", "{", "}", "?", ":", ":x", "'s'",
        "1", "-1", "-", "+", "*", "=", "<=", "..", "null", "INSERT", "INTO", "VALUES", "UPDATE", "SET", "DELETE", "BEGIN",
        "BATCH", "APPLY", ";", "USING", "TTL", "IF", "EXISTS", "NOT", "token", "count", "cast", "AS", "\"Q\"", "\"q\"",
        "now", "LIMIT", "ORDER", "BY", "-- c\n", "0xff", "NaN", "$$d$$", "json", "DISTINCT", "int", "<", ">",
    ]), 0..40), glue in select(vec![" ", "", "\n"])) {
        invariants::check_text(tokens.join(glue).as_bytes());
    }

    #[test]
    fn mutated_statements(
        seed in select(seeds()),
        edits in vec((any::<prop::sample::Index>(), 0..5_u8, any::<u8>()), 1..6),
    ) {
        let mut text = seed.into_bytes();
        for (at, what, byte) in edits {
            if text.is_empty() {
                break;
            }
            let at = at.index(text.len());
            match what {
                0 => text[at] = byte,
                1 => text.insert(at, byte),
                2 => { text.remove(at); }
                3 => text.truncate(at),
                _ => { let tail = text[at..].to_vec(); text.extend_from_slice(&tail); }
            }
        }
        invariants::check_text(&text);
    }

    #[test]
    fn blanks_case_and_literals_do_not_matter(
        pieces in select(pieces()),
        blanks in vec(select(vec![" ", "  ", "\n", "\t", " /* it's */ ", " -- '\n", " // \"\r "]), 1..8),
        numbers in vec(0..100_000_u32, 1..8),
        upper in vec(any::<bool>(), 1..8),
    ) {
        let plain = write(&pieces, &[" "], &[1], &[false]);
        let other = write(&pieces, &blanks, &numbers, &upper);
        prop_assert_eq!(fingerprint(plain.as_bytes()), fingerprint(other.as_bytes()), "{}", other);
        let (plain, other) = (read(plain.as_bytes()), read(other.as_bytes()));
        prop_assert!(!matches!(plain.body, Body::Opaque(_)));
        prop_assert!(!matches!(other.body, Body::Opaque(_)));
        prop_assert_eq!((plain.kind, plain.markers), (other.kind, other.markers));
    }

    #[test]
    fn the_arity_of_in_is_counted(keys in vec("[a-z']{0,8}", 1..200), markers in any::<bool>()) {
        let list: Vec<String> = keys
            .iter()
            .map(|key| if markers { "?".to_owned() } else { format!("'{}'", key.replace('\'', "''")) })
            .collect();
        let text = format!("SELECT a FROM t WHERE z = ? AND k IN ({}) LIMIT 5", list.join(", "));
        let Body::Select(select) = read(text.as_bytes()).body else { panic!("opaque: {text}") };
        let count = u32::try_from(keys.len()).unwrap();
        let relation = select.filter.in_of(text.as_bytes(), "k").unwrap();
        let want = if markers { InValues::Markers { first: 1, count } } else { InValues::Literals { count } };
        prop_assert_eq!(relation.values, want);
        // The span is exactly the list: putting a marker in its place gives the form with one bound list.
        let mut one = text.clone();
        one.replace_range(relation.span.range(), "?");
        prop_assert_eq!(one.as_str(), "SELECT a FROM t WHERE z = ? AND k IN ? LIMIT 5");
        prop_assert_eq!(fingerprint(text.as_bytes()).text, "select a from t where z = ? and k in (?) limit ?");
    }
}

#[test]
fn every_statement_of_the_table_keeps_the_promises() {
    let seeds = seeds();
    assert!(seeds.len() > 100);
    for text in seeds {
        invariants::check_text(text.as_bytes());
    }
}

/// 20,000 keys as text: what the largest literal `IN` seen in the wild looks like (1.5 MB).
#[test]
fn a_huge_literal_in_is_read_in_milliseconds() {
    let keys: Vec<String> =
        (0..20_000).map(|at| format!("'at://did:plc:{at:024}/app.bsky.feed.post/3k{at:011}'")).collect();
    let text = format!("SELECT record FROM posts WHERE uri IN ({})", keys.join(","));
    assert!(text.len() > 1_400_000);
    let mut best = Duration::MAX;
    for _ in 0..5 {
        #[expect(clippy::disallowed_methods, reason = "a test may look at the clock")]
        let begin = Instant::now();
        let statement = read(text.as_bytes());
        let print = fingerprint(text.as_bytes());
        best = best.min(begin.elapsed());
        let Body::Select(select) = statement.body else { panic!("opaque") };
        assert_eq!(select.filter.ins[0].values, InValues::Literals { count: 20_000 });
        assert_eq!(print.text, "select record from posts where uri in (?)");
    }
    eprintln!("1.5 MB literal IN, read and fingerprint: {best:?}");
    // Thirty times what an unoptimised build needs: only a change of order of growth breaks it.
    assert!(best < Duration::from_millis(500), "{best:?}");
}

#[test]
fn over_the_cap_only_kind_and_arity_are_known() {
    let text =
        format!("select a from t where k in ({})", "'xxxxxxxxxxxxxxxx',".repeat(STATEMENT_MAX / 19 + 1));
    let statement = read(text.as_bytes());
    assert_eq!(statement.body, Body::Opaque(OpaqueCause::TooLong));
    assert_eq!(statement.kind.label(), "select");
    assert_eq!(statement.arity_at_most, Some(u32::try_from(STATEMENT_MAX / 19 + 2).unwrap()));
    assert!(!fingerprint(text.as_bytes()).complete);
}
