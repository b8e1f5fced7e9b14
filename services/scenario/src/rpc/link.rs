//! What a caller of the mix has: one connection for everything, as the AppView has it, made again when it ends; three tries
//! at once where the answer is UNAVAILABLE or ABORTED (which connections that end count as), one everywhere else.

use super::client::{GrpcStatus, Sender};
use super::methods::{Call, Found};
use super::world::World;
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::Mutex;

/// Tries of one call, the first included: as the AppView's client has them.
const TRIES: u32 = 3;
/// The pause after a dial that failed; its callers fail meanwhile.
const REDIAL: Duration = Duration::from_millis(100);

/// gRPC's ABORTED, UNAVAILABLE and RESOURCE_EXHAUSTED.
const ABORTED: u32 = 10;
const UNAVAILABLE: u32 = 14;
const RESOURCE_EXHAUSTED: u32 = 8;

/// A caller's connection.
pub struct Link {
    server: SocketAddr,
    authority: String,
    /// What it calls itself (`x-atlantis-caller`).
    caller: Option<String>,
    /// Of one call, all tries together.
    patience: Duration,
    current: RefCell<Option<Sender>>,
    /// Counts connections, so that one that was made meanwhile is not thrown away.
    generation: Cell<u64>,
    dialling: Mutex<()>,
    failed_dials: Cell<u64>,
    /// Tries beyond the first.
    pub retries: Cell<u64>,
    /// Connections beyond the first.
    pub redials: Cell<u64>,
    /// Calls that were refused: RESOURCE_EXHAUSTED.
    pub refused: Cell<u64>,
}

impl Link {
    /// To this server; nothing is dialled yet.
    pub fn new(server: SocketAddr, caller: Option<String>, patience: Duration) -> Link {
        Link {
            server,
            authority: server.to_string(),
            caller,
            patience,
            current: RefCell::new(None),
            generation: Cell::new(0),
            dialling: Mutex::new(()),
            failed_dials: Cell::default(),
            retries: Cell::default(),
            redials: Cell::default(),
            refused: Cell::default(),
        }
    }

    /// Calls, and checks the answer. `traceparent` goes with the call where there is one.
    ///
    /// # Errors
    /// When there was no answer in time, or an error.
    pub async fn call(&self, world: &World, call: &Call, traceparent: Option<&str>) -> Result<Found> {
        let answered = tokio::time::timeout(self.patience, self.tries(call, traceparent)).await;
        let reply = answered.with_context(|| format!("no answer within {:?}", self.patience))??;
        call.expected.check(world, &reply)
    }

    async fn tries(&self, call: &Call, traceparent: Option<&str>) -> Result<Bytes> {
        let mut headers = Vec::with_capacity(2);
        headers.extend(self.caller.as_deref().map(|name| ("x-atlantis-caller", name)));
        headers.extend(traceparent.map(|value| ("traceparent", value)));
        let mut tried = 0;
        loop {
            tried += 1;
            let error = match self.once(call, &headers).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let code = error.downcast_ref::<GrpcStatus>().map_or(UNAVAILABLE, |status| status.code);
            if code == RESOURCE_EXHAUSTED {
                self.refused.set(self.refused.get() + 1);
            }
            if tried == TRIES || (code != UNAVAILABLE && code != ABORTED) {
                return Err(error);
            }
            self.retries.set(self.retries.get() + 1);
        }
    }

    async fn once(&self, call: &Call, headers: &[(&str, &str)]) -> Result<Bytes> {
        let (mut sender, generation) = self.sender().await?;
        let called = sender.call_path(&self.authority, call.path, headers, call.body.clone()).await;
        if let Err(error) = &called
            && error.downcast_ref::<GrpcStatus>().is_none()
            && self.generation.get() == generation
        {
            // It ended: the next call dials.
            *self.current.borrow_mut() = None;
        }
        called
    }

    /// The connection, made where there is none.
    async fn sender(&self) -> Result<(Sender, u64)> {
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let before = self.failed_dials.get();
        let _turn = self.dialling.lock().await;
        if let Some(known) = self.known() {
            return Ok(known);
        }
        // Who waited for a dial that failed has failed with it.
        ensure!(self.failed_dials.get() == before, "connect: failed for all who waited");
        match Sender::dial(self.server, false).await {
            Ok(sender) => {
                let generation = self.generation.get() + 1;
                self.generation.set(generation);
                self.redials.set(generation - 1);
                let mine = sender.another().context("HTTP/2 shares connections")?;
                *self.current.borrow_mut() = Some(sender);
                Ok((mine, generation))
            }
            Err(error) => {
                self.failed_dials.set(self.failed_dials.get() + 1);
                tokio::time::sleep(REDIAL).await;
                Err(error)
            }
        }
    }

    fn known(&self) -> Option<(Sender, u64)> {
        let sender = self.current.borrow().as_ref()?.another()?;
        Some((sender, self.generation.get()))
    }
}
