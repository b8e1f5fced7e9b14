//! Asking a running `weir-probes` for a page.

use super::Failure;
use crate::fetch::{self, Bounds};
use std::time::Duration;

/// The largest page of the catalogue's caps has a few million bytes.
const BOUNDS: Bounds = Bounds { timeout: Duration::from_secs(5), most: 32 << 20 };

/// The body of `http://ADDRESS/PATH`.
pub(super) async fn ask(address: &str, path: &str) -> Result<String, Failure> {
    fetch::page(address, path, BOUNDS)
        .await
        .map_err(|why| Failure::new(format!("{address} does not answer as weir-probes does: {why}")))
}
