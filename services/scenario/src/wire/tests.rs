use super::*;
use crate::keys::KeyStyle;
use crate::values::ValueSize;

fn world() -> World {
    World { keys: KeySet::new(KeyStyle::Post, 100, 1), values: Values::new(ValueSize::Fixed(33), 1) }
}

fn value(world: &World, key: KeyIndex) -> Vec<u8> {
    let mut out = b"VALUE ".to_vec();
    out.extend_from_slice(world.keys.bytes(key));
    out.extend_from_slice(
        format!(" {} {}\r\n", world.values.flags(key), world.values.length(key)).as_bytes(),
    );
    world.values.write(key, &mut out);
    out.extend_from_slice(b"\r\n");
    out
}

/// Asks for these keys and feeds the reply in pieces.
fn ask(
    world: &World,
    keys: &[u32],
    reply: &[u8],
    piece: usize,
) -> (Result<(), Broken>, Vec<Finished>, Faults) {
    let (mut expected, mut reader) = (Expected::default(), Reader::default());
    let (mut finished, mut faults, mut out) = (Vec::new(), Faults::default(), Vec::new());
    expected.get(world, keys.iter().copied().map(KeyIndex), 5, &mut out);
    let mut context = Context { world, finished: &mut finished, faults: &mut faults };
    let result = reply.chunks(piece).try_for_each(|part| reader.feed(part, &mut expected, &mut context));
    (result, finished, faults)
}

#[test]
fn right_answers_in_any_pieces_count_as_hits_and_left_out_keys_as_missing() {
    let world = world();
    let absent = world.keys.absent(0).0;
    let mut reply = Vec::new();
    for key in [3, 3, 9] {
        reply.extend(value(&world, KeyIndex(key)));
    }
    reply.extend_from_slice(b"END\r\n");
    for piece in 1..=reply.len() {
        let (result, finished, faults) = ask(&world, &[3, 7, 3, absent, 9, 11], &reply, piece);
        assert_eq!(result, Ok(()));
        let [one] = finished[..] else { panic!("one request, {} ended", finished.len()) };
        assert_eq!(
            (one.keys, one.hits, one.absent, one.missing, one.wrong),
            (6, 3, 1, 2, 0),
            "pieces of {piece}"
        );
        assert!(!one.failed && faults.counts().is_empty());
    }
}

#[test]
fn wrong_keys_orders_flags_lengths_and_bodies_are_seen() {
    let world = world();
    let good = value(&world, KeyIndex(1));
    let flags = world.values.flags(KeyIndex(1));
    let replace = |from: String, to: String| {
        let text = good.clone();
        let at = text.windows(from.len()).position(|w| w == from.as_bytes()).expect("in the reply");
        [&text[..at], to.as_bytes(), &text[at + from.len()..]].concat()
    };
    let mut body = good.clone();
    let last = body.len() - 3;
    body[last] ^= 1;
    let mut shorter = replace(" 33\r\n".into(), " 32\r\n".into());
    shorter.remove(shorter.len() - 3);
    let cases = [
        (value(&world, KeyIndex(2)), "wrong key"),
        (replace(format!(" {flags} "), format!(" {} ", flags ^ 1)), "wrong flags"),
        (shorter, "wrong length"),
        (body, "wrong value"),
    ];
    for (mut reply, text) in cases {
        reply.extend_from_slice(b"END\r\n");
        let (result, finished, faults) = ask(&world, &[1], &reply, 7);
        assert_eq!(result, Ok(()), "{text}");
        assert_eq!((finished[0].wrong, finished[0].hits), (1, 0), "{text}");
        assert!(faults.counts().contains_key(text), "{text}: {faults:?}");
    }
    let swapped = [value(&world, KeyIndex(2)), value(&world, KeyIndex(1)), b"END\r\n".to_vec()].concat();
    let (_, finished, _) = ask(&world, &[1, 2], &swapped, 1_000);
    assert_eq!((finished[0].hits, finished[0].wrong, finished[0].missing), (1, 1, 1));
}

#[test]
fn a_value_for_a_key_never_stored_is_wrong() {
    let world = world();
    let absent = world.keys.absent(3);
    let reply = [value(&world, absent), b"END\r\n".to_vec()].concat();
    let (_, finished, _) = ask(&world, &[absent.0], &reply, 1_000);
    assert_eq!((finished[0].wrong, finished[0].absent), (1, 0));
}

#[test]
fn errors_end_the_request_once_and_surplus_bytes_break_the_connection() {
    let world = world();
    let reply = [value(&world, KeyIndex(1)), b"SERVER_ERROR upstream is gone\r\n".to_vec()].concat();
    let (result, finished, faults) = ask(&world, &[1, 2, 3], &reply, 5);
    assert_eq!((result, finished.len()), (Ok(()), 1));
    assert_eq!((finished[0].failed, finished[0].hits, finished[0].missing), (true, 1, 0));
    assert_eq!(faults.counts().get("SERVER_ERROR upstream is gone"), Some(&1));
    let (result, ..) = ask(&world, &[1], b"END\r\nEND\r\n", 100);
    assert_eq!(result, Err(Broken("reply: nothing was asked")));
    let (result, ..) = ask(&world, &[1], b"VALUE x\r\n", 100);
    assert_eq!(result, Err(Broken("reply: malformed VALUE line")));
}

#[test]
fn sets_are_answered_by_stored_alone() {
    let world = world();
    let (mut expected, mut reader) = (Expected::default(), Reader::default());
    let (mut finished, mut faults, mut out) = (Vec::new(), Faults::default(), Vec::new());
    expected.set(&world, KeyIndex(1), 0, &mut out);
    expected.set(&world, KeyIndex(2), 0, &mut out);
    assert!(out.starts_with(b"set at://did:plc:") && out.ends_with(b"\r\n"));
    let mut context = Context { world: &world, finished: &mut finished, faults: &mut faults };
    reader.feed(b"STORED\r\nNOT_STORED\r\n", &mut expected, &mut context).expect("in step");
    assert_eq!((finished[0].failed, finished[1].failed), (false, true));
    assert_eq!(expected.depth(), 0);
}
