//! The process: connects, listens, serves, and ends after the calls under way.

use crate::accept;
use crate::bulk::{self, Bulk};
use crate::cache::Cache;
use crate::metrics::Metrics;
use crate::migrate;
use crate::options::{Database, ServeArgs, Settings};
use crate::read::{Bounds, Reads};
use crate::service::{DataPlane, Front, Gate};
use crate::store::Store;
use crate::unbounded::Unbounded;
use anyhow::{Context as _, Result};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tonic::transport::Server;

/// Connections that ask for metrics at once; more are closed.
const SCRAPES_MAX: usize = 16;
/// Time for one connection that asks for metrics.
const SCRAPE_TIME: Duration = Duration::from_secs(10);
/// Time that calls under way have after a signal, beyond their deadline.
const DRAIN_SPARE: Duration = Duration::from_secs(1);

/// A data plane that serves.
pub struct Running {
    /// Where it listens for calls.
    pub address: SocketAddr,
    /// Where it listens for `GET /metrics`.
    pub metrics_address: Option<SocketAddr>,
    /// How it reads, for writers in the same process.
    pub reads: Arc<Reads>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    drain: Duration,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    scrapes: Option<JoinHandle<()>>,
    /// Held for its drop: the last calls have ended, or their time is over.
    _bulk: Option<bulk::Threads>,
}

/// `weir-dataplane serve`.
pub async fn run(arguments: &ServeArgs) -> Result<()> {
    let settings = arguments.check()?;
    // Heard before `ready` is said.
    let mut terminate = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
    if arguments.migrate {
        migrate::migrate(&settings.database).await?;
    }
    let mut running = start(&settings).await?;
    if settings.unbounded.is_some() {
        eprintln!("weir-dataplane: UNBOUNDED: a task, a connection and a log line per key of GetPostRecords");
    }
    if let Some(address) = running.metrics_address {
        println!("weir-dataplane: metrics at http://{address}/metrics");
    }
    println!("weir-dataplane: bsky.Service at {}; ready", running.address);
    // All are safe to drop: a signal that was not waited for is only not seen, and the server goes on.
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut running.server => {
            ended.context("the server")?.context("serving")?;
            anyhow::bail!("the server ended");
        }
    }
    running.stop().await
}

/// Connects to both storages and serves.
pub async fn start(settings: &Settings) -> Result<Running> {
    let bounds = &settings.bounds;
    let metrics = Arc::new(Metrics::default());
    let mut database = settings.database.clone();
    if settings.unbounded.is_some() {
        database.queries_max = Semaphore::MAX_PERMITS;
    }
    let store = Arc::new(Store::connect(&database, metrics.clone()).await?);
    let cache = Arc::new(Cache::start(
        &settings.memcached,
        bounds.cache_connections,
        bounds.cache_queue_max,
        Duration::from_millis(bounds.cache_timeout_ms),
        metrics.clone(),
    ));
    let unbounded = match &settings.unbounded {
        None => None,
        Some((source, server)) => {
            let place = server.trim_start_matches("tcp://");
            let server = tokio::net::lookup_host(place).await.with_context(|| place.to_owned())?.next();
            let server = server.with_context(|| format!("{place}: no address"))?;
            Some(Arc::new(Unbounded { source: *source, server, store: store.clone(), ttl: bounds.ttl }))
        }
    };
    let reads =
        Arc::new(Reads::new(store, cache, Bounds::from(bounds), bounds.cache_fills_max, metrics.clone()));
    let bulk = match bounds.bulk_threads {
        0 => None,
        // The April data plane had none.
        _ if unbounded.is_some() => None,
        threads => Some(bulk(settings, &database, &reads, threads).await?),
    };
    let (threads, bulk) = bulk.unzip();
    let plane = DataPlane { reads: reads.clone(), bulk, gate: Gate::new(bounds, metrics.clone()), unbounded };
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("listening at {}", settings.listen))?;
    let address = listener.local_addr().context("its address")?;
    let (stop, stopped) = watch::channel(false);
    let service = Front::new(plane, bounds.message_bytes_max);
    let mut calls_stopped = stopped.clone();
    let connections = accept::connections(listener, bounds.connections_max, metrics.clone());
    let server = Server::builder()
        .max_concurrent_streams(u32::try_from(bounds.requests_max).ok())
        .add_service(service)
        .serve_with_incoming_shutdown(connections, async move {
            // The sender lives as long as this does.
            let _ = calls_stopped.wait_for(|stop| *stop).await;
        });
    let (mut metrics_address, mut scrapes) = (None, None);
    if let Some(wanted) = settings.metrics {
        let listener = TcpListener::bind(wanted).await.with_context(|| format!("listening at {wanted}"))?;
        metrics_address = Some(listener.local_addr().context("its address")?);
        scrapes = Some(tokio::spawn(serve_metrics(listener, metrics.clone(), stopped)));
    }
    let drain = Duration::from_millis(bounds.deadline_ms) + DRAIN_SPARE;
    let server = tokio::spawn(server);
    Ok(Running { address, metrics_address, reads, metrics, stop, drain, server, scrapes, _bulk: threads })
}

/// Threads, a session and cache connections for calls of many keys.
async fn bulk(
    settings: &Settings,
    database: &Database,
    reads: &Arc<Reads>,
    threads: usize,
) -> Result<(bulk::Threads, Bulk)> {
    let (threads, bounds) = (bulk::Threads::start(threads)?, &settings.bounds);
    let (reads, database, memcached) = (reads.clone(), database.clone(), settings.memcached.clone());
    let (connections, queue) = ((bounds.cache_connections / 2).max(1), bounds.cache_queue_max);
    let timeout = Duration::from_millis(bounds.cache_timeout_ms);
    let own = async move {
        let store = reads.store.connect_beside(&database).await?;
        let cache = Cache::start(&memcached, connections, queue, timeout, reads.metrics.clone());
        Ok(Arc::new(reads.beside(Arc::new(store), Arc::new(cache))))
    };
    let own = threads.connect(own).await?;
    let calls = threads.calls(bounds.bulk_keys, own)?;
    Ok((threads, calls))
}

impl Running {
    /// Takes no new calls, waits for those under way until their deadlines are over, and ends.
    pub async fn stop(self) -> Result<()> {
        self.stop.send_replace(true);
        if let Ok(ended) = tokio::time::timeout(self.drain, self.server).await {
            ended.context("the server")?.context("serving")?;
        }
        if let Some(scrapes) = self.scrapes {
            scrapes.abort();
        }
        Ok(())
    }
}

async fn serve_metrics(listener: TcpListener, metrics: Arc<Metrics>, mut stopped: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(SCRAPES_MAX));
    loop {
        // Both are safe to drop: a connection that was not taken waits.
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        let Ok((stream, _)) = stream else {
            // Out of files, perhaps: a moment, and again.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
        let metrics = metrics.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let (status, page) = match request.uri().path() {
                    "/metrics" => (200, metrics.page()),
                    _ => (404, "not here: /metrics\n".to_owned()),
                };
                let response = hyper::Response::builder()
                    .status(status)
                    .header("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
                    .body(Full::new(Bytes::from(page)));
                async move { Ok::<_, Infallible>(response.unwrap_or_default()) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            let connection = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            // A client that leaves is its own affair.
            let _ = tokio::time::timeout(SCRAPE_TIME, connection).await;
        });
    }
}
