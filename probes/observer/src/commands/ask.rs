//! Asking a running `weir-probes` for a page, again and again.

use super::Failure;
use crate::fetch::{Bounds, Peer};
use std::time::Duration;

/// The largest page of the catalogue's caps has a few million bytes.
const BOUNDS: Bounds = Bounds { timeout: Duration::from_secs(5), most: 32 << 20 };

/// The body of `http://ADDRESS/PATH`.
pub(super) async fn ask(peer: &mut Peer, path: &str) -> Result<String, Failure> {
    let answer = peer.page(path, BOUNDS).await;
    answer
        .map_err(|why| Failure::new(format!("{} does not answer as weir-probes does: {why}", peer.address())))
}
