//! What `weir` and `weir-probes` say to each other over the attribution socket, as bytes; no I/O.
//!
//! weir asks which process is at the other end of connections to its listeners, `weir-probes` answers what it saw when
//! they were made. The two share nothing but this crate: neither depends on the other, and each may be of another version.
//!
//! ```text
//! frame    := length u32 · "wa" · version u8 · kind u8 · body            length: of the body; numbers in network order
//! ask      := count u16 · count x (client endpoint, weir's endpoint)     kind 1, weir to weir-probes
//! answers  := count u16 · count x answer                                 kind 2, one for each question, in order
//! refusal  := code u8 · text                                             kind 3; the connection ends after it
//! endpoint := address (16 bytes, IPv4 mapped) · port u16
//! answer   := 0 (not known) | 2 (not a listener of yours)
//!           | 1 · pid u32 · has_uid u8 · uid u32 · age u64 · name text · unit text
//! text     := length u8 · UTF-8                                          an empty unit is none
//! ```
//!
//! The eight bytes of a frame's head and a refusal are the same in every version, so that a peer of another one can be
//! refused in words it can read. One frame of questions is answered by one frame before the next one is read. Everything
//! has a bound: [`QUESTIONS_MAX`], [`ASK_BODY_MAX`], [`REPLY_BODY_MAX`], [`NAME_MAX`], [`UNIT_MAX`], [`REASON_MAX`].

mod ask;
mod error;
mod frame;
#[doc(hidden)]
pub mod invariants;
mod reply;

pub use ask::{Question, decode_ask, encode_ask};
pub use error::Garbled;
pub use frame::{HEAD, Head, Kind};
pub use reply::{Answer, Refusal, RefusalCode, Reply, Seen, decode_reply, encode_answers, encode_refusal};

/// The version that this crate speaks.
pub const VERSION: u8 = 1;
/// Questions in one frame.
pub const QUESTIONS_MAX: usize = 256;
/// Longest name of a process, in bytes; a longer one is cut where it is sent.
pub const NAME_MAX: usize = 64;
/// Longest unit, in bytes; a longer one is not sent.
pub const UNIT_MAX: usize = 128;
/// Longest text of a refusal, in bytes.
pub const REASON_MAX: usize = 200;
/// Longest body of a frame that asks.
pub const ASK_BODY_MAX: usize = 2 + QUESTIONS_MAX * ask::QUESTION;
/// Longest body of a frame that answers or refuses.
pub const REPLY_BODY_MAX: usize = 2 + QUESTIONS_MAX * reply::ANSWER_MAX;
