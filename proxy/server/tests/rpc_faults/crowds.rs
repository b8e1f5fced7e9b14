//! Very many clients, no descriptor left, and clients that speak something else.

use crate::Scene;
use crate::raw::{connect, read_all};
use crate::support::eventually;
use crate::support_rpc::POSTS;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Of 64 open files, those that clients may take.
const CLIENTS: usize = 16;

/// Asks, and says whether it was served. The connection stays open.
fn asks(stream: &mut TcpStream) -> bool {
    let body = "{\"uris\":[\"at://crowd\"]}";
    let head = format!(
        "POST /{POSTS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut status = [0; 12];
    let served = stream.write_all(head.as_bytes()).is_ok() && stream.read_exact(&mut status).is_ok();
    served && &status == b"HTTP/1.1 200"
}

#[test]
fn a_thousand_connections_cost_the_service_none() {
    let scene = Scene::new("", "");
    let mut crowd: Vec<TcpStream> = (0..1_000).map(|_| connect(scene.weir.port)).collect();
    for stream in &mut crowd {
        assert!(asks(stream));
    }
    let open = || scene.weir.series("weir_client_connections", &[("listener", "edge")]).unwrap_or(0.0);
    assert_eq!(open(), 1_001.0, "and the neighbour");
    assert_eq!(scene.service.told.connections.load(Ordering::Relaxed), 2, "as with one");
    drop(crowd);
    eventually("they are gone", || open() == 1.0);
    assert_eq!(scene.closed("client") + scene.closed("io"), 1_000.0);
    // 64 KiB each, while they are there.
    scene.unharmed(100);
}

#[test]
fn without_descriptors_the_excess_is_turned_away() {
    let scene = Scene::with("", "", Some(64));
    let mut crowd: Vec<TcpStream> = (0..200).map(|_| connect(scene.weir.port)).collect();
    let served = crowd.iter_mut().filter_map(|stream| asks(stream).then_some(())).count();
    assert_eq!(served, CLIENTS - 1, "and the neighbour");
    eventually("they are counted", || scene.closed("cap") == (200 - served) as f64);
    let open = scene.weir.series("weir_client_connections", &[]).expect("metrics are shown all the while");
    assert_eq!(open, CLIENTS as f64);
    assert_eq!(scene.weir.series("weir_bound", &[("name", "nofile_clients")]), Some(CLIENTS as f64));
    drop(crowd);
    eventually("there is room again", || asks(&mut connect(scene.weir.port)));
    scene.unharmed(16);
}

#[test]
fn garbage_at_the_door() {
    let scene = Scene::new("", "");
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 500]].concat();
    let mut garbage: Vec<Vec<u8>> = vec![
        hello,
        b"get key\r\n".to_vec(),
        b"\x04\x00\x00\x00\x05\x00\x00\x00\x00".to_vec(),
        vec![0; 10_000],
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".to_vec(),
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_vec(),
        [b"GET / HTTP/1.1\r\n".to_vec(), b"x: y\r\n".repeat(100_000)].concat(),
        [b"GET /".to_vec(), vec![b'a'; 1 << 20]].concat(),
    ];
    // The same random bytes at each run.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    garbage.extend((0..200).map(|length| (0..length * 10 + 1).map(|_| random()).collect()));
    for bytes in &garbage {
        let mut stream = connect(scene.weir.port);
        // It may be closed before all of it is sent.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(Duration::from_secs(8))).expect("an option");
        let (answer, ended) = read_all(&mut stream);
        let shown = bytes[..bytes.len().min(40)].escape_ascii();
        assert!(ended, "the connection ends: {shown}");
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{shown}: {}", answer.escape_ascii());
    }
    let all = garbage.len() as f64;
    let closed = |how| scene.closed(how);
    eventually("they are counted", || {
        ["client", "protocol", "io", "idle", "fin"].map(closed).iter().sum::<f64>() == all
    });
    assert!(closed("protocol") > 0.0);
    scene.unharmed(32);
}
