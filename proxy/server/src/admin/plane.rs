//! What the admin server asks of the rest of weir, and what it may change.

use super::model::{ConfigReport, LimitsReport, RequestReport, Snapshot};
use crate::overrides::{Feature, LimitPatch, Who};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::pin::Pin;
use weir_engine::correlate::CorrelationId;

/// A boxed future of an answer: the plane may have to ask its workers.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The running weir as the admin server sees it. Implemented by the server, faked in tests.
///
/// Every call comes from the admin thread. The admin server drops an answer that takes longer than its time-out, so a
/// future may be dropped at any await without harm: a change is either made or not begun.
pub trait Plane: Send + Sync + 'static {
    /// A look at everything that moves.
    fn snapshot(&self) -> Answer<'_, Snapshot>;
    /// What one request of a service came to; nothing when its id is not known (any more).
    fn request(&self, id: CorrelationId) -> Answer<'_, Option<RequestReport>>;
    /// The metrics in the form that `accept` (the header) prefers.
    fn metrics(&self, accept: Option<&str>) -> Answer<'_, Exposition>;
    /// Whether weir can serve.
    ///
    /// # Errors
    /// Says why not, for /readyz.
    fn ready(&self) -> Result<(), String>;
    /// The effective configuration.
    fn config(&self) -> ConfigReport;
    /// Limits and overrides in force.
    fn limits(&self) -> LimitsReport;
    /// Makes a change. The peer was authorised before.
    fn change(&self, change: Change, who: Who) -> Answer<'_, Result<Outcome, ControlError>>;
    /// Writes a line of the audit log. Called for every control request, allowed or not.
    fn audit(&self, entry: &Audit);
}

/// Metrics, written out.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    /// Value of the content-type header.
    pub content_type: &'static str,
    /// The text.
    pub body: Vec<u8>,
}

/// What an operator may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// `weir limits set`.
    SetLimits(SetLimits),
    /// `weir limits clear`.
    ClearLimits(ClearLimits),
    /// `weir switch`.
    Switch(Switch),
    /// `weir deny`, `weir allow`.
    Deny(Deny),
    /// `weir cache purge`.
    PurgeCache(PurgeCache),
    /// Read the configuration again, as SIGHUP does.
    Reload,
}

/// Body of `POST /limits`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetLimits {
    /// The name that selects the limits.
    pub caller: String,
    /// What changes.
    pub limits: LimitPatch,
    /// How long, in seconds.
    pub for_seconds: u64,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Body of `DELETE /limits`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClearLimits {
    /// The name whose override ends now.
    pub caller: String,
}

/// Body of `POST /switch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// What is switched.
    pub feature: Feature,
    /// `false` switches off for `for_seconds`; `true` ends that before its time.
    pub on: bool,
    /// On which listener.
    pub listener: String,
    /// How long it is off, in seconds; not needed to switch on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_seconds: Option<u64>,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Body of `POST /deny`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deny {
    /// `package.Service/Method`.
    pub method: String,
    /// How long it is refused, in seconds; without it, it is served again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_seconds: Option<u64>,
    /// Why, in the operator's words: clients are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Body of `POST /cache/purge`: one of `path` and `all`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurgeCache {
    /// Of which service; of all that keep answers without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Answers of this path and of all below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Every answer.
    #[serde(default)]
    pub all: bool,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A change that was made, in words for the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// What is in force now, one sentence.
    pub summary: String,
    /// What the operator should know about it.
    pub notes: Vec<String>,
    /// When it ends by itself.
    pub expires_at_unix: Option<crate::overrides::UnixTime>,
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlError {
    /// The request makes no sense (400).
    Invalid(String),
    /// There is no such listener or override (404).
    NotFound(String),
    /// A bound of weir is reached (409).
    Full(String),
    /// The new configuration has problems; nothing was changed (422).
    Refused(String),
    /// weir could not keep or apply it (500).
    Failed(String),
}

impl ControlError {
    /// Bounded label for metrics and the audit log.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            ControlError::Invalid(_) => "invalid",
            ControlError::NotFound(_) => "not_found",
            ControlError::Full(_) => "full",
            ControlError::Refused(_) => "refused",
            ControlError::Failed(_) => "failed",
        }
    }

    /// In words for the operator.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            ControlError::Invalid(text)
            | ControlError::NotFound(text)
            | ControlError::Full(text)
            | ControlError::Refused(text)
            | ControlError::Failed(text) => text,
        }
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for ControlError {}

/// One line of the audit log: who asked for what on the control socket, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Who.
    pub who: Who,
    /// What was asked, in words (escape it where it is shown).
    pub action: String,
    /// [`Audit::DONE`], `unauthorised`, or the kind of the [`ControlError`].
    pub result: String,
    /// What weir answered.
    pub answer: String,
}

impl Audit {
    /// The result of a change that was made.
    pub const DONE: &str = "done";
}
