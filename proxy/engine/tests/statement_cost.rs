//! What the books of statements cost per request. Only with optimisations do the figures mean anything:
//! `CARGO_PROFILE_TEST_OPT_LEVEL=3 CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo test -p weir-engine --test statement_cost --
//! --ignored --nocapture`.

use std::sync::Arc;
use weir_engine::ledger::{Entry, Form, Ledger, Method, Outcome, Statement};
use weir_engine::units::{Instant, ListenerId, Span};

fn entry(operations: u64, at: Instant) -> Entry {
    Entry {
        identity: 0,
        method: Method(0),
        operations,
        chunks: 1,
        backend_operations: operations,
        hits: operations,
        misses: 0,
        coalesced: 0,
        bytes_in: 100,
        bytes_out: 200,
        queue_wait: Span(0),
        backend_time: Span(700),
        total: Span(800),
        outcome: Outcome::Ok,
        sent_to: None,
        at,
    }
}

/// Nanoseconds per request of 20 callers with so many statements.
#[expect(clippy::disallowed_methods, reason = "it measures time")]
fn cost(statements: &[Statement], with: bool) -> f64 {
    const ROUNDS: u64 = 2_000_000;
    let names: Vec<Arc<str>> = (0..20).map(|n| format!("caller-{n}").into()).collect();
    let mut ledger = Ledger::new(1);
    let start = std::time::Instant::now();
    for i in 0..ROUNDS {
        let statement = &statements[(i % statements.len() as u64) as usize];
        let name = &names[(i / 7 % 20) as usize];
        let entry = entry(1 + i % 3, Instant(i));
        ledger.record_statement(&entry, name, ListenerId(0), with.then_some(statement));
    }
    start.elapsed().as_nanos() as f64 / ROUNDS as f64
}

#[test]
#[ignore = "measures time"]
fn a_statement_costs_less_than_a_microsecond() {
    for forms in [1, 40, 4_000] {
        let form = |n: u64| Form::new(&format!("select a from t{n} where k in ?"), n, "t", true);
        let statements: Vec<Statement> =
            (0..forms).map(|n| Statement { form: Arc::new(form(n)), keyspace: None }).collect();
        let (without, with) = (cost(&statements, false), cost(&statements, true));
        println!("{forms} forms x 20 callers: {without:.0} ns without, {with:.0} ns with statements");
        assert!(with - without < 1_000.0);
    }
}
