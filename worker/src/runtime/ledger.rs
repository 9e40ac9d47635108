//! The ledger of what this worker holds, to correct a Redis that came back without its latest writes.
//!
//! Such a Redis says that the worker holds steps which it committed long ago, or never knew, and since the worker
//! is alive, nobody would ever take them from it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use stepfleet_shared::step::{Claimed, Fence};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// The number of the next call.
    next: u64,
    /// Calls without an answer: what they take is not known yet.
    open: BTreeSet<u64>,
    executing: HashMap<Fence, Executing>,
}

#[derive(Debug)]
struct Executing {
    /// Cancelled when its run, or a fan-out that it belongs to, has ended.
    stop: CancellationToken,
    /// Its fan-out, and those around that.
    groups: Vec<u64>,
}

/// The ledger at one moment. Take it before asking the store what the worker holds.
#[derive(Debug)]
pub(super) struct View {
    /// All calls before this one were answered.
    answered: u64,
    executing: HashSet<Fence>,
}

impl Ledger {
    /// A new call.
    pub(super) fn open(&self) -> OpenCall<'_> {
        let mut entries = self.entries();
        let number = entries.next;
        entries.next += 1;
        entries.open.insert(number);
        OpenCall { ledger: self, number }
    }

    /// Nothing is executed, as far as is known.
    pub(super) fn is_idle(&self) -> bool {
        self.entries().executing.is_empty()
    }

    fn take(&self, took: &[Claimed]) {
        let mut entries = self.entries();
        let executing = |step: &Claimed| {
            let groups = std::iter::once(step.group).chain(step.within.iter().copied()).collect();
            (step.fence.clone(), Executing { stop: CancellationToken::new(), groups })
        };
        entries.executing.extend(took.iter().map(executing));
    }

    /// A run has ended, or a fan-out of it (`<run> <group>`): cancels its executing steps.
    pub(super) fn cancel(&self, what: &str) {
        let (run, group) = what.split_once(' ').map_or((what, None), |(run, group)| (run, Some(group.parse::<u64>())));
        let is_of = |executing: &Executing| match &group {
            None => true,
            Some(group) => group.as_ref().is_ok_and(|group| executing.groups.contains(group)),
        };
        let entries = self.entries();
        let ended = entries.executing.iter().filter(|(fence, executing)| fence.run == run && is_of(executing));
        ended.for_each(|(_, executing)| executing.stop.cancel());
    }

    /// Cancelled when the step execution's run is; never for one that is not in the ledger.
    pub(super) fn stop(&self, fence: &Fence) -> CancellationToken {
        self.entries().executing.get(fence).map(|executing| executing.stop.clone()).unwrap_or_default()
    }

    /// It continues a body that has a token already.
    pub(super) fn go_on(&self, fence: &Fence, stop: &CancellationToken) {
        if let Some(executing) = self.entries().executing.get_mut(fence) {
            let told = std::mem::replace(&mut executing.stop, stop.clone());
            if told.is_cancelled() {
                stop.cancel();
            }
        }
    }

    /// The store has released this hold.
    pub(super) fn ended(&self, fence: &Fence) {
        self.entries().executing.remove(fence);
    }

    pub(super) fn view(&self) -> View {
        let entries = self.entries();
        let answered = entries.open.first().copied().unwrap_or(entries.next);
        View { answered, executing: entries.executing.keys().cloned().collect() }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call whose answer is awaited. One that is dropped without it, as by a panic, is awaited no more: what it may have taken nobody
/// executes.
#[derive(Debug)]
pub(super) struct OpenCall<'a> {
    ledger: &'a Ledger,
    number: u64,
}

impl OpenCall<'_> {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// It was answered, and this is what it took.
    pub(super) fn answered(self, took: &[Claimed]) {
        // Before the call is closed: what it took is no stray.
        self.ledger.take(took);
    }
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        self.ledger.entries().open.remove(&self.number);
    }
}

impl View {
    /// The holds of the store that this worker will never commit. Pure.
    pub(super) fn strays(&self, held: Vec<Fence>) -> Vec<Fence> {
        held.into_iter().filter(|fence| fence.claim < self.answered && !self.executing.contains(fence)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(seq: u64, claim: u64) -> Claimed {
        Claimed { fence: Fence { run: "r".into(), seq, attempt: 1, claim, ..Fence::default() }, ..Claimed::default() }
    }

    #[test]
    fn what_is_executing_or_may_have_just_been_taken_is_no_stray() {
        let ledger = Ledger::default();
        let first = ledger.open();
        let running = step(1, first.number());
        first.answered(std::slice::from_ref(&running));
        let unanswered = ledger.open();
        let view = ledger.view();
        assert!(view.strays(vec![running.fence, step(2, unanswered.number()).fence]).is_empty());
    }

    #[test]
    fn what_an_answered_call_took_and_nobody_executes_is_a_stray() {
        let ledger = Ledger::default();
        let call = ledger.open();
        let number = call.number();
        let committed = step(1, number);
        call.answered(std::slice::from_ref(&committed));
        ledger.ended(&committed.fence);
        let never_seen = step(7, number);
        let view = ledger.view();
        let strays = vec![committed.fence, never_seen.fence];
        assert_eq!(view.strays(strays.clone()), strays);
    }

    #[test]
    fn a_run_that_is_cancelled_stops_its_own_steps_only() {
        let ledger = Ledger::default();
        let call = ledger.open();
        let (ours, mut other) = (step(1, call.number()), step(2, call.number()));
        other.fence.run = "s".into();
        call.answered(&[ours.clone(), other.clone()]);
        ledger.cancel("r");
        assert!(ledger.stop(&ours.fence).is_cancelled() && !ledger.stop(&other.fence).is_cancelled());
    }

    #[test]
    fn a_fan_out_that_has_ended_stops_the_steps_in_it_however_deep() {
        let ledger = Ledger::default();
        let call = ledger.open();
        let (mut branch, mut nested, mut beside) = (step(1, 0), step(2, 0), step(3, 0));
        branch.group = 7;
        (nested.group, nested.within) = (12, vec![7]);
        (beside.group, beside.within) = (8, vec![]);
        call.answered(&[branch.clone(), nested.clone(), beside.clone()]);
        ledger.cancel("r 7");
        let stopped = |step: &Claimed| ledger.stop(&step.fence).is_cancelled();
        assert!(stopped(&branch) && stopped(&nested) && !stopped(&beside));
    }

    #[test]
    fn an_open_call_shields_all_later_ones() {
        let ledger = Ledger::default();
        let (open, later) = (ledger.open(), ledger.open());
        let number = later.number();
        later.answered(&[]);
        assert!(ledger.view().strays(vec![step(1, number).fence]).is_empty());
        open.answered(&[]);
        assert_eq!(ledger.view().strays(vec![step(1, number).fence]).len(), 1);
    }

    #[test]
    fn a_call_that_is_given_up_shields_nothing() {
        let ledger = Ledger::default();
        drop(ledger.open());
        assert_eq!(ledger.view().strays(vec![step(1, 0).fence]).len(), 1);
    }
}
