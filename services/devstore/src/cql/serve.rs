//! The listener and its connections, on threads of their own beside memcached's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;

use super::connection;
use super::engine::Engine;

/// Threads that serve connections; one more writes.
const THREADS: usize = 2;

/// A server that runs until it is dropped.
pub struct Running {
    _runtime: tokio::runtime::Runtime,
}

/// Gives a connection's place back.
struct Place(Arc<AtomicU32>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves `listener` on threads of its own; at most `most` connections at once, more are closed.
///
/// # Errors
/// When no threads can be had.
pub fn start(listener: std::net::TcpListener, engine: Arc<Engine>, most: u32) -> Result<Running> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("cql")
        .enable_io()
        .enable_time()
        .build()
        .context("starting tokio for CQL")?;
    listener.set_nonblocking(true)?;
    let listener = {
        let _inside = runtime.enter();
        TcpListener::from_std(listener)?
    };
    runtime.spawn(accept(listener, engine, most));
    Ok(Running { _runtime: runtime })
}

async fn accept(listener: TcpListener, engine: Arc<Engine>, most: u32) {
    let connections = Arc::new(AtomicU32::new(0));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // no descriptors left, most likely: wait for some to come back
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let taken = connections.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&connections));
        if taken >= most {
            continue;
        }
        // fails only on a socket that is gone already
        let _ = stream.set_nodelay(true);
        let engine = Arc::clone(&engine);
        tokio::spawn(async move {
            // the client is gone, or was out of step and has been told: nobody is left to be told
            let _ = connection::serve(stream, engine).await;
            drop(place);
        });
    }
}

/// The line that says what the store is.
pub fn banner(folder: &std::path::Path, address: SocketAddr) -> String {
    format!(
        "weir-devstore: embedded development store (on disk in {}, not for production), CQL v3, v4 and v5 on {address}",
        folder.display()
    )
}
