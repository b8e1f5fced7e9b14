//! What a key of `weir.toml` is: its name, what it holds, within which bounds, what it means, and where its value lives.
//!
//! One table entry per key ([`Key`], in `keys/`) serves the reading of files, the reference, the effective
//! configuration and the comparison of two configurations, so that they cannot disagree.

use super::checked::{OnClientClose, PrincipalKind};
use super::quantity::{show_bytes, show_count, show_span};
use std::path::PathBuf;
use std::sync::Arc;
use weir_cql::Version;
use weir_engine::settings::{
    Address, CallerClass, ClientSignIn, FlushPolicy, LimitMode, RateRefusal, RingDialect, ServerSettings,
    ShardPorts, TlsVerify,
};
use weir_engine::units::{Bytes, Operations, Span};

/// One key of a section whose values live in a `T`.
pub struct Key<T> {
    /// As written in the file.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What happens without it.
    pub default: Absent,
    /// Which direction of a change takes something away from clients.
    pub tighter: Tighter,
    /// What it means, one or two sentences.
    pub doc: &'static str,
    /// Reads it out of its place.
    pub get: fn(&T) -> Value,
    /// Puts it into its place; `None` when the value is of another kind (a defect of the table, found by its test).
    pub set: fn(&mut T, Value) -> Option<()>,
}

/// What a key holds, with its bounds (both ends included).
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A whole number.
    Count(u64, u64),
    /// A whole number, or `"none"`.
    Limit(u64, u64),
    /// Bytes.
    Size(u64, u64),
    /// Bytes, or `"none"`.
    SizeLimit(u64, u64),
    /// A length of time.
    Duration(Span, Span),
    /// `true` or `false`.
    Flag,
    /// One of these words, each with its meaning.
    Word(&'static [(&'static str, &'static str)]),
    /// A name of this file or of the machine: `[A-Za-z0-9._:/@-]{1,64}`.
    Name,
    /// Names, at most this many.
    Names(usize),
    /// A DID, with or without `#` and the name of a service behind it.
    Did,
    /// DIDs, at most this many.
    Dids(usize),
    /// `keyspace.table`, names as the server stores them.
    Table,
    /// 16 hexadecimal digits.
    Fingerprint,
    /// Source ports: `"A-B"`, both at least 1,024.
    Ports,
    /// An absolute path.
    Path,
    /// Absolute paths, at most this many.
    Paths(usize),
    /// One address.
    Address,
    /// An address, or a list of at most this many.
    Addresses(usize),
    /// Permission bits.
    FileMode,
    /// The servers of a pool, at most this many.
    Servers(usize),
    /// What `flush_all` does.
    Flush,
}

/// What happens when a key is not in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The value that the checked type has by default.
    Default,
    /// In words, where the default depends on something.
    Words(&'static str),
    /// The file is refused.
    Required,
}

/// Which direction of a change takes something away from clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tighter {
    /// A smaller value (or one where there was none).
    Less,
    /// The change of an order: `observe` < `pace` < `refuse`; `v5` < `v4` < `v3`.
    LaterWord,
    /// Neither direction.
    Neither,
}

/// A value of a key, already of its kind and within its bounds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `"none"`, or a key that has no value.
    Nothing,
    /// A whole number.
    Count(u64),
    /// Bytes.
    Size(Bytes),
    /// A length of time.
    Span(Span),
    /// On or off.
    Flag(bool),
    /// One of a kind's words.
    Word(&'static str),
    /// A name or a path.
    Text(Arc<str>),
    /// Names.
    Names(Vec<Arc<str>>),
    /// Source ports.
    Ports(ShardPorts),
    /// Addresses.
    Addresses(Vec<Address>),
    /// Permission bits.
    Mode(u32),
    /// Servers.
    Servers(Vec<ServerSettings>),
    /// What `flush_all` does.
    Flush(FlushPolicy),
}

impl Value {
    /// As it is written in a file; nothing for a key that is best left out.
    #[must_use]
    pub fn to_toml(&self, kind: Kind) -> Option<String> {
        Some(match self {
            Value::Nothing if matches!(kind, Kind::Limit(..) | Kind::SizeLimit(..)) => "\"none\"".to_owned(),
            Value::Nothing => return None,
            Value::Count(count) => show_count(*count),
            Value::Size(bytes) => format!("\"{}\"", show_bytes(*bytes)),
            Value::Span(span) => format!("\"{}\"", show_span(*span)),
            Value::Flag(on) => on.to_string(),
            Value::Word(word) => format!("\"{word}\""),
            Value::Text(text) => quoted(text),
            Value::Ports(ports) => format!("\"{}\"", show_ports(*ports)),
            Value::Names(names) => list(names.iter().map(|name| quoted(name))),
            Value::Addresses(all) => match (all.as_slice(), kind) {
                ([one], _) => quoted(&one.to_string()),
                (all, _) => list(all.iter().map(|address| quoted(&address.to_string()))),
            },
            Value::Mode(bits) => format!("0o{bits:03o}"),
            Value::Servers(servers) => list(servers.iter().map(server)),
            Value::Flush(FlushPolicy::Allow) => "\"allow\"".to_owned(),
            Value::Flush(FlushPolicy::Refuse) => "\"refuse\"".to_owned(),
            Value::Flush(FlushPolicy::Prefix(prefix)) => format!("{{ prefix = {} }}", quoted(prefix)),
        })
    }

    /// As JSON: numbers are numbers, everything else is text as in the file.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::{Value as Json, json};
        match self {
            Value::Nothing => Json::Null,
            Value::Count(count) => json!(count),
            Value::Size(bytes) => json!(bytes.0),
            Value::Span(span) => json!(show_span(*span)),
            Value::Flag(on) => json!(on),
            Value::Word(word) => json!(word),
            Value::Text(text) => json!(&**text),
            Value::Ports(ports) => json!(show_ports(*ports)),
            Value::Names(names) => names.iter().map(|name| json!(&**name)).collect(),
            Value::Addresses(all) => all.iter().map(|address| json!(address.to_string())).collect(),
            Value::Mode(bits) => json!(format!("{bits:04o}")),
            Value::Servers(servers) => servers
                .iter()
                .map(|server| {
                    json!({
                        "address": server.address.to_string(),
                        "weight": server.weight,
                        "name": server.name.as_deref(),
                    })
                })
                .collect(),
            Value::Flush(FlushPolicy::Allow) => json!("allow"),
            Value::Flush(FlushPolicy::Refuse) => json!("refuse"),
            Value::Flush(FlushPolicy::Prefix(prefix)) => json!({ "prefix": &**prefix }),
        }
    }
}

fn show_ports(ports: ShardPorts) -> String {
    format!("{}-{}", ports.first, ports.last)
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn server(server: &ServerSettings) -> String {
    let address = quoted(&server.address.to_string());
    match (&server.name, server.weight) {
        (None, 1) => address,
        (None, weight) => format!("{{ address = {address}, weight = {weight} }}"),
        (Some(name), weight) => {
            format!("{{ address = {address}, weight = {weight}, name = {} }}", quoted(name))
        }
    }
}

/// A TOML basic string.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\U{:08X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A type that a key's value lives in.
pub trait Field: Sized {
    /// Out of its place.
    fn value(&self) -> Value;
    /// Into its place; nothing for a value of another kind.
    fn from_value(value: Value) -> Option<Self>;
}

macro_rules! field {
    ($type:ty, $variant:ident, |$this:ident| $out:expr, |$held:ident| $in:expr) => {
        impl Field for $type {
            fn value(&self) -> Value {
                let $this = self;
                Value::$variant($out)
            }
            fn from_value(value: Value) -> Option<$type> {
                match value {
                    Value::$variant($held) => $in,
                    _ => None,
                }
            }
        }
    };
}

field!(u16, Count, |this| u64::from(*this), |held| u16::try_from(held).ok());
field!(u32, Count, |this| u64::from(*this), |held| u32::try_from(held).ok());
field!(u64, Count, |this| *this, |held| Some(held));
field!(Operations, Count, |this| this.0, |held| Some(Operations(held)));
field!(Bytes, Size, |this| *this, |held| Some(held));
field!(usize, Size, |this| Bytes(*this as u64), |held| usize::try_from(held.0).ok());
field!(Span, Span, |this| *this, |held| Some(held));
field!(bool, Flag, |this| *this, |held| Some(held));
field!(Arc<str>, Text, |this| this.clone(), |held| Some(held));
field!(PathBuf, Text, |this| this.to_string_lossy().into(), |held| Some(PathBuf::from(&*held)));
field!(Vec<Arc<str>>, Names, |this| this.clone(), |held| Some(held));
field!(Vec<Address>, Addresses, |this| this.clone(), |held| Some(held));
field!(Address, Addresses, |this| vec![this.clone()], |held| held.into_iter().next());
field!(Vec<ServerSettings>, Servers, |this| this.clone(), |held| Some(held));
field!(ShardPorts, Ports, |this| *this, |held| Some(held));
field!(FlushPolicy, Flush, |this| this.clone(), |held| Some(held));

/// Permission bits, told apart from other numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeBits(pub u32);
field!(ModeBits, Mode, |this| this.0, |held| Some(ModeBits(held)));

impl<T: Field> Field for Option<T> {
    fn value(&self) -> Value {
        self.as_ref().map_or(Value::Nothing, Field::value)
    }
    fn from_value(value: Value) -> Option<Option<T>> {
        match value {
            Value::Nothing => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

/// An enum that is written as one word.
pub trait Worded: Copy + PartialEq + 'static {
    /// Every word with what it stands for.
    const WORDS: &'static [(&'static str, Self)];

    /// The word for this value.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("?", |(word, _)| word)
    }
}

impl<T: Worded> Field for T {
    fn value(&self) -> Value {
        Value::Word(self.word())
    }
    fn from_value(value: Value) -> Option<T> {
        match value {
            Value::Word(word) => T::WORDS.iter().find(|(name, _)| *name == word).map(|(_, value)| *value),
            _ => None,
        }
    }
}

impl Worded for RingDialect {
    const WORDS: &'static [(&'static str, RingDialect)] = &[
        ("libmemcached-weighted", RingDialect::LibmemcachedWeighted),
        ("libmemcached", RingDialect::Libmemcached),
        ("twemproxy-md5", RingDialect::TwemproxyMd5),
        ("twemproxy-fnv1a64", RingDialect::TwemproxyFnv1a64),
    ];
}

impl Worded for LimitMode {
    const WORDS: &'static [(&'static str, LimitMode)] =
        &[("observe", LimitMode::Observe), ("pace", LimitMode::Pace), ("refuse", LimitMode::Refuse)];
}

impl Worded for CallerClass {
    const WORDS: &'static [(&'static str, CallerClass)] =
        &[("interactive", CallerClass::Interactive), ("batch", CallerClass::Batch)];
}

impl Worded for Version {
    const WORDS: &'static [(&'static str, Version)] =
        &[("v5", Version::V5), ("v4", Version::V4), ("v3", Version::V3)];
}

impl Worded for ClientSignIn {
    const WORDS: &'static [(&'static str, ClientSignIn)] = &[
        ("trusted", ClientSignIn::Trusted),
        ("password", ClientSignIn::Password),
        ("own", ClientSignIn::Own),
    ];
}

impl Worded for RateRefusal {
    const WORDS: &'static [(&'static str, RateRefusal)] =
        &[("invalid", RateRefusal::Invalid), ("overloaded", RateRefusal::Overloaded)];
}

impl Worded for TlsVerify {
    const WORDS: &'static [(&'static str, TlsVerify)] = &[("name", TlsVerify::Name), ("ca", TlsVerify::Ca)];
}

impl Worded for OnClientClose {
    const WORDS: &'static [(&'static str, OnClientClose)] =
        &[("reset", OnClientClose::Reset), ("fin", OnClientClose::Fin)];
}

impl Worded for PrincipalKind {
    const WORDS: &'static [(&'static str, PrincipalKind)] = &[
        ("listener", PrincipalKind::Listener),
        ("uid", PrincipalKind::Uid),
        ("certificate", PrincipalKind::Certificate),
    ];
}

/// Declares a [`Key`] whose value lives in the field `$field` (a path) of `$type`.
#[macro_export]
#[doc(hidden)]
macro_rules! config_key {
    ($type:ty, $name:literal, $($field:ident).+, $kind:expr, $default:expr, $tighter:expr, $doc:expr) => {
        $crate::config::schema::Key {
            name: $name,
            kind: $kind,
            default: $default,
            tighter: $tighter,
            doc: $doc,
            get: |held: &$type| $crate::config::schema::Field::value(&held.$($field).+),
            set: |held: &mut $type, value| {
                held.$($field).+ = $crate::config::schema::Field::from_value(value)?;
                Some(())
            },
        }
    };
}
