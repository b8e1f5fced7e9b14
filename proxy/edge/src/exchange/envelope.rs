//! The body of a reply to one part, in gRPC and gRPC-web: one plain message, and in gRPC-web the trailers behind it.

use super::part::{PREFIX, Room};
use super::web;
use bytes::Bytes;
use http::HeaderMap;

/// Why there is no message in a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoMessage {
    /// The replies are too large together.
    TooLarge,
    /// There is no plain message: why.
    Unreadable(&'static str),
}

/// A body as far as it came. What of it lies in the connection's buffers is copied, so that they are free again; a message
/// is never grown twice.
#[derive(Default)]
pub(super) struct Envelope {
    /// gRPC-web: trailers may follow.
    web: bool,
    /// Of the prefix of what comes next.
    front: Vec<u8>,
    /// Bytes that are missing of what is being read; `None`: its prefix is.
    left: Option<usize>,
    message: Option<Vec<u8>>,
    trailers: Option<Vec<u8>>,
}

impl Envelope {
    pub(super) fn new(web: bool) -> Envelope {
        Envelope { web, ..Envelope::default() }
    }

    /// Takes a piece of the body.
    ///
    /// # Errors
    /// When there is no message in it, whatever follows.
    pub(super) fn push(&mut self, mut data: Bytes, room: &Room) -> Result<(), NoMessage> {
        while !data.is_empty() {
            let Some(left) = self.left else {
                let missing = (PREFIX - self.front.len()).min(data.len());
                self.front.extend_from_slice(&data.split_to(missing));
                if let Ok([flags, a, b, c, d]) = <[u8; PREFIX]>::try_from(&*self.front) {
                    self.begin(flags, u32::from_be_bytes([a, b, c, d]) as usize, room)?;
                }
                continue;
            };
            let piece = data.split_to(left.min(data.len()));
            // Behind the trailers there is nothing.
            if let Some(into) = self.trailers.as_mut().or(self.message.as_mut()) {
                into.extend_from_slice(&piece);
            }
            self.left = Some(left - piece.len()).filter(|left| *left > 0);
        }
        Ok(())
    }

    /// A prefix is whole.
    fn begin(&mut self, flags: u8, bytes: usize, room: &Room) -> Result<(), NoMessage> {
        self.front.clear();
        if self.trailers.is_some() {
            return Err(NoMessage::Unreadable("the reply of a part goes on behind its trailers"));
        }
        if flags == web::TRAILERS && self.web {
            if bytes > web::TRAILERS_MAX {
                return Err(NoMessage::Unreadable("the reply of a part has more trailers than are read"));
            }
            self.trailers = Some(Vec::with_capacity(bytes));
        } else if flags != 0 {
            return Err(NoMessage::Unreadable("the reply of a part is compressed, or not gRPC"));
        } else if self.message.is_some() {
            return Err(NoMessage::Unreadable("the reply of a part is more than one message"));
        } else {
            room.take(bytes as u64).ok_or(NoMessage::TooLarge)?;
            let mut message = Vec::new();
            message.reserve_exact(bytes);
            self.message = Some(message);
        }
        self.left = Some(bytes).filter(|bytes| *bytes > 0);
        Ok(())
    }

    /// The body has ended: its message, if that is whole, and the trailers in it.
    ///
    /// # Errors
    /// When there is no message in it, whatever follows.
    pub(super) fn finish(self) -> Result<(Option<Bytes>, Option<HeaderMap>), NoMessage> {
        let whole = self.left.is_none() && self.front.is_empty();
        let message = self.message.filter(|_| whole).map(Bytes::from);
        let trailers = match self.trailers {
            Some(block) if whole => {
                let read = web::read(&block);
                Some(read.ok_or(NoMessage::Unreadable("the trailers of a part cannot be read"))?)
            }
            _ => None,
        };
        Ok((message, trailers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(web: bool, body: &[u8], piece: usize, most: u64) -> Result<(Option<Bytes>, bool), NoMessage> {
        let room = Room::new(most);
        let mut envelope = Envelope::new(web);
        for piece in body.chunks(piece) {
            envelope.push(Bytes::copy_from_slice(piece), &room)?;
        }
        let (message, trailers) = envelope.finish()?;
        Ok((message, trailers.is_some_and(|trailers| trailers.contains_key("grpc-status"))))
    }

    #[test]
    fn one_message_and_its_trailers_wherever_the_network_cut() {
        let trailers = b"\x80\0\0\0\x0egrpc-status:0\n";
        let body = [&b"\0\0\0\0\x03abc"[..], trailers].concat();
        let message = Some(Bytes::from_static(b"abc"));
        for piece in 1..=body.len() {
            assert_eq!(read(true, &body, piece, 3), Ok((message.clone(), true)), "{piece}");
            assert_eq!(read(false, &body[..8], piece, 3), Ok((message.clone(), false)), "{piece}");
            assert_eq!(read(true, trailers, piece, 0), Ok((None, true)), "trailers only, in the body");
            assert_eq!(read(true, b"\0\0\0\0\0", piece, 0), Ok((Some(Bytes::new()), false)));
            assert_eq!(read(true, &body, piece, 2), Err(NoMessage::TooLarge));
        }
        assert_eq!(read(false, &body[..7], 64, 9), Ok((None, false)), "cut short");
        assert_eq!(read(true, &body[..body.len() - 1], 64, 9), Ok((None, false)), "the same of its trailers");
        for (web, wrong, why) in [
            (false, &body[..], "the reply of a part is compressed, or not gRPC"),
            (true, b"\x01\0\0\0\0", "the reply of a part is compressed, or not gRPC"),
            (true, b"\x81\0\0\0\0", "the reply of a part is compressed, or not gRPC"),
            (true, b"\0\0\0\0\0\0\0\0\0\0", "the reply of a part is more than one message"),
            (true, b"\x80\0\0\0\0\0\0\0\0\0", "the reply of a part goes on behind its trailers"),
            (true, b"\x80\0\x01\0\x01", "the reply of a part has more trailers than are read"),
            (true, b"\x80\0\0\0\x01x", "the trailers of a part cannot be read"),
        ] {
            assert_eq!(read(web, wrong, 3, 9), Err(NoMessage::Unreadable(why)), "{wrong:?}");
        }
    }
}
