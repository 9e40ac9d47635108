//! The memory store: the transitions, written for reading.
//!
//! `Data` is plain data. Each transition is a method on it that takes the time and does no I/O. The files are named
//! like the Lua files of the Redis store, and both stores must give the same answers. The test kit runs workflows on
//! this store, and tests compare the Redis store with it.

mod across;
mod audit;
mod breaches;
mod child;
mod claim;
mod collect;
mod commit;
mod context;
mod data;
mod entity;
mod fan;
mod fleet;
mod fork;
mod journal;
mod journals;
mod kit;
mod pause;
mod publish;
mod question;
mod readers;
mod reads;
mod receipts;
mod retry;
mod roles;
mod run;
mod session;
mod signal;
mod start;
mod stream;
mod streaming;
mod timeout;
mod timers;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, broadcast};

use self::data::Data;
pub use self::kit::Moment;
use super::{InboxEntry, millis};
use crate::names::{Namespace, QueueName};

/// How long a rejected request appears as a run.
const REJECTED_RETENTION: Duration = Duration::from_secs(24 * 3600);
/// How many ended runs a waiter may lag behind before it must read its run itself.
const ENDED_BUFFER: usize = 1024;

/// A store of one partition in memory, for tests. Cheap to clone; clones share the state.
///
/// The state is dropped with its last clone. Blocking reads wait in real time, whatever the clock.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    namespace: Namespace,
    clock: Clock,
    state: Mutex<Data>,
    /// Something was queued or published, or arrived in the inbox.
    arrived: Notify,
    /// Announces runs that end.
    ended: broadcast::Sender<String>,
    watcher: kit::Watcher,
}

impl MemoryStore {
    /// An empty store on the system clock.
    pub fn new(namespace: Namespace) -> Self {
        let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self::on(namespace, Clock { start: millis(since_1970), runs_since: Some(Instant::now()), skipped: 0.into() })
    }

    /// An empty store whose clock shows `now_ms` (ms since 1970) and moves only with [`MemoryStore::advance`].
    pub fn with_clock(namespace: Namespace, now_ms: u64) -> Self {
        Self::on(namespace, Clock { start: now_ms, runs_since: None, skipped: 0.into() })
    }

    fn on(namespace: Namespace, clock: Clock) -> Self {
        let (state, arrived, ended) = (Mutex::default(), Notify::new(), broadcast::Sender::new(ENDED_BUFFER));
        let watcher = kit::Watcher::default();
        Self { shared: Arc::new(Shared { namespace, clock, state, arrived, ended, watcher }) }
    }

    /// Skips time, on either clock. The next [`reap`](crate::store::CoordinatorStore::reap) and
    /// [`fire`](crate::store::CoordinatorStore::fire) handle what is due by then.
    pub fn advance(&self, by: Duration) {
        self.shared.clock.skipped.fetch_add(millis(by), Ordering::SeqCst);
    }

    /// Rejected requests, oldest first, as in the stream `rejected`: `reason`, `entry`, and the fields of the request.
    pub fn rejected(&self) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
        self.change(|data, _| data.rejected.iter().map(|(_, fields)| fields.clone()).collect())
    }

    /// How many entries each queue has, delivered or not: requeued ones (including those to execute alone), and new
    /// ones.
    pub fn backlog(&self) -> Vec<(QueueName, usize, usize)> {
        let backlog = |data: &mut Data, _| {
            let lanes = data.queues.iter();
            lanes
                .map(|(name, lanes)| (name.clone(), lanes.requeued.len() + lanes.alone.len(), lanes.new.len()))
                .collect()
        };
        self.change(backlog)
    }

    /// Marks entries as belonging to this partition's inbox.
    fn of_inbox(&self, entries: Vec<InboxEntry>) -> Vec<InboxEntry> {
        let inbox = self.shared.namespace.partition();
        entries.into_iter().map(|entry| InboxEntry { inbox, ..entry }).collect()
    }

    /// A snapshot of the store, for [`MemoryStore::restore`].
    pub fn save(&self) -> SavedStore {
        self.change(|data, _| SavedStore(data.clone()))
    }

    /// Restores a snapshot, like a server that restarts without its latest writes. The clock does not go back.
    pub fn restore(&self, saved: &SavedStore) {
        self.change(|data, _| data.clone_from(&saved.0));
    }

    /// The invariants that the state violates, one sentence each: a step execution that nothing will move on, a fan-out
    /// that miscounts its branches, and so on. Always empty, unless a transition has a bug.
    pub fn breaches(&self) -> Vec<String> {
        self.change(|data, _| data.breaches())
    }

    /// Runs one transition (or read), and notifies those who wait for its effects.
    fn change<T>(&self, transition: impl FnOnce(&mut Data, u64) -> T) -> T {
        // A panic in a transition is a bug that its caller sees; later callers need not panic too.
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

/// A snapshot of a store.
#[derive(Clone, Debug)]
pub struct SavedStore(Data);

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("namespace", &self.shared.namespace).finish_non_exhaustive()
    }
}

/// A monotonic clock.
struct Clock {
    start: u64,
    /// None for a stopped clock.
    runs_since: Option<Instant>,
    skipped: AtomicU64,
}

impl Clock {
    fn now_ms(&self) -> u64 {
        let run = self.runs_since.map_or(0, |since| millis(since.elapsed()));
        self.start + run + self.skipped.load(Ordering::SeqCst)
    }
}
