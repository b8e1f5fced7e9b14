//! The id of the request of a service that a command is a part of: how clients that want their storage work counted under
//! it say it, and where it is found.
//!
//! A meta command carries it as its opaque (`O` and [`ID_TEXT`] characters; memcached takes opaques of at most 31 bytes, and
//! echoes them), a classic retrieval as its first key ([`ID_KEY_PREFIX`] and the same characters; a server that knows
//! nothing of ids finds no such key). The characters are base64url without padding, exactly: what is not 16 bytes, or
//! leaves bits over, is no id.
//!
//! Nothing here says whether an id is believed, or looked for at all: that is for the engine to decide.

use crate::line::Tokens;
use crate::meta::fixed_words;
use crate::{Meta, Retrieve};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What the first key of a classic retrieval begins with when it is an id.
pub const ID_KEY_PREFIX: &[u8] = b"__weir:";
/// Bytes of an id.
pub const ID_BYTES: usize = 16;
/// Characters of an id as text.
pub const ID_TEXT: usize = 22;

/// Reads an id from exactly [`ID_TEXT`] characters of base64url.
#[must_use]
pub fn read_id(text: &[u8]) -> Option<[u8; ID_BYTES]> {
    if text.len() != ID_TEXT {
        return None;
    }
    let mut bytes = [0; ID_TEXT]; // as long as the decoder may ask for
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    bytes.get(..length)?.try_into().ok()
}

/// Writes an id as [`read_id`] reads it.
#[must_use]
pub fn id_text(id: &[u8; ID_BYTES]) -> String {
    URL_SAFE_NO_PAD.encode(id)
}

/// The id that a key says, if it is one.
#[must_use]
pub fn id_of_key(key: &[u8]) -> Option<[u8; ID_BYTES]> {
    read_id(key.strip_prefix(ID_KEY_PREFIX)?)
}

impl Meta<'_> {
    /// The id in the opaque of the command.
    #[must_use]
    pub fn request_id(&self) -> Option<[u8; ID_BYTES]> {
        let mut flags = Tokens::new(self.line).skip(fixed_words(self.verb));
        read_id(flags.find_map(|flag| flag.strip_prefix(b"O"))?)
    }
}

impl<'a> Retrieve<'a> {
    /// The id that the first key says, and the same retrieval without that key; the keys that are left may be none.
    /// Anywhere else such a key is an ordinary one.
    #[must_use]
    pub fn split_request_id(&self) -> Option<([u8; ID_BYTES], Retrieve<'a>)> {
        let id = id_of_key(self.keys.clone().next()?)?;
        Some((id, Retrieve { keys: self.keys.without_first(), ..*self }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Request, RequestDecoder, Step};
    use proptest::prelude::*;

    fn request(bytes: &[u8]) -> Request<'_> {
        match RequestDecoder::default().decode(bytes) {
            Step::Request { request, consumed } if consumed == bytes.len() => request,
            other => panic!("{other:?}"),
        }
    }

    fn retrieve(bytes: &[u8]) -> Retrieve<'_> {
        match request(bytes) {
            Request::Retrieve(retrieve) => retrieve,
            other => panic!("{other:?}"),
        }
    }

    const TEXT: &str = "AAECAwQFBgcICQoLDA0ODw";
    const ID: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

    #[test]
    fn only_exact_texts_are_ids() {
        assert_eq!((read_id(TEXT.as_bytes()), id_text(&ID).as_str()), (Some(ID), TEXT));
        for wrong in [
            "",
            "AAECAwQFBgcICQoLDA0OD",
            "AAECAwQFBgcICQoLDA0ODwA",
            "AAECAwQFBgcICQoLDA0ODx", // bits left over
            "AAECAwQFBgcICQoLDA0OD=",
            "AAECAwQFBgcICQoLDA0OD+",
            "AAECAwQFBgcICQoLDA0O w",
        ] {
            assert_eq!(read_id(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn the_opaque_is_found_whatever_stands_around_it() {
        for line in [
            format!("mg key v O{TEXT}\r\n"),
            format!("mg  key O{TEXT}  k q\r\n"),
            format!("ms key 2 T0 O{TEXT}\r\nhi\r\n"),
            format!("md key q O{TEXT}\r\n"),
            format!("ma key O{TEXT} N0\r\n"),
        ] {
            let Request::Meta(meta) = request(line.as_bytes()) else { panic!("{line}") };
            assert_eq!(meta.request_id(), Some(ID), "{line}");
        }
        for line in [
            "mg key v\r\n".to_owned(),
            "mg key v O12\r\n".to_owned(),
            format!("mg O{TEXT} v\r\n"),
            format!("mg key v o{TEXT}\r\n"),
        ] {
            let Request::Meta(meta) = request(line.as_bytes()) else { panic!("{line}") };
            assert_eq!(meta.request_id(), None, "{line}");
        }
    }

    #[test]
    fn only_the_first_key_is_an_id() {
        let key = format!("__weir:{TEXT}");
        for verb in ["get", "gets", "gat 60", "gats 0"] {
            let line = format!("{verb}  {key}   a  b {key}\r\n");
            let (id, rest) = retrieve(line.as_bytes()).split_request_id().expect("an id");
            assert_eq!((id, rest.keys.len()), (ID, 3));
            assert_eq!(rest.keys.as_bytes(), format!("a  b {key}").as_bytes());
            assert_eq!(rest.keys.collect::<Vec<_>>(), [b"a".as_slice(), b"b", key.as_bytes()]);
            let line = format!("{verb} {key}\r\n");
            let (_, rest) = retrieve(line.as_bytes()).split_request_id().expect("an id");
            assert!(rest.keys.is_empty());
            let line = format!("{verb} a {key}\r\n");
            assert!(retrieve(line.as_bytes()).split_request_id().is_none());
        }
        assert!(retrieve(b"get __weir:x a\r\n").split_request_id().is_none());
    }

    proptest! {
        #[test]
        fn every_id_comes_back(id: [u8; 16]) {
            let text = id_text(&id);
            prop_assert_eq!(text.len(), ID_TEXT);
            prop_assert_eq!(read_id(text.as_bytes()), Some(id));
        }

        #[test]
        fn no_text_panics_and_each_id_has_one_text(text in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(id) = read_id(&text) {
                let written = id_text(&id);
                prop_assert_eq!(written.as_bytes(), text.as_slice());
            }
        }
    }
}
