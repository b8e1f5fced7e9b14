//! The message of a Connect call that is a GET: in the query, `?connect=v1&encoding=json&message=...`, with `base64=1` in
//! base64 for URLs, with `compression=gzip` compressed (<https://connectrpc.com/docs/protocol#unary-get-request>).

use std::fmt;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::content::Codec;
use crate::headers::PercentDecoded;

/// Base64 for URLs; padding may be there or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The message in a query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GetMessage {
    /// How it is written.
    pub codec: Codec,
    /// It is compressed.
    pub compressed: bool,
    /// Its bytes; no more than the query has.
    pub bytes: Vec<u8>,
}

/// Why a query's message cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum NoMessage {
    /// `base64=1` and it is none.
    Base64,
    /// A parameter is there twice: two services may read different ones.
    Twice,
}

impl fmt::Display for NoMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoMessage::Base64 => "the message in the query is no base64 for URLs",
            NoMessage::Twice => "a parameter of the query is there twice",
        })
    }
}

impl std::error::Error for NoMessage {}

/// The message in `query`: what is between `?` and `#` of a URL. `None`: there is no `message` in it.
///
/// # Errors
/// When it cannot be read, or not in one way only.
pub fn message(query: &[u8]) -> Result<Option<GetMessage>, NoMessage> {
    let [mut message, mut encoding, mut base64, mut compression] = [None, None, None, None];
    for parameter in query.split(|byte| *byte == b'&') {
        let mut halves = parameter.splitn(2, |byte| *byte == b'=');
        let name = decoded(halves.next().unwrap_or_default());
        let place = match &*name {
            b"message" => &mut message,
            b"encoding" => &mut encoding,
            b"base64" => &mut base64,
            b"compression" => &mut compression,
            _ => continue,
        };
        if place.replace(decoded(halves.next().unwrap_or_default())).is_some() {
            return Err(NoMessage::Twice);
        }
    }
    let Some(bytes) = message else { return Ok(None) };
    let bytes = match base64.as_deref() {
        Some(b"1") => BASE64.decode(&bytes).map_err(|_| NoMessage::Base64)?,
        _ => bytes,
    };
    let codec = match encoding.as_deref() {
        Some(b"proto") => Codec::Proto,
        Some(b"json") => Codec::Json,
        _ => Codec::Other,
    };
    let compressed = compression.is_some_and(|how| !how.is_empty() && how != b"identity");
    Ok(Some(GetMessage { codec, compressed, bytes }))
}

fn decoded(text: &[u8]) -> Vec<u8> {
    // A plus that is meant is written as %2B.
    let spaced = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect::<Vec<u8>>();
    PercentDecoded::new(&spaced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Option<GetMessage>, NoMessage> {
        message(query.as_bytes())
    }

    fn is(codec: Codec, compressed: bool, bytes: &[u8]) -> Result<Option<GetMessage>, NoMessage> {
        Ok(Some(GetMessage { codec, compressed, bytes: bytes.to_vec() }))
    }

    #[test]
    fn messages_stand_in_queries_in_several_ways() {
        let json = br#"{"uris": ["a+b"]}"#;
        assert_eq!(
            read("connect=v1&encoding=json&message=%7B%22uris%22:+%5B%22a%2Bb%22%5D%7D"),
            is(Codec::Json, false, json)
        );
        for padded in ["CgFhCgFi", "CgFhCgFiCgJjZA==", "CgFhCgFiCgJjZA", "CgFhCgFiCgJjZA%3D%3D"] {
            let read =
                read(&format!("message={padded}&base64=1&encoding=proto")).expect("good").expect("there");
            assert!(read.codec == Codec::Proto && read.bytes.starts_with(b"\x0a\x01a\x0a\x01b"), "{padded}");
        }
        assert_eq!(read("encoding=proto&base64=1&message=-_8"), is(Codec::Proto, false, &[0xfb, 0xff]));
        assert_eq!(read("m%65ssage=x&encoding=json&base64=0"), is(Codec::Json, false, b"x"));
        assert_eq!(read("message=x&encoding=json&compression=gzip"), is(Codec::Json, true, b"x"));
        assert_eq!(read("message=x&encoding=json&compression=identity"), is(Codec::Json, false, b"x"));
        assert_eq!(read("message=x"), is(Codec::Other, false, b"x"));
        assert_eq!(read("message"), is(Codec::Other, false, b""));
    }

    #[test]
    fn what_cannot_be_read_in_one_way_is_an_error() {
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("connect=v1&encoding=json"), Ok(None));
        assert_eq!(read("message=a&message=b"), Err(NoMessage::Twice));
        assert_eq!(read("message=a&encoding=json&encoding=proto"), Err(NoMessage::Twice));
        for wrong in ["a", "a*bc", "ab+c", "YQ===", "//"] {
            assert_eq!(read(&format!("base64=1&message={wrong}")), Err(NoMessage::Base64), "{wrong}");
        }
    }
}
