//! The store in memory: what each transition does, written to be read.
//!
//! `State` is plain data. Each transition is a method on it that gets the time and does no I/O; the files are
//! named as the Lua files of the store on Redis are, and both must give the same answers. The test kit runs
//! workflows on this store, and tests hold the store on Redis against it.

mod across;
mod audit;
mod breaches;
mod claim;
mod collect;
mod commit;
mod context;
mod fan;
mod fleet;
mod journal;
mod kit;
mod publish;
mod readers;
mod reads;
mod signal;
mod start;
mod state;
mod stream;
mod timeout;
mod timers;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use tokio::sync::{Notify, broadcast};

pub use self::kit::Moment;
use self::state::State;
use super::{
    AlarmReader, Audit, Audited, Deferral, Deferred, EventReader, InboxEntry, InboxReader, Introduction, Lease,
    Registration, Rejection, Start, Started, Store, Tick, Ticked, WakeReader, Worker, millis,
};
use crate::error::Result;
use crate::fleet::Queue;
use crate::history::Record;
use crate::names::{Namespace, QueueName};
use crate::published::{Position, Publication, Published};
use crate::request::StartRequest;
use crate::run::Run;
use crate::step::{
    Call, Cancelled, Checkpoint, Checkpointed, Claim, Claimed, Collect, Commit, Failure, Fence, Joined, OpenWait,
    Outcome, Refill, Route, Sent, Signalled, Wait,
};

/// How long a rejected request is shown as a run.
const REJECTED_RETENTION: Duration = Duration::from_secs(24 * 3600);
/// How many ends of runs a waiter may be behind before it must look for itself.
const ENDED_BUFFER: usize = 1024;

/// A store of one partition in memory, for tests. Cheap to clone; clones share what is in it.
///
/// It is gone with its last clone. Blocking reads wait in real time, whatever the clock.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    namespace: Namespace,
    clock: Clock,
    state: Mutex<State>,
    /// Something was queued or published, or came into the inbox.
    arrived: Notify,
    /// The runs that end.
    ended: broadcast::Sender<String>,
    watcher: kit::Watcher,
}

impl MemoryStore {
    /// An empty store on the system's clock.
    pub fn new(namespace: Namespace) -> Self {
        let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self::on(namespace, Clock { start: millis(since_1970), runs_since: Some(Instant::now()), skipped: 0.into() })
    }

    /// An empty store whose clock stands at `now_ms` (ms since 1970) and moves only with [`MemoryStore::advance`].
    pub fn with_clock(namespace: Namespace, now_ms: u64) -> Self {
        Self::on(namespace, Clock { start: now_ms, runs_since: None, skipped: 0.into() })
    }

    fn on(namespace: Namespace, clock: Clock) -> Self {
        let (state, arrived, ended) = (Mutex::default(), Notify::new(), broadcast::Sender::new(ENDED_BUFFER));
        let watcher = kit::Watcher::default();
        Self { shared: Arc::new(Shared { namespace, clock, state, arrived, ended, watcher }) }
    }

    /// Skips time, on either clock. What is due by then is dealt with by the next [`Store::tick`].
    pub fn advance(&self, by: Duration) {
        self.shared.clock.skipped.fetch_add(millis(by), Ordering::SeqCst);
    }

    /// The requests that were rejected, oldest first, as the stream `rejected` has them: `reason`, `entry`, and the
    /// fields that were asked for.
    pub fn rejected(&self) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
        self.change(|state, _| state.rejected.iter().cloned().collect())
    }

    /// How many entries each queue has, given to readers or not: those queued again (also alone), and new ones.
    pub fn backlog(&self) -> Vec<(QueueName, usize, usize)> {
        let backlog = |state: &mut State, _| {
            let lanes = state.queues.iter();
            lanes
                .map(|(name, lanes)| (name.clone(), lanes.requeued.len() + lanes.alone.len(), lanes.new.len()))
                .collect()
        };
        self.change(backlog)
    }

    /// Entries, as those of this partition's inbox.
    fn of_inbox(&self, entries: Vec<InboxEntry>) -> Vec<InboxEntry> {
        let inbox = self.shared.namespace.partition();
        entries.into_iter().map(|entry| InboxEntry { inbox, ..entry }).collect()
    }

    /// All that is in the store, to go back to.
    pub fn save(&self) -> SavedStore {
        self.change(|state, _| SavedStore(state.clone()))
    }

    /// Goes back, as a server does that is started again without its last moments. The clock goes on.
    pub fn restore(&self, saved: &SavedStore) {
        self.change(|state, _| state.clone_from(&saved.0));
    }

    /// What is wrong with the state: a sentence for each step execution that nobody will take up, for each fan-out
    /// that miscounts its branches, and so on. Always empty, unless a transition has a bug.
    pub fn breaches(&self) -> Vec<String> {
        self.change(|state, _| state.breaches())
    }

    /// Runs one transition (or read), and tells those who wait for what it brought.
    fn change<T>(&self, transition: impl FnOnce(&mut State, u64) -> T) -> T {
        // A panic in a transition is a bug that its own caller sees; whoever comes next need not fall over it too.
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = transition(&mut state, self.shared.clock.now_ms());
        let news = std::mem::take(&mut state.news);
        drop(state);
        if news.arrived {
            self.shared.arrived.notify_waiters();
        }
        for run in news.ended {
            // Nobody may be waiting.
            let _ = self.shared.ended.send(run);
        }
        answer
    }
}

/// A store as it was once.
#[derive(Clone, Debug)]
pub struct SavedStore(State);

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("namespace", &self.shared.namespace).finish_non_exhaustive()
    }
}

/// Never goes back, as long as nobody takes time away from it.
struct Clock {
    start: u64,
    /// None for a clock that stands still.
    runs_since: Option<Instant>,
    skipped: AtomicU64,
}

impl Clock {
    fn now_ms(&self) -> u64 {
        let run = self.runs_since.map_or(0, |since| millis(since.elapsed()));
        self.start + run + self.skipped.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn namespace(&self) -> &Namespace {
        &self.shared.namespace
    }

    async fn start(&self, start: &Start) -> Result<Started> {
        Ok(self.change(|state, now| state.start(now, start)))
    }

    async fn defer(&self, start: &Start) -> Result<Deferral> {
        Ok(self.change(|state, now| state.defer(now, start)))
    }

    async fn reject(&self, rejection: &Rejection) -> Result<()> {
        self.change(|state, now| state.reject(now, rejection));
        Ok(())
    }

    async fn claim(&self, call: &Call, claim: &Claim) -> Result<Option<Vec<Claimed>>> {
        Ok(self.change(|state, now| state.claim(now, call, claim)))
    }

    async fn stage(&self, worker: &str, fence: &Fence, offset: u64, chunk: &[(Route, Vec<u8>)]) -> Result<Option<u64>> {
        Ok(self.change(|state, _| state.stage(worker, fence, offset, chunk)))
    }

    async fn complete(
        &self,
        call: &Call,
        step: &Claimed,
        commit: &Commit,
        refill: &Refill,
    ) -> Result<(Outcome, Vec<Claimed>)> {
        self.commit(&call.worker, &step.fence, |state, now| state.complete(now, call, step, commit, refill)).await
    }

    async fn fail(
        &self,
        call: &Call,
        step: &Claimed,
        failure: &Failure,
        refill: &Refill,
    ) -> Result<(Outcome, Vec<Claimed>)> {
        Ok(self.commit(&call.worker, &step.fence, |state, now| state.fail(now, call, step, failure, refill)).await)
    }

    async fn checkpoint(&self, worker: &str, fence: &Fence, checkpoint: &Checkpoint) -> Result<Checkpointed> {
        self.commit(worker, fence, |state, now| state.checkpoint(now, worker, fence, checkpoint)).await
    }

    async fn publish(&self, worker: &str, fence: &Fence, event: &Publication) -> Result<Outcome> {
        Ok(self.change(|state, now| state.publish(now, worker, fence, event)))
    }

    async fn suspend(
        &self,
        call: &Call,
        step: &Claimed,
        waits: &[Wait],
        refill: &Refill,
    ) -> Result<(Outcome, Vec<Claimed>)> {
        self.commit(&call.worker, &step.fence, |state, now| state.suspend(now, call, step, waits, refill)).await
    }

    async fn signal(&self, run: &str, name: &str, payload: &[u8], entry: Option<&str>) -> Result<Signalled> {
        Ok(self.change(|state, now| state.signal(now, run, name, payload, entry)))
    }

    async fn cancel(&self, run: &str, entry: Option<&str>, retention: Duration) -> Result<Cancelled> {
        Ok(self.change(|state, now| state.cancel(now, run, entry, millis(retention))))
    }

    async fn collect(&self, worker: &str, fence: &Fence, collect: &Collect) -> Result<Option<Vec<u8>>> {
        self.change(|state, _| state.collect(worker, fence, collect))
    }

    async fn send(&self, run: &str, events: &[(Route, Vec<u8>)], entry: Option<&str>) -> Result<Sent> {
        Ok(self.change(|state, now| state.send(now, run, events, entry)))
    }

    async fn joined(&self, step: &Claimed, joined: &Joined, from: u64, count: u64) -> Result<Vec<Vec<u8>>> {
        Ok(self.change(|state, _| state.joined(&step.fence.run, &step.step, joined, from, count)))
    }

    async fn register(&self, worker: &Introduction, lease: Duration) -> Result<()> {
        worker.serves.iter().try_for_each(|served| served.to_json().map(drop))?;
        self.change(|state, now| state.register(now, worker, millis(lease)));
        Ok(())
    }

    async fn deregister(&self, worker: &str) -> Result<bool> {
        Ok(self.change(|state, now| state.deregister(now, worker)))
    }

    async fn holds(&self, worker: &str) -> Result<Vec<Fence>> {
        Ok(self.change(|state, _| state.holds(worker)))
    }

    async fn release(&self, worker: &str, fences: &[Fence]) -> Result<u64> {
        Ok(self.change(|state, now| state.release(now, worker, fences)))
    }

    async fn lease(&self, worker: &str, lease: Duration) -> Result<Box<dyn Lease>> {
        Ok(self.open_lease(worker, lease))
    }

    async fn wake_reader(&self, worker: &str) -> Result<Box<dyn WakeReader>> {
        Ok(self.open_wake_reader(worker))
    }

    async fn tick(&self, tick: &Tick) -> Result<Ticked> {
        Ok(self.change(|state, now| state.tick(now, tick)))
    }

    async fn audit(&self, audit: &Audit) -> Result<Audited> {
        Ok(self.change(|state, now| state.audit(now, audit)))
    }

    async fn disconnected(&self) -> Result<Vec<(String, u64)>> {
        Ok(self.change(|state, _| state.disconnected()))
    }

    async fn alarm_reader(&self) -> Result<Box<dyn AlarmReader>> {
        Ok(self.open_alarm_reader())
    }

    async fn inbox_reader(&self, coordinator: &str) -> Result<Box<dyn InboxReader>> {
        Ok(self.open_inbox_reader(coordinator))
    }

    async fn reclaim_inbox(&self, coordinator: &str, idle: Duration) -> Result<Vec<InboxEntry>> {
        let entries = self.change(|state, now| state.reclaim_inbox(now, coordinator, millis(idle)));
        Ok(self.of_inbox(entries))
    }

    async fn submit(&self, request: &StartRequest) -> Result<String> {
        Ok(self.change(|state, now| state.submit(now, request)))
    }

    async fn enqueue(&self, fields: &[(Vec<u8>, Vec<u8>)]) -> Result<String> {
        Ok(self.change(|state, now| state.enqueue(now, fields.to_vec())))
    }

    async fn run(&self, id: &str) -> Result<Option<Run>> {
        Ok(self.change(|state, now| state.run(now, id)))
    }

    async fn context(&self, run: &str) -> Result<Vec<(String, Vec<u8>)>> {
        Ok(self.change(|state, _| state.context(run)))
    }

    async fn runs(&self, offset: usize, count: usize) -> Result<Vec<Run>> {
        Ok(self.change(|state, _| state.newest(offset, count)))
    }

    async fn history(&self, run: &str, from: u64, count: u64) -> Result<Vec<Record>> {
        Ok(self.change(|state, _| state.history(run, from, count)))
    }

    async fn published(&self, run: &str, after: Position, count: u64) -> Result<Vec<Published>> {
        Ok(self.change(|state, _| state.published(run, after, count)))
    }

    async fn event_reader(&self, run: &str, after: Position) -> Result<Box<dyn EventReader>> {
        Ok(self.open_event_reader(run, after))
    }

    async fn waits(&self, run: &str) -> Result<Vec<OpenWait>> {
        Ok(self.change(|state, _| state.open_waits(run)))
    }

    async fn workers(&self) -> Result<Vec<Worker>> {
        Ok(self.change(|state, now| state.workers(now)))
    }

    async fn registrations(&self) -> Result<Vec<Registration>> {
        Ok(self.change(|state, _| state.registrations.values().cloned().collect()))
    }

    async fn queues(&self) -> Result<Vec<Queue>> {
        Ok(self.change(|state, _| state.queues()))
    }

    async fn deferred(&self) -> Result<Vec<Deferred>> {
        Ok(self.change(|state, _| state.deferred()))
    }

    async fn wait_ended(&self, run: &str, limit: Duration) -> Result<()> {
        self.await_end(run, limit).await;
        Ok(())
    }

    async fn now_ms(&self) -> Result<u64> {
        Ok(self.shared.clock.now_ms())
    }
}
