//! When the process of a stopping worker is over.

use std::time::Duration;

/// It ends this long after its time to drain, or after a second signal, even if something hangs.
const LATEST: Duration = Duration::from_secs(2);

/// How long after the first signal it ends if something hangs. `again`: how long after that the second one came.
pub(crate) fn ends_after(drain: Duration, again: Option<Duration>) -> Duration {
    let drained = drain.saturating_add(LATEST);
    again.map_or(drained, |again| drained.min(again.saturating_add(LATEST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_ends_two_seconds_after_its_time_to_drain() {
        assert_eq!(ends_after(20 * SECOND, None), 22 * SECOND);
        assert_eq!(ends_after(Duration::ZERO, None), 2 * SECOND);
    }

    #[test]
    fn a_second_signal_ends_it_in_two_seconds_and_never_later_than_without() {
        assert_eq!(ends_after(20 * SECOND, Some(5 * SECOND)), 7 * SECOND);
        assert_eq!(ends_after(20 * SECOND, Some(21 * SECOND)), 22 * SECOND);
    }

    #[test]
    fn a_time_to_drain_without_end_is_ended_by_the_second_signal_alone() {
        assert_eq!(ends_after(Duration::MAX, None), Duration::MAX);
        assert_eq!(ends_after(Duration::MAX, Some(SECOND)), 3 * SECOND);
    }
}
