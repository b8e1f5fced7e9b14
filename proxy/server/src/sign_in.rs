//! Clients' credentials, checked by the cluster: one task for the process, which asks a node on a connection of its own and
//! remembers the answer. What is asked when is decided in the engine (`cql::credentials`); here are the connections and the
//! ways to and from the workers.
//!
//! A password is held here until the cluster was asked (`cql::principals` holds those of users with connections of their
//! own for longer), and is never written anywhere. Remembered is its HMAC-SHA256, with user and
//! cluster, under a key that is drawn when the process starts.
//!
//! Bounds: [`ASKS_MAX`] questions on their way from the workers; those of `cql::credentials`; a check is a connection that
//! lives for at most `connect_timeout` per contact, [`CONTACTS_TRIED`] of them.

use crate::clock::Clock;
use crate::tls::ClientSide;
use crate::upstream::cql::check_credentials;
use crate::worker::orders::{Board, Order, WorkerHandle};
use ring::hmac;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use weir_engine::cql::credentials::{Answer, Bounds, Credentials, Digest, Verdict};
use weir_engine::cql::principals::Principals;
use weir_engine::cql::signin::{Secret, SignIn};
use weir_engine::settings::{ClusterSettings, Settings};
use weir_engine::units::{ClientId, Instant};
use weir_telemetry::{CheckState, SignInResult, Telemetry};

/// Questions of all workers on their way.
const ASKS_MAX: usize = 4_096;
/// Contacts that are tried for one check.
const CONTACTS_TRIED: usize = 3;
/// How often those that wait for too long are looked for, while any wait.
const LOOK: Duration = Duration::from_millis(100);
/// A worker that takes no answer for this long is stalled: its clients' drivers give up meanwhile.
const DELIVERY: Duration = Duration::from_secs(1);

/// The workers' way to the task.
#[derive(Clone, Debug)]
pub struct SignInDesk(mpsc::Sender<Ask>);

/// A question of a worker, by the place of its handle.
#[derive(Debug)]
pub struct Ask {
    handle: u32,
    sign_in: SignIn,
}

impl SignInDesk {
    /// A desk, and what its task reads from.
    #[must_use]
    pub fn new() -> (SignInDesk, mpsc::Receiver<Ask>) {
        let (sender, asks) = mpsc::channel(ASKS_MAX);
        (SignInDesk(sender), asks)
    }

    /// Asks; the answer comes as an order. `Some` when there is no room: the answer is this one.
    #[must_use]
    pub fn ask(&self, handle: u32, sign_in: SignIn) -> Option<Verdict> {
        let sent = self.0.try_send(Ask { handle, sign_in });
        sent.is_err().then(|| Verdict::Unknown("weir: too many clients sign in at once".into()))
    }
}

/// What the task looks at.
#[derive(Clone, Debug)]
pub struct Around {
    /// What is in force.
    pub board: Arc<Board>,
    /// Where it counts.
    pub telemetry: Arc<Telemetry>,
    /// Users with connections of their own, which find out when their credentials are good no more.
    pub principals: Arc<Principals>,
}

/// Serves until the workers are gone.
pub async fn serve(mut asks: mpsc::Receiver<Ask>, workers: Vec<WorkerHandle>, around: Around, clock: Clock) {
    let Ok(key) = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new()) else {
        return; // no randomness to be had: nobody signs in
    };
    let mut task =
        Task { key, clusters: Vec::new(), turn: 0, checks: JoinSet::new(), answers: HashMap::new(), around };
    let mut fresh = Vec::new();
    loop {
        // Each branch is cancel-safe: questions and ends that were not taken stay.
        tokio::select! {
            count = asks.recv_many(&mut fresh, ASKS_MAX) => if count == 0 { return },
            Some(Ok(done)) = task.checks.join_next() => task.checked(done, clock.now()),
            () = tokio::time::sleep(LOOK), if task.anybody_waits() => {}
        }
        let settings = task.around.board.read().settings;
        task.forget_refused(&settings);
        for ask in fresh.drain(..) {
            task.ask(&settings, ask, clock.now());
        }
        task.go_on(&settings, clock.now());
        for (handle, answers) in task.answers.drain() {
            let Some(worker) = workers.get(handle as usize) else { continue };
            // One that takes none is stalled or gone; that is told elsewhere.
            let _ = tokio::time::timeout(DELIVERY, worker.send(Order::SignedIn(answers))).await;
        }
    }
}

type Who = (u32, ClientId);
type Done = (usize, Digest, Verdict);

struct Task {
    key: hmac::Key,
    /// In the order of the settings, which stays the same for the life of the process.
    clusters: Vec<Credentials<Who, Secret>>,
    turn: usize,
    checks: JoinSet<Done>,
    /// By worker.
    answers: HashMap<u32, Vec<(ClientId, Verdict)>>,
    around: Around,
}

impl Task {
    /// What is remembered of users whose connections were refused is not to be believed any more.
    fn forget_refused(&mut self, settings: &Settings) {
        for (cluster, user) in self.around.principals.take_refused() {
            let place = settings.clusters.iter().position(|named| named.name == cluster);
            if let Some(desk) = place.and_then(|place| self.clusters.get_mut(place)) {
                desk.forget(&user);
            }
        }
    }

    fn ask(&mut self, settings: &Settings, ask: Ask, now: Instant) {
        let Ask { handle, sign_in: SignIn { client, cluster, secret } } = ask;
        let index = cluster.0 as usize;
        let Some(named) = settings.clusters.get(index) else { return };
        if self.clusters.len() <= index {
            self.clusters.resize_with(index + 1, Credentials::default);
        }
        let digest = digest(&self.key, cluster.0, &secret);
        let user = secret.user.clone();
        if let Answer::Known(verdict) = self.clusters[index].ask(digest, &user, secret, (handle, client), now)
        {
            let result = match verdict {
                Verdict::Good => SignInResult::Remembered,
                Verdict::Refused(_) => SignInResult::RefusedAgain,
                Verdict::Unknown(_) => SignInResult::Busy,
            };
            self.around.telemetry.cluster(&named.name).signed_in(result, 1);
            self.answers.entry(handle).or_default().push((client, verdict));
        }
    }

    fn checked(&mut self, (index, digest, verdict): Done, now: Instant) {
        let settings = self.around.board.read().settings;
        let (Some(cluster), Some(desk)) = (settings.clusters.get(index), self.clusters.get_mut(index)) else {
            return;
        };
        let waited = desk.checked(digest, &verdict, bounds(cluster), now);
        let result = match verdict {
            Verdict::Good => SignInResult::Checked,
            Verdict::Refused(_) => SignInResult::Refused,
            Verdict::Unknown(_) => SignInResult::Unavailable,
        };
        self.tell(cluster, result, waited, &verdict);
    }

    fn tell(&mut self, cluster: &ClusterSettings, result: SignInResult, waited: Vec<Who>, verdict: &Verdict) {
        self.around.telemetry.cluster(&cluster.name).signed_in(result, waited.len() as u64);
        for (handle, client) in waited {
            self.answers.entry(handle).or_default().push((client, verdict.clone()));
        }
    }

    /// Ends the waits that are too long, and asks what may be asked now.
    fn go_on(&mut self, settings: &Settings, now: Instant) {
        for index in 0..self.clusters.len() {
            let Some(cluster) = settings.clusters.get(index) else { continue };
            let bounds = bounds(cluster);
            let late = self.clusters[index].expired(bounds, now);
            let verdict =
                Verdict::Unknown("weir: the credentials were not checked within queue_timeout".into());
            self.tell(cluster, SignInResult::Busy, late, &verdict);
            while let Some((digest, secret)) = self.clusters[index].next(bounds) {
                self.turn = self.turn.wrapping_add(1);
                let side = self.around.board.read().config.clusters_tls.get(index).cloned().flatten();
                let asked = asked(cluster.clone(), side, self.turn, secret);
                self.checks.spawn(async move {
                    // a task of its own, so that a panic in it is an answer like another
                    let verdict = tokio::spawn(asked).await;
                    let broken = |_| Verdict::Unknown("weir: a defect of weir, see its log".into());
                    (index, digest, verdict.unwrap_or_else(broken))
                });
            }
            let (asking, waiting) = self.clusters[index].load();
            let metrics = self.around.telemetry.cluster(&cluster.name);
            metrics.credential_checks(CheckState::Asking, u64::from(asking));
            metrics.credential_checks(CheckState::Waiting, waiting as u64);
        }
    }

    fn anybody_waits(&self) -> bool {
        self.clusters.iter().any(|desk| desk.load().1 > 0)
    }
}

fn bounds(cluster: &ClusterSettings) -> Bounds {
    Bounds {
        at_once: cluster.credential_checks,
        kept: cluster.credentials_kept,
        queue_timeout: cluster.queue_timeout,
    }
}

fn digest(key: &hmac::Key, cluster: u32, secret: &Secret) -> Digest {
    let mut context = hmac::Context::with_key(key);
    context.update(&cluster.to_be_bytes());
    context.update(&(secret.user.len() as u64).to_be_bytes());
    context.update(secret.user.as_bytes());
    context.update(&secret.password);
    let mut digest = [0; 32];
    digest.copy_from_slice(context.sign().as_ref());
    digest
}

/// Asks one contact after the other until one answers.
async fn asked(cluster: ClusterSettings, side: Option<ClientSide>, turn: usize, secret: Secret) -> Verdict {
    let mut verdict = Verdict::Unknown("weir: the cluster has no contact".into());
    for nth in 0..cluster.contacts.len().min(CONTACTS_TRIED) {
        let contact = &cluster.contacts[turn.wrapping_add(nth) % cluster.contacts.len()];
        verdict = check_credentials(contact, &cluster, side.as_ref(), &secret).await;
        if !matches!(verdict, Verdict::Unknown(_)) {
            break;
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_tell_credentials_and_keys_apart() {
        let random = ring::rand::SystemRandom::new();
        let key = || hmac::Key::generate(hmac::HMAC_SHA256, &random).expect("randomness");
        let secret = |user: &str, password: &str| Secret { user: user.into(), password: password.into() };
        let (one, other) = (key(), key());
        let own = digest(&one, 0, &secret("feed", "secret"));
        assert_eq!(own, digest(&one, 0, &secret("feed", "secret")));
        for (key, cluster, secret) in [
            (&one, 0, secret("feed", "Secret")),
            (&one, 0, secret("feeds", "ecret")),
            (&one, 1, secret("feed", "secret")),
            (&other, 0, secret("feed", "secret")),
        ] {
            assert_ne!(own, digest(key, cluster, &secret));
        }
    }
}
