//! UNLOGGED batches of writes that may happen twice: a rule lets them be carried out in parts. However often a row was
//! written, it was at one time.

use super::Expect;
use super::random::Random;
use super::scenario::SET;
use crate::node::{Data, row_value, statement_id};
use crate::wire::{Answer, Part, With, batch_with, int};
use std::collections::BTreeSet;
use std::ops::Range;
use weir_cql::Version;
use weir_engine::settings::{Rule, Settings, Subject};

/// The timestamp of clients that give one.
const GIVEN: i64 = 7;

pub fn scenario(random: &mut Random, settings: &mut Settings) {
    let cluster = &mut settings.clusters[0];
    cluster.chunk_statements = random.pick(&[1, 3, 10]);
    if random.chance(80) {
        let subject = Subject::Table { keyspace: "shop".into(), table: "s".into() };
        let stamp_timestamps = random.chance(60);
        let rule = Rule { split_batches: true, stamp_timestamps, ..Rule::new("batches", subject) };
        cluster.rules = cluster.rules.iter().cloned().chain([rule]).collect();
    }
}

/// A batch of one write for each key; every other one with a timestamp of the client's.
pub fn request(version: Version, stream: i16, keys: Range<i32>, n: usize) -> (Vec<u8>, Expect) {
    let id = statement_id(None, SET.as_bytes());
    let parts: Vec<Part<'_>> = keys.clone().map(|key| Part::Id(&id, vec![int(key)])).collect();
    let with = With { timestamp: n.is_multiple_of(2).then_some(GIVEN), ..With::default() };
    let rows = keys.map(|key| row_value("shop.s", key)).collect();
    (batch_with(version, stream, 1, &parts, &with), Expect::SetAll(rows))
}

/// The client was told that they are done.
pub fn done(rows: &[String], answer: &Answer, data: &Data) {
    assert!(answer.is_void(), "{}", answer.describe());
    let missing = rows.iter().find(|row| !data.writes.contains_key(*row));
    assert_eq!(missing, None, "was carried out, all of it");
}

/// Panics when a row was written at two times, or `never` was to be; how many rows were written at one that weir gave.
pub fn judge(data: &Data, never: &BTreeSet<String>) -> u64 {
    let written = never.iter().find(|row| data.writes.contains_key(*row));
    assert_eq!(written, None, "was carried out although nothing was sent");
    let given = [None, Some(GIVEN)];
    let mut stamped = 0;
    for (row, stamps) in &data.stamps {
        let stamps: BTreeSet<Option<i64>> = stamps.clone();
        assert_eq!(stamps.len(), 1, "{row} was written at {stamps:?}");
        stamped += u64::from(!stamps.iter().any(|stamp| given.contains(stamp)));
    }
    stamped
}
