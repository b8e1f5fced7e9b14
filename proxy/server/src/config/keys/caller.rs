//! Keys of `[callers.NAME]` and `[undeclared]`: the limits, and which principals a name stands for.

use crate::config::schema::{Absent, Key, Kind, Tighter};
use crate::config_key as key;
use std::sync::Arc;
use weir_engine::settings::CallerLimits;
use weir_engine::units::Span;

/// A caller while its file is read.
#[derive(Clone, Debug, Default)]
pub struct CallerDraft {
    /// Its limits.
    pub limits: CallerLimits,
    /// The uid it stands for.
    pub uid: Option<u32>,
    /// The listener it stands for, or that `uid` must have come through.
    pub listener: Option<Arc<str>>,
    /// What its service tokens have as issuer; by default its name.
    pub jwt_issuer: Option<Arc<str>>,
    /// Keys that sign them.
    pub jwt_keys: Vec<Arc<str>>,
}

const MODES: &[(&str, &str)] = &[
    ("observe", "let it pass, count what would have been refused"),
    ("pace", "let it wait up to `pace_max_wait`, then refuse"),
    ("refuse", "refuse with an error that names limit, ask and ceiling"),
];
const CLASSES: &[(&str, &str)] =
    &[("interactive", "somebody is waiting"), ("batch", "back-fills and importers: paused first")];
const MOST: u64 = i64::MAX as u64;

macro_rules! limits {
    ($type:ty $(, $prefix:ident)?) => {
        [
            key!(
                $type, "operations_per_request", $($prefix.)?operations_per_request, Kind::Limit(1, MOST),
                Absent::Default, Tighter::Less,
                "Operations (keys) one request may ask for. The alert's threshold is the same number."
            ),
            key!(
                $type, "operations_per_second", $($prefix.)?operations_per_second, Kind::Limit(1, MOST),
                Absent::Default, Tighter::Less,
                "Operations per second, over all connections of the caller in this process."
            ),
            key!(
                $type, "burst", $($prefix.)?burst, Kind::Limit(1, MOST), Absent::Default, Tighter::Less,
                "Operations that may be taken at once above the steady rate; `\"none\"` is one second's worth. \
                 Needs `operations_per_second`."
            ),
            key!(
                $type, "operations_in_flight", $($prefix.)?operations_in_flight, Kind::Limit(1, MOST),
                Absent::Default, Tighter::Less,
                "Operations under way at once."
            ),
            key!(
                $type, "bytes_in_flight", $($prefix.)?bytes_in_flight, Kind::SizeLimit(1, MOST),
                Absent::Default, Tighter::Less,
                "Estimated reply bytes under way at once."
            ),
            key!(
                $type, "mode", $($prefix.)?mode, Kind::Word(MODES), Absent::Default, Tighter::LaterWord,
                "What happens above a limit. Deletes and touches are counted and paced, never refused."
            ),
            key!(
                $type, "class", $($prefix.)?class, Kind::Word(CLASSES), Absent::Default, Tighter::LaterWord,
                "Who goes first under pressure."
            ),
            key!(
                $type, "pace_max_wait", $($prefix.)?pace_max_wait,
                Kind::Duration(Span::millis(1), Span::secs(60)), Absent::Default, Tighter::Less,
                "The longest a request is paced."
            ),
        ]
    };
}

/// Keys of `[undeclared]`.
pub static LIMITS: &[Key<CallerLimits>] = &limits!(CallerLimits);

static CALLER_LIMITS: [Key<CallerDraft>; 8] = limits!(CallerDraft, limits);

static CALLER_MAPPING: [Key<CallerDraft>; 4] = [
    key!(
        CallerDraft,
        "uid",
        uid,
        Kind::Count(0, u32::MAX as u64 - 1),
        Absent::Words("none"),
        Tighter::Neither,
        "Clients of this uid carry the section's name (listeners with `principal = \"uid\"`)."
    ),
    key!(
        CallerDraft,
        "listener",
        listener,
        Kind::Name,
        Absent::Words("none"),
        Tighter::Neither,
        "Clients of this listener carry the section's name; with `uid`, only that uid on this listener."
    ),
    key!(
        CallerDraft,
        "jwt_keys",
        jwt_keys,
        Kind::Names(super::JWT_KEYS_MAX),
        Absent::Default,
        Tighter::Neither,
        "Public keys (`\"did:key:z...\"`, or `publicKeyMultibase` of a DID document) that sign the service tokens of this caller: \
         calls that come with one, to a listener with `jwt_audiences`, carry the section's name (docs/rpc.md). secp256k1 \
         (ES256K) or P-256 (ES256)."
    ),
    key!(
        CallerDraft,
        "jwt_issuer",
        jwt_issuer,
        Kind::Did,
        Absent::Words("the section's name"),
        Tighter::Neither,
        "What those tokens have as `iss`, letter by letter."
    ),
];

/// Keys of `[callers.NAME]`: which principals it stands for, then the limits.
pub static CALLER: [&[Key<CallerDraft>]; 2] = [&CALLER_MAPPING, &CALLER_LIMITS];
