//! How often bounds without a key of their own were met, for `weir_cql_bound_reached_total`.

/// A bound of the CQL data path that has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Requests of one connection under way (2,048): its further bytes wait until one is answered.
    ConnectionRequests,
    /// Texts remembered per worker (4,096): all are forgotten and read anew.
    StatementTexts,
    /// Clients that wait for one PREPARE (1,024): further ones send their own.
    JoinedPrepares,
    /// Statements prepared again for one request (32): the client hears UNPREPARED and prepares itself.
    Repairs,
}

impl Bound {
    /// How many there are.
    pub const COUNT: usize = 4;

    /// Every bound, in the order of their discriminants.
    pub const ALL: [Bound; Bound::COUNT] =
        [Bound::ConnectionRequests, Bound::StatementTexts, Bound::JoinedPrepares, Bound::Repairs];
}

/// Counts since they were last taken.
#[derive(Debug, Default)]
pub(super) struct Reached([u64; Bound::COUNT]);

impl Reached {
    pub(super) fn add(&mut self, bound: Bound, times: u64) {
        self.0[bound as usize] += times;
    }
}

impl super::CqlEngine {
    /// Visits and resets how often bounds were met since the last call.
    pub fn take_reached(&mut self, mut f: impl FnMut(Bound, u64)) {
        let forgotten = std::mem::take(&mut self.statements.forgotten);
        self.reached.add(Bound::StatementTexts, forgotten);
        for cluster in &mut self.clusters {
            let alone = std::mem::take(&mut cluster.registry.not_joined);
            self.reached.add(Bound::JoinedPrepares, alone);
        }
        for (bound, times) in Bound::ALL.into_iter().zip(std::mem::take(&mut self.reached.0)) {
            if times > 0 {
                f(bound, times);
            }
        }
    }
}
