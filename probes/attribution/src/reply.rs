//! Answers and refusals.

use crate::frame::{self, Head, Kind, Rest};
use crate::{Garbled, NAME_MAX, QUESTIONS_MAX, REASON_MAX, UNIT_MAX, VERSION};
use std::time::Duration;

const UNKNOWN: u8 = 0;
const SEEN: u8 = 1;
const NOT_YOURS: u8 = 2;

/// Longest answer: what it is, pid, whether there is a user, user, age, name, unit.
pub(crate) const ANSWER_MAX: usize = 1 + 4 + 1 + 4 + 8 + (1 + NAME_MAX) + (1 + UNIT_MAX);

/// The process at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its id in the pid namespace of `weir-probes`.
    pub pid: u32,
    /// Its user.
    pub uid: Option<u32>,
    /// How long ago the connection was last seen as this process's; whole microseconds on the wire.
    pub age: Duration,
    /// Its short name. An outside string, as the process gave it to itself.
    pub name: String,
    /// Its systemd unit, container or pod.
    pub unit: Option<String>,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nobody saw that connection.
    Unknown,
    /// This one's.
    Seen(Seen),
    /// There is no listener of the asking process at that address.
    NotYours,
}

/// Why a peer gets no answer at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalCode {
    /// The two do not speak the same version.
    Version,
    /// The peer's user may not ask.
    User,
    /// Too many are connected already.
    Busy,
    /// What came is no question.
    Garbled,
    /// What came took too long.
    Slow,
    /// Something that this version does not know.
    Other(u8),
}

impl RefusalCode {
    fn of(byte: u8) -> RefusalCode {
        match byte {
            1 => RefusalCode::Version,
            2 => RefusalCode::User,
            3 => RefusalCode::Busy,
            4 => RefusalCode::Garbled,
            5 => RefusalCode::Slow,
            other => RefusalCode::Other(other),
        }
    }

    fn byte(self) -> u8 {
        match self {
            RefusalCode::Version => 1,
            RefusalCode::User => 2,
            RefusalCode::Busy => 3,
            RefusalCode::Garbled => 4,
            RefusalCode::Slow => 5,
            RefusalCode::Other(byte) => byte,
        }
    }
}

/// A refusal, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of reason.
    pub code: RefusalCode,
    /// The reason, for an operator: an outside string to whoever reads it.
    pub reason: String,
}

/// What comes back for a frame of questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// One for each question, in order.
    Answers(Vec<Answer>),
    /// None, and the connection ends.
    Refusal(Refusal),
}

/// Appends a frame of answers; those beyond [`QUESTIONS_MAX`] are left out.
pub fn encode_answers(out: &mut Vec<u8>, answers: &[Answer]) {
    let answers = &answers[..answers.len().min(QUESTIONS_MAX)];
    frame::write(out, Kind::Answers, |out| {
        out.extend((answers.len() as u16).to_be_bytes());
        for answer in answers {
            match answer {
                Answer::Unknown => out.push(UNKNOWN),
                Answer::NotYours => out.push(NOT_YOURS),
                Answer::Seen(seen) => {
                    out.push(SEEN);
                    out.extend(seen.pid.to_be_bytes());
                    out.push(u8::from(seen.uid.is_some()));
                    out.extend(seen.uid.unwrap_or(0).to_be_bytes());
                    let micros = u64::try_from(seen.age.as_micros()).unwrap_or(u64::MAX);
                    out.extend(micros.to_be_bytes());
                    frame::text(out, &seen.name, NAME_MAX);
                    // Half of a unit's name would be another one's.
                    let unit = seen.unit.as_deref().filter(|unit| unit.len() <= UNIT_MAX);
                    frame::text(out, unit.unwrap_or_default(), UNIT_MAX);
                }
            }
        }
    });
}

/// Appends a refusal.
pub fn encode_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    frame::write(out, Kind::Refusal, |out| {
        out.push(refusal.code.byte());
        frame::text(out, &refusal.reason, REASON_MAX);
    });
}

/// Reads the body of what came back. A refusal is understood whatever version it is of.
///
/// # Errors
/// When it is neither answers of this version nor a refusal.
pub fn decode_reply(head: Head, body: &[u8]) -> Result<Reply, Garbled> {
    let mut rest = Rest(body);
    match head.kind {
        Kind::Refusal => {
            let code = RefusalCode::of(rest.u8()?);
            let reason = rest.text(REASON_MAX)?.to_owned();
            // A later version may say more after it.
            Ok(Reply::Refusal(Refusal { code, reason }))
        }
        Kind::Answers if head.version == VERSION => {
            let count = rest.u16()?;
            if usize::from(count) > QUESTIONS_MAX {
                return Err(Garbled::TooMany { count });
            }
            let answers = (0..count).map(|_| answer(&mut rest)).collect::<Result<_, _>>()?;
            rest.end()?;
            Ok(Reply::Answers(answers))
        }
        _ => Err(Garbled::Value),
    }
}

fn answer(rest: &mut Rest<'_>) -> Result<Answer, Garbled> {
    match rest.u8()? {
        UNKNOWN => Ok(Answer::Unknown),
        NOT_YOURS => Ok(Answer::NotYours),
        SEEN => {
            let pid = rest.u32()?;
            let has_uid = match rest.u8()? {
                0 => false,
                1 => true,
                _ => return Err(Garbled::Value),
            };
            let uid = Some(rest.u32()?).filter(|_| has_uid);
            let age = Duration::from_micros(rest.u64()?);
            let name = rest.text(NAME_MAX)?.to_owned();
            let unit = Some(rest.text(UNIT_MAX)?).filter(|unit| !unit.is_empty()).map(str::to_owned);
            Ok(Answer::Seen(Seen { pid, uid, age, name, unit }))
        }
        _ => Err(Garbled::Value),
    }
}
