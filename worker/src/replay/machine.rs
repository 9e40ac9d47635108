//! The state of a replay, and what it records.

use std::collections::{BTreeMap, BTreeSet};

use serde_bytes::ByteBuf;
use stepfleet_shared::journal::{self, Entry};
use stepfleet_shared::step::{Checkpoint, Claimed, LetGo, Unreadable, Upon, Wait};
use stepfleet_shared::{codec, names};

use super::fault::Fault;
use super::order::Order;
use crate::error::Error;

/// The replay of one attempt at the body of a step execution.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// How many calls the body has made.
    pub(super) made: u64,
    /// As the attempt found it.
    pub(super) entries: BTreeMap<u64, Vec<u8>>,
    /// What was recorded since.
    pub(super) kept: BTreeMap<u64, Vec<u8>>,
    /// What the store must have where this attempt is to commit more.
    pub(super) upon: Option<Upon>,
    /// The same before the last outcomes of waits came.
    pub(super) upon_before: Option<Upon>,
    /// Waits without an answer.
    pub(super) waits: BTreeMap<u64, Wait>,
    /// Waits that the store knows of by now.
    pub(super) opened: BTreeSet<u64>,
    /// Calls have ended since the store was asked: waits may have too.
    pub(super) is_stale: bool,
    /// Errors of calls that the body has not received yet.
    failing: BTreeMap<u64, Vec<u8>>,
    /// An error or a change with which the body went on: recorded with whatever it records next.
    gone_on: BTreeMap<u64, Vec<u8>>,
    /// Delays before a further try that the store may know of, and what they are called.
    pub(super) pauses: BTreeMap<u64, String>,
    /// Signals that the body cannot read: to be set aside when the store is asked next.
    pub(super) unreadable: Vec<Unreadable>,
    /// Calls that the body has dropped: recorded with whatever is recorded next.
    pub(super) let_go: BTreeMap<u64, LetGo>,
    /// The order in which the body receives results.
    pub(super) order: Order,
    /// Calls that fail at once, because the body should not have made them.
    pub(super) refused: BTreeSet<u64>,
    /// The body diverges from an earlier attempt.
    astray: Option<Fault>,
    /// The first fault of the body.
    pub(super) told: Option<String>,
    /// Something is in the store, or may be.
    pub(super) is_used: bool,
    /// What the step is, for errors.
    pub(super) about: String,
}

/// What is recorded along with a call's value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Along {
    pub(crate) entries: Vec<(u64, Vec<u8>)>,
    pub(crate) let_go: Vec<LetGo>,
    /// How much of the order is recorded with it.
    pub(super) order: usize,
    /// How much the body had been given before.
    pub(super) given: u64,
}

impl Along {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.let_go.is_empty()
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint { entries: self.entries.clone(), let_go: self.let_go.clone(), ..Checkpoint::default() }
    }
}

impl Machine {
    pub(crate) fn of(step: &Claimed) -> Self {
        let about = format!("step {} of workflow {} version {}", step.step, step.workflow, step.version);
        Self::with(step.journal.iter().cloned().collect(), about)
    }

    /// `about` is what the step is, for errors.
    pub(super) fn with(entries: BTreeMap<u64, Vec<u8>>, about: String) -> Self {
        let mut machine = Self { is_used: !entries.is_empty(), entries, about, ..Self::default() };
        machine.read_order();
        machine
    }

    fn read_order(&mut self) {
        match Order::of(&self.entries) {
            Some(order) => self.order = order,
            None => self.astray = Some(Fault::Contradiction),
        }
    }

    /// Entries to record together with the next record, until they are recorded.
    pub(crate) fn along(&mut self) -> Along {
        let order = self.order.entry();
        let along = self.along_value();
        Along { entries: along.entries.into_iter().chain(order).collect(), ..along }
    }

    /// The same, beside an entry that tells the order itself.
    fn along_value(&mut self) -> Along {
        self.is_used = true;
        Along {
            entries: self.gone_on.iter().map(|(number, entry)| (*number, entry.clone())).collect(),
            let_go: self.let_go.values().cloned().collect(),
            order: self.order.len(),
            given: self.order.given(),
        }
    }

    /// A call has ended with this value: its entry, and what is to be recorded with it.
    pub(crate) fn value(&mut self, number: u64, name: &str, payload: &[u8]) -> (Vec<u8>, Along) {
        let order = self.order.before(number);
        self.order.end(number);
        (Entry::Value { name, order: &order, payload }.write(), self.along_value())
    }

    /// As [`Machine::value`], for a call that was given up after this error.
    pub(crate) fn given_up(&mut self, number: u64, name: &str, error: &Error) -> (Vec<u8>, Along) {
        let order = self.order.before(number);
        self.order.end(number);
        (Entry::GivenUp { name, order: &order, error: &error.write() }.write(), self.along_value())
    }

    /// The state is committed before this call begins, or by it: the entry that says so, with its number. `before` is what is changed,
    /// as it was.
    pub(crate) fn mark(&mut self, call: u64, is_own: bool, name: &str, before: &Before) -> (u64, Vec<u8>, Along) {
        let order = self.order.before(call);
        if is_own {
            self.order.end(call);
        }
        let number = if is_own { call } else { journal::of_mark(call) };
        // Fields and their values can be written.
        let before = codec::encode("the state", before).unwrap_or_default();
        (number, Entry::Mark { name, order: &order, before: &before }.write(), self.along_value())
    }

    /// What the state was before the commits of it that are recorded, as far as they have changed it: the first attempt began with it.
    pub(crate) fn began_with(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        let mut marks: Vec<(u64, &Vec<u8>)> = Vec::new();
        for (number, entry) in self.entries.iter().filter(|(_, entry)| entry.first() == Some(&b'k')) {
            // A commit before a call begins comes before the commit of the call.
            let place = journal::marked(*number).map_or(2 * number + 1, |call| 2 * call);
            marks.push((place, entry));
        }
        marks.sort_unstable_by_key(|(place, _)| *place);
        let mut fields = BTreeMap::new();
        for (_, entry) in marks {
            let Ok(Entry::Mark { before, .. }) = Entry::read(entry) else { continue };
            for (field, value) in codec::decode::<Before>("the state", before).unwrap_or_default() {
                fields.entry(field).or_insert(value.map(ByteBuf::into_vec));
            }
        }
        fields
    }

    /// The body has dropped a checkpoint before it was made. It may be made anyway.
    pub(crate) fn let_go_mark(&mut self, number: u64) {
        self.order.let_go(number);
    }

    /// The body has gone on with this.
    pub(super) fn gone_on_with(&mut self, number: u64, entry: Vec<u8>) {
        self.gone_on.insert(number, entry);
    }

    /// As [`Machine::along`], for what may be recorded without a journal.
    pub(crate) fn along_if_any(&mut self) -> Along {
        let is_empty = self.gone_on.is_empty() && self.let_go.is_empty() && !self.order.has_news();
        if is_empty { Along::default() } else { self.along() }
    }

    /// The body asks for the result of a call that has ended: whether it receives it now.
    pub(crate) fn pass(&mut self, number: u64) -> bool {
        if self.refused.contains(&number) {
            return true;
        }
        if !self.order.pass(number) {
            return false;
        }
        if let Some(entry) = self.failing.remove(&number) {
            self.gone_on.insert(number, entry);
        }
        let is_recorded = self.entries.contains_key(&number) || self.kept.contains_key(&number);
        if is_recorded || self.gone_on.contains_key(&number) {
            self.order.give(number);
        }
        true
    }

    /// The body is at rest. Returns the call whose result it receives next, and whose waker is to be called.
    pub(crate) fn rest(&mut self) -> Option<u64> {
        self.order.rest()
    }

    /// Why the body cannot continue: it diverges from an earlier attempt.
    pub(crate) fn astray(&self) -> Option<Error> {
        self.astray.as_ref().map(|fault| fault.error(&self.about))
    }

    /// The body does not reach the call whose result an earlier attempt received next.
    pub(crate) fn held_up(&self) -> Error {
        Fault::NotAwaited { number: self.order.expected().unwrap_or_default() }.error(&self.about)
    }

    /// It was recorded.
    pub(crate) fn was_recorded(&mut self, along: &Along) {
        self.order.was_told(along.order);
        self.order.went_on(along.given);
        for (number, entry) in &along.entries {
            self.gone_on.remove(number);
            self.keep(*number, entry.clone());
        }
        for LetGo { number, name, given } in &along.let_go {
            self.let_go.remove(number);
            self.kept.insert(*number, Entry::LetGo { name, given: *given }.write());
        }
    }

    /// It was recorded, for a body that runs again within this attempt.
    pub(crate) fn keep(&mut self, number: u64, entry: Vec<u8>) {
        self.kept.insert(number, entry);
        self.upon = Some(Upon::Entry(number));
    }

    /// A checkpoint with this mark was made. Its entries, if it has any, say so too.
    pub(crate) fn was_marked(&mut self, mark: u64) {
        self.upon = Some(Upon::Mark(mark));
    }

    /// The body goes on as another attempt: what the store had when that was claimed, its fence says.
    pub(crate) fn goes_on(&mut self) {
        (self.upon, self.upon_before) = (None, None);
    }

    /// What the attempt has recorded last, or was told last: whatever it commits says so, as a Redis that has lost it must take nothing
    /// that was built on it.
    pub(crate) fn upon(&self) -> Option<Upon> {
        self.upon
    }

    /// How many bytes its entries have.
    pub(crate) fn size(&self) -> usize {
        self.entries.values().chain(self.kept.values()).map(Vec::len).sum()
    }

    /// The body runs again, within this attempt, and replays what it has recorded so far.
    pub(crate) fn begin_again(&mut self) {
        self.entries.append(&mut self.kept);
        self.made = 0;
        (self.waits, self.opened, self.is_stale) = (BTreeMap::new(), BTreeSet::new(), false);
        (self.failing, self.gone_on, self.let_go) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        (self.refused, self.astray, self.unreadable) = (BTreeSet::new(), None, Vec::new());
        self.pauses = BTreeMap::new();
        self.read_order();
    }

    /// A call has ended with this error.
    pub(crate) fn fail(&mut self, number: u64, name: &str, error: &Error) {
        let entry = Entry::Failed { name, error: &error.write() };
        self.failing.insert(number, entry.write());
        self.order.end(number);
    }

    /// The body has dropped a call that had not ended.
    pub(crate) fn let_go(&mut self, number: u64, name: &str) {
        self.waits.remove(&number);
        self.failing.remove(&number);
        let given = self.order.given();
        if self.order.let_go(number) {
            self.astray.get_or_insert(Fault::Dropped { number, name: format!("`{}`", names::text(name)) });
        }
        self.unreadable.retain(|one| one.number != number);
        let is_known =
            self.entries.get(&number).is_some_and(|entry| matches!(Entry::read(entry), Ok(Entry::LetGo { .. })));
        if !is_known {
            self.let_go.insert(number, LetGo { number, name: name.to_owned(), given });
        }
    }

    /// For the commit: whether there is a journal, and which calls were dropped.
    pub(crate) fn close(&mut self) -> Option<Vec<LetGo>> {
        self.is_used.then(|| std::mem::take(&mut self.let_go).into_values().collect())
    }
}

/// Fields of the state, as they were.
pub(crate) type Before = Vec<(String, Option<ByteBuf>)>;

/// The same entry of a commit of the state, with other fields.
pub(crate) fn remarked(entry: &[u8], before: &Before) -> Vec<u8> {
    match Entry::read(entry) {
        Ok(Entry::Mark { name, order, .. }) => {
            let before = codec::encode("the state", before).unwrap_or_default();
            Entry::Mark { name, order, before: &before }.write()
        }
        _ => entry.to_vec(),
    }
}
