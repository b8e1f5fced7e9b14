//! Clients' connections, as the owner of an edge counts and bounds them: asked once when one has connected
//! ([`crate::Gate::visit`]), once when it is known who it is, and told its end.

use crate::client::Client;
use crate::open::NotOpened;
use rustls::pki_types::CertificateDer;
use std::io;
use std::time::Duration;

/// One client's connection.
pub trait Visit: Send + 'static {
    /// What there is to learn of the client is known: it has sent its first bytes, and its TLS handshake is done, where
    /// there is one. `false` closes it.
    fn known(&mut self, certificate: Option<&CertificateDer<'static>>) -> bool {
        let _ = certificate;
        true
    }

    /// It is over, after so many requests. Told last, and once; a connection whose task panics is dropped without it.
    fn left(self: Box<Self>, how: Left, requests: u32) {
        let _ = (how, requests);
    }
}

/// A connection that nobody counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Visit for Unwatched {}

/// How a connection ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Left {
    /// The client closed it.
    Client,
    /// The edge ended it in its protocol's way: the client asked for it, or `requests_per_connection` were made.
    Ended,
    /// Nothing was asked for `idle_timeout`.
    Idle,
    /// Nothing came, or the head of a request too slowly.
    Slow,
    /// What the client sent is no HTTP, or more of HTTP/2 than is borne: resets, frames, headers.
    Protocol,
    /// Its TLS handshake failed, with this; without it, it took too long.
    NoTls(Option<io::Error>),
    /// Its owner did not let it in ([`Visit::known`]), or there are `max_connections`.
    TurnedAway,
    /// The edge drained.
    Drained,
    /// Reading or writing failed.
    Broken,
}

impl Left {
    /// Of a connection that was not opened.
    pub(crate) fn unopened(why: NotOpened, over_tls: bool) -> Left {
        match why {
            NotOpened::Late if over_tls => Left::NoTls(None),
            NotOpened::Late => Left::Slow,
            NotOpened::Failed(error) if over_tls => Left::NoTls(Some(error)),
            NotOpened::Failed(error) if error.kind() == io::ErrorKind::UnexpectedEof => Left::Client,
            NotOpened::Failed(_) => Left::Broken,
        }
    }

    /// Of one whose requests were served, and that ended by itself.
    pub(crate) fn served(client: &Client, http2: bool, idle_timeout: Duration) -> Left {
        // Time-outs of HTTP/1.1 count whole seconds.
        let idle = Duration::from_secs(idle_timeout.as_secs());
        match client.end_seen() {
            Some(Ok(())) => Left::Client,
            Some(Err(())) => Left::Broken,
            None if client.quiet_for().is_some_and(|quiet| quiet >= idle) => Left::Idle,
            // A head that is no head, or an end that only a wrong frame brings while the client is there.
            None if client.head_takes().is_some() || (http2 && !*client.leaving().borrow()) => Left::Protocol,
            None => Left::Ended,
        }
    }
}
