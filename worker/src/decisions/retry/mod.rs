//! Whether a failed attempt is retried, and when: a policy is data, and the decision a pure function.

mod on;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::on::RetryOn;
use crate::error::Error;

/// The attempts of a policy without a limit.
const ATTEMPTS: u32 = 4;
/// The share of a delay that is random by default.
const JITTER: f64 = 0.2;
/// The longest delay: the store's clock counts no further.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A step's retry policy: on which errors it is retried, when, and for how long.
///
/// ```
/// use std::time::Duration;
/// use stepfleet::{RetryOn, RetryPolicy};
///
/// let policy = RetryPolicy::exponential(Duration::from_millis(200))
///     .max_delay(Duration::from_secs(30))
///     .within(Duration::from_secs(600))
///     .on(RetryOn::of::<std::io::Error>().and(RetryOn::message("denied").not()));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// When to give up.
    #[serde(default)]
    pub stop: Stop,
    /// How far apart attempts are.
    pub delay: Delay,
    /// How much of each delay is left to chance, from 0 to 1, so that many failures at once do not come back at once.
    /// Chance only shortens a delay.
    #[serde(default)]
    pub jitter: f64,
    /// Which errors are tried again. Terminal ones never are.
    #[serde(default)]
    pub on: RetryOn,
}

/// When to give up: at the first limit that is reached. Without any, after 4 attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stop {
    /// At most this many attempts, the first included. Attempts whose worker was lost do not count.
    #[serde(default)]
    pub attempts: Option<u32>,
    /// No attempt begins later than this after the first one that failed has begun.
    #[serde(default)]
    pub elapsed: Option<Duration>,
}

/// The delay before an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Delay {
    /// Always the same.
    Fixed(Duration),
    /// Each is the last one multiplied.
    Exponential {
        /// Before the second attempt.
        first: Duration,
        /// What each further delay is multiplied by.
        factor: f64,
        /// The longest.
        max: Duration,
    },
    /// Each is longer than the last one by the same step.
    Incrementing {
        /// Before the second attempt.
        first: Duration,
        /// What each further delay is longer by.
        step: Duration,
        /// The longest.
        max: Duration,
    },
    /// Anything between the two.
    Random {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
}

/// What happens after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Another one begins after this delay.
    Retry(Duration),
    /// It was the last.
    GiveUp(Reason),
}

/// Why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// No retry helps against the error, as the step said.
    Terminal,
    /// The error is that of a recorded call, which a further attempt would be given again.
    GivenUp,
    /// The policy is for other errors.
    OtherErrors,
    /// It was the last attempt.
    Attempts,
    /// The next attempt would begin too late.
    Elapsed,
}

impl Reason {
    /// As a part of a sentence.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Terminal => "the error is terminal",
            Self::GivenUp => "the call that failed is recorded, and fails in each attempt",
            Self::OtherErrors => "the retry policy does not cover this error",
            Self::Attempts => "it was the last attempt",
            Self::Elapsed => "the next attempt would begin too late",
        }
    }
}

/// The source of a policy's randomness: the same attempt always gets the same, and so the same decision.
#[derive(Clone, Copy, Debug)]
pub struct Seed(u64);

impl Seed {
    /// The seed of an attempt.
    pub fn new(run: &str, seq: u64, attempt: u32) -> Self {
        let bytes = run.bytes().chain(seq.to_le_bytes()).chain(attempt.to_le_bytes());
        // FNV-1a.
        Self(
            bytes
                .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)),
        )
    }

    /// A number from 0 to 1, another one for each `draw`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a float holds")]
    fn chance(self, draw: u64) -> f64 {
        // SplitMix64.
        let mut mixed = self.0.wrapping_add((draw + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Default for RetryPolicy {
    /// Three retries, after about 1, 2 and 4 seconds.
    fn default() -> Self {
        Self::exponential(Duration::from_secs(1))
    }
}

impl RetryPolicy {
    /// The same delay each time.
    pub fn fixed(delay: Duration) -> Self {
        Self::new(Delay::Fixed(delay))
    }

    /// Delays that double, up to one minute: see [`RetryPolicy::factor`] and [`RetryPolicy::max_delay`].
    pub fn exponential(first: Duration) -> Self {
        Self::new(Delay::Exponential { first, factor: 2.0, max: Duration::from_secs(60).max(first) })
    }

    /// Delays that grow by `step` each time, without an end: see [`RetryPolicy::max_delay`].
    pub fn incrementing(first: Duration, step: Duration) -> Self {
        Self::new(Delay::Incrementing { first, step, max: LONGEST })
    }

    /// Any delay from `min` to `max`, without further jitter.
    pub fn random(min: Duration, max: Duration) -> Self {
        Self { jitter: 0.0, ..Self::new(Delay::Random { min, max }) }
    }

    /// No retries.
    pub fn never() -> Self {
        Self::fixed(Duration::ZERO).attempts(1)
    }

    fn new(delay: Delay) -> Self {
        Self { stop: Stop::default(), delay, jitter: JITTER, on: RetryOn::Any }
    }

    /// At most this many attempts, the first included.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.stop.attempts = Some(attempts);
        self
    }

    /// No attempt begins later than this after the first one that failed has begun. Without
    /// [`RetryPolicy::attempts`] this is the only limit.
    #[must_use]
    pub fn within(mut self, elapsed: Duration) -> Self {
        self.stop.elapsed = Some(elapsed);
        self
    }

    /// Never gives up, except on errors that it is not for.
    #[must_use]
    pub fn for_ever(mut self) -> Self {
        self.stop = Stop { attempts: Some(u32::MAX), elapsed: None };
        self
    }

    /// What each further delay of [`RetryPolicy::exponential`] is multiplied by. Other delays do not change.
    #[must_use]
    pub fn factor(mut self, by: f64) -> Self {
        if let Delay::Exponential { factor, .. } = &mut self.delay {
            *factor = by;
        }
        self
    }

    /// The longest delay, for all kinds of delays.
    #[must_use]
    pub fn max_delay(mut self, longest: Duration) -> Self {
        match &mut self.delay {
            Delay::Fixed(max)
            | Delay::Exponential { max, .. }
            | Delay::Incrementing { max, .. }
            | Delay::Random { max, .. } => *max = longest,
        }
        self
    }

    /// How much of each delay is left to chance, from 0 (nothing) to 1 (all).
    #[must_use]
    pub fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter;
        self
    }

    /// Which errors are tried again.
    #[must_use]
    pub fn on(mut self, on: RetryOn) -> Self {
        self.on = on;
        self
    }

    /// The most attempts after the first; `u32::MAX` where their number has no limit.
    pub fn retries(&self) -> u32 {
        match self.stop {
            Stop { attempts: Some(u32::MAX), .. } | Stop { attempts: None, elapsed: Some(_) } => u32::MAX,
            Stop { attempts, .. } => attempts.unwrap_or(ATTEMPTS).saturating_sub(1),
        }
    }

    /// What happens after an attempt that failed with `error`, after `failures` earlier ones that failed, `elapsed` after
    /// the first of them began. Pure.
    pub fn decide(&self, failures: u32, elapsed: Duration, error: &Error, seed: Seed) -> Decision {
        if error.is_terminal() {
            return Decision::GiveUp(Reason::Terminal);
        }
        if error.is_given_up() {
            return Decision::GiveUp(Reason::GivenUp);
        }
        if !self.on.matches(error) {
            return Decision::GiveUp(Reason::OtherErrors);
        }
        let longest = self.stop.elapsed;
        if failures >= self.retries() && self.retries() < u32::MAX {
            return Decision::GiveUp(Reason::Attempts);
        }
        let delay = self.delay_after(failures, seed);
        if longest.is_some_and(|longest| elapsed.saturating_add(delay) > longest) {
            return Decision::GiveUp(Reason::Elapsed);
        }
        Decision::Retry(delay)
    }

    fn delay_after(&self, failures: u32, seed: Seed) -> Duration {
        let whole = match self.delay {
            Delay::Fixed(delay) => delay.as_secs_f64(),
            Delay::Exponential { first, factor, max } => {
                let exponent = i32::try_from(failures).unwrap_or(i32::MAX);
                (first.as_secs_f64() * factor.powi(exponent)).min(max.as_secs_f64())
            }
            Delay::Incrementing { first, step, max } => {
                (first.as_secs_f64() + step.as_secs_f64() * f64::from(failures)).min(max.as_secs_f64())
            }
            Delay::Random { min, max } => {
                let least = min.as_secs_f64();
                least + (max.as_secs_f64() - least).max(0.0) * seed.chance(0)
            }
        };
        let delay = whole * (1.0 - self.jitter.clamp(0.0, 1.0) * seed.chance(1));
        // A policy may be absurd (a negative factor, a jitter that is no number).
        Duration::try_from_secs_f64(delay).unwrap_or_default().min(LONGEST)
    }
}
