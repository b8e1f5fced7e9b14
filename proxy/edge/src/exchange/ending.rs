//! How a request ended, told to its gate: always, and once, also when the request's task is dropped or panics.

use crate::client::Client;
use crate::gate::{Call, End, Outcome};
use crate::stats::{Count, Held, Stats};
use http::HeaderMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What will be told of one request.
pub(crate) struct Ending {
    start: Instant,
    client: Arc<Client>,
    call: Option<Box<dyn Call>>,
    end: End,
    _under_way: Held,
}

impl Ending {
    /// A request whose head has just come.
    pub(crate) fn new(client: Arc<Client>, stats: &Arc<Stats>) -> Ending {
        stats.requests.add();
        Ending {
            start: Instant::now(),
            client,
            call: None,
            end: End {
                // Until someone says otherwise: what is dropped on the way has lost its client.
                outcome: Outcome::ClientGone,
                status: 0,
                grpc_status: None,
                request_bytes: 0,
                reply_bytes: 0,
                took: Duration::ZERO,
                service: Duration::ZERO,
                retries: 0,
                parts: 0,
            },
            _under_way: Count::hold(stats, |stats| &stats.requests_now),
        }
    }

    /// When the head came.
    pub(super) fn start(&self) -> Instant {
        self.start
    }

    /// Who is to be asked and told.
    pub(super) fn ask(&mut self, call: Box<dyn Call>) {
        self.call = Some(call);
    }

    pub(super) fn call(&mut self) -> Option<&mut Box<dyn Call>> {
        self.call.as_mut()
    }

    pub(super) fn set(&mut self, outcome: Outcome, status: u16) {
        self.end.outcome = outcome;
        self.end.status = status;
    }

    pub(super) fn set_outcome(&mut self, outcome: Outcome) {
        self.end.outcome = outcome;
    }

    pub(super) fn set_status(&mut self, status: u16) {
        self.end.status = status;
    }

    /// Notes the gRPC status, where these headers or trailers bear one.
    pub(super) fn grpc_status(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.end.grpc_status = status.to_str().ok().and_then(|status| status.parse().ok());
        }
    }

    pub(super) fn read(&mut self, bytes: u64) {
        self.end.request_bytes += bytes;
    }

    pub(super) fn wrote(&mut self, bytes: u64) {
        self.end.reply_bytes += bytes;
    }

    pub(super) fn served(&mut self, time: Duration, retries: u32) {
        self.end.service = time;
        self.end.retries = retries;
    }

    pub(super) fn parts(&mut self, sent: u32) {
        self.end.parts = sent;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.client.ended();
        self.end.took = self.start.elapsed();
        if let Some(mut call) = self.call.take() {
            call.end(&self.end);
        }
    }
}

impl Ending {
    /// The reply's head, where another than the edge carries it.
    pub(crate) fn replied(&mut self, status: u16) {
        self.end.status = status;
    }
}
