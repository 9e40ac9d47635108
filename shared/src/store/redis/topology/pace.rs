//! How often the servers are looked up: at once if that is rare, and ever less often while it does not
//! help.

use std::time::{Duration, Instant};

use crate::backoff::{Backoff, LOOKING};

/// After this long without a look, the next one counts as the first again.
const QUIET: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Pace {
    /// There is no look before this moment.
    next: Option<Instant>,
    backoff: Backoff,
}

impl Default for Pace {
    fn default() -> Self {
        Self { next: None, backoff: Backoff::new(LOOKING) }
    }
}

impl Pace {
    pub(super) fn may_look(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    /// To be called after each look.
    pub(super) fn looked(&mut self, now: Instant, found_new: bool) {
        if found_new || self.next.is_some_and(|next| now >= next + QUIET) {
            self.backoff.succeeds();
        }
        self.next = Some(now + self.backoff.pause());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first pause is over.
    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn looks_that_find_nothing_new_become_rare() {
        let begin = Instant::now();
        let (mut pace, mut now, mut looks) = (Pace::default(), begin, 0);
        while now < begin + Duration::from_secs(60) {
            if pace.may_look(now) {
                looks += 1;
                pace.looked(now, false);
            }
            now += Duration::from_millis(1);
        }
        assert!((40..100).contains(&looks), "{looks} looks in a minute");
    }

    #[test]
    fn the_first_look_is_at_once_and_so_is_one_after_a_quiet_time() {
        let begin = Instant::now();
        let mut pace = Pace::default();
        assert!(pace.may_look(begin));
        for _ in 0..20 {
            pace.looked(begin, false);
        }
        assert!(!pace.may_look(begin + LOOKING.longest() / 3));
        let later = begin + LOOKING.longest() + QUIET;
        assert!(pace.may_look(later));
        pace.looked(later, false);
        assert!(pace.may_look(later + SHORT));
    }

    #[test]
    fn a_look_that_found_something_new_makes_the_next_one_cheap() {
        let now = Instant::now();
        let mut pace = Pace::default();
        for _ in 0..20 {
            pace.looked(now, false);
        }
        pace.looked(now, true);
        assert!(!pace.may_look(now));
        assert!(pace.may_look(now + SHORT));
    }
}
