//! The store: one method for each transition, and the reads that show what is there.
//!
//! A transition happens whole or not at all, on the keys of one partition and on the store's own clock.
//! All methods are async and wait for Redis; an [`Error`] for which
//! [`is_unavailable`](Error::is_unavailable) holds leaves open whether the call took effect, and the call may be
//! repeated: [`Call::again`] makes the repetition harmless where the transition itself does not.

pub mod across;
pub mod memory;
pub mod redis;
mod registration;

use std::time::Duration;

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::fleet::Queue;
use crate::history::Record;
use crate::names::Namespace;
use crate::published::{Position, Publication, Published};
use crate::request::StartRequest;
use crate::run::Run;
use crate::server::Info;
use crate::step::{
    Call, Cancelled, Checkpoint, Checkpointed, Claim, Claimed, Collect, Commit, Failure, Fence, Joined, OpenWait,
    Outcome, Refill, Route, Sent, Signalled, Wait,
};

pub use self::across::{Across, Reservation, Voided};
pub use self::memory::MemoryStore;
pub use self::redis::{RedisStore, Topology};
pub use self::registration::Registration;

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

/// A worker as the fleet sees it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Worker {
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

/// A start, with what only the coordinator can say.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// What was asked for.
    pub request: StartRequest,
    /// The run's id.
    pub run: String,
    /// The version to pin the run to.
    pub version: u32,
    /// The steps that take the start event; never empty.
    pub routes: Vec<Route>,
    /// The inbox entry to take away with it.
    pub entry: Option<String>,
    /// The ticket of the reservation under which the run is created, where its idempotency key is one of several partitions':
    /// the key is not looked at then. See [`Across::reserve`].
    pub ticket: Option<String>,
    /// What its context begins with, beside what it has from another run: field and value.
    pub context: Vec<(String, Vec<u8>)>,
    /// How long its idempotency key is known.
    pub key_ttl: Duration,
    /// How long the run may take from its first step on; then it fails.
    pub timeout: Option<Duration>,
}

/// What became of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// The run was created.
    New(String),
    /// The id or key was known; this is the run.
    Known(String),
    /// Its context was to begin with that of this run, and nobody knows it; the request is still in the inbox.
    NoSource(String),
    /// Its ticket is void: the key has to be reserved anew. The request is still in the inbox.
    Void,
}

/// What became of a request that cannot be routed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferral {
    /// It is kept, and was taken from the inbox.
    Kept,
    /// Its id or key was known; it was taken from the inbox.
    Known,
    /// Too many are kept; it is still in the inbox.
    Full,
}

/// A request that cannot be taken.
#[derive(Clone, Debug, Default)]
pub struct Rejection {
    /// The inbox entry.
    pub entry: String,
    /// It is only shown as a run: the request is kept among the rejected of another partition, whose inbox it came from.
    pub only_shown: bool,
    /// It was deferred under this run id.
    pub deferred: Option<String>,
    /// The run id to show it under.
    pub run: Option<String>,
    /// Why.
    pub reason: String,
    /// What was asked for, shortened.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
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

/// An inbox entry.
#[derive(Clone, Debug)]
pub struct InboxEntry {
    /// Its id, which other inboxes may give too.
    pub id: String,
    /// The partition whose inbox has it.
    pub inbox: u16,
    /// Its fields.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
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

/// The limits of one tick.
#[derive(Clone, Debug)]
pub struct Tick {
    /// At most this many holds and timers are dealt with in one call.
    pub limit: usize,
    /// A step that lost its worker more often than this while it was executed alone, and no attempt ended well in between,
    /// fails its run.
    pub max_losses: u32,
    /// How long runs that fail this way, or because their time is over, stay readable.
    pub retention: Duration,
    /// Workers whose lease connection was seen closed: the worker and the connection's id.
    pub suspects: Vec<(String, u64)>,
}

/// What a tick did.
#[derive(Clone, Debug, Default)]
pub struct Ticked {
    /// Step executions queued again.
    pub requeued: u64,
    /// Timers fired.
    pub fired: u64,
    /// More is waiting: call again at once.
    pub more: bool,
    /// How long until the next timer is due.
    pub next_due: Option<Duration>,
    /// Workers that were given up.
    pub reaped: Vec<String>,
    /// How many workers have a lease.
    pub workers: u64,
}

/// One slice of an audit.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Whether to mend what is found, or only to tell.
    pub repair: bool,
    /// Where to go on: 0 for the beginning, then [`Audited::next`].
    pub from: u64,
    /// A step that lost its worker more often than this while it was executed alone, and no attempt ended well in between,
    /// fails its run.
    pub max_losses: u32,
    /// How long runs that fail this way stay readable.
    pub retention: Duration,
}

/// What one slice of an audit came to.
#[derive(Clone, Debug, Default)]
pub struct Audited {
    /// Where the next slice begins; None when this was the last.
    pub next: Option<u64>,
    /// How many keys (or runs and workers) were looked at.
    pub examined: u64,
    /// What was found, and mended where that was asked for.
    pub breaches: Vec<Breach>,
}

/// Something that a run needs and that is not there.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Breach {
    /// The run, or the worker.
    pub of: String,
    /// What is wrong with it.
    pub what: String,
}

/// At most this many entries and waits are recorded for a step execution.
pub(crate) const MAX_ENTRIES: usize = 10_000;
/// At most this many entries that a run has published are read at once.
const MAX_PUBLISHED_READ: u64 = 1000;
/// At most this many waits of a run are open for one name.
const MAX_WAITS: usize = 1000;

/// At most this many waits are shown.
const SHOWN_WAITS: usize = 1000;

fn in_order(mut waits: Vec<OpenWait>) -> Vec<OpenWait> {
    waits.sort_by_key(|wait| (wait.seq, wait.number));
    // Redis may list a part twice.
    waits.dedup_by_key(|wait| (wait.seq, wait.number));
    waits.truncate(SHOWN_WAITS);
    waits
}

fn journal_is_full() -> Error {
    Error::too_large(format!(
        "a step may record at most {MAX_ENTRIES} entries, and have {MAX_WAITS} waits of one name open: \
         let several steps, or branches of a fan-out, do the work"
    ))
}

/// In ms, and three centuries at most: Lua writes a time of more than 14 digits in another notation.
pub(crate) fn millis(duration: Duration) -> u64 {
    const MOST: u64 = 10_000_000_000_000;
    u64::try_from(duration.as_millis()).map_or(MOST, |ms| ms.min(MOST))
}

/// The atomic transitions, and the reads.
#[async_trait]
pub trait Store: Across + Send + Sync + 'static {
    /// Where this store keeps its keys.
    fn namespace(&self) -> &Namespace;

    /// Checks that the namespace is one that this version can work with, and makes it where it is new.
    ///
    /// Fails with [`Error::is_invalid`] when it has a newer format or another number of
    /// partitions.
    async fn open(&self) -> Result<()> {
        Ok(())
    }

    /// What the server says about itself, to be judged by [`Info::admit`] before work begins. None where there is no
    /// server; empty where it does not say (some managed servers deny `INFO`).
    async fn server(&self) -> Result<Option<Info>> {
        Ok(None)
    }

    /// Creates a run unless its id or key is known, and queues its start events.
    async fn start(&self, start: &Start) -> Result<Started>;
    /// Keeps a request that cannot be routed yet, unless it repeats a run that is there.
    async fn defer(&self, start: &Start) -> Result<Deferral>;
    /// Takes an inbox entry away and keeps it among the rejected.
    async fn reject(&self, rejection: &Rejection) -> Result<()>;

    /// Fills free slots with step executions from the queues that the worker serves: those that are queued again come first.
    /// A worker that gets less than it asks for is idle from then on, and its [`WakeReader`] tells it when there is more.
    /// None when the worker's lease is gone.
    async fn claim(&self, call: &Call, claim: &Claim) -> Result<Option<Vec<Claimed>>>;
    /// Writes one chunk of a large fan-out ahead of its commit, at `offset`; answers how many are staged.
    /// None when the fence is no longer good.
    async fn stage(&self, worker: &str, fence: &Fence, offset: u64, chunk: &[(Route, Vec<u8>)]) -> Result<Option<u64>>;
    /// Commits a step execution and fills its slot again.
    async fn complete(
        &self,
        call: &Call,
        step: &Claimed,
        commit: &Commit,
        refill: &Refill,
    ) -> Result<(Outcome, Vec<Claimed>)>;
    /// Ends an attempt that failed, and fills its slot again.
    async fn fail(
        &self,
        call: &Call,
        step: &Claimed,
        failure: &Failure,
        refill: &Refill,
    ) -> Result<(Outcome, Vec<Claimed>)>;
    /// Records what a step that goes on has come to so far, opens its waits, and answers those of them that have ended:
    /// a signal was there, or has come since they were opened, or their time is over. [`Outcome::Fenced`] when it is no longer its worker's; fails
    /// with [`Error::is_too_large`] when it has recorded 10,000 entries already.
    async fn checkpoint(&self, worker: &str, fence: &Fence, checkpoint: &Checkpoint) -> Result<Checkpointed>;
    /// Adds an event to what the run publishes, at once and for good: it stays whatever becomes of the attempt.
    /// [`Outcome::Fenced`] when the step is no longer its worker's.
    async fn publish(&self, worker: &str, fence: &Fence, event: &Publication) -> Result<Outcome>;
    /// Ends an attempt that waits, and fills its slot again. Opens those of the waits that are not yet. The step goes on, as a new
    /// attempt, as soon as one of them has an entry in its journal. Fails as [`Store::checkpoint`] does, and changes
    /// nothing then.
    async fn suspend(
        &self,
        call: &Call,
        step: &Claimed,
        waits: &[Wait],
        refill: &Refill,
    ) -> Result<(Outcome, Vec<Claimed>)>;
    /// Delivers to the oldest wait of that name whose filter it passes, or keeps it for the next; takes the inbox entry
    /// away with it.
    async fn signal(&self, run: &str, name: &str, payload: &[u8], entry: Option<&str>) -> Result<Signalled>;
    /// Stops a run where it stands; its steps can commit nothing more. Takes the inbox entry away with it. The run
    /// stays readable for `retention`.
    async fn cancel(&self, run: &str, entry: Option<&str>, retention: Duration) -> Result<Cancelled>;
    /// Puts an event into a buffer of a step while that executes; answers its entry in the journal: `c` and, where the
    /// event filled the buffer, all that was in it (see [`crate::step::collected`]). None where the fence is no longer good. Fails with
    /// [`Error::is_too_large`] when the step has recorded 10,000 entries already.
    async fn collect(&self, worker: &str, fence: &Fence, collect: &Collect) -> Result<Option<Vec<u8>>>;
    /// Gives a run events from outside: each begins an execution of its step. Takes the inbox entry away with it.
    async fn send(&self, run: &str, events: &[(Route, Vec<u8>)], entry: Option<&str>) -> Result<Sent>;
    /// Reads a slice of the events that a fan-out joined, in order of arrival.
    async fn joined(&self, step: &Claimed, joined: &Joined, from: u64, count: u64) -> Result<Vec<Vec<u8>>>;

    /// Makes a worker known, with its queues and its lease.
    async fn register(&self, worker: &Introduction, lease: Duration) -> Result<()>;
    /// Hands all that a worker holds back, and forgets the worker. To be repeated until it answers true.
    async fn deregister(&self, worker: &str) -> Result<bool>;
    /// What the store says that a worker holds.
    async fn holds(&self, worker: &str) -> Result<Vec<Fence>>;
    /// Hands back holds that the worker knows nothing of: Redis may come back without its last moments, and count on
    /// a worker to commit what it has committed before. Answers how many were queued again.
    async fn release(&self, worker: &str, fences: &[Fence]) -> Result<u64>;
    /// Opens the connection that renews a worker's lease. For a thread of its own.
    async fn lease(&self, worker: &str, lease: Duration) -> Result<Box<dyn Lease>>;
    /// Opens the connection on which an idle worker waits for step events.
    async fn wake_reader(&self, worker: &str) -> Result<Box<dyn WakeReader>>;

    /// Takes back what dead and silent workers held; fires what is due.
    async fn tick(&self, tick: &Tick) -> Result<Ticked>;
    /// Looks for what runs need and is not there (keys deleted by hand, a backup restored, a bug), in one slice of
    /// all there is; makes it again from the runs' state, or fails the run where that cannot be done.
    async fn audit(&self, audit: &Audit) -> Result<Audited>;
    /// Those workers whose lease connection is closed, with the connection's id.
    async fn disconnected(&self) -> Result<Vec<(String, u64)>>;
    /// Opens the connection on which a coordinator hears of timers that are due before all others.
    async fn alarm_reader(&self) -> Result<Box<dyn AlarmReader>>;
    /// Opens a blocking reader on the inbox, for one coordinator.
    async fn inbox_reader(&self, coordinator: &str) -> Result<Box<dyn InboxReader>>;
    /// Takes over inbox entries that another coordinator left for `idle`.
    async fn reclaim_inbox(&self, coordinator: &str, idle: Duration) -> Result<Vec<InboxEntry>>;

    /// Writes a request into the inbox, as any Redis client may; answers the run id it will get.
    async fn submit(&self, request: &StartRequest) -> Result<String>;
    /// Writes any request into the inbox, as its fields are given; answers the entry's id.
    async fn enqueue(&self, fields: &[(Vec<u8>, Vec<u8>)]) -> Result<String>;
    /// A run; None where there is none of that id. An id whose request turned out to be a known run (same idempotency
    /// key) gives that run.
    async fn run(&self, id: &str) -> Result<Option<Run>>;
    /// A run's context as it is now, in no order; empty where there is no such run.
    async fn context(&self, run: &str) -> Result<Vec<(String, Vec<u8>)>>;
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
    /// The workers whose lease has not been swept.
    async fn workers(&self) -> Result<Vec<Worker>>;
    /// Every workflow version that was ever registered.
    async fn registrations(&self) -> Result<Vec<Registration>>;
    /// The queue of every workflow version that was ever registered.
    async fn queues(&self) -> Result<Vec<Queue>>;
    /// Requests that wait for a worker to serve them.
    async fn deferred(&self) -> Result<Vec<Deferred>>;
    /// Waits until the run has ended or `limit` is over, whichever is first; may return early.
    async fn wait_ended(&self, run: &str, limit: Duration) -> Result<()>;
    /// The time on the store's clock, in ms since 1970.
    async fn now_ms(&self) -> Result<u64>;
}

/// Renews one worker's lease on a connection of its own. When that connection closes, the worker is known to be dead.
#[async_trait]
pub trait Lease: Send {
    /// Renews the lease.
    async fn heartbeat(&mut self) -> Result<Heartbeat>;
}

/// Waits until there is something for an idle worker to claim.
#[async_trait]
pub trait WakeReader: Send {
    /// Waits up to about five seconds to be woken; true when it was. To be followed by [`Store::claim`] either way: a worker
    /// need not rely on being woken. May be dropped at any time; the reader is then unusable, as it is after an error, and must be
    /// opened again.
    async fn next(&mut self) -> Result<bool>;
}

/// Waits for what a run publishes.
#[async_trait]
pub trait EventReader: Send {
    /// Waits up to about two seconds for entries; empty when there were none. Gives each entry once. After an error the
    /// reader is unusable and must be opened again.
    async fn next(&mut self) -> Result<Vec<Published>>;
}

/// Waits until a timer is set that is due before all others, and within a minute.
#[async_trait]
pub trait AlarmReader: Send {
    /// Waits up to `limit`. An alarm may have been missed, or be of no use by now: to be followed by [`Store::tick`] either way. May
    /// be dropped at any time. After an error the reader is unusable and must be opened again.
    async fn next(&mut self, limit: Duration) -> Result<()>;
}

/// Waits for requests.
#[async_trait]
pub trait InboxReader: Send {
    /// Waits up to about a second for entries.
    async fn next(&mut self) -> Result<Vec<InboxEntry>>;
}
