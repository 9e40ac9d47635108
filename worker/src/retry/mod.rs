//! Whether an attempt that failed is tried again, and when. Pure.

use std::time::Duration;

/// A step's policy: how often, and how far apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub retries: u32,
    /// The delay before the first of them.
    pub backoff: Duration,
    /// What each further delay is multiplied by.
    pub factor: f64,
    /// The longest delay.
    pub max_backoff: Duration,
    /// How much of the delay is left to chance, from 0 to 1, so that many failures at once do not come back at once.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    /// Three retries, after about 1, 2 and 4 seconds.
    fn default() -> Self {
        Self {
            retries: 3,
            backoff: Duration::from_secs(1),
            factor: 2.0,
            max_backoff: Duration::from_secs(60),
            jitter: 0.2,
        }
    }
}

impl RetryPolicy {
    /// The delay before the next attempt, after `failures` earlier ones and this one; None to give up.
    ///
    /// `chance` is from 0 to 1.
    pub fn next(&self, failures: u32, chance: f64) -> Option<Duration> {
        if failures >= self.retries {
            return None;
        }
        let exponent = i32::try_from(failures).unwrap_or(i32::MAX);
        let whole = self.backoff.as_secs_f64() * self.factor.powi(exponent);
        let capped = whole.min(self.max_backoff.as_secs_f64());
        let delay = capped * (1.0 - self.jitter.clamp(0.0, 1.0) * chance.clamp(0.0, 1.0));
        Some(Duration::try_from_secs_f64(delay).unwrap_or(self.max_backoff))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_then_it_gives_up() {
        let policy = RetryPolicy { retries: 4, max_backoff: Duration::from_secs(5), ..RetryPolicy::default() };
        let delays: Vec<_> = (0..5).map(|failures| policy.next(failures, 0.0).map(|d| d.as_secs())).collect();
        assert_eq!(delays, [Some(1), Some(2), Some(4), Some(5), None]);
    }

    #[test]
    fn chance_only_shortens_within_the_jitter() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.next(0, 1.0), Some(Duration::from_millis(800)));
        assert_eq!(policy.next(0, 0.5), Some(Duration::from_millis(900)));
        assert_eq!(RetryPolicy { retries: 0, ..policy }.next(0, 0.0), None);
    }

    #[test]
    fn absurd_policies_neither_panic_nor_overflow() {
        let policy = RetryPolicy { retries: u32::MAX, factor: 1e300, ..RetryPolicy::default() };
        assert_eq!(policy.next(u32::MAX - 1, 0.0), Some(policy.max_backoff));
    }
}
