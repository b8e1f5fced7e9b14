//! Counters and the answers of `stats`, by the names memcached uses.

use crate::store::{Now, Store};
use std::io::Write;

/// Counted since the start or the last `stats reset`. Named as memcached names them.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the names are memcached's own, see its protocol description")]
pub struct Counters {
    pub cmd_get: u64,
    pub cmd_set: u64,
    pub cmd_flush: u64,
    pub cmd_touch: u64,
    pub cmd_meta: u64,
    pub get_hits: u64,
    pub get_misses: u64,
    pub delete_hits: u64,
    pub delete_misses: u64,
    pub incr_hits: u64,
    pub incr_misses: u64,
    pub decr_hits: u64,
    pub decr_misses: u64,
    pub cas_hits: u64,
    pub cas_misses: u64,
    pub cas_badval: u64,
    pub touch_hits: u64,
    pub touch_misses: u64,
    pub store_too_large: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub total_connections: u64,
    pub rejected_connections: u64,
}

/// What only the server knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connections {
    /// Open now.
    pub current: u64,
    /// Allowed at once.
    pub most: u64,
}

/// What it says it is.
pub const BANNER: &str = "weir-devstore embedded development store";

/// The version it gives: the memcached whose answers it gives, then its own name.
pub fn version() -> String {
    format!("1.6.18 ({BANNER} {})", env!("CARGO_PKG_VERSION"))
}

/// Answers `stats <args>`.
pub fn answer(
    args: &[u8],
    counters: &mut Counters,
    connections: Connections,
    store: &Store,
    now: Now,
    out: &mut Vec<u8>,
) {
    let mut words = crate::words::words(args);
    let reply: &[u8] = match (words.next().unwrap_or_default(), words.next()) {
        (b"", _) => {
            general(counters, connections, store, now, out);
            b"END\r\n"
        }
        (b"reset", _) => {
            *counters = Counters::default();
            b"RESET\r\n"
        }
        (b"settings", _) => {
            line(out, "maxbytes", store.limit());
            line(out, "maxconns", connections.most);
            line(out, "evictions", "on");
            line(out, "item_size_max", crate::store::ITEM_MAX);
            line(out, "cas_enabled", "yes");
            line(out, "flush_enabled", "yes");
            line(out, "num_threads", 1);
            b"END\r\n"
        }
        (b"sizes", _) => {
            line(out, "sizes_status", "disabled");
            b"END\r\n"
        }
        // There are no slabs, and connections are not listed.
        (b"items" | b"slabs" | b"conns", _) => b"END\r\n",
        (b"cachedump", _) => b"CLIENT_ERROR bad command line\r\n",
        (b"detail", Some(b"on" | b"off")) => b"OK\r\n",
        (b"detail", Some(b"dump")) => b"END\r\n",
        (b"detail", _) => b"CLIENT_ERROR usage: stats detail on|off|dump\r\n",
        _ => b"ERROR\r\n",
    };
    out.extend_from_slice(reply);
}

fn general(counters: &Counters, connections: Connections, store: &Store, now: Now, out: &mut Vec<u8>) {
    line(out, "pid", std::process::id());
    line(out, "uptime", store.uptime(now));
    line(out, "time", now);
    line(out, "version", version());
    line(out, "weir_devstore", "embedded development store, not for production");
    line(out, "pointer_size", usize::BITS);
    line(out, "max_connections", connections.most);
    line(out, "curr_connections", connections.current);
    let Counters {
        cmd_get,
        cmd_set,
        cmd_flush,
        cmd_touch,
        cmd_meta,
        get_hits,
        get_misses,
        delete_hits,
        delete_misses,
        incr_hits,
        incr_misses,
        decr_hits,
        decr_misses,
        cas_hits,
        cas_misses,
        cas_badval,
        touch_hits,
        touch_misses,
        store_too_large,
        bytes_read,
        bytes_written,
        total_connections,
        rejected_connections,
    } = *counters;
    for (name, value) in [
        ("total_connections", total_connections),
        ("rejected_connections", rejected_connections),
        ("cmd_get", cmd_get),
        ("cmd_set", cmd_set),
        ("cmd_flush", cmd_flush),
        ("cmd_touch", cmd_touch),
        ("cmd_meta", cmd_meta),
        ("get_hits", get_hits),
        ("get_misses", get_misses),
        ("delete_misses", delete_misses),
        ("delete_hits", delete_hits),
        ("incr_misses", incr_misses),
        ("incr_hits", incr_hits),
        ("decr_misses", decr_misses),
        ("decr_hits", decr_hits),
        ("cas_misses", cas_misses),
        ("cas_hits", cas_hits),
        ("cas_badval", cas_badval),
        ("touch_hits", touch_hits),
        ("touch_misses", touch_misses),
        ("store_too_large", store_too_large),
        ("bytes_read", bytes_read),
        ("bytes_written", bytes_written),
        ("limit_maxbytes", store.limit() as u64),
        ("threads", 1),
        ("bytes", store.used() as u64),
        ("curr_items", store.len() as u64),
        ("total_items", store.total_items),
        ("evictions", store.evictions),
    ] {
        line(out, name, value);
    }
}

fn line(out: &mut Vec<u8>, name: &str, value: impl std::fmt::Display) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "STAT {name} {value}\r\n");
}
