//! Names of items in memcached: the kind, then what it is about, readable where memcached allows it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The longest key that memcached takes, in bytes.
const LONGEST: usize = 250;
/// The longest text that storage is asked about, in bytes; a longer one is answered as missing. No address or name of the
/// protocol comes near it.
pub const ASKED_LONGEST: usize = 2_048;

/// The key of `about` in `kind`: `KIND:ABOUT`, or a digest of it where that is no key of memcached's.
pub fn of(kind: &str, about: &str) -> String {
    let plain = about.bytes().all(|byte| byte.is_ascii_graphic());
    if plain && kind.len() + 1 + about.len() <= LONGEST {
        return format!("{kind}:{about}");
    }
    let digest = blake3::hash(about.as_bytes());
    format!("{kind}#{}", URL_SAFE_NO_PAD.encode(digest.as_bytes()))
}

/// The key of what `actor` has to do with `subject`: no two pairs share one, whatever is in the names.
pub fn of_pair(kind: &str, actor: &str, subject: &str) -> String {
    match actor.contains('|') {
        false => of(kind, &format!("{actor}|{subject}")),
        // The space makes it a digest, which no readable key is.
        true => of(kind, &format!("{} {actor}|{subject}", actor.len())),
    }
}

/// Whether storage can be asked about it at all: not empty, and no longer than [`ASKED_LONGEST`].
pub fn can_be_asked(about: &str) -> bool {
    !about.is_empty() && about.len() <= ASKED_LONGEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_readable_where_they_may_be() {
        assert_eq!(of("r", "at://did:plc:a/x/1"), "r:at://did:plc:a/x/1");
        for odd in ["a b", "a\r\nset x 0 0 1", "ü", &"x".repeat(400)] {
            let key = of("r", odd);
            assert!(key.starts_with("r#") && key.len() == 45 && key.is_ascii(), "{key}");
        }
        assert_ne!(of("r", "a b"), of("r", "a c"));
    }

    #[test]
    fn no_two_pairs_share_a_key() {
        let pairs = [("a", "b|c"), ("a|b", "c"), ("", "a|b"), ("|", ""), ("", "|"), ("1 a", "b"), ("a", "b")];
        let keys: std::collections::BTreeSet<String> =
            pairs.iter().map(|(a, b)| of_pair("e", a, b)).collect();
        assert_eq!(keys.len(), pairs.len(), "{keys:?}");
        assert_eq!(of_pair("e", "did:plc:a", "did:plc:b"), "e:did:plc:a|did:plc:b");
    }
}
