//! Clients that send more than they are served hold bounded memory, counted as it is held.

mod support;

use std::sync::Arc;
use support::{Bench, settings};
use weir_engine::units::{Bytes, ClientId};

/// One read of a worker.
const READ: usize = 64 << 10;

/// What one read may make a buffer larger by, with the share it grows by.
const STEP: usize = 2 * READ;

/// Sends as long as weir reads; how many bytes it took.
fn flood(bench: &mut Bench, client: ClientId, text: &[u8]) -> usize {
    let mut taken = 0;
    while bench.engine.client_wants_input(client) {
        let most = bench.engine.client_read_max(client).min(text.len());
        bench.send(client, &text[..most]);
        taken += most;
        assert!(taken < 100 << 20, "it is read without end");
    }
    taken
}

#[test]
fn a_deaf_flooder_costs_a_quarter_more_than_its_largest_request() {
    let mut bench = Bench::new(settings(1));
    let client = bench.open("deaf");
    let text = b"gibberish\r\n".repeat(READ / 11);
    let taken = flood(&mut bench, client, &text);
    bench.turn();
    let largest = 8 << 20; // `line_max`
    assert!(taken > largest, "a request of {largest} could not become whole: {taken}");
    let held = bench.engine.snapshot(bench.now).input_bytes;
    assert!(held >= largest, "all of it is counted: {held}");
    assert!(held <= (largest + READ) * 5 / 4 + STEP, "{held}");
    bench.engine.close_client(client, bench.now);
    assert_eq!(bench.engine.snapshot(bench.now).input_bytes, 0);
    bench.engine.check_quiet();
}

#[test]
fn flooders_together_keep_to_the_bound_of_their_worker_within_one_turn() {
    (1..=4).for_each(flooders_together);
}

fn flooders_together(workers: u32) {
    let mut settings = settings(1);
    let bound = 1 << 20;
    settings.input_bytes_max = Bytes(bound as u64);
    let mut bench = Bench::sharing(settings, &Arc::default(), workers);
    // a line that never ends, from 200 clients before the turn does
    let clients: Vec<ClientId> = (0..200).map(|_| bench.open("deaf")).collect();
    let text = [&b"get "[..], &b"k ".repeat(READ / 2 - 2)].concat();
    for client in &clients {
        if bench.engine.client_wants_input(*client) {
            let most = bench.engine.client_read_max(*client).min(text.len());
            bench.send(*client, &text[..most]);
        }
    }
    let each = 4 << 10;
    let held = bench.engine.snapshot(bench.now).input_bytes;
    assert!(held > bound && held <= bound + STEP + clients.len() * each, "{held}");
    bench.turn();
    let readable: Vec<&ClientId> =
        clients.iter().filter(|client| bench.engine.client_wants_input(**client)).collect();
    assert_eq!(readable.len(), 1, "one is read on, so that its request becomes whole");
    let favoured = *readable[0];
    bench.send(favoured, b"\r\n");
    bench.settle();
    assert!(bench.read_text(favoured).ends_with("END\r\n"));
    for client in clients {
        bench.engine.close_client(client, bench.now);
    }
    bench.turn();
    assert_eq!(bench.engine.snapshot(bench.now).input_bytes, 0);
}
