//! Reads whose default timestamp says which request of a service they are a part of.

use super::CqlEngine;
use crate::units::ClientId;
use weir_cql::request::{Request as Message, RequestMark};
use weir_cql::statement::Body;

impl CqlEngine {
    /// The mark of a read whose sender's word is taken, and its body without it: that is split, shared and kept like one that
    /// never had a mark. Anything else stays as it is, writes and what weir cannot read first of all.
    pub(super) fn unmarked(
        &mut self,
        id: ClientId,
        message: &Message,
        body: &[u8],
    ) -> Option<(RequestMark, Vec<u8>)> {
        let mark = message.mark()?;
        let client = &self.clients[id.slot as usize];
        if !self.callers.known[client.known as usize].request_ids {
            return None;
        }
        let read = match message {
            Message::Query(query) => is_read(&self.statements.read(query.text.of(body)).statement.body),
            Message::Execute(execute) => {
                let prepared = self.registry(client.cluster).peek(execute.id.of(body))?;
                is_read(&prepared.known.statement.body)
            }
            _ => false,
        };
        if !read {
            return None;
        }
        let mut unmarked = Vec::with_capacity(body.len());
        message.write_unmarked(body, &mut unmarked);
        Some((mark, unmarked))
    }
}

const fn is_read(body: &Body) -> bool {
    matches!(body, Body::Select(_))
}
