//! The way from a step's code to the store, under its fence.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use stepfleet::codec::Content;
use stepfleet::step::Fence;
use stepfleet::store::WorkerStore;

use crate::error::Outcome;

/// What a step needs for calls of its own while it executes.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) store: Arc<dyn WorkerStore>,
    pub(crate) worker: String,
    pub(crate) fence: Fence,
    pub(crate) step: String,
    /// The fan-out that it is executed in, 0 for none.
    pub(crate) group: u64,
    /// How the run's caller reads what the run writes.
    pub(crate) content: Content,
    /// Calls that are under way.
    pub(crate) busy: Busy,
}

/// Counts calls of a body that are under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Busy(Arc<AtomicUsize>);

/// A call is under way until this is dropped.
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
    /// is a repetition. Whoever loses the hold is dropped while it waits.
    pub(crate) async fn persist<'a, T>(
        &'a self,
        mut send: impl FnMut(bool) -> BoxFuture<'a, stepfleet::Result<T>>,
    ) -> Outcome<T> {
        let _under_way = self.busy.enter();
        let (mut again, mut pause) = (false, Duration::from_millis(10));
        loop {
            match send(again).await {
                Err(error) if error.is_passing() => {
                    if !again {
                        tracing::warn!(worker = self.worker, %error, "a step's call is repeated until Redis answers");
                    }
                    again = true;
                }
                answer => return Ok(answer?),
            }
            tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reach").field("worker", &self.worker).field("fence", &self.fence).finish_non_exhaustive()
    }
}
