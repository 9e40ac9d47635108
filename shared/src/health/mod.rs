//! Whether a process of a fleet is alive and ready, for orchestrators and load balancers. `http` answers them.
//!
//! It is ready while it is running, Redis has just answered a read in each partition, and no task of it is in an
//! [outage](crate::outage).

mod http;
mod token;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use serde::Serialize;
use tokio::runtime::Handle;

pub use self::http::Listening;
pub use self::token::Token;
use crate::error::{Error, Result};
use crate::metrics::Registry;
use crate::outage::{Outage, Outages};
use crate::partitions::Partitions;
use crate::store::{ReaderStore, Role};

/// Redis is not ready if it takes longer to answer a read. Shorter than the second that most probes wait for an answer.
const PATIENCE: Duration = Duration::from_millis(800);
/// A read is repeated only when the last one is older: many may ask.
const FRESH: Duration = Duration::from_millis(250);
/// At most this many troubles are reported.
const MOST: usize = 20;

const UNREACHABLE: &str = "check that the server runs, that its address is right, and the network";

/// What is known about a process, for its health endpoints. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    outages: Outages,
    began: SystemTime,
    phase: Mutex<Phase>,
    stores: OnceLock<Vec<Arc<dyn ReaderStore>>>,
    metrics: OnceLock<Registry>,
    token: OnceLock<Token>,
    last: tokio::sync::Mutex<Reads>,
}

/// The phase of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    AtWork,
    Stopping,
    Ended,
}

/// The last reads.
#[derive(Default)]
struct Reads {
    at: Option<Instant>,
    unanswered: Vec<Unanswered>,
}

/// A partition in which the last read was not answered.
#[derive(Clone, Debug)]
struct Unanswered {
    partition: u16,
    since: SystemTime,
    error: Error,
}

/// Why a process is not ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// What fails: `read`, or the name of a loop.
    pub what: String,
    /// In which partitions, if that is known.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Since when, in ms since 1970 on the clock of the process.
    pub since_ms: u64,
    /// The error.
    pub error: String,
    /// What to do about it; None if waiting is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// The process is alive until this is dropped.
pub struct Alive(Health);

impl Drop for Alive {
    fn drop(&mut self) {
        *self.0.phase() = Phase::Ended;
    }
}

impl Health {
    /// The health of a process that is about to start, and that reports its outages here.
    pub fn new(outages: &Outages) -> Self {
        Self(Arc::new(Inner {
            outages: outages.clone(),
            began: SystemTime::now(),
            phase: Mutex::new(Phase::Starting),
            stores: OnceLock::new(),
            metrics: OnceLock::new(),
            token: OnceLock::new(),
            last: tokio::sync::Mutex::default(),
        }))
    }

    /// Shows these metrics too. If there is a token, requests for them need it, and only such requests learn why the process is
    /// not ready.
    #[must_use]
    pub fn with_metrics(self, metrics: &Registry, token: Option<Token>) -> Self {
        // The first ones stay: there is one place that calls this.
        let _ = self.0.metrics.set(metrics.clone());
        if let Some(token) = token {
            let _ = self.0.token.set(token);
        }
        self
    }

    /// Answers HTTP requests at this address until the value is dropped. It has a separate thread, so it also answers
    /// while other threads are blocked. Call it on the process's Tokio runtime, on which it reads from Redis.
    ///
    /// Fails if the address cannot be used.
    pub fn listen(&self, address: SocketAddr) -> std::io::Result<Listening> {
        http::listen(self.clone(), address, Handle::current())
    }

    /// The process is alive from now on, and as long as this value lives.
    pub fn alive(&self) -> Alive {
        Alive(self.clone())
    }

    /// The process is running in these partitions.
    pub fn at_work<R: Role + ?Sized>(&self, partitions: &Partitions<R>) {
        let stores = partitions.all().iter().map(|store| R::reader(store.clone())).collect();
        // If it starts over, those that it had at first.
        let _ = self.0.stores.set(stores);
        *self.phase() = Phase::AtWork;
    }

    /// The process was told to stop.
    pub fn stopping(&self) {
        *self.phase() = Phase::Stopping;
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.0.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_alive(&self) -> bool {
        *self.phase() != Phase::Ended
    }

    /// Why it is not ready; empty if it is.
    async fn troubles(&self, runtime: &Handle) -> Vec<Trouble> {
        let phase = *self.phase();
        let unanswered = if phase == Phase::AtWork { self.unanswered(runtime).await } else { Vec::new() };
        judge((phase, self.0.began), &unanswered, &self.0.outages.under_way())
    }

    /// Reads in all partitions, unless that was just done. One caller reads for all.
    async fn unanswered(&self, runtime: &Handle) -> Vec<Unanswered> {
        let Some(stores) = self.0.stores.get() else { return Vec::new() };
        let mut last = self.0.last.lock().await;
        if last.at.is_none_or(|at| at.elapsed() > FRESH) {
            let errors = join_all(stores.iter().map(|store| read(store, runtime))).await;
            let now = SystemTime::now();
            let unanswered = stores.iter().zip(errors).filter_map(|(store, error)| {
                let partition = store.namespace().partition();
                let earlier = last.unanswered.iter().find(|earlier| earlier.partition == partition);
                Some(Unanswered { partition, since: earlier.map_or(now, |earlier| earlier.since), error: error.err()? })
            });
            *last = Reads { unanswered: unanswered.collect(), at: Some(Instant::now()) };
        }
        last.unanswered.clone()
    }
}

/// Reads a key of a partition.
async fn read(store: &Arc<dyn ReaderStore>, runtime: &Handle) -> Result<()> {
    let store = store.clone();
    let mut reading = runtime.spawn(async move { store.waiting_requests().await });
    match tokio::time::timeout(PATIENCE, &mut reading).await {
        Ok(Ok(answer)) => answer.map(drop),
        Ok(Err(cut)) => Err(Error::unavailable(format!("a read was interrupted: {cut}"))),
        Err(_) => {
            reading.abort();
            Err(Error::unavailable(format!("no answer within {PATIENCE:?}")))
        }
    }
}

fn judge((phase, began): (Phase, SystemTime), unanswered: &[Unanswered], outages: &[Outage]) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    let own = |what: &str, error: &str| Trouble {
        what: what.to_owned(),
        place: None,
        since_ms: ms(began),
        error: error.to_owned(),
        advice: None,
    };
    match phase {
        Phase::Starting => troubles.push(own("start", "it has not finished starting")),
        Phase::AtWork => {}
        Phase::Stopping => troubles.push(own("stop", "it was told to stop, and takes no new work")),
        Phase::Ended => troubles.push(own("stop", "it has stopped")),
    }
    for Unanswered { partition, since, error } in unanswered {
        add(&mut troubles, "read", Some(&format!("partition {partition}")), *since, error);
    }
    for Outage { what, place, since, error } in outages {
        add(&mut troubles, what, place.as_deref(), *since, error);
    }
    troubles
}

/// Each error is reported once for a place, however many tasks run into it.
fn add(troubles: &mut Vec<Trouble>, what: &str, place: Option<&str>, since: SystemTime, error: &Error) {
    let (since_ms, text) = (ms(since), error.to_string());
    match troubles.iter().position(|known| known.place.as_deref() == place && known.error == text) {
        Some(at) => {
            let known = &mut troubles[at];
            known.since_ms = known.since_ms.min(since_ms);
            if !known.what.split(", ").any(|named| named == what) {
                known.what = format!("{}, {what}", known.what);
            }
        }
        None if troubles.len() < MOST => troubles.push(Trouble {
            what: what.to_owned(),
            place: place.map(str::to_owned),
            since_ms,
            advice: error.advice().or(error.is_unreachable().then_some(UNREACHABLE)).map(str::to_owned),
            error: text,
        }),
        None => {}
    }
}

fn ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// For people: a line for each trouble, and below it what to do.
fn text(troubles: &[Trouble], now_ms: u64) -> String {
    let mut text = String::from("not ready\n");
    for Trouble { what, place, since_ms, error, advice } in troubles {
        let place = place.as_ref().map_or_else(String::new, |place| format!(" in {place}"));
        let seconds = now_ms.saturating_sub(*since_ms) / 1000;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{what}{place}, for {seconds} s: {error}");
        if let Some(advice) = advice {
            let _ = writeln!(text, "  -> {advice}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn outage(what: &'static str, place: &str, since: u64, error: Error) -> Outage {
        Outage { what, place: Some(place.into()), since: at(since), error }
    }

    #[test]
    fn one_who_is_at_work_without_troubles_is_ready() {
        assert_eq!(judge((Phase::AtWork, at(0)), &[], &[]), []);
        for phase in [Phase::Starting, Phase::Stopping, Phase::Ended] {
            assert_eq!(judge((phase, at(7)), &[], &[]).iter().map(|t| t.since_ms).collect::<Vec<_>>(), [7000]);
        }
    }

    #[test]
    fn troubles_are_told_once_with_place_time_and_advice() {
        let away = || Error::unavailable("connection refused");
        let refused = |what, since| outage(what, "partition 1", since, Error::invalid("no"));
        let unanswered = [Unanswered { partition: 0, since: at(12), error: away() }];
        let outages = [outage("lease", "partition 0", 10, away()), refused("claim", 5), refused("claim", 4)];
        let troubles = judge((Phase::AtWork, at(0)), &unanswered, &outages);
        assert_eq!(
            text(&troubles, 20_000),
            format!(
                "not ready\n\
                 read, lease in partition 0, for 10 s: Redis is not available: connection refused\n  -> {UNREACHABLE}\n\
                 claim in partition 1, for 16 s: no\n"
            )
        );
    }

    #[test]
    fn a_thousand_troubles_are_not_all_told() {
        let outages: Vec<_> =
            (0..1000).map(|n| outage("claim", &format!("partition {n}"), n, Error::invalid("no"))).collect();
        assert_eq!(judge((Phase::AtWork, at(0)), &[], &outages).len(), MOST);
    }
}
