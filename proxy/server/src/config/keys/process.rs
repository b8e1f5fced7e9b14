//! Keys of the process: the top of the file, before the first section.

use crate::config::checked::ProcessConfig;
use crate::config::schema::{Absent, Key, Kind, Tighter};
use crate::config_key as key;
use weir_engine::units::{Bytes, Span};

/// The top of the file while it is read: the process, and the bounds that all listeners share.
#[derive(Clone, Debug)]
pub struct ProcessDraft {
    /// What concerns the process.
    pub process: ProcessConfig,
    /// Unread reply bytes of all clients of one worker.
    pub reply_bytes_max: Bytes,
    /// Request bytes not yet carried out, of all clients of one worker.
    pub input_bytes_max: Bytes,
}

/// Keys at the top of the file.
pub static PROCESS: &[Key<ProcessDraft>] = &[
    key!(
        ProcessDraft,
        "workers",
        process.workers,
        Kind::Count(1, 64),
        Absent::Words("1; 2 from four cores on"),
        Tighter::Neither,
        "Data-path threads. Each has upstream connections of its own, and as many threads serve calls (services), which share \
         theirs; limits hold over all of them together."
    ),
    key!(
        ProcessDraft,
        "metrics",
        process.metrics,
        Kind::Addresses(16),
        Absent::Words("not served"),
        Tighter::Neither,
        "Where /metrics, /healthz and /readyz are served, and nothing else. May be reachable from other machines."
    ),
    key!(
        ProcessDraft,
        "admin",
        process.admin,
        Kind::Addresses(16),
        Absent::Words("`unix:$XDG_RUNTIME_DIR/weir/admin.sock`, or under `/run`"),
        Tighter::Neither,
        "Where the control socket listens (`weir top`, `weir limits`, ...). A Unix socket is created with mode 0600 and \
         serves the same user and root; TCP is loopback only and needs `admin_token_file`. `[]` opens none."
    ),
    key!(
        ProcessDraft,
        "admin_token_file",
        process.admin_token_file,
        Kind::Path,
        Absent::Words("none"),
        Tighter::Neither,
        "File with the token that clients of a TCP control socket must present."
    ),
    key!(
        ProcessDraft,
        "state_dir",
        process.state_dir,
        Kind::Path,
        Absent::Words("`$STATE_DIRECTORY`, else none"),
        Tighter::Neither,
        "Directory in which overrides (`weir limits set`, `weir switch`) are kept over a restart. Without it they last \
         until weir ends."
    ),
    key!(
        ProcessDraft,
        "drain_timeout",
        process.drain_timeout,
        Kind::Duration(Span(0), Span::secs(3_600)),
        Absent::Default,
        Tighter::Less,
        "After SIGTERM: the longest wait for requests under way before connections are closed."
    ),
    key!(
        ProcessDraft,
        "busy_poll",
        process.busy_poll,
        Kind::Duration(Span(0), Span::millis(1)),
        Absent::Default,
        Tighter::Less,
        "How long a worker looks again before it sleeps while at most one CQL request is under way, or 32 and more: shortens \
         the median of a client that waits for each answer, and saves wakings under load, for at most this much processor \
         time per burst of requests and of answers. `0us`: not at all. Above 40 us it takes the processor from a node on the same two cores."
    ),
    key!(
        ProcessDraft,
        "attribution",
        process.attribution,
        Kind::Address,
        Absent::Words("none: weir looks itself"),
        Tighter::Neither,
        "The attribution socket of `weir-probes` on this machine, `\"unix:/path\"`. Of new TCP connections it is asked \
         which process they are from, which it knows also where weir may not look (other users' processes) or comes too \
         late. What it does not know or does not answer within `attribution_timeout` weir looks for itself, as without \
         this key."
    ),
    key!(
        ProcessDraft,
        "attribution_timeout",
        process.attribution_timeout,
        Kind::Duration(Span::millis(1), Span::secs(60)),
        Absent::Default,
        Tighter::Less,
        "With `attribution`: the longest wait for `weir-probes`, of the thread that names callers. No request waits for it; \
         until a caller is named, its requests are its listener's."
    ),
    key!(
        ProcessDraft,
        "max_callers",
        process.max_callers,
        Kind::Count(1, 1_024),
        Absent::Default,
        Tighter::Neither,
        "Callers that get a label value of their own in the metrics; the rest is `_other`. Callers of this file have \
         reserved places."
    ),
    key!(
        ProcessDraft,
        "correlated_requests_max",
        process.correlated_requests_max,
        Kind::Count(1_024, 1_048_576),
        Absent::Default,
        Tighter::Neither,
        "Requests with an id (`trusted_request_ids`) that are remembered at once, each for 30 s; the oldest leave first. About \
         500 bytes each, taken when they are needed."
    ),
    key!(
        ProcessDraft,
        "correlation_notes_max",
        process.correlation_notes_max,
        Kind::Count(256, 1_048_576),
        Absent::Default,
        Tighter::Neither,
        "Notes about such requests that wait in one worker while others bring in theirs, and four times as many of calls: \
         more are dropped and counted (`weir_correlation_lost_total`). About 130 bytes each."
    ),
    key!(
        ProcessDraft,
        "nofile",
        process.nofile,
        Kind::Count(64, 1 << 30),
        Absent::Words("the hard limit"),
        Tighter::Less,
        "Open files to ask the kernel for at start. Clients may take what is left after 160 of weir's own and its \
         connections to servers, and at least a quarter: the control socket and /metrics answer whatever clients do."
    ),
    key!(
        ProcessDraft,
        "reply_bytes_max",
        reply_bytes_max,
        Kind::Size(1 << 20, 64 << 30),
        Absent::Default,
        Tighter::Less,
        "Unread reply bytes of all clients of one worker. Above it no further reads start and slow readers are closed."
    ),
    key!(
        ProcessDraft,
        "input_bytes_max",
        input_bytes_max,
        Kind::Size(1 << 20, 64 << 30),
        Absent::Default,
        Tighter::Less,
        "Memory for request bytes not yet carried out, of all clients of one worker. Above it large senders are not \
         read. A client that sends and never reads takes at most a quarter more than the larger of `line_max` and \
         `value_max`, and one read: 10.2 MiB by default. At least the largest `line_max` and `value_max`."
    ),
];
