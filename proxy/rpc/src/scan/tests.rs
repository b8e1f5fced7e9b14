use super::*;
use crate::wire::{write_len, write_number};

const fn step(number: u32, elements: Elements) -> Step {
    Step { number, elements }
}

const KEYS: Step = step(1, Elements::Delimited);

fn plan(paths: &[&[Step]]) -> Arc<ScanPlan> {
    let paths: Vec<Vec<Step>> = paths.iter().map(|path| path.to_vec()).collect();
    Arc::new(ScanPlan::new(&paths).unwrap_or_default())
}

/// Counts with every cut into two pieces, and byte by byte; all must agree.
fn count(plan: &Arc<ScanPlan>, message: &[u8]) -> Result<Vec<u64>, Malformed> {
    let run = |pieces: &[&[u8]]| {
        let mut scan = Scan::new(Arc::clone(plan));
        for piece in pieces {
            scan.feed(piece)?;
        }
        scan.finish().map(|counts| {
            assert_eq!(scan.bytes(), message.len() as u64);
            counts.by_path().to_vec()
        })
    };
    let whole = run(&[message]);
    for cut in 0..=message.len() {
        let (head, tail) = message.split_at(cut);
        assert_eq!(run(&[head, tail]), whole, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = message.chunks(1).collect();
    assert_eq!(run(&bytes), whole);
    whole
}

#[test]
fn keys_are_counted_and_the_rest_is_passed_over() {
    let mut message = Vec::new();
    for n in 0..50 {
        write_len(1, &[b'a'; 70], &mut message);
        write_number(2, n * 1000, &mut message);
        write_len(3, b"\x0a\x01x", &mut message);
        message.extend([0x25, 1, 2, 3, 4, 0x29, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
    assert_eq!(count(&plan(&[&[KEYS]]), &message), Ok(vec![50]));
    assert_eq!(count(&plan(&[]), &message), Ok(vec![]));
    assert_eq!(count(&plan(&[&[KEYS]]), &[]), Ok(vec![0]));
    let counted = plan(&[&[step(3, Elements::Delimited), KEYS], &[KEYS], &[step(2, Elements::Varint)]]);
    assert_eq!(count(&counted, &message), Ok(vec![50, 50, 50]));
}

#[test]
fn packed_and_unpacked_numbers_count_alike() {
    let mut message = Vec::new();
    write_len(4, &[1, 0x96, 0x01, 0], &mut message);
    write_number(4, 300, &mut message);
    write_len(4, &[], &mut message);
    write_len(5, &[0; 12], &mut message);
    message.extend([0x2D, 0, 0, 0, 0]);
    write_len(6, &[0; 16], &mut message);
    let counted =
        plan(&[&[step(4, Elements::Varint)], &[step(5, Elements::Fixed32)], &[step(6, Elements::Fixed64)]]);
    assert_eq!(count(&counted, &message), Ok(vec![4, 4, 2]));
    for (number, run, cause) in [
        (4, &[0x80][..], Malformed::Truncated),
        (4, &[0xFF; 10], Malformed::Varint),
        (5, &[0; 5], Malformed::PackedLength),
        (6, &[0; 4], Malformed::PackedLength),
    ] {
        let mut message = Vec::new();
        write_len(number, run, &mut message);
        assert_eq!(count(&counted, &message), Err(cause));
    }
}

#[test]
fn elements_inside_messages_count_over_all_of_them() {
    let mut inner = Vec::new();
    write_len(2, b"x", &mut inner);
    write_len(2, b"", &mut inner);
    let mut message = Vec::new();
    write_len(1, &inner, &mut message);
    write_len(1, &[], &mut message);
    write_len(1, &inner, &mut message);
    let counted = plan(&[&[KEYS, step(2, Elements::Delimited)], &[KEYS]]);
    assert_eq!(count(&counted, &message), Ok(vec![4, 3]));

    // What is inside must end with it: a tag, a varint, a length and a number cut off by the end around them.
    for (inner, cause) in [
        (&[0x92][..], Malformed::Truncated),
        (&[0x08], Malformed::Truncated),
        (&[0x08, 0x80], Malformed::Truncated),
        (&[0x12], Malformed::Truncated),
        (&[0x12, 0x05, b'x'], Malformed::LengthBeyondEnd),
        (&[0x1D, 0, 0], Malformed::Truncated),
        (&[0x19, 0, 0, 0, 0], Malformed::Truncated),
    ] {
        let mut message = Vec::new();
        write_len(1, inner, &mut message);
        // More follows, which must not be taken for the missing part.
        write_len(1, &[0x12, 0x01, b'x'], &mut message);
        assert_eq!(count(&counted, &message), Err(cause), "{inner:x?}");
    }
}

#[test]
fn another_wire_type_for_a_counted_field_is_an_error() {
    let counted = plan(&[&[KEYS], &[step(4, Elements::Varint)]]);
    assert_eq!(count(&counted, &[0x08, 0x01]), Err(Malformed::OtherWireType));
    assert_eq!(count(&counted, &[0x25, 0, 0, 0, 0]), Err(Malformed::OtherWireType));
    assert_eq!(count(&counted, &[0x28, 0x01]), Ok(vec![0, 0]));
    assert_eq!(count(&counted, &[0x0B]), Err(Malformed::Group));
    assert_eq!(count(&counted, &[0x0A, 0x05, 0x01]), Err(Malformed::Truncated));
}

#[test]
fn an_error_stays() {
    let mut scan = Scan::new(plan(&[&[KEYS]]));
    assert_eq!(scan.feed(&[0x0A, 0x00, 0x0B]), Err(Malformed::Group));
    assert_eq!(scan.feed(&[]), Err(Malformed::Group));
    assert_eq!(scan.finish(), Err(Malformed::Group));
    assert_eq!(scan.counts().total(), 1);
    scan.restart();
    assert_eq!((scan.feed(&[0x0A, 0x00]), scan.bytes()), (Ok(()), 2));
    assert_eq!(scan.finish().map(|counts| counts.largest()), Ok(1));
}

#[test]
fn plans_have_bounds() {
    let many = vec![vec![KEYS]; COUNTS_MAX + 1];
    assert_eq!(ScanPlan::new(&many), Err(PlanError::TooManyPaths));
    assert_eq!(ScanPlan::new(&[vec![]]), Err(PlanError::PathLength));
    assert_eq!(ScanPlan::new(&[vec![KEYS; DEPTH_MAX + 2]]), Err(PlanError::PathLength));
    assert_eq!(ScanPlan::new(&[vec![step(4, Elements::Varint), KEYS]]), Err(PlanError::NoMessage));
    assert_eq!(ScanPlan::new(&[vec![KEYS], vec![step(1, Elements::Varint)]]), Err(PlanError::NoMessage));
    // The deepest path that is allowed.
    let mut message = b"x".to_vec();
    for _ in 0..=DEPTH_MAX {
        let inner = std::mem::take(&mut message);
        write_len(1, &inner, &mut message);
    }
    assert_eq!(count(&plan(&[&[KEYS; DEPTH_MAX + 1]]), &message), Ok(vec![1]));
}
