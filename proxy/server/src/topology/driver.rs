//! The `scylla` driver as it is used here: one control connection, no data connections, errors as a bounded cause.
//!
//! The driver opens its data connections only to nodes that its host filter accepts; this one accepts none, so the
//! control connection is the only one. It moves to another contact by itself when it breaks.

use super::failure::{Failure, of_metadata, of_session};
use crate::tls::ClientSide;
use crate::upstream::credentials;
use scylla::client::PoolSize;
use scylla::client::SelfIdentity;
use scylla::client::session::{Session, TlsContext};
use scylla::client::session_builder::SessionBuilder;
use scylla::cluster::ClusterState;
use scylla::cluster::metadata::{Peer, PeriodicFetchMode};
use scylla::policies::host_filter::HostFilter;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use weir_engine::settings::ClusterSettings;
use weir_telemetry::PlacementFailure;

/// The control connection is asked for a sign of life this often, and cut when it gives none in time.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
const ALIVE_WITHIN: Duration = Duration::from_secs(5);
/// How soon the driver reads the keyspaces that events named.
const SCHEMA_EVERY: Duration = Duration::from_secs(1);
/// Queries that a whole read takes one after the other, at most: the bound of one read in `request_timeout`s.
const QUERIES_IN_TURN: u32 = 3;

/// How much of the schema is read. The driver gives up a whole read over one type or replication setting it cannot
/// parse, so each level does without what stopped the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Schema {
    /// Everything.
    Columns,
    /// Keyspaces and names of tables: replicas are known, columns are not.
    Names,
    /// Nodes only.
    Nothing,
}

impl Schema {
    /// What a placement lacks at this level.
    pub(super) fn lacks(self) -> Option<&'static str> {
        match self {
            Schema::Columns => None,
            Schema::Names => Some("columns of partition keys: a type of the schema is not understood"),
            Schema::Nothing => Some("replicas: a keyspace's replication is not understood"),
        }
    }

    /// The level that does without what could not be read.
    pub(super) fn lower(self) -> Schema {
        match self {
            Schema::Columns => Schema::Names,
            Schema::Names | Schema::Nothing => Schema::Nothing,
        }
    }
}

/// Accepts no node, for data.
struct ControlOnly;

impl HostFilter for ControlOnly {
    fn accept(&self, _peer: &Peer) -> bool {
        false
    }
}

/// A driver that knows the cluster.
pub(super) struct Driver {
    session: Session,
    /// The longest wait for the answers of one refresh.
    patience: Duration,
}

impl Driver {
    /// Finds the cluster through one of these doors, within `connect_timeout` and the time of one read. `tls`: what its
    /// files hold, where the cluster has TLS.
    pub(super) async fn connect(
        cluster: &ClusterSettings,
        tls: Option<&ClientSide>,
        doors: &[String],
        schema: Schema,
    ) -> Result<Driver, Failure> {
        let connect = Duration::from_micros(cluster.connect_timeout.0);
        let patience = Duration::from_micros(cluster.request_timeout.0);
        let attempt_max = connect + patience * QUERIES_IN_TURN;
        let identity = SelfIdentity::new()
            .with_application_name("weir")
            .with_application_version(env!("CARGO_PKG_VERSION"));
        let mut builder = SessionBuilder::new()
            .known_nodes(doors)
            .host_filter(Arc::new(ControlOnly))
            .pool_size(PoolSize::PerHost(NonZeroUsize::MIN))
            .disallow_shard_aware_port(true)
            .connection_timeout(connect)
            .hostname_resolution_timeout(Some(connect))
            .metadata_request_clientside_timeout(patience)
            .metadata_request_serverside_timeout(patience)
            .keepalive_interval(ALIVE_EVERY)
            .keepalive_timeout(ALIVE_WITHIN)
            .periodic_metadata_fetch_mode(PeriodicFetchMode::AffectedKeyspaces)
            .cluster_metadata_refresh_interval(SCHEMA_EVERY)
            .fetch_schema_metadata(schema < Schema::Nothing)
            .fetch_full_schema_metadata(schema == Schema::Columns)
            .custom_identity(identity)
            .driver_config_reporting(false)
            .tls_context(encryption(cluster, tls)?);
        if let Some(path) = &cluster.auth_file {
            let (user, password) = sign_in(path).await?;
            builder = builder.user(user, password);
        }
        let session = match tokio::time::timeout(attempt_max, builder.build()).await {
            Ok(built) => built.map_err(|error| in_our_words(of_session(&error), cluster))?,
            Err(_) => return Err(Failure::timeout(attempt_max)),
        };
        let driver = Driver { session, patience };
        // A first read that fails leaves the driver with an invented ring, which has no name: that is no answer.
        if driver.state().cluster_name().is_empty() {
            driver.refresh().await.map_err(|failure| in_our_words(failure, cluster))?;
        }
        Ok(driver)
    }

    /// What it knows now. The same pointer until it knows something else.
    pub(super) fn state(&self) -> Arc<ClusterState> {
        self.session.get_cluster_state()
    }

    /// Reads everything again.
    pub(super) async fn refresh(&self) -> Result<(), Failure> {
        let patience = self.patience * QUERIES_IN_TURN;
        match tokio::time::timeout(patience, self.session.refresh_metadata()).await {
            Ok(read) => read.map_err(|error| of_metadata(&error)),
            Err(_) => Err(Failure::timeout(patience)),
        }
    }
}

/// What the driver encrypts with. A password never goes out in the open where `tls = true`.
fn encryption(cluster: &ClusterSettings, tls: Option<&ClientSide>) -> Result<Option<TlsContext>, Failure> {
    if cluster.tls.on && tls.is_none() {
        let what = "tls = true, and its files were not read".to_owned();
        return Err(Failure { cause: PlacementFailure::Tls, what, lower: false });
    }
    Ok(tls.map(|side| TlsContext::Rustls023(side.for_addresses())))
}

/// The driver names calls of its own where it means a key of ours.
fn in_our_words(failure: Failure, cluster: &ClusterSettings) -> Failure {
    if failure.cause == PlacementFailure::TlsName {
        let keys = "tls_server_name, or tls_verify = \"ca\"";
        return Failure { what: format!("{} ({keys})", failure.what), ..failure };
    }
    if failure.cause == PlacementFailure::Auth && cluster.auth_file.is_none() {
        return Failure { what: "the node asks for a password; auth_file is not set".to_owned(), ..failure };
    }
    failure
}

async fn sign_in(path: &str) -> Result<(String, String), Failure> {
    let refused = |what: String| Failure { cause: PlacementFailure::Auth, what, lower: false };
    let line = credentials::read(path).await.map_err(|error| refused(error.what))?;
    let line = String::from_utf8(line).map_err(|_| refused(format!("auth_file {path} is not UTF-8")))?;
    let (user, password) = line.split_once(' ').unwrap_or((&line, ""));
    Ok((user.to_owned(), password.to_owned()))
}
