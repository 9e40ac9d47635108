//! How often a lease is renewed.

use std::time::Duration;

/// What closes idle connections waits for a second at least. A connection that is closed sooner was closed for another reason.
const IDLE: Duration = Duration::from_secs(1);
/// The shortest pause.
const SHORTEST: Duration = Duration::from_millis(400);

/// The pause between two renewals, after the connection was closed when it had been idle for this long: it is to be
/// idle no longer than half of that.
pub(crate) fn oftener(every: Duration, idle: Duration) -> Duration {
    if idle < IDLE { every } else { every.min(idle / 2).max(SHORTEST.min(every)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_connection_that_is_closed_when_idle_is_used_twice_as_often() {
        assert_eq!(oftener(10 * SECOND, 4 * SECOND), 2 * SECOND);
        assert_eq!(oftener(2 * SECOND, SECOND), SECOND / 2);
    }

    #[test]
    fn it_is_never_used_more_seldom_nor_too_often() {
        assert_eq!(oftener(SECOND, 10 * SECOND), SECOND);
        assert_eq!(oftener(Duration::from_millis(100), SECOND), Duration::from_millis(100));
        assert!((0..1000).all(|ms| oftener(SECOND, SECOND + Duration::from_millis(ms)) >= SHORTEST));
    }

    #[test]
    fn one_that_is_closed_at_once_was_not_idle() {
        assert_eq!(oftener(10 * SECOND, SECOND / 2), 10 * SECOND);
    }
}
