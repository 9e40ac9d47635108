//! What a worker may do: register, claim step executions, and commit their results.

use std::time::Duration;

use async_trait::async_trait;

use super::{EntityStore, Registration};
use crate::durability::{Durability, Epoch};
use crate::error::Result;
use crate::published::{Piece, Publication};
use crate::request::StartRequest;
use crate::step::{
    Body, CallId, Checkpoint, Checkpointed, Claim, Claimed, Collect, Commit, CommitStatus, Failure, Fence, JoinBuffer,
    Refill, Route, Taken, Upon, Wait,
};

/// What a worker may do.
#[async_trait]
pub trait WorkerStore: EntityStore {
    /// Registers a worker, with its queues and its lease.
    async fn register(&self, worker: &Introduction, lease: Duration) -> Result<()>;
    /// Hands back everything that a worker holds, and forgets the worker. Repeat it until it returns true.
    async fn deregister(&self, worker: &str) -> Result<bool>;
    /// Opens the connection that renews a worker's lease. For a separate thread.
    async fn lease(&self, worker: &str, lease: Duration) -> Result<Box<dyn Lease>>;
    /// Opens the connection on which an idle worker waits for step events.
    async fn wake_reader(&self, worker: &str) -> Result<Box<dyn WakeReader>>;
    /// Fills free slots with step executions from the queues that the worker serves, those that were queued again first.
    /// A worker that gets less than it asks for is idle from then on, and its [`WakeReader`] tells it when there is more.
    /// None when the worker's lease is gone.
    async fn claim(&self, call: &CallId, claim: &Claim) -> Result<Option<Taken>>;
    /// Reads a slice of the events that a fan-out joined, in order of arrival.
    async fn joined(&self, step: &Claimed, joined: &JoinBuffer, from: u64, count: u64) -> Result<Vec<Vec<u8>>>;
    /// Writes one chunk of a large fan-out ahead of its commit, at `offset`; returns how many branches are staged.
    /// None when the fence is no longer good.
    async fn stage(&self, worker: &str, fence: &Fence, offset: u64, chunk: &[(Route, Vec<u8>)]) -> Result<Option<u64>>;
    /// Records the progress of an executing step, opens its waits, and returns the outcomes of those that have ended:
    /// a signal was there or has come since, or the deadline is over. [`CommitStatus::Fenced`] if the step is no longer
    /// this worker's; fails with [`Error::is_too_large`](crate::Error::is_too_large) if it has recorded 100,000 entries
    /// already.
    async fn checkpoint(&self, worker: &str, fence: &Fence, checkpoint: &Checkpoint) -> Result<Checkpointed>;
    /// Writes a request for another run into the inbox of this partition, whichever partition that run belongs to. Its
    /// id makes it safe to repeat.
    async fn start_run(&self, request: &StartRequest) -> Result<()>;
    /// Adds an event to what the run publishes, at once: it stays however the attempt ends.
    /// [`CommitStatus::Fenced`] if the step is no longer this worker's.
    async fn publish(&self, worker: &str, fence: &Fence, event: &Publication) -> Result<CommitStatus>;
    /// Adds a piece to a stream of the run's text, at once: it stays however the attempt ends. Text that is there
    /// already is not added again; what another attempt wrote at the same place is superseded as soon as this one
    /// writes something else. [`CommitStatus::Fenced`] if the step is no longer this worker's. Fails with
    /// [`Error::is_too_large`](crate::Error::is_too_large) if about 10,000 streams and published events of the step
    /// execution are remembered already.
    async fn stream(&self, worker: &str, fence: &Fence, piece: &Piece) -> Result<CommitStatus>;
    /// Puts an event into a buffer of a step that is executing; returns its entry in the journal: `c` and, if the event
    /// filled the buffer, all events in it (see [`crate::step::collected`]). None if the fence is no longer good. Fails
    /// with [`Error::is_too_large`](crate::Error::is_too_large) when the step has recorded 100,000 entries already.
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
    /// Ends an attempt that waits, and fills its slot again. Opens the waits that are not open yet. The step goes on,
    /// as a new attempt, as soon as one of them has an entry in its journal. Fails like [`WorkerStore::checkpoint`],
    /// and then changes nothing. `body`: whether the worker keeps the body ([`Claimed::kept`]); it is then the first to
    /// be woken. `upon`: see [`Upon`].
    async fn suspend(
        &self,
        call: &CallId,
        step: &Claimed,
        waits: &[Wait],
        body: Body,
        upon: Option<Upon>,
        refill: &Refill,
    ) -> Result<(CommitStatus, Vec<Claimed>)>;
    /// Returns once everything that the store has answered so far is as safe as this. None if the fence is no longer good: the
    /// server may have been replaced by one that knows less. Blocks for as long as the server has no confirmation, 5 s at a time, and
    /// then fails with an error that passes. Fails for good if the server cannot confirm this at all.
    async fn confirm(&self, durability: Durability, fence: &Fence) -> Result<Option<Epoch>>;
    /// What a worker holds, according to the store.
    async fn holds(&self, worker: &str) -> Result<Vec<Fence>>;
    /// Hands back holds that the worker does not know: Redis may come back without its latest writes, and expect
    /// a worker to commit what it has committed already. Returns how many were queued again.
    async fn release(&self, worker: &str, fences: &[Fence]) -> Result<u64>;
}

/// A worker, as it registers.
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

/// The reply to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// The lease is renewed.
    Renewed {
        /// Runs that were cancelled since the last heartbeat, and possibly some before: their executing steps
        /// may stop.
        cancelled: Vec<String>,
        /// A step execution waits to be executed alone, and this worker must make room for it: let its steps end and
        /// take no new ones until it can claim with [`Claim::alone`].
        drain: bool,
    },
    /// The lease had run out and the holds are gone: the worker must register again, under a new id.
    Lost,
}

/// Renews one worker's lease on a separate connection. When that connection closes, the worker is known to be dead.
#[async_trait]
pub trait Lease: Send {
    /// Renews the lease.
    async fn heartbeat(&mut self) -> Result<Heartbeat>;
    /// Renews the lease of a worker that executes nothing, at a lower cost: there is nothing to report to it. False if
    /// the lease is lost.
    async fn heartbeat_idle(&mut self) -> Result<bool>;
    /// Returns when the connection was closed, so that the caller can open another before the worker counts as dead: a
    /// server, or something in between, may close idle connections. May be dropped.
    async fn closed(&mut self) {
        std::future::pending::<()>().await;
    }
}

/// Waits until there is something for an idle worker to claim.
#[async_trait]
pub trait WakeReader: Send {
    /// Waits up to about twenty seconds to be woken; true if it was. Call [`WorkerStore::claim`] afterwards either way:
    /// a worker need not rely on being woken. May be dropped at any time; the reader is then unusable, like after an
    /// error, and must be opened again.
    async fn next(&mut self) -> Result<bool>;
}
