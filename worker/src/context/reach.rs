//! The way from a step's code to the store, under its fence.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::future::BoxFuture;
use stepfleet_shared::Partitions;
use stepfleet_shared::backoff::BODY;
use stepfleet_shared::codec::Content;
use stepfleet_shared::durability::{Durability, Epoch};
use stepfleet_shared::outage::Outages;
use stepfleet_shared::step::Fence;
use stepfleet_shared::store::WorkerStore;

use crate::error::Outcome;

/// What a step needs for its calls while it executes.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) store: Arc<dyn WorkerStore>,
    /// All of the namespace: an entity may be in another partition.
    pub(crate) partitions: Partitions<dyn WorkerStore>,
    pub(crate) worker: String,
    pub(crate) run: String,
    /// The step execution's number.
    pub(crate) seq: u64,
    pub(crate) hold: Hold,
    pub(crate) step: String,
    /// The fan-out that it is executed in, 0 for none.
    pub(crate) group: u64,
    /// How the run's caller reads what the run writes.
    pub(crate) content: Content,
    /// Active calls.
    pub(crate) busy: Busy,
    pub(crate) outages: Outages,
    pub(crate) durability: Durability,
    pub(crate) confirmed: Confirmed,
}

/// The fence of a body's attempt, under which it commits. A body that waits in its worker's memory continues under the next one.
#[derive(Clone, Debug)]
pub(crate) struct Hold(Arc<RwLock<Arc<Fence>>>);

impl Hold {
    pub(crate) fn of(fence: &Fence) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(fence.clone()))))
    }

    pub(crate) fn fence(&self) -> Arc<Fence> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn renew(&self, fence: &Fence) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fence.clone());
    }
}

/// Which life of the server has confirmed what led to the attempt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Confirmed(Arc<RwLock<Epoch>>);

impl Confirmed {
    pub(crate) fn by(&self, epoch: Epoch) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = epoch;
    }

    fn is_by(&self, epoch: &Epoch) -> bool {
        *self.0.read().unwrap_or_else(PoisonError::into_inner) == *epoch
    }
}

/// Counts the active calls of a body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Busy(Arc<AtomicUsize>);

/// A call is active until this is dropped.
pub(crate) struct UnderWay(Arc<AtomicUsize>);

impl Busy {
    pub(crate) fn enter(&self) -> UnderWay {
        self.0.fetch_add(1, Ordering::SeqCst);
        UnderWay(self.0.clone())
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Reach {
    /// Makes a call, and repeats it until Redis has answered, since it may have taken effect: `send` is told whether it
    /// is a repetition. If the hold is lost, it is dropped while it waits.
    pub(crate) async fn persist<'a, T>(
        &'a self,
        send: impl FnMut(bool) -> BoxFuture<'a, stepfleet_shared::Result<T>>,
    ) -> Outcome<T> {
        let _under_way = self.busy.enter();
        Ok(self.outages.outlast(("a step's call", BODY), stepfleet_shared::Error::is_passing, send).await?)
    }

    /// As [`Reach::persist`], for records that the body continues from: returns once they are as safe as required. A server that was
    /// replaced meanwhile may have lost them, and gets them again.
    pub(crate) async fn record<'a, T>(
        &'a self,
        mut send: impl FnMut(bool) -> BoxFuture<'a, stepfleet_shared::Result<T>>,
    ) -> Outcome<T> {
        loop {
            let answer = self.persist(&mut send).await?;
            if !self.durability.waits() {
                return Ok(answer);
            }
            let fence = &self.hold.fence();
            let confirm = |_| -> BoxFuture<'_, _> { Box::pin(self.store.confirm(self.durability, fence)) };
            match self.persist(confirm).await? {
                Some(epoch) if !self.confirmed.is_by(&epoch) => self.confirmed.by(epoch),
                // If the fence is void, the record is of no use; the next call says so.
                _ => return Ok(answer),
            }
        }
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reach").field("worker", &self.worker).field("fence", &self.hold.fence()).finish_non_exhaustive()
    }
}
