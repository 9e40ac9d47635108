//! What a step execution commits, at its end or on the way.

use std::fmt;
use std::time::Duration;

use super::{Claimed, Route};

/// A commit with more context fields than this goes the long way.
const MAX_SHORT_FIELDS: usize = 100;

/// What an attempt has recorded last. If the store lacks it, it has come back without its latest writes: whatever the
/// attempt has done since does not follow from what is there, so it commits nothing on top of it. It is given back, and
/// the next attempt begins with what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upon {
    /// An entry of the journal.
    Entry(u64),
    /// A checkpoint that has a mark and no entry.
    Mark(u64),
}

impl fmt::Display for Upon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(number) => write!(f, "{number}"),
            Self::Mark(mark) => write!(f, "m{mark}"),
        }
    }
}

/// The progress of a step that goes on.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// The checkpoint's number in its attempt, which identifies a repetition: that writes nothing. Marked checkpoints of
    /// one attempt are made one after the other. One that writes context has a mark, or an entry.
    pub mark: Option<u64>,
    /// Context fields to write.
    pub set: Vec<(String, Vec<u8>)>,
    /// Context fields to remove.
    pub unset: Vec<String>,
    /// Context fields to merge into; none of them is also set or removed.
    pub merges: Vec<(String, Merge)>,
    /// The fields that must still have the value with this digest ([`crate::values::digest`]), or no value.
    pub expects: Vec<(String, Option<String>)>,
    /// See [`Upon`]: the checkpoint is fenced if that is gone.
    pub upon: Option<Upon>,
    /// What was recorded since the last checkpoint, by number. The first entry identifies a repetition too.
    pub entries: Vec<(u64, Vec<u8>)>,
    /// Calls that the body has dropped. They are recorded as such; a wait among them no longer takes a signal, and a
    /// signal that has reached it since is delivered to another wait or kept.
    pub let_go: Vec<LetGo>,
    /// Signals that have ended waits, and that the body cannot read. They are set aside, with a record in the history;
    /// a checkpoint that opens such a wait again keeps its deadline.
    pub unreadable: Vec<Unreadable>,
    /// Waits that begin, or began before and may have ended since.
    pub waits: Vec<Wait>,
}

/// A call that a body dropped before it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetGo {
    /// Its number.
    pub number: u64,
    /// Its name.
    pub name: String,
    /// How many results the body had received by then.
    pub given: u64,
}

/// A signal that a body cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The number of its wait.
    pub number: u64,
    /// Its name.
    pub name: String,
    /// The digest ([`crate::values::digest`]) of the entry in the journal: any other entry is left there.
    pub digest: String,
    /// Why, in one line.
    pub why: String,
}

/// The outcome of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpointed {
    /// Whether it was accepted.
    pub outcome: CommitStatus,
    /// The entries in the journal of those of its waits that have ended, by number.
    pub answers: Vec<(u64, Vec<u8>)>,
}

impl From<CommitStatus> for Checkpointed {
    fn from(outcome: CommitStatus) -> Self {
        Self { outcome, answers: Vec::new() }
    }
}

/// A wait for a signal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// The number under which the signal is recorded in the journal.
    pub number: u64,
    /// The signal's name, as [`crate::names::token`] writes it.
    pub name: String,
    /// After this time the wait ends without a signal. It counts from when the wait was first opened.
    pub deadline: Option<Duration>,
    /// Only signals with these attributes end it: fields at the top of the signal's value, and the JSON text of what
    /// they must equal. See [`crate::attributes`].
    pub filter: Vec<(String, String)>,
    /// The question whose answer it waits for, as JSON ([`crate::question::Question`]); empty for a wait of another
    /// kind. Its name is that of [`crate::names::question`].
    pub question: Vec<u8>,
}

/// A change of a context field that applies to its current value, whatever that is, and so never conflicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Adds to a whole number; a field that is not set counts as 0. See [`crate::values`].
    Add(i64),
    /// Appends to a list or a map; a field that is not set counts as empty.
    Append {
        /// [`crate::values::LIST`] or [`crate::values::MAP`].
        form: u8,
        /// Elements, or keys and values, encoded as in such a value.
        bytes: Vec<u8>,
    },
}

/// Everything that one step execution commits; it takes effect as a whole or not at all.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Context fields to write.
    pub set: Vec<(String, Vec<u8>)>,
    /// Context fields to remove.
    pub unset: Vec<String>,
    /// Context fields to merge into; none of them is also set or removed.
    pub merges: Vec<(String, Merge)>,
    /// The fields that must still have the value with this digest ([`crate::values::digest`]), or no value.
    pub expects: Vec<(String, Option<String>)>,
    /// Events for joining steps: the step, and the event's payload.
    pub joins: Vec<(String, Vec<u8>)>,
    /// Events for steps that take a set of several.
    pub parts: Vec<Part>,
    /// New step executions.
    pub emits: Vec<(Route, Vec<u8>)>,
    /// Set if the events open a fan-out.
    pub fan: Option<Fan>,
    /// The step has recorded something, or earlier attempts of it have ended: what is kept of that is removed.
    pub journalled: bool,
    /// Set if the step failed for good with this error, and what it emits is for a step that catches such failures.
    pub caught: Option<String>,
    /// Set, with the reason, if the event came from outside and the step cannot read it: it is set aside, and nothing has
    /// failed.
    pub unreadable: Option<String>,
    /// The run stays active when no step execution is left: events from outside may come.
    pub rests: bool,
    /// With a journal: the calls that the body has dropped, as in a [`Checkpoint`].
    pub let_go: Vec<LetGo>,
    /// The step execution has published something, or made a checkpoint with a mark: what is kept of that is removed.
    pub has_traces: bool,
    /// The names of the events that the step emitted, each once, for a run whose steps are followed.
    pub emitted: Vec<String>,
    /// See [`Upon`].
    pub upon: Option<Upon>,
    /// The run's result, as the caller reads it; it ends the run.
    pub result: Option<Vec<u8>>,
    /// How long the run stays readable after its end.
    pub retention: Duration,
}

/// A fan-out: the events of one commit become branches, which join when all have ended.
#[derive(Clone, Debug, Default)]
pub struct Fan {
    /// The steps that begin when the last branch has ended, or earlier.
    pub joins: Vec<Join>,
    /// How many branches were staged before, because one call cannot hold them all.
    pub staged: u64,
}

/// A step that joins a fan-out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The step.
    pub route: Route,
    /// It begins with this many events, and does not wait for more. When all steps that join a fan-out have begun, the
    /// rest of it is dropped.
    pub first: Option<u32>,
}

impl Join {
    /// A step that waits for all branches.
    pub fn all(route: Route) -> Self {
        Self { route, first: None }
    }
}

/// An event for a step that takes a set of several: its execution begins when there is one for each slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The step.
    pub route: Route,
    /// Which of its slots the event is for, from 1.
    pub slot: u32,
    /// How many slots there are.
    pub slots: u32,
    /// The event.
    pub payload: Vec<u8>,
}

/// An event for a buffer of a step that is executing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collect {
    /// The number of the call in the journal, where its result is kept.
    pub number: u64,
    /// The step, which has its own buffers in each fan-out.
    pub step: String,
    /// The fan-out in which it executes; 0 for none.
    pub group: u64,
    /// The buffer's name, as [`crate::names::token`] writes it.
    pub buffer: String,
    /// How many events fill it.
    pub count: u32,
    /// The event.
    pub payload: Vec<u8>,
    /// See [`Upon`].
    pub upon: Option<Upon>,
}

/// How an attempt failed, as decided by the worker.
#[derive(Clone, Debug)]
pub enum Failure {
    /// Retry after the delay; no worker is held meanwhile.
    Retry {
        /// How long to wait, on Redis' clock.
        delay: Duration,
        /// The error, for the history.
        error: String,
    },
    /// The run fails.
    Fail {
        /// The error, for the run and the history.
        error: String,
        /// How long the run stays readable.
        retention: Duration,
        /// The numbers of the journal entries whose errors made the step fail: a retry of the run begins without them.
        forget: Vec<u64>,
        /// See [`Upon`]. What is to be undone would be forgotten with it.
        upon: Option<Upon>,
    },
}

/// The outcome of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitStatus {
    /// It was accepted (or had been, if the call was repeated).
    Committed,
    /// The attempt is no longer the current one, or the run has ended: nothing was changed.
    Fenced,
    /// The attempt is still the current one, but what it is built upon ([`Upon`]) is gone: nothing was changed and nothing
    /// claimed, and the step is still held, to be given back.
    Forgotten,
    /// The fence is good, but not all the branches that the commit needs are staged (Redis came back without its latest
    /// writes): nothing was changed; stage them again.
    Unstaged,
    /// The fence is good, but a context field no longer has the value that the commit expects: nothing was changed and
    /// nothing claimed, and the step is still held.
    Conflict,
}

/// The changes that a commit or a checkpoint makes to the context.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changes<'a> {
    pub(crate) set: &'a [(String, Vec<u8>)],
    pub(crate) unset: &'a [String],
    pub(crate) merges: &'a [(String, Merge)],
    pub(crate) expects: &'a [(String, Option<String>)],
}

impl Changes<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.unset.is_empty() && self.merges.is_empty() && self.expects.is_empty()
    }
}

impl Checkpoint {
    pub(crate) fn changes(&self) -> Changes<'_> {
        Changes { set: &self.set, unset: &self.unset, merges: &self.merges, expects: &self.expects }
    }
}

impl Commit {
    pub(crate) fn changes(&self) -> Changes<'_> {
        Changes { set: &self.set, unset: &self.unset, merges: &self.merges, expects: &self.expects }
    }

    /// The group of the events that it emits.
    pub(crate) fn inner_group(&self, step: &Claimed) -> u64 {
        if self.fan.is_some() { step.fence.seq } else { step.group }
    }

    /// Why the step execution failed or was set aside, if the run goes on without it.
    pub(crate) fn instead(&self) -> Option<&str> {
        self.unreadable.as_deref().or(self.caught.as_deref())
    }

    /// Whether the commit has nothing but context fields, events for one step, and the next step executions. Pure.
    pub(crate) fn is_plain(&self, step: &Claimed) -> bool {
        let is_plain = self.parts.is_empty()
            && self.fan.is_none()
            && self.unset.is_empty()
            && self.merges.is_empty()
            && self.expects.is_empty()
            && self.set.len() <= MAX_SHORT_FIELDS
            && self.caught.is_none()
            && self.unreadable.is_none()
            && !self.journalled
            && self.upon.is_none()
            && !self.has_traces;
        is_plain && !step.is_limited && !step.follow_steps && step.joined.is_none()
    }

    /// With [`Commit::is_plain`]: the one step execution that follows. Pure.
    pub(crate) fn only_successor(&self) -> Option<&(Route, Vec<u8>)> {
        let [successor] = &self.emits[..] else { return None };
        (self.joins.is_empty() && successor.0.limit.is_none()).then_some(successor)
    }

    /// With [`Commit::is_plain`]: a branch ends, and hands one event or none to a step that joins. Pure.
    pub(crate) fn ends_branch(&self, step: &Claimed) -> bool {
        step.group != 0 && self.emits.is_empty() && self.joins.len() < 2
    }
}

impl Checkpoint {
    /// The recorded entry, if that is all that the checkpoint has. Pure.
    pub(crate) fn only_entry(&self) -> Option<&(u64, Vec<u8>)> {
        let changes = self.changes();
        let is_plain = self.mark.is_none()
            && changes.set.is_empty()
            && changes.unset.is_empty()
            && changes.merges.is_empty()
            && changes.expects.is_empty()
            && self.let_go.is_empty()
            && self.unreadable.is_empty()
            && self.waits.is_empty();
        let [entry] = &self.entries[..] else { return None };
        // Numbers count calls: up to here there is room for all of them.
        (is_plain && entry.0 <= crate::store::MAX_ENTRIES as u64).then_some(entry)
    }
}
