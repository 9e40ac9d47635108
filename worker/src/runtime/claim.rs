//! Fills free slots: claims step events while there are any, and waits to be woken while there are none. One wait per process,
//! never one per slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use stepfleet_shared::backoff::WAKING;
use stepfleet_shared::outage::{Outages, Watch};
use stepfleet_shared::partitions::ColocatedReader;
use stepfleet_shared::step::{Claim, Claimed};
use tokio::sync::Notify;

use super::Colocated;
use super::session::Session;
use super::{reconcile, slots};

/// After this many waits in which nobody woke it, of twenty seconds each, an idle worker looks for step events by itself.
const QUIET_WAITS: u32 = 15;
/// A wait that fails sooner than this was refused; a longer one was accepted.
const ACCEPTED: Duration = Duration::from_secs(1);

/// Claims until the session is closing or lost.
pub(super) async fn keep_claiming(session: Arc<Session>, wakes: Arc<Wakes>) {
    while let Some((free, alone)) = session.unless_closing(session.slots.some_free()).await {
        let slots = free.iter().map(slots::Slot::number).collect();
        let claim = Claim { slots, alone, after: session.served_last() };
        let Some(claimed) = claim_once(&session, &claim).await else { return };
        let got_all = claimed.len() == free.len();
        if claimed.iter().any(|step| step.alone) {
            // Only this task claims for this worker, and busy slots take nothing.
            if session.unless_closing(slots::work_alone(&session, free, claimed)).await.is_none() {
                return;
            }
            continue;
        }
        slots::fill(&session, free, claimed);
        // The claim got less than it asked for, so the store will wake this worker.
        if got_all {
            continue;
        }
        if session.unless_closing(wakes.wait(&session)).await.is_none() {
            return;
        }
        if !session.slots.has_free() {
            // Other partitions have them all. A claim for none lets another idle worker be woken in place of this one.
            let none = Claim { slots: Vec::new(), alone: false, after: session.served_last() };
            if claim_once(&session, &none).await.is_none() {
                return;
            }
        }
    }
}

/// How the idle sessions of a worker are woken: those of partitions that share a server wait on one connection.
pub(super) struct Wakes {
    worker: String,
    each: Vec<Wake>,
    /// A session has begun to wait.
    begun: Notify,
}

struct Wake {
    partition: u16,
    waits: AtomicBool,
    woken: Notify,
}

impl Wakes {
    pub(super) fn new(sessions: &[Arc<Session>]) -> Arc<Self> {
        let worker = sessions.first().map(|session| session.id.clone()).unwrap_or_default();
        let wake = |session: &Arc<Session>| Wake {
            partition: session.store.namespace().partition(),
            waits: AtomicBool::new(false),
            woken: Notify::new(),
        };
        Arc::new(Self { worker, each: sessions.iter().map(wake).collect(), begun: Notify::new() })
    }

    /// Returns when there may be something for this session to claim; at the latest when the reader has waited its time.
    async fn wait(&self, session: &Session) {
        let partition = session.store.namespace().partition();
        let Some(wake) = self.each.iter().find(|wake| wake.partition == partition) else { return };
        wake.waits.store(true, Ordering::SeqCst);
        self.begun.notify_one();
        wake.woken.notified().await;
    }

    /// Reads while a session waits; until it is dropped.
    pub(super) fn keep(self: Arc<Self>, colocated: Colocated, outages: &Outages) -> impl Future<Output = ()> + use<> {
        let partitions: Vec<u16> = self.each.iter().map(|wake| wake.partition).collect();
        let watch = outages.within(&partitions).watch("waking", WAKING);
        self.keep_reading(colocated, watch)
    }

    async fn keep_reading(self: Arc<Self>, colocated: Colocated, mut watch: Watch) {
        let (mut reader, mut quiet) = (None, 0);
        loop {
            while !self.each.iter().any(|wake| wake.waits.load(Ordering::SeqCst)) {
                self.begun.notified().await;
            }
            let was_open = reader.is_some();
            match self.read(&colocated, &mut reader, &mut watch).await {
                Ok(woken) => {
                    watch.fine();
                    // Now and then all sessions look by themselves.
                    quiet = if woken.is_empty() { quiet + 1 } else { 0 };
                    let looks = quiet >= QUIET_WAITS;
                    if looks {
                        quiet = 0;
                    }
                    self.wake(|partition| looks || woken.contains(&partition));
                }
                Err(error) => {
                    reader = None;
                    // A connection that nobody used for a while may have been closed for that, which is no outage.
                    if !(was_open && error.is_unreachable()) {
                        watch.failed(&error);
                        watch.wait().await;
                    }
                    // They look by themselves meanwhile.
                    self.wake(|_| true);
                }
            }
        }
    }

    async fn read(
        &self,
        colocated: &Colocated,
        reader: &mut Option<Box<dyn ColocatedReader>>,
        watch: &mut Watch,
    ) -> stepfleet_shared::Result<Vec<u16>> {
        if reader.is_none() {
            *reader = Some(colocated.wake_reader(&self.worker).await?);
        }
        let Some(reader) = reader else { return Ok(Vec::new()) };
        let mut read = reader.next(Duration::MAX);
        if watch.is_failing() {
            // A server that lets it wait has taken it.
            match tokio::time::timeout(ACCEPTED, &mut read).await {
                Ok(answer) => return answer,
                Err(_) => watch.fine(),
            }
        }
        read.await
    }

    fn wake(&self, is_woken: impl Fn(u16) -> bool) {
        for wake in self.each.iter().filter(|wake| is_woken(wake.partition)) {
            wake.waits.store(false, Ordering::SeqCst);
            wake.woken.notify_one();
        }
    }
}

/// Repeats the call until Redis has answered it: its first try may have taken holds.
pub(super) async fn claim_once(session: &Session, claim: &Claim) -> Option<Vec<Claimed>> {
    let send = |call| -> BoxFuture<'_, _> { Box::pin(async move { session.store.claim(&call, claim).await }) };
    match session.persist(send, |taken| taken.as_ref().map_or(&[], |taken| &taken.steps)).await? {
        Ok(Some(taken)) => {
            session.claims.accepted();
            if !taken.vacated.is_empty() {
                reconcile::tell(session, taken.vacated.len() as u64, taken.vacated.iter().map(String::as_str));
            }
            Some(taken.steps)
        }
        Ok(None) => {
            // Known before the next heartbeat.
            session.lost.cancel();
            None
        }
        Err(error) => {
            let pause = session.claims.refused(&error);
            session.unless_closing(tokio::time::sleep(pause)).await;
            Some(Vec::new())
        }
    }
}
