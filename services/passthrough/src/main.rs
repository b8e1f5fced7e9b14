//! `weir-passthrough`: pingora's own proxy with nothing but an upstream: what pingora costs, for `cargo xtask bench rpc`.
//!
//! One thread, HTTP/1.1 and HTTP/2 without TLS on one port, HTTP/2 to the service, and of windows, streams and connections
//! the numbers that weir has by default. Whatever else weir's edge does (counting, limits, names, bounds on time and
//! size) is missing here. Its connections are pingora's business: it has no bound for those to the service.

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use clap::Parser;
use pingora_core::apps::HttpServerOptions;
use pingora_core::protocols::ALPN;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};
use std::net::SocketAddr;
use std::time::Duration;

/// Requests at once on one connection: to the service, and of a client.
const STREAMS: usize = 256;
const CLIENT_STREAMS: u32 = 250;
/// Flow control windows: of a stream on either side, of a connection to the service, of a client's.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const CLIENT_CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes of one stream that wait for the client.
const SEND_BUFFER: usize = 256 << 10;

/// A bare pingora proxy, to compare weir with
#[derive(Parser)]
#[command(
    version,
    after_help = "Example:\n  weir-passthrough --listen 127.0.0.1:3200 --server 127.0.0.1:3000"
)]
struct Options {
    /// Where clients come in
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// The service
    #[arg(long, value_name = "ADDR")]
    server: SocketAddr,
}

struct PassThrough {
    server: SocketAddr,
}

#[async_trait]
impl ProxyHttp for PassThrough {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _context: &mut Self::CTX,
    ) -> pingora_core::Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new(self.server, false, String::new());
        let options = &mut peer.options;
        options.alpn = ALPN::H2;
        options.max_h2_streams = STREAMS;
        options.h2_stream_window_size = Some(STREAM_WINDOW);
        options.h2_connection_window_size = Some(CONNECTION_WINDOW);
        options.idle_timeout = Some(Duration::from_secs(30));
        Ok(Box::new(peer))
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let conf = ServerConf {
        threads: 1,
        work_stealing: false,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, PassThrough { server: options.server });
    let proxy = service.app_logic_mut().context("the proxy is not shared yet")?;
    let mut http = HttpServerOptions::default();
    http.h2c = true;
    proxy.server_options = Some(http);
    let mut http2 = H2Options::new();
    http2
        .max_concurrent_streams(CLIENT_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CLIENT_CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER);
    proxy.h2_options = Some(http2);
    service.add_tcp(&options.listen.to_string());
    server.add_service(service);
    server.run_forever()
}
