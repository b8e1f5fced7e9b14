//! Bytes of any kind, and messages with flipped bits or cut short: never a panic, and the same however they are cut.

use proptest::prelude::*;
use weir_rpc::invariants::check_message;
use weir_rpc::wire::{write_len, write_number};

/// Messages that are nearly right: known fields, unknown ones, fields inside fields.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop::collection::vec(any::<u8>(), 0..40);
    let leaf = prop::collection::vec((1_u32..7, bytes, any::<u64>(), 0_u8..5), 0..12).prop_map(|fields| {
        let mut out = Vec::new();
        for (number, bytes, value, kind) in fields {
            match kind {
                0 => write_number(number, value, &mut out),
                1 => write_number(2, value >> 50, &mut out),
                2 => out.extend([&[0x1D][..], &(value as u32).to_le_bytes()].concat()),
                3 => write_len(4, &[0; 16], &mut out),
                _ => write_len(1, &bytes, &mut out),
            }
        }
        out
    });
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop::collection::vec((prop_oneof![Just(5_u32), Just(1)], inner), 0..4).prop_map(|messages| {
            let mut out = Vec::new();
            messages.iter().for_each(|(number, message)| write_len(*number, message, &mut out));
            out
        })
    })
}

/// Text that is nearly JSON.
fn json() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just("\"uris\""),
        Just("\"a\""),
        Just("\"b\""),
        Just("\"\\u0061\""),
        Just("null"),
        Just("true"),
        Just("1"),
        Just("-0.5e1"),
        Just(" "),
        Just("x"),
    ];
    prop::collection::vec(token, 0..30).prop_map(|tokens| tokens.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes(cuts in prop::collection::vec(any::<u8>(), 0..6), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check_message(&cuts, &bytes);
    }

    #[test]
    fn nearly_messages(
        cuts in prop::collection::vec(0_u8..60, 0..6),
        message in message(),
        flips in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        keep in any::<prop::sample::Index>(),
        cut_short in any::<bool>(),
    ) {
        check_message(&cuts, &message);
        let mut broken = message;
        for flip in flips {
            if !broken.is_empty() {
                let bit = flip.index(broken.len() * 8);
                broken[bit / 8] ^= 1 << (bit % 8);
            }
        }
        if cut_short && !broken.is_empty() {
            broken.truncate(keep.index(broken.len()));
        }
        check_message(&cuts, &broken);
    }

    #[test]
    fn nearly_json(cuts in prop::collection::vec(0_u8..20, 0..4), text in json()) {
        check_message(&cuts, &text);
    }
}
