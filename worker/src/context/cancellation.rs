//! The handle by which a step's code learns that its run was cancelled.

use tokio_util::sync::CancellationToken;

/// Says whether the run was cancelled: see [`Context::cancelled`](super::Context::cancelled). Clones may be used in
/// other tasks and threads.
#[derive(Clone, Debug)]
pub struct Cancellation(pub(super) CancellationToken);

impl Cancellation {
    /// Whether the run was cancelled. For code that computes.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the run is cancelled, for ever if it never is. For tasks that the step has spawned. May be dropped.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }
}
