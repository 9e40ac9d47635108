//! What a worker may do: be there, claim step executions, and commit what they leave behind.

use std::time::Duration;

use async_trait::async_trait;

use super::{EntityStore, Registration};
use crate::durability::{Durability, Epoch};
use crate::error::Result;
use crate::published::{Piece, Publication};
use crate::request::StartRequest;
use crate::step::{
    Body, CallId, Checkpoint, Checkpointed, Claim, Claimed, Collect, Commit, CommitStatus, Failure, Fence, JoinBuffer,
    Refill, Route, Wait,
};

/// What a worker may do.
#[async_trait]
pub trait WorkerStore: EntityStore {
    /// Makes a worker known, with its queues and its lease.
    async fn register(&self, worker: &Introduction, lease: Duration) -> Result<()>;
    /// Hands all that a worker holds back, and forgets the worker. To be repeated until it answers true.
    async fn deregister(&self, worker: &str) -> Result<bool>;
    /// Opens the connection that renews a worker's lease. For a thread of its own.
    async fn lease(&self, worker: &str, lease: Duration) -> Result<Box<dyn Lease>>;
    /// Opens the connection on which an idle worker waits for step events.
    async fn wake_reader(&self, worker: &str) -> Result<Box<dyn WakeReader>>;
    /// Fills free slots with step executions from the queues that the worker serves: those that are queued again come first.
    /// A worker that gets less than it asks for is idle from then on, and its [`WakeReader`] tells it when there is more.
    /// None when the worker's lease is gone.
    async fn claim(&self, call: &CallId, claim: &Claim) -> Result<Option<Vec<Claimed>>>;
    /// Reads a slice of the events that a fan-out joined, in order of arrival.
    async fn joined(&self, step: &Claimed, joined: &JoinBuffer, from: u64, count: u64) -> Result<Vec<Vec<u8>>>;
    /// Writes one chunk of a large fan-out ahead of its commit, at `offset`; answers how many are staged.
    /// None when the fence is no longer good.
    async fn stage(&self, worker: &str, fence: &Fence, offset: u64, chunk: &[(Route, Vec<u8>)]) -> Result<Option<u64>>;
    /// Records what a step that goes on has come to so far, opens its waits, and answers those of them that have ended:
    /// a signal was there, or has come since they were opened, or their time is over. [`CommitStatus::Fenced`] when it is no longer its worker's; fails
    /// with [`Error::is_too_large`](crate::Error::is_too_large) when it has recorded 100,000 entries already.
    async fn checkpoint(&self, worker: &str, fence: &Fence, checkpoint: &Checkpoint) -> Result<Checkpointed>;
    /// Writes a request for another run into the inbox of this partition, whichever that run belongs to. Its id tells repetitions.
    async fn start_run(&self, request: &StartRequest) -> Result<()>;
    /// Adds an event to what the run publishes, at once and for good: it stays whatever becomes of the attempt.
    /// [`CommitStatus::Fenced`] when the step is no longer its worker's.
    async fn publish(&self, worker: &str, fence: &Fence, event: &Publication) -> Result<CommitStatus>;
    /// Adds a piece to a stream of the run's text, at once and for good. What is there already is not added again; what another
    /// attempt wrote at the same place is superseded as soon as this one writes something else. [`CommitStatus::Fenced`] when the step
    /// is no longer its worker's. Fails with [`Error::is_too_large`](crate::Error::is_too_large) when about 10,000 streams and published
    /// events of the step execution are remembered already.
    async fn stream(&self, worker: &str, fence: &Fence, piece: &Piece) -> Result<CommitStatus>;
    /// Puts an event into a buffer of a step while that executes; answers its entry in the journal: `c` and, where the
    /// event filled the buffer, all that was in it (see [`crate::step::collected`]). None where the fence is no longer good. Fails with
    /// [`Error::is_too_large`](crate::Error::is_too_large) when the step has recorded 100,000 entries already.
    async fn collect(&self, worker: &str, fence: &Fence, collect: &Collect) -> Result<Option<Vec<u8>>>;
    /// Commits a step execution and fills its slot again.
    async fn complete(
        &self,
        call: &CallId,
        step: &Claimed,
        commit: &Commit,
        refill: &Refill,
    ) -> Result<(CommitStatus, Vec<Claimed>)>;
    /// Ends an attempt that failed, and fills its slot again.
    async fn fail(
        &self,
        call: &CallId,
        step: &Claimed,
        failure: &Failure,
        refill: &Refill,
    ) -> Result<(CommitStatus, Vec<Claimed>)>;
    /// Ends an attempt that waits, and fills its slot again. Opens those of the waits that are not yet. The step goes on, as a new
    /// attempt, as soon as one of them has an entry in its journal. Fails as [`WorkerStore::checkpoint`] does, and changes
    /// nothing then. `body`: whether the worker can go on with it ([`Claimed::kept`]); it is then the first to be woken.
    async fn suspend(
        &self,
        call: &CallId,
        step: &Claimed,
        waits: &[Wait],
        body: Body,
        refill: &Refill,
    ) -> Result<(CommitStatus, Vec<Claimed>)>;
    /// Returns once everything that the store has answered so far is as safe as this. None where the fence is no longer good: the
    /// server may have been replaced by one that knows less. Blocks for as long as the server has no confirmation, 5 s at a time, and
    /// then fails with an error that passes. Fails for good where the server cannot confirm this at all.
    async fn settle(&self, durability: Durability, fence: &Fence) -> Result<Option<Epoch>>;
    /// What the store says that a worker holds.
    async fn holds(&self, worker: &str) -> Result<Vec<Fence>>;
    /// Hands back holds that the worker knows nothing of: Redis may come back without its last moments, and count on
    /// a worker to commit what it has committed before. Answers how many were queued again.
    async fn release(&self, worker: &str, fences: &[Fence]) -> Result<u64>;
}

/// A worker as it introduces itself.
#[derive(Clone, Debug, Default)]
pub struct Introduction {
    /// Its id, new at each start of the process.
    pub id: String,
    /// The host it runs on.
    pub host: String,
    /// Its process id.
    pub pid: u32,
    /// How many steps it executes at once.
    pub concurrency: usize,
    /// What it serves.
    pub serves: Vec<Registration>,
}

/// What a heartbeat told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// The lease is renewed.
    Renewed {
        /// Runs that were cancelled since the last heartbeat, and possibly some before: what executes a step of theirs
        /// may stop.
        cancelled: Vec<String>,
        /// A step execution waits to be executed alone, and this worker is to make room for it: to let its steps end and
        /// take no new ones until it can claim with [`Claim::alone`].
        drain: bool,
    },
    /// The lease had run out and the holds are gone: the worker must register anew, under a new id.
    Lost,
}

/// Renews one worker's lease on a connection of its own. When that connection closes, the worker is known to be dead.
#[async_trait]
pub trait Lease: Send {
    /// Renews the lease.
    async fn heartbeat(&mut self) -> Result<Heartbeat>;
    /// Renews the lease of a worker that executes nothing, which has nothing to be told; false when it is lost. Costs less.
    async fn heartbeat_idle(&mut self) -> Result<bool>;
    /// Returns when the connection has been closed, so that another is made before the worker is taken for dead: a server, or what is
    /// between, may close what it finds idle. May be dropped.
    async fn closed(&mut self) {
        std::future::pending::<()>().await;
    }
}

/// Waits until there is something for an idle worker to claim.
#[async_trait]
pub trait WakeReader: Send {
    /// Waits up to about twenty seconds to be woken; true when it was. To be followed by [`WorkerStore::claim`] either way: a worker
    /// need not rely on being woken. May be dropped at any time; the reader is then unusable, as it is after an error, and must be
    /// opened again.
    async fn next(&mut self) -> Result<bool>;
}
