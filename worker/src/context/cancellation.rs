//! What tells code of a step that its run was cancelled.

use tokio_util::sync::CancellationToken;

/// Tells that the run was cancelled: see [`Context::cancelled`](super::Context::cancelled). Clones tell the same, also in other tasks and
/// threads.
#[derive(Clone, Debug)]
pub struct Cancellation(pub(super) CancellationToken);

impl Cancellation {
    /// Whether it was. For code that computes.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until it is, for ever where it never is. For tasks that the step has spawned. May be dropped.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }
}
