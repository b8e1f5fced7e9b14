//! Checks of `[service.NAME]`: its bounds, and the table of its methods, read from a preset and files.

use crate::config::checked::ServiceTable;
use crate::config::file::{Collector, Draft, FileShape, missing, suggestion};
use crate::config::host::Host;
use crate::config::keys::{Checked, FILE_MAX, ListenerDraft, SERVICE, ServiceDraft, Speaks};
use crate::config::problem::Problem;
use crate::config::schema::Worded;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use weir_engine::settings::Address;
use weir_engine::units::Span;
use weir_rpc::table::{Entries, PRESETS, preset};
use weir_rpc::{ProtoFile, Schema, Table, table};

/// `idle_timeout` of a listener in front of a service that does not say it. Clients of HTTP keep connections for later and
/// open others without a thought; those of HTTP/2 are told to go (GOAWAY), and come again.
pub(super) const IDLE_TIMEOUT: Span = Span::secs(900);

/// Every service with its methods, in the order of the drafts.
pub(super) fn check(
    problems: &mut Collector<'_>,
    shape: &FileShape,
    host: &Host,
) -> Vec<(ServiceDraft, ServiceTable)> {
    let mut services = Vec::new();
    for draft in &shape.services {
        let path = format!("service.{}", draft.name);
        missing(problems, &path, draft, SERVICE, "write servers = [\"127.0.0.1:3000\"]");
        bounds(problems, &path, draft);
        servers(problems, &path, draft, shape);
        let table = methods(problems, &path, draft, host).unwrap_or_default();
        let mut held = draft.held.clone();
        held.tls_side = super::tls::service(problems, &path, draft, host);
        super::caches::check(problems, &path, draft, &mut held);
        held.settings.methods = table.methods().map(|method| Arc::from(&*method.name)).collect();
        services.push((held, ServiceTable(Arc::new(table))));
    }
    services
}

fn bounds(problems: &mut Collector<'_>, path: &str, draft: &Draft<ServiceDraft>) {
    let (held, settings) = (&draft.held, &draft.held.settings);
    let relations = [
        (
            settings.request_timeout > settings.request_timeout_max,
            ["request_timeout", "request_timeout_max"],
            "request_timeout is longer than request_timeout_max".to_owned(),
        ),
        (
            settings.calls_in_flight > settings.calls_max,
            ["calls_in_flight", "calls_max"],
            format!(
                "calls_in_flight = {} is above calls_max = {}",
                settings.calls_in_flight, settings.calls_max
            ),
        ),
        (
            held.request_max > held.held_bytes_max,
            ["request_max", "held_bytes_max"],
            "a body of request_max does not fit into held_bytes_max".to_owned(),
        ),
    ];
    for (wrong, keys, what) in relations {
        if wrong {
            let key = keys.into_iter().find(|key| draft.places.contains_key(key)).unwrap_or(keys[0]);
            problems.add(draft.place(key), Problem::error(format!("{path}.{key}"), what));
        }
    }
    health(problems, path, draft);
}

fn health(problems: &mut Collector<'_>, path: &str, draft: &Draft<ServiceDraft>) {
    let held = &draft.held;
    if held.health == Checked::Grpc && held.speaks == Speaks::Http1 {
        let what = "gRPC's health service is asked over HTTP/2, and upstream = \"http1\"";
        let problem = Problem::error(format!("{path}.health"), what).help("ask a path: health = \"http\"");
        problems.add(draft.place("health"), problem);
    }
    let mut void = |key: &'static str, why: String| {
        if draft.places.contains_key(key) {
            let what = format!("has no effect with {why}");
            problems.add(draft.place(key), Problem::warning(format!("{path}.{key}"), what));
        }
    };
    let word = || format!("health = \"{}\"", Worded::word(held.health));
    if held.health != Checked::Http {
        void("health_path", word());
    }
    if held.health != Checked::Grpc {
        void("health_service", word());
    }
    if held.health == Checked::None {
        ["health_interval", "health_timeout", "health_fall", "health_rise"]
            .into_iter()
            .for_each(|key| void(key, word()));
    }
    if held.eject_failures == 0 {
        void("eject_time", "eject_failures = 0".to_owned());
    } else if held.settings.servers.len() == 1 {
        void("eject_failures", "one server, which is never left out".to_owned());
        void("eject_time", "one server, which is never left out".to_owned());
    }
}

/// None twice, and none that is weir's own: weir would ask itself for ever.
fn servers(problems: &mut Collector<'_>, path: &str, draft: &Draft<ServiceDraft>, shape: &FileShape) {
    let (path, at) = (format!("{path}.servers"), draft.place("servers"));
    let all: &[Address] = &draft.held.settings.servers;
    if all.is_empty() && draft.places.contains_key("servers") {
        problems.add(at, Problem::error(path.clone(), "there is no server in it"));
    }
    for (index, server) in all.iter().enumerate() {
        if all[..index].contains(server) {
            problems.add(at, Problem::error(path.clone(), format!("{server} is there twice")));
        }
        let own = shape.listeners.iter().find(|listener| listener.held.address.as_ref() == Some(server));
        if let Some(own) = own {
            let what = format!("{server} is weir's own [listener.{}]", own.name);
            problems.add(at, Problem::error(path.clone(), what));
        }
    }
}

/// Keys that a listener of a service has no use for.
pub(super) fn listener(problems: &mut Collector<'_>, path: &str, draft: &Draft<ListenerDraft>) {
    let void = [
        "on_client_close",
        "line_max",
        "value_max",
        "reply_buffer",
        "reply_buffer_max",
        "slow_reader_timeout",
        "trusted_request_ids",
    ];
    for key in void.into_iter().filter(|key| draft.places.contains_key(key)) {
        let what = "has no effect on a listener of a service";
        problems.add(draft.place(key), Problem::warning(format!("{path}.{key}"), what));
    }
}

/// The table of a service's methods; nothing where there is a problem.
fn methods(
    problems: &mut Collector<'_>,
    path: &str,
    draft: &Draft<ServiceDraft>,
    host: &Host,
) -> Option<Table> {
    let held = &draft.held;
    let mut add = |key: &str, what: String, help: Option<String>| {
        let problem = Problem { help, ..Problem::error(format!("{path}.{key}"), what) };
        problems.add(draft.place(key), problem);
    };
    let (mut sources, mut entries) = (Vec::new(), Entries::new());
    let mut whole = true;
    if let Some(name) = &held.preset {
        match preset(name) {
            Some(preset) => {
                sources.push((preset.proto.name.to_owned(), preset.proto.text.to_owned()));
                // it is weir's own, and its test reads it
                entries.extend(preset.entries().unwrap_or_default());
            }
            None => {
                let names = PRESETS.iter().map(|preset| preset.name);
                let help = match suggestion(name, names.clone()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("the presets are {}", names.collect::<Vec<_>>().join(", ")),
                };
                add("preset", format!("there is no preset \"{name}\""), Some(help));
                whole = false;
            }
        }
    }
    if held.methods.is_some() && held.protos.is_empty() && held.preset.is_none() {
        let help = "name the .proto files of the service: protos = [\"/etc/weir/service.proto\"]";
        add("methods", "nothing describes the messages of these methods".to_owned(), Some(help.to_owned()));
        whole = false;
    }
    let needs_files = !held.protos.is_empty() || held.methods.is_some();
    if needs_files && !host.reads_files() {
        return None;
    }
    for file in &held.protos {
        match read(file) {
            Ok(text) => {
                let name =
                    Path::new(&**file).file_name().map_or_else(String::new, |n| n.to_string_lossy().into());
                sources.push((name, text));
            }
            Err(what) => {
                add("protos", what, None);
                whole = false;
            }
        }
    }
    if let Some(file) = &held.methods {
        let read = read(file).map_err(|what| vec![what]);
        match read.and_then(|text| {
            table::parse(&text).map_err(|found| found.iter().map(ToString::to_string).collect())
        }) {
            Ok(more) => entries.extend(more),
            Err(found) => {
                found.into_iter().for_each(|what| add("methods", format!("{file}: {what}"), None));
                whole = false;
            }
        }
    }
    if !whole {
        return None;
    }
    let files: Vec<ProtoFile<'_>> = sources.iter().map(|(name, text)| ProtoFile { name, text }).collect();
    let schema = match Schema::compile(&files) {
        Ok(schema) => schema,
        Err(error) => {
            add("protos", error.to_string(), None);
            return None;
        }
    };
    match Table::check(&schema, &entries) {
        Ok(table) => Some(table),
        Err(found) => {
            let key = if held.methods.is_some() { "methods" } else { "preset" };
            found.iter().for_each(|problem| add(key, problem.to_string(), None));
            None
        }
    }
}

/// Reads a file of at most [`FILE_MAX`] bytes.
fn read(file: &str) -> Result<String, String> {
    let opened = std::fs::File::open(file).map_err(|error| format!("{file} cannot be opened: {error}"))?;
    let mut text = String::new();
    let read = opened.take(FILE_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| format!("{file} cannot be read: {error}"))?;
    if text.len() as u64 > FILE_MAX {
        return Err(format!("{file} is larger than {FILE_MAX} bytes"));
    }
    Ok(text)
}
