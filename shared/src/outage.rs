//! Outlasts outages: repeats calls that fail because a server is away or cannot accept them now, and logs each outage
//! once, however many tasks notice it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::backoff::{Backoff, Loop};
use crate::error::{Error, Result};
use crate::log;

/// What the tasks of one process know about the outages of one deployment. Cheap to clone; clones share everything.
#[derive(Clone, Debug, Default)]
pub struct Outages {
    all: Arc<All>,
    place: Option<Arc<str>>,
}

#[derive(Debug, Default)]
struct All {
    state: Mutex<State>,
    watches: AtomicUsize,
    /// How many errors of each kind there were.
    errors: Mutex<BTreeMap<&'static str, u64>>,
}

/// A failing call that a task keeps retrying.
#[derive(Clone, Debug)]
pub struct Outage {
    /// The name of its loop: `intake`.
    pub what: &'static str,
    /// In which partitions, if that is known: `partition 3`.
    pub place: Option<Arc<str>>,
    /// Since when, on this machine's clock.
    pub since: SystemTime,
    /// The last error.
    pub error: Error,
}

/// The loops that fail now.
#[derive(Debug, Default)]
struct State(BTreeMap<usize, Outage>);

#[derive(Debug, PartialEq, Eq)]
enum News {
    None,
    Away,
    Refused,
    Back,
    Accepted,
}

impl State {
    fn is_away(&self) -> bool {
        self.0.values().any(|outage| outage.error.is_passing())
    }

    fn failed(&mut self, who: usize, outage: Outage) -> News {
        let (was_away, is_passing) = (self.is_away(), outage.error.is_passing());
        let earlier = self.0.remove(&who);
        let was_refused = earlier.as_ref().is_some_and(|earlier| !earlier.error.is_passing());
        let since = earlier.map_or(outage.since, |earlier| earlier.since);
        self.0.insert(who, Outage { since, ..outage });
        match (is_passing, was_away, was_refused) {
            (true, false, _) => News::Away,
            (false, _, false) => News::Refused,
            _ => News::None,
        }
    }

    fn fine(&mut self, who: usize) -> News {
        match self.0.remove(&who) {
            Some(outage) if !outage.error.is_passing() => News::Accepted,
            Some(_) if !self.is_away() => News::Back,
            _ => News::None,
        }
    }
}

impl Outages {
    /// The same, for tasks that work in these partitions only.
    #[must_use]
    pub fn within(&self, partitions: &[u16]) -> Self {
        let place = match partitions {
            [] => return self.clone(),
            [one] => format!("partition {one}"),
            several => {
                let numbers: Vec<String> = several.iter().map(u16::to_string).collect();
                format!("partitions {}", numbers.join(", "))
            }
        };
        Self { all: self.all.clone(), place: Some(place.into()) }
    }

    /// The current failures, the oldest first.
    pub fn under_way(&self) -> Vec<Outage> {
        let mut all: Vec<_> =
            self.all.state.lock().unwrap_or_else(PoisonError::into_inner).0.values().cloned().collect();
        all.sort_by_key(|outage| outage.since);
        all
    }

    /// How many errors of this [`Error::kind`] there were so far.
    pub fn errors_of(&self, kind: &str) -> u64 {
        self.all.errors.lock().unwrap_or_else(PoisonError::into_inner).get(kind).copied().unwrap_or(0)
    }

    /// Watches a loop. `what` names it in log lines: `intake`.
    pub fn watch(&self, what: &'static str, of: Loop) -> Watch {
        let number = self.all.watches.fetch_add(1, Ordering::Relaxed);
        Watch { outages: self.clone(), what, number, backoff: Backoff::new(of) }
    }

    /// Makes a call, and repeats it while `bears` says that waiting may fix its error. `send` learns whether it is a
    /// repetition: an earlier try may have taken effect. May be dropped.
    ///
    /// A connection that is closed is no outage if the call succeeds over the next one: servers close idle ones.
    pub async fn outlast<T, F: Future<Output = Result<T>>>(
        &self,
        (what, of): (&'static str, Loop),
        bears: impl Fn(&Error) -> bool,
        mut send: impl FnMut(bool) -> F,
    ) -> Result<T> {
        let mut answer = send(false).await;
        if answer.as_ref().is_err_and(|error| error.is_closed_connection() && bears(error)) {
            answer = send(true).await;
        }
        match answer {
            Err(error) if bears(&error) => {
                let mut watch = self.watch(what, of);
                watch.failed(&error);
                loop {
                    watch.wait().await;
                    match send(true).await {
                        Err(error) if bears(&error) => watch.failed(&error),
                        answer => {
                            watch.fine();
                            return answer;
                        }
                    }
                }
            }
            answer => answer,
        }
    }

    fn with(&self, change: impl FnOnce(&mut State) -> News) -> News {
        change(&mut self.all.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A watched loop.
#[derive(Debug)]
pub struct Watch {
    outages: Outages,
    what: &'static str,
    number: usize,
    backoff: Backoff,
}

impl Watch {
    /// Notes a failure, which will be retried.
    pub fn failed(&mut self, error: &Error) {
        let what = self.what;
        self.backoff.fails();
        *self.outages.all.errors.lock().unwrap_or_else(PoisonError::into_inner).entry(error.kind()).or_default() += 1;
        let outage = Outage { what, place: self.outages.place.clone(), since: SystemTime::now(), error: error.clone() };
        match self.outages.with(|state| state.failed(self.number, outage)) {
            News::Away => log::warn!(what, %error, "waiting for Redis"),
            News::Refused => log::warn!(what, %error, "refused; retrying until it is accepted"),
            _ => log::debug!(what, %error, "failed again"),
        }
    }

    /// Notes a success.
    pub fn fine(&mut self) {
        if !self.backoff.succeeds() {
            return;
        }
        match self.outages.with(|state| state.fine(self.number)) {
            News::Back => log::info!("Redis accepts calls again"),
            News::Accepted => log::info!(what = self.what, "works again"),
            _ => {}
        }
    }

    /// Whether it has failed and has not succeeded since.
    pub fn is_failing(&self) -> bool {
        self.backoff.is_failing()
    }

    /// How long to pause before the next try.
    pub fn pause(&mut self) -> std::time::Duration {
        self.backoff.pause()
    }

    /// Pauses before the next try. May be dropped.
    pub async fn wait(&mut self) {
        self.backoff.wait().await;
    }
}

/// A loop that has ended has nothing to say about an outage.
impl Drop for Watch {
    fn drop(&mut self) {
        self.outages.with(|state| state.fine(self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::TRANSITION;

    fn outage(is_passing: bool) -> Outage {
        let error = if is_passing { Error::unavailable("away") } else { Error::invalid("no") };
        Outage { what: "test", place: None, since: SystemTime::now(), error }
    }

    #[test]
    fn an_outage_is_told_once_and_so_is_its_end() {
        let mut state = State::default();
        assert_eq!(state.failed(1, outage(true)), News::Away);
        assert_eq!(state.failed(2, outage(true)), News::None);
        assert_eq!(state.failed(1, outage(true)), News::None);
        assert_eq!(state.fine(1), News::None);
        assert_eq!(state.fine(2), News::Back);
        assert_eq!(state.fine(2), News::None);
    }

    #[test]
    fn one_that_is_refused_for_good_is_told_apart_from_an_outage() {
        let mut state = State::default();
        assert_eq!(state.failed(1, outage(false)), News::Refused);
        assert_eq!(state.failed(1, outage(false)), News::None);
        assert_eq!(state.failed(2, outage(false)), News::Refused);
        assert_eq!(state.fine(1), News::Accepted);
        assert_eq!(state.fine(1), News::None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waiting_mends_is_repeated_and_the_rest_is_told() {
        let outages = Outages::default();
        let mut tries = Vec::new();
        let answer = outages.outlast(("test", TRANSITION), Error::is_passing, |again| {
            tries.push(again);
            let last = tries.len() == 3;
            async move { if last { Err(Error::invalid("no")) } else { Err::<(), _>(Error::unavailable("away")) } }
        });
        assert!(answer.await.unwrap_err().is_invalid());
        assert_eq!(tries, [false, true, true]);
        assert!(outages.under_way().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_closed_is_no_outage_if_the_next_one_answers() {
        let closed = || redis::RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        for (failures, waits) in [(1, false), (2, true)] {
            let (outages, mut tries, begun) = (Outages::default(), 0, tokio::time::Instant::now());
            let answer = outages.outlast(("test", TRANSITION), Error::is_passing, |again| {
                assert_eq!(again, tries > 0);
                tries += 1;
                let fails = tries <= failures;
                async move { if fails { Err(Error::from(closed())) } else { Ok(()) } }
            });
            answer.await.unwrap();
            assert_eq!((tries, begun.elapsed() > std::time::Duration::ZERO), (failures + 1, waits));
            assert_eq!(outages.errors_of("unreachable"), failures - 1);
        }
    }

    #[test]
    fn who_asks_no_more_is_no_outage() {
        let outages = Outages::default();
        let mut watch = outages.watch("test", TRANSITION);
        watch.failed(&Error::unavailable("away"));
        drop(watch);
        assert_eq!(outages.with(|state| state.failed(99, outage(true))), News::Away);
    }

    #[test]
    fn what_is_under_way_is_known_with_its_place_and_since_when() {
        let outages = Outages::default();
        let mut watches =
            [outages.within(&[3]).watch("first", TRANSITION), outages.within(&[0, 1]).watch("second", TRANSITION)];
        for watch in &mut watches {
            watch.failed(&Error::unavailable("away"));
        }
        let since = outages.under_way()[0].since;
        watches[0].failed(&Error::unavailable("still away"));
        let now = outages.under_way();
        let told = |outage: &Outage| format!("{} in {}: {}", outage.what, outage.place.as_ref().unwrap(), outage.error);
        assert_eq!(
            now.iter().map(told).collect::<Vec<_>>(),
            [
                "first in partition 3: Redis is not available: still away",
                "second in partitions 0, 1: Redis is not available: away"
            ]
        );
        assert_eq!(now[0].since, since);
        watches[0].fine();
        assert_eq!(outages.under_way().len(), 1);
    }
}
