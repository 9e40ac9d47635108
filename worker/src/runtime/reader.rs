//! The blocking reader: one per process and partition, and only while the worker has a free slot.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use stepfleet::step::{Claim, Claimed};
use stepfleet::store::{Delivery, QueueReader};

use super::session::Session;
use super::slots;

/// Waits for events and hands them to slots, until the session is draining or lost.
pub(super) async fn read(session: Arc<Session>) {
    let mut failing = false;
    while !session.is_closing() {
        match read_on_one_connection(&session, &mut failing).await {
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(worker = session.id, %error, "step events cannot be read; trying on");
            }
            Ok(()) | Err(_) => {}
        }
        if failing {
            session.unless_closing(tokio::time::sleep(Duration::from_millis(100))).await;
        }
    }
}

async fn read_on_one_connection(session: &Arc<Session>, failing: &mut bool) -> stepfleet::Result<()> {
    let mut reader = session.store.queue_reader(&session.id, &session.queues()).await?;
    while let Some(slot) = session.free_slot().await {
        let deliveries = next(session, &mut *reader).await?;
        if *failing {
            *failing = false;
            tracing::info!(worker = session.id, "step events are read again");
        }
        if session.is_closing() {
            return Ok(()); // what was delivered is handed back with the rest
        }
        if deliveries.is_empty() {
            continue;
        }
        let extra = session.more_slots();
        let claim = Claim { max: 1 + extra.len(), queues: session.queues() };
        let Some(claimed) = begin(session, &deliveries, &claim).await else { return Ok(()) };
        slots::fill(session, std::iter::once(slot).chain(extra), claimed);
    }
    Ok(())
}

/// A read is never dropped half way: what it was given would be lost to everyone until it is found idle. To end it
/// early, it is unblocked.
async fn next(session: &Session, reader: &mut dyn QueueReader) -> stepfleet::Result<Vec<Delivery>> {
    let waker = reader.waker();
    let mut read = reader.next();
    tokio::select! {
        deliveries = &mut read => return deliveries,
        () = session.closing.cancelled() => {}
    }
    waker.wake().await?;
    read.await
}

/// Repeats the call until Redis has answered it: its first try may have taken holds.
pub(super) async fn begin(session: &Session, deliveries: &[Delivery], claim: &Claim) -> Option<Vec<Claimed>> {
    let send =
        |call| -> BoxFuture<'_, _> { Box::pin(async move { session.store.begin(&call, deliveries, claim).await }) };
    match session.persist(send, |claimed| claimed.as_deref().unwrap_or_default()).await? {
        Ok(Some(claimed)) => Some(claimed),
        Ok(None) => {
            // Known before the next beat: another read would only take events that this worker may not begin.
            session.lost.cancel();
            None
        }
        Err(error) => {
            tracing::error!(worker = session.id, %error, "step events cannot be taken");
            None
        }
    }
}
