//! HTTP/2 as no client should speak it: resets, floods, huge headers, and frames that make no sense.

use crate::Scene;
use crate::raw::{
    CONTINUATION, DATA, END_HEADERS, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, connect,
    frame, head, header, kinds, preface, send,
};
use crate::support::eventually;
use std::io::Write as _;

/// 100 MB of frames at the most are tried of anything.
const FLOOD: usize = 200_000;

#[test]
fn rapid_resets_end_the_connection() {
    let scene = Scene::new("", "");
    let mut bytes = preface(&[]);
    for stream in (1..40_001).step_by(2) {
        bytes.extend(frame(HEADERS, END_HEADERS, stream, &head()));
        bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    let (answer, ended) = send(&connect(scene.weir.port), &bytes);
    assert!(ended && kinds(&answer).contains(&GOAWAY), "{:?}", kinds(&answer));
    eventually("it is counted", || scene.closed("protocol") == 1.0);
    assert!(scene.outcome("client_gone") < 2_000.0, "{}", scene.outcome("client_gone"));
    scene.unharmed(16);
}

#[test]
fn floods_of_control_frames_cost_nothing() {
    let scene = Scene::new("", "");
    for (kind, payload) in
        [(PING, &[7; 8][..]), (SETTINGS, &[]), (WINDOW_UPDATE, &[0, 0, 0, 1]), (RST_STREAM, &[0; 4])]
    {
        let stream = u32::from(kind == RST_STREAM);
        let bytes = [preface(&[]), frame(kind, 0, stream, payload).repeat(FLOOD)].concat();
        let _ = send(&connect(scene.weir.port), &bytes);
        // The same while nobody reads the answers: whoever floods waits, or is cut.
        let deaf = connect(scene.weir.port);
        deaf.set_nonblocking(true).expect("an option");
        for part in bytes.chunks(64 << 10) {
            if (&deaf).write_all(part).is_err() {
                break;
            }
        }
    }
    // DATA without a byte, on a call that never ends.
    let mut bytes = preface(&[]);
    bytes.extend(frame(HEADERS, END_HEADERS, 1, &head()));
    bytes.extend(frame(DATA, 0, 1, &[]).repeat(FLOOD));
    let _ = send(&connect(scene.weir.port), &bytes);
    scene.unharmed(32);
}

#[test]
fn headers_without_end_are_cut_off() {
    let scene = Scene::new("", "");
    // Of small and of large parts.
    for (count, size) in [(FLOOD, 1), (4_000, 16 << 10)] {
        let part = header("x", &vec![b'v'; size]);
        let part = &part[..part.len().min(16 << 10)];
        let mut bytes = preface(&[]);
        bytes.extend(frame(HEADERS, 0, 1, &head()));
        bytes.extend(frame(CONTINUATION, 0, 1, part).repeat(count));
        let (_, ended) = send(&connect(scene.weir.port), &bytes);
        assert!(ended, "parts of {size} bytes");
    }
    eventually("they are counted", || scene.closed("protocol") + scene.closed("io") == 2.0);
    assert!(scene.closed("protocol") >= 1.0);
    scene.unharmed(32);
}

#[test]
fn huge_headers_are_refused_and_the_connection_goes_on() {
    refused_headers("", 70_000);
    refused_headers("header_bytes_max = \"8KiB\"\n", 9_000);
}

fn refused_headers(own: &str, size: usize) {
    let scene = Scene::new(own, "");
    let mut large = head();
    large.extend(header("x-large", &vec![b'v'; size]));
    let mut bytes = preface(&[]);
    // In frames of what every peer takes.
    let mut parts = large.chunks(16 << 10).peekable();
    bytes.extend(frame(HEADERS, 1, 1, parts.next().expect("a part")));
    if parts.peek().is_none() {
        bytes.extend(frame(CONTINUATION, END_HEADERS, 1, &[]));
    }
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_none() { END_HEADERS } else { 0 };
        bytes.extend(frame(CONTINUATION, flags, 1, part));
    }
    let stream = connect(scene.weir.port);
    let (answer, ended) = send(&stream, &bytes);
    assert!(!ended && kinds(&answer).contains(&HEADERS), "{:?}", kinds(&answer));
    eventually("it is counted", || scene.invalid("headers_too_large") == 1.0);
    scene.unharmed(16);
}

#[test]
fn streams_above_the_limit_are_refused_and_the_rest_wait() {
    refused_streams("", 250);
    refused_streams("client_streams_max = 40\n", 40);
}

fn refused_streams(own: &str, most: u32) {
    let scene = Scene::new(&format!("request_timeout = \"3s\"\n{own}"), "");
    let most = f64::from(most);
    let mut bytes = preface(&[]);
    for stream in (1..2_001).step_by(2) {
        bytes.extend(frame(HEADERS, END_HEADERS, stream, &head()));
    }
    let stream = connect(scene.weir.port);
    (&stream).write_all(&bytes).expect("sent");
    eventually("as many as may be are under way", || {
        scene.weir.series("weir_rpc_calls", &[("service", "dataplane")]).is_some_and(|calls| calls >= most)
    });
    let calls = scene.weir.series("weir_rpc_calls", &[("service", "dataplane")]).expect("it is there");
    assert!(calls <= most + 2.0, "{calls} calls, the neighbour's included");
    let (answer, _) = send(&stream, &[]);
    let refused = kinds(&answer).iter().filter(|kind| **kind == RST_STREAM).count();
    assert!(refused >= 750 || kinds(&answer).contains(&GOAWAY), "{refused} of 750 are refused");
    drop(stream);
    scene.unharmed(16);
}

#[test]
fn frames_without_sense_end_the_connection() {
    let scene = Scene::new("", "");
    let nonsense = [
        frame(DATA, 0, 0, b"on no stream"),
        frame(HEADERS, END_HEADERS, 2, &head()),
        frame(HEADERS, END_HEADERS, 1, &[0xff; 40]),
        frame(SETTINGS, 0, 0, &[1, 2, 3]),
        frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
        frame(CONTINUATION, END_HEADERS, 1, &head()),
        frame(PING, 0, 0, b"short"),
        [&[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1][..], &[0; 70_000]].concat(),
        // A push, which clients may not make.
        frame(5, END_HEADERS, 1, &[0, 0, 0, 2]),
    ];
    for (number, bytes) in nonsense.iter().enumerate() {
        let (_, ended) = send(&connect(scene.weir.port), &[preface(&[]), bytes.clone()].concat());
        assert!(ended, "{number}");
    }
    eventually("they are counted", || scene.closed("protocol") + scene.closed("io") >= nonsense.len() as f64);
    assert_eq!(scene.service.told.connections.load(std::sync::atomic::Ordering::Relaxed), 2, "as before");
    scene.unharmed(16);
}
