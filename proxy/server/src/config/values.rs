//! One value of a file: from TOML to a [`Value`] of its key's kind and within its bounds, or what is wrong with it.

use super::address::parse_address;
use super::file::{Collector, read_keys, suggestion};
use super::keys::{SERVER, ServerDraft};
use super::quantity::{parse_bytes, parse_span, show_bytes, show_count, show_span};
use super::schema::{Kind, Value};
use std::sync::Arc;
use toml::Spanned;
use toml::de::DeValue;
use weir_engine::settings::{Address, FlushPolicy, ServerSettings, ShardPorts};
use weir_engine::units::{Bytes, Span};

/// Bytes of a path in the file.
const PATH_MAX: usize = 4_096;

/// Reads one text of a list.
type ReadName = fn(&str) -> Result<Arc<str>, Wrong>;

/// What is wrong with a value, and what to write instead.
struct Wrong {
    what: String,
    help: Option<String>,
}

impl Wrong {
    fn new(what: impl Into<String>) -> Wrong {
        Wrong { what: what.into(), help: None }
    }

    fn help(what: impl Into<String>, help: impl Into<String>) -> Wrong {
        Wrong { what: what.into(), help: Some(help.into()) }
    }
}

/// Reads one value; problems go to `collector`, and then there is nothing.
pub fn read_value(
    collector: &mut Collector<'_>,
    path: &str,
    kind: Kind,
    value: &Spanned<DeValue<'_>>,
) -> Option<Value> {
    let at = value.span().start;
    let read = match kind {
        Kind::Names(most) => return read_names(collector, path, most, value, ("a name", name)),
        Kind::Dids(most) => return read_names(collector, path, most, value, ("a DID", did)),
        Kind::Paths(most) => return read_names(collector, path, most, value, ("a path", absolute_path)),
        Kind::Addresses(most) => return read_addresses(collector, path, most, value),
        Kind::Servers(most) => return read_servers(collector, path, most, value),
        kind => read_single(kind, value.get_ref()),
    };
    read.map_err(|wrong| collector.error(at, path, wrong.what, wrong.help)).ok()
}

fn read_single(kind: Kind, value: &DeValue<'_>) -> Result<Value, Wrong> {
    match kind {
        Kind::Count(min, max) => count(value, min, max).map(Value::Count),
        Kind::Limit(min, max) => match value {
            DeValue::String(word) if word == "none" => Ok(Value::Nothing),
            DeValue::String(_) => Err(mismatch(
                value,
                "a number or \"none\"",
                &format!("write {}, or \"none\"", counts(min, max)),
            )),
            value => count(value, min, max).map(Value::Count),
        },
        Kind::Size(min, max) => size(value, min, max).map(Value::Size),
        Kind::SizeLimit(min, max) => match value {
            DeValue::String(word) if word == "none" => Ok(Value::Nothing),
            value => size(value, min, max).map(Value::Size),
        },
        Kind::Duration(min, max) => duration(value, min, max).map(Value::Span),
        Kind::Flag => match value {
            DeValue::Boolean(on) => Ok(Value::Flag(*on)),
            value => Err(mismatch(value, "true or false", "write true or false, without quotes")),
        },
        Kind::Word(words) => word(value, words).map(Value::Word),
        Kind::Name => name(text(value, "a name")?).map(Value::Text),
        Kind::Did => did(text(value, "a DID")?).map(Value::Text),
        Kind::Table => table(text(value, "a table")?).map(Value::Text),
        Kind::Fingerprint => fingerprint(text(value, "a fingerprint")?).map(Value::Text),
        Kind::Ports => ports(text(value, "ports, as in \"50000-59999\",")?).map(Value::Ports),
        Kind::Path => absolute_path(text(value, "a path")?).map(Value::Text),
        Kind::Address => address(text(value, "an address")?).map(|address| Value::Addresses(vec![address])),
        Kind::FileMode => file_mode(value).map(Value::Mode),
        Kind::Flush => flush(value).map(Value::Flush),
        Kind::Names(_) | Kind::Dids(_) | Kind::Paths(_) | Kind::Addresses(_) | Kind::Servers(_) => {
            Err(Wrong::new("a list is expected"))
        }
    }
}

/// What a file holds at a place, in a few words.
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {}", shortened(text)),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(on) => on.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// At most 60 characters of a text of the file, in quotes.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("\"{}...\"", &text[..end]),
        None => format!("\"{text}\""),
    }
}

fn mismatch(value: &DeValue<'_>, expected: &str, help: &str) -> Wrong {
    Wrong::help(format!("expected {expected}, found {}", found(value)), help)
}

fn text<'v>(value: &'v DeValue<'_>, expected: &str) -> Result<&'v str, Wrong> {
    match value {
        DeValue::String(text) => Ok(text),
        value => Err(mismatch(value, expected, &format!("write {expected} in quotes"))),
    }
}

fn integer(value: &DeValue<'_>) -> Option<i128> {
    match value {
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    }
}

fn counts(min: u64, max: u64) -> String {
    if max >= i64::MAX as u64 {
        format!("a whole number from {}", show_count(min))
    } else {
        format!("a whole number from {} to {}", show_count(min), show_count(max))
    }
}

fn count(value: &DeValue<'_>, min: u64, max: u64) -> Result<u64, Wrong> {
    let help = format!("write {}", counts(min, max));
    let Some(number) = integer(value) else {
        let help = match value {
            DeValue::String(_) => format!("{help}, without quotes"),
            _ => help,
        };
        return Err(mismatch(value, "a whole number", &help));
    };
    match u64::try_from(number) {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ if number < i128::from(min) => Err(Wrong::help(format!("{number} is too small"), help)),
        _ => Err(Wrong::help(format!("{number} is too large"), help)),
    }
}

fn size(value: &DeValue<'_>, min: u64, max: u64) -> Result<Bytes, Wrong> {
    let range = if max >= i64::MAX as u64 {
        format!("write a size from \"{}\"", show_bytes(Bytes(min)))
    } else {
        format!("write a size from \"{}\" to \"{}\"", show_bytes(Bytes(min)), show_bytes(Bytes(max)))
    };
    let bytes = match value {
        DeValue::String(text) => parse_bytes(text).map_err(|wrong| Wrong::help(wrong, range.clone()))?,
        value => match integer(value).map(u64::try_from) {
            Some(Ok(bytes)) => Bytes(bytes),
            _ => return Err(mismatch(value, "a size such as \"256KiB\"", &range)),
        },
    };
    match bytes.0 {
        bytes if bytes < min => Err(Wrong::help(format!("{} is too small", show_bytes(Bytes(bytes))), range)),
        bytes if bytes > max => Err(Wrong::help(format!("{} is too large", show_bytes(Bytes(bytes))), range)),
        bytes => Ok(Bytes(bytes)),
    }
}

fn duration(value: &DeValue<'_>, min: Span, max: Span) -> Result<Span, Wrong> {
    let range = format!("write a duration from \"{}\" to \"{}\"", show_span(min), show_span(max));
    let DeValue::String(text) = value else {
        let help = match integer(value) {
            Some(number) => format!("a duration needs a unit: \"{number}ms\" or \"{number}s\""),
            None => range,
        };
        return Err(mismatch(value, "a duration such as \"250ms\"", &help));
    };
    match parse_span(text).map_err(Wrong::new)? {
        span if span < min => Err(Wrong::help(format!("{} is too short", show_span(span)), range)),
        span if span > max => Err(Wrong::help(format!("{} is too long", show_span(span)), range)),
        span => Ok(span),
    }
}

fn word(value: &DeValue<'_>, words: &'static [(&'static str, &'static str)]) -> Result<&'static str, Wrong> {
    let all = || words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let DeValue::String(text) = value else {
        return Err(mismatch(value, "a word", &format!("the words are {}", all())));
    };
    if let Some((word, _)) = words.iter().find(|(word, _)| word == text) {
        return Ok(word);
    }
    let help = match suggestion(text, words.iter().map(|(word, _)| *word)) {
        Some(near) => format!("did you mean \"{near}\"? The words are {}", all()),
        None => format!("the words are {}", all()),
    };
    Err(Wrong::help(format!("{} is not a word of this key", shortened(text)), help))
}

fn name(text: &str) -> Result<Arc<str>, Wrong> {
    if is_name(text) {
        return Ok(text.into());
    }
    Err(Wrong::help(format!("{} is not a name", shortened(text)), NAME_HELP))
}

/// What a name may be, for a reader.
pub const NAME_HELP: &str = "a name has 1 to 64 of the characters A-Z a-z 0-9 . _ : / @ -";

pub use weir_engine::caller::is_name;

/// Bytes of a DID and what follows it.
const DID_MAX: usize = 256;

/// What may stand as `iss` or `aud` of a service token: `did:METHOD:REST`, and perhaps `#SERVICE`.
pub fn is_did(text: &str) -> bool {
    let allowed = |part: &str, more: &[u8]| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    let (did, service) = text.split_once('#').unwrap_or((text, "s"));
    let Some((method, rest)) = did.strip_prefix("did:").and_then(|did| did.split_once(':')) else {
        return false;
    };
    text.len() <= DID_MAX
        && !method.is_empty()
        && method.bytes().all(|byte| byte.is_ascii_lowercase())
        && allowed(rest, b"._:%-")
        && allowed(service, b"._:%-")
}

fn did(text: &str) -> Result<Arc<str>, Wrong> {
    if is_did(text) {
        return Ok(text.into());
    }
    let help =
        "write it as tokens have it: \"did:plc:...\", \"did:web:host\", or either with #SERVICE behind it";
    Err(Wrong::help(format!("{} is not a DID", shortened(text)), help))
}

/// Bytes of a keyspace's and of a table's name (Cassandra takes 48 characters).
const TABLE_NAME_MAX: usize = 192;

fn table(text: &str) -> Result<Arc<str>, Wrong> {
    let is_one = |name: &str| {
        (1..=TABLE_NAME_MAX).contains(&name.len()) && name.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    match text.split_once('.') {
        Some((keyspace, table)) if is_one(keyspace) && is_one(table) => Ok(text.into()),
        _ => Err(Wrong::help(
            format!("{} is not the name of a table", shortened(text)),
            "write \"keyspace.table\", without quotes inside, in lower case unless it was made with quotes",
        )),
    }
}

fn fingerprint(text: &str) -> Result<Arc<str>, Wrong> {
    if text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase().into());
    }
    Err(Wrong::help(
        format!("{} is not a fingerprint", shortened(text)),
        "write the 16 hexadecimal digits that weir fingerprint prints",
    ))
}

/// `A-B`. Ports below 1,024 take a privilege that weir does not have.
fn ports(text: &str) -> Result<ShardPorts, Wrong> {
    let read = || {
        let (first, last) = text.split_once('-')?;
        let ports = ShardPorts { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? };
        (ports.first >= 1_024 && ports.first <= ports.last).then_some(ports)
    };
    let wrong = || format!("{} is no range of ports", shortened(text));
    read().ok_or_else(|| Wrong::help(wrong(), "write the lowest and the highest, from 1024: \"50000-59999\""))
}

fn absolute_path(text: &str) -> Result<Arc<str>, Wrong> {
    if !text.starts_with('/') {
        return Err(Wrong::help(
            format!("{} is not an absolute path", shortened(text)),
            "a service has no certain working directory: start the path with /",
        ));
    }
    if text.len() > PATH_MAX || text.contains('\0') {
        return Err(Wrong::new("this cannot be a path"));
    }
    Ok(text.into())
}

fn address(text: &str) -> Result<Address, Wrong> {
    parse_address(text).map_err(|wrong| Wrong::new(format!("{}: {wrong}", shortened(text))))
}

fn file_mode(value: &DeValue<'_>) -> Result<u32, Wrong> {
    let help = "write it in octal, as 0o660";
    match value {
        DeValue::Integer(number) if number.radix() == 8 => match u32::from_str_radix(number.as_str(), 8) {
            Ok(bits) if bits <= 0o777 => Ok(bits),
            _ => Err(Wrong::help(format!("{number} has bits beyond rwxrwxrwx"), help)),
        },
        DeValue::Integer(number) => Err(Wrong::help(
            format!("the mode {number} is decimal"),
            format!("write it in octal, as 0o{number}"),
        )),
        value => Err(mismatch(value, "permission bits", help)),
    }
}

fn flush(value: &DeValue<'_>) -> Result<FlushPolicy, Wrong> {
    let help = "write \"allow\", \"refuse\" or { prefix = \"...\" }";
    match value {
        DeValue::String(word) if word == "allow" => Ok(FlushPolicy::Allow),
        DeValue::String(word) if word == "refuse" => Ok(FlushPolicy::Refuse),
        DeValue::Table(table) if table.len() == 1 => match table.get("prefix").map(Spanned::get_ref) {
            Some(DeValue::String(prefix)) if is_key_prefix(prefix) => {
                Ok(FlushPolicy::Prefix(prefix.as_ref().into()))
            }
            Some(DeValue::String(prefix)) => Err(Wrong::help(
                format!("{} cannot begin a key", shortened(prefix)),
                "a prefix has 1 to 250 bytes and no spaces or control characters",
            )),
            _ => Err(Wrong::help("the table holds no text under `prefix`", help)),
        },
        value => Err(mismatch(value, "what flush_all does", help)),
    }
}

fn is_key_prefix(text: &str) -> bool {
    (1..=250).contains(&text.len()) && text.bytes().all(|byte| byte > b' ' && byte != 0x7f)
}

fn read_names(
    collector: &mut Collector<'_>,
    path: &str,
    most: usize,
    value: &Spanned<DeValue<'_>>,
    (expected, single): (&str, ReadName),
) -> Option<Value> {
    let at = value.span().start;
    let DeValue::Array(items) = value.get_ref() else {
        let wrong =
            mismatch(value.get_ref(), &format!("a list, each {expected}"), "write [\"one\", \"two\"]");
        collector.error(at, path, wrong.what, wrong.help);
        return None;
    };
    too_many(collector, at, path, items.len(), most)?;
    let mut names: Vec<Arc<str>> = Vec::with_capacity(items.len());
    for item in items.iter() {
        match text(item.get_ref(), expected).and_then(single) {
            Ok(name) if names.contains(&name) => {
                collector.error(item.span().start, path, format!("\"{name}\" is there twice"), None);
            }
            Ok(name) => names.push(name),
            Err(wrong) => collector.error(item.span().start, path, wrong.what, wrong.help),
        }
    }
    (names.len() == items.len()).then_some(Value::Names(names))
}

fn read_addresses(
    collector: &mut Collector<'_>,
    path: &str,
    most: usize,
    value: &Spanned<DeValue<'_>>,
) -> Option<Value> {
    let single = std::slice::from_ref(value);
    let items: &[Spanned<DeValue<'_>>] = match value.get_ref() {
        DeValue::Array(items) => items,
        _ => single,
    };
    too_many(collector, value.span().start, path, items.len(), most)?;
    let mut addresses = Vec::with_capacity(items.len());
    for item in items {
        match text(item.get_ref(), "an address").and_then(address) {
            Ok(address) => addresses.push(address),
            Err(wrong) => collector.error(item.span().start, path, wrong.what, wrong.help),
        }
    }
    (addresses.len() == items.len()).then_some(Value::Addresses(addresses))
}

fn read_servers(
    collector: &mut Collector<'_>,
    path: &str,
    most: usize,
    value: &Spanned<DeValue<'_>>,
) -> Option<Value> {
    let at = value.span().start;
    let DeValue::Array(items) = value.get_ref() else {
        let wrong = mismatch(value.get_ref(), "a list of servers", "write [\"127.0.0.1:11211\"]");
        collector.error(at, path, wrong.what, wrong.help);
        return None;
    };
    if items.is_empty() {
        collector.error(at, path, "a pool needs a server".to_owned(), None);
        return None;
    }
    too_many(collector, at, path, items.len(), most)?;
    let mut servers: Vec<ServerSettings> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let Some(server) = read_server(collector, &format!("{path}[{index}]"), item) else { continue };
        let twice = |other: &ServerSettings| {
            other.address == server.address || (other.name.is_some() && other.name == server.name)
        };
        if servers.iter().any(twice) {
            let what = format!("the server {} (or its name) is there twice", server.address);
            let help = "give a server more of the ring with weight = N".to_owned();
            collector.error(item.span().start, path, what, Some(help));
        } else {
            servers.push(server);
        }
    }
    (servers.len() == items.len()).then_some(Value::Servers(servers))
}

fn read_server(
    collector: &mut Collector<'_>,
    path: &str,
    item: &Spanned<DeValue<'_>>,
) -> Option<ServerSettings> {
    let at = item.span().start;
    match item.get_ref() {
        DeValue::String(text) => match address(text) {
            Ok(address) => Some(ServerSettings { address, weight: 1, name: None }),
            Err(wrong) => {
                collector.error(at, path, wrong.what, wrong.help);
                None
            }
        },
        DeValue::Table(table) => {
            let mut draft = ServerDraft::default();
            let before = collector.errors();
            let places = read_keys(collector, path, table, &[SERVER], &mut draft);
            if !places.contains_key("address") {
                collector.error(at, path, "the key `address` is missing".to_owned(), None);
            }
            let address = draft.address.filter(|_| collector.errors() == before)?;
            Some(ServerSettings { address, weight: draft.weight, name: draft.name })
        }
        value => {
            let help = "write \"127.0.0.1:11211\" or { address = \"127.0.0.1:11211\", weight = 2 }";
            let wrong = mismatch(value, "a server", help);
            collector.error(at, path, wrong.what, wrong.help);
            None
        }
    }
}

fn too_many(collector: &mut Collector<'_>, at: usize, path: &str, count: usize, most: usize) -> Option<()> {
    if count <= most {
        return Some(());
    }
    collector.error(
        at,
        path,
        format!("{count} entries are too many"),
        Some(format!("at most {most} are allowed")),
    );
    None
}
