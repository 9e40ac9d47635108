//! What every role may read.

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

/// What every role may read.
#[async_trait]
pub trait ReaderStore: Send + Sync + 'static {
    /// The namespace and partition of this store's keys.
    fn namespace(&self) -> &Namespace;
    /// Checks that this version can work with the namespace, and creates it if it is new.
    ///
    /// Fails with [`Error::is_invalid`](crate::Error::is_invalid) when it has a newer format or another number of
    /// partitions.
    async fn open(&self) -> Result<()> {
        Ok(())
    }
    /// What the server says about itself, for [`Info::admit`] to judge before work begins. None if there is no
    /// server; empty if it does not say (some managed servers deny `INFO`).
    async fn server(&self) -> Result<Option<Info>> {
        Ok(None)
    }
    /// A run; None if there is none with that id. An id whose request turned out to repeat a known run (same idempotency
    /// key) gives that run.
    async fn run(&self, id: &str) -> Result<Option<Run>>;
    /// The run that this id leads to, if its request turned out to repeat another one, which may be in another partition.
    async fn leads_to(&self, run: &str) -> Result<Option<String>>;
    /// The run that an idempotency key of a workflow stands for; None if there is none, or its day is over.
    async fn key(&self, workflow: &str, key: &str) -> Result<Option<String>>;
    /// Whether the request for this run is held for a worker that serves its workflow.
    async fn is_deferred(&self, run: &str) -> Result<bool>;
    /// The outcome of the request with this id about this run; None if no coordinator has taken it up yet, or its day
    /// is over. The run's id is the one in the request.
    async fn request_fate(&self, run: &str, request: &str) -> Result<Option<RequestFate>>;
    /// The receipts that are still in a list, the oldest first: the JSON of each. The list is in this partition.
    async fn receipts(&self, list: &str) -> Result<Vec<String>>;
    /// A run's current context, in no order; empty if there is no such run.
    async fn context(&self, run: &str) -> Result<Vec<(String, Vec<u8>)>>;
    /// A session; None if there is none of that name, or it has expired.
    async fn session(&self, name: &str) -> Result<Option<SessionInfo>>;
    /// The step executions of a run whose bodies have recorded something: those that have not ended or have failed, and, of a run of one
    /// step that has completed, that one.
    async fn journals(&self, run: &str) -> Result<Vec<Journaled>>;
    /// `count` runs from `offset`, the newest first.
    async fn runs(&self, offset: usize, count: usize) -> Result<Vec<Run>>;
    /// Records of a run's history from the `from`th on, at most `count`.
    async fn history(&self, run: &str, from: u64, count: u64) -> Result<Vec<Record>>;
    /// What a run has published after a position, at most `count` entries (1,000 at the most); none if it has
    /// published nothing. The id is the run's own: aliases are not followed.
    async fn published(&self, run: &str, after: Position, count: u64) -> Result<Vec<Published>>;
    /// Opens a blocking reader of what a run publishes after a position. The id is the run's own.
    async fn event_reader(&self, run: &str, after: Position) -> Result<Box<dyn EventReader>>;
    /// What a live run waits for: at most 1,000 waits, those of one step execution in the order of their numbers.
    async fn waits(&self, run: &str) -> Result<Vec<OpenWait>>;
    /// The open questions of a run; or of all runs of the partition, `count` of them from place `from` on, the oldest
    /// first. If one is answered meanwhile, the later ones move up.
    async fn questions(&self, run: Option<&str>, from: u64, count: u64) -> Result<Vec<OpenQuestion>>;
    /// The first step executions of a run that have not ended, in the order of their numbers: at most a hundred.
    async fn live_steps(&self, run: &str) -> Result<Vec<LiveStep>>;
    /// Requests that were rejected at or after one time and before another (ms since 1970), the newest first; at most
    /// `count`.
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
    /// How many requests are in the inbox, including those that a coordinator is about to take.
    async fn waiting_requests(&self) -> Result<u64>;
    /// Waits until the run has ended, at most for `limit`; may return early.
    async fn wait_ended(&self, run: &str, limit: Duration) -> Result<()>;
    /// The time on the store's clock, in ms since 1970.
    async fn now_ms(&self) -> Result<u64>;
}

/// The current session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionInfo {
    /// The run whose turn it is.
    pub running: Option<String>,
    /// Those that wait for theirs, in order; at most a thousand.
    pub waiting: Vec<String>,
    /// How many of its runs have completed.
    pub completed: u64,
    /// When it will be forgotten (ms since 1970), if none of its runs is active.
    pub expires_ms: Option<u64>,
    /// The context that its runs share, as the last completed run has left it, in no order.
    pub context: Vec<(String, Vec<u8>)>,
}

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestFate {
    /// It was taken and took effect.
    Taken,
    /// It is kept for later: no step waits for this signal yet, or the run has not started.
    Kept,
    /// It was rejected, for this reason.
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
    /// When it registered (ms since 1970).
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
    /// The request.
    pub request: StartRequest,
    /// Since when it has been waiting (ms since 1970).
    pub since_ms: u64,
}

/// Waits for what a run publishes.
#[async_trait]
pub trait EventReader: Send {
    /// Waits up to about two seconds for entries; empty if there were none. Returns each entry once. After an error the
    /// reader is unusable and must be opened again.
    async fn next(&mut self) -> Result<Vec<Published>>;
}
