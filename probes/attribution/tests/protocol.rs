//! The bytes of version 1, which never change, and what is done with bytes that are none of them.

use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use weir_attribution::{
    ASK_BODY_MAX, Answer, Garbled, HEAD, Head, Kind, NAME_MAX, QUESTIONS_MAX, Question, REASON_MAX,
    REPLY_BODY_MAX, Refusal, RefusalCode, Reply, Seen, UNIT_MAX, VERSION, decode_ask, decode_reply,
    encode_answers, encode_ask, encode_refusal, invariants,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn split(frame: &[u8], most: usize) -> (Head, &[u8]) {
    let (head, body) = frame.split_first_chunk::<HEAD>().expect("a head");
    let head = Head::read(head, most).expect("a head of ours");
    assert_eq!(head.length as usize, body.len());
    (head, body)
}

fn seen() -> Seen {
    Seen {
        pid: 4_242,
        uid: Some(1_000),
        age: Duration::from_micros(300_000),
        name: "importer".to_owned(),
        unit: Some("importer.service".to_owned()),
    }
}

#[test]
fn a_question_is_these_bytes() {
    let question = Question {
        client: "127.0.0.1:40000".parse().expect("an address"),
        weir: "[::1]:11211".parse().expect("an address"),
    };
    let mut frame = Vec::new();
    assert_eq!(encode_ask(&mut frame, &[question]), 1);
    let golden = [
        "00000026",
        "7761",
        "01",
        "01", // 38 bytes, "wa", version, ask
        "0001",
        "00000000000000000000ffff7f000001",
        "9c40",
        "00000000000000000000000000000001",
        "2bcb",
    ];
    assert_eq!(hex(&frame), golden.concat());
    let (head, body) = split(&frame, ASK_BODY_MAX);
    assert_eq!((head.version, head.kind), (VERSION, Kind::Ask));
    assert_eq!(decode_ask(body), Ok(vec![question]));
}

#[test]
fn answers_are_these_bytes() {
    let nobody = Seen { pid: 7, uid: None, age: Duration::ZERO, name: "x".to_owned(), unit: None };
    let answers = vec![Answer::Unknown, Answer::Seen(seen()), Answer::NotYours, Answer::Seen(nobody)];
    let mut frame = Vec::new();
    encode_answers(&mut frame, &answers);
    let golden = [
        "00000045",
        "7761",
        "01",
        "02",
        "0004",
        "00", // not known
        "01",
        "00001092",
        "01",
        "000003e8",
        "00000000000493e0",
        "08",
        "696d706f72746572",
        "10",
        "696d706f727465722e73657276696365", // importer.service
        "02",
        "01",
        "00000007",
        "00",
        "00000000",
        "0000000000000000",
        "01",
        "78",
        "00",
    ];
    assert_eq!(hex(&frame), golden.concat());
    let (head, body) = split(&frame, REPLY_BODY_MAX);
    assert_eq!(decode_reply(head, body), Ok(Reply::Answers(answers)));
}

#[test]
fn a_refusal_is_these_bytes_and_is_read_whatever_its_version() {
    let refusal = Refusal { code: RefusalCode::Version, reason: "version 2 is spoken here".to_owned() };
    let mut frame = Vec::new();
    encode_refusal(&mut frame, &refusal);
    let text = "76657273696f6e20322069732073706f6b656e2068657265";
    assert_eq!(hex(&frame), ["0000001a", "7761", "01", "03", "01", "18", text].concat());
    let (mut head, body) = split(&frame, REPLY_BODY_MAX);
    head.version = 200;
    let later = [body, b"what version 200 adds"].concat();
    assert_eq!(decode_reply(head, &later), Ok(Reply::Refusal(refusal)));
    head.kind = Kind::Answers;
    assert_eq!(
        decode_reply(head, &[0, 0]),
        Err(Garbled::Value),
        "answers of another version are not guessed"
    );
}

#[test]
fn bounds_hold_on_both_sides() {
    let question = Question {
        client: "10.0.0.1:1".parse().expect("an address"),
        weir: "10.0.0.2:2".parse().expect("an address"),
    };
    let mut frame = Vec::new();
    assert_eq!(encode_ask(&mut frame, &vec![question; 1_000]), QUESTIONS_MAX);
    let (_, body) = split(&frame, ASK_BODY_MAX);
    assert_eq!(body.len(), ASK_BODY_MAX, "the largest frame that asks");

    let largest = Seen { name: "n".repeat(300), unit: Some("u".repeat(UNIT_MAX)), ..seen() };
    let mut frame = Vec::new();
    encode_answers(&mut frame, &vec![Answer::Seen(largest); 1_000]);
    let (head, body) = split(&frame, REPLY_BODY_MAX);
    assert_eq!(body.len(), REPLY_BODY_MAX, "the largest frame that answers");
    let Ok(Reply::Answers(answers)) = decode_reply(head, body) else { panic!("answers") };
    let Answer::Seen(first) = &answers[0] else { panic!("a process") };
    assert_eq!((first.name.len(), answers.len()), (NAME_MAX, QUESTIONS_MAX));

    let mut head = *b"\0\0\0\0wa\x01\x01";
    head[..4].copy_from_slice(&(ASK_BODY_MAX as u32 + 1).to_be_bytes());
    let length = ASK_BODY_MAX as u32 + 1;
    assert_eq!(Head::read(&head, ASK_BODY_MAX), Err(Garbled::TooLong { length }));
    assert_eq!(Head::read(b"GET / HT", ASK_BODY_MAX), Err(Garbled::NotAFrame));
    assert_eq!(decode_ask(&[0xff, 0xff]), Err(Garbled::TooMany { count: 0xffff }));
    assert_eq!(decode_ask(&[0, 1, 9]), Err(Garbled::Cut));
    assert_eq!(decode_ask(&[0, 0, 9]), Err(Garbled::Excess));

    // Cut where a character ends, and never half a unit.
    let wide = Seen { name: "ä".repeat(40), unit: Some("u".repeat(UNIT_MAX + 1)), ..seen() };
    let mut frame = Vec::new();
    encode_answers(&mut frame, &[Answer::Seen(wide)]);
    let (head, body) = split(&frame, REPLY_BODY_MAX);
    let cut = Seen { name: "ä".repeat(NAME_MAX / 2), unit: None, ..seen() };
    assert_eq!(decode_reply(head, body), Ok(Reply::Answers(vec![Answer::Seen(cut)])));
    let long = Refusal { code: RefusalCode::Other(99), reason: "r".repeat(300) };
    let mut frame = Vec::new();
    encode_refusal(&mut frame, &long);
    let (head, body) = split(&frame, REPLY_BODY_MAX);
    let Ok(Reply::Refusal(read)) = decode_reply(head, body) else { panic!("a refusal") };
    assert_eq!((read.code, read.reason.len()), (RefusalCode::Other(99), REASON_MAX));
}

fn endpoint() -> impl Strategy<Value = SocketAddr> {
    let address = prop_oneof![
        any::<[u8; 4]>().prop_map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes))),
        any::<[u8; 16]>().prop_map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))),
    ];
    (address, any::<u16>()).prop_map(|(address, port)| SocketAddr::new(address, port))
}

fn question() -> impl Strategy<Value = Question> {
    (endpoint(), endpoint()).prop_map(|(client, weir)| Question { client, weir })
}

fn answer() -> impl Strategy<Value = Answer> {
    let seen = (any::<u32>(), any::<Option<u32>>(), any::<u64>(), ".{0,16}", "[ -~]{1,128}", any::<bool>());
    let seen = seen.prop_map(|(pid, uid, age, name, unit, has_unit)| {
        let age = Duration::from_micros(age);
        Answer::Seen(Seen { pid, uid, age, name, unit: has_unit.then_some(unit) })
    });
    prop_oneof![Just(Answer::Unknown), Just(Answer::NotYours), seen]
}

proptest! {
    #[test]
    fn questions_come_back_as_they_were_sent(questions in prop::collection::vec(question(), 0..300)) {
        let mut frame = vec![1, 2, 3]; // appended to what is there
        let sent = encode_ask(&mut frame, &questions);
        let (_, body) = split(&frame[3..], ASK_BODY_MAX);
        let plain: Vec<_> = questions.iter().take(sent).map(|question| question.plain()).collect();
        prop_assert_eq!(decode_ask(body), Ok(plain));
    }

    #[test]
    fn answers_come_back_as_they_were_sent(answers in prop::collection::vec(answer(), 0..256)) {
        let mut frame = Vec::new();
        encode_answers(&mut frame, &answers);
        let (head, body) = split(&frame, REPLY_BODY_MAX);
        prop_assert_eq!(decode_reply(head, body), Ok(Reply::Answers(answers)));
    }

    #[test]
    fn frames_one_after_the_other_hold_what_the_fuzz_target_asks(
        questions in prop::collection::vec(question(), 0..9),
        answers in prop::collection::vec(answer(), 0..9),
        reason in ".{0,80}", at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut stream = Vec::new();
        encode_ask(&mut stream, &questions);
        encode_answers(&mut stream, &answers);
        encode_refusal(&mut stream, &Refusal { code: RefusalCode::Busy, reason });
        prop_assert_eq!(invariants::read_stream(&stream), 3);
        let at = at.index(stream.len());
        stream[at] = byte;
        invariants::read_stream(&stream);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), kind in 0..5_u8, version in 0..3_u8) {
        let _ = decode_ask(&bytes);
        let mut head = *b"\0\0\0\0wa\0\0";
        (head[6], head[7]) = (version, kind);
        let head = Head::read(&head, REPLY_BODY_MAX).expect("a head");
        let _ = decode_reply(head, &bytes);
        if let Some((head, body)) = bytes.split_first_chunk::<HEAD>()
            && let Ok(head) = Head::read(head, ASK_BODY_MAX)
        {
            let _ = decode_reply(head, body);
        }
    }

    #[test]
    fn a_frame_with_one_byte_changed_or_cut_is_read_or_refused(
        answers in prop::collection::vec(answer(), 1..8), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut frame = Vec::new();
        encode_answers(&mut frame, &answers);
        let (head, body) = split(&frame, REPLY_BODY_MAX);
        let at = at.index(body.len());
        let mut changed = body.to_vec();
        changed[at] = byte;
        if let Ok(Reply::Answers(read)) = decode_reply(head, &changed) {
            prop_assert!(read.len() <= QUESTIONS_MAX);
        }
        prop_assert!(decode_reply(head, &body[..at]).is_err(), "no answer can do without a byte");
    }
}
