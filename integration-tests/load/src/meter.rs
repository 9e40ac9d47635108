//! What the bodies of a worker process report: how many began, how far apart, and which hold.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use crate::wire::{Said, Taken};

static BODIES: AtomicU64 = AtomicU64::new(0);
static TARGET: AtomicU64 = AtomicU64::new(0);
static REST: LazyLock<Mutex<Rest>> = LazyLock::new(Mutex::default);
static GATE: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

/// Counts that are not per body.
#[derive(Default)]
struct Rest {
    first: Option<Instant>,
    last_end: Option<Instant>,
    failed: HashMap<String, Instant>,
    gaps: Vec<Duration>,
    /// CPU time of the process when it began to count.
    cpu: Duration,
}

fn rest() -> MutexGuard<'static, Rest> {
    REST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A body begins.
pub(crate) fn body() {
    let count = BODIES.fetch_add(1, Ordering::Relaxed) + 1;
    if count == 1 {
        rest().first = Some(Instant::now());
    }
    if count == TARGET.load(Ordering::Relaxed) {
        // With one body there is nothing between the first and the last.
        let took = rest().first.map_or(Duration::ZERO, |first| first.elapsed());
        Said::Reached { took }.say();
    }
}

/// Begins to count anew, and says when this many bodies have begun.
pub(crate) fn expect(bodies: u64) {
    let mut rest = rest();
    *rest = Rest { cpu: cpu_time(), ..Rest::default() };
    BODIES.store(0, Ordering::Relaxed);
    TARGET.store(bodies, Ordering::Relaxed);
}

/// The body of a single run begins: the time since the end of the previous one is a sample.
pub(crate) fn relay_begins() {
    let now = Instant::now();
    let mut rest = rest();
    if let Some(end) = rest.last_end.take() {
        rest.gaps.push(now - end);
    }
}

/// The body of a single run ends.
pub(crate) fn relay_ends() {
    let mut rest = rest();
    rest.last_end = Some(Instant::now());
}

/// A body is about to fail, to be tried again.
pub(crate) fn fails(run: &str) {
    rest().failed.insert(run.to_owned(), Instant::now());
}

/// It is tried again, `delay` after it failed: its lateness is a sample.
pub(crate) fn tried_again(run: &str, delay: Duration) {
    let now = Instant::now();
    let mut rest = rest();
    if let Some(failed) = rest.failed.remove(run) {
        rest.gaps.push((now - failed).saturating_sub(delay));
    }
}

/// Says that this process has begun a run, and holds it until it is told to release it.
pub(crate) async fn hold(run: &str) {
    let mut gate = GATE.subscribe();
    Said::Began { run: run.to_owned() }.say();
    // The sender is a static: it is never closed.
    let _ = gate.changed().await;
}

/// Releases everything that is held.
pub(crate) fn release() {
    GATE.send_modify(|times| *times += 1);
}

/// What was counted since [`expect`].
pub(crate) fn taken() -> Taken {
    let mut rest = rest();
    let gaps = std::mem::take(&mut rest.gaps);
    Taken { bodies: BODIES.load(Ordering::Relaxed), cpu: cpu_time().saturating_sub(rest.cpu), gaps }
}

/// CPU time of this process, of all its threads.
fn cpu_time() -> Duration {
    // A process cannot have used less than 0.
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default()
}
