//! Keeps the runtime awake while steps block its threads.

use std::time::Duration;

use tokio::runtime::Handle;

const EVERY: Duration = Duration::from_millis(100);

/// Wakes a thread of the workers' runtime now and then, from another one. A step that blocks its thread may have got it
/// while that thread alone looked after timers and connections; an idle thread that is woken takes these over.
pub(super) async fn nudge(runtime: Handle) {
    loop {
        tokio::time::sleep(EVERY).await;
        runtime.spawn(async {});
    }
}
