//! Questions.

use crate::frame::{self, Kind, Rest};
use crate::{Garbled, QUESTIONS_MAX};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Bytes of one question.
pub(crate) const QUESTION: usize = 2 * (16 + 2);

/// Whose connection is this?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// The client's end.
    pub client: SocketAddr,
    /// weir's end.
    pub weir: SocketAddr,
}

impl Question {
    /// The same connection, whichever family its sockets are of: IPv4 addresses are never mapped ones, and scopes and flow
    /// labels are left out.
    #[must_use]
    pub fn plain(self) -> Question {
        let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        Question { client: plain(self.client), weir: plain(self.weir) }
    }
}

/// Appends a frame of questions; those beyond [`QUESTIONS_MAX`] are left out. Returns how many it holds.
pub fn encode_ask(out: &mut Vec<u8>, questions: &[Question]) -> usize {
    let questions = &questions[..questions.len().min(QUESTIONS_MAX)];
    frame::write(out, Kind::Ask, |out| {
        out.extend((questions.len() as u16).to_be_bytes());
        for question in questions {
            endpoint(out, question.client);
            endpoint(out, question.weir);
        }
    });
    questions.len()
}

fn endpoint(out: &mut Vec<u8>, end: SocketAddr) {
    let address = match end.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    out.extend(address.octets());
    out.extend(end.port().to_be_bytes());
}

/// Reads the body of a frame of questions. They are [`Question::plain`].
///
/// # Errors
/// When it is none.
pub fn decode_ask(body: &[u8]) -> Result<Vec<Question>, Garbled> {
    let mut rest = Rest(body);
    let count = rest.u16()?;
    if usize::from(count) > QUESTIONS_MAX {
        return Err(Garbled::TooMany { count });
    }
    let mut end = || -> Result<SocketAddr, Garbled> {
        let address = Ipv6Addr::from(rest.array::<16>()?);
        Ok(SocketAddr::new(IpAddr::V6(address).to_canonical(), rest.u16()?))
    };
    let mut questions = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        questions.push(Question { client: end()?, weir: end()? });
    }
    rest.end()?;
    Ok(questions)
}
