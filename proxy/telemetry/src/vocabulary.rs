//! Label values that are a closed list. A value here is a variant, so a typo does not compile and a series cannot be
//! created by traffic.

macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of [`Self::index`].
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];
            /// Every label value, in the same order.
            pub const NAMES: &'static [&'static str] = &[$($text,)+];
            /// How many there are.
            pub const COUNT: usize = Self::NAMES.len();

            /// The label value.
            #[must_use]
            pub const fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }

            /// Position in [`Self::ALL`].
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}
pub(crate) use vocabulary;

vocabulary! {
    /// How a request ended, seen from the client.
    Outcome {
        /// Answered as the backend (or the cache) would.
        Ok = "ok",
        /// The backend answered with an error of its own.
        Error = "error",
        /// Refused by a limit or policy of weir.
        Refused = "refused",
        /// Not answered by the backend in time.
        Timeout = "timeout",
        /// The backend connection was lost or could not be had.
        BackendLost = "backend_lost",
        /// The client left before its answer.
        ClientGone = "client_gone",
        /// Not a request memcached would take; answered with memcached's own words.
        Invalid = "invalid",
    }
}

vocabulary! {
    /// Size of a request in operations asked. A counter of *operations* by class answers "which share of the work
    /// came in large requests" exactly, and rules need not match on `le`.
    SizeClass {
        /// One operation.
        One = "1",
        /// 2 to 10.
        Ten = "2-10",
        /// 11 to 100.
        Hundred = "11-100",
        /// 101 to 1,000: the largest legitimate thread views.
        Thousand = "101-1000",
        /// 1,001 to 10,000.
        TenThousand = "1001-10000",
        /// Above 10,000.
        Extreme = "10001+",
    }
}

impl SizeClass {
    /// The class of a request of this many operations. Zero counts as one.
    #[must_use]
    pub const fn of(operations: u64) -> SizeClass {
        match operations {
            0..=1 => SizeClass::One,
            2..=10 => SizeClass::Ten,
            11..=100 => SizeClass::Hundred,
            101..=1_000 => SizeClass::Thousand,
            1_001..=10_000 => SizeClass::TenThousand,
            _ => SizeClass::Extreme,
        }
    }
}

vocabulary! {
    /// Direction of bytes between a client and weir.
    Direction {
        /// From the client.
        In = "in",
        /// To the client.
        Out = "out",
    }
}

vocabulary! {
    /// Why weir rejected, delayed or would have rejected.
    RejectReason {
        /// One request asked for too much.
        OperationsPerRequest = "operations_per_request",
        /// The caller's rate.
        OperationsPerSecond = "operations_per_second",
        /// The caller's operations under way.
        OperationsInFlight = "operations_in_flight",
        /// The caller's reply bytes under way.
        BytesInFlight = "bytes_in_flight",
        /// `flush_all` is not allowed here.
        FlushPolicy = "flush_policy",
        /// The listener's or the principal's connection cap.
        Connections = "connections",
        /// A command line above its cap: `line_max` for retrievals, memcached's for the rest.
        LineTooLong = "line_too_long",
        /// A value above the listener's cap.
        ValueTooLarge = "value_too_large",
        /// The request waited in weir's queue for longer than `queue_timeout`.
        QueueTimeout = "queue_timeout",
        /// Its client left more replies unread than one or all may, or for too long, and was closed.
        BufferBound = "buffer_bound",
        /// A command weir never forwards (`shutdown`, administration of a server, the binary protocol).
        CommandPolicy = "command_policy",
        /// weir shut down before it was answered (`drain_timeout`).
        Draining = "draining",
        /// An operator switched its method off for a while (`weir deny`).
        Denied = "denied",
        /// As many calls as may be were under way at its service.
        CallsMax = "calls_max",
    }
}

vocabulary! {
    /// What a limit does. As a label of a rejection it says what was done to the request: `observe` let it pass,
    /// `pace` delayed it, `refuse` refused it.
    LimitMode {
        /// Count only.
        Observe = "observe",
        /// Delay.
        Pace = "pace",
        /// Refuse.
        Refuse = "refuse",
    }
}

vocabulary! {
    /// Limits of a caller.
    LimitKind {
        /// Operations one request may ask for.
        OperationsPerRequest = "operations_per_request",
        /// Operations per second.
        OperationsPerSecond = "operations_per_second",
        /// Operations under way at once.
        OperationsInFlight = "operations_in_flight",
        /// Estimated reply bytes under way at once.
        BytesInFlight = "bytes_in_flight",
    }
}

impl LimitKind {
    /// The reason given when this limit rejects.
    #[must_use]
    pub const fn reason(self) -> RejectReason {
        match self {
            LimitKind::OperationsPerRequest => RejectReason::OperationsPerRequest,
            LimitKind::OperationsPerSecond => RejectReason::OperationsPerSecond,
            LimitKind::OperationsInFlight => RejectReason::OperationsInFlight,
            LimitKind::BytesInFlight => RejectReason::BytesInFlight,
        }
    }
}

vocabulary! {
    /// How a client connection ended.
    CloseHow {
        /// The client closed first.
        Client = "client",
        /// weir closed in the ordinary way.
        Fin = "fin",
        /// weir reset after the client had closed with nothing left to say: the client's port is free at once.
        Reset = "reset",
        /// Nothing was sent for `idle_timeout`.
        Idle = "idle",
        /// It said nothing at first, or the head of a request too slowly (HTTP).
        Slow = "slow",
        /// The client stopped reading its replies.
        SlowReader = "slow_reader",
        /// The node of a reply that was passed on while it arrived went before its end.
        Broken = "broken",
        /// The client's bytes could not be a request.
        Protocol = "protocol",
        /// Its TLS handshake failed or took too long.
        Tls = "tls",
        /// A connection cap.
        Cap = "cap",
        /// weir shut down.
        Drain = "drain",
        /// Reading or writing failed (the client reset, for one).
        Io = "io",
        /// A panic, contained to this connection.
        Panic = "panic",
    }
}

vocabulary! {
    /// Where a connection to a backend is in its life.
    ConnectionState {
        /// Dialling or authenticating.
        Connecting = "connecting",
        /// In use.
        Ready = "ready",
        /// Waiting before the next attempt.
        Backoff = "backoff",
        /// Finishing what was sent.
        Draining = "draining",
    }
}

vocabulary! {
    /// Result of opening a connection to a backend.
    OpenResult {
        /// Ready for use.
        Ok = "ok",
        /// The backend refused.
        Refused = "refused",
        /// No answer in time.
        Timeout = "timeout",
        /// No free local address or port (EADDRINUSE, EADDRNOTAVAIL).
        NoPort = "no_port",
        /// No file descriptor left.
        NoDescriptor = "no_descriptor",
        /// The backend refused the credentials.
        Auth = "auth",
        /// No TLS connection: one side did not trust the other, or does not speak it.
        Tls = "tls",
        /// Anything else.
        Error = "error",
    }
}

vocabulary! {
    /// What a server of a service failed at.
    ServerFailure {
        /// A call or a part: the connection was cut, could not be made, or the server said that it cannot serve.
        Call = "call",
        /// A health check.
        HealthCheck = "health_check",
    }
}

vocabulary! {
    /// How a client's TLS handshake ended.
    HandshakeResult {
        /// The client may ask.
        Ok = "ok",
        /// What came was not TLS.
        NotTls = "not_tls",
        /// The client showed no certificate, or one that `tls_client_ca` does not vouch for.
        Certificate = "certificate",
        /// No version or cipher suite that both speak.
        Incompatible = "incompatible",
        /// The client said no: it does not trust the listener's certificate, as a rule.
        Refused = "refused",
        /// Not done within `tls_handshake_timeout`.
        Timeout = "timeout",
        /// The connection ended before it was done.
        Gone = "gone",
        /// Anything else.
        Error = "error",
    }
}

vocabulary! {
    /// How an operation that could have been served without the backend ended.
    LookupResult {
        /// Served from weir's cache.
        Hit = "hit",
        /// Fetched.
        Miss = "miss",
        /// Joined an identical operation that had not been sent yet.
        Coalesced = "coalesced",
    }
}

vocabulary! {
    /// A bound of the CQL data path that has no configuration key.
    CqlBound {
        /// Requests of one connection under way.
        ConnectionRequests = "connection_requests",
        /// Texts of statements remembered per worker.
        StatementTexts = "statement_texts",
        /// Clients that wait for one PREPARE.
        JoinedPrepares = "joined_prepares",
        /// Statements prepared again for one request.
        Repairs = "repairs",
    }
}

vocabulary! {
    /// How a client's signing in was answered.
    SignInResult {
        /// The cluster took its credentials.
        Checked = "checked",
        /// weir remembers that it did.
        Remembered = "remembered",
        /// The cluster refused them.
        Refused = "refused",
        /// weir remembers that it did.
        RefusedAgain = "refused_again",
        /// The cluster could not be asked.
        Unavailable = "unavailable",
        /// Too many wait to be checked, or it waited for too long.
        Busy = "busy",
    }
}

vocabulary! {
    /// What is done about credentials that a client showed.
    CheckState {
        /// The cluster is asked.
        Asking = "asking",
        /// They wait for their turn.
        Waiting = "waiting",
    }
}

vocabulary! {
    /// How a PREPARE was answered.
    PrepareResult {
        /// From what weir remembers.
        Cached = "cached",
        /// By a node.
        Sent = "sent",
    }
}

vocabulary! {
    /// How a request of CQL found its node.
    RouteResult {
        /// A replica in the local data center, and in the local rack where one is named.
        Replica = "replica",
        /// A replica in another rack of the local data center.
        OtherRack = "other_rack",
        /// A node of another data center.
        Remote = "remote",
        /// Any node: its partition could not be told.
        NoToken = "no_token",
        /// Any node: no replica of its partition is near, up and known.
        Fallback = "fallback",
    }
}

vocabulary! {
    /// What became of a tablet that a node told.
    TabletTold {
        /// It is known now.
        Learned = "learned",
        /// The request was about no partition that weir knows, or about one that is not in the tablet.
        NotPlaced = "not_placed",
        /// It could not be read.
        Unreadable = "unreadable",
    }
}

vocabulary! {
    /// Why a tablet was forgotten.
    TabletForgotten {
        /// There were more than `tablets_max`.
        Room = "room",
        /// One of its replicas has left the cluster.
        Topology = "topology",
        /// Its table or keyspace was changed or dropped.
        Schema = "schema",
    }
}

vocabulary! {
    /// What became of a call or part that a server failed and that may be sent again.
    RetryResult {
        /// It was sent again.
        Sent = "sent",
        /// `retry_percent` of the last ten seconds was spent.
        Refused = "refused",
    }
}

vocabulary! {
    /// How a node of a cluster stands.
    NodeState {
        /// A connection to it works.
        Up = "up",
        /// None does.
        Down = "down",
        /// The cluster tells of it, but weir does not connect to it.
        LeftOut = "left_out",
    }
}

vocabulary! {
    /// Why a request of CQL went to another node than first chosen.
    FailoverCause {
        /// The connection was lost while it waited for its answer.
        Lost = "lost",
        /// It waited for a node that cannot be reached any more.
        Down = "down",
        /// The node sees too few replicas.
        Unavailable = "unavailable",
        /// The node sheds load.
        Overloaded = "overloaded",
        /// The node is not ready yet.
        Bootstrapping = "bootstrapping",
    }
}

vocabulary! {
    /// Why a cluster's control plane could not read where data lies.
    PlacementFailure {
        /// No node could be connected to.
        Connect = "connect",
        /// A node did not take weir's credentials, or asked for some that weir does not have.
        Auth = "auth",
        /// A node's certificate does not come from `tls_ca`.
        TlsIssuer = "tls_issuer",
        /// A node's certificate does not bear `tls_server_name`, or the node's address where there is none.
        TlsName = "tls_name",
        /// A node's certificate has expired, or is not valid yet.
        TlsExpired = "tls_expired",
        /// TLS failed otherwise: no TLS there, another version, a node that does not take weir's certificate.
        Tls = "tls",
        /// No answer in time.
        Timeout = "timeout",
        /// What a node answered could not be understood.
        Metadata = "metadata",
        /// A defect of weir or of its driver: the control plane starts anew.
        Defect = "defect",
    }
}

vocabulary! {
    /// Why a read was asked although an identical one was under way.
    ReadApart {
        /// That one was sent already, and no rule lets reads join in flight.
        Sent = "sent",
        /// Something was written since it was sent.
        Written = "written",
        /// It had `followers_per_read` followers.
        FollowersPerRead = "followers_per_read",
        /// The worker had `followers_max` followers.
        FollowersMax = "followers_max",
        /// Too many reply bytes were unread to copy its answer.
        Crowded = "crowded",
    }
}

vocabulary! {
    /// What a lookup among kept answers found.
    CacheResult {
        /// An answer that was given again.
        Hit = "hit",
        /// None, or one that was too old.
        Miss = "miss",
    }
}

vocabulary! {
    /// What became of a `flush_all`.
    FlushResult {
        /// Sent to every server of the pool.
        Sent = "sent",
        /// Refused.
        Refused = "refused",
        /// Only the keys under the configured prefix, all of them.
        Prefix = "prefix",
        /// By prefix, and not to its end: some of the keys may be gone, some not.
        Failed = "failed",
    }
}

vocabulary! {
    /// What came of asking weir-probes whose a connection is. All but the first are looked for in `/proc`.
    AskResult {
        /// It told the process.
        Named = "named",
        /// It had not seen the connection.
        Unknown = "unknown",
        /// It says that weir does not listen there.
        NotOurs = "not_ours",
        /// No answer in time.
        Late = "late",
        /// It refuses to answer weir; the log says why.
        Refused = "refused",
        /// Nobody listens at the socket, or the connection broke.
        Unreachable = "unreachable",
        /// Its answer is not understood.
        Garbled = "garbled",
        /// Not asked: it failed a moment ago.
        Resting = "resting",
    }
}

vocabulary! {
    /// What the first requests of a connection were booked under, while it was found out who it belongs to.
    NamingResult {
        /// The name that was found.
        Named = "named",
        /// The listener's: no name could be found.
        Unnamed = "unnamed",
        /// The listener's: no answer came in time.
        Late = "late",
        /// The listener's, at once: too many were waiting.
        Overflow = "overflow",
    }
}

vocabulary! {
    /// Whose work across legs it is.
    AmplificationOrigin {
        /// The caller's of an RPC that weir saw.
        Rpc = "rpc",
        /// The service's that handed the id on: weir saw no RPC with it.
        Service = "service",
    }
}

vocabulary! {
    /// What was lost of work across legs.
    CorrelationLost {
        /// A request was forgotten before its time.
        Evicted = "evicted",
        /// A note found no room, and is in no sum.
        Dropped = "dropped",
        /// A read said the end of an id that no remembered request has: it is in no sum.
        Unknown = "unknown",
        /// A read said the end of an id that several requests have: it is in no sum.
        Ambiguous = "ambiguous",
    }
}

vocabulary! {
    /// What came of a service token.
    TokenResult {
        /// A configured key has signed it: it names its caller.
        Ok = "ok",
        /// It is none: not three parts of base64url and JSON with the claims that there must be.
        Malformed = "malformed",
        /// Longer than any that is looked at.
        TooLong = "too_long",
        /// An algorithm other than ES256K and ES256, or one that its issuer has no key for.
        Algorithm = "algorithm",
        /// A token of another kind (of a session, for one).
        Kind = "kind",
        /// No caller of the configuration is its issuer.
        Issuer = "issuer",
        /// It is meant for somebody else.
        Audience = "audience",
        /// It is good for another method.
        Method = "method",
        /// Its time is over.
        Expired = "expired",
        /// Its time has not come.
        NotYet = "not_yet",
        /// No key of its issuer has signed it.
        Signature = "signature",
        /// Its signature was not checked: as many as may be were, in this second.
        Busy = "busy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_meet_without_gap() {
        let mut previous = 0;
        for edge in [1, 2, 10, 11, 100, 101, 1_000, 1_001, 10_000, 10_001, u64::MAX] {
            let class = SizeClass::of(edge).index();
            assert!(
                class == previous || class == previous + 1,
                "{edge} falls into class {class} after {previous}"
            );
            previous = class;
        }
        assert_eq!(SizeClass::of(10), SizeClass::Ten);
        assert_eq!(SizeClass::of(11), SizeClass::Hundred);
        assert_eq!(SizeClass::of(15_000).name(), "10001+");
    }

    #[test]
    fn index_and_name_agree_with_all() {
        for (i, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(outcome.index(), i);
            assert_eq!(outcome.name(), Outcome::NAMES[i]);
        }
    }
}
