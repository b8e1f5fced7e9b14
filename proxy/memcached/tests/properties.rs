//! Properties over generated input: what is encoded is decoded, pieces do not matter, no bytes cause a panic.

use proptest::collection::vec;
use proptest::prelude::*;
use weir_memcached::invariants::{Event, decode_stream, read_replies};
use weir_memcached::{DecodeLimits, KEY_MAX, Request, RequestDecoder, Step, Verb};

/// Small, so that generated input reaches the caps.
const LIMITS: DecodeLimits = DecodeLimits { line: 17_000, value: 300 };

const STORES: [Verb; 6] = [Verb::Set, Verb::Add, Verb::Replace, Verb::Append, Verb::Prepend, Verb::Cas];

/// A command as a client library would see it.
#[derive(Clone, Debug)]
enum Command {
    Retrieve { verb: Verb, exptime: i64, keys: Vec<Vec<u8>> },
    Store { verb: Verb, key: Vec<u8>, flags: u32, exptime: i64, cas: u64, data: Vec<u8>, noreply: bool },
    Arithmetic { verb: Verb, key: Vec<u8>, delta: u64, noreply: bool },
    Touch { key: Vec<u8>, exptime: i64, noreply: bool },
    Delete { key: Vec<u8>, noreply: bool },
    Meta { verb: Verb, key: Vec<u8>, flags: Vec<(u8, String)>, data: Vec<u8> },
    Flush { delay: u32, noreply: bool },
    Plain(Verb),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![8 => b'!'..=b'~', 1 => 0x80..=0xff_u8];
    prop_oneof![
        18 => vec(byte.clone(), 1..12),
        2 => vec(byte, 1..=KEY_MAX),
        1 => Just(b"noreply".to_vec()),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let data = vec(any::<u8>(), 0..=LIMITS.value);
    let flag = (prop::sample::select(b"vksfOPLuqcthlCTNRMIEDJFx".to_vec()), "[0-9a-z]{0,5}");
    prop_oneof![
        (
            prop::sample::select(vec![Verb::Get, Verb::Gets, Verb::Gat, Verb::Gats]),
            any::<i64>(),
            vec(key(), 1..30)
        )
            .prop_map(|(verb, exptime, keys)| Command::Retrieve { verb, exptime, keys }),
        (
            prop::sample::select(STORES.to_vec()),
            key(),
            any::<u32>(),
            any::<i64>(),
            any::<u64>(),
            data.clone(),
            any::<bool>()
        )
            .prop_map(|(verb, key, flags, exptime, cas, data, noreply)| Command::Store {
                verb,
                key,
                flags,
                exptime,
                cas,
                data,
                noreply
            }),
        (prop::sample::select(vec![Verb::Incr, Verb::Decr]), key(), any::<u64>(), any::<bool>())
            .prop_map(|(verb, key, delta, noreply)| Command::Arithmetic { verb, key, delta, noreply }),
        (key(), any::<i64>(), any::<bool>()).prop_map(|(key, exptime, noreply)| Command::Touch {
            key,
            exptime,
            noreply
        }),
        (key(), any::<bool>()).prop_map(|(key, noreply)| Command::Delete { key, noreply }),
        (prop::sample::select(vec![Verb::Mg, Verb::Ms, Verb::Md, Verb::Ma]), key(), vec(flag, 0..10), data)
            .prop_map(|(verb, key, mut flags, data)| {
                let mut seen = Vec::new();
                flags.retain(|(letter, _)| {
                    !seen.contains(letter) && {
                        seen.push(*letter);
                        true
                    }
                });
                Command::Meta { verb, key, flags, data }
            }),
        (0..=0x7fff_ffff_u32, any::<bool>()).prop_map(|(delay, noreply)| Command::Flush { delay, noreply }),
        prop::sample::select(vec![Verb::Version, Verb::Quit, Verb::Shutdown, Verb::Mn])
            .prop_map(Command::Plain),
    ]
}

fn encode(command: &Command) -> Vec<u8> {
    let mut out = Vec::new();
    let word = |out: &mut Vec<u8>, bytes: &[u8]| {
        if !out.is_empty() {
            out.push(b' ');
        }
        out.extend_from_slice(bytes);
    };
    let (quiet, data) = match command {
        Command::Retrieve { verb, exptime, keys } => {
            word(&mut out, verb.name().as_bytes());
            if matches!(verb, Verb::Gat | Verb::Gats) {
                word(&mut out, exptime.to_string().as_bytes());
            }
            keys.iter().for_each(|key| word(&mut out, key));
            (false, None)
        }
        Command::Store { verb, key, flags, exptime, cas, data, noreply } => {
            word(&mut out, verb.name().as_bytes());
            word(&mut out, key);
            word(&mut out, format!("{flags} {exptime} {}", data.len()).as_bytes());
            if *verb == Verb::Cas {
                word(&mut out, cas.to_string().as_bytes());
            }
            (*noreply, Some(data))
        }
        Command::Arithmetic { verb, key, delta, noreply } => {
            word(&mut out, verb.name().as_bytes());
            word(&mut out, key);
            word(&mut out, delta.to_string().as_bytes());
            (*noreply, None)
        }
        Command::Touch { key, exptime, noreply } => {
            word(&mut out, b"touch");
            word(&mut out, key);
            word(&mut out, exptime.to_string().as_bytes());
            (*noreply, None)
        }
        Command::Delete { key, noreply } => {
            word(&mut out, b"delete");
            word(&mut out, key);
            (*noreply, None)
        }
        Command::Meta { verb, key, flags, data } => {
            word(&mut out, verb.name().as_bytes());
            word(&mut out, key);
            if *verb == Verb::Ms {
                word(&mut out, data.len().to_string().as_bytes());
            }
            for (letter, argument) in flags {
                word(&mut out, &[&[*letter], argument.as_bytes()].concat());
            }
            (false, (*verb == Verb::Ms).then_some(data))
        }
        Command::Flush { delay, noreply } => {
            word(&mut out, format!("flush_all {delay}").as_bytes());
            (*noreply, None)
        }
        Command::Plain(verb) => {
            word(&mut out, verb.name().as_bytes());
            (false, None)
        }
    };
    if quiet {
        word(&mut out, b"noreply");
    }
    out.extend_from_slice(b"\r\n");
    if let Some(data) = data {
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn same(command: &Command, request: &Request<'_>) -> bool {
    match (command, request) {
        (Command::Retrieve { verb, exptime, keys }, Request::Retrieve(got)) => {
            let touches = matches!(verb, Verb::Gat | Verb::Gats);
            got.verb == *verb
                && got.exptime.map(<[u8]>::to_vec) == touches.then(|| exptime.to_string().into_bytes())
                && got.keys.len() == keys.len()
                && got.keys.clone().eq(keys.iter().map(Vec::as_slice))
        }
        (Command::Store { verb, key, flags, exptime, cas, data, noreply }, Request::Store(got)) => {
            let mut head = [verb.name().as_bytes(), b" ", key, b" "].concat();
            head.extend_from_slice(format!("{flags} {exptime} {}", data.len()).as_bytes());
            if *verb == Verb::Cas {
                head.extend_from_slice(format!(" {cas}").as_bytes());
            }
            (got.verb, got.key, got.noreply) == (*verb, key, *noreply)
                && got.head == head
                && got.data.strip_suffix(b"\r\n") == Some(data)
        }
        (Command::Arithmetic { verb, key, noreply, .. }, Request::Mutate(got)) => {
            (got.verb, got.key, got.noreply) == (*verb, key, *noreply)
        }
        (Command::Touch { key, noreply, .. }, Request::Mutate(got)) => {
            (got.verb, got.key, got.noreply) == (Verb::Touch, key, *noreply)
        }
        (Command::Delete { key, noreply }, Request::Mutate(got)) => {
            (got.verb, got.key, got.noreply) == (Verb::Delete, key, *noreply)
        }
        (Command::Meta { verb, key, flags, data }, Request::Meta(got)) => {
            got.verb == *verb
                && got.key == key
                && got.quiet == flags.iter().any(|(letter, _)| *letter == b'q')
                && got.data.map(|data| &data[..data.len() - 2]) == (*verb == Verb::Ms).then_some(data)
        }
        (Command::Flush { delay, noreply }, Request::FlushAll { delay: got, noreply: quiet }) => {
            (got, quiet) == (delay, noreply)
        }
        (Command::Plain(verb), request) => request.verb() == *verb,
        _ => false,
    }
}

/// Bytes that look like the protocol often enough to reach deep.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "get ",
        "gets ",
        "gat ",
        "set ",
        "cas ",
        "append ",
        "incr ",
        "touch ",
        "delete ",
        "mg ",
        "ms ",
        "md ",
        "ma ",
        "me ",
        "mn",
        "flush_all ",
        "stats ",
        "verbosity ",
        "version",
        "quit",
        "watch",
        "noreply",
        "noreply ",
        "a ",
        "YQ== ",
        "b ",
        "q ",
        "v ",
        " ",
        "0 ",
        "1 ",
        "2 ",
        "3 ",
        "-1 ",
        "301 ",
        "2147483646 ",
        "\r\n",
        "\r\n",
        "\r\n",
        "\n",
        "x\r\n",
        "xx\r\n",
        "\t",
        "\u{0}",
        " HTTP/1.1",
    ]);
    let piece = prop_oneof![
        20 => word.prop_map(|word| word.as_bytes().to_vec()),
        2 => vec(any::<u8>(), 0..4),
        1 => (prop::sample::select(vec![250_usize, 251, 2030, 2048, 16_380, 17_100]), prop::sample::select(vec![b'k', b' ']))
            .prop_map(|(count, byte)| vec![byte; count]),
        3 => command().prop_map(|command| encode(&command)),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn encoded_commands_are_decoded(commands in vec(command(), 1..8)) {
        let stream: Vec<u8> = commands.iter().flat_map(encode).collect();
        let mut decoder = RequestDecoder::new(LIMITS);
        let mut rest = stream.as_slice();
        for command in &commands {
            match decoder.decode(rest) {
                Step::Request { request, consumed } => {
                    prop_assert!(same(command, &request), "{command:?} became {request:?}");
                    rest = &rest[consumed..];
                }
                other => prop_assert!(false, "{command:?} became {other:?}"),
            }
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn commands_in_pieces_are_the_same(
        commands in vec(command(), 1..5),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let stream: Vec<u8> = commands.iter().flat_map(encode).collect();
        let cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        let whole = decode_stream(&stream, LIMITS, &[]);
        prop_assert_eq!(whole.len(), commands.len() + 1);
        prop_assert_eq!(&whole, &decode_stream(&stream, LIMITS, &cuts));
        let every: Vec<usize> = (0..stream.len()).collect();
        prop_assert_eq!(&whole, &decode_stream(&stream, LIMITS, &every));
    }

    #[test]
    fn noise_in_pieces_is_the_same(stream in noise(), cuts in vec(any::<prop::sample::Index>(), 0..12)) {
        let cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        let whole = decode_stream(&stream, LIMITS, &[]);
        prop_assert_eq!(&whole, &decode_stream(&stream, LIMITS, &cuts));
        let consumed: usize = whole.iter().map(|event| match event {
            Event::Request(_, bytes) | Event::Reject(_, bytes) => *bytes,
            Event::Binary(_) => 0,
            Event::End { left, .. } => *left,
        }).sum();
        if !whole.iter().any(|event| matches!(event, Event::Binary(_))) {
            prop_assert_eq!(consumed, stream.len());
        }
    }

    #[test]
    fn random_bytes_do_no_harm(stream in vec(any::<u8>(), 0..400), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(stream.len() + 1);
        prop_assert_eq!(decode_stream(&stream, LIMITS, &[]), decode_stream(&stream, LIMITS, &[cut]));
        read_replies(&stream);
    }

    #[test]
    fn mutated_replies_do_no_harm(
        parts in vec(prop::sample::select(vec![
            "VALUE key 0 3\r\nabc\r\n", "VALUE k 4294967295 0 18446744073709551615\r\n\r\n", "END\r\n", "VA 2 t-1\r\nhi\r\n",
            "HD\r\n", "EN\r\n", "STORED\r\n", "17\r\n", "SERVER_ERROR x\r\n", "STAT a b\r\n", "ME k exp=-1\r\n",
        ]), 1..8),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut stream = parts.concat().into_bytes();
        read_replies(&stream);
        for (at, byte) in edits {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        read_replies(&stream);
    }
}

/// A retrieval of 20,000 keys in pieces of 1,460 bytes, as a network brings it: every piece is looked at once.
#[test]
fn a_long_line_in_pieces() {
    let keys: Vec<String> =
        (0..20_000).map(|n| format!("at://did:plc:abcdefghijklmnop/app.bsky.feed.post/{n:08}")).collect();
    let line = format!("get {}\r\n", keys.join(" "));
    let mut decoder = RequestDecoder::default();
    let mut end = 0;
    loop {
        end = (end + 1460).min(line.len());
        match decoder.decode(&line.as_bytes()[..end]) {
            Step::Incomplete { needed } => assert!(needed == end + 1 && end < line.len()),
            Step::Request { request: Request::Retrieve(retrieve), consumed } => {
                assert_eq!((consumed, end), (line.len(), line.len()));
                assert_eq!(retrieve.keys.len(), keys.len());
                assert!(retrieve.keys.eq(keys.iter().map(String::as_bytes)));
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn needed_is_exact_for_data() {
    let mut decoder = RequestDecoder::default();
    let store = b"set key 0 0 10\r\n0123456789\r\n";
    for end in 16..store.len() {
        assert!(
            matches!(decoder.decode(&store[..end]), Step::Incomplete { needed } if needed == store.len()),
            "{end} bytes"
        );
    }
    assert!(matches!(decoder.decode(store), Step::Request { consumed, .. } if consumed == store.len()));
}

#[test]
fn a_decoder_is_small() {
    assert!(size_of::<RequestDecoder>() <= 48);
}
