//! Keys of `[listener.NAME]`.

use crate::config::checked::{DoorTls, OnClientClose, PrincipalKind};
use crate::config::schema::{Absent, Key, Kind, ModeBits, Tighter};
use crate::config_key as key;
use crate::token::TokenRules;
use std::sync::Arc;
use weir_engine::settings::{Address, Backend, ListenerSettings};
use weir_engine::units::{PoolId, Span};

const CLOSES: &[(&str, &str)] = &[
    ("reset", "RST: the client's port is free at once and nothing stays in TIME_WAIT"),
    ("fin", "an ordinary close"),
];
const PRINCIPALS: &[(&str, &str)] = &[
    ("listener", "all clients of the listener are one principal"),
    ("uid", "each uid is one (Unix sockets)"),
    (
        "certificate",
        "each name in a certificate is one, with `tls_client_ca`: the first `spiffe://` URI of the subject's alternative names, else the first DNS name of them, else the common name",
    ),
];
const MS: Span = Span::millis(1);
const SECOND: Span = Span::secs(1);
const MINUTE: Span = Span::secs(60);
const HOUR: Span = Span::secs(3_600);
const DAY: Span = Span::secs(86_400);

/// A listener while its file is read: references are names, and what depends on others is open.
#[derive(Clone, Debug)]
pub struct ListenerDraft {
    /// Where it listens.
    pub address: Option<Address>,
    /// The pool's name.
    pub pool: Option<Arc<str>>,
    /// The cluster's name.
    pub cluster: Option<Arc<str>>,
    /// The service's name.
    pub service: Option<Arc<str>>,
    /// What the engine is told; its address and what is behind it are filled in at the end.
    pub settings: ListenerSettings,
    /// Permission bits of a Unix socket.
    pub mode: ModeBits,
    /// Group of a Unix socket.
    pub group: Option<Arc<str>>,
    /// Connections the kernel holds.
    pub backlog: u32,
    /// How a connection ends; by default it depends on the address.
    pub on_client_close: Option<OnClientClose>,
    /// What tells principals apart.
    pub principal: PrincipalKind,
    /// Other machines may reach it.
    pub allow_remote: bool,
    /// Another weir that drivers are shown.
    pub second_weir: Option<Address>,
    /// TLS with its clients.
    pub tls: DoorTls,
    /// What it believes of service tokens.
    pub tokens: TokenRules,
}

impl ListenerDraft {
    /// A listener with every default.
    #[must_use]
    pub fn new(name: &str) -> ListenerDraft {
        let nowhere = Address::Tcp { host: "".into(), port: 0 };
        ListenerDraft {
            address: None,
            pool: None,
            cluster: None,
            service: None,
            settings: ListenerSettings::new(name, nowhere, Backend::Pool(PoolId(0))),
            mode: ModeBits(0o660),
            group: None,
            backlog: 16_384,
            on_client_close: None,
            principal: PrincipalKind::Listener,
            allow_remote: false,
            second_weir: None,
            tls: DoorTls::default(),
            tokens: TokenRules::default(),
        }
    }
}

/// Keys of a listener.
pub static LISTENER: &[Key<ListenerDraft>] = &[
    key!(
        ListenerDraft,
        "address",
        address,
        Kind::Address,
        Absent::Required,
        Tighter::Neither,
        "Where it listens: `\"host:port\"` or `\"unix:/path\"`. Loopback only unless `allow_remote` is true. \
         Usual: `127.0.0.1:11311` for memcached, `127.0.0.1:9142` for CQL (which needs TCP)."
    ),
    key!(
        ListenerDraft,
        "pool",
        pool,
        Kind::Name,
        Absent::Words("the only pool of a file without clusters"),
        Tighter::Neither,
        "The pool its clients reach. A listener has a pool, a cluster or a service."
    ),
    key!(
        ListenerDraft,
        "cluster",
        cluster,
        Kind::Name,
        Absent::Words("the only cluster of a file without pools"),
        Tighter::Neither,
        "The cluster its clients reach: they speak CQL to this listener."
    ),
    key!(
        ListenerDraft,
        "service",
        service,
        Kind::Name,
        Absent::Words("the only service of a file with nothing else"),
        Tighter::Neither,
        "The service its clients reach: they speak gRPC, Connect or other HTTP to this listener."
    ),
    key!(
        ListenerDraft,
        "second_weir",
        second_weir,
        Kind::Address,
        Absent::Default,
        Tighter::Neither,
        "Where clients reach another weir in front of the same cluster, as `\"IP:port\"`: drivers are shown it as a second \
         node, so that they go on while one of the two restarts. Each of the two names the other (CQL)."
    ),
    key!(
        ListenerDraft,
        "allow_remote",
        allow_remote,
        Kind::Flag,
        Absent::Default,
        Tighter::Neither,
        "Let other machines reach this listener. Without `tls_cert` nothing is encrypted."
    ),
    key!(
        ListenerDraft,
        "mode",
        mode,
        Kind::FileMode,
        Absent::Default,
        Tighter::Neither,
        "Permission bits of a Unix socket."
    ),
    key!(
        ListenerDraft,
        "group",
        group,
        Kind::Name,
        Absent::Words("weir's own"),
        Tighter::Neither,
        "Group of a Unix socket, by name or number."
    ),
    key!(
        ListenerDraft,
        "backlog",
        backlog,
        Kind::Count(1, 1_000_000),
        Absent::Default,
        Tighter::Neither,
        "Connections the kernel holds until weir accepts them. The kernel cuts it to `net.core.somaxconn`."
    ),
    key!(
        ListenerDraft,
        "on_client_close",
        on_client_close,
        Kind::Word(CLOSES),
        Absent::Words("`reset` on loopback TCP, `fin` elsewhere"),
        Tighter::Neither,
        "How weir closes a connection that the client has closed, once nothing is in flight, unread or unsent. Clients that \
         closed only their sending side and still read (`nc -N`, `socat`) are closed with `fin` whatever this says."
    ),
    key!(
        ListenerDraft,
        "principal",
        principal,
        Kind::Word(PRINCIPALS),
        Absent::Default,
        Tighter::Neither,
        "What weir takes as the verified identity of a client; limits, queues and shared results are kept apart by it."
    ),
    key!(
        ListenerDraft,
        "trusted_names",
        settings.trusted_names,
        Kind::Names(256),
        Absent::Default,
        Tighter::Neither,
        "Declared names (here: process names) that select limits of their own. Other names only refine labels."
    ),
    key!(
        ListenerDraft,
        "trusted_request_ids",
        settings.trusted_request_ids,
        Kind::Names(256),
        Absent::Default,
        Tighter::Neither,
        "Principals whose word is taken for which request of theirs a command is a part of (an id in the opaque of a meta \
         command, in a first key `__weir:ID`, or in the custom payload of a CQL message; docs/amplification.md): the name \
         of this listener, a section of `[callers]`, `\"uid:N\"`, a name in a certificate or a CQL user. Nobody else's \
         commands are looked at for it."
    ),
    key!(
        ListenerDraft,
        "jwt_audiences",
        tokens.audiences,
        Kind::Dids(64),
        Absent::Default,
        Tighter::Neither,
        "Service tokens (`Authorization: Bearer`) that have one of these as `aud`, letter by letter, name their caller, when \
         one of its `jwt_keys` has signed them. Without the key no token is looked at (listeners of services; docs/rpc.md)."
    ),
    key!(
        ListenerDraft,
        "jwt_cached_max",
        tokens.cached_max,
        Kind::Count(1, 1_000_000),
        Absent::Default,
        Tighter::Neither,
        "Verified tokens that are remembered, about 200 bytes each, so that a signature is checked once; and a quarter as many \
         forged ones."
    ),
    key!(
        ListenerDraft,
        "jwt_checks_per_second",
        tokens.checks_per_second,
        Kind::Count(1, 1_000_000),
        Absent::Default,
        Tighter::Less,
        "Signatures that are checked in a second, 0.1 to 0.2 ms each: above it tokens that are not remembered name nobody."
    ),
    key!(
        ListenerDraft,
        "max_connections",
        settings.max_connections,
        Kind::Count(1, 1_000_000),
        Absent::Default,
        Tighter::Less,
        "Client connections at once."
    ),
    key!(
        ListenerDraft,
        "max_connections_per_principal",
        settings.max_connections_per_principal,
        Kind::Count(1, 1_000_000),
        Absent::Default,
        Tighter::Less,
        "Client connections at once of one principal."
    ),
    key!(
        ListenerDraft,
        "line_max",
        settings.line_max,
        Kind::Size(2_048, 64 << 20),
        Absent::Default,
        Tighter::Less,
        "Bytes of one command line (memcached). 8 MiB hold about 30,000 keys of the longest size."
    ),
    key!(
        ListenerDraft,
        "value_max",
        settings.value_max,
        Kind::Size(1, 1 << 30),
        Absent::Default,
        Tighter::Less,
        "Bytes of one value in a store command (memcached's `-I`). What a CQL client may send is `request_max` of its cluster."
    ),
    key!(
        ListenerDraft,
        "reply_buffer",
        settings.reply_buffer,
        Kind::Size(4 << 10, 1 << 30),
        Absent::Default,
        Tighter::Neither,
        "Unread reply bytes of one client above which weir asks for nothing more on its behalf (memcached)."
    ),
    key!(
        ListenerDraft,
        "reply_buffer_max",
        settings.reply_buffer_max,
        Kind::Size(4 << 10, 4 << 30),
        Absent::Default,
        Tighter::Less,
        "Unread reply bytes of one client above which it is closed as a slow reader. At least `reply_buffer`."
    ),
    key!(
        ListenerDraft,
        "slow_reader_timeout",
        settings.slow_reader_timeout,
        Kind::Duration(MS, HOUR),
        Absent::Default,
        Tighter::Less,
        "A client that has a reply to read and takes no byte for this time is closed."
    ),
    key!(
        ListenerDraft,
        "idle_timeout",
        settings.idle_timeout,
        Kind::Duration(Span(0), DAY),
        Absent::Words("`\"0s\"`; in front of a service `\"15m\"`"),
        Tighter::Neither,
        "A client that sends nothing for this time is closed; in front of a service one that has asked nothing. `\"0s\"`: never."
    ),
    key!(
        ListenerDraft,
        "tls_cert",
        tls.cert,
        Kind::Path,
        Absent::Words("none: clients speak without TLS"),
        Tighter::Neither,
        "PEM file with the certificate that clients are shown, and those between it and the CA: clients must speak TLS. Needs \
         `tls_key`. Read at the start and at every reload."
    ),
    key!(
        ListenerDraft,
        "tls_key",
        tls.key,
        Kind::Path,
        Absent::Words("none"),
        Tighter::Neither,
        "PEM file with the key of `tls_cert`."
    ),
    key!(
        ListenerDraft,
        "tls_client_ca",
        tls.client_ca,
        Kind::Path,
        Absent::Words("none: clients show no certificate"),
        Tighter::Neither,
        "PEM file with the CAs of which clients must show a certificate."
    ),
    key!(
        ListenerDraft,
        "tls_handshake_timeout",
        tls.handshake_timeout,
        Kind::Duration(SECOND, MINUTE),
        Absent::Default,
        Tighter::Neither,
        "A client whose TLS handshake is not done within this time, the wait for its turn included, is closed."
    ),
];
