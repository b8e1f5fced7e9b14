//! The control plane of one cluster: finds it, keeps up with it, and begins again whenever it is lost.
//!
//! Bounds: waits between attempts as for data connections (`reconnect_min` to `reconnect_max`); one look at the driver's
//! view per [`LOOK_EVERY`]; one full read per [`REFRESH_EVERY`], or per [`DOUBT_EVERY`] while workers lose connections.

use super::driver::{Driver, Schema};
use super::failure::Failure;
use super::picture::{Picture, addresses};
use super::post::Post;
use super::shards::Shards;
use crate::tls::ClientSide;
use crate::upstream::Backoff;
use scylla::cluster::ClusterState;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use weir_engine::settings::{Address, ClusterSettings};

/// How often it is looked whether the driver knows something new: the delay of a change, and a comparison of pointers.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often everything is read again, for what no event told, and to see that the cluster still answers.
const REFRESH_EVERY: Duration = Duration::from_secs(30);
/// The same, soon after a worker lost a connection to a node: the driver does not say when its own is gone.
const DOUBT_EVERY: Duration = Duration::from_secs(2);
/// After so long with a part of the schema only, all of it is tried again.
const WHOLE_AGAIN: Duration = Duration::from_secs(3_600);

/// Keeps the placement of a cluster for as long as it is not dropped.
pub(super) async fn keep(cluster: ClusterSettings, post: Arc<Post>, seed: u64) {
    let mut control = Control {
        backoff: Backoff::new(seed),
        known: post.known().as_deref().map(addresses).unwrap_or_default(),
        schema: Schema::Columns,
        lowered: None,
        attempts: 0,
        shards: Shards::default(),
        cluster,
        post,
    };
    loop {
        let failure = control.follow().await;
        if let Some(failure) = failure {
            if failure.lower && control.schema < Schema::Nothing {
                control.schema = control.schema.lower();
                control.lowered = Some(Instant::now());
            }
            control.post.failed(&failure);
        }
        let (min, max) = (control.cluster.reconnect_min, control.cluster.reconnect_max);
        sleep(Duration::from_micros(control.backoff.failed(min, max).0)).await;
    }
}

struct Control {
    cluster: ClusterSettings,
    post: Arc<Post>,
    backoff: Backoff,
    /// Nodes the cluster had: one of them may answer where no contact does.
    known: Vec<SocketAddr>,
    schema: Schema,
    /// Since the cluster was found last.
    attempts: usize,
    /// When less than the whole schema had to do.
    lowered: Option<Instant>,
    shards: Shards,
}

impl Control {
    /// Finds the cluster and follows it until it is lost; why. Nothing when all of the schema is to be tried again.
    async fn follow(&mut self) -> Option<Failure> {
        let doors = self.doors();
        // as it was read last: a renewed certificate is shown by the next connection
        let tls = self.post.tls();
        let driver = match Driver::connect(&self.cluster, tls.as_ref(), &doors, self.schema).await {
            Ok(driver) => driver,
            Err(failure) => return Some(failure),
        };
        self.backoff.succeeded();
        self.attempts = 0;
        let mut shown = driver.state();
        self.show(&shown).await;
        self.post.read(self.schema.lacks());
        let (mut refreshed, mut doubts) = (Instant::now(), self.post.doubts());
        loop {
            sleep(LOOK_EVERY).await;
            let state = driver.state();
            if !Arc::ptr_eq(&state, &shown) {
                shown = state;
                self.show(&shown).await;
                self.post.read(self.schema.lacks());
            }
            if self.lowered.is_some_and(|at| at.elapsed() > WHOLE_AGAIN) {
                (self.schema, self.lowered) = (Schema::Columns, None);
                return None;
            }
            let after = if self.post.doubts() == doubts { REFRESH_EVERY } else { DOUBT_EVERY };
            if refreshed.elapsed() < after {
                continue;
            }
            doubts = self.post.doubts();
            if let Err(failure) = driver.refresh().await {
                return Some(failure);
            }
            self.post.read(self.schema.lacks());
            refreshed = Instant::now();
            if self.ask_shards(&shown).await {
                self.show(&shown).await;
            }
        }
    }

    /// Where to try: at every contact and node that was known, or, every second time, at one of them alone. A node that
    /// takes connections and says nothing would use up the time of the others.
    fn doors(&mut self) -> Vec<String> {
        let contacts = self.cluster.contacts.iter().filter(|contact| matches!(contact, Address::Tcp { .. }));
        let mut doors: Vec<String> = contacts.map(ToString::to_string).collect();
        let known = self.known.iter().map(ToString::to_string);
        doors.extend(known);
        let attempt = self.attempts;
        self.attempts = attempt.wrapping_add(1);
        if attempt % 2 == 1 && doors.len() > 1 {
            let alone = (attempt / 2) % doors.len();
            doors = vec![doors.swap_remove(alone)];
        }
        doors
    }

    /// Hands a view over to the workers.
    async fn show(&mut self, state: &Arc<ClusterState>) {
        self.ask_shards(state).await;
        let contacts = resolve(&self.cluster).await;
        let picture = Picture::new(state.clone(), &self.shards, &contacts);
        self.known = addresses(&picture);
        self.post.place(Arc::new(picture));
    }

    /// Asks new nodes for their shards; whether one of them told something new.
    async fn ask_shards(&mut self, state: &ClusterState) -> bool {
        let tls: Option<ClientSide> = self.post.tls();
        self.shards.ask(state, tls.as_ref(), self.cluster.connect_timeout).await
    }
}

/// The addresses of the contacts, in their order; names that cannot be resolved in time are left out.
async fn resolve(cluster: &ClusterSettings) -> Vec<IpAddr> {
    let mut all = Vec::new();
    for contact in &cluster.contacts {
        let Address::Tcp { host, port } = contact else { continue };
        let patience = Duration::from_micros(cluster.connect_timeout.0);
        if let Ok(Ok(found)) = timeout(patience, tokio::net::lookup_host((&**host, *port))).await {
            all.extend(found.map(|address| address.ip()));
        }
    }
    all
}
