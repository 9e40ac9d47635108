//! Checks a session now and then: hands back holds that the store names and the worker does not know.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stepfleet_shared::log;

use super::session::Session;

/// At most this many runs are named in a log line.
const NAMED: usize = 10;

/// Looks once per `every`, until the session is closing.
pub(super) async fn keep(session: Arc<Session>, every: Duration) {
    while session.unless_closing(tokio::time::sleep(every)).await.is_some() {
        session.kept.tidy();
        // Redis may be away: there is another look.
        if let Ok((count @ 1.., runs)) = once(&session).await {
            if let Some(metrics) = &session.metrics {
                metrics.rolled_back(count);
            }
            log::warn!(
                worker = session.id,
                steps = count,
                runs,
                "Redis came back without its latest writes: handed back steps that this worker had committed"
            );
        }
    }
}

/// How many steps were handed back, and the runs that they belong to.
async fn once(session: &Session) -> stepfleet_shared::Result<(u64, String)> {
    let view = session.ledger.view();
    let strays = view.strays(session.store.holds(&session.id).await?);
    if strays.is_empty() {
        return Ok((0, String::new()));
    }
    let runs: BTreeSet<&str> = strays.iter().map(|stray| &*stray.run).collect();
    let named: Vec<&str> = runs.into_iter().take(NAMED).collect();
    Ok((session.store.release(&session.id, &strays).await?, named.join(", ")))
}
