//! What an operator said for a while: a limit of one caller, a feature switched off on one listener, or a method switched
//! off.
//!
//! These types are kept on disk and travel over the control socket, so their JSON is part of what others rely on.

use serde::{Deserialize, Serialize};
use weir_engine::settings::{CallerClass, CallerLimits, LimitMode, Switches};
use weir_engine::units::{Bytes, Operations};

/// Wall-clock seconds since 1970. Overrides outlive the process, so they cannot count in its own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// The time `seconds` later.
    #[must_use]
    pub fn after(self, seconds: u64) -> UnixTime {
        UnixTime(self.0.saturating_add(seconds))
    }

    /// Seconds from `self` until `later`; zero when it has passed.
    #[must_use]
    pub fn until(self, later: UnixTime) -> u64 {
        later.0.saturating_sub(self.0)
    }
}

/// Who asked for a change: what the kernel says about the other end of the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Who {
    /// The peer's uid; nothing for a holder of the token over TCP.
    pub uid: Option<u32>,
    /// The uid's user name, `token` over TCP, or `uid:N`.
    pub name: String,
}

/// A limit as an operator writes it: a number, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// No limit of this kind.
    None,
    /// At most this many.
    At(u64),
}

impl Serialize for Bound {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Bound::None => serializer.serialize_str("none"),
            Bound::At(count) => serializer.serialize_u64(*count),
        }
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Bound, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Count(u64),
            Word(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Count(0) => Err(serde::de::Error::custom("a limit is at least 1")),
            Raw::Count(count) => Ok(Bound::At(count)),
            Raw::Word(word) if word == "none" => Ok(Bound::None),
            Raw::Word(_) => Err(serde::de::Error::custom("expected a number or \"none\"")),
        }
    }
}

impl Bound {
    fn operations(self) -> Option<Operations> {
        match self {
            Bound::None => None,
            Bound::At(count) => Some(Operations(count)),
        }
    }
}

/// What happens above a limit, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Let it pass and count what would have been refused.
    Observe,
    /// Let it wait for a moment, then refuse.
    Pace,
    /// Refuse with an error that names the limit.
    Refuse,
}

impl Mode {
    /// The word of the file and of the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Pace => "pace",
            Mode::Refuse => "refuse",
        }
    }
}

impl From<Mode> for LimitMode {
    fn from(mode: Mode) -> LimitMode {
        match mode {
            Mode::Observe => LimitMode::Observe,
            Mode::Pace => LimitMode::Pace,
            Mode::Refuse => LimitMode::Refuse,
        }
    }
}

impl From<LimitMode> for Mode {
    fn from(mode: LimitMode) -> Mode {
        match mode {
            LimitMode::Observe => Mode::Observe,
            LimitMode::Pace => Mode::Pace,
            LimitMode::Refuse => Mode::Refuse,
        }
    }
}

/// Who goes first under pressure, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Somebody is waiting for the answer.
    Interactive,
    /// Back-fills and importers: paused first.
    Batch,
}

impl Class {
    /// The word of the file and of the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Class::Interactive => "interactive",
            Class::Batch => "batch",
        }
    }
}

impl From<Class> for CallerClass {
    fn from(class: Class) -> CallerClass {
        match class {
            Class::Interactive => CallerClass::Interactive,
            Class::Batch => CallerClass::Batch,
        }
    }
}

impl From<CallerClass> for Class {
    fn from(class: CallerClass) -> Class {
        match class {
            CallerClass::Interactive => Class::Interactive,
            CallerClass::Batch => Class::Batch,
        }
    }
}

/// The limits an override changes; the others stay as the file has them.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitPatch {
    /// Operations one request may ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations_per_request: Option<Bound>,
    /// Operations per second over all connections of the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations_per_second: Option<Bound>,
    /// Operations that may be taken at once above the steady rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<Bound>,
    /// Operations under way at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations_in_flight: Option<Bound>,
    /// Estimated reply bytes under way at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_in_flight: Option<Bound>,
    /// What happens above them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Who goes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
}

impl LimitPatch {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == LimitPatch::default()
    }

    /// The limits with this patch on top.
    #[must_use]
    pub fn on(&self, base: &CallerLimits) -> CallerLimits {
        let operations = |bound: Option<Bound>, base| bound.map_or(base, Bound::operations);
        CallerLimits {
            operations_per_request: operations(self.operations_per_request, base.operations_per_request),
            operations_per_second: operations(self.operations_per_second, base.operations_per_second),
            burst: operations(self.burst, base.burst),
            operations_in_flight: operations(self.operations_in_flight, base.operations_in_flight),
            bytes_in_flight: match self.bytes_in_flight {
                None => base.bytes_in_flight,
                Some(Bound::None) => None,
                Some(Bound::At(bytes)) => Some(Bytes(bytes)),
            },
            mode: self.mode.map_or(base.mode, LimitMode::from),
            class: self.class.map_or(base.class, CallerClass::from),
            pace_max_wait: base.pace_max_wait,
        }
    }
}

/// A feature that can be switched off on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// Splitting of big multigets.
    Split,
    /// Implicit batching of single gets.
    Batching,
    /// Joining identical reads.
    SingleFlight,
    /// Caller limits.
    Limits,
}

impl Feature {
    /// The word of the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Feature::Split => "split",
            Feature::Batching => "batching",
            Feature::SingleFlight => "single-flight",
            Feature::Limits => "limits",
        }
    }

    /// Sets this feature's switch.
    pub fn set(self, switches: &mut Switches, on: bool) {
        match self {
            Feature::Split => switches.split = on,
            Feature::Batching => switches.batching = on,
            Feature::SingleFlight => switches.single_flight = on,
            Feature::Limits => switches.limits = on,
        }
    }
}

/// What an override is about. There is at most one per caller, one per listener and feature, and one per method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Target {
    /// Limits of one caller.
    Limits {
        /// The name that selects the limits.
        caller: String,
        /// What changes.
        limits: LimitPatch,
    },
    /// A feature is off on one listener.
    SwitchOff {
        /// The listener's name.
        listener: String,
        /// What is off.
        feature: Feature,
    },
    /// A method of a service is off.
    Deny {
        /// `package.Service/Method`.
        method: String,
    },
}

impl Target {
    /// Whether a new override of this target takes the place of the other.
    #[must_use]
    pub fn same_place(&self, other: &Target) -> bool {
        match (self, other) {
            (Target::Limits { caller: a, .. }, Target::Limits { caller: b, .. }) => a == b,
            (
                Target::SwitchOff { listener: a, feature: x },
                Target::SwitchOff { listener: b, feature: y },
            ) => a == b && x == y,
            (Target::Deny { method: a }, Target::Deny { method: b }) => a == b,
            _ => false,
        }
    }
}

/// One override, with who, when, why and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// What it changes.
    #[serde(flatten)]
    pub target: Target,
    /// When it was set.
    pub set_at_unix: UnixTime,
    /// When it ends by itself.
    pub expires_at_unix: UnixTime,
    /// Who set it.
    pub by: Who,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
