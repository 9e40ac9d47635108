//! What to log when Redis goes away and comes back: one line each, however many duties notice.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use stepfleet::Error;

/// Its name, and which of the servers it is for.
pub(crate) type Duty = (&'static str, usize);

#[derive(Debug, Default)]
pub(crate) struct Outages(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    away: BTreeSet<Duty>,
    refused: BTreeSet<Duty>,
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
    fn failed(&mut self, duty: Duty, unavailable: bool) -> News {
        if unavailable {
            let first = self.away.is_empty();
            self.away.insert(duty);
            return if first { News::Away } else { News::None };
        }
        self.away.remove(&duty);
        if self.refused.insert(duty) { News::Refused } else { News::None }
    }

    fn fine(&mut self, duty: Duty) -> News {
        if self.away.remove(&duty) && self.away.is_empty() {
            return News::Back;
        }
        if self.refused.remove(&duty) { News::Accepted } else { News::None }
    }
}

impl Outages {
    pub(crate) fn failed(&self, duty: Duty, error: &Error) {
        match self.with(|state| state.failed(duty, error.is_unavailable())) {
            News::Away => tracing::warn!(duty = duty.0, %error, "Redis is away; going on as soon as it is back"),
            News::Refused => tracing::warn!(duty = duty.0, %error, "a duty fails; trying again until it does not"),
            _ => tracing::debug!(duty = duty.0, %error, "failed again"),
        }
    }

    pub(crate) fn fine(&self, duty: Duty) {
        match self.with(|state| state.fine(duty)) {
            News::Back => tracing::info!("Redis is back"),
            News::Accepted => tracing::info!(duty = duty.0, "the duty works again"),
            _ => {}
        }
    }

    fn with(&self, change: impl FnOnce(&mut State) -> News) -> News {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_once_and_so_is_its_end() {
        let mut state = State::default();
        assert_eq!(state.failed(("fire", 0), true), News::Away);
        assert_eq!(state.failed(("intake", 0), true), News::None);
        assert_eq!(state.failed(("fire", 0), true), News::None);
        assert_eq!(state.fine(("fire", 0)), News::None);
        assert_eq!(state.fine(("intake", 0)), News::Back);
        assert_eq!(state.fine(("intake", 0)), News::None);
    }

    #[test]
    fn a_duty_that_redis_refuses_is_told_apart_from_an_outage() {
        let mut state = State::default();
        assert_eq!(state.failed(("fire", 0), false), News::Refused);
        assert_eq!(state.failed(("fire", 0), false), News::None);
        assert_eq!(state.failed(("intake", 0), false), News::Refused);
        assert_eq!(state.fine(("fire", 0)), News::Accepted);
        assert_eq!(state.fine(("fire", 0)), News::None);
    }
}
