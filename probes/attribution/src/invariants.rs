//! What must hold for any bytes, shared by the property tests and the fuzz target. Panics where it does not hold.
//!
//! Not part of the stable surface of the crate.

use crate::{
    ASK_BODY_MAX, HEAD, Head, Kind, QUESTIONS_MAX, REPLY_BODY_MAX, Reply, VERSION, decode_ask, decode_reply,
    encode_answers, encode_ask, encode_refusal,
};

/// Reads a stream of frames as either side would, to its end or to what closes the connection: what is read is written the
/// same, no part of it reads as the whole, and no more comes out than the bounds allow. Returns how many frames could be read.
pub fn read_stream(mut stream: &[u8]) -> usize {
    let mut readable = 0;
    while let Some((bytes, rest)) = stream.split_first_chunk::<HEAD>() {
        let Ok(head) = Head::read(bytes, ASK_BODY_MAX.max(REPLY_BODY_MAX)) else { break };
        let Some((body, rest)) = rest.split_at_checked(head.length as usize) else { break };
        stream = rest;
        readable += usize::from(match head.kind {
            Kind::Ask => question_frame(head, body),
            _ => reply_frame(head, body),
        });
    }
    readable
}

fn question_frame(head: Head, body: &[u8]) -> bool {
    let Ok(questions) = decode_ask(body) else { return false };
    assert!(questions.len() <= QUESTIONS_MAX && body.len() <= ASK_BODY_MAX, "{}", questions.len());
    let mut again = Vec::new();
    assert_eq!(encode_ask(&mut again, &questions), questions.len());
    assert_eq!(&again[HEAD..], body, "an endpoint is written in one way");
    assert!(questions.iter().all(|question| question.plain() == *question));
    assert_eq!(again[..4], head.length.to_be_bytes());
    let cuts = body.len().saturating_sub(1);
    assert!(decode_ask(&body[..cuts]).is_err(), "no question can do without a byte");
    assert!(decode_ask(&[body, &[0]].concat()).is_err(), "nothing follows the last one");
    true
}

fn reply_frame(head: Head, body: &[u8]) -> bool {
    let Ok(reply) = decode_reply(head, body) else { return false };
    let mut again = Vec::new();
    let is_whole = match &reply {
        Reply::Answers(answers) => {
            assert_eq!((head.kind, head.version), (Kind::Answers, VERSION));
            assert!(answers.len() <= QUESTIONS_MAX && body.len() <= REPLY_BODY_MAX, "{}", answers.len());
            encode_answers(&mut again, answers);
            true
        }
        Reply::Refusal(refusal) => {
            assert_eq!(head.kind, Kind::Refusal);
            encode_refusal(&mut again, refusal);
            false // a later version may say more
        }
    };
    let (bytes, body_again) = again.split_first_chunk::<HEAD>().expect("a frame has a head");
    let head_again = Head::read(bytes, REPLY_BODY_MAX).expect("within the bounds");
    assert_eq!(head_again.length as usize, body_again.len());
    assert_eq!(decode_reply(head_again, body_again).as_ref(), Ok(&reply), "written the same");
    assert!(body_again.len() <= body.len());
    if is_whole {
        assert_eq!(body_again.len(), body.len());
        assert!(decode_reply(head, &body[..body.len() - 1]).is_err(), "no answer can do without a byte");
        assert!(decode_reply(head, &[body, &[0]].concat()).is_err(), "nothing follows the last one");
    }
    true
}
