//! How often it is looked where the servers are: at once when that is rare, and ever less often while looking does not
//! help.

use std::time::{Duration, Instant};

const SHORTEST: Duration = Duration::from_millis(25);
const LONGEST: Duration = Duration::from_secs(1);
/// After so long without a look the next one is the first again.
const QUIET: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Pace {
    /// Before this moment nobody looks.
    next: Option<Instant>,
    pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { next: None, pause: SHORTEST }
    }
}

impl Pace {
    pub(super) fn may_look(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    /// To be told of each look. `jitter`, from 0 to 1, keeps the processes of a fleet from looking all at once.
    pub(super) fn looked(&mut self, now: Instant, found_new: bool, jitter: f64) {
        if found_new || self.next.is_some_and(|next| now >= next + QUIET) {
            self.pause = SHORTEST;
        }
        self.next = Some(now + self.pause.mul_f64(0.5 + jitter.clamp(0.0, 1.0)));
        self.pause = (self.pause * 2).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_find_nothing_new_become_rare() {
        let begin = Instant::now();
        let (mut pace, mut now, mut looks) = (Pace::default(), begin, 0);
        while now < begin + Duration::from_secs(60) {
            if pace.may_look(now) {
                looks += 1;
                pace.looked(now, false, 0.5);
            }
            now += Duration::from_millis(1);
        }
        assert!((60..75).contains(&looks), "{looks} looks in a minute");
    }

    #[test]
    fn the_first_look_is_at_once_and_so_is_one_after_a_quiet_time() {
        let begin = Instant::now();
        let mut pace = Pace::default();
        assert!(pace.may_look(begin));
        for _ in 0..20 {
            pace.looked(begin, false, 1.0);
        }
        assert!(!pace.may_look(begin + LONGEST));
        let later = begin + LONGEST * 2 + QUIET;
        assert!(pace.may_look(later));
        pace.looked(later, false, 0.0);
        assert!(pace.may_look(later + SHORTEST));
    }

    #[test]
    fn a_look_that_found_something_new_makes_the_next_one_cheap() {
        let now = Instant::now();
        let mut pace = Pace::default();
        for _ in 0..20 {
            pace.looked(now, false, 1.0);
        }
        pace.looked(now, true, 1.0);
        assert!(!pace.may_look(now));
        assert!(pace.may_look(now + SHORTEST * 2));
    }
}
