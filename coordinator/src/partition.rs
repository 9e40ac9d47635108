//! What a coordinator does for one partition, one pass at a time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stepfleet_shared::Result;
use stepfleet_shared::log;
use stepfleet_shared::store::{Audit, Audited, CoordinatorStore, Fire, Fired, Reap, Reaped};

use crate::config::Config;
use crate::metrics::Metrics;
use crate::suspicion::Suspicion;

/// How many breaches of one slice are logged one by one.
const LOGGED: usize = 5;

pub(crate) struct Partition {
    pub(crate) store: Arc<dyn CoordinatorStore>,
    suspicion: Mutex<Suspicion>,
    suspects: Mutex<Vec<(String, u64)>>,
    /// Whether a worker had a lease when it was last looked, or may have come since.
    has_workers: AtomicBool,
    /// Where the audit continues.
    audited_to: AtomicU64,
    pub(crate) next_reap: Due,
    pub(crate) next_fire: Due,
}

/// When something is to be done again.
pub(crate) struct Due(Mutex<Instant>);

impl Due {
    fn now() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    fn set(&self, pause: Duration) {
        *lock(&self.0) = Instant::now() + pause;
    }

    pub(crate) fn has_come(&self) -> bool {
        *lock(&self.0) <= Instant::now()
    }

    /// How long until the first of these has come.
    pub(crate) fn first<'a>(all: impl Iterator<Item = &'a Self>) -> Duration {
        let first = all.map(|due| *lock(&due.0)).min();
        first.map_or(Duration::ZERO, |first| first.saturating_duration_since(Instant::now()))
    }
}

impl Partition {
    pub(crate) fn new(store: Arc<dyn CoordinatorStore>, config: &Config) -> Self {
        Self {
            store,
            suspicion: Mutex::new(Suspicion::new(config.suspicion)),
            suspects: Mutex::default(),
            has_workers: AtomicBool::new(false),
            audited_to: AtomicU64::new(0),
            next_reap: Due::now(),
            next_fire: Due::now(),
        }
    }

    fn number(&self) -> u16 {
        self.store.namespace().partition()
    }

    pub(crate) async fn reap(&self, config: &Config, metrics: &Metrics) -> Result<Reaped> {
        let suspects = std::mem::take(&mut *lock(&self.suspects));
        let Config { limit, max_losses, retention, .. } = *config;
        let reaped = self.store.reap(&Reap { limit, max_losses, retention, suspects }).await?;
        self.has_workers.store(reaped.workers > 0, Ordering::Relaxed);
        for worker in &reaped.reaped {
            log::info!(worker, "a worker is gone; the steps that it held are queued again");
        }
        metrics.reaped(self.number(), &reaped, |worker| lock(&self.suspicion).closed_for(Instant::now(), worker));
        self.next_reap.set(if reaped.more { Duration::ZERO } else { config.reap });
        Ok(reaped)
    }

    pub(crate) async fn fire(&self, config: &Config, metrics: &Metrics) -> Result<Fired> {
        let Config { limit, retention, .. } = *config;
        let fired = self.store.fire(&Fire { limit, retention }).await?;
        metrics.fired(self.number(), &fired);
        let pause = if fired.more { Duration::ZERO } else { fired.next_due.unwrap_or(config.fire).min(config.fire) };
        self.next_fire.set(pause);
        Ok(fired)
    }

    /// A timer is due sooner, or a worker has come, whose connection is to be watched from now on.
    pub(crate) fn hear_alarm(&self) {
        self.next_fire.set(Duration::ZERO);
        self.has_workers.store(true, Ordering::Relaxed);
    }

    /// Without workers, none can be lost.
    pub(crate) fn has_workers(&self) -> bool {
        self.has_workers.load(Ordering::Relaxed)
    }

    pub(crate) async fn look_for_lost(&self) -> Result<Vec<(String, u64)>> {
        let closed = self.store.disconnected().await?;
        let suspects = lock(&self.suspicion).observe(Instant::now(), &closed);
        lock(&self.suspects).clone_from(&suspects);
        if !suspects.is_empty() {
            self.next_reap.set(Duration::ZERO);
        }
        Ok(suspects)
    }

    /// Whether an audit of this partition is under way.
    pub(crate) fn is_within_audit(&self) -> bool {
        self.audited_to.load(Ordering::Relaxed) != 0
    }

    pub(crate) async fn audit(&self, config: &Config, metrics: &Metrics) -> Result<Audited> {
        let Config { max_losses, retention, .. } = *config;
        let from = self.audited_to.load(Ordering::Relaxed);
        let audited = self.store.audit(&Audit { repair: true, from, max_losses, retention }).await?;
        self.audited_to.store(audited.next.unwrap_or(0), Ordering::Relaxed);
        metrics.repaired(&audited.breaches);
        for breach in audited.breaches.iter().take(LOGGED) {
            log::warn!(
                of = breach.of,
                what = breach.what,
                "an audit found a breach and repaired it, or failed the run"
            );
        }
        if audited.breaches.len() > LOGGED {
            log::warn!(count = audited.breaches.len() - LOGGED, "the same audit found more breaches, and did the same");
        }
        Ok(audited)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
