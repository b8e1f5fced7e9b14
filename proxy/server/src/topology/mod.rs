//! The control plane of clusters: which nodes there are, which of them have the data of a token, which columns make a
//! table's partition key. One per cluster and process, on the main runtime, beside the data path and never in its way:
//! weir starts and serves without it, and keeps the last placement while the cluster does not answer.
//!
//! `control` (find, follow, begin again) -> `driver` (the `scylla` driver's control connection; `failure` names its
//! errors) -> `shards` (what nodes say of theirs) -> `picture` (the engine's `Placement` over it) -> `post` (metrics, log)
//! -> `posted` (the slot that workers read).

mod control;
mod driver;
mod failure;
mod picture;
mod post;
pub mod posted;
mod shards;

use crate::clock::Clock;
use crate::worker::orders::{Board, WorkerHandle};
use post::Post;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use weir_engine::settings::{ClusterSettings, Settings};
use weir_telemetry::Telemetry;

/// How often it is looked whether settings have changed and every control plane still runs.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the control planes of a process are made of.
#[derive(Debug)]
pub struct Topology {
    /// What is in force, and where placements are posted.
    pub board: Arc<Board>,
    /// Those who wait for them.
    pub workers: Vec<WorkerHandle>,
    /// The process's metrics and log.
    pub telemetry: Arc<Telemetry>,
    /// The process's clock.
    pub clock: Clock,
    /// Keeps weirs from returning to a cluster in step.
    pub seed: u64,
}

/// One running control plane. Ends when it is dropped.
struct Kept {
    cluster: ClusterSettings,
    post: Arc<Post>,
    task: JoinHandle<()>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Topology {
    /// Keeps a control plane for each cluster with `discover`, for the life of the process.
    pub async fn run(self) {
        let workers: Arc<[WorkerHandle]> = self.workers.clone().into();
        let mut kept: HashMap<Arc<str>, Kept> = HashMap::new();
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut version = 0;
        loop {
            looks.tick().await;
            if self.board.version() != version {
                version = self.board.version();
                let in_force = self.board.read();
                kept.retain(|_, kept| wanted(&in_force.settings).any(|cluster| same(cluster, &kept.cluster)));
                for cluster in wanted(&in_force.settings) {
                    let begin = || self.begin(cluster, &workers);
                    kept.entry(cluster.name.clone()).or_insert_with(begin);
                }
            }
            for kept in kept.values_mut().filter(|kept| kept.task.is_finished()) {
                kept.post.broke();
                kept.task = self.spawn(&kept.cluster, &kept.post);
            }
        }
    }

    fn begin(&self, cluster: &ClusterSettings, workers: &Arc<[WorkerHandle]>) -> Kept {
        let post = Arc::new(Post {
            name: cluster.name.clone(),
            board: self.board.clone(),
            workers: workers.clone(),
            metrics: self.telemetry.cluster(&cluster.name).control(),
            telemetry: self.telemetry.clone(),
            clock: self.clock,
        });
        self.board.posted().change(&cluster.name, |_| {});
        Kept { cluster: cluster.clone(), task: self.spawn(cluster, &post), post }
    }

    fn spawn(&self, cluster: &ClusterSettings, post: &Arc<Post>) -> JoinHandle<()> {
        tokio::spawn(control::keep(cluster.clone(), post.clone(), self.seed))
    }
}

fn wanted(settings: &Settings) -> impl Iterator<Item = &ClusterSettings> {
    settings.clusters.iter().filter(|cluster| cluster.discover)
}

/// What a control plane does depends on nothing else.
fn same(one: &ClusterSettings, other: &ClusterSettings) -> bool {
    let part = |cluster: &ClusterSettings| {
        (
            cluster.name.clone(),
            cluster.contacts.clone(),
            cluster.auth_file.clone(),
            cluster.connect_timeout,
            cluster.request_timeout,
            cluster.reconnect_min,
            cluster.reconnect_max,
        )
    };
    part(one) == part(other)
}
