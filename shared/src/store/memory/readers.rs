//! Blocking readers of queues and inbox, and the lease.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::data::Data;
use super::{MemoryStore, millis};
use crate::error::Result;
use crate::published::{Position, Published};
use crate::store::{
    AlarmReader, EventReader, Heartbeat, InboxEntry, InboxReader, Lease, MAX_PUBLISHED_READ, WakeReader,
};

/// How long a blocking read waits, in real time, whatever the store's clock.
const BLOCK: Duration = Duration::from_secs(2);

impl MemoryStore {
    pub(super) fn open_lease(&self, worker: &str, lease: Duration) -> Box<dyn Lease> {
        let client = self.change(|data, _| data.connect());
        Box::new(MemoryLease { store: self.clone(), worker: worker.to_owned(), lease, client, told: 0 })
    }

    pub(super) fn open_wake_reader(&self, worker: &str) -> Box<dyn WakeReader> {
        Box::new(MemoryWakeReader { store: self.clone(), worker: worker.to_owned() })
    }

    pub(super) fn open_alarm_reader(&self) -> Box<dyn AlarmReader> {
        Box::new(MemoryAlarmReader { store: self.clone() })
    }

    pub(super) fn open_inbox_reader(&self, coordinator: &str) -> Box<dyn InboxReader> {
        Box::new(MemoryInboxReader { store: self.clone(), coordinator: coordinator.to_owned() })
    }

    pub(super) fn open_event_reader(&self, run: &str, after: Position) -> Box<dyn EventReader> {
        Box::new(MemoryEventReader { store: self.clone(), run: run.to_owned(), after })
    }

    /// Calls `look` each time something arrives, until it finds something or `BLOCK` has passed.
    async fn until_any<T>(&self, woken: &Notify, mut look: impl FnMut(&mut Data, u64) -> Vec<T>) -> Vec<T> {
        let until = Instant::now() + BLOCK;
        loop {
            // Created before the look, so that arrivals in between wake it too.
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
        if self.change(|data, _| data.has_ended(run)) {
            return;
        }
        let told = async {
            // An error means that it lagged behind: the caller reads the run again either way.
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
    /// Up to when the worker knows of cancelled runs (ms).
    told: u64,
}

#[async_trait]
impl Lease for MemoryLease {
    async fn heartbeat(&mut self) -> Result<Heartbeat> {
        let (worker, lease, client, told) = (&self.worker, millis(self.lease), self.client, self.told);
        let (heartbeat, now) = self.store.change(|data, now| (data.heartbeat(now, worker, lease, client, told), now));
        self.told = now;
        Ok(heartbeat)
    }

    async fn heartbeat_idle(&mut self) -> Result<bool> {
        let (worker, lease, client) = (&self.worker, millis(self.lease), self.client);
        let (is_renewed, now) = self.store.change(|data, now| (data.renew(now, worker, lease, client), now));
        self.told = now;
        Ok(is_renewed)
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        self.store.change(|data, _| data.connections.remove(&self.client));
    }
}

struct MemoryWakeReader {
    store: MemoryStore,
    worker: String,
}

#[async_trait]
impl WakeReader for MemoryWakeReader {
    async fn next(&mut self) -> Result<bool> {
        let never = Notify::new();
        let worker = &self.worker;
        let waiting = |data: &mut Data, _| data.next_queue(worker, None, data.lanes_of(worker)).into_iter().collect();
        let woken: Vec<_> = self.store.until_any(&never, waiting).await;
        Ok(!woken.is_empty())
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
        let entries = self.store.until_any(&never, |data, _| data.published(run, after, MAX_PUBLISHED_READ)).await;
        self.after = entries.last().map_or(after, |entry| entry.position);
        Ok(entries)
    }
}

/// Polls, because the clock may be advanced.
struct MemoryAlarmReader {
    store: MemoryStore,
}

#[async_trait]
impl AlarmReader for MemoryAlarmReader {
    async fn next(&mut self, limit: Duration) -> Result<()> {
        let until = limit.min(Duration::from_millis(10));
        let _ = tokio::time::timeout(until, self.store.shared.arrived.notified()).await;
        Ok(())
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
        let entries = self.store.until_any(&never, |data, now| data.read_inbox(now, coordinator)).await;
        Ok(self.store.of_inbox(entries))
    }
}
