//! Connections of clients to listeners of services: counted, and bounded as those of the other listeners are
//! (`max_connections`, `max_connections_per_principal`, open files), over all threads. What holds is what is in force when
//! one connects.

use super::desk::Desk;
use crate::caps::files::OpenFile;
use crate::caps::{Caps, Full, Place};
use crate::clock::seconds;
use crate::config::{Config, PrincipalKind};
use crate::fold::window::{Window, Work};
use crate::tls::{self, INVALID};
use crate::worker::churn::{ChurnId, ChurnLook, Churns};
use crate::worker::orders::DoorLook;
use rustls::pki_types::CertificateDer;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use weir_edge::{Left, Peer, Visit};
use weir_engine::caller::Identity;
use weir_engine::settings::Settings;
use weir_engine::units::{Instant, ListenerId};
use weir_telemetry::{
    ClientConnection, CloseHow, Event, HandshakeResult, LimitMode, ListenerMetrics, RejectReason, Severity,
    Telemetry, TlsHandshake,
};

/// What all listeners of services share.
pub(super) struct Reception {
    pub(super) desk: Arc<Desk>,
    pub(super) caps: Arc<Caps>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) churns: Mutex<Churns>,
}

impl Reception {
    /// Principals, as `weir top` shows how often they connect.
    pub(super) fn churns(&self, now: Instant) -> Vec<ChurnLook> {
        locked(&self.churns).looks(now)
    }
}

/// The door of one listener.
pub(super) struct Entrance {
    pub(super) listener: ListenerId,
    pub(super) reception: Arc<Reception>,
    pub(super) metrics: Arc<ListenerMetrics>,
    pub(super) look: Mutex<EntranceLook>,
}

/// What a door has seen since the start.
#[derive(Default)]
pub(super) struct EntranceLook {
    accepts: Window,
    closed: u64,
    short: u64,
}

/// One connection. Dropping it gives its places back.
struct Guest {
    entrance: Arc<Entrance>,
    principal: Arc<str>,
    churn: ChurnId,
    counted: Option<ClientConnection>,
    handshake: Option<TlsHandshake>,
    place: Place,
    _file: OpenFile,
}

impl Entrance {
    /// Somebody has connected; nothing where there is no place.
    pub(super) fn enter(self: &Arc<Entrance>, peer: Peer) -> Option<Box<dyn Visit>> {
        let reception = &self.reception;
        let now = reception.desk.clock.now();
        let counted = self.metrics.accepted();
        locked(&self.look).accepts.add(now, &Work { requests: 1, ..Work::default() });
        let (settings, config) = self.in_force();
        let uid = match peer {
            Peer::Unix { uid, .. } => uid,
            _ => None,
        };
        let principal = config.principal_of(self.listener, uid);
        let churn = {
            let listener = self.listener;
            let identity = Identity { listener, name: principal.clone(), principal: principal.clone() };
            locked(&reception.churns).accepted(&reception.telemetry, &config, &identity, now)
        };
        let own = &settings.listeners[self.listener.0 as usize];
        let door = &config.doors[self.listener.0 as usize];
        let place = if reception.caps.files().room() == 0 {
            Err("weir: no open file is left for clients (nofile)".to_owned())
        } else if door.principal == PrincipalKind::Certificate {
            // Whose it is is not known yet.
            reception.caps.enter(self.listener, own).map_err(Full::text)
        } else {
            reception.caps.take(self.listener, &principal, own).map_err(Full::text)
        };
        let place = match place {
            Ok(place) => place,
            Err(why) => {
                self.turned_away(&principal, &why);
                self.closed(counted, churn, CloseHow::Cap, 0);
                return None;
            }
        };
        let handshake = door.tls.side.is_some().then(|| self.metrics.tls_handshake());
        Some(Box::new(Guest {
            entrance: self.clone(),
            principal,
            churn,
            counted: Some(counted),
            handshake,
            place,
            _file: reception.caps.files().take(),
        }))
    }

    /// How it stands.
    pub(super) fn look(&self, now: Instant) -> DoorLook {
        let look = locked(&self.look);
        DoorLook {
            accepts_last_second: look.accepts.last_second(now).requests,
            closed: look.closed,
            short: look.short,
        }
    }

    fn in_force(&self) -> (Arc<Settings>, Arc<Config>) {
        self.reception.desk.with(|state, _| (state.in_force.settings.clone(), state.in_force.config.clone()))
    }

    fn turned_away(&self, principal: &Arc<str>, why: &str) {
        let (telemetry, now) = (&self.reception.telemetry, seconds(self.reception.desk.clock.now()));
        telemetry.caller(principal, now).rejected(RejectReason::Connections, LimitMode::Refuse, 1);
        let event = Event::new(Severity::Warn, "connection_cap", "a connection was refused")
            .text("caller", principal)
            .text("principal", principal)
            .text("answer", why);
        telemetry.events().emit(&event, now);
    }

    fn closed(&self, counted: ClientConnection, churn: ChurnId, how: CloseHow, requests: u64) {
        counted.closed(how, requests);
        locked(&self.reception.churns).closed(churn, requests);
        let mut look = locked(&self.look);
        look.closed += 1;
        look.short += u64::from(requests <= 1);
    }

    fn handshake_failed(&self, result: HandshakeResult, what: &str) {
        let now = seconds(self.reception.desk.clock.now());
        let event = Event::new(Severity::Warn, "tls_handshake", "the TLS handshake with a client failed")
            .text("listener", self.metrics.name())
            .text("result", result.name())
            .text("error", what);
        self.reception.telemetry.events().emit(&event, now);
    }
}

impl Visit for Guest {
    fn known(&mut self, certificate: Option<&CertificateDer<'static>>) -> bool {
        if let Some(handshake) = self.handshake.take() {
            handshake.ended(HandshakeResult::Ok);
        }
        let entrance = &self.entrance;
        let (settings, config) = entrance.in_force();
        let index = entrance.listener.0 as usize;
        if config.doors[index].principal != PrincipalKind::Certificate {
            return true;
        }
        self.principal =
            certificate.map_or_else(|| INVALID.into(), |certificate| tls::caller_of(certificate));
        let own = &settings.listeners[index];
        let moved = entrance.reception.caps.give(&mut self.place, entrance.listener, &self.principal, own);
        if let Err(full) = moved {
            entrance.turned_away(&self.principal, &full.text());
            return false;
        }
        true
    }

    fn left(mut self: Box<Self>, how: Left, requests: u32) {
        let how = match how {
            Left::Client => CloseHow::Client,
            Left::Ended => CloseHow::Fin,
            Left::Idle => CloseHow::Idle,
            Left::Slow => CloseHow::Slow,
            Left::Protocol => CloseHow::Protocol,
            Left::NoTls(error) => {
                let result = error.as_ref().map_or(HandshakeResult::Timeout, tls::outcome);
                let what = error.map_or_else(|| "it took too long".to_owned(), |error| error.to_string());
                self.entrance.handshake_failed(result, &what);
                if let Some(handshake) = self.handshake.take() {
                    handshake.ended(result);
                }
                CloseHow::Tls
            }
            Left::TurnedAway => CloseHow::Cap,
            Left::Drained => CloseHow::Drain,
            _ => CloseHow::Io,
        };
        if let Some(handshake) = self.handshake.take() {
            handshake.ended(HandshakeResult::Gone);
        }
        if let Some(counted) = self.counted.take() {
            self.entrance.closed(counted, self.churn, how, u64::from(requests));
        }
    }
}

/// What is behind these locks is whole whenever they are free.
fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
