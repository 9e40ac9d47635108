//! Checks a session now and then: hands back holds that the store names and the worker does not know.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stepfleet_shared::log;
use stepfleet_shared::step::Fence;

use super::session::Session;

/// At most this many runs are named in a log line.
const NAMED: usize = 10;

/// Looks once per `every`, until the session is closing.
pub(super) async fn keep(session: Arc<Session>, every: Duration) {
    while session.unless_closing(tokio::time::sleep(every)).await.is_some() {
        session.kept.tidy();
        // Redis may be away: there is another look.
        if let Ok((count @ 1.., strays)) = once(&session).await {
            tell(&session, count, strays.iter().map(|stray| &*stray.run));
        }
    }
}

/// Redis expected so many steps of this worker again, of these runs.
pub(super) fn tell<'a>(session: &Session, steps: u64, runs: impl IntoIterator<Item = &'a str>) {
    if let Some(metrics) = &session.metrics {
        metrics.rolled_back(steps);
    }
    let runs: BTreeSet<&str> = runs.into_iter().collect();
    let runs = runs.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    log::warn!(
        worker = session.id,
        steps,
        runs,
        "Redis came back without its latest writes: handed back steps that this worker had committed"
    );
}

/// How many steps were handed back, of these.
async fn once(session: &Session) -> stepfleet_shared::Result<(u64, Vec<Fence>)> {
    let view = session.ledger.view();
    let strays = view.strays(session.store.holds(&session.id).await?);
    if strays.is_empty() {
        return Ok((0, strays));
    }
    Ok((session.store.release(&session.id, &strays).await?, strays))
}
