//! Whether the server has taken writes for long enough to call a worker silent. Pure: the time is an argument.

use std::time::{Duration, Instant};

/// No worker is given up before the server has accepted writes for this long: workers could not renew their leases
/// while it accepted none, and must come first. Four times the longest pause of a worker between two tries.
const RECOVERY: Duration = Duration::from_secs(1);
/// After a pause of this length, it is unknown what the server did meanwhile. Twice the longest pause between two looks.
const GAP: Duration = Duration::from_secs(1);

/// Since when the server has taken each write of this coordinator. Not steady at first: what went before is not known.
#[derive(Debug, Default)]
pub(crate) struct Steadiness {
    /// The first and the last write of those that were taken without a refusal or a gap in between.
    taken: Option<(Instant, Instant)>,
}

impl Steadiness {
    /// The server has taken a write.
    pub(crate) fn took(&mut self, now: Instant) {
        let first = match self.taken {
            Some((first, last)) if now.saturating_duration_since(last) < GAP => first,
            _ => now,
        };
        self.taken = Some((first, now));
    }

    /// The server has refused a write, or did not answer.
    pub(crate) fn refused(&mut self) {
        self.taken = None;
    }

    /// How much longer no worker may be given up; zero if the server is steady. Until it is zero, writes are
    /// to be tried.
    pub(crate) fn missing(&self, now: Instant) -> Duration {
        match self.taken {
            Some((first, last)) if now.saturating_duration_since(last) < GAP => {
                RECOVERY.saturating_sub(now.saturating_duration_since(first))
            }
            _ => RECOVERY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(200);

    /// Takes a write every 200 ms.
    fn take(steadiness: &mut Steadiness, from: Instant, times: u32) -> Instant {
        for n in 0..=times {
            steadiness.took(from + n * LOOK);
        }
        from + times * LOOK
    }

    #[test]
    fn it_takes_a_second_of_writes() {
        let (mut steadiness, start) = (Steadiness::default(), Instant::now());
        assert_eq!(steadiness.missing(start), RECOVERY);
        let now = take(&mut steadiness, start, 4);
        assert_eq!(steadiness.missing(now), Duration::from_millis(200));
        let now = take(&mut steadiness, now, 1);
        assert_eq!(steadiness.missing(now), Duration::ZERO);
    }

    #[test]
    fn a_refusal_counts_from_the_first_write_after_it_however_long_nobody_looked() {
        let (mut steadiness, start) = (Steadiness::default(), Instant::now());
        take(&mut steadiness, start, 10);
        steadiness.refused();
        let later = start + Duration::from_secs(60);
        assert_eq!(steadiness.missing(later), RECOVERY);
        steadiness.took(later);
        assert_eq!(steadiness.missing(later), RECOVERY);
    }

    #[test]
    fn a_gap_counts_as_a_refusal() {
        let (mut steadiness, start) = (Steadiness::default(), Instant::now());
        let now = take(&mut steadiness, start, 10) + GAP;
        assert_eq!(steadiness.missing(now), RECOVERY);
        steadiness.took(now);
        assert_eq!(steadiness.missing(now), RECOVERY);
    }
}
