//! Checks a session now and then: hands back holds that the store names and the worker does not know.

use std::sync::Arc;
use std::time::Duration;

use stepfleet_shared::log;

use super::session::Session;

/// Looks once per `every`, until the session is closing.
pub(super) async fn keep(session: Arc<Session>, every: Duration) {
    while session.unless_closing(tokio::time::sleep(every)).await.is_some() {
        session.kept.tidy();
        // Redis may be away: there is another look.
        if let Ok(count @ 1..) = once(&session).await {
            log::warn!(
                worker = session.id,
                steps = count,
                "Redis came back without its latest writes: handed back steps that this worker had committed"
            );
        }
    }
}

async fn once(session: &Session) -> stepfleet_shared::Result<u64> {
    let view = session.ledger.view();
    let strays = view.strays(session.store.holds(&session.id).await?);
    if strays.is_empty() { Ok(0) } else { session.store.release(&session.id, &strays).await }
}
