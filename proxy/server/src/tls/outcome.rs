//! How a client's TLS handshake failed, as one of a few words.

use rustls::{Error, InvalidMessage};
use std::io;
use weir_telemetry::HandshakeResult;

/// The word for an error of a listener's handshake.
#[must_use]
pub fn outcome(error: &io::Error) -> HandshakeResult {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        None => HandshakeResult::Gone,
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => HandshakeResult::NotTls,
        Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => HandshakeResult::Certificate,
        Some(Error::PeerIncompatible(_)) => HandshakeResult::Incompatible,
        Some(Error::AlertReceived(_)) => HandshakeResult::Refused,
        Some(_) => HandshakeResult::Error,
    }
}
