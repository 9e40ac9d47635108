//! What a coordinator does for one partition, one pass at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stepfleet::Result;
use stepfleet::store::{Audit, Audited, CoordinatorStore, Tick, Ticked};

use crate::config::Config;
use crate::suspicion::Suspicion;

/// How many breaches of one slice are logged one by one.
const LOGGED: usize = 5;

pub(crate) struct Partition {
    pub(crate) store: Arc<dyn CoordinatorStore>,
    suspicion: Mutex<Suspicion>,
    suspects: Mutex<Vec<(String, u64)>>,
    /// How many workers had a lease at the last tick.
    workers: AtomicU64,
    /// Where the audit goes on.
    audited_to: AtomicU64,
    next_tick: Mutex<Instant>,
}

impl Partition {
    pub(crate) fn new(store: Arc<dyn CoordinatorStore>, config: &Config) -> Self {
        Self {
            store,
            suspicion: Mutex::new(Suspicion::new(config.suspicion)),
            suspects: Mutex::default(),
            workers: AtomicU64::new(0),
            audited_to: AtomicU64::new(0),
            next_tick: Mutex::new(Instant::now()),
        }
    }

    pub(crate) async fn tick(&self, config: &Config) -> Result<Ticked> {
        let suspects = std::mem::take(&mut *lock(&self.suspects));
        let Config { tick_limit: limit, max_losses, retention, .. } = *config;
        let ticked = self.store.tick(&Tick { limit, max_losses, retention, suspects }).await?;
        self.workers.store(ticked.workers, Ordering::Relaxed);
        for worker in &ticked.reaped {
            tracing::info!(worker, "a worker is gone; what it held is queued again");
        }
        let pause = if ticked.more { Duration::ZERO } else { ticked.next_due.unwrap_or(config.tick).min(config.tick) };
        *lock(&self.next_tick) = Instant::now() + pause;
        Ok(ticked)
    }

    /// When the next tick is due.
    pub(crate) fn next_tick(&self) -> Instant {
        *lock(&self.next_tick)
    }

    /// A timer is due sooner, or a worker is suspected.
    pub(crate) fn tick_now(&self) {
        *lock(&self.next_tick) = Instant::now();
    }

    /// Where nobody is there, nobody can be lost.
    pub(crate) fn has_workers(&self) -> bool {
        self.workers.load(Ordering::Relaxed) > 0
    }

    pub(crate) async fn look_for_lost(&self) -> Result<Vec<(String, u64)>> {
        let closed = self.store.disconnected().await?;
        let suspects = lock(&self.suspicion).observe(Instant::now(), &closed);
        lock(&self.suspects).clone_from(&suspects);
        if !suspects.is_empty() {
            self.tick_now();
        }
        Ok(suspects)
    }

    /// Whether an audit of this partition is under way.
    pub(crate) fn is_within_audit(&self) -> bool {
        self.audited_to.load(Ordering::Relaxed) != 0
    }

    pub(crate) async fn audit(&self, config: &Config) -> Result<Audited> {
        let Config { max_losses, retention, .. } = *config;
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
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
