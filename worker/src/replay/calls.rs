//! What the journal has of a call that the body makes.

use std::collections::BTreeMap;

use stepfleet_shared::child::ChildEnd;
use stepfleet_shared::journal::{self, Entry};
use stepfleet_shared::names;
use stepfleet_shared::run::Status;

use super::fault::{Fault, described};
use super::machine::Machine;
use crate::error::{Error, Outcome};

/// What the journal has of a call that records its value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// Its value, as a payload.
    Value(Vec<u8>),
    /// It never ends: the body dropped it.
    Never,
    /// Nothing: make the call.
    New,
}

/// What the journal has of a wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The signal, as a payload.
    Signal(Vec<u8>),
    /// Its deadline was over.
    Overdue,
    /// It never ends: the body dropped it.
    Never,
    /// Nothing yet.
    New,
}

/// What the journal has of an event for a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Collected {
    /// Its outcome, as the store writes it.
    Came(Vec<u8>),
    /// It never ends: the body dropped it.
    Never,
    /// Nothing yet.
    New,
}

/// What the journal has of a checkpoint.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Marked {
    /// It was made.
    Made,
    /// It never ends: the body dropped it.
    Never,
    /// Nothing yet.
    New,
}

impl Machine {
    /// A new call's number.
    pub(crate) fn next(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// The number that the next call will have.
    pub(crate) fn upcoming(&self) -> u64 {
        self.made + 1
    }

    /// The number of a checkpoint. None before all calls: a body that begins again continues after it, with the state that it
    /// committed.
    pub(crate) fn next_mark(&mut self) -> Option<u64> {
        (self.made > 0).then(|| self.next())
    }

    /// A call that records its value: what the journal has of it. An error that the body received in an earlier attempt
    /// is returned again.
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
            Some(other) => Err(self.changed(number, &other, format!("`{}`", names::text(name)))),
        });
        self.or_refuse(number, recorded)
    }

    /// A wait: what the journal has of it.
    pub(crate) fn waited(&mut self, number: u64, name: &str) -> Outcome<Waited> {
        let waited = self.entry(number).and_then(|entry| match entry {
            None => Ok(Ok(Waited::New)),
            Some(Entry::Signal { name: known, payload, .. }) if known == name => {
                Ok(Ok(Waited::Signal(payload.to_vec())))
            }
            Some(Entry::Overdue { name: known }) if known == name => Ok(Ok(Waited::Overdue)),
            Some(Entry::LetGo { name: known, .. }) if known == name => Ok(Ok(Waited::Never)),
            Some(other) => Err(self.changed(number, &other, format!("the wait for `{}`", names::text(name)))),
        });
        self.or_refuse(number, waited)
    }

    /// An event for a buffer: the entry with its outcome.
    pub(crate) fn collected(&mut self, number: u64, buffer: &str) -> Outcome<Collected> {
        let collected = self.entry(number).and_then(|entry| match entry {
            None => Ok(Ok(Collected::New)),
            Some(entry @ Entry::Collected { .. }) => Ok(Ok(Collected::Came(entry.write()))),
            Some(Entry::LetGo { name: known, .. }) if known == buffer => Ok(Ok(Collected::Never)),
            Some(other) => {
                Err(self.changed(number, &other, format!("an event for the buffer `{}`", names::text(buffer))))
            }
        });
        self.or_refuse(number, collected)
    }

    /// A checkpoint: what the journal has of it.
    pub(crate) fn marked(&mut self, number: u64, name: &str) -> Outcome<Marked> {
        let marked = self.entry(number).and_then(|entry| match entry {
            None => Ok(Ok(Marked::New)),
            Some(Entry::Mark { .. }) => Ok(Ok(Marked::Made)),
            Some(Entry::LetGo { name: known, .. }) if known == name => Ok(Ok(Marked::Never)),
            Some(other) => Err(self.changed(number, &other, "a checkpoint".to_owned())),
        });
        self.or_refuse(number, marked)
    }

    /// This code cannot read what was recorded.
    pub(crate) fn cannot_be_read(&mut self, error: &Error) {
        self.told.get_or_insert_with(|| error.to_string());
    }

    /// The first fault that the body got, whatever it did with it.
    pub(crate) fn fault(&self) -> Option<Error> {
        self.told.as_ref().map(Error::terminal)
    }

    /// A description of the step, and of the last call that it has recorded or received: for people.
    pub(crate) fn whereabouts(&self) -> (String, Option<String>) {
        let of = |entries: &BTreeMap<u64, Vec<u8>>| {
            let calls = entries.range(..=self.made.min(journal::FIRST_ORDER - 1)).next_back();
            calls.and_then(|(number, entry)| Some((*number, described(&Entry::read(entry).ok()?))))
        };
        let last = of(&self.entries).max(of(&self.kept));
        (self.about.clone(), last.map(|(number, call)| format!("call #{number}, {call}")))
    }

    /// How many calls the body has made.
    pub(crate) fn calls(&self) -> u64 {
        self.made
    }

    /// The first recorded call that the body, which has ended or comes no further, has not made or not awaited; `how`
    /// says what it does instead.
    pub(crate) fn left_out(&self, how: &str) -> Option<Error> {
        let read = |entry| Entry::read(entry).ok();
        let is_call = |entry: &Entry<'_>| !matches!(entry, Entry::LetGo { .. } | Entry::Patch { .. });
        let calls = self.entries.range(self.made + 1..journal::FIRST_ORDER);
        let mut unmade = calls.filter_map(|(number, entry)| Some((*number, read(entry).filter(is_call)?)));
        let fault = match unmade.next() {
            Some((number, entry)) => Fault::Unmade { number, recorded: described(&entry), how: how.to_owned() },
            None => Fault::NotAwaited { number: self.order.expected()? },
        };
        Some(fault.error(&self.about))
    }

    /// Whether the state was committed before this call began.
    pub(crate) fn is_marked(&self, call: u64) -> bool {
        let number = journal::of_mark(call);
        self.entries.contains_key(&number) || self.kept.contains_key(&number)
    }

    /// Whether the body is to take the new path: if it is here for the first time. That is recorded with what is
    /// recorded next. If an attempt has been further on the old path, it keeps that.
    pub(crate) fn patched(&mut self, name: &str) -> Outcome<bool> {
        let number = self.made + 1;
        let is_taken = match self.entry(number)? {
            Some(Entry::Patch { name: known }) if known == name => true,
            Some(_) => false,
            // Others may have ended before it.
            None => self.entries.range(number..journal::FIRST_ORDER).next().is_none(),
        };
        if is_taken {
            self.made = number;
            self.order.skip(number);
            if !self.entries.contains_key(&number) && !self.kept.contains_key(&number) {
                self.gone_on_with(number, Entry::Patch { name }.write());
            }
        }
        Ok(is_taken)
    }

    /// How many tries of a call have failed so far, with the last entry that says so.
    pub(crate) fn tries(&self, number: u64, name: &str) -> Outcome<(u32, Option<Entry<'_>>)> {
        let (mut failures, mut last) = (0, None);
        while let Some(entry) = self.entry(journal::of_try(number, failures + 1))? {
            if entry.name() != name {
                return Err(self.changed(number, &entry, format!("`{}`", names::text(name))));
            }
            (failures, last) = (failures + 1, Some(entry));
        }
        Ok((failures, last))
    }

    /// The entries that the step fails with: those of calls that were given up, and their tries, as long as the body has not gone
    /// on with their errors.
    pub(crate) fn failed_with(&self) -> Vec<u64> {
        let is_given_up = |entry: &Vec<u8>| match Entry::read(entry) {
            Ok(Entry::GivenUp { .. }) => true,
            Ok(Entry::Signal { name, payload, .. }) if names::is_child(name) => {
                ChildEnd::read(payload).is_ok_and(|end| end.status != Status::Completed)
            }
            _ => false,
        };
        let all = || self.entries.iter().chain(&self.kept);
        let given_up = all().filter(|(number, entry)| is_given_up(entry) && !self.order.has_gone_on_with(**number));
        let calls: Vec<u64> = given_up.map(|(number, _)| *number).collect();
        let is_of_one = |number: &u64| calls.contains(&journal::tried_by(*number).unwrap_or(*number));
        let mut numbers: Vec<u64> = all().map(|(number, _)| *number).filter(is_of_one).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// A call that should not be there fails at once, whatever the body is to receive before.
    fn or_refuse<T>(&mut self, number: u64, found: Result<Outcome<T>, Error>) -> Outcome<T> {
        if let Err(fault) = &found {
            self.refused.insert(number);
            self.told.get_or_insert_with(|| fault.to_string());
        }
        found?
    }

    fn entry(&self, number: u64) -> Outcome<Option<Entry<'_>>> {
        let read = |entry| Entry::read(entry).map_err(|_| Fault::Unreadable { number }.error(&self.about));
        self.entries.get(&number).map(Vec::as_slice).map(read).transpose()
    }

    fn changed(&self, number: u64, recorded: &Entry<'_>, now: String) -> Error {
        Fault::OtherCall { number, recorded: described(recorded), now }.error(&self.about)
    }
}
