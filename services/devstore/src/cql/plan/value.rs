//! Terms to bytes: literals, bound values and the few functions that need no row.

use std::hash::{BuildHasher, Hasher, RandomState};

use weir_cql::key::KeyType;
use weir_cql::key::from_literal;
use weir_cql::request::list_elements;
use weir_cql::statement::LiteralKind;
use weir_cql::{CqlType, Cursor, Native, write};

use super::time;
use crate::cql::parse::ast::Term;
use crate::cql::refusal::Refusal;
use crate::cql::schema;
use crate::cql::schema::ColumnType;

/// A value of a column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// null
    Null,
    /// Leave the column alone.
    Unset,
    /// Its bytes.
    Bytes(Vec<u8>),
}

impl Value {
    /// The bytes.
    pub fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            Value::Null | Value::Unset => None,
        }
    }
}

/// What a statement is run with.
#[derive(Clone, Copy, Debug)]
pub struct Env<'a> {
    /// The bound values by their markers' positions.
    pub binds: &'a [Value],
    /// Now, microseconds since 1970; never twice the same.
    pub micros: i64,
}

impl Env<'_> {
    /// Seconds since 1970.
    pub fn seconds(&self) -> u32 {
        u32::try_from(self.micros / 1_000_000).unwrap_or(0)
    }

    fn bind(&self, at: u16) -> Result<Value, Refusal> {
        self.binds
            .get(usize::from(at))
            .cloned()
            .ok_or_else(|| Refusal::invalid("Invalid amount of bind variables"))
    }
}

/// Which bound values a statement has to be prepared or checked without.
pub const NOTHING_BOUND: Env<'static> = Env { binds: &[], micros: 0 };

/// The term has no marker: it can be looked at before it is run.
pub fn is_constant(term: &Term) -> bool {
    match term {
        Term::Bind(_) => false,
        Term::Null | Term::Literal(..) => true,
        Term::List(items) | Term::Set(items) | Term::Tuple(items) | Term::Call(_, items) => {
            items.iter().all(is_constant)
        }
        Term::Map(pairs) => pairs.iter().all(|(key, value)| is_constant(key) && is_constant(value)),
    }
}

/// The bytes of a term for something of this type; `what` names it in errors.
///
/// # Errors
/// Invalid when the term or its bytes are not of the type.
pub fn value(term: &Term, kind: &CqlType, what: &str, env: &Env<'_>) -> Result<Value, Refusal> {
    match (term, kind) {
        (Term::Null, _) => Ok(Value::Null),
        (Term::Bind(at), _) => {
            let bound = env.bind(*at)?;
            if let Value::Bytes(bytes) = &bound {
                check(kind, bytes, what)?;
            }
            Ok(bound)
        }
        (Term::Literal(form, text), CqlType::Native(native)) => {
            let bytes = literal(*native, *form, text).ok_or_else(|| mismatch(*form, text, kind, what))?;
            Ok(Value::Bytes(bytes))
        }
        (Term::List(items), CqlType::List(element)) => collection(items, element, what, env, false),
        (Term::Set(items), CqlType::Set(element)) => collection(items, element, what, env, true),
        (Term::Set(items), CqlType::Map(..)) if items.is_empty() => Ok(Value::Bytes(vec![0; 4])),
        (Term::Map(pairs), CqlType::Map(key, value)) => map(pairs, key, value, what, env),
        (Term::Call(name, arguments), CqlType::Native(native)) => call(name, arguments, *native, env),
        // brackets around one value
        (Term::Tuple(items), _) if items.len() == 1 => value(&items[0], kind, what, env),
        _ => Err(Refusal::invalid(format!("Invalid literal for {what} of type {}", named(kind)))),
    }
}

/// As [`value`], where null and "not set" make no sense.
///
/// # Errors
/// Invalid for those too.
pub fn present(term: &Term, kind: &CqlType, what: &str, env: &Env<'_>) -> Result<Vec<u8>, Refusal> {
    match value(term, kind, what, env)? {
        Value::Bytes(bytes) => Ok(bytes),
        Value::Null => Err(Refusal::invalid(format!("Invalid null value in condition for column {what}"))),
        Value::Unset => Err(Refusal::invalid(format!("Invalid unset value for column {what}"))),
    }
}

fn named(kind: &CqlType) -> String {
    let mut text = String::new();
    schema::type_name(kind, false, &mut text);
    text
}

fn mismatch(form: LiteralKind, text: &[u8], kind: &CqlType, what: &str) -> Refusal {
    let form = match form {
        LiteralKind::String => "STRING",
        LiteralKind::Integer => "INTEGER",
        LiteralKind::Float => "FLOAT",
        LiteralKind::Uuid => "UUID",
        LiteralKind::Blob => "HEX",
        LiteralKind::Duration => "DURATION",
        LiteralKind::Constant => "BOOLEAN",
        LiteralKind::Null => "NULL",
    };
    let text = String::from_utf8_lossy(text);
    let text = text.trim_matches('\'');
    Refusal::invalid(format!("Invalid {form} constant ({text}) for \"{what}\" of type {}", named(kind)))
}

fn literal(native: Native, form: LiteralKind, text: &[u8]) -> Option<Vec<u8>> {
    if native == Native::Counter && form == LiteralKind::Integer {
        return from_literal(KeyType::Bigint, form, text);
    }
    let kind = KeyType::from_option_id(native as u16)?;
    if let Some(bytes) = from_literal(kind, form, text) {
        return Some(bytes);
    }
    let text = std::str::from_utf8(text).ok()?;
    match (kind, form) {
        (KeyType::Timestamp, LiteralKind::String) => {
            time::timestamp(text.trim_matches('\'')).map(|millis| millis.to_be_bytes().to_vec())
        }
        (KeyType::Date, LiteralKind::Integer) => {
            let days: u32 = text.parse().ok()?;
            Some(days.to_be_bytes().to_vec())
        }
        (KeyType::Float, LiteralKind::Constant) => {
            special(text).map(|value| (value as f32).to_be_bytes().to_vec())
        }
        (KeyType::Double, LiteralKind::Constant) => special(text).map(|value| value.to_be_bytes().to_vec()),
        (KeyType::Timestamp, LiteralKind::Integer) => {
            text.parse::<i64>().ok().map(|value| value.to_be_bytes().to_vec())
        }
        _ => None,
    }
}

fn special(text: &str) -> Option<f64> {
    match text.to_ascii_lowercase().as_str() {
        "nan" | "-nan" => Some(f64::NAN),
        "infinity" => Some(f64::INFINITY),
        "-infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// A list or set as it is serialized; a set sorted and each element once.
fn collection(
    items: &[Term],
    element: &CqlType,
    what: &str,
    env: &Env<'_>,
    sorted: bool,
) -> Result<Value, Refusal> {
    let mut found =
        items.iter().map(|item| element_of(item, element, what, env)).collect::<Result<Vec<_>, _>>()?;
    if sorted {
        sort(element, &mut found, |bytes| bytes);
        found.dedup();
    }
    let mut out = Vec::new();
    write::bits(&mut out, count(found.len())?);
    found.iter().for_each(|bytes| write::bytes(&mut out, bytes));
    Ok(Value::Bytes(out))
}

fn map(
    pairs: &[(Term, Term)],
    key: &CqlType,
    element: &CqlType,
    what: &str,
    env: &Env<'_>,
) -> Result<Value, Refusal> {
    let mut found = Vec::new();
    for (at, value) in pairs {
        found.push((element_of(at, key, what, env)?, element_of(value, element, what, env)?));
    }
    sort(key, &mut found, |(key, _)| key);
    // the last of equal keys counts, as in a map that is filled in order
    found.reverse();
    found.dedup_by(|one, other| one.0 == other.0);
    found.reverse();
    let mut out = Vec::new();
    write::bits(&mut out, count(found.len())?);
    for (key, value) in &found {
        write::bytes(&mut out, key);
        write::bytes(&mut out, value);
    }
    Ok(Value::Bytes(out))
}

fn sort<T>(kind: &CqlType, items: &mut [T], bytes: impl Fn(&T) -> &Vec<u8>) {
    match schema::key_type(kind) {
        Some(kind) => items.sort_by(|one, other| kind.compare(bytes(one), bytes(other))),
        None => items.sort_by(|one, other| bytes(one).cmp(bytes(other))),
    }
}

fn element_of(term: &Term, kind: &CqlType, what: &str, env: &Env<'_>) -> Result<Vec<u8>, Refusal> {
    match value(term, kind, what, env)? {
        Value::Bytes(bytes) => Ok(bytes),
        Value::Null => Err(Refusal::invalid("null is not supported inside collections")),
        Value::Unset => {
            Err(Refusal::invalid(format!("unset value is not supported inside collections ({what})")))
        }
    }
}

fn count(length: usize) -> Result<u32, Refusal> {
    u32::try_from(length).map_err(|_| Refusal::invalid("a collection with too many elements"))
}

/// Checks that bytes are a value of the type.
///
/// # Errors
/// Invalid when they are not.
pub fn check(kind: &CqlType, bytes: &[u8], what: &str) -> Result<(), Refusal> {
    let wrong = || Refusal::invalid(format!("{} bytes are no {} ({what})", bytes.len(), named(kind)));
    match kind {
        CqlType::Native(Native::Counter) if bytes.len() == 8 => Ok(()),
        CqlType::Native(_) => schema::key_type(kind).ok_or_else(wrong)?.check(bytes).map_err(|_| wrong()),
        CqlType::List(element) | CqlType::Set(element) => {
            for found in elements(bytes).ok_or_else(wrong)? {
                check(element, found, what)?;
            }
            Ok(())
        }
        CqlType::Map(key, value) => {
            for (at, found) in pairs(bytes).ok_or_else(wrong)? {
                check(key, at, what)?;
                check(value, found, what)?;
            }
            Ok(())
        }
        CqlType::Custom(_) | CqlType::Udt { .. } | CqlType::Tuple(_) => Err(wrong()),
    }
}

/// The elements of a serialized list or set. `None` when the bytes are none, or one of them is null.
pub fn elements(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut all = list_elements(bytes)?;
    let found = all.by_ref().collect::<Option<Vec<_>>>()?;
    all.whole().then_some(found)
}

/// The pairs of a serialized map. `None` when the bytes are none, or a part of them is null.
pub fn pairs(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut cursor = Cursor::new(bytes);
    let count = cursor.count(8).ok()?;
    let mut found = Vec::new();
    for _ in 0..count {
        let key = cursor.bytes().ok()?.of(bytes)?;
        found.push((key, cursor.bytes().ok()?.of(bytes)?));
    }
    (cursor.remaining() == 0).then_some(found)
}

fn call(name: &str, arguments: &[Term], native: Native, env: &Env<'_>) -> Result<Value, Refusal> {
    let is_now = |arguments: &[Term]| {
        matches!(arguments, [Term::Call(inner, none)]
            if none.is_empty() && ["now", "currenttimeuuid", "current_timeuuid"].contains(&inner.as_str()))
    };
    let millis = (env.micros / 1000).to_be_bytes().to_vec();
    let found = match (name, arguments) {
        ("now" | "currenttimeuuid" | "current_timeuuid", []) => (Native::Timeuuid, timeuuid(env.micros)),
        ("uuid", []) => (Native::Uuid, uuid()),
        ("currenttimestamp" | "current_timestamp", []) => (Native::Timestamp, millis),
        ("totimestamp" | "to_timestamp", arguments) if is_now(arguments) => (Native::Timestamp, millis),
        ("currentdate" | "current_date", []) => (Native::Date, time::days(env.micros)),
        ("todate" | "to_date", arguments) if is_now(arguments) => (Native::Date, time::days(env.micros)),
        _ => return Err(Refusal::unsupported(format!("the function {name} with these arguments"))),
    };
    // a timeuuid is a uuid, too
    if found.0 == native || (found.0 == Native::Timeuuid && native == Native::Uuid) {
        return Ok(Value::Bytes(found.1));
    }
    Err(Refusal::invalid(format!("Type error: cannot assign result of function {name} to another type")))
}

/// Bits that nobody can foretell; not for secrets.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A UUID of version 4.
pub fn uuid() -> Vec<u8> {
    let mut bytes = [random().to_be_bytes(), random().to_be_bytes()].concat();
    bytes[6] = 0x40 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    bytes
}

/// A UUID of version 1 of this moment.
pub fn timeuuid(micros: i64) -> Vec<u8> {
    /// 100 ns between 1582 and 1970.
    const GREGORIAN: i64 = 0x01b2_1dd2_1381_4000;
    let ticks = (micros.wrapping_mul(10).wrapping_add(GREGORIAN)).to_be_bytes();
    let [a, b, c, d, e, f, g, h] = ticks;
    let mut bytes = vec![e, f, g, h, c, d, 0x10 | (a & 0x0f), b];
    bytes.extend_from_slice(&random().to_be_bytes());
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    bytes
}

/// The type of what a marker is bound to, from a column.
pub fn of(kind: &ColumnType) -> &CqlType {
    &kind.cql
}
