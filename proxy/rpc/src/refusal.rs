//! What weir answers itself: an error in the words of the protocol that the client speaks.
//!
//! | client | answer |
//! |---|---|
//! | gRPC | HTTP 200, no body, `grpc-status`, `grpc-message` and `grpc-status-details-bin` as headers ("trailers-only") |
//! | gRPC-web | the same (browsers read headers), or the trailers as the last message of the body |
//! | Connect, unary | HTTP status of the code, JSON body |
//! | Connect, stream | HTTP 200, JSON in the message that ends the stream |
//! | other HTTP | HTTP status of the code, `retry-after` |
//!
//! A limit is RESOURCE_EXHAUSTED with `google.rpc.RetryInfo`: UNAVAILABLE and ABORTED make some clients try again at once.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::error::Malformed;
use crate::framing::{Flags, prefix};
use crate::headers::{MESSAGE_MAX, encode_grpc_message};
use crate::status::Code;
use crate::wire::{Fields, read_varint, write_len, write_number};

/// Base64 of gRPC and Connect: written without padding, read with and without.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

const RETRY_INFO: &str = "google.rpc.RetryInfo";

/// What the type of a detail begins with in `google.protobuf.Any`.
const ANY_PREFIX: &str = "type.googleapis.com/";

/// An error that weir answers itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Its code.
    pub code: Code,
    /// For a person. At most [`MESSAGE_MAX`] bytes of it are sent.
    pub message: String,
    /// When to try again; sent as RetryInfo and `retry-after`.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A call that a limit turns away.
    pub const fn limit(message: String, retry_after: Duration) -> Self {
        Self { code: Code::ResourceExhausted, message, retry_after: Some(retry_after) }
    }

    /// An error without a time to try again.
    pub const fn new(code: Code, message: String) -> Self {
        Self { code, message, retry_after: None }
    }

    fn text(&self) -> &str {
        &self.message[..self.message.floor_char_boundary(MESSAGE_MAX)]
    }

    /// Value of `grpc-message`.
    pub fn grpc_message(&self) -> String {
        encode_grpc_message(&self.message)
    }

    /// Value of `grpc-status-details-bin`: a `google.rpc.Status` in base64. `None` without details.
    pub fn grpc_details(&self) -> Option<String> {
        let info = self.retry_info()?;
        let mut any = Vec::new();
        write_len(1, format!("{ANY_PREFIX}{RETRY_INFO}").as_bytes(), &mut any);
        write_len(2, &info, &mut any);
        let mut status = Vec::new();
        write_number(1, u64::from(self.code.number()), &mut status);
        write_len(2, self.text().as_bytes(), &mut status);
        write_len(3, &any, &mut status);
        Some(STANDARD_NO_PAD.encode(status))
    }

    /// `google.rpc.RetryInfo { retry_delay = 1: google.protobuf.Duration { seconds = 1, nanos = 2 } }`.
    fn retry_info(&self) -> Option<Vec<u8>> {
        let delay = self.retry_after?;
        let mut duration = Vec::new();
        // A default of proto3 is not written.
        if delay.as_secs() > 0 {
            write_number(1, delay.as_secs(), &mut duration);
        }
        if delay.subsec_nanos() > 0 {
            write_number(2, u64::from(delay.subsec_nanos()), &mut duration);
        }
        let mut info = Vec::new();
        write_len(1, &duration, &mut info);
        Some(info)
    }

    /// Value of `retry-after`: whole seconds, rounded up, at least one.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        let delay = self.retry_after?;
        let up = u64::from(delay.subsec_nanos() > 0);
        Some(delay.as_secs().saturating_add(up).max(1))
    }

    /// Body of a gRPC-web answer without a message: the trailers, framed.
    pub fn grpc_web_body(&self) -> Vec<u8> {
        let mut lines =
            format!("grpc-status: {}\r\ngrpc-message: {}\r\n", self.code.number(), self.grpc_message());
        if let Some(details) = self.grpc_details() {
            lines.push_str(&format!("grpc-status-details-bin: {details}\r\n"));
        }
        framed(Flags::TRAILERS, lines.as_bytes())
    }

    /// Body of a unary answer of Connect.
    pub fn connect_body(&self) -> Vec<u8> {
        self.connect_error().to_string().into_bytes()
    }

    /// Body of a Connect stream that ends at once: the end of the stream, framed.
    pub fn connect_stream_body(&self) -> Vec<u8> {
        let end = serde_json::json!({ "error": self.connect_error() });
        framed(Flags::END_STREAM, end.to_string().as_bytes())
    }

    fn connect_error(&self) -> serde_json::Value {
        let mut error = serde_json::json!({ "code": self.code.connect_name(), "message": self.text() });
        if let Some(info) = self.retry_info() {
            error["details"] =
                serde_json::json!([{ "type": RETRY_INFO, "value": STANDARD_NO_PAD.encode(info) }]);
        }
        error
    }
}

fn framed(flags: Flags, payload: &[u8]) -> Vec<u8> {
    // A message is cut at MESSAGE_MAX: the payload is some KiB at most.
    [&prefix(flags, payload.len() as u32), payload].concat()
}

/// When to try again, of a `grpc-status-details-bin` that a server sent. `None` if it does not say, or not readably.
pub fn retry_after_of(details: &[u8]) -> Option<Duration> {
    let status = LENIENT.decode(details).ok()?;
    let any_prefix = ANY_PREFIX.as_bytes();
    for any in delimited(&status, 3).ok()? {
        let kind = delimited(any, 1).ok()?.last().copied().unwrap_or_default();
        if kind.strip_prefix(any_prefix) != Some(RETRY_INFO.as_bytes()) {
            continue;
        }
        let info = delimited(any, 2).ok()?.last().copied().unwrap_or_default();
        let delay = delimited(info, 1).ok()?.last().copied()?;
        let nanos = u32::try_from(number(delay, 2).ok()?).ok().filter(|nanos| *nanos < 1_000_000_000)?;
        return Some(Duration::new(number(delay, 1).ok()?, nanos));
    }
    None
}

/// The code in the JSON body of a Connect error; `None` if the body is none.
pub fn connect_code_of(body: &[u8]) -> Option<Code> {
    #[derive(serde::Deserialize)]
    struct ErrorBody<'b> {
        #[serde(borrow)]
        code: std::borrow::Cow<'b, str>,
    }
    let error: ErrorBody<'_> = serde_json::from_slice(body).ok()?;
    Code::from_connect_name(&error.code)
}

/// Values of the delimited field `number`.
fn delimited(message: &[u8], number: u32) -> Result<Vec<&[u8]>, Malformed> {
    let mut values = Vec::new();
    for field in Fields::new(message) {
        let field = field?;
        if field.tag.number == number {
            values.push(message.get(field.value).unwrap_or_default());
        }
    }
    Ok(values)
}

/// The last value of the varint field `number`; 0 if there is none.
fn number(message: &[u8], number: u32) -> Result<u64, Malformed> {
    let mut last = 0;
    for field in Fields::new(message) {
        let field = field?;
        if field.tag.number == number {
            last = read_varint(message.get(field.value).unwrap_or_default(), &mut 0)?;
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::{Deframer, Framing, Part};

    fn limit() -> Refusal {
        Refusal::limit("12,000 keys; the limit is 2,000".to_owned(), Duration::from_millis(2500))
    }

    #[test]
    fn details_are_those_of_google_rpc() {
        let refusal = limit();
        let details = refusal.grpc_details().unwrap_or_default();
        // Written out by hand from google/rpc/status.proto and error_details.proto: RetryInfo of 2 s and 500,000,000 ns.
        let info = [&[0x0A, 8, 0x08, 2, 0x10][..], &[0x80, 0xCA, 0xB5, 0xEE, 0x01]].concat();
        let type_url = b"type.googleapis.com/google.rpc.RetryInfo";
        let any = [&[0x0A, 40][..], type_url, &[0x12, 10], &info].concat();
        let message = refusal.message.as_bytes();
        let status =
            [&[0x08, 8, 0x12, message.len() as u8][..], message, &[0x1A, any.len() as u8], &any].concat();
        assert_eq!(details, STANDARD_NO_PAD.encode(&status));
        assert!(!details.contains('='));
        assert_eq!(retry_after_of(details.as_bytes()), refusal.retry_after);
        let padded = base64::engine::general_purpose::STANDARD.encode(&status);
        assert_eq!(retry_after_of(padded.as_bytes()), refusal.retry_after);
        for wrong in [&b""[..], b"!", b"AAAA", &details.as_bytes()[..20]] {
            assert_eq!(retry_after_of(wrong), None);
        }
        let plain = Refusal::new(Code::Internal, "x".to_owned());
        assert_eq!((plain.grpc_details(), plain.retry_after_seconds()), (None, None));
    }

    #[test]
    fn seconds_are_rounded_up() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (2500, 3)] {
            let refusal = Refusal::limit(String::new(), Duration::from_millis(millis));
            assert_eq!(refusal.retry_after_seconds(), Some(seconds), "{millis}");
            let details = refusal.grpc_details().unwrap_or_default();
            assert_eq!(retry_after_of(details.as_bytes()), Some(Duration::from_millis(millis)));
        }
    }

    #[test]
    fn connect_answers_in_json() {
        let body = limit().connect_body();
        let read: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        assert_eq!(read["code"], "resource_exhausted");
        assert_eq!(read["message"], "12,000 keys; the limit is 2,000");
        assert_eq!(read["details"][0]["type"], "google.rpc.RetryInfo");
        assert_eq!(read["details"][0]["value"], "CggIAhCAyrXuAQ");
        assert_eq!(connect_code_of(&body), Some(Code::ResourceExhausted));
        assert_eq!(connect_code_of(br#"{"code":"un\u0061vailable"}"#), Some(Code::Unavailable));
        for none in [&b""[..], b"{}", br#"{"code":"ok"}"#, br#"{"code":1}"#, b"[]", b"<html>"] {
            assert_eq!(connect_code_of(none), None);
        }
    }

    #[test]
    fn streams_end_with_the_error() {
        let read = |framing, body: &[u8]| {
            let (mut input, mut out) = (body, Vec::new());
            let mut deframer = Deframer::new(framing, 10_000);
            while let Ok(Some(part)) = deframer.next(&mut input) {
                match part {
                    Part::Start { flags, .. } => assert!(!flags.is_message()),
                    Part::Data(data) => out.extend_from_slice(data),
                    Part::End => (),
                }
            }
            assert_eq!(deframer.finish(), Ok(()));
            String::from_utf8(out).unwrap_or_default()
        };
        let web = read(Framing::GrpcWeb, &limit().grpc_web_body());
        assert!(
            web.starts_with("grpc-status: 8\r\ngrpc-message: 12,000 keys; the limit is 2,000\r\n"),
            "{web}"
        );
        let stream = read(Framing::Connect, &limit().connect_stream_body());
        assert!(stream.starts_with(r#"{"error":{"code":"resource_exhausted","#), "{stream}");
        let broken = Refusal::new(Code::Internal, "a\r\ngrpc-status: 0".to_owned());
        assert_eq!(
            read(Framing::GrpcWeb, &broken.grpc_web_body()).lines().count(),
            2,
            "no line of a message's own"
        );
    }
}
