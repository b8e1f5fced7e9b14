//! What a node says of itself before anybody signs in: OPTIONS and its answer, on a connection of its own.

use super::{Handshake, unexpected, unreadable};
use crate::tls::ClientSide;
use crate::upstream::{ConnectError, dial, within};
use weir_cql::envelope::Opcode;
use weir_cql::response::supported as entries;
use weir_cql::{Cursor, Version};
use weir_engine::settings::Address;
use weir_engine::units::Span;

/// The version every server answers in.
const VERSION: Version = Version::V4;

/// The options of a node, each with its first value. The connection is closed afterwards.
///
/// # Errors
/// Why there is no answer.
pub async fn supported(
    address: &Address,
    tls: Option<&ClientSide>,
    timeout: Span,
) -> Result<Vec<(String, String)>, ConnectError> {
    within(timeout, async {
        let mut stream = dial(address, tls).await?;
        let answer = Handshake::new(&mut stream, VERSION).ask(Opcode::Options, |_| {}).await?;
        if answer.header.opcode != Opcode::Supported {
            return Err(unexpected(answer.header.opcode, "OPTIONS"));
        }
        let map = Cursor::new(&answer.body).string_multimap().map_err(|reason| unreadable(reason.label()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let first = |(name, mut values): (&[u8], _)| -> (String, String) {
            let value: Option<&[u8]> = Iterator::next(&mut values);
            (text(name), value.map(text).unwrap_or_default())
        };
        Ok(entries(&answer.body, map).map(first).collect())
    })
    .await
}
