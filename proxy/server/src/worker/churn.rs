//! How often each principal connects and how little its connections carry: one worker's part. A listener's own numbers
//! hide who dials per call where several users share it.
//!
//! At most [`PRINCIPALS_MAX`] pairs of listener and principal have numbers of their own; of later ones only those with a
//! name of the configuration, the rest shares `_other`.

use crate::config::Config;
use crate::fold::window::{Window, Work};
use std::collections::HashMap;
use std::sync::Arc;
use weir_engine::caller::Identity;
use weir_engine::units::{Instant, ListenerId};
use weir_telemetry::labels::OTHER;
use weir_telemetry::{PrincipalMetrics, Telemetry};

/// Pairs of listener and principal with numbers of their own in one worker.
pub const PRINCIPALS_MAX: usize = 1_024;

/// Where a connection is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChurnId(u32);

#[derive(Debug)]
struct Churn {
    listener: ListenerId,
    principal: Arc<str>,
    metrics: Arc<PrincipalMetrics>,
    accepts: Window,
    closed: u64,
    short: u64,
}

/// One principal on one listener, as a worker sees it since the start.
#[derive(Clone, Debug, PartialEq)]
pub struct ChurnLook {
    /// The listener.
    pub listener: ListenerId,
    /// The principal.
    pub principal: Arc<str>,
    /// Connections taken in the last whole second, those that were turned away included.
    pub accepts_last_second: u64,
    /// Connections closed.
    pub closed: u64,
    /// Those of them that had carried at most one request.
    pub short: u64,
}

/// The principals that ever connected to one worker.
#[derive(Debug, Default)]
pub struct Churns {
    all: Vec<Churn>,
    by_principal: HashMap<(ListenerId, Arc<str>), ChurnId>,
}

impl Churns {
    /// Somebody connected.
    pub fn accepted(
        &mut self,
        telemetry: &Telemetry,
        config: &Config,
        identity: &Identity,
        now: Instant,
    ) -> ChurnId {
        let key = (identity.listener, identity.principal.clone());
        let id = match self.by_principal.get(&key) {
            Some(id) => *id,
            None => self.add(telemetry, config, key),
        };
        let churn = &mut self.all[id.0 as usize];
        churn.accepts.add(now, &Work { requests: 1, ..Work::default() });
        churn.metrics.accepted();
        id
    }

    /// The connection has closed after carrying this many requests.
    pub fn closed(&mut self, id: ChurnId, requests: u64) {
        let churn = &mut self.all[id.0 as usize];
        churn.closed += 1;
        if requests <= 1 {
            churn.short += 1;
            churn.metrics.short();
        }
    }

    /// How they stand.
    #[must_use]
    pub fn looks(&self, now: Instant) -> Vec<ChurnLook> {
        let look = |churn: &Churn| ChurnLook {
            listener: churn.listener,
            principal: churn.principal.clone(),
            accepts_last_second: churn.accepts.last_second(now).requests,
            closed: churn.closed,
            short: churn.short,
        };
        self.all.iter().map(look).collect()
    }

    #[cold]
    fn add(&mut self, telemetry: &Telemetry, config: &Config, key: (ListenerId, Arc<str>)) -> ChurnId {
        let (listener, principal) = key;
        let is_configured = config.settings.callers.contains_key(&principal)
            || config.settings.listeners.iter().any(|own| own.name == principal);
        let has_room = is_configured || self.all.len() < PRINCIPALS_MAX;
        let principal = if has_room { principal } else { OTHER.into() };
        // At most one `_other` more per listener.
        if let Some(id) = self.by_principal.get(&(listener, principal.clone())) {
            return *id;
        }
        let id = ChurnId(super::to_u32(self.all.len()));
        self.all.push(Churn {
            listener,
            metrics: telemetry.principal(&principal, is_configured),
            principal: principal.clone(),
            accepts: Window::default(),
            closed: 0,
            short: 0,
        });
        self.by_principal.insert((listener, principal), id);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Host;
    use crate::fold::PROTOCOLS;
    use weir_telemetry::{Seconds, TelemetryConfig};

    #[test]
    fn strangers_share_what_is_left() {
        let text =
            "[pool.main]\nservers = [\"127.0.0.1:1\"]\n[listener.cache]\naddress = \"unix:/run/weir-x\"\n";
        let config = Config::from_text("test", text, &Host::default()).expect("good");
        let telemetry = Telemetry::new(TelemetryConfig::new(&*PROTOCOLS, 0));
        let mut churns = Churns::default();
        let mut call = |principal: &str, at: u64| {
            let principal: Arc<str> = principal.into();
            let identity = Identity { listener: ListenerId(0), name: principal.clone(), principal };
            let id = churns.accepted(&telemetry, &config, &identity, Instant(at));
            churns.closed(id, 1);
        };
        for uid in 0..PRINCIPALS_MAX + 10 {
            call(&format!("uid:{uid}"), 1_500_000);
        }
        call("uid:3", 1_500_000);
        call("cache", 1_500_000);
        let looks = churns.looks(Instant(2_500_000));
        assert_eq!(looks.len(), PRINCIPALS_MAX + 2, "one more for all the rest, and the listener's own");
        let of = |name: &str| looks.iter().find(|look| &*look.principal == name).expect("it connected");
        assert_eq!((of("uid:3").accepts_last_second, of("uid:3").closed, of("uid:3").short), (2, 2, 2));
        assert_eq!(of(OTHER).closed, 10);
        let page = telemetry.render(None, Seconds(3)).body;
        let series = page.lines().filter(|line| line.starts_with("weir_principal_accepts_total")).count();
        assert_eq!(series, 64 + 3, "with the listener's, _other and _invalid");
        assert!(page.contains("weir_principal_accepts_total{principal=\"uid:3\"} 2\n"), "{page}");
        assert!(
            page.contains("weir_principal_short_connections_total{principal=\"_other\"} 970\n"),
            "{page}"
        );
    }
}
