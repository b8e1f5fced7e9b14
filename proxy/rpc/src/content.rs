//! What a content type says about the body: how messages stand in it, and how each is written.

/// How messages stand in a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Wire {
    /// `application/grpc`, `+proto`, `+json`: prefixed messages, status in trailers.
    Grpc,
    /// `application/grpc-web`: prefixed messages, trailers as the last of them.
    GrpcWeb,
    /// `application/grpc-web-text`: the same in base64.
    GrpcWebText,
    /// `application/connect+proto`, `+json`: prefixed messages, the last one is the end of the stream.
    ConnectStream,
    /// The body is the message: `application/proto` and `application/json`, Connect's unary calls and plain JSON over
    /// HTTP. The path says which, by naming a method of the table or not.
    Unary,
}

/// How each message is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Codec {
    /// Protobuf.
    Proto,
    /// JSON, with protobuf's mapping for calls.
    Json,
    /// Something else: passed on and not counted.
    Other,
}

/// What a content type says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ContentType {
    /// How messages stand in the body.
    pub wire: Wire,
    /// How each is written.
    pub codec: Codec,
}

impl ContentType {
    /// Reads the value of `content-type`; parameters and case do not matter. `None` if it is none of these.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let media = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let (prefix, kind) = media.split_at_checked(b"application/".len())?;
        if !prefix.eq_ignore_ascii_case(b"application/") {
            return None;
        }
        let (base, suffix) = match kind.iter().position(|byte| *byte == b'+') {
            Some(at) => (&kind[..at], Some(&kind[at + 1..])),
            None => (kind, None),
        };
        let is = |name: &str| base.eq_ignore_ascii_case(name.as_bytes());
        let wire = if is("grpc") {
            Wire::Grpc
        } else if is("grpc-web") {
            Wire::GrpcWeb
        } else if is("grpc-web-text") {
            Wire::GrpcWebText
        } else if is("connect") {
            Wire::ConnectStream
        } else {
            let codec = match suffix {
                None if is("proto") => Codec::Proto,
                None if is("json") => Codec::Json,
                _ => return None,
            };
            return Some(Self { wire: Wire::Unary, codec });
        };
        let codec = match suffix {
            // Connect has no default; gRPC's is protobuf.
            None if wire == Wire::ConnectStream => return None,
            None => Codec::Proto,
            Some(name) if name.eq_ignore_ascii_case(b"proto") => Codec::Proto,
            Some(name) if name.eq_ignore_ascii_case(b"json") => Codec::Json,
            Some(_) => Codec::Other,
        };
        Some(Self { wire, codec })
    }

    /// Whether the status of an answer is in `grpc-status`, be it in HTTP trailers or in the body.
    pub const fn is_grpc(self) -> bool {
        matches!(self.wire, Wire::Grpc | Wire::GrpcWeb | Wire::GrpcWebText)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_of_the_three_protocols() {
        for (text, wire, codec) in [
            ("application/grpc", Wire::Grpc, Codec::Proto),
            ("application/grpc+proto", Wire::Grpc, Codec::Proto),
            ("Application/gRPC+Proto; charset=utf-8", Wire::Grpc, Codec::Proto),
            ("application/grpc+thrift", Wire::Grpc, Codec::Other),
            ("application/grpc+json", Wire::Grpc, Codec::Json),
            ("application/grpc-web", Wire::GrpcWeb, Codec::Proto),
            ("application/grpc-web-text+proto", Wire::GrpcWebText, Codec::Proto),
            ("application/connect+proto", Wire::ConnectStream, Codec::Proto),
            ("application/connect+json", Wire::ConnectStream, Codec::Json),
            ("application/proto", Wire::Unary, Codec::Proto),
            (" application/json ;charset=utf-8", Wire::Unary, Codec::Json),
        ] {
            assert_eq!(ContentType::parse(text.as_bytes()), Some(ContentType { wire, codec }), "{text}");
        }
        for none in [
            "",
            "application/",
            "application/connect",
            "text/html",
            "application/json+proto",
            "grpc",
            "application/grpcx",
        ] {
            assert_eq!(ContentType::parse(none.as_bytes()), None, "{none}");
        }
    }
}
