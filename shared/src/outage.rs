//! Going on through outages: what was refused by a server that is away, or that cannot take it now, is asked again, and told once,
//! however many tasks notice.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::backoff::{Backoff, Loop};
use crate::error::{Error, Result};
use crate::log;

/// What the tasks of one process know of the outages of one deployment. Cheap to clone; clones are one.
#[derive(Clone, Debug, Default)]
pub struct Outages(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    watches: AtomicUsize,
}

/// Those who fail now.
#[derive(Debug, Default)]
struct State {
    away: BTreeSet<usize>,
    refused: BTreeSet<usize>,
}

#[derive(Debug, PartialEq, Eq)]
enum News {
    None,
    Away,
    Refused,
    Back,
    Accepted,
}

impl State {
    fn failed(&mut self, who: usize, is_passing: bool) -> News {
        if is_passing {
            let first = self.away.is_empty();
            self.away.insert(who);
            return if first { News::Away } else { News::None };
        }
        self.away.remove(&who);
        if self.refused.insert(who) { News::Refused } else { News::None }
    }

    fn fine(&mut self, who: usize) -> News {
        if self.away.remove(&who) && self.away.is_empty() {
            return News::Back;
        }
        if self.refused.remove(&who) { News::Accepted } else { News::None }
    }
}

impl Outages {
    /// Watches a loop. `what` names it in log lines: `intake`.
    pub fn watch(&self, what: &'static str, of: Loop) -> Watch {
        let number = self.0.watches.fetch_add(1, Ordering::Relaxed);
        Watch { outages: self.clone(), what, number, backoff: Backoff::new(of) }
    }

    /// Makes a call, and makes it again while `bears` says of its error that waiting may mend it. `send` is told whether it is a
    /// repetition: the first try may have taken effect. May be dropped.
    pub async fn outlast<T, F: Future<Output = Result<T>>>(
        &self,
        (what, of): (&'static str, Loop),
        bears: impl Fn(&Error) -> bool,
        mut send: impl FnMut(bool) -> F,
    ) -> Result<T> {
        match send(false).await {
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
        change(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A loop that asks again and again.
#[derive(Debug)]
pub struct Watch {
    outages: Outages,
    what: &'static str,
    number: usize,
    backoff: Backoff,
}

impl Watch {
    /// It has failed, and will be asked again.
    pub fn failed(&mut self, error: &Error) {
        let what = self.what;
        self.backoff.fails();
        match self.outages.with(|state| state.failed(self.number, error.is_passing())) {
            News::Away => log::warn!(what, %error, "Redis cannot take calls; going on as soon as it can"),
            News::Refused => log::warn!(what, %error, "refused; trying again until it is not"),
            _ => log::debug!(what, %error, "failed again"),
        }
    }

    /// It has been answered.
    pub fn fine(&mut self) {
        if !self.backoff.succeeds() {
            return;
        }
        match self.outages.with(|state| state.fine(self.number)) {
            News::Back => log::info!("Redis takes calls again"),
            News::Accepted => log::info!(what = self.what, "works again"),
            _ => {}
        }
    }

    /// How long to pause before it is asked again.
    pub fn pause(&mut self) -> std::time::Duration {
        self.backoff.pause()
    }

    /// Pauses before it is asked again. May be dropped.
    pub async fn wait(&mut self) {
        self.backoff.wait().await;
    }
}

/// Whoever asks no more has nothing to say of an outage.
impl Drop for Watch {
    fn drop(&mut self) {
        self.outages.with(|state| state.fine(self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::TRANSITION;

    #[test]
    fn an_outage_is_told_once_and_so_is_its_end() {
        let mut state = State::default();
        assert_eq!(state.failed(1, true), News::Away);
        assert_eq!(state.failed(2, true), News::None);
        assert_eq!(state.failed(1, true), News::None);
        assert_eq!(state.fine(1), News::None);
        assert_eq!(state.fine(2), News::Back);
        assert_eq!(state.fine(2), News::None);
    }

    #[test]
    fn one_that_is_refused_for_good_is_told_apart_from_an_outage() {
        let mut state = State::default();
        assert_eq!(state.failed(1, false), News::Refused);
        assert_eq!(state.failed(1, false), News::None);
        assert_eq!(state.failed(2, false), News::Refused);
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
        assert!(outages.0.state.lock().unwrap().away.is_empty());
    }

    #[test]
    fn who_asks_no_more_is_no_outage() {
        let outages = Outages::default();
        let mut watch = outages.watch("test", TRANSITION);
        watch.failed(&Error::unavailable("away"));
        drop(watch);
        assert_eq!(outages.with(|state| state.failed(99, true)), News::Away);
    }
}
