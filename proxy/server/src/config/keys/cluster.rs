//! Keys of `[cluster.NAME]`.

use crate::config::schema::{Absent, Key, Kind, Tighter};
use crate::config_key as key;
use weir_engine::settings::ClusterSettings;
use weir_engine::units::Span;

/// The newest first: an older one takes something away from clients.
const VERSIONS: &[(&str, &str)] = &[
    ("v5", "Cassandra 4.0 and later"),
    ("v4", "Cassandra 2.2 and later, ScyllaDB"),
    ("v3", "Cassandra 2.1"),
];

/// The later, the less is split.
const SPLITS: &[(&str, &str)] = &[
    ("on", "wherever the answer stays the same"),
    (
        "auto",
        "unless a node says that it is ScyllaDB, whose answers to many keys come from all its shards at once",
    ),
    ("off", "never; keys are counted all the same"),
];
const SIGN_INS: &[(&str, &str)] = &[
    ("trusted", "not at all: whoever reaches the listener is served"),
    (
        "password",
        "with a user name and a password, which the cluster checks; the user is their principal, but at the cluster they may do \
         whatever weir's own user (`auth_file`) may",
    ),
    (
        "own",
        "the same, and the requests of each user go upstream on connections that are signed in as that user: it may do there \
         what it may do directly",
    ),
];

/// The stricter first.
const REFUSALS: &[(&str, &str)] = &[
    ("invalid", "Invalid, which no driver sends again"),
    (
        "overloaded",
        "OVERLOADED, with which most drivers ask their next host (docs/cql.md has what each does)",
    ),
];
const VERIFIES: &[(&str, &str)] = &[
    (
        "name",
        "it bears what is dialled (the host of a contact, the address of a node that the cluster told), or `tls_server_name`",
    ),
    ("ca", "nothing: for a CA that vouches for nodes of this cluster only"),
];

const MS: Span = Span::millis(1);
const SECOND: Span = Span::secs(1);
const MINUTE: Span = Span::secs(60);
const TEN_MINUTES: Span = Span::secs(600);
const HOUR: Span = Span::secs(3_600);
const DAY: Span = Span::secs(86_400);

/// Bytes of a request no server takes (`native_transport_max_frame_size` is 16 MiB, 256 MiB before Cassandra 4.0).
const REQUEST_MAX_MOST: u64 = weir_cql::BODY_MAX as u64;

/// Keys of a cluster.
pub static CLUSTER: &[Key<ClusterSettings>] = &[
    key!(
        ClusterSettings,
        "contacts",
        contacts,
        Kind::Addresses(super::CONTACTS_MAX),
        Absent::Required,
        Tighter::Neither,
        "The nodes weir connects to, with the port they speak CQL on: `\"10.0.0.1:9042\"`, or a list. With `discover` \
         only until the cluster has told its nodes: two or three are enough."
    ),
    key!(
        ClusterSettings,
        "discover",
        discover,
        Kind::Flag,
        Absent::Default,
        Tighter::Neither,
        "Ask the cluster for its nodes and where its data lies (one control connection per process), connect to all of them \
         and send each request to a replica. `false` where the addresses that nodes tell cannot be dialled from here: \
         then the contacts are all there is."
    ),
    key!(
        ClusterSettings,
        "nodes_max",
        nodes_max,
        Kind::Count(1, 10_000),
        Absent::Default,
        Tighter::Neither,
        "Nodes connected to at most, when the cluster tells of more; those of the local data center come first."
    ),
    key!(
        ClusterSettings,
        "local_dc",
        local_dc,
        Kind::Name,
        Absent::Words("that of the first contact"),
        Tighter::Neither,
        "The data center whose nodes get the requests, as the cluster spells it."
    ),
    key!(
        ClusterSettings,
        "local_rack",
        local_rack,
        Kind::Name,
        Absent::Words("no preference"),
        Tighter::Neither,
        "Of the replicas in the local data center, those in this rack are preferred."
    ),
    key!(
        ClusterSettings,
        "remote_failover",
        remote_failover,
        Kind::Flag,
        Absent::Default,
        Tighter::Neither,
        "While no node of the local data center is up, requests go to the others."
    ),
    key!(
        ClusterSettings,
        "shard_ports",
        shard_ports,
        Kind::Ports,
        Absent::Words("the node chooses the shard"),
        Tighter::Neither,
        "Source ports of connections to nodes that tell their shards (ScyllaDB): each connection asks for its shard by one, at \
         the node's shard-aware port. A shard gets one port in so many as the node has shards. Only where no NAT is between."
    ),
    key!(
        ClusterSettings,
        "connections_per_node",
        connections_per_node,
        Kind::Count(1, 16),
        Absent::Default,
        Tighter::Neither,
        "Connections to a node (to each shard of one that tells its shards), per worker and protocol version that clients use. \
         Fixed: clients cannot add to them."
    ),
    key!(
        ClusterSettings,
        "streams_per_connection",
        streams_per_connection,
        Kind::Count(1, 32_768),
        Absent::Default,
        Tighter::Less,
        "Requests of one connection that wait for a reply, those nobody waits for any more included."
    ),
    key!(
        ClusterSettings,
        "requests_in_flight",
        requests_in_flight,
        Kind::Count(1, 1_000_000),
        Absent::Default,
        Tighter::Less,
        "Requests in flight per node and protocol version in use, over all callers and workers. The others wait in weir, in fair order."
    ),
    key!(
        ClusterSettings,
        "split",
        split,
        Kind::Word(SPLITS),
        Absent::Default,
        Tighter::Neither,
        "Whether `SELECT ... WHERE key IN ?` for many keys is sent in parts of `chunk_keys`, on a connection of their own."
    ),
    key!(
        ClusterSettings,
        "chunk_keys",
        chunk_keys,
        Kind::Count(1, 10_000),
        Absent::Default,
        Tighter::Less,
        "Keys of one part of a split request."
    ),
    key!(
        ClusterSettings,
        "chunk_statements",
        chunk_statements,
        Kind::Count(1, 10_000),
        Absent::Default,
        Tighter::Less,
        "Statements of one part of a batch that a rule with `split_batches` lets be split; those of one partition are never \
         in two parts. Cassandra warns of batches over more than 10 partitions."
    ),
    key!(
        ClusterSettings,
        "chunks_in_flight",
        chunks_in_flight,
        Kind::Count(1, 1_024),
        Absent::Default,
        Tighter::Less,
        "Parts of split requests in flight per node, over all callers and workers (each worker may have one in any case). \
         The others wait in weir, in fair order."
    ),
    key!(
        ClusterSettings,
        "chunks_beside_requests",
        chunks_beside_requests,
        Kind::Count(1, 1_024),
        Absent::Default,
        Tighter::Less,
        "The same while a worker has other requests at the node, and until it has sent none for 20 ms: those keep their \
         latency at the price of the split ones. Above `chunks_in_flight` it has no effect."
    ),
    key!(
        ClusterSettings,
        "gather_bytes_max",
        gather_bytes_max,
        Kind::Size(1 << 20, 1 << 30),
        Absent::Default,
        Tighter::Less,
        "Answers of parts that a worker holds until the whole is complete. While it is reached only the oldest split \
         request goes on; an answer that is larger alone is refused."
    ),
    key!(
        ClusterSettings,
        "refuse_rate_as",
        refuse_rate_as,
        Kind::Word(REFUSALS),
        Absent::Default,
        Tighter::Neither,
        "What a request is answered that a caller's `operations_per_second`, `operations_in_flight` or `bytes_in_flight` \
         refuses. One over `operations_per_request` is Invalid in any case."
    ),
    key!(
        ClusterSettings,
        "newest_version",
        newest_version,
        Kind::Word(VERSIONS),
        Absent::Default,
        Tighter::LaterWord,
        "Newest protocol version offered to clients: not above what every node speaks."
    ),
    key!(
        ClusterSettings,
        "request_max",
        request_max,
        Kind::Size(64 << 10, REQUEST_MAX_MOST),
        Absent::Default,
        Tighter::Less,
        "Bytes of one request. At most `input_bytes_max`, and what the cluster takes \
         (`native_transport_max_frame_size`)."
    ),
    key!(
        ClusterSettings,
        "stream_reply_min",
        stream_reply_min,
        Kind::Size(1 << 10, REQUEST_MAX_MOST),
        Absent::Default,
        Tighter::Neither,
        "A page of rows longer than this is passed on while it arrives. Up to this it is gathered first, and asked for again \
         from another node where its node goes in the middle of it."
    ),
    key!(
        ClusterSettings,
        "scan_operations",
        scan_operations,
        Kind::Count(1, 1_000_000),
        Absent::Default,
        Tighter::Neither,
        "What a read without a whole partition key is charged before its rows are known."
    ),
    key!(
        ClusterSettings,
        "prepared_max",
        prepared_max,
        Kind::Count(16, 1_000_000),
        Absent::Default,
        Tighter::Less,
        "Prepared statements remembered per worker. The one not used for longest leaves first, and is prepared anew when a \
         client uses it again."
    ),
    key!(
        ClusterSettings,
        "tablets_max",
        tablets_max,
        Kind::Count(0, 1_000_000),
        Absent::Default,
        Tighter::Less,
        "Tablets of ScyllaDB's tables remembered per worker. Above it the table that was not asked about for longest is \
         forgotten whole, and learned anew. 0: nodes are not asked to tell them."
    ),
    key!(
        ClusterSettings,
        "orphans_max",
        orphans_max,
        Kind::Count(1, 32_768),
        Absent::Default,
        Tighter::Neither,
        "Requests of one connection whose reply nobody waits for any more; above it the connection is replaced."
    ),
    key!(
        ClusterSettings,
        "orphan_age_max",
        orphan_age_max,
        Kind::Duration(SECOND, HOUR),
        Absent::Default,
        Tighter::Neither,
        "A connection that has owed such a reply for longer than this is replaced."
    ),
    key!(
        ClusterSettings,
        "connect_timeout",
        connect_timeout,
        Kind::Duration(MS, MINUTE),
        Absent::Default,
        Tighter::Less,
        "Connecting to a node, the handshake included, must end within this time."
    ),
    key!(
        ClusterSettings,
        "request_timeout",
        request_timeout,
        Kind::Duration(MS, TEN_MINUTES),
        Absent::Default,
        Tighter::Less,
        "A request without its reply after this time is answered with an error. Above the cluster's own time-outs, so that \
         its answer comes first; below `stall_timeout`."
    ),
    key!(
        ClusterSettings,
        "stall_timeout",
        stall_timeout,
        Kind::Duration(MS, TEN_MINUTES),
        Absent::Default,
        Tighter::Less,
        "A connection that owes a reply and delivers no byte for this time is cut. Above `request_timeout`."
    ),
    key!(
        ClusterSettings,
        "queue_timeout",
        queue_timeout,
        Kind::Duration(MS, TEN_MINUTES),
        Absent::Default,
        Tighter::Less,
        "A request that waited this long in a queue of weir is refused."
    ),
    key!(
        ClusterSettings,
        "reconnect_min",
        reconnect_min,
        Kind::Duration(MS, MINUTE),
        Absent::Default,
        Tighter::Neither,
        "First wait before connecting again; doubles up to `reconnect_max`, with jitter."
    ),
    key!(
        ClusterSettings,
        "reconnect_max",
        reconnect_max,
        Kind::Duration(MS, TEN_MINUTES),
        Absent::Default,
        Tighter::Neither,
        "Longest wait before connecting again. At least `reconnect_min`."
    ),
    key!(
        ClusterSettings,
        "retry_percent",
        retry_percent,
        Kind::Count(0, 100),
        Absent::Default,
        Tighter::Less,
        "Idempotent requests sent again after a lost connection, or to another node after UNAVAILABLE, OVERLOADED or \
         IS_BOOTSTRAPPING, in percent of the requests of the last ten seconds (and ten more). Others are never sent twice."
    ),
    key!(
        ClusterSettings,
        "followers_per_read",
        followers_per_read,
        Kind::Count(1, 65_536),
        Absent::Default,
        Tighter::Neither,
        "Identical reads that may wait for the answer of one that is not sent yet. Further ones are asked apart."
    ),
    key!(
        ClusterSettings,
        "followers_max",
        followers_max,
        Kind::Count(0, 1_000_000),
        Absent::Default,
        Tighter::Neither,
        "Such reads of all clients, per worker. 0: every read is asked apart."
    ),
    key!(
        ClusterSettings,
        "cache_bytes_max",
        cache_bytes_max,
        Kind::Size(0, 16 << 30),
        Absent::Default,
        Tighter::Less,
        "Answers kept under rules with `cache_ttl`, per worker, keys included. The one not used for longest leaves first; \
         one that takes more than an eighth of it is not kept."
    ),
    key!(
        ClusterSettings,
        "auth_file",
        auth_file,
        Kind::Path,
        Absent::Words("none"),
        Tighter::Neither,
        "File with one line `user password` for a cluster that asks for one. Read for every attempt; never logged."
    ),
    key!(
        ClusterSettings,
        "paging_key_file",
        paging_key_file,
        Kind::Path,
        Absent::Words("a key derived from the cluster's name"),
        Tighter::Neither,
        "File with at least 32 bytes, or 64 hexadecimal digits, from which the key of weir's own page states (of requests sent \
         in parts) is made: the same file in weirs that clients are moved between. Read at start and at reload; never \
         logged. Pages begun with the key before a reload are read for an hour; give a new key to all weirs that share it within \
         that time, and reload them together: what one made with the new key is refused by one that has the old key only."
    ),
    key!(
        ClusterSettings,
        "clients",
        clients,
        Kind::Word(SIGN_INS),
        Absent::Default,
        Tighter::LaterWord,
        "How clients sign in, and under whose rights their requests are carried out."
    ),
    key!(
        ClusterSettings,
        "principals_max",
        principals_max,
        Kind::Count(1, 1_024),
        Absent::Default,
        Tighter::Less,
        "Users that may have connections of their own at once (`clients = \"own\"`), over all workers; a user beyond is turned \
         away when it signs in. Each takes as many connections as all clients together do otherwise."
    ),
    key!(
        ClusterSettings,
        "principal_idle",
        principal_idle,
        Kind::Duration(SECOND, DAY),
        Absent::Default,
        Tighter::Less,
        "A user's own connections are closed, and make room for another user's, when it has had no client for this time."
    ),
    key!(
        ClusterSettings,
        "credentials_kept",
        credentials_kept,
        Kind::Duration(SECOND, HOUR),
        Absent::Default,
        Tighter::Less,
        "A user name and a password that the cluster took are not asked about again for this time (unless `clients = \"trusted\"`)."
    ),
    key!(
        ClusterSettings,
        "credential_checks",
        credential_checks,
        Kind::Count(1, 16),
        Absent::Default,
        Tighter::Less,
        "Connections at once on which the cluster is asked about clients' credentials, over all workers and beside \
         `connections_per_node`; of one user, one. The others wait for at most `queue_timeout`."
    ),
    key!(
        ClusterSettings,
        "tls",
        tls.on,
        Kind::Flag,
        Absent::Default,
        Tighter::Neither,
        "Encrypt the connections to the nodes. Needs `tls_ca`. A certificate that a CA does not vouch for is refused, always."
    ),
    key!(
        ClusterSettings,
        "tls_ca",
        tls.ca,
        Kind::Path,
        Absent::Words("none"),
        Tighter::Neither,
        "PEM file with the CAs of which nodes must show a certificate. Like every TLS file it is read at the start and at \
         every reload."
    ),
    key!(
        ClusterSettings,
        "tls_verify",
        tls.verify,
        Kind::Word(VERIFIES),
        Absent::Default,
        Tighter::Neither,
        "What a node's certificate must say besides."
    ),
    key!(
        ClusterSettings,
        "tls_server_name",
        tls.server_name,
        Kind::Name,
        Absent::Words("the host of the contact"),
        Tighter::Neither,
        "The name that every node's certificate bears."
    ),
    key!(
        ClusterSettings,
        "tls_client_cert",
        tls.client_cert,
        Kind::Path,
        Absent::Words("none"),
        Tighter::Neither,
        "PEM file with the certificate that weir shows to nodes that ask for one, and those between it and the CA."
    ),
    key!(
        ClusterSettings,
        "tls_client_key",
        tls.client_key,
        Kind::Path,
        Absent::Words("none"),
        Tighter::Neither,
        "PEM file with the key of `tls_client_cert`."
    ),
];
