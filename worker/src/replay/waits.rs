//! What the body waits for.

use stepfleet_shared::journal;
use stepfleet_shared::step::{LetGo, Unreadable, Upon, Wait};
use stepfleet_shared::values;

use super::machine::Machine;

/// What an attempt does when it has nothing to do but wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// It has, or it waits for nothing that is in the journal.
    No,
    /// Ask at once whether there are answers.
    Ask,
    /// Other calls are active: open the waits after a moment.
    Open,
    /// Other calls are active, and the waits are open: ask the store now and then whether they have ended.
    Look,
    /// End, until there is an answer.
    Suspend,
    /// Calls have ended that the body cannot receive, as it does not reach those that it received before them.
    HeldUp,
}

impl Machine {
    /// The delay before the next try of a call: whether it is over. `is_known`: an earlier attempt may have told the store.
    pub(crate) fn pause(&mut self, wait: &Wait, is_known: bool) -> bool {
        if self.entries.contains_key(&wait.number) {
            self.pauses.remove(&wait.number);
            return true;
        }
        if is_known {
            self.pauses.insert(wait.number, wait.name.clone());
        }
        self.wait(wait.clone());
        false
    }

    /// The body has dropped a call while it waited for its next try.
    pub(crate) fn let_go_pause(&mut self, number: u64) {
        self.waits.remove(&number);
        if let Some(name) = self.pauses.remove(&number) {
            self.let_go.insert(number, LetGo { number, name, given: self.order.given() });
        }
    }

    /// The body waits for this.
    pub(crate) fn wait(&mut self, wait: Wait) {
        self.waits.insert(wait.number, wait);
    }

    /// The body cannot read the signal that has ended this wait: it keeps waiting.
    pub(crate) fn set_aside(&mut self, number: u64, name: &str, why: String) {
        let Some(entry) = self.entries.remove(&number) else { return };
        if self.upon == Some(Upon::Entry(number)) {
            self.upon = self.upon_before;
        }
        let (name, digest) = (name.to_owned(), values::digest(&entry));
        self.unreadable.push(Unreadable { number, name, digest, why });
        // The store must set it aside, and return another.
        self.opened.remove(&number);
    }

    /// The entries that the store must set aside.
    pub(crate) fn take_unreadable(&mut self) -> Vec<Unreadable> {
        std::mem::take(&mut self.unreadable)
    }

    /// The outcomes of these waits. Returns the waits whose wakers are to be called.
    pub(crate) fn answer(&mut self, answers: Vec<(u64, Vec<u8>)>) -> Vec<u64> {
        let mut answered = Vec::new();
        self.upon_before = self.upon;
        for (number, entry) in answers {
            // The body may have dropped a wait meanwhile.
            if self.waits.remove(&number).is_none() {
                continue;
            }
            self.entries.insert(number, entry);
            self.upon = Some(Upon::Entry(number));
            answered.push(number);
        }
        answered
    }

    /// A call of the body has ended.
    pub(crate) fn has_gone_on(&mut self) {
        self.is_stale = true;
    }

    /// To be asked while the body awaits. `is_busy`: calls of it are doing something.
    pub(crate) fn idle(&self, is_busy: bool) -> Idle {
        let is_new = self.waits.keys().any(|number| !self.opened.contains(number));
        match is_busy {
            false if self.order.is_held_up() => Idle::HeldUp,
            _ if self.waits.is_empty() => Idle::No,
            false if is_new || self.is_stale => Idle::Ask,
            false => Idle::Suspend,
            true if is_new => Idle::Open,
            true => Idle::Look,
        }
    }

    /// All that is waited for.
    pub(crate) fn waits(&self) -> Vec<Wait> {
        self.waits.values().cloned().collect()
    }

    /// All that is waited for, for the store to be asked about.
    pub(crate) fn ask(&mut self) -> Vec<Wait> {
        (self.is_used, self.is_stale) = (true, false);
        for (number, wait) in self.waits.range(journal::FIRST_TRY..) {
            self.pauses.insert(*number, wait.name.clone());
        }
        self.opened.extend(self.waits.keys());
        self.waits()
    }
}
