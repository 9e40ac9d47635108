//! What the body of a step execution has recorded, and what it waits for. Pure: the calls that record and wait ask it,
//! and tell it what came of them.
//!
//! Each call has the number of its place in the body, counted when it is made. A replay is told what each number came to
//! before, in the same order, and so takes the same way: what was recorded, what was waited for, and what the body had let
//! go of.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

use stepfleet::journal::{self, Entry};
use stepfleet::step::{Checkpoint, Claimed, LetGo, Unreadable, Wait};
use stepfleet::{names, values};

use super::order::Order;
use crate::error::{Error, Outcome};

/// One attempt's view of its journal.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// What the next call is numbered.
    made: u64,
    /// The last call that was made before a checkpoint, where there was one before it.
    sealed: Option<u64>,
    /// As the attempt found it.
    entries: BTreeMap<u64, Vec<u8>>,
    /// What was recorded since.
    kept: BTreeMap<u64, Vec<u8>>,
    /// Waits without an answer, and whom one is for.
    waits: BTreeMap<u64, (Wait, Waker)>,
    /// Waits that the store knows of by now.
    opened: BTreeSet<u64>,
    /// Calls have ended since the store was asked: waits may have too.
    is_stale: bool,
    /// Errors that calls have ended with and the body was not given yet.
    failing: BTreeMap<u64, Vec<u8>>,
    /// Errors that the body was given: to be recorded once it records anything else, since it has gone on with them.
    failed: BTreeMap<u64, Vec<u8>>,
    /// Delays before a further try that the store may know of, and what they are called.
    pauses: BTreeMap<u64, String>,
    /// Signals that the body cannot read: to be set aside when the store is asked next.
    unreadable: Vec<Unreadable>,
    /// What the body has let go of: to be recorded with whatever is recorded next.
    let_go: BTreeMap<u64, LetGo>,
    /// In which order the body is given what its calls came to.
    order: Order,
    /// Calls that the body is told at once that it should not have made.
    refused: BTreeSet<u64>,
    /// The body does not go the way that an earlier attempt went.
    astray: Option<String>,
    /// Something is in the store, or may be.
    is_used: bool,
    /// What the step is, for errors.
    about: String,
}

/// What is recorded along with a call's value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Along {
    pub(crate) entries: Vec<(u64, Vec<u8>)>,
    pub(crate) let_go: Vec<LetGo>,
    /// How much of the order is recorded with it.
    pub(super) order: usize,
}

impl Along {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.let_go.is_empty()
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint { entries: self.entries.clone(), let_go: self.let_go.clone(), ..Checkpoint::default() }
    }
}

/// What the journal has of a call that records its value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// Its value, as a payload.
    Value(Vec<u8>),
    /// It never ends: the body let go of it.
    Never,
    /// Nothing: it is to be made.
    New,
}

/// What the journal has of a wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The signal, as a payload.
    Signal(Vec<u8>),
    /// Its time was over.
    Overdue,
    /// It never ends: the body let go of it.
    Never,
    /// Nothing yet.
    New,
}

/// What the journal has of an event for a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Collected {
    /// What came of it, as the store has it.
    Came(Vec<u8>),
    /// It never ends: the body let go of it.
    Never,
    /// Nothing yet.
    New,
}

/// What an attempt is to do that has nothing to do but to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// It has, or it waits for nothing that is in the journal.
    No,
    /// Ask at once whether there are answers.
    Ask,
    /// Other calls are under way: say what is waited for after a moment.
    Open,
    /// End, until there is an answer.
    Suspend,
    /// Calls have ended that the body cannot be given, as it does not come by what it was given before them.
    HeldUp,
}

impl Journal {
    pub(crate) fn of(step: &Claimed) -> Self {
        let about = format!("step {} of workflow {} version {}", step.step, step.workflow, step.version);
        let entries: BTreeMap<_, _> = step.journal.iter().cloned().collect();
        let mut journal = Self { is_used: !entries.is_empty(), entries, about, ..Self::default() };
        journal.read_order();
        journal
    }

    fn read_order(&mut self) {
        match Order::of(&self.entries) {
            Some(order) => self.order = order,
            None => self.astray = Some("its journal contradicts itself about the order of its calls".into()),
        }
    }

    /// A new call's number.
    pub(crate) fn next(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// A call that records its value: what is there of it. The error of an earlier attempt that the body went on with is
    /// given again.
    pub(crate) fn recorded(&mut self, number: u64, name: &str) -> Outcome<Recorded> {
        let recorded = self.entry(number).and_then(|entry| match entry {
            None => Ok(Ok(Recorded::New)),
            Some(Entry::Value { name: known, payload, .. }) if known == name => {
                Ok(Ok(Recorded::Value(payload.to_vec())))
            }
            Some(Entry::Failed { name: known, error } | Entry::GivenUp { name: known, error, .. }) if known == name => {
                Ok(Err(Error::read(error)?.given_up()))
            }
            Some(Entry::LetGo { name: known, .. }) if known == name => Ok(Ok(Recorded::Never)),
            Some(other) => Err(self.changed(number, &format!("the call \"{}\"", names::text(name)), &other)),
        });
        self.or_refuse(number, recorded)
    }

    /// A wait: what is there of it.
    pub(crate) fn waited(&mut self, number: u64, name: &str) -> Outcome<Waited> {
        let waited = self.entry(number).and_then(|entry| match entry {
            None => Ok(Ok(Waited::New)),
            Some(Entry::Signal { name: known, payload, .. }) if known == name => {
                Ok(Ok(Waited::Signal(payload.to_vec())))
            }
            Some(Entry::Overdue { name: known }) if known == name => Ok(Ok(Waited::Overdue)),
            Some(Entry::LetGo { name: known, .. }) if known == name => Ok(Ok(Waited::Never)),
            Some(other) => Err(self.changed(number, &format!("the wait for \"{}\"", names::text(name)), &other)),
        });
        self.or_refuse(number, waited)
    }

    /// An event for a buffer: the entry that says what came of it.
    pub(crate) fn collected(&mut self, number: u64, buffer: &str) -> Outcome<Collected> {
        let collected = self.entry(number).and_then(|entry| match entry {
            None => Ok(Ok(Collected::New)),
            Some(entry @ Entry::Collected { .. }) => Ok(Ok(Collected::Came(entry.write()))),
            Some(Entry::LetGo { name: known, .. }) if known == buffer => Ok(Ok(Collected::Never)),
            Some(other) => {
                Err(self.changed(number, &format!("an event for the buffer \"{}\"", names::text(buffer)), &other))
            }
        });
        self.or_refuse(number, collected)
    }

    /// A call that should not be there is told so at once, whatever the body is to be given before.
    fn or_refuse<T>(&mut self, number: u64, found: Result<Outcome<T>, Error>) -> Outcome<T> {
        if found.is_err() {
            self.refused.insert(number);
        }
        found?
    }

    /// A checkpoint is made.
    pub(crate) fn seal(&mut self) {
        if self.made > 0 && self.sealed.is_none() {
            self.sealed = Some(self.made);
        }
    }

    fn entry(&self, number: u64) -> Outcome<Option<Entry<'_>>> {
        if self.sealed.is_some_and(|last| number > last) {
            return Err(Error::terminal(format!(
                "{}: call {number} of its body comes after a checkpoint, and others come before it. After a crash a body \
                 begins at its start, with the state of the checkpoint, and calls are told apart by how many came before: \
                 so it could be given the value of another. Make no recorded call (ctx.step, ctx.wait_for, ctx.collect) \
                 after a checkpoint that comes after one; another step can make it",
                self.about
            )));
        }
        Ok(self.entries.get(&number).map(|entry| Entry::read(entry)).transpose()?)
    }

    fn changed(&self, number: u64, now: &str, recorded: &Entry<'_>) -> Error {
        let before = match recorded {
            Entry::Value { name, .. }
            | Entry::Failed { name, .. }
            | Entry::GivenUp { name, .. }
            | Entry::Tried { name, .. } => format!("the call \"{}\"", names::text(name)),
            Entry::Signal { name, .. } | Entry::Overdue { name } => format!("the wait for \"{}\"", names::text(name)),
            Entry::LetGo { name, .. } => format!("\"{}\"", names::text(name)),
            Entry::Collected { .. } => "an event for a buffer".to_owned(),
            Entry::Order { .. } => "an order".to_owned(),
        };
        Error::terminal(format!(
            "{}: call {number} of its body is {now} now, and an earlier attempt recorded {before} there. A body must make \
             the same calls in the same order each time: if its code was changed, serve the change under a new version, \
             and the old code under its own; if it was not, put what differs from time to time into ctx.step",
            self.about
        ))
    }

    /// What is to be recorded with whatever is recorded next, until it was.
    pub(crate) fn along(&mut self) -> Along {
        let order = self.order.entry();
        let along = self.along_value();
        Along { entries: along.entries.into_iter().chain(order).collect(), ..along }
    }

    /// The same, beside an entry that tells the order itself.
    fn along_value(&mut self) -> Along {
        self.is_used = true;
        Along {
            entries: self.failed.iter().map(|(number, entry)| (*number, entry.clone())).collect(),
            let_go: self.let_go.values().cloned().collect(),
            order: self.order.len(),
        }
    }

    /// A call has ended with this value: its entry, and what is to be recorded with it.
    pub(super) fn value(&mut self, number: u64, name: &str, payload: &[u8]) -> (Vec<u8>, Along) {
        let order = self.order.before(number);
        self.order.end(number);
        (Entry::Value { name, order: &order, payload }.write(), self.along_value())
    }

    /// As [`Journal::value`], for a call that was given up on after this error.
    pub(super) fn given_up(&mut self, number: u64, name: &str, error: &Error) -> (Vec<u8>, Along) {
        let order = self.order.before(number);
        self.order.end(number);
        (Entry::GivenUp { name, order: &order, error: &error.write() }.write(), self.along_value())
    }

    /// How often a call has been tried in vain so far; the last entry that says so.
    pub(super) fn tries(&self, number: u64, name: &str) -> Outcome<(u32, Option<Entry<'_>>)> {
        let (mut failures, mut last) = (0, None);
        while let Some(entry) = self.entries.get(&journal::of_try(number, failures + 1)) {
            let entry = Entry::read(entry)?;
            if entry.name() != name {
                return Err(self.changed(number, &format!("the call \"{}\"", names::text(name)), &entry));
            }
            (failures, last) = (failures + 1, Some(entry));
        }
        Ok((failures, last))
    }

    /// The delay before the next try of a call: whether it is over. `is_known`: an earlier attempt may have told the store.
    pub(super) fn pause(&mut self, wait: &Wait, is_known: bool, waker: &Waker) -> bool {
        if self.entries.contains_key(&wait.number) {
            self.pauses.remove(&wait.number);
            return true;
        }
        if is_known {
            self.pauses.insert(wait.number, wait.name.clone());
        }
        self.wait(wait.clone(), waker);
        false
    }

    /// The body has dropped a call while it waited for its next try.
    pub(super) fn let_go_pause(&mut self, number: u64) {
        self.waits.remove(&number);
        if let Some(name) = self.pauses.remove(&number) {
            self.let_go.insert(number, LetGo { number, name, given: self.order.given() });
        }
    }

    /// As [`Journal::along`], for what may be recorded without a journal.
    pub(crate) fn along_if_any(&mut self) -> Along {
        let is_empty = self.failed.is_empty() && self.let_go.is_empty() && !self.order.has_news();
        if is_empty { Along::default() } else { self.along() }
    }

    /// The body asks for what a call came to that has ended: whether it is given it now.
    pub(super) fn pass(&mut self, number: u64, waker: &Waker) -> bool {
        if self.refused.contains(&number) {
            return true;
        }
        if !self.order.pass(number, waker) {
            return false;
        }
        if let Some(entry) = self.failing.remove(&number) {
            self.failed.insert(number, entry);
        }
        let is_recorded = self.entries.contains_key(&number) || self.kept.contains_key(&number);
        if is_recorded || self.failed.contains_key(&number) {
            self.order.give(number);
        }
        true
    }

    /// The body has come to rest. Answers whom to wake, for the next call that it is given.
    pub(crate) fn rest(&mut self) -> Option<Waker> {
        self.order.rest()
    }

    /// Why the body cannot be gone on with: it does not go the way that an earlier attempt went.
    pub(crate) fn astray(&self) -> Option<Error> {
        self.astray.as_ref().map(|what| self.other_way(what))
    }

    /// The body does not come by what an earlier attempt was given next.
    pub(crate) fn held_up(&self) -> Error {
        let next = self.order.expected().unwrap_or_default();
        self.other_way(&format!("it does not await call {next}, which an earlier attempt was given next"))
    }

    fn other_way(&self, what: &str) -> Error {
        Error::msg(format!(
            "{}: {what}. A body must go the same way each time, as its calls end in the same order: if its code was \
             changed, serve the change under a new version, and the old code under its own; if it was not, put what \
             decides about its calls, such as a time, into ctx.step",
            self.about
        ))
    }

    /// It was recorded.
    pub(crate) fn was_recorded(&mut self, along: &Along) {
        self.order.was_told(along.order);
        for (number, entry) in &along.entries {
            self.failed.remove(number);
            self.keep(*number, entry.clone());
        }
        for LetGo { number, name, given } in &along.let_go {
            self.let_go.remove(number);
            self.keep(*number, Entry::LetGo { name, given: *given }.write());
        }
    }

    /// It was recorded, for a body that runs again within this attempt.
    pub(crate) fn keep(&mut self, number: u64, entry: Vec<u8>) {
        self.kept.insert(number, entry);
    }

    /// The body runs again, within this attempt: it is told what it has recorded so far.
    pub(crate) fn begin_again(&mut self) {
        self.entries.append(&mut self.kept);
        (self.made, self.sealed) = (0, None);
        (self.waits, self.opened, self.is_stale) = (BTreeMap::new(), BTreeSet::new(), false);
        (self.failing, self.failed, self.let_go) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
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
            let what =
                format!("it drops call {number}, \"{}\", whose end an earlier attempt was given", names::text(name));
            self.astray.get_or_insert(what);
        }
        self.unreadable.retain(|one| one.number != number);
        let is_known =
            self.entries.get(&number).is_some_and(|entry| matches!(Entry::read(entry), Ok(Entry::LetGo { .. })));
        if !is_known {
            self.let_go.insert(number, LetGo { number, name: name.to_owned(), given });
        }
    }

    /// The body waits for this.
    pub(crate) fn wait(&mut self, wait: Wait, waker: &Waker) {
        self.waits.insert(wait.number, (wait, waker.clone()));
    }

    /// The signal that has ended this wait is none that the body can read: it waits on.
    pub(crate) fn set_aside(&mut self, number: u64, name: &str, why: String) {
        let Some(entry) = self.entries.remove(&number) else { return };
        let (name, digest) = (name.to_owned(), values::digest(&entry));
        self.unreadable.push(Unreadable { number, name, digest, why });
        // The store is to be told, and to be asked for another.
        self.opened.remove(&number);
    }

    /// What is to be set aside, for the store to be told.
    pub(crate) fn take_unreadable(&mut self) -> Vec<Unreadable> {
        std::mem::take(&mut self.unreadable)
    }

    /// What these waits came to. Answers whom to wake.
    pub(crate) fn answer(&mut self, answers: Vec<(u64, Vec<u8>)>) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for (number, entry) in answers {
            // One that the body has let go of meanwhile is none any more.
            let Some((_, waker)) = self.waits.remove(&number) else { continue };
            self.entries.insert(number, entry);
            wakers.push(waker);
        }
        wakers
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
            true => Idle::No,
        }
    }

    /// All that is waited for.
    pub(crate) fn waits(&self) -> Vec<Wait> {
        self.waits.values().map(|(wait, _)| wait.clone()).collect()
    }

    /// All that is waited for, for the store to be asked about.
    pub(crate) fn ask(&mut self) -> Vec<Wait> {
        (self.is_used, self.is_stale) = (true, false);
        for (number, (wait, _)) in self.waits.range(journal::FIRST_TRY..) {
            self.pauses.insert(*number, wait.name.clone());
        }
        self.opened.extend(self.waits.keys());
        self.waits()
    }

    /// For the commit: is there a journal, and what was let go of.
    pub(crate) fn close(&mut self) -> Option<Vec<LetGo>> {
        self.is_used.then(|| std::mem::take(&mut self.let_go).into_values().collect())
    }
}

#[cfg(test)]
mod tests;
