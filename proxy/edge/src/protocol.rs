//! What a request speaks, told from its head alone: it decides how the edge may refuse it and where its deadline stands.

use http::{HeaderMap, Method, header};

/// What a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// gRPC: status in trailers.
    Grpc,
    /// gRPC-web: trailers in the body.
    GrpcWeb,
    /// Connect, one message each way: an error is JSON with an HTTP status.
    ConnectUnary,
    /// Connect with envelopes: an error is the last envelope.
    ConnectStream,
    /// Anything else.
    Http,
}

impl Protocol {
    /// Tells it from method, query and headers.
    #[must_use]
    pub fn of(method: &Method, query: &str, headers: &HeaderMap) -> Protocol {
        let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        let starts = |prefix: &[u8]| {
            content_type.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        if starts(b"application/grpc-web") {
            Protocol::GrpcWeb
        } else if starts(b"application/grpc") {
            Protocol::Grpc
        } else if starts(b"application/connect+") {
            Protocol::ConnectStream
        } else if headers.contains_key("connect-protocol-version")
            || (method == Method::POST && starts(b"application/proto"))
            || (method == Method::GET && query.split('&').any(|pair| pair == "connect=v1"))
        {
            Protocol::ConnectUnary
        } else {
            Protocol::Http
        }
    }

    /// The value of the label `protocol`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Grpc | Protocol::GrpcWeb => "grpc",
            Protocol::ConnectUnary | Protocol::ConnectStream => "connect",
            Protocol::Http => "http",
        }
    }

    /// A call can be carried in parts ([`crate::Verdict::Split`]): one message each way, whose status the edge can read and
    /// write. The others go whole. (Of gRPC-web the binary form only: its text is not asked about here.)
    #[must_use]
    pub fn can_be_split(self) -> bool {
        match self {
            Protocol::Grpc | Protocol::GrpcWeb | Protocol::ConnectUnary | Protocol::Http => true,
            Protocol::ConnectStream => false,
        }
    }

    /// Messages have five bytes in front of them, and the status is behind them: gRPC and gRPC-web.
    pub(crate) fn has_prefixes(self) -> bool {
        matches!(self, Protocol::Grpc | Protocol::GrpcWeb)
    }

    /// It is a call of a method: its deadline is one of the whole.
    #[must_use]
    pub fn is_rpc(self) -> bool {
        self != Protocol::Http
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: Method, query: &str, headers: &[(&'static str, &str)]) -> Protocol {
        let pairs = headers.iter().map(|(name, value)| {
            (header::HeaderName::from_static(name), value.parse().expect("a header value"))
        });
        Protocol::of(&method, query, &pairs.collect())
    }

    #[test]
    fn protocols_are_told_by_their_heads() {
        use Protocol::{ConnectStream, ConnectUnary, Grpc, GrpcWeb, Http};
        let typed = |content_type| of(Method::POST, "", &[("content-type", content_type)]);
        assert_eq!(typed("application/grpc"), Grpc);
        assert_eq!(typed("Application/gRPC+proto"), Grpc);
        assert_eq!(typed("application/grpc-web+proto"), GrpcWeb);
        assert_eq!(typed("application/grpc-web-text"), GrpcWeb);
        assert_eq!(typed("application/connect+json"), ConnectStream);
        assert_eq!(typed("application/proto"), ConnectUnary);
        assert_eq!(typed("application/json"), Http);
        assert_eq!(typed(""), Http);
        let json = [("content-type", "application/json"), ("connect-protocol-version", "1")];
        assert_eq!(of(Method::POST, "", &json), ConnectUnary);
        assert_eq!(of(Method::GET, "encoding=json&connect=v1", &[]), ConnectUnary);
        assert_eq!(of(Method::GET, "disconnect=v1", &[]), Http);
    }
}
