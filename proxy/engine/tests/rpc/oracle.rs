//! Admission against a model that keeps lists and adds them up: same verdicts, same ceilings, same times.

use crate::bench::{Bench, body, ok, settings};
use proptest::prelude::*;
use weir_engine::error::LimitKind;
use weir_engine::rpc::{CallId, Verdict, Why};
use weir_engine::settings::{CallerLimits, LimitMode};
use weir_engine::units::{Instant, Operations, Span};

/// Operations a second: divides a second into whole microseconds, so that the model needs no rounding.
const RATE: u64 = 1_000;
const COST_US: u64 = 1_000_000 / RATE;

#[derive(Clone, Debug)]
enum Step {
    Ask { keys: u64 },
    Answer { which: usize, keys: u64, bytes: u64 },
    Cancel { which: usize },
    Pass { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop_oneof![0u64..5, 90u64..110, 0u64..3_000].prop_map(|keys| Step::Ask { keys }),
        3 => (any::<usize>(), 0u64..2_000, 0u64..10_000_000)
            .prop_map(|(which, keys, bytes)| Step::Answer { which, keys, bytes }),
        1 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        3 => (0u64..2_000).prop_map(|ms| Step::Pass { ms }),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    per_request: u64,
    burst: u64,
    in_flight: u64,
}

/// What the caller may have: microseconds of credit, at most a burst's worth; negative in debt.
struct Model {
    limits: Limits,
    credit: i64,
    at: Instant,
    under_way: Vec<u64>,
}

impl Model {
    fn pass(&mut self, now: Instant) {
        let most = (self.limits.burst * COST_US) as i64;
        self.credit = (self.credit + now.since(self.at).0 as i64).min(most);
        self.at = now;
    }

    fn charge(&mut self, operations: u64) {
        self.credit -= (operations * COST_US) as i64;
    }

    /// The limit that refuses it, and for how long, in whole milliseconds.
    fn ask(&mut self, operations: u64) -> Result<(), (LimitKind, u64, u64)> {
        if operations > self.limits.per_request {
            return Err((LimitKind::OperationsPerRequest, self.limits.per_request, 60_000));
        }
        let busy: u64 = self.under_way.iter().sum();
        if busy > 0 && busy + operations > self.limits.in_flight {
            return Err((LimitKind::OperationsInFlight, self.limits.in_flight, 1_000));
        }
        if self.credit < 0 {
            let ms = (-self.credit as u64).div_ceil(1_000);
            return Err((LimitKind::OperationsPerSecond, RATE, ms));
        }
        self.charge(operations);
        self.under_way.push(operations);
        Ok(())
    }

    fn end(&mut self, which: usize, found: u64) {
        let operations = self.under_way.remove(which);
        self.charge(found.saturating_sub(operations));
    }
}

proptest! {
    #[test]
    fn the_engine_and_the_model_agree(
        steps in prop::collection::vec(step(), 1..120),
        per_request in 1u64..2_500,
        burst in 1u64..1_500,
        in_flight in 1u64..3_000,
    ) {
        let limits = Limits { per_request, burst, in_flight };
        let mut bench = Bench::new(settings(|settings| {
            settings.callers.insert("a".into(), CallerLimits {
                operations_per_request: Some(Operations(per_request)),
                operations_per_second: Some(Operations(RATE)),
                burst: Some(Operations(burst)),
                operations_in_flight: Some(Operations(in_flight)),
                mode: LimitMode::Refuse,
                ..CallerLimits::default()
            });
            settings.services[0].request_timeout = Span::secs(300); // the model knows no deadlines
        }));
        bench.now = Instant(10_000_000);
        let credit = (burst * COST_US) as i64;
        let mut model = Model { limits, credit, at: bench.now, under_way: Vec::new() };
        let mut calls: Vec<CallId> = Vec::new();
        for step in steps {
            match step {
                Step::Pass { ms } => {
                    bench.after(Span::millis(ms));
                    model.pass(bench.now);
                }
                Step::Ask { keys } => {
                    let operations = keys.max(1);
                    let call = bench.begin("a");
                    let verdict = bench.engine.counted(call, &body(keys), bench.now);
                    match (model.ask(operations), verdict) {
                        (Ok(()), Verdict::Forward(start)) => {
                            prop_assert!(operations <= 100 && start.keys == operations);
                            calls.push(call);
                        }
                        (Ok(()), Verdict::Split { chunks, chunk_keys }) => {
                            prop_assert!(operations > 100 && chunk_keys == 100);
                            prop_assert_eq!(u64::from(chunks), operations.div_ceil(100));
                            calls.push(call);
                        }
                        (Err((kind, ceiling, ms)), Verdict::Refuse(refusal)) => {
                            prop_assert_eq!(&refusal.why, &Why::Limit(kind));
                            prop_assert_eq!((refusal.asked, refusal.ceiling), (operations, ceiling));
                            prop_assert_eq!(refusal.retry_after_ms(), ms);
                        }
                        (expected, got) => prop_assert!(false, "{expected:?} but {got:?}"),
                    }
                }
                Step::Answer { which, keys, bytes } if !calls.is_empty() => {
                    let which = which % calls.len();
                    bench.engine.answered(calls.remove(which), &ok(keys, bytes), bench.now);
                    model.end(which, keys.max(bytes.div_ceil(16 << 10)));
                }
                Step::Cancel { which } if !calls.is_empty() => {
                    let which = which % calls.len();
                    bench.engine.cancelled(calls.remove(which), bench.now);
                    model.end(which, 0);
                }
                Step::Answer { .. } | Step::Cancel { .. } => {}
            }
            bench.engine.check_invariants();
            let booked: u64 = bench.engine.callers().iter().map(|caller| caller.operations.0).sum();
            prop_assert_eq!(booked, model.under_way.iter().sum::<u64>());
        }
    }
}
