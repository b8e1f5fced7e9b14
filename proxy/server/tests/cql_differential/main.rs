//! The differential test: whatever a client asks, through weir it gets what the node itself answers, against the real
//! Cassandra. Tables, key types, statements, values, page sizes, consistencies, versions and mistakes are drawn; each
//! request goes to the node directly and through three weirs, of which one splits lists of more than three keys, one
//! joins identical reads of several clients, and one keeps answers. Then writes pass through a weir, and the same writes go
//! to a twin of the table directly: nothing that is read afterwards may differ.
//!
//! A seed is a table with its data and requests. A failing one is printed with the table and the request:
//! `WEIR_SEED=7 cargo test -p weir --test cql_differential` replays it (also `100..200`); `WEIR_CASES=500` runs so many.
//! All but `WEIR_TEST_CASSANDRA` is drawn from the seed; only timestamps of writes are those of the clock.
//!
//! [`draw`]: numbers and seeds. [`kinds`]: types and values. [`schema`]: tables. [`text`], [`selects`], [`projections`],
//! [`writes`]: statements. [`request`], [`words`], [`faults`]: what is said with them, and mistakes. [`doors`]: ways to the node. [`compare`]:
//! what must be the same, and the differences that are allowed. [`run`]: one seed. [`tally`]: what must happen often.

#[path = "../support/mod.rs"]
mod support;
#[path = "../support_cql/mod.rs"]
mod support_cql;

mod compare;
mod doors;
mod draw;
mod faults;
mod kinds;
mod projections;
mod request;
mod run;
mod schema;
mod selects;
mod tally;
mod text;
mod words;
mod writes;

use run::Run;
use std::time::Instant;
use support_cql::{cassandra, keyspace};
use tally::Tally;

/// Seeds of a usual run: about a minute.
const SEEDS: u64 = 44;
/// Seeds between two starts of the weirs, and tables that the node holds at once: a small node stalls at some hundred, and a
/// cluster may have 256 rules.
const GROUP: u64 = 32;
/// Differences that are told before the run ends.
const TOLD: usize = 12;

#[test]
fn answers_through_weir_are_those_of_the_node() {
    let Some(node) = cassandra("the differential test") else { return };
    let (seeds, usual) = draw::seeds(SEEDS);
    let (begun, mut tally, mut failures) = (Instant::now(), Tally::default(), Vec::new());
    let mut from = seeds.start;
    while from < seeds.end && failures.len() < TOLD {
        let group = from..seeds.end.min(from + GROUP);
        let mut run = Run::new(&node, [&keyspace("cqldiff_a"), &keyspace("cqldiff_b")], group.clone());
        for seed in group.clone() {
            run.seed(seed);
            if run.failures.len() >= TOLD {
                break;
            }
        }
        failures.append(&mut run.failures);
        tally.add(&run.finish());
        from = group.end;
    }
    println!("{} seeds from {} in {:.1?}: {tally:?}", seeds.end - seeds.start, seeds.start, begun.elapsed());
    assert!(failures.is_empty(), "{} differences:\n\n{}", failures.len(), failures.join("\n\n"));
    if usual {
        tally.assert_usual();
    }
}
