//! The coordinator, and each of its duties one pass at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use stepfleet::store::{AlarmReader, Audit, Audited, InboxEntry, InboxReader, Store, Tick, Ticked};
use stepfleet::{Error, Result};
use tokio::sync::Notify;

use crate::config::Config;
use crate::fleet::Fleet;
use crate::intake::{Early, Intake, Taken};
use crate::outage::Outages;
use crate::suspicion::Suspicion;

/// How many breaches of one slice are logged one by one.
const LOGGED: usize = 5;

/// A coordinator. [`Coordinator::run`] goes about all duties until told to stop; the passes do one duty once, for
/// tests and tools that must not wait.
///
/// Every pass may be made by any number of coordinators at the same time, and repeated after an error.
pub struct Coordinator {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) config: Config,
    pub(crate) outages: Outages,
    /// `CLIENT LIST` was denied, and that was logged.
    pub(crate) denied: Once,
    intake: Intake,
    reader: tokio::sync::Mutex<Option<Box<dyn InboxReader>>>,
    suspicion: Mutex<Suspicion>,
    suspects: Mutex<Vec<(String, u64)>>,
    /// There are suspects: the next tick is due.
    pub(crate) suspected: Notify,
    /// How many workers had a lease at the last tick.
    pub(crate) workers: AtomicU64,
    alarms: tokio::sync::Mutex<Option<Box<dyn AlarmReader>>>,
    /// Where the audit goes on.
    audited_to: AtomicU64,
}

impl Coordinator {
    /// A coordinator on a store. Does nothing yet.
    pub fn new(store: Arc<dyn Store>, config: Config) -> Self {
        let fleet = Fleet::new(Arc::clone(&store), config.fleet_age);
        Self {
            intake: Intake { store: Arc::clone(&store), fleet, key_ttl: config.key_ttl, retention: config.retention },
            suspicion: Mutex::new(Suspicion::new(config.suspicion)),
            suspects: Mutex::default(),
            suspected: Notify::new(),
            workers: AtomicU64::new(0),
            alarms: tokio::sync::Mutex::default(),
            audited_to: AtomicU64::new(0),
            reader: tokio::sync::Mutex::new(None),
            outages: Outages::default(),
            denied: Once::new(),
            store,
            config,
        }
    }

    /// Takes in the next requests of the inbox. Waits up to about two seconds where there are none.
    pub async fn intake_pass(&self) -> Result<Taken> {
        let entries = self.read_inbox().await?;
        self.take_in(entries).await
    }

    /// Takes in the requests that are there now; does not wait for more.
    pub(crate) async fn take_in(&self, entries: Vec<InboxEntry>) -> Result<Taken> {
        self.intake.take_all(entries, Early::Keep).await
    }

    /// May be dropped while it waits: the next call opens another reader, as it does after an error.
    pub(crate) async fn read_inbox(&self) -> Result<Vec<InboxEntry>> {
        let mut slot = self.reader.lock().await;
        let mut reader = match slot.take() {
            Some(reader) => reader,
            None => self.store.inbox_reader(&self.config.id).await?,
        };
        match reader.next().await {
            Ok(entries) => {
                *slot = Some(reader);
                Ok(entries)
            }
            Err(error) if lost_group(&error) => {
                tracing::info!("the inbox has gone (was Redis emptied?); making it anew");
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Gives up workers whose lease has run out or whose connection is known to be closed, and fires due timers.
    /// Where the answer says `more`, another pass is due at once.
    pub async fn tick_pass(&self) -> Result<Ticked> {
        let suspects = std::mem::take(&mut *lock(&self.suspects));
        let Config { tick_limit: limit, max_losses, retention, .. } = self.config;
        let ticked = self.store.tick(&Tick { limit, max_losses, retention, suspects }).await?;
        self.workers.store(ticked.workers, Ordering::Relaxed);
        for worker in &ticked.reaped {
            tracing::info!(worker, "a worker is gone; what it held is queued again");
        }
        Ok(ticked)
    }

    /// Looks for workers whose connection is closed; answers those that the next tick will give up. It takes two
    /// passes, [`Config::suspicion`] apart, to come to that.
    ///
    /// Fails with [`Error::is_denied`] where `CLIENT LIST` is not allowed: then leases alone tell who is dead.
    pub async fn liveness_pass(&self) -> Result<Vec<(String, u64)>> {
        let closed = self.store.disconnected().await?;
        let suspects = lock(&self.suspicion).observe(Instant::now(), &closed);
        lock(&self.suspects).clone_from(&suspects);
        if !suspects.is_empty() {
            self.suspected.notify_one();
        }
        Ok(suspects)
    }

    /// Waits for an alarm, a suspect, or the end of `limit`. May be dropped while it waits.
    pub(crate) async fn wait_for_tick(&self, limit: Duration) -> Result<()> {
        let mut slot = self.alarms.lock().await;
        let mut reader = match slot.take() {
            Some(reader) => reader,
            None => self.store.alarm_reader().await?,
        };
        let waited = tokio::select! {
            waited = reader.next(limit) => waited,
            () = self.suspected.notified() => Ok(()),
        };
        if waited.is_ok() {
            *slot = Some(reader);
        }
        waited
    }

    /// Takes in the requests that were delivered to a coordinator that never took them in. Answers how many there were.
    pub async fn reclaim_pass(&self) -> Result<u64> {
        let idle = self.config.reclaim_idle;
        let requests = match self.store.reclaim_inbox(&self.config.id, idle).await {
            Err(error) if lost_group(&error) => Vec::new(),
            other => other?,
        };
        Ok(self.intake.take_all(requests, Early::Reject).await?.total())
    }

    /// Audits the next slice of all there is, and mends what is missing; begins anew after the last one.
    pub async fn audit_pass(&self) -> Result<Audited> {
        let Config { max_losses, retention, .. } = self.config;
        let from = self.audited_to.load(Ordering::Relaxed);
        let audited = self.store.audit(&Audit { repair: true, from, max_losses, retention }).await?;
        self.audited_to.store(audited.next.unwrap_or(0), Ordering::Relaxed);
        for breach in audited.breaches.iter().take(LOGGED) {
            tracing::warn!(of = breach.of, what = breach.what, "an audit found something missing and dealt with it");
        }
        if audited.breaches.len() > LOGGED {
            tracing::warn!(count = audited.breaches.len() - LOGGED, "the same audit dealt with more");
        }
        Ok(audited)
    }

    /// Starts the runs whose workflow is served by now, and rejects those that waited longer than [`Config::grace`].
    pub async fn deferred_pass(&self) -> Result<Taken> {
        self.intake.take_deferred(self.config.grace).await
    }
}

/// The stream or its consumer group was deleted, as by `FLUSHALL`.
fn lost_group(error: &Error) -> bool {
    let text = error.to_string();
    text.contains("NOGROUP") || text.contains("UNBLOCKED")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
