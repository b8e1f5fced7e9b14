use super::CallerClass::{Batch, Interactive};
use super::*;
use proptest::prelude::*;

const NOW: Instant = Instant(1);

fn client(slot: u32) -> ClientId {
    ClientId { slot, generation: 0 }
}

/// What must hold after every step.
fn check(queue: &FairQueue) {
    let mut total = 0;
    let mut operations = 0;
    for (class, ring) in queue.rings.iter().enumerate() {
        let listed: Vec<u32> = ring.current.iter().chain(&ring.next).copied().collect();
        let mut waiting = 0;
        for (principal, entry) in &queue.principals {
            let flow = &entry.flows[class];
            let times = listed.iter().filter(|listed| *listed == principal).count();
            assert_eq!(times, usize::from(!flow.clients.is_empty()), "principal {principal} class {class}");
            assert!(flow.clients.iter().is_sorted_by_key(|waiting| waiting.since));
            assert!(flow.round <= ring.round && flow.deficit <= queue.quantum);
            for waiting in &flow.clients {
                assert_eq!(queue.places.get(&waiting.client), Some(&(*principal, class)));
                assert!(queue.oldest.is_some_and(|oldest| oldest <= waiting.since));
                operations += waiting.cost;
            }
            waiting += flow.clients.len();
        }
        assert_eq!(waiting, ring.waiting);
        total += waiting;
    }
    assert_eq!((total, operations), (queue.len(), queue.operations()));
    assert_eq!(queue.busy, queue.principals.values().filter(|entry| !entry.is_idle()).count());
    assert_eq!(queue.oldest.is_none(), queue.is_empty());
}

/// Serves once: pop, charge what `cost` says, queue again while `again`. Gives the principal and its charge.
fn serve(queue: &mut FairQueue, class: impl Fn(u32) -> CallerClass, cost: impl Fn(u32) -> u64) -> (u32, u64) {
    let popped = queue.pop().expect("somebody waits");
    let spent = cost(popped.principal);
    queue.charge(popped.principal, spent);
    queue.push(popped.principal, class(popped.principal), popped.client, spent, NOW);
    (popped.principal, spent)
}

#[test]
fn a_large_request_in_parts_and_single_keys_get_the_same_operations() {
    const PART: u64 = 128;
    for quantum in [1, 32, 128, 1_000] {
        let mut queue = FairQueue::new(quantum);
        // principal 0: one client with 20,000 keys in parts of 128; principal 1: 50 clients with single keys
        queue.push(0, Interactive, client(0), PART, NOW);
        (1..=50).for_each(|slot| queue.push(1, Interactive, client(slot), 1, NOW));
        let mut served = [0u64; 2];
        while served[0] < 20_000 {
            let (principal, cost) = serve(&mut queue, |_| Interactive, |p| if p == 0 { PART } else { 1 });
            served[principal as usize] += cost;
            let apart = served[0].abs_diff(served[1]);
            assert!(apart <= quantum + PART, "{served:?} with quantum {quantum}");
        }
    }
}

#[test]
fn the_clients_of_a_principal_take_turns() {
    let mut queue = FairQueue::new(10);
    (0..3).for_each(|slot| queue.push(7, Interactive, client(slot), 1, NOW));
    let order: Vec<u32> = (0..6)
        .map(|_| {
            let popped = queue.pop().expect("somebody waits");
            queue.charge(7, 1);
            queue.push(7, Interactive, popped.client, 1, NOW);
            popped.client.slot
        })
        .collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn credit_is_not_saved_up_and_debt_is_not_forgotten() {
    let mut queue = FairQueue::new(10);
    queue.push(0, Interactive, client(0), 1, NOW);
    assert!(queue.pop().is_some());
    queue.charge(0, 1);
    for _ in 0..1_000 {
        queue.push(1, Interactive, client(1), 10, NOW);
        assert!(queue.pop().is_some());
        queue.charge(1, 10);
    }
    // principal 0 was there before but had nothing to do: it does not get 1,000 rounds at once
    queue.push(1, Interactive, client(1), 10, NOW);
    queue.push(0, Interactive, client(0), 10, NOW);
    let first: Vec<u32> = (0..6).map(|_| serve(&mut queue, |_| Interactive, |_| 10).0).collect();
    assert_eq!(first.iter().filter(|principal| **principal == 0).count(), 3, "{first:?}");

    // a charge that came with the reply, when nothing was queued
    assert!(queue.remove(client(1)));
    queue.charge(1, 100);
    queue.push(1, Interactive, client(1), 10, NOW);
    let next: Vec<u32> = (0..9).map(|_| serve(&mut queue, |_| Interactive, |_| 10).0).collect();
    assert!(next.iter().all(|principal| *principal == 0), "{next:?}");
    let later: Vec<u32> = (0..9).map(|_| serve(&mut queue, |_| Interactive, |_| 10).0).collect();
    assert!(later.contains(&1), "{later:?}");
}

#[test]
fn leaving_and_coming_back_gains_nothing() {
    // principal 0 queues one client at a time, principal 1 keeps many queued
    let mut queue = FairQueue::new(4);
    (1..=8).for_each(|slot| queue.push(1, Interactive, client(slot), 1, NOW));
    queue.push(0, Interactive, client(0), 1, NOW);
    let mut served = [0i64; 2];
    for _ in 0..1_000 {
        let (principal, _) = serve(&mut queue, |_| Interactive, |_| 1);
        served[principal as usize] += 1;
    }
    assert!((served[0] - served[1]).abs() <= 5, "{served:?}");
}

#[test]
fn a_huge_charge_costs_no_steps_and_the_lonely_are_served_at_once() {
    let mut queue = FairQueue::new(1);
    queue.push(0, Interactive, client(0), 1, NOW);
    for cost in [u64::MAX, 1 << 40, 0] {
        assert!(queue.pop().is_some());
        queue.charge(0, cost);
        queue.push(0, Interactive, client(0), 1, NOW);
        check(&queue);
    }
}

#[test]
fn batch_gets_its_share_of_operations_and_no_more() {
    let class = |principal| if principal == 0 { Batch } else { Interactive };
    // batch in parts of 128; interactive: single keys, or parts of the same size
    for interactive_cost in [1, 128] {
        let mut queue = FairQueue::new(128);
        queue.push(0, Batch, client(0), 128, NOW);
        (1..=20).for_each(|slot| queue.push(slot, Interactive, client(slot), interactive_cost, NOW));
        let (mut batch, mut interactive) = (0, 0);
        for _ in 0..30_000 {
            let (principal, cost) = serve(&mut queue, class, |p| if p == 0 { 128 } else { interactive_cost });
            *if principal == 0 { &mut batch } else { &mut interactive } += cost;
        }
        let share = interactive / batch;
        assert!((INTERACTIVE_PER_BATCH - 1..=INTERACTIVE_PER_BATCH).contains(&share), "1 to {share}");
    }
}

#[test]
fn batch_has_everything_while_it_is_alone_and_pays_for_its_last_visit_only() {
    let mut queue = FairQueue::new(128);
    queue.push(0, Batch, client(0), 128, NOW);
    for _ in 0..10_000 {
        serve(&mut queue, |_| Batch, |_| 128);
    }
    queue.push(1, Interactive, client(1), 1, NOW);
    let class = |principal| if principal == 0 { Batch } else { Interactive };
    let before_batch = (0..5_000).take_while(|_| serve(&mut queue, class, |_| 1).0 == 1).count();
    assert_eq!(before_batch as u64, 128 * INTERACTIVE_PER_BATCH);
}

#[test]
fn a_batch_visit_of_any_cost_is_followed_by_another() {
    let class = |principal| if principal == 0 { Batch } else { Interactive };
    let mut queue = FairQueue::new(128);
    queue.push(0, Batch, client(0), 1, NOW);
    queue.push(1, Interactive, client(1), 1, NOW);
    assert_eq!(serve(&mut queue, class, |_| u64::MAX).0, 0);
    let wait = (0..100_000).take_while(|_| serve(&mut queue, class, |_| 0).0 == 1).count() as u64;
    assert_eq!(wait, BATCH_VISIT_MAX * INTERACTIVE_PER_BATCH, "even when interactive visits cost nothing");
}

#[test]
fn one_principal_in_both_classes_is_served_in_both() {
    let mut queue = FairQueue::new(8);
    queue.push(3, Batch, client(0), 1, NOW);
    queue.push(3, Interactive, client(1), 1, NOW);
    check(&queue);
    let mut seen: Vec<u32> = std::iter::from_fn(|| queue.pop()).map(|popped| popped.client.slot).collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1]);
    check(&queue);
}

#[test]
fn nobody_starves_among_many_principals() {
    let mut queue = FairQueue::new(64);
    for principal in 0..200 {
        queue.push(principal, Interactive, client(principal), 1, NOW);
    }
    let mut last = [0u32; 200];
    for turn in 1..=40_000 {
        let (principal, _) = serve(&mut queue, |_| Interactive, |p| if p < 20 { 128 } else { 16 });
        let gap = turn - std::mem::replace(&mut last[principal as usize], turn);
        assert!(gap <= 200 * 8, "principal {principal} waited {gap} turns");
    }
}

#[test]
fn principals_that_left_are_forgotten() {
    let mut queue = FairQueue::new(128);
    for principal in 0..100_000 {
        queue.push(principal, Interactive, client(principal), 20_000, NOW);
        assert!(queue.pop().is_some());
        queue.charge(principal, 20_000); // all leave in debt
        assert!(queue.principals.len() <= IDLE_PRINCIPALS + 1);
    }
    (0..100_000).for_each(|principal| queue.push(principal, Batch, client(principal), 1, NOW));
    while let Some(popped) = queue.pop() {
        queue.charge(popped.principal, 1);
    }
    assert!(queue.principals.len() <= IDLE_PRINCIPALS, "{}", queue.principals.len());
    assert!(queue.principals.capacity() <= 4 * IDLE_PRINCIPALS);
}

#[test]
fn waiting_too_long_ends() {
    let mut queue = FairQueue::new(128);
    for slot in 0..10 {
        queue.push(
            slot % 3,
            if slot < 5 { Interactive } else { Batch },
            client(slot),
            1,
            Instant(u64::from(slot)),
        );
    }
    let mut out = Vec::new();
    assert_eq!(queue.oldest(), Some(Instant(0)));
    queue.expire(Instant(6), &mut out);
    out.sort_unstable_by_key(|client| client.slot);
    assert_eq!(out, (0..=6).map(client).collect::<Vec<_>>());
    assert_eq!((queue.oldest(), queue.len()), (Some(Instant(7)), 3));
    check(&queue);
    queue.expire(Instant(100), &mut out);
    assert_eq!((queue.oldest(), queue.len(), queue.pop()), (None, 0, None));
    check(&queue);
}

#[derive(Clone, Debug)]
enum Step {
    Push { principal: u32, batch: bool, slot: u32 },
    Pop { cost: u64 },
    Charge { principal: u32, cost: u64 },
    Remove { slot: u32 },
    Expire { age: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u32..6, any::<bool>(), 0u32..30).prop_map(|(principal, batch, slot)| Step::Push { principal, batch, slot }),
        3 => (0u64..500).prop_map(|cost| Step::Pop { cost }),
        1 => (0u32..6, 0u64..5_000).prop_map(|(principal, cost)| Step::Charge { principal, cost }),
        1 => (0u32..30).prop_map(|slot| Step::Remove { slot }),
        1 => (0u64..60).prop_map(|age| Step::Expire { age }),
    ]
}

proptest! {
    /// Against a plain map of who waits since when.
    #[test]
    fn nobody_is_lost_or_served_twice(quantum in 0u64..200, steps in prop::collection::vec(step(), 0..300)) {
        let mut queue = FairQueue::new(quantum);
        let mut model = std::collections::BTreeMap::new();
        for (time, step) in steps.into_iter().enumerate() {
            let now = Instant(time as u64);
            match step {
                Step::Push { principal, batch, slot } => {
                    if let std::collections::btree_map::Entry::Vacant(place) = model.entry(slot) {
                        place.insert((principal, now));
                        queue.push(principal, if batch { Batch } else { Interactive }, client(slot), 1, now);
                    }
                }
                Step::Pop { cost } => match queue.pop() {
                    None => prop_assert!(model.is_empty()),
                    Some(popped) => {
                        let expected = model.remove(&popped.client.slot);
                        prop_assert_eq!(expected, Some((popped.principal, popped.waited_since)));
                        queue.charge(popped.principal, cost);
                    }
                },
                Step::Charge { principal, cost } => queue.charge(principal, cost),
                Step::Remove { slot } => prop_assert_eq!(queue.remove(client(slot)), model.remove(&slot).is_some()),
                Step::Expire { age } => {
                    let before = Instant(now.0.saturating_sub(age));
                    let mut out = Vec::new();
                    queue.expire(before, &mut out);
                    for late in out {
                        prop_assert!(model.remove(&late.slot).is_some_and(|(_, since)| since <= before));
                    }
                    prop_assert!(model.values().all(|(_, since)| *since > before));
                }
            }
            check(&queue);
        }
    }

    /// Any two principals that never run dry, whatever they cost.
    #[test]
    fn two_busy_principals_stay_together(
        quantum in 1u64..300,
        costs in prop::collection::vec((1u64..300, 1u64..300), 1..400),
        clients in (1u32..5, 1u32..5),
    ) {
        let mut queue = FairQueue::new(quantum);
        (0..clients.0).for_each(|slot| queue.push(0, Interactive, client(slot), 1, NOW));
        (0..clients.1).for_each(|slot| queue.push(1, Interactive, client(100 + slot), 1, NOW));
        let mut served = [0u64; 2];
        for cost in costs {
            let (principal, spent) = serve(&mut queue, |_| Interactive, |p| if p == 0 { cost.0 } else { cost.1 });
            served[principal as usize] += spent;
            prop_assert!(served[0].abs_diff(served[1]) <= quantum + 300, "{served:?}");
        }
    }
}
