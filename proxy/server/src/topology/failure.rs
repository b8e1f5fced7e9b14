//! Why the control plane could not read a cluster: the driver's errors as one of a few causes.

use rustls::{CertificateError as Certificate, Error as Tls};
use scylla::errors::{
    BrokenConnectionError, BrokenConnectionErrorKind as Broken, ConnectionError, ConnectionPoolError,
    ConnectionSetupRequestErrorKind as Setup, DbError, FrameHeaderParseError as Header, MetadataError,
    MetadataFetchErrorKind as Fetch, NewSessionError, NextPageError, NextRowError,
    RequestAttemptError as Attempt, RequestError,
};
use std::io;
use std::time::Duration;
use weir_telemetry::PlacementFailure;

/// Bytes of the driver's words that are kept.
const WORDS_MAX: usize = 300;

/// One failure.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// For the metric.
    pub(super) cause: PlacementFailure,
    /// For the operator, from the driver.
    pub(super) what: String,
    /// Reading less of the schema may help.
    pub(super) lower: bool,
}

impl Failure {
    pub(super) fn timeout(patience: Duration) -> Failure {
        let what = format!("no answer within {} s", patience.as_secs());
        Failure { cause: PlacementFailure::Timeout, what, lower: false }
    }

    fn new(cause: PlacementFailure, error: &impl ToString) -> Failure {
        let mut what = error.to_string();
        what.truncate(what.floor_char_boundary(WORDS_MAX));
        Failure { cause, what, lower: false }
    }
}

pub(super) fn of_session(error: &NewSessionError) -> Failure {
    match error {
        NewSessionError::MetadataError(error) => of_metadata(error),
        other => Failure::new(PlacementFailure::Connect, other),
    }
}

pub(super) fn of_metadata(error: &MetadataError) -> Failure {
    let cause = match error {
        MetadataError::ConnectionPoolError(ConnectionPoolError::Broken { last_connection_error }) => {
            if let Some(tls) = tls_of(last_connection_error) {
                return Failure::new(of_tls(tls), &format!("no TLS connection: {tls}"));
            }
            of_connection(last_connection_error)
        }
        MetadataError::ConnectionPoolError(_) => PlacementFailure::Connect,
        MetadataError::FetchError(fetch) => of_fetch(&fetch.error),
        _ => PlacementFailure::Metadata,
    };
    let unread =
        matches!(error, MetadataError::Keyspaces(_) | MetadataError::Udts(_) | MetadataError::Tables(_));
    Failure { lower: unread, ..Failure::new(cause, error) }
}

fn of_connection(error: &ConnectionError) -> PlacementFailure {
    match error {
        ConnectionError::ConnectTimeout => PlacementFailure::Timeout,
        ConnectionError::ConnectionSetupRequestError(refused) => match refused.get_error() {
            Setup::DbError(DbError::AuthenticationError | DbError::Unauthorized, _)
            | Setup::StartAuthSessionError(_)
            | Setup::AuthChallengeEvaluationError(_)
            | Setup::AuthFinishError(_)
            | Setup::MissingAuthentication => PlacementFailure::Auth,
            _ => PlacementFailure::Connect,
        },
        _ => PlacementFailure::Connect,
    }
}

/// What TLS said, where it is TLS that failed. A node may refuse weir's certificate after weir has taken the node's: then
/// it is the first request that fails.
fn tls_of(error: &ConnectionError) -> Option<&Tls> {
    match error {
        ConnectionError::IoError(error) => tls_inside(error),
        ConnectionError::BrokenConnection(error) => tls_behind(error),
        ConnectionError::ConnectionSetupRequestError(refused) => match refused.get_error() {
            Setup::BrokenConnection(error) => tls_behind(error),
            _ => None,
        },
        _ => None,
    }
}

fn tls_inside(error: &io::Error) -> Option<&Tls> {
    error.get_ref()?.downcast_ref()
}

fn tls_behind(error: &BrokenConnectionError) -> Option<&Tls> {
    match error.downcast_ref()? {
        Broken::FrameHeaderParseError(Header::HeaderIoError(error)) | Broken::WriteError(error) => {
            tls_inside(error)
        }
        _ => None,
    }
}

fn of_tls(error: &Tls) -> PlacementFailure {
    match error {
        Tls::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            PlacementFailure::TlsIssuer
        }
        Tls::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => PlacementFailure::TlsName,
        Tls::InvalidCertificate(
            Certificate::Expired
            | Certificate::ExpiredContext { .. }
            | Certificate::NotValidYet
            | Certificate::NotValidYetContext { .. },
        ) => PlacementFailure::TlsExpired,
        _ => PlacementFailure::Tls,
    }
}

fn of_fetch(error: &Fetch) -> PlacementFailure {
    match error {
        Fetch::NextRowError(NextRowError::NextPageError(NextPageError::RequestFailure(request))) => {
            match request {
                RequestError::RequestTimeout(_) => PlacementFailure::Timeout,
                RequestError::ConnectionPoolError(_)
                | RequestError::LastAttemptError(Attempt::BrokenConnectionError(_)) => {
                    PlacementFailure::Connect
                }
                RequestError::LastAttemptError(Attempt::DbError(DbError::Unauthorized, _)) => {
                    PlacementFailure::Auth
                }
                _ => PlacementFailure::Metadata,
            }
        }
        Fetch::PrepareError(Attempt::BrokenConnectionError(_)) => PlacementFailure::Connect,
        _ => PlacementFailure::Metadata,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scylla::errors::TablesMetadataError;

    #[test]
    fn words_are_bounded_and_a_type_that_is_not_understood_asks_for_less() {
        let broken = TablesMetadataError::InvalidCqlType {
            typ: "ä".repeat(WORDS_MAX),
            position: 0,
            reason: "unknown".into(),
        };
        let failure = of_metadata(&MetadataError::Tables(broken));
        assert_eq!((failure.cause, failure.lower), (PlacementFailure::Metadata, true));
        assert!(failure.what.len() <= WORDS_MAX && failure.what.contains("ää"));

        let refused = ConnectionPoolError::Broken { last_connection_error: ConnectionError::ConnectTimeout };
        let failure = of_metadata(&MetadataError::ConnectionPoolError(refused));
        assert_eq!((failure.cause, failure.lower), (PlacementFailure::Timeout, false));
    }
}
