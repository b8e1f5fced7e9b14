//! What a run of the simulation is about: the settings drawn for it, and the reads of many keys.

use super::random::Random;
use crate::bench::settings;
use std::collections::BTreeSet;
use weir_engine::settings::{ClientSignIn, Settings, SplitChoice};
use weir_engine::units::{Bytes, Operations, Span};

/// A read of many keys, every fifth of which is not there; with a limit, and without.
pub const MANY: [&str; 2] =
    ["SELECT k, v FROM shop.holes WHERE k IN ?", "SELECT k, v FROM shop.holes WHERE k IN ? LIMIT 17"];

/// The same with a marker for each of so many keys.
pub fn markers(text: &str, keys: usize) -> String {
    text.replace("IN ?", &format!("IN ({})", vec!["?"; keys].join(", ")))
}

/// What the node answers to that in one piece.
pub fn many(text: &str, keys: &[i32]) -> Vec<i32> {
    let there: BTreeSet<i32> = keys.iter().copied().filter(|key| key % 5 != 0).collect();
    there.into_iter().take(if text.contains("LIMIT") { 17 } else { usize::MAX }).collect()
}

/// Writes: one that must not happen twice, and one that may.
pub const COUNT: &str = "UPDATE shop.c SET n = n + 1 WHERE k = ?";
pub const SET: &str = "INSERT INTO shop.s (k, v) VALUES (?, 'x')";

pub fn read_text(n: usize) -> String {
    format!("SELECT v FROM shop.r{n} WHERE k = ?")
}

/// Every bound drawn small and large.
pub fn scenario(random: &mut Random) -> Settings {
    let mut settings = settings(random.between(1, 3));
    let cluster = &mut settings.clusters[0];
    cluster.connections_per_node = random.between(1, 2) as u32;
    cluster.streams_per_connection = random.pick(&[2, 8, 64]);
    cluster.requests_in_flight = Operations(random.pick(&[1, 4, 64]));
    cluster.chunk_keys = random.pick(&[1, 3, 10]);
    cluster.chunks_in_flight = random.pick(&[1, 2, 4]);
    cluster.chunks_beside_requests = random.pick(&[1, 2, 4]);
    cluster.gather_bytes_max = Bytes(random.pick(&[600, 5_000, 1 << 20]));
    cluster.split = random.pick(&[SplitChoice::Auto, SplitChoice::Auto, SplitChoice::On, SplitChoice::Off]);
    cluster.prepared_max = random.pick(&[2, 5, 100]);
    cluster.orphans_max = random.pick(&[1, 10, 1_000]);
    cluster.orphan_age_max = Span::millis(random.pick(&[500, 5_000]));
    cluster.request_timeout = Span::millis(random.pick(&[300, 2_000]));
    cluster.stall_timeout = Span::millis(random.pick(&[250, 3_000]));
    cluster.queue_timeout = Span::millis(random.pick(&[200, 2_000]));
    cluster.retry_percent = random.pick(&[0, 10, 100]);
    cluster.remote_failover = random.chance(50);
    cluster.discover = random.chance(80);
    cluster.nodes_max = random.pick(&[2, 128]);
    cluster.stream_reply_min = Bytes(random.pick(&[1, 20, 45, 1 << 18]));
    if random.chance(40) {
        cluster.clients = ClientSignIn::Own;
        cluster.principals_max = random.pick(&[1, 2, 16]);
        cluster.principal_idle = Span::millis(random.pick(&[50, 1_000, 60_000]));
    }
    settings.reply_bytes_max = Bytes(random.pick(&[300, 3_000, 1 << 20]));
    settings.input_bytes_max = Bytes(random.pick(&[300, 5_000, 1 << 20]));
    settings.listeners[0].second_weir = "127.0.0.6:9142".parse().ok();
    settings.listeners[0].reply_buffer_max = random.pick(&[200, 100_000]);
    settings.listeners[0].slow_reader_timeout = Span::millis(random.pick(&[400, 30_000]));
    super::hot::scenario(random, &mut settings);
    super::batches::scenario(random, &mut settings);
    settings
}
