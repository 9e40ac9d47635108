//! When a closed connection means a dead worker. Pure: the time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Distinguishes workers whose lease connection is gone for good from those that are just opening a new one: a
/// connection must have been seen closed twice, some time apart, without the worker having come back on another in
/// between.
#[derive(Debug)]
pub struct Suspicion {
    after: Duration,
    since: HashMap<(String, u64), Instant>,
}

impl Suspicion {
    /// Suspects a worker once its connection has been closed for this long.
    pub fn new(after: Duration) -> Self {
        Self { after, since: HashMap::new() }
    }

    /// Notes which workers' connections (by Redis' client id) are closed now; returns the workers to give up.
    pub fn observe(&mut self, now: Instant, closed: &[(String, u64)]) -> Vec<(String, u64)> {
        let earlier = std::mem::take(&mut self.since);
        self.since = closed.iter().map(|one| (one.clone(), *earlier.get(one).unwrap_or(&now))).collect();
        let long_enough = |since: &Instant| now.saturating_duration_since(*since) >= self.after;
        let seen_before = |one: &&(String, u64)| earlier.get(*one).is_some_and(long_enough);
        closed.iter().filter(seen_before).cloned().collect()
    }

    /// How long ago a worker's connection was first seen closed; None if it was not.
    pub fn closed_for(&self, now: Instant, worker: &str) -> Option<Duration> {
        let since = self.since.iter().filter(|((id, _), _)| id == worker).map(|(_, since)| *since).min();
        since.map(|since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_millis(150);

    fn closed(worker: &str, client: u64) -> Vec<(String, u64)> {
        vec![(worker.to_owned(), client)]
    }

    #[test]
    fn closed_twice_long_enough_apart_is_given_up() {
        let (mut suspicion, start) = (Suspicion::new(AFTER), Instant::now());
        assert!(suspicion.observe(start, &closed("w", 7)).is_empty());
        assert!(suspicion.observe(start + Duration::from_millis(149), &closed("w", 7)).is_empty());
        assert_eq!(suspicion.observe(start + AFTER, &closed("w", 7)), closed("w", 7));
        assert_eq!(suspicion.closed_for(start + AFTER, "w"), Some(AFTER));
        assert_eq!(suspicion.closed_for(start + AFTER, "v"), None);
        // Still there at the next look, because it could not be reaped: suspected again.
        assert_eq!(suspicion.observe(start + 2 * AFTER, &closed("w", 7)), closed("w", 7));
    }

    #[test]
    fn one_look_alone_is_never_enough() {
        let start = Instant::now();
        assert!(Suspicion::new(Duration::ZERO).observe(start, &closed("w", 7)).is_empty());
    }

    #[test]
    fn a_new_connection_or_a_return_starts_anew() {
        let (mut suspicion, start) = (Suspicion::new(AFTER), Instant::now());
        suspicion.observe(start, &closed("w", 7));
        assert!(suspicion.observe(start + AFTER, &closed("w", 8)).is_empty());
        assert!(suspicion.observe(start + 2 * AFTER, &[]).is_empty());
        assert!(suspicion.observe(start + 3 * AFTER, &closed("w", 8)).is_empty());
        assert_eq!(suspicion.observe(start + 4 * AFTER, &closed("w", 8)), closed("w", 8));
    }
}
