//! The edge as pingora-proxy sees it. Every request is carried by `exchange`, whole, inside `request_filter`; what pingora
//! forwards by itself are upgraded connections (WebSockets), which are bytes from then on.

use crate::client::Client;
use crate::exchange::{Done, Ending, Shared, carry, client_of};
use crate::headers;
use async_trait::async_trait;
use pingora_core::ErrorType::{self, ConnectionClosed, InternalError};
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::http::ServerSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_http::RequestHeader;
use pingora_proxy::{FailToProxy, ProxyHttp, Session};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weir_engine::settings::Address;

/// The proxy of one edge.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) shared: Arc<Shared>,
    /// Upgraded connections that may still be opened: each has one to the service for itself.
    pub(crate) upgrades: Arc<Semaphore>,
}

/// What one request remembers between pingora's questions.
#[derive(Default)]
pub(crate) struct Memory {
    ending: Option<Ending>,
    upgrade: Option<Upgrade>,
}

struct Upgrade {
    _place: OwnedSemaphorePermit,
}

impl Service {
    async fn peer(&self) -> Result<HttpPeer> {
        let settings = &self.shared.settings.upstream;
        let mut last = None;
        for address in &self.shared.upstream.best_first() {
            let found = match address {
                Address::Tcp { host, port } => match tokio::net::lookup_host((&**host, *port)).await {
                    Ok(mut found) => found.next().map(|address| HttpPeer::new(address, false, String::new())),
                    Err(_) => None,
                },
                Address::Unix { path } => match HttpPeer::new_uds(path, false, String::new()) {
                    Ok(peer) => Some(peer),
                    Err(error) => {
                        last = Some(error);
                        None
                    }
                },
                _ => None,
            };
            if let Some(mut peer) = found {
                peer.options.connection_timeout = Some(settings.connect_timeout);
                peer.options.total_connection_timeout = Some(settings.connect_timeout);
                peer.options.write_timeout = Some(self.shared.settings.requests.write_timeout);
                // Nothing of it is kept for the next request.
                peer.options.idle_timeout = Some(std::time::Duration::ZERO);
                return Ok(peer);
            }
        }
        Err(last
            .unwrap_or_else(|| Error::explain(ErrorType::ConnectError, "no address of the service resolves")))
    }
}

#[async_trait]
impl ProxyHttp for Service {
    type CTX = Memory;

    fn new_ctx(&self) -> Memory {
        Memory::default()
    }

    /// None: bodies pass as they are.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, memory: &mut Memory) -> Result<()> {
        let Some(client) = client_of(session) else {
            return Error::e_explain(InternalError, "a session without its client");
        };
        let limits = &self.shared.settings;
        if client.began() >= limits.clients.requests_per_connection {
            client.leave();
        }
        memory.ending = Some(Ending::new(client, &self.shared.stats));
        let session = &mut session.downstream_session;
        session.set_write_timeout(Some(limits.requests.write_timeout));
        session.set_read_timeout(Some(limits.requests.body_timeout));
        session.set_total_drain_timeout(Some(limits.requests.body_timeout));
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, memory: &mut Memory) -> Result<bool> {
        let (Some(client), Some(ending)) = (client_of(session), &mut memory.ending) else {
            return Error::e_explain(InternalError, "a request without its client");
        };
        let client: &Client = &client;
        match carry(&self.shared, client, session, ending).await {
            Done::Written => {
                memory.ending = None;
                Ok(true)
            }
            Done::Abort => {
                memory.ending = None;
                Error::e_explain(ConnectionClosed, "broken off")
            }
            // Pingora is built without TLS here: what it forwards by itself would leave in the clear.
            Done::Upgrade if self.shared.settings.upstream.tls.is_some() => {
                Error::e_explain(ErrorType::HTTPStatus(501), "no upgrades to a service with TLS")
            }
            Done::Upgrade => match self.upgrades.clone().try_acquire_owned() {
                Ok(place) => {
                    memory.upgrade = Some(Upgrade { _place: place });
                    Ok(false)
                }
                Err(_) => Error::e_explain(ErrorType::HTTPStatus(503), "too many upgraded connections"),
            },
        }
    }

    async fn upstream_peer(&self, _session: &mut Session, memory: &mut Memory) -> Result<Box<HttpPeer>> {
        if memory.upgrade.is_none() {
            return Error::e_explain(InternalError, "only upgraded connections are forwarded by pingora");
        }
        Ok(Box::new(self.peer().await?))
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        _memory: &mut Memory,
    ) -> Result<()> {
        // Nobody vouched for it: an upgrade's plan is not asked about it.
        for name in headers::CALLER_HEADERS {
            request.remove_header(name);
        }
        Ok(())
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, memory: &mut Memory) -> FailToProxy {
        let failed = |error_code| FailToProxy { error_code, can_reuse_downstream: false };
        if memory.upgrade.is_none() && !matches!(error.etype(), ErrorType::HTTPStatus(_)) {
            // Half an answer must not end like a whole one.
            if let ServerSession::H2(http2) = &mut *session.downstream_session {
                http2.shutdown_with_reason(h2::Reason::INTERNAL_ERROR);
            }
            return failed(0);
        }
        let code = match error.etype() {
            ErrorType::HTTPStatus(code) => *code,
            _ => 502,
        };
        if session.response_written().is_none() {
            // A client that is gone needs no answer.
            let _ = session.respond_error(code).await;
        }
        failed(code)
    }

    fn suppress_error_log(&self, _session: &Session, _memory: &Memory, _error: &Error) -> bool {
        // Counted, and told to the gate; a line for each would be the storm's second wave.
        true
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut pingora_http::ResponseHeader,
        memory: &mut Memory,
    ) -> Result<()> {
        let _ = session;
        if let Some(ending) = &mut memory.ending {
            ending.replied(response.status.as_u16());
        }
        Ok(())
    }
}
