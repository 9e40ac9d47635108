//! What the body of a step execution has recorded, and what it waits for. Pure: the calls that record and wait ask it,
//! and tell it what came of them.
//!
//! Each call has the number of its place in the body, counted when it is made. A replay is told what each number came to
//! before, and so takes the same way: what was recorded, what was waited for, and what the body had let go of.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

use stepfleet::journal::Entry;
use stepfleet::step::{Checkpoint, Claimed, Unreadable, Wait};
use stepfleet::values;

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
    /// Errors that the body was given: to be recorded once it records anything else, since it has gone on with them.
    failed: BTreeMap<u64, Vec<u8>>,
    /// Signals that the body cannot read: to be set aside when the store is asked next.
    unreadable: Vec<Unreadable>,
    /// What the body has let go of: to be recorded with whatever is recorded next.
    let_go: BTreeMap<u64, String>,
    /// Something is in the store, or may be.
    is_used: bool,
    /// What the step is, for errors.
    about: String,
}

/// What is recorded along with a call's value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Along {
    pub(crate) entries: Vec<(u64, Vec<u8>)>,
    pub(crate) let_go: Vec<(u64, String)>,
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
}

impl Journal {
    pub(crate) fn of(step: &Claimed) -> Self {
        let about = format!("step {} of workflow {} version {}", step.step, step.workflow, step.version);
        let entries: BTreeMap<_, _> = step.journal.iter().cloned().collect();
        Self { is_used: !entries.is_empty(), entries, about, ..Self::default() }
    }

    /// A new call's number.
    pub(crate) fn next(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// A call that records its value: what is there of it. The error of an earlier attempt that the body went on with is
    /// given again.
    pub(crate) fn recorded(&self, number: u64, name: &str) -> Outcome<Recorded> {
        match self.entry(number)? {
            None => Ok(Recorded::New),
            Some(Entry::Value { name: known, payload }) if known == name => Ok(Recorded::Value(payload.to_vec())),
            Some(Entry::Failed { name: known, terminal, error }) if known == name => {
                Err(if terminal { Error::terminal(error) } else { Error::msg(error) })
            }
            Some(Entry::LetGo { name: known }) if known == name => Ok(Recorded::Never),
            Some(other) => Err(self.changed(number, &format!("the call \"{name}\""), &other)),
        }
    }

    /// A wait: what is there of it.
    pub(crate) fn waited(&self, number: u64, name: &str) -> Outcome<Waited> {
        match self.entry(number)? {
            None => Ok(Waited::New),
            Some(Entry::Signal { name: known, payload, .. }) if known == name => Ok(Waited::Signal(payload.to_vec())),
            Some(Entry::Overdue { name: known }) if known == name => Ok(Waited::Overdue),
            Some(Entry::LetGo { name: known }) if known == name => Ok(Waited::Never),
            Some(other) => Err(self.changed(number, &format!("the wait for \"{name}\""), &other)),
        }
    }

    /// An event for a buffer: the entry that says what came of it.
    pub(crate) fn collected(&self, number: u64, buffer: &str) -> Outcome<Collected> {
        match self.entry(number)? {
            None => Ok(Collected::New),
            Some(entry @ Entry::Collected { .. }) => Ok(Collected::Came(entry.write())),
            Some(Entry::LetGo { name: known }) if known == buffer => Ok(Collected::Never),
            Some(other) => Err(self.changed(number, &format!("an event for the buffer \"{buffer}\""), &other)),
        }
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
            Entry::Value { name, .. } | Entry::Failed { name, .. } => format!("the call \"{name}\""),
            Entry::Signal { name, .. } | Entry::Overdue { name } => format!("the wait for \"{name}\""),
            Entry::LetGo { name } => format!("\"{name}\""),
            Entry::Collected { .. } => "an event for a buffer".to_owned(),
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
        self.is_used = true;
        Along {
            entries: self.failed.iter().map(|(number, entry)| (*number, entry.clone())).collect(),
            let_go: self.let_go.iter().map(|(number, name)| (*number, name.clone())).collect(),
        }
    }

    /// As [`Journal::along`], for what may be recorded without a journal.
    pub(crate) fn along_if_any(&mut self) -> Along {
        if self.failed.is_empty() && self.let_go.is_empty() { Along::default() } else { self.along() }
    }

    /// It was recorded.
    pub(crate) fn was_recorded(&mut self, along: &Along) {
        for (number, entry) in &along.entries {
            self.failed.remove(number);
            self.keep(*number, entry.clone());
        }
        for (number, name) in &along.let_go {
            self.let_go.remove(number);
            self.keep(*number, Entry::LetGo { name }.write());
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
        (self.failed, self.let_go, self.unreadable) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    }

    /// The body was given this error of a call.
    pub(crate) fn fail(&mut self, number: u64, name: &str, error: &Error) {
        let error_text = error.to_string();
        let entry = Entry::Failed { name, terminal: error.is_terminal(), error: &error_text };
        self.failed.insert(number, entry.write());
    }

    /// The body has dropped a call that had not ended.
    pub(crate) fn let_go(&mut self, number: u64, name: &str) {
        self.waits.remove(&number);
        self.unreadable.retain(|one| one.number != number);
        let is_known =
            self.entries.get(&number).is_some_and(|entry| matches!(Entry::read(entry), Ok(Entry::LetGo { .. })));
        if !is_known {
            self.let_go.insert(number, name.to_owned());
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
        self.opened.extend(self.waits.keys());
        self.waits()
    }

    /// For the commit: is there a journal, and what was let go of.
    pub(crate) fn close(&mut self) -> Option<Vec<(u64, String)>> {
        self.is_used.then(|| std::mem::take(&mut self.let_go).into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use stepfleet::codec;

    use super::*;

    fn journal(entries: &[(u64, Entry<'_>)]) -> Journal {
        let entries: BTreeMap<_, _> = entries.iter().map(|(number, entry)| (*number, entry.write())).collect();
        Journal { is_used: !entries.is_empty(), entries, about: "step s".into(), ..Journal::default() }
    }

    fn wait(number: u64, name: &str) -> Wait {
        Wait { number, name: name.into(), ..Wait::default() }
    }

    #[test]
    fn calls_are_told_what_they_came_to_before() {
        let payload = codec::encode("x", &7).unwrap();
        let journal = journal(&[
            (1, Entry::Value { name: "charge", payload: &payload }),
            (2, Entry::Failed { name: "ship", terminal: true, error: "no such street" }),
            (3, Entry::Signal { name: "paid", attributes: "order=7", due_ms: None, payload: &payload }),
            (4, Entry::Overdue { name: "paid" }),
            (5, Entry::LetGo { name: "paid" }),
            (6, Entry::LetGo { name: "charge" }),
        ]);
        assert_eq!(journal.recorded(1, "charge").unwrap(), Recorded::Value(payload.clone()));
        let error = journal.recorded(2, "ship").unwrap_err();
        assert!(error.is_terminal() && error.to_string() == "no such street");
        assert_eq!(journal.waited(3, "paid").unwrap(), Waited::Signal(payload));
        assert_eq!(journal.waited(4, "paid").unwrap(), Waited::Overdue);
        assert_eq!(journal.waited(5, "paid").unwrap(), Waited::Never);
        assert_eq!(journal.recorded(6, "charge").unwrap(), Recorded::Never);
        assert_eq!((journal.recorded(7, "x").unwrap(), journal.waited(7, "x").unwrap()), (Recorded::New, Waited::New));
    }

    #[test]
    fn a_body_that_makes_other_calls_is_told_both_and_what_to_do() {
        let journal = journal(&[
            (1, Entry::Value { name: "charge", payload: b"\x01\x07" }),
            (2, Entry::Overdue { name: "paid" }),
            (3, Entry::LetGo { name: "paid" }),
        ]);
        let errors = [
            (journal.recorded(1, "refund").unwrap_err(), ["the call \"refund\" now", "the call \"charge\" there"]),
            (journal.waited(1, "charge").unwrap_err(), ["the wait for \"charge\" now", "the call \"charge\" there"]),
            (journal.recorded(2, "paid").unwrap_err(), ["the call \"paid\" now", "the wait for \"paid\" there"]),
            (journal.waited(3, "sent").unwrap_err(), ["the wait for \"sent\" now", "\"paid\" there"]),
        ];
        for (error, names) in errors {
            let text = error.to_string();
            assert!(error.is_terminal() && names.iter().all(|name| text.contains(name)), "{text}");
            assert!(text.contains("under a new version"), "{text}");
        }
    }

    #[test]
    fn calls_on_both_sides_of_a_checkpoint_are_refused() {
        let mut journal = journal(&[]);
        journal.seal();
        assert_eq!(journal.next(), 1, "before it there was none");
        assert_eq!(journal.recorded(1, "list").unwrap(), Recorded::New);
        journal.seal();
        assert_eq!(journal.recorded(1, "list").unwrap(), Recorded::New, "it was made before");
        assert_eq!(journal.next(), 2);
        let error = journal.recorded(2, "read").unwrap_err();
        assert!(
            error.is_terminal() && error.to_string().contains("call 2 of its body comes after a checkpoint"),
            "{error}"
        );
        assert!(journal.waited(2, "paid").is_err() && journal.collected(2, "votes").is_err());
        journal.begin_again();
        assert_eq!((journal.next(), journal.recorded(1, "list").unwrap()), (1, Recorded::New));
    }

    #[test]
    fn what_cannot_be_read_is_no_reason_to_do_it_again() {
        let mut journal = journal(&[]);
        journal.entries.insert(1, b"?".to_vec());
        assert!(journal.recorded(1, "charge").unwrap_err().is_terminal());
    }

    #[test]
    fn a_body_is_idle_when_it_waits_and_nothing_else_is_under_way() {
        let mut journal = journal(&[]);
        assert_eq!(journal.idle(false), Idle::No, "it awaits something of its own");
        journal.wait(wait(1, "paid"), Waker::noop());
        assert_eq!((journal.idle(true), journal.idle(false)), (Idle::Open, Idle::Ask));
        assert_eq!(journal.ask().len(), 1);
        assert_eq!((journal.idle(true), journal.idle(false)), (Idle::No, Idle::Suspend));
        journal.has_gone_on();
        assert_eq!((journal.idle(true), journal.idle(false)), (Idle::No, Idle::Ask));
        journal.wait(wait(2, "sent"), Waker::noop());
        assert_eq!(journal.ask(), [wait(1, "paid"), wait(2, "sent")]);
        assert_eq!(journal.idle(false), Idle::Suspend);
        journal.let_go(1, "paid");
        assert_eq!((journal.idle(false), journal.waits()), (Idle::Suspend, vec![wait(2, "sent")]));
        journal.let_go(2, "sent");
        assert_eq!(journal.idle(false), Idle::No);
    }

    #[test]
    fn an_answer_is_for_who_waits_and_for_nobody_else() {
        let mut journal = journal(&[]);
        for number in 1..=3 {
            journal.wait(wait(number, "paid"), Waker::noop());
        }
        journal.let_go(2, "paid");
        let signal = Entry::Signal { name: "paid", attributes: "", due_ms: None, payload: b"\x01\x07" }.write();
        assert_eq!(journal.answer(vec![(1, signal.clone()), (2, signal)]).len(), 1);
        assert_eq!(journal.waits(), [wait(3, "paid")]);
        assert_eq!(journal.waited(1, "paid").unwrap(), Waited::Signal(b"\x01\x07".to_vec()));
        assert_eq!(journal.waited(2, "paid").unwrap(), Waited::New, "it is there for others");
    }

    #[test]
    fn errors_and_what_was_let_go_of_are_recorded_with_what_comes_after() {
        let mut journal = journal(&[(3, Entry::LetGo { name: "old" })]);
        journal.fail(1, "charge", &Error::msg("no money"));
        journal.let_go(2, "paid");
        journal.let_go(3, "old");
        let along = journal.along();
        let failed = Entry::Failed { name: "charge", terminal: false, error: "no money" }.write();
        assert_eq!(along, Along { entries: vec![(1, failed)], let_go: vec![(2, "paid".into())] });
        assert_eq!(journal.along(), along, "until it was recorded");
        journal.let_go(4, "sent");
        journal.was_recorded(&along);
        assert_eq!(journal.along(), Along { entries: vec![], let_go: vec![(4, "sent".into())] });
    }

    #[test]
    fn a_commit_is_told_of_a_journal_only_where_there_is_one() {
        let mut fresh = journal(&[]);
        fresh.let_go(1, "never recorded");
        assert_eq!(fresh.close(), None);
        let mut replayed = journal(&[(1, Entry::Overdue { name: "paid" })]);
        replayed.let_go(2, "sent");
        assert_eq!(replayed.close(), Some(vec![(2, "sent".into())]));
    }
}
