//! Few rows that many clients read and write: the reads are joined and answered from the cache. What a row says tells
//! how often it had been written, and for whom it was asked: its reader's default timestamp, which is no part of what
//! makes two reads the same, is the number of its principal.

use super::Expect;
use super::random::Random;
use crate::node::{row_value, statement_id};
use crate::wire::{self, Answer, Part, With, int};
use std::collections::BTreeMap;
use weir_cql::Version;
use weir_engine::cql::{Apart, ClusterCounts};
use weir_engine::settings::{Rule, Settings, Subject};
use weir_engine::units::{Bytes, Span};

/// Rows there are.
const ROWS: usize = 3;
pub const READ: &str = "SELECT v FROM shop.hot WHERE k = ?";
pub const WRITE: &str = "UPDATE shop.hot SET n = n + 1 WHERE k = ?";

/// Writes that clients were told are done, by row: each is in what is read from then on.
pub type Done = BTreeMap<i32, u32>;

pub fn scenario(random: &mut Random, settings: &mut Settings) {
    let cluster = &mut settings.clusters[0];
    cluster.followers_per_read = random.pick(&[1, 3, 1_000]);
    cluster.followers_max = random.pick(&[0, 4, 1_000, 1_000]);
    cluster.cache_bytes_max = Bytes(random.pick(&[0, 3_000, 1 << 20, 1 << 20]));
    if random.chance(70) {
        let subject = Subject::Table { keyspace: "shop".into(), table: "hot".into() };
        let cache_ttl =
            random.pick(&[None, Some(Span::millis(20)), Some(Span::secs(60)), Some(Span::secs(60))]);
        let join_in_flight = random.chance(50);
        cluster.rules = [Rule { join_in_flight, cache_ttl, ..Rule::new("hot", subject) }].into();
    }
}

/// A read or a write of a hot row.
pub fn request(
    random: &mut Random,
    version: Version,
    stream: i16,
    principal: usize,
    done: &Done,
) -> (Vec<u8>, Expect) {
    let key = random.below(ROWS) as i32;
    let id = |text: &str| statement_id(None, text.as_bytes());
    let timestamp = Some(principal as i64);
    let bound = With { timestamp, ..With::values(&[int(key)]) };
    let unbound = With { timestamp, ..With::default() };
    let text = |text: &str| text.replace('?', &key.to_string());
    let floor = done.get(&key).copied().unwrap_or_default();
    let read = Expect::HotRow(Row { key, floor, principal });
    match random.below(20) {
        0..=6 => (wire::execute(version, stream, &id(READ), &bound), read),
        7..=12 => (wire::query(version, stream, &text(READ), &unbound), read),
        13..=16 => (wire::query(version, stream, READ, &bound), read),
        17 => (wire::execute(version, stream, &id(WRITE), &bound), Expect::HotWrite(key)),
        18 => (wire::query(version, stream, &text(WRITE), &unbound), Expect::HotWrite(key)),
        _ => {
            let write = id(WRITE);
            let parts = [Part::Id(&write, vec![int(key)])];
            (wire::batch(version, stream, &parts), Expect::HotWrite(key))
        }
    }
}

/// How often answers were shared, and why they were not.
#[derive(Default, Debug)]
pub struct Shared([u64; 4 + Apart::COUNT]);

impl Shared {
    pub fn of(counts: &ClusterCounts) -> Shared {
        let done = [counts.joined, counts.flights, counts.cache_hits, counts.cache_invalidated];
        let mut all = done.into_iter().chain(counts.apart);
        Shared([(); 4 + Apart::COUNT].map(|()| all.next().unwrap_or_default()))
    }

    pub fn add(&mut self, other: &Shared) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, part)| *sum += part);
    }

    pub fn tell(&self) {
        println!("joined, flights, cache hits, outdated, {:?}: {:?}", Apart::ALL.map(Apart::name), self.0);
    }

    /// Everything has happened.
    pub fn check(&self) {
        assert!(self.0.iter().all(|part| *part > 0), "reads are shared, and kept apart: {self:?}");
    }
}

/// A read of one of them: at least so many writes are in it, and it was asked for by this principal.
#[derive(Clone, Debug)]
pub struct Row {
    key: i32,
    floor: u32,
    principal: usize,
}

impl Row {
    pub fn judge(&self, answer: &Answer) {
        let values = answer.values();
        let [value] = &values[..] else { panic!("one row: {values:?}") };
        let row = row_value("shop.hot", self.key);
        let parts = value.strip_prefix(&row).and_then(|rest| rest.strip_prefix('#')?.split_once('@'));
        let (writes, asked_by) = parts.unwrap_or_else(|| panic!("{value} is no row of {row}"));
        let writes: u32 = writes.parse().expect("a number");
        assert!(writes >= self.floor, "{value} is older than write {}", self.floor);
        assert_eq!(asked_by, self.principal.to_string(), "{value} was asked for by another principal");
    }
}
