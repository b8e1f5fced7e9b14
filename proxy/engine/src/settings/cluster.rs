//! What an operator may choose about a cluster of nodes that speak CQL.

use super::{Address, Rule, ShardPorts, SplitChoice};
use crate::cql::split::PageKey;
use crate::units::{Bytes, Operations, Span};
use std::sync::Arc;
use weir_cql::Version;

/// Nodes that speak CQL and share their data. Each field is a bound or a switch with a config key of the same name.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSettings {
    /// Label value and config key.
    pub name: Arc<str>,
    /// Nodes weir connects to; with `discover` only until the cluster has told its nodes. At least one.
    pub contacts: Vec<Address>,
    /// Connect to the nodes that the cluster tells of, instead of to the contacts only.
    pub discover: bool,
    /// Nodes weir connects to at most; those of the local data center come first. At least 1.
    pub nodes_max: u32,
    /// Requests go to nodes of this data center. `None`: that of the first contact that answers.
    pub local_dc: Option<Arc<str>>,
    /// Of the replicas in the local data center, those in this rack are preferred. `None`: no preference.
    pub local_rack: Option<Arc<str>>,
    /// While no node of the local data center is up, requests go to the others.
    pub remote_failover: bool,
    /// Source ports of connections that ask for a shard; `None`: the node chooses.
    pub shard_ports: Option<ShardPorts>,
    /// Connections per node (per shard, where a node tells its shards), protocol version in use and worker (fixed;
    /// whatever the clients do). 1..=16.
    pub connections_per_node: u32,
    /// Stream ids of one connection: requests that wait for a reply on it, abandoned ones included. 1..=32768.
    pub streams_per_connection: u16,
    /// Requests in flight per node and protocol version in use, over all callers and workers; the rest waits in weir. At
    /// least 1.
    pub requests_in_flight: Operations,
    /// Whether requests for many keys are split.
    pub split: SplitChoice,
    /// Keys of one part of a split request. 1..=10000.
    pub chunk_keys: u32,
    /// Statements of one part of a split batch; a partition's are never in two parts. 1..=10000.
    pub chunk_statements: u32,
    /// Parts of split requests in flight per node, over all callers and workers, but at least one for each worker.
    /// 1..=1024.
    pub chunks_in_flight: u32,
    /// The same while the node serves other requests too: while this worker has one there, and until it has sent none for
    /// 20 ms. 1..=1024; above `chunks_in_flight` it has no effect.
    pub chunks_beside_requests: u32,
    /// Answers of parts that one worker holds until the whole answer is complete, bytes. While it is reached, only the
    /// oldest split request goes on; an answer that is larger alone is refused.
    pub gather_bytes_max: Bytes,
    /// What a request is refused as that is over a ceiling of time or of what is under way.
    pub refuse_rate_as: RateRefusal,
    /// Newest protocol version offered to clients.
    pub newest_version: Version,
    /// Bytes of one request.
    pub request_max: Bytes,
    /// A reply longer than this is passed on while it arrives; up to this it is gathered first, and asked for again where
    /// its node goes in the middle of it.
    pub stream_reply_min: Bytes,
    /// What a read without a whole partition key is charged before its rows are known.
    pub scan_operations: Operations,
    /// Prepared statements remembered per worker.
    pub prepared_max: u32,
    /// Tablets of ScyllaDB's tables remembered per worker. 0..=1000000; 0: nodes are not asked to tell them.
    pub tablets_max: u32,
    /// Abandoned stream ids of one connection above which it is replaced.
    pub orphans_max: u32,
    /// A connection with a stream id abandoned for longer than this is replaced.
    pub orphan_age_max: Span,
    /// Connecting, the handshake included, must end within this time.
    pub connect_timeout: Span,
    /// A request without its reply after this time is answered with an error; its stream id is kept.
    pub request_timeout: Span,
    /// A connection that owes a reply and delivers no byte for this time is cut.
    pub stall_timeout: Span,
    /// A request that waited this long in a queue of weir is refused.
    pub queue_timeout: Span,
    /// First wait before reconnecting; doubles up to `reconnect_max`, with jitter.
    pub reconnect_min: Span,
    /// Longest wait before reconnecting.
    pub reconnect_max: Span,
    /// Idempotent requests that may be sent once more because a node failed them, in percent of the requests of the last
    /// ten seconds.
    pub retry_percent: u32,
    /// Identical reads that may wait for the answer of one.
    pub followers_per_read: u32,
    /// Reads of all clients of one worker that may wait for the answer of another one. Zero: none.
    pub followers_max: u32,
    /// Answers kept to be given again, per worker ([`Rule::cache_ttl`]).
    pub cache_bytes_max: Bytes,
    /// File with `user password` for clusters that ask for one; never logged.
    pub auth_file: Option<Arc<str>>,
    /// File of the key that page states of split statements are authenticated with, shared by several weirs; its content
    /// is never logged.
    pub paging_key_file: Option<Arc<str>>,
    /// What whoever reads the file made of it; without it, the key is derived from the name.
    pub page_key: Option<PageKey>,
    /// Choices for single tables and statements, at most [`super::RULES_MAX`]; none names what another one names.
    pub rules: Arc<[Rule]>,
    /// Whether clients sign in themselves.
    pub clients: ClientSignIn,
    /// Users with connections of their own, per process ([`ClientSignIn::Own`]). At least 1.
    pub principals_max: u32,
    /// A user's connections are closed, and its place is another one's, when it has had no client for this time.
    pub principal_idle: Span,
    /// Good credentials of a client are not asked about again for this time.
    pub credentials_kept: Span,
    /// Connections at once on which the cluster is asked about clients' credentials, over all workers. At least 1.
    pub credential_checks: u32,
    /// Whether and how the connections to the nodes are encrypted.
    pub tls: UpstreamTls,
}

/// Whether clients sign in themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClientSignIn {
    /// No: whoever reaches the listener is served.
    #[default]
    Trusted,
    /// With a user name and a password, which the cluster checks.
    Password,
    /// The same, and the requests of each user go upstream on connections that are signed in as that user.
    Own,
}

/// What is said about TLS to the nodes. The engine only carries it: whoever dials reads the files.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct UpstreamTls {
    /// The connections are encrypted.
    pub on: bool,
    /// File of the CAs of which nodes must show a certificate.
    pub ca: Option<Arc<str>>,
    /// What is asked of a node's certificate besides.
    pub verify: TlsVerify,
    /// The name it must bear; without it, the contact's own.
    pub server_name: Option<Arc<str>>,
    /// File of the certificate that weir shows.
    pub client_cert: Option<Arc<str>>,
    /// File of its key.
    pub client_key: Option<Arc<str>>,
}

/// What is asked of a node's certificate, besides that a CA vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TlsVerify {
    /// It bears the name that was dialled, or the one that was configured.
    #[default]
    Name,
    /// Nothing: the CA vouches for nodes of this cluster only.
    Ca,
}

/// The error a client gets that is over `operations_per_second`, `operations_in_flight` or `bytes_in_flight`. One request
/// over `operations_per_request` is Invalid in any case: another host would be no help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RateRefusal {
    /// Invalid: no driver sends it again.
    #[default]
    Invalid,
    /// OVERLOADED: most drivers ask their next host.
    Overloaded,
}

impl ClusterSettings {
    /// A cluster of these contacts with every default.
    #[must_use]
    pub fn new(name: &str, contacts: Vec<Address>) -> ClusterSettings {
        ClusterSettings {
            name: name.into(),
            contacts,
            discover: true,
            nodes_max: 128,
            local_dc: None,
            local_rack: None,
            remote_failover: false,
            shard_ports: None,
            connections_per_node: 1,
            streams_per_connection: 2_048,
            requests_in_flight: Operations(512),
            split: SplitChoice::Auto,
            chunk_keys: 100,
            chunk_statements: 10,
            chunks_in_flight: 12,
            chunks_beside_requests: 1,
            gather_bytes_max: Bytes(64 << 20),
            refuse_rate_as: RateRefusal::Invalid,
            newest_version: Version::V5,
            request_max: Bytes(16 << 20),
            stream_reply_min: Bytes(256 << 10),
            scan_operations: Operations(100),
            prepared_max: 10_000,
            tablets_max: 65_536,
            orphans_max: 256,
            orphan_age_max: Span::secs(120),
            connect_timeout: Span::secs(5),
            request_timeout: Span::secs(12),
            stall_timeout: Span::secs(20),
            queue_timeout: Span::secs(5),
            reconnect_min: Span::millis(100),
            reconnect_max: Span::millis(1_000),
            retry_percent: 10,
            followers_per_read: 1_024,
            followers_max: 16_384,
            cache_bytes_max: Bytes(16 << 20),
            auth_file: None,
            rules: Arc::from([]),
            paging_key_file: None,
            page_key: None,
            clients: ClientSignIn::Trusted,
            principals_max: 16,
            principal_idle: Span::secs(600),
            credentials_kept: Span::secs(60),
            credential_checks: 2,
            tls: UpstreamTls::default(),
        }
    }
}
