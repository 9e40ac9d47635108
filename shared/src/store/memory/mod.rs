//! The memory store: what each transition does, written to be read.
//!
//! `Data` is plain data. Each transition is a method on it that gets the time and does no I/O; the files are
//! named as the Lua files of the store on Redis are, and both must give the same answers. The test kit runs
//! workflows on this store, and tests hold the store on Redis against it.

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
    state: Mutex<Data>,
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

    /// Skips time, on either clock. What is due by then is dealt with by the next [`reap`](crate::store::CoordinatorStore::reap)
    /// and the next [`fire`](crate::store::CoordinatorStore::fire).
    pub fn advance(&self, by: Duration) {
        self.shared.clock.skipped.fetch_add(millis(by), Ordering::SeqCst);
    }

    /// The requests that were rejected, oldest first, as the stream `rejected` has them: `reason`, `entry`, and the
    /// fields that were asked for.
    pub fn rejected(&self) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
        self.change(|data, _| data.rejected.iter().map(|(_, fields)| fields.clone()).collect())
    }

    /// How many entries each queue has, given to readers or not: those queued again (also alone), and new ones.
    pub fn backlog(&self) -> Vec<(QueueName, usize, usize)> {
        let backlog = |data: &mut Data, _| {
            let lanes = data.queues.iter();
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
        self.change(|data, _| SavedStore(data.clone()))
    }

    /// Goes back, as a server does that is started again without its latest writes. The clock goes on.
    pub fn restore(&self, saved: &SavedStore) {
        self.change(|data, _| data.clone_from(&saved.0));
    }

    /// What is wrong with the state: a sentence for each step execution that nobody will take up, for each fan-out
    /// that miscounts its branches, and so on. Always empty, unless a transition has a bug.
    pub fn breaches(&self) -> Vec<String> {
        self.change(|data, _| data.breaches())
    }

    /// Runs one transition (or read), and tells those who wait for what it brought.
    fn change<T>(&self, transition: impl FnOnce(&mut Data, u64) -> T) -> T {
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
pub struct SavedStore(Data);

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
