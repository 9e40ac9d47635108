//! The pauses between retries: longer each time, with jitter. One implementation for all loops of workers, coordinators
//! and clients; docs/architecture.md lists them.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

pub use crate::core::generated::loops::*;

/// A kind of loop: how long its pauses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loop {
    first_ms: u64,
    longest_ms: u64,
}

impl Loop {
    /// Pauses of `first_ms` to begin with, and of `longest_ms` at the most, jitter included.
    pub const fn new(first_ms: u64, longest_ms: u64) -> Self {
        Self { first_ms, longest_ms }
    }

    /// The longest pause.
    pub const fn longest(self) -> Duration {
        Duration::from_millis(self.longest_ms)
    }

    fn pauses(self) -> ExponentialBackoff {
        ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(self.first_ms))
            // The jitter adds up to as much again.
            .with_max_delay(Duration::from_millis(self.longest_ms / 2))
            .with_jitter()
            .without_max_times()
            .build()
    }
}

/// One running loop: knows how often it has failed in a row.
///
/// ```
/// # extern crate stepfleet_shared as stepfleet;
/// use stepfleet::backoff::{Backoff, TRANSITION};
///
/// let mut backoff = Backoff::new(TRANSITION);
/// assert!(backoff.fails(), "the first failure is the one to log");
/// assert!(backoff.pause() >= std::time::Duration::from_millis(10));
/// assert!(!backoff.fails());
/// assert!(backoff.succeeds(), "it is over: log that too");
/// ```
#[derive(Debug)]
pub struct Backoff {
    of: Loop,
    pauses: ExponentialBackoff,
    failing: bool,
}

impl Backoff {
    /// A loop that has not failed yet.
    pub fn new(of: Loop) -> Self {
        Self { of, pauses: of.pauses(), failing: false }
    }

    /// Notes a failure. True for the first one in a row, which is the one to log.
    pub fn fails(&mut self) -> bool {
        !std::mem::replace(&mut self.failing, true)
    }

    /// Notes a success, and starts the pauses over. True if it had failed before.
    pub fn succeeds(&mut self) -> bool {
        self.pauses = self.of.pauses();
        std::mem::replace(&mut self.failing, false)
    }

    /// Whether it has failed and has not succeeded since.
    pub fn is_failing(&self) -> bool {
        self.failing
    }

    /// How long to pause before the next try. Longer with each call, until it [succeeds](Self::succeeds).
    pub fn pause(&mut self) -> Duration {
        self.pauses.next().unwrap_or(self.of.longest())
    }

    /// Pauses before the next try. Needs a Tokio runtime. May be dropped.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.pause()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_within_their_bound() {
        for of in [TRANSITION, LEASE, DUTY] {
            let mut backoff = Backoff::new(of);
            let pauses: Vec<_> = (0..50).map(|_| backoff.pause()).collect();
            assert!(pauses[0] <= Duration::from_millis(2 * of.first_ms), "{pauses:?}");
            assert!(pauses.iter().all(|pause| *pause <= of.longest()), "{pauses:?}");
            assert!(pauses[40..].iter().all(|pause| *pause >= of.longest() / 2), "{pauses:?}");
            backoff.succeeds();
            assert!(backoff.pause() <= Duration::from_millis(2 * of.first_ms));
        }
    }

    #[test]
    fn pauses_of_two_differ() {
        let several = || {
            let mut backoff = Backoff::new(OPENING);
            (0..10).map(|_| backoff.pause()).collect::<Vec<_>>()
        };
        assert_ne!(several(), several());
    }
}
