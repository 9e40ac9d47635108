//! The outcome of a request about a run.

use std::fmt;
use std::time::{Duration, Instant};

use super::Client;
use super::patience::patiently;
use crate::error::{Error, Result};
use crate::store::RequestFate;

/// The shortest and the longest pause between two looks at the outcome of a request.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// How a request was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reception {
    /// It took effect: a waiting step got the signal, steps begin with the event, the run goes on or ends.
    Taken,
    /// It is kept: a signal for the next step that waits for its name, an event until the run starts.
    Kept,
}

/// A request about a run, which was sent: it stays in the inbox until a coordinator takes it.
///
/// ```no_run
/// # extern crate stepfleet_shared as stepfleet;
/// # async fn example(run: stepfleet::client::RunHandle) -> stepfleet::Result<()> {
/// let asked = run.send("Approval", &serde_json::json!({"by": "ann"})).await?;
/// // Fails if nothing takes the event, with the reason.
/// asked.taken(std::time::Duration::from_secs(10)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Asked {
    pub(super) client: Client,
    pub(super) run: String,
    pub(super) request: String,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("run", &self.run).field("request", &self.request).finish_non_exhaustive()
    }
}

impl Asked {
    /// The id of the request. It is taken once within a day, however often it is sent.
    pub fn id(&self) -> &str {
        &self.request
    }

    /// The outcome of the request; None if no coordinator has taken it yet, or if it was taken more than a day ago.
    pub async fn fate(&self) -> Result<Option<RequestFate>> {
        patiently(|| async {
            let partitions = self.client.home.known().await?;
            let fate = partitions.of(&self.run).request_fate(&self.run, &self.request).await?;
            match partitions.led_elsewhere(&self.run).await? {
                Some(known) if fate.is_none() => partitions.of(&known).request_fate(&known, &self.request).await,
                _ => Ok(fate),
            }
        })
        .await
    }

    /// Waits until a coordinator has taken the request, for at most `limit`; returns whether it took effect or is kept
    /// for later.
    ///
    /// Fails with [`Error::is_invalid`] and the reason if it could not be taken: there is no such run, it has ended, or
    /// nothing takes the event. That there is no such run is known only after some seconds, since the request for the
    /// run may still be on its way. Fails with [`Error::is_timeout`] when the limit is over; the request stays where it
    /// is.
    pub async fn taken(&self, limit: Duration) -> Result<Reception> {
        match look_until_there(limit, || self.fate()).await? {
            Some(RequestFate::Taken) => Ok(Reception::Taken),
            Some(RequestFate::Kept) => Ok(Reception::Kept),
            Some(RequestFate::Rejected(reason)) => Err(Error::invalid(reason)),
            None => Err(Error::timeout(format!(
                "no coordinator has taken up the request about run {} within {limit:?}; the next one to start will",
                self.run
            ))),
        }
    }
}

/// Looks again and again until something is there. None when the limit is over.
pub(super) async fn look_until_there<T, F: Future<Output = Result<Option<T>>>>(
    limit: Duration,
    mut look: impl FnMut() -> F,
) -> Result<Option<T>> {
    let (until, mut pause) = (Instant::now() + limit, PAUSES.0);
    loop {
        let seen = look().await?;
        let left = until.saturating_duration_since(Instant::now());
        if seen.is_some() || left.is_zero() {
            return Ok(seen);
        }
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 3 / 2).min(PAUSES.1);
    }
}
