//! Checks of the keys of `[service.NAME]` that begin with `cache_`.

use crate::config::file::{Collector, Draft};
use crate::config::keys::{SERVICE, ServiceDraft};
use crate::config::problem::Problem;
use weir_rpc::table::preset;

/// Tells what is wrong with them, and fills in the headers of a preset.
pub(super) fn check(
    problems: &mut Collector<'_>,
    path: &str,
    draft: &Draft<ServiceDraft>,
    held: &mut ServiceDraft,
) {
    let cache = &mut held.cache;
    if !draft.places.contains_key("cache_headers")
        && let Some(preset) = held.preset.as_deref().and_then(preset)
    {
        cache.headers = preset.cache_headers.iter().map(|name| (*name).into()).collect();
    }
    for (key, what) in cache.settings().problems() {
        let key = format!("cache_{key}");
        problems.add(draft.place(&key), Problem::error(format!("{path}.{key}"), what));
    }
    if cache.paths.is_empty() {
        let void = SERVICE.iter().filter(|key| key.name.starts_with("cache_"));
        for key in void.filter(|key| draft.places.contains_key(key.name) && key.name != "cache_paths") {
            let what = "has no effect without cache_paths";
            problems.add(draft.place(key.name), Problem::warning(format!("{path}.{}", key.name), what));
        }
    }
}
