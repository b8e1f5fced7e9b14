//! `/metrics` as text: OpenMetrics 1.0 where the scraper asks for it, the classic format 0.0.4 for everybody else.
//!
//! prometheus-client writes OpenMetrics. Two things are done to its lines on the way out:
//!
//! - exemplars are appended to the buckets of `weir_request_operations`: the crate can write exemplars, but (0.25)
//!   only its own histogram can make them, and that one cannot be filled in bulk (decision 0001);
//! - for the classic format, the name in a counter's HELP and TYPE gets its `_total`, and `# EOF` is dropped.

use crate::caller::CallerMetrics;
use crate::catalogue::REQUEST_OPERATIONS;
use crate::telemetry::ProtocolLabels;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

/// Content type of the OpenMetrics form.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Content type of the classic form.
pub const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposition {
    /// Value of the `Content-Type` header.
    pub content_type: &'static str,
    /// The page.
    pub body: String,
}

pub(crate) fn render(
    accept: Option<&str>,
    registry: &Registry,
    callers: &[Arc<CallerMetrics>],
    protocols: &'static [ProtocolLabels],
    started_unix_seconds: u64,
) -> Exposition {
    let mut encoded = String::new();
    // Writing into a String cannot fail, and no encoder here returns an error of its own.
    let _ = text::encode(&mut encoded, registry);
    if accept.is_some_and(wants_openmetrics) {
        let exemplars = exemplars(callers, protocols, started_unix_seconds);
        Exposition { content_type: OPENMETRICS, body: with_exemplars(encoded, &exemplars) }
    } else {
        Exposition { content_type: CLASSIC, body: classic(&encoded) }
    }
}

/// A page without exemplars.
pub(crate) fn plain(accept: Option<&str>, registry: &Registry) -> Exposition {
    let mut encoded = String::new();
    // As above.
    let _ = text::encode(&mut encoded, registry);
    if accept.is_some_and(wants_openmetrics) {
        Exposition { content_type: OPENMETRICS, body: encoded }
    } else {
        Exposition { content_type: CLASSIC, body: classic(&encoded) }
    }
}

/// Whether OpenMetrics text is accepted, and not less gladly than plain text.
#[must_use]
pub fn wants_openmetrics(accept: &str) -> bool {
    let mut openmetrics = 0.0;
    let mut plain = 0.0;
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let quality =
            parts.find_map(|p| p.strip_prefix("q=")).map_or(1.0, |q| q.parse::<f32>().unwrap_or(0.0));
        match media {
            "application/openmetrics-text" => openmetrics = quality.max(openmetrics),
            "text/plain" => plain = quality.max(plain),
            _ => {}
        }
    }
    openmetrics > 0.0 && openmetrics >= plain
}

pub(crate) fn method_name(protocols: &'static [ProtocolLabels], index: u64) -> &'static str {
    let mut index = usize::try_from(index).unwrap_or(usize::MAX);
    for protocol in protocols {
        match index.checked_sub(protocol.methods.len()) {
            None => return protocol.methods.get(index),
            Some(rest) => index = rest,
        }
    }
    "unknown"
}

/// Exemplars by the series they belong to, spelt as prometheus-client spells it. A label set of an exemplar may have
/// at most 128 characters: long methods are cut.
fn exemplars(
    callers: &[Arc<CallerMetrics>],
    protocols: &'static [ProtocolLabels],
    started_unix_seconds: u64,
) -> HashMap<String, String> {
    let mut by_series = HashMap::new();
    for caller in callers {
        for (bound, exemplar) in caller.exemplars() {
            let le = if bound.is_finite() { format!("{bound:.1}") } else { "+Inf".to_owned() };
            let name = REQUEST_OPERATIONS.name;
            let series = format!("{name}_bucket{{le=\"{le}\",caller=\"{}\"}}", caller.name());
            let text = format!(
                " # {{caller=\"{}\",method=\"{}\",request_id=\"{:016x}\"}} {}.0 {}.0",
                caller.name(),
                short(method_name(protocols, exemplar.method), caller.name()),
                exemplar.request_id,
                exemplar.value,
                started_unix_seconds.saturating_add(exemplar.at),
            );
            by_series.insert(series, text);
        }
    }
    by_series
}

/// A method's name without its service, and no more of it than an exemplar has room for.
fn short<'m>(method: &'m str, caller: &str) -> &'m str {
    const SET_MAX: usize = 128;
    const OTHERS: usize = "caller".len() + "method".len() + "request_id".len() + 16;
    let last = method.rsplit('/').next().unwrap_or(method);
    &last[..last.floor_char_boundary(SET_MAX - OTHERS - caller.len().min(SET_MAX - OTHERS))]
}

fn with_exemplars(encoded: String, exemplars: &HashMap<String, String>) -> String {
    if exemplars.is_empty() {
        return encoded;
    }
    let bucket = format!("{}_bucket{{", REQUEST_OPERATIONS.name);
    let mut page = String::with_capacity(encoded.len() + exemplars.len() * 160);
    for line in encoded.lines() {
        page.push_str(line);
        if line.starts_with(&bucket)
            && let Some((series, _)) = line.rsplit_once(' ')
            && let Some(exemplar) = exemplars.get(series)
        {
            page.push_str(exemplar);
        }
        page.push('\n');
    }
    page
}

fn classic(encoded: &str) -> String {
    let mut page = String::with_capacity(encoded.len() + encoded.len() / 16);
    let mut help = None;
    for line in encoded.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' '); // written when the type is known
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let end = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take() {
                let _ = writeln!(page, "# HELP {name}{end} {help}");
            }
            let _ = writeln!(page, "# TYPE {name}{end} {kind}");
        } else if !line.starts_with('#') {
            page.push_str(line);
            page.push('\n');
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_header_chooses() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.8,\
            application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert!(wants_openmetrics(prometheus));
        assert!(wants_openmetrics("application/openmetrics-text"));
        assert!(!wants_openmetrics("application/openmetrics-text;q=0"));
        assert!(!wants_openmetrics("text/plain, application/openmetrics-text;q=0.5"));
        assert!(!wants_openmetrics("*/*"));
        assert!(!wants_openmetrics(";;,,=q=;"));
    }

    #[test]
    fn an_exemplar_never_has_more_than_it_may() {
        assert_eq!(short("bsky.Service/GetPostRecords", "appview"), "GetPostRecords");
        assert_eq!(short("get", "appview"), "get");
        let (method, caller) = ("m".repeat(200), "c".repeat(64));
        let set = ["caller", &caller, "method", short(&method, &caller), "request_id", "00000000000000ab"];
        assert_eq!(set.concat().len(), 128);
    }
}
