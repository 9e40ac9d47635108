//! What anybody may read, whoever he is in a fleet.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;

use super::{LiveStep, Registration, RejectedRequest};
use crate::error::Result;
use crate::export::Journaled;
use crate::fleet::Queue;
use crate::history::Record;
use crate::names::Namespace;
use crate::published::{Position, Published};
use crate::question::OpenQuestion;
use crate::request::StartRequest;
use crate::run::Run;
use crate::server::Info;
use crate::step::OpenWait;

/// What anybody may read.
#[async_trait]
pub trait ReaderStore: Send + Sync + 'static {
    /// Where this store keeps its keys.
    fn namespace(&self) -> &Namespace;
    /// Checks that the namespace is one that this version can work with, and makes it where it is new.
    ///
    /// Fails with [`Error::is_invalid`](crate::Error::is_invalid) when it has a newer format or another number of
    /// partitions.
    async fn open(&self) -> Result<()> {
        Ok(())
    }
    /// What the server says about itself, to be judged by [`Info::admit`] before work begins. None where there is no
    /// server; empty where it does not say (some managed servers deny `INFO`).
    async fn server(&self) -> Result<Option<Info>> {
        Ok(None)
    }
    /// A run; None where there is none of that id. An id whose request turned out to be a known run (same idempotency
    /// key) gives that run.
    async fn run(&self, id: &str) -> Result<Option<Run>>;
    /// The run that this id leads to, where its request turned out to repeat another. That one may be in another partition.
    async fn leads_to(&self, run: &str) -> Result<Option<String>>;
    /// The run that an idempotency key of a workflow stands for; None where there is none, or its day is over.
    async fn key(&self, workflow: &str, key: &str) -> Result<Option<String>>;
    /// Whether the request for this run is held for a worker that serves its workflow.
    async fn is_deferred(&self, run: &str) -> Result<bool>;
    /// The outcome of a request about this run that had this id; None where no coordinator has taken it up yet, or its day is over. The
    /// run is meant as the request names it.
    async fn request_fate(&self, run: &str, request: &str) -> Result<Option<RequestFate>>;
    /// The receipts in a list that nobody has taken off it, the oldest first: the JSON of each. The list is in this partition.
    async fn receipts(&self, list: &str) -> Result<Vec<String>>;
    /// A run's context as it is now, in no order; empty where there is no such run.
    async fn context(&self, run: &str) -> Result<Vec<(String, Vec<u8>)>>;
    /// A session; None where there is none of that name, or it has expired.
    async fn session(&self, name: &str) -> Result<Option<SessionInfo>>;
    /// The step executions of a run whose bodies have recorded something: those that have not ended or have failed, and, of a run of one
    /// step that has completed, that one.
    async fn journals(&self, run: &str) -> Result<Vec<Journaled>>;
    /// The newest runs first, `count` from `offset`.
    async fn runs(&self, offset: usize, count: usize) -> Result<Vec<Run>>;
    /// Records of a run's history from the `from`th on, at most `count`.
    async fn history(&self, run: &str, from: u64, count: u64) -> Result<Vec<Record>>;
    /// What a run has published after a position, at most `count` entries (1,000 at the most); none where it has
    /// published nothing. The id is the run's own: aliases are not followed.
    async fn published(&self, run: &str, after: Position, count: u64) -> Result<Vec<Published>>;
    /// Opens a blocking reader of what a run publishes after a position. The id is the run's own.
    async fn event_reader(&self, run: &str, after: Position) -> Result<Box<dyn EventReader>>;
    /// What a live run waits for: at most 1000 waits, those of one step execution in the order of their numbers.
    async fn waits(&self, run: &str) -> Result<Vec<OpenWait>>;
    /// Questions that are open: those of a run, or of all runs of the partition `count` of them from place `from` on, the oldest first.
    /// One that is answered meanwhile moves those behind it.
    async fn questions(&self, run: Option<&str>, from: u64, count: u64) -> Result<Vec<OpenQuestion>>;
    /// The step executions of a run that have not ended, by their numbers: a hundred at most, the first.
    async fn live_steps(&self, run: &str) -> Result<Vec<LiveStep>>;
    /// Requests that were rejected from one time until before another (ms since 1970), the newest first; `count` at most.
    async fn rejected(&self, since_ms: u64, before_ms: u64, count: usize) -> Result<Vec<RejectedRequest>>;
    /// The workers whose lease has not been swept.
    async fn workers(&self) -> Result<Vec<WorkerInfo>>;
    /// Every workflow version that was ever registered.
    async fn registrations(&self) -> Result<Vec<Registration>>;
    /// The names of all workflows that were ever registered.
    async fn known_workflows(&self) -> Result<BTreeSet<String>> {
        Ok(self.registrations().await?.into_iter().map(|found| found.workflow).collect())
    }
    /// The queue of every workflow version that was ever registered.
    async fn queues(&self) -> Result<Vec<Queue>>;
    /// Requests that wait for a worker to serve them.
    async fn deferred(&self) -> Result<Vec<Deferred>>;
    /// How many requests are in the inbox, also those that a coordinator is about to take in.
    async fn waiting_requests(&self) -> Result<u64>;
    /// Waits until the run has ended or `limit` is over, whichever is first; may return early.
    async fn wait_ended(&self, run: &str, limit: Duration) -> Result<()>;
    /// The time on the store's clock, in ms since 1970.
    async fn now_ms(&self) -> Result<u64>;
}

/// A session as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionInfo {
    /// The run whose turn it is.
    pub running: Option<String>,
    /// Those that wait for theirs, in order; at most a thousand.
    pub waiting: Vec<String>,
    /// How many of its runs have completed.
    pub completed: u64,
    /// When it is to be forgotten (ms since 1970), where none of its runs is under way.
    pub expires_ms: Option<u64>,
    /// The context that its runs share, as the last one that completed has left it, in no order.
    pub context: Vec<(String, Vec<u8>)>,
}

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestFate {
    /// It was taken: what it asked for is done.
    Taken,
    /// It is kept for later: nobody waits for this signal yet, or the run is still to start.
    Kept,
    /// It could not be taken, for this reason.
    Rejected(String),
}

/// A worker as the fleet sees it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct WorkerInfo {
    /// Its id.
    pub id: String,
    /// The host it runs on.
    pub host: String,
    /// Its process id.
    pub pid: u32,
    /// How many steps it executes at once.
    pub concurrency: usize,
    /// How many it holds now.
    pub held: u64,
    /// Since when it is there (ms since 1970).
    pub since_ms: u64,
    /// How long its lease still lasts (ms); negative when it has run out.
    pub lease_ms: i64,
    /// Redis' id of the connection that renews its lease; 0 before the first heartbeat.
    pub client: u64,
    /// What it serves, as `<workflow>:<version>`.
    pub serves: Vec<String>,
}

/// A request for a workflow that no worker serves yet.
#[derive(Clone, Debug)]
pub struct Deferred {
    /// The run's id.
    pub run: String,
    /// What was asked for.
    pub request: StartRequest,
    /// Since when it waits (ms since 1970).
    pub since_ms: u64,
}

/// Waits for what a run publishes.
#[async_trait]
pub trait EventReader: Send {
    /// Waits up to about two seconds for entries; empty when there were none. Gives each entry once. After an error the
    /// reader is unusable and must be opened again.
    async fn next(&mut self) -> Result<Vec<Published>>;
}
