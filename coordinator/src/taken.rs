//! The outcome of requests.

use stepfleet_shared::{Result, log};

/// The outcome of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Runs that were created.
    pub started: u64,
    /// Requests whose id or idempotency key was known.
    pub known: u64,
    /// Requests that wait (or still wait) for a worker that serves them.
    pub deferred: u64,
    /// Signals that were delivered or kept, and runs that were cancelled, retried, forked, paused or resumed.
    pub steered: u64,
    /// Requests about runs that nobody knows yet: they are looked at once more.
    pub early: u64,
    /// Requests that cannot be taken.
    pub rejected: u64,
}

impl Taken {
    /// How many requests these are.
    pub fn total(&self) -> u64 {
        self.started + self.known + self.deferred + self.steered + self.early + self.rejected
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.started += other.started;
        self.known += other.known;
        self.deferred += other.deferred;
        self.steered += other.steered;
        self.early += other.early;
        self.rejected += other.rejected;
    }

    /// These, and one more.
    pub(crate) fn and(mut self, became: Became) -> Self {
        self.count(became);
        self
    }

    pub(crate) fn count(&mut self, became: Became) {
        match became {
            Became::Started => self.started += 1,
            Became::Known => self.known += 1,
            Became::Deferred => self.deferred += 1,
            Became::Steered => self.steered += 1,
            Became::Early => self.early += 1,
            Became::Rejected => self.rejected += 1,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Became {
    Started,
    Known,
    Deferred,
    Steered,
    Early,
    Rejected,
}

/// Why a request cannot be taken, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It cannot be read, or breaks a rule.
    Malformed,
    /// The input is none that its workflow takes.
    Input,
    /// It is about a run that is not there.
    UnknownRun,
    /// No live worker served its workflow in time.
    Unserved,
    /// The run is not in a state for it, or nothing of it takes what was sent.
    Refused,
    /// The server cannot make it as safe as it asks for.
    Durability,
    /// As much is held, or in line, as may be.
    TooMany,
}

impl Why {
    pub(crate) const ALL: [(Self, &str); 7] = [
        (Self::Malformed, "malformed"),
        (Self::Input, "input"),
        (Self::UnknownRun, "unknown_run"),
        (Self::Unserved, "unserved"),
        (Self::Refused, "refused"),
        (Self::Durability, "durability"),
        (Self::TooMany, "too_many"),
    ];
}

/// Adds up the outcome of requests; returns the first error, if there is one, after all were processed.
pub(crate) fn sum(results: Vec<Result<Became>>) -> Result<Taken> {
    let mut taken = Taken::default();
    for became in results {
        taken.count(became?);
    }
    if taken.rejected > 0 {
        log::info!(rejected = taken.rejected, "rejected requests; the reasons are in the stream `rejected`");
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_does_not_hide_among_successes() {
        let away = || stepfleet_shared::Error::unavailable("gone");
        assert!(sum(vec![Ok(Became::Started), Err(away()), Ok(Became::Rejected)]).unwrap_err().is_unavailable());
        let taken = sum(vec![Ok(Became::Started), Ok(Became::Known), Ok(Became::Deferred)]).unwrap();
        assert_eq!((taken.started, taken.known, taken.deferred, taken.total()), (1, 1, 1, 3));
    }
}
