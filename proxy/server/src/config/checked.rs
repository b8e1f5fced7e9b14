//! The checked shape of a configuration: what `weir run` works with. No impossible value is left in it.

use super::keys::ServiceDraft;
use super::problem::Problem;
use crate::tls::{ClientSide, ServerSide};
use crate::token::{Issuer, TokenRules};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use weir_engine::settings::{Address, CallerLimits, Settings};
use weir_engine::units::{ListenerId, Span};
use weir_rpc::Table;

/// Everything a process is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// What concerns the process and not the data path.
    pub process: ProcessConfig,
    /// The data path: pools, listeners, limits.
    pub settings: Settings,
    /// What the server needs to open each listener, in the order of `settings.listeners`.
    pub doors: Vec<Door>,
    /// How each cluster is spoken to, in the order of `settings.clusters`: nothing where without TLS, or where files are not
    /// looked at.
    pub clusters_tls: Vec<Option<ClientSide>>,
    /// What the edge is told of each service and what its methods are, in the order of `settings.services`.
    pub services: Vec<(ServiceDraft, ServiceTable)>,
    /// Which verified principals carry a name of their own.
    pub principals: Vec<PrincipalRule>,
    /// Callers that sign service tokens.
    pub issuers: Arc<[Issuer]>,
    /// What the operator should know although the configuration is taken.
    pub warnings: Vec<Problem>,
    /// Identifies the effective content (defaults included; comments and order are not part of it).
    pub hash: ConfigHash,
}

impl Config {
    /// The verified name of a client: the listener's rule, the uid's rule, `uid:N` where the listener tells principals
    /// apart by uid, and the listener's own name otherwise. The most exact rule wins.
    #[must_use]
    pub fn principal_of(&self, listener: ListenerId, uid: Option<u32>) -> Arc<str> {
        let index = listener.0 as usize;
        let by_uid = self.doors.get(index).is_some_and(|door| door.principal == PrincipalKind::Uid);
        let uid = uid.filter(|_| by_uid);
        let rule = |uid: Option<u32>, at: Option<ListenerId>| {
            self.principals
                .iter()
                .find(|rule| rule.uid == uid && rule.listener == at)
                .map(|rule| rule.caller.clone())
        };
        if let Some(number) = uid {
            return rule(uid, Some(listener))
                .or_else(|| rule(uid, None))
                .unwrap_or_else(|| format!("uid:{number}").into());
        }
        rule(None, Some(listener)).unwrap_or_else(|| self.settings.listeners[index].name.clone())
    }

    /// The limits the configuration gives a name.
    #[must_use]
    pub fn limits_of(&self, caller: &str) -> &CallerLimits {
        self.settings.callers.get(caller).unwrap_or(&self.settings.undeclared)
    }
}

/// The methods of a service. Two are equal when they are the same one.
#[derive(Clone, Debug, Default)]
pub struct ServiceTable(pub Arc<Table>);

impl PartialEq for ServiceTable {
    fn eq(&self, other: &ServiceTable) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What concerns the process as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessConfig {
    /// Data-path threads, each with its own upstream connections.
    pub workers: u32,
    /// Where /metrics, /healthz and /readyz are served.
    pub metrics: Vec<Address>,
    /// Where the control socket listens.
    pub admin: Vec<Address>,
    /// `admin` was not chosen by anybody: when it cannot be opened, weir runs without and says so.
    pub admin_is_default: bool,
    /// File with the token that TCP admin listeners ask for.
    pub admin_token_file: Option<PathBuf>,
    /// Where overrides are kept over a restart.
    pub state_dir: Option<PathBuf>,
    /// Longest wait for requests under way after SIGTERM.
    pub drain_timeout: Span,
    /// How long a worker with one CQL request under way, or many, looks again before it sleeps; zero: not at all.
    pub busy_poll: Span,
    /// The socket of `weir-probes` that is asked whose connections are; without it only `/proc` is.
    pub attribution: Option<Address>,
    /// Longest time that new connections wait for its answer.
    pub attribution_timeout: Span,
    /// Callers that get a label value of their own; the rest is `_other`.
    pub max_callers: u32,
    /// Requests with an id that are remembered at once.
    pub correlated_requests_max: u32,
    /// Notes about them that wait in one worker.
    pub correlation_notes_max: u32,
    /// Open files to ask the kernel for; without it, the hard limit.
    pub nofile: Option<u64>,
}

/// What the server needs to open one listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Door {
    /// The listener it opens.
    pub listener: ListenerId,
    /// Permission bits of a Unix socket.
    pub mode: u32,
    /// Group of a Unix socket.
    pub group: Option<Group>,
    /// Connections the kernel holds until weir accepts them.
    pub backlog: u32,
    /// How a client's connection is closed after it closed its side.
    pub on_client_close: OnClientClose,
    /// What tells principals apart.
    pub principal: PrincipalKind,
    /// The listener may be reached from other machines.
    pub allow_remote: bool,
    /// TLS with its clients.
    pub tls: DoorTls,
    /// What it believes of service tokens.
    pub tokens: TokenRules,
}

/// TLS between a listener and its clients.
#[derive(Clone, Debug, PartialEq)]
pub struct DoorTls {
    /// File of the certificate; without it clients speak without TLS.
    pub cert: Option<Arc<str>>,
    /// File of its key.
    pub key: Option<Arc<str>>,
    /// File of the CAs of which clients must show a certificate.
    pub client_ca: Option<Arc<str>>,
    /// A handshake that is not done by then is given up.
    pub handshake_timeout: Span,
    /// What the files hold; nothing without them, or where files are not looked at.
    pub side: Option<ServerSide>,
}

impl Default for DoorTls {
    fn default() -> DoorTls {
        let handshake_timeout = Span::secs(5);
        DoorTls { cert: None, key: None, client_ca: None, handshake_timeout, side: None }
    }
}

/// A group of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// As written in the file.
    pub name: Arc<str>,
    /// Its number, where the machine's groups are known.
    pub gid: Option<u32>,
}

/// How a client's connection ends once the client has closed and nothing is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnClientClose {
    /// RST: the client's port is free at once, nothing stays in TIME_WAIT. The default on loopback TCP.
    Reset,
    /// An ordinary close.
    #[default]
    Fin,
}

/// What a listener can verify about its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PrincipalKind {
    /// All clients of the listener are one principal.
    #[default]
    Listener,
    /// The peer's uid (Unix sockets).
    Uid,
    /// The name in the client's certificate (TLS with `tls_client_ca`).
    Certificate,
}

/// Gives a verified principal a name of the file. At least one of `uid` and `listener` is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalRule {
    /// The peer's uid.
    pub uid: Option<u32>,
    /// The listener it came through.
    pub listener: Option<ListenerId>,
    /// The caller's name.
    pub caller: Arc<str>,
}

/// Identifies the effective content of a configuration over processes and machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ConfigHash(pub u64);

impl fmt::Display for ConfigHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
