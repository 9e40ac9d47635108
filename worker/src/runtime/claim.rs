//! Fills free slots: claims step events while there are any, and waits to be woken while there are none. One wait per process,
//! never one per slot.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use stepfleet::step::{Claim, Claimed};
use stepfleet::store::WakeReader;

use super::session::Session;
use super::slots;

/// Claims until the session is closing or lost.
pub(super) async fn keep_claiming(session: Arc<Session>) {
    let mut idle = Idle { session: session.clone(), reader: None, failing: false };
    while let Some((free, alone)) = session.unless_closing(session.slots.some_free()).await {
        let slots = free.iter().map(slots::Slot::number).collect();
        let claim = Claim { slots, alone, after: session.served_last() };
        let Some(claimed) = claim_once(&session, &claim).await else { return };
        let got_all = claimed.len() == free.len();
        if claimed.iter().any(|step| step.alone) {
            // Nobody else claims for this worker, and no slot that executes anything takes more.
            if session.unless_closing(slots::work_alone(&session, free, claimed)).await.is_none() {
                return;
            }
            continue;
        }
        slots::fill(&session, free, claimed);
        // What a claim that gets less than it asked for has left in the store wakes this worker.
        if !got_all && session.unless_closing(idle.wait()).await.is_none() {
            return;
        }
    }
}

/// Waits on a connection of its own.
struct Idle {
    session: Arc<Session>,
    reader: Option<Box<dyn WakeReader>>,
    failing: bool,
}

impl Idle {
    /// Returns when there may be something to claim; at the latest when the reader has waited its time.
    async fn wait(&mut self) {
        match self.wait_on_reader().await {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!(worker = self.session.id, "waits for step events again");
            }
            Ok(()) => {}
            Err(error) => {
                if !self.failing {
                    self.failing = true;
                    tracing::warn!(worker = self.session.id, %error, "cannot wait for step events; looking for them now and then");
                }
                self.reader = None;
                tokio::time::sleep(Duration::from_millis(rand::random_range(50..150))).await;
            }
        }
    }

    async fn wait_on_reader(&mut self) -> stepfleet::Result<()> {
        if self.reader.is_none() {
            self.reader = Some(self.session.store.wake_reader(&self.session.id).await?);
        }
        match &mut self.reader {
            Some(reader) => reader.next().await.map(drop),
            None => Ok(()),
        }
    }
}

/// Repeats the call until Redis has answered it: its first try may have taken holds.
pub(super) async fn claim_once(session: &Session, claim: &Claim) -> Option<Vec<Claimed>> {
    let send = |call| -> BoxFuture<'_, _> { Box::pin(async move { session.store.claim(&call, claim).await }) };
    match session.persist(send, |claimed| claimed.as_deref().unwrap_or_default()).await? {
        Ok(Some(claimed)) => Some(claimed),
        Ok(None) => {
            // Known before the next heartbeat.
            session.lost.cancel();
            None
        }
        Err(error) => {
            tracing::error!(worker = session.id, %error, "step events cannot be claimed");
            session.unless_closing(tokio::time::sleep(Duration::from_secs(1))).await;
            Some(Vec::new())
        }
    }
}
