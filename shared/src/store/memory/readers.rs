//! Whoever waits: the readers of queues and inbox, and the lease.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::state::{Lane, State};
use super::stream::EntryId;
use super::{MemoryStore, millis};
use crate::error::Result;
use crate::names::QueueName;
use crate::published::{Position, Published};
use crate::store::{
    Beat, Delivery, EventReader, InboxEntry, InboxReader, Lease, MAX_PUBLISHED_READ, QueueReader, ReaderWaker,
};

/// How long a blocking read waits, in real time whatever the store's clock is.
const BLOCK: Duration = Duration::from_secs(2);

impl State {
    /// Gives a reader one entry of each stream.
    fn deliver(&mut self, now: u64, worker: &str, queues: &[QueueName], again: bool) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        for lane in Lane::ALL {
            for queue in queues {
                let stream = self.lane(queue, lane);
                let given = if again { stream.give_again(now, worker, 1) } else { stream.give(now, worker, 1) };
                let delivery = |(id, _): (EntryId, _)| Delivery { stream: lane.stream(queue), entry: id.to_string() };
                deliveries.extend(given.into_iter().map(delivery));
            }
        }
        deliveries
    }
}

impl MemoryStore {
    pub(super) fn open_lease(&self, worker: &str, lease: Duration) -> Box<dyn Lease> {
        let client = self.change(|state, _| state.connect());
        Box::new(MemoryLease { store: self.clone(), worker: worker.to_owned(), lease, client, told: 0 })
    }

    pub(super) fn open_queue_reader(&self, worker: &str, queues: &[QueueName]) -> Box<dyn QueueReader> {
        Box::new(MemoryQueueReader {
            store: self.clone(),
            worker: worker.to_owned(),
            queues: queues.to_vec(),
            woken: Arc::default(),
            recover: true,
        })
    }

    pub(super) fn open_inbox_reader(&self, coordinator: &str) -> Box<dyn InboxReader> {
        Box::new(MemoryInboxReader { store: self.clone(), coordinator: coordinator.to_owned() })
    }

    pub(super) fn open_event_reader(&self, run: &str, after: Position) -> Box<dyn EventReader> {
        Box::new(MemoryEventReader { store: self.clone(), run: run.to_owned(), after })
    }

    /// Looks until there is something, each time that something has arrived.
    async fn until_any<T>(&self, woken: &Notify, mut look: impl FnMut(&mut State, u64) -> Vec<T>) -> Vec<T> {
        let until = Instant::now() + BLOCK;
        loop {
            // Made before the look: what arrives in between wakes it too.
            let arrived = self.shared.arrived.notified();
            let found = self.change(&mut look);
            if !found.is_empty() {
                return found;
            }
            tokio::select! {
                () = arrived => {}
                () = woken.notified() => return found,
                () = tokio::time::sleep_until(until) => return found,
            }
        }
    }

    pub(super) async fn await_end(&self, run: &str, limit: Duration) {
        let mut ended = self.shared.ended.subscribe();
        if self.change(|state, _| state.has_ended(run)) {
            return;
        }
        let told = async {
            // An error is that too much was missed: the caller looks at the run again either way.
            while ended.recv().await.is_ok_and(|id| id != run) {}
        };
        let _ = tokio::time::timeout(limit, told).await;
    }
}

/// Dropping it closes its connection.
struct MemoryLease {
    store: MemoryStore,
    worker: String,
    lease: Duration,
    client: u64,
    /// Up to when the worker was told of runs that were cancelled (ms).
    told: u64,
}

#[async_trait]
impl Lease for MemoryLease {
    async fn beat(&mut self) -> Result<Beat> {
        let (worker, lease, client, told) = (&self.worker, millis(self.lease), self.client, self.told);
        let (beat, now) = self.store.change(|state, now| (state.beat(now, worker, lease, client, told), now));
        self.told = now;
        Ok(beat)
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        self.store.change(|state, _| state.connections.remove(&self.client));
    }
}

struct MemoryQueueReader {
    store: MemoryStore,
    worker: String,
    queues: Vec<QueueName>,
    woken: Arc<Notify>,
    /// What an earlier reader of this worker was given and lost comes first.
    recover: bool,
}

#[async_trait]
impl QueueReader for MemoryQueueReader {
    async fn next(&mut self) -> Result<Vec<Delivery>> {
        let (worker, queues) = (&self.worker, &self.queues);
        if self.recover {
            let deliveries = self.store.change(|state, now| state.deliver(now, worker, queues, true));
            self.recover = !deliveries.is_empty();
            if self.recover {
                return Ok(deliveries);
            }
        }
        Ok(self.store.until_any(&self.woken, |state, now| state.deliver(now, worker, queues, false)).await)
    }

    fn waker(&self) -> Box<dyn ReaderWaker> {
        Box::new(MemoryWaker(Arc::clone(&self.woken)))
    }
}

struct MemoryWaker(Arc<Notify>);

#[async_trait]
impl ReaderWaker for MemoryWaker {
    async fn wake(&self) -> Result<()> {
        // Kept for the next wait where there is none now.
        self.0.notify_one();
        Ok(())
    }
}

struct MemoryEventReader {
    store: MemoryStore,
    run: String,
    after: Position,
}

#[async_trait]
impl EventReader for MemoryEventReader {
    async fn next(&mut self) -> Result<Vec<Published>> {
        let never = Notify::new();
        let (run, after) = (&self.run, self.after);
        let entries = self.store.until_any(&never, |state, _| state.published(run, after, MAX_PUBLISHED_READ)).await;
        self.after = entries.last().map_or(after, |entry| entry.position);
        Ok(entries)
    }
}

struct MemoryInboxReader {
    store: MemoryStore,
    coordinator: String,
}

#[async_trait]
impl InboxReader for MemoryInboxReader {
    async fn next(&mut self) -> Result<Vec<InboxEntry>> {
        let never = Notify::new();
        let coordinator = &self.coordinator;
        Ok(self.store.until_any(&never, |state, now| state.read_inbox(now, coordinator)).await)
    }
}
