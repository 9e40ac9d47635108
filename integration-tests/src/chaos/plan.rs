//! Which fault comes when: each kind once before any comes again, in an order that follows from a seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `kill -9` for a worker; another takes its place.
    KillWorker,
    /// A worker is frozen for a moment.
    FreezeWorker,
    /// A worker is frozen until others have taken over, and goes on then.
    FreezeWorkerBeyondLease,
    /// A worker is told to end; another takes its place.
    EndWorker,
    /// `kill -9` for a coordinator; another takes its place.
    KillCoordinator,
    /// A coordinator is frozen for some seconds.
    FreezeCoordinator,
    /// All connections of a process are cut.
    CutConnections,
    /// A process loses a request on its way.
    LoseRequests,
    /// A process loses replies: Redis has done what it was told.
    LoseReplies,
    /// What a process hears from Redis is late.
    Delay,
    /// Nothing passes between a worker and Redis for longer than its lease; then everything arrives.
    Partition,
    /// The clock of a worker jumps by hours.
    JumpClock,
    /// `kill -9` for Redis, which is started again.
    KillRedis,
    /// Redis is told to end, and started again.
    RestartRedis,
    /// Redis is started again with slightly older files.
    RewindRedis,
    /// `FUNCTION FLUSH`.
    FlushFunctions,
    /// `CLIENT KILL` for all connections of workers and coordinators.
    KillClients,
    /// `CLIENT PAUSE`.
    PauseClients,
    /// Redis is frozen for a moment.
    FreezeRedis,
    /// Sentinel makes the replica the master, by request.
    FailOver,
    /// `kill -9` for the master; Sentinel makes the replica the master.
    KillMaster,
    /// The master is frozen until another takes over, and continues as if it were still the master.
    FreezeMaster,
}

/// Faults of processes and of their connections to Redis.
pub const OF_PROCESSES: &[Kind] = &[
    Kind::KillWorker,
    Kind::FreezeWorker,
    Kind::FreezeWorkerBeyondLease,
    Kind::EndWorker,
    Kind::KillCoordinator,
    Kind::FreezeCoordinator,
];

/// Faults of connections.
pub const OF_CONNECTIONS: &[Kind] =
    &[Kind::CutConnections, Kind::LoseRequests, Kind::LoseReplies, Kind::Delay, Kind::Partition];

/// Faults of one server.
pub const OF_REDIS: &[Kind] = &[
    Kind::KillRedis,
    Kind::RestartRedis,
    Kind::FlushFunctions,
    Kind::KillClients,
    Kind::PauseClients,
    Kind::FreezeRedis,
];

/// Faults of a master with a replica and Sentinels.
pub const OF_MASTERS: &[Kind] = &[Kind::FailOver, Kind::KillMaster, Kind::FreezeMaster, Kind::FlushFunctions];

/// A planned fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// How long after the previous one.
    pub after: Duration,
    /// Its kind.
    pub kind: Kind,
    /// Chooses the process that it hits.
    pub victim: usize,
    /// From 0 to 1: how long or how much, within the range of the kind.
    pub extent: f64,
}

/// An endless sequence of faults.
pub struct Plan {
    rng: StdRng,
    kinds: Vec<Kind>,
    pauses: std::ops::Range<u64>,
    round: Vec<Kind>,
}

impl Plan {
    /// Faults of these kinds, with pauses in this range of ms.
    pub fn new(seed: u64, kinds: Vec<Kind>, pauses: std::ops::Range<u64>) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), kinds, pauses, round: Vec::new() }
    }
}

impl Iterator for Plan {
    type Item = Fault;

    fn next(&mut self) -> Option<Fault> {
        if self.round.is_empty() {
            self.round.clone_from(&self.kinds);
            self.round.shuffle(&mut self.rng);
        }
        let after = Duration::from_millis(self.rng.random_range(self.pauses.clone()));
        let (victim, extent) = (self.rng.random_range(0..1000), self.rng.random_range(0.0..1.0));
        Some(Fault { after, kind: self.round.pop()?, victim, extent })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_kind_comes_before_any_comes_again_and_a_seed_repeats_the_order() {
        let plan = |seed| Plan::new(seed, OF_REDIS.to_vec(), 10..20).take(60).collect::<Vec<_>>();
        assert_eq!(plan(3), plan(3));
        assert_ne!(plan(3), plan(4));
        for round in plan(3).chunks(OF_REDIS.len()) {
            assert_eq!(round.iter().map(|fault| fault.kind).collect::<BTreeSet<_>>().len(), OF_REDIS.len());
        }
    }
}
