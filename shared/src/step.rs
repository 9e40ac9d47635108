//! Step executions: what a worker claims, and what it commits.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::codec::Content;
use crate::names::QueueName;

/// Which step is to work on which event, and what it needs for that.
///
/// Routing is decided where the workflow is known (the worker, or the coordinator for start events) and written
/// beside the event, so that Redis never has to look into it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Route {
    /// The step's name.
    pub step: String,
    /// The event's name.
    pub event: String,
    /// The step reads the run's context: it is sent along with the event.
    #[serde(default)]
    pub context: bool,
    /// At most so many executions of the step are under way in a run at once; others wait for their turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// How many failures on the way to this event were caught: see [`Commit::caught`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub recoveries: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The token of an attempt: only its holder may commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The run.
    pub run: String,
    /// The step execution's number, unique in its run.
    pub seq: u64,
    /// The attempt, from 1; each claim raises it.
    pub attempt: u32,
    /// The number of the worker's call that took it. It makes the fence unlike any other of its worker, even where
    /// a run's id is used again, or Redis came back without its last moments and counts attempts anew.
    pub claim: u64,
    /// The slot of its worker that it is held in.
    pub slot: u32,
    /// How the store wrote the hold down.
    pub line: Line,
}

/// What a store keeps of a hold, as it stands there: given out with a claim and handed back, so that a fence is compared as one
/// string. Only the store that wrote it reads it; it adds nothing to what the rest of a fence says, so all lines are equal.
#[derive(Clone, Default)]
pub struct Line(Option<Arc<str>>);

impl Line {
    pub(crate) fn new(text: &str) -> Self {
        Self(Some(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

impl PartialEq for Line {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Line {}

impl Hash for Line {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// A step execution that this worker holds.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// What a commit must show.
    pub fence: Fence,
    /// How many attempts before this one ended with an error (losses of a worker are not counted).
    pub failures: u32,
    /// The error of the last of them.
    pub last_error: Option<String>,
    /// How long before the claim the first of them began; nothing where there is none.
    pub elapsed: Duration,
    /// How many failures on the way to its event were caught.
    pub recoveries: u32,
    /// The fan-out that this execution is a branch of: the number of the execution that opened it, 0 for none.
    pub group: u64,
    /// The fan-outs around that one, from the inside out.
    pub within: Vec<u64>,
    /// The step's name.
    pub step: String,
    /// The event's name.
    pub event: String,
    /// The event, as a payload of [`crate::codec`]; for a joining step see [`Claimed::joined`].
    pub payload: Vec<u8>,
    /// For a joining step: where its events are, and how many.
    pub joined: Option<JoinBuffer>,
    /// For a step that takes a set of events: them, in the order of its slots.
    pub parts: Option<Vec<Vec<u8>>>,
    /// The workflow.
    pub workflow: String,
    /// The workflow's version, which the run is pinned to.
    pub version: u32,
    /// How the result is to be written.
    pub content: Content,
    /// The run's followers are told of its steps: a commit is to name what the step emitted.
    pub follow_steps: bool,
    /// The run's context, where the step asked for it: field and payload.
    pub context: Vec<(String, Vec<u8>)>,
    /// How often the context had been changed by then; 0 where the step did not ask for it.
    pub context_version: u64,
    /// The step has a limit of executions at once.
    pub is_limited: bool,
    /// It may be what has killed its last workers: nothing is to be executed beside it.
    pub alone: bool,
    /// Why it cannot be executed: somebody wrote into the store's keys.
    pub damage: Option<String>,
    /// What earlier attempts have recorded, and what has ended their waits, by the number of the call: entries of
    /// [`crate::journal`].
    pub journal: Vec<(u64, Vec<u8>)>,
}

/// What a step that goes on has come to so far.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// The checkpoint's number in its attempt, by which a repetition is known and writes nothing. Marked checkpoints of
    /// one attempt are made one after the other. One that writes context has a mark, or an entry.
    pub mark: Option<u64>,
    /// Context fields to write.
    pub set: Vec<(String, Vec<u8>)>,
    /// Context fields to remove.
    pub unset: Vec<String>,
    /// Context fields to merge into; each is written in no other way.
    pub merges: Vec<(String, Merge)>,
    /// The fields that must still have the value with this digest ([`crate::values::digest`]), or none.
    pub expects: Vec<(String, Option<String>)>,
    /// What was recorded since the last checkpoint, by number. A repetition is known by the first one too.
    pub entries: Vec<(u64, Vec<u8>)>,
    /// Calls that the body has let go of: number and name. They are recorded as such; a wait among them takes no signal
    /// any more, and one that has reached it since is delivered to another or kept.
    pub let_go: Vec<(u64, String)>,
    /// Waits that begin, or began before and may have ended since.
    pub waits: Vec<Wait>,
}

/// What a checkpoint came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpointed {
    /// Whether it stands.
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
    /// The signal's name: see [`crate::names::check_name`].
    pub name: String,
    /// After this time the wait ends without a signal. It is counted from when the wait was opened first.
    pub deadline: Option<Duration>,
    /// Only signals with these attributes end it: fields at the top of the signal's value, and the JSON text of what
    /// they must be. See [`crate::attributes`].
    pub filter: Vec<(String, String)>,
}

/// What a run waits for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct OpenWait {
    /// The step execution that waits.
    pub seq: u64,
    /// Its step.
    pub step: String,
    /// The number of the wait in its journal.
    pub number: u64,
    /// The signal's name.
    pub name: String,
    /// What the signal must have: field, and the JSON text of its value.
    pub filter: Vec<(String, String)>,
    /// When its time is over (ms since 1970, on the store's clock); None for never.
    pub due_ms: Option<u64>,
}

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signalled {
    /// It ended a wait.
    Delivered,
    /// Nobody waits for it yet: it is kept.
    Kept,
    /// It was dealt with before.
    Gone,
    /// Too many of that name are kept; it is still in the inbox.
    Full,
    /// The run has ended; the signal is still in the inbox.
    Over,
    /// There is no such run (yet); the signal is still in the inbox.
    Unknown,
}

/// What became of a request to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// The run is stopped.
    Stopped,
    /// It had ended.
    Over,
    /// The request was dealt with before.
    Gone,
    /// There is no such run (yet); the request is still in the inbox.
    Unknown,
}

/// A change of a context field that is applied to whatever value it has by then, and so never conflicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Adds to a whole number; a field that is not set counts as 0. See [`crate::values`].
    Add(i64),
    /// Appends to a list or a map; a field that is not set counts as empty.
    Append {
        /// [`crate::values::LIST`] or [`crate::values::MAP`].
        form: u8,
        /// Elements, or keys and values, as they stand in such a value.
        bytes: Vec<u8>,
    },
}

/// Where the events that a fan-out joined are kept until the joining step has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinBuffer {
    /// The fan-out.
    pub group: u64,
    /// How many events, in order of arrival.
    pub count: u64,
}

/// All that one step execution leaves behind; it becomes true at once, or not at all.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Context fields to write.
    pub set: Vec<(String, Vec<u8>)>,
    /// Context fields to remove.
    pub unset: Vec<String>,
    /// Context fields to merge into; each is written in no other way.
    pub merges: Vec<(String, Merge)>,
    /// The fields that must still have the value with this digest ([`crate::values::digest`]), or none.
    pub expects: Vec<(String, Option<String>)>,
    /// Events for joining steps: the step, and the event's payload.
    pub joins: Vec<(String, Vec<u8>)>,
    /// Events for steps that take a set of several.
    pub parts: Vec<Part>,
    /// New step executions.
    pub emits: Vec<(Route, Vec<u8>)>,
    /// Set where the events open a fan-out of their own.
    pub fan: Option<Fan>,
    /// The step has recorded something, or earlier attempts of it have ended: what is kept of that ends with it.
    pub journalled: bool,
    /// Set where the step failed for good with this error, and what it emits is for a step that catches such failures.
    pub caught: Option<String>,
    /// Where nothing of the run is left to do it stays under way: events from outside may come.
    pub rests: bool,
    /// With a journal: the calls that the body has let go of, as in a [`Checkpoint`].
    pub let_go: Vec<(u64, String)>,
    /// The step execution has published something, or made a checkpoint with a mark: what is kept of that ends with it.
    pub has_traces: bool,
    /// The names of the events that the step emitted, each once, for a run whose steps are followed.
    pub emitted: Vec<String>,
    /// The run's result, as the caller reads it; ends the run.
    pub result: Option<Vec<u8>>,
    /// How long the run stays readable after its end.
    pub retention: Duration,
}

/// A fan-out: the events of one commit become branches, which join when all have ended.
#[derive(Clone, Debug, Default)]
pub struct Fan {
    /// The steps that begin when the last branch has ended, or before.
    pub joins: Vec<Join>,
    /// How many branches were staged before, because they are too many for one call.
    pub staged: u64,
}

/// A step that joins a fan-out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The step.
    pub route: Route,
    /// It begins with so many events, and does not wait for more. When all steps that join a fan-out have begun, the rest
    /// of it is dropped.
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

/// An event for a buffer of a step, while that executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collect {
    /// The number of the call in the journal, where its answer is kept.
    pub number: u64,
    /// The step, and the fan-out that it is executed in: each has buffers of its own.
    pub step: String,
    /// 0 for none.
    pub group: u64,
    /// The buffer's name: see [`crate::names::check_name`].
    pub buffer: String,
    /// How many fill it.
    pub count: u32,
    /// The event.
    pub payload: Vec<u8>,
}

/// What became of events that were sent to a run from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Their steps begin.
    Delivered,
    /// They were dealt with before.
    Gone,
    /// The run has as many step executions as it may have; the events are still in the inbox.
    Full,
    /// The run has ended; the events are still in the inbox.
    Over,
    /// There is no such run (yet); the events are still in the inbox.
    Unknown,
}

/// How an attempt failed, as decided by the worker.
#[derive(Clone, Debug)]
pub enum Failure {
    /// Try again after the delay; no worker is held meanwhile.
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
    },
}

/// The free slots that a worker wants to fill.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    /// The slots, each of which gets one step execution at most.
    pub slots: Vec<u32>,
    /// The worker executes nothing, and will not as long as it is executing one that it is given with [`Claimed::alone`]: that
    /// one is all it is given then.
    pub alone: bool,
    /// The queue that was served last: the next one by name comes first.
    pub after: Option<QueueName>,
}

/// What a slot takes when its step execution has ended.
#[derive(Clone, Debug, Default)]
pub struct Refill {
    /// Which one.
    pub next: Next,
    /// As [`Claim::after`].
    pub after: Option<QueueName>,
}

/// Which step execution a slot takes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Next {
    /// None: the worker is about to stop.
    #[default]
    Nothing,
    /// The one that follows, where there is one: it goes to the slot straight away, without the queue. Else one from a queue.
    Following,
    /// One from a queue, so that others have their turn; the one that follows where none waits.
    Others,
}

/// One call of a worker. Repeating it with the same number and `again` set gives the same answer, so that a
/// lost reply does no harm.
#[derive(Clone, Debug)]
pub struct CallId {
    /// The worker.
    pub worker: String,
    /// The call's number, unique for the worker.
    pub number: u64,
    /// An earlier try may have taken effect.
    pub again: bool,
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitStatus {
    /// It stands (or stood already, where the call was repeated).
    Committed,
    /// The attempt is no longer the current one, or the run has ended: nothing was changed.
    Fenced,
    /// The fence is good, but not all that the commit counts on is staged (Redis came back without its last moments):
    /// nothing was changed; stage it again.
    Unstaged,
    /// The fence is good, but a context field no longer has the value that the commit expects: nothing was changed and
    /// nothing claimed, and the step is still held.
    Conflict,
}

/// What a commit or a checkpoint does to the context.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changes<'a> {
    pub(crate) set: &'a [(String, Vec<u8>)],
    pub(crate) unset: &'a [String],
    pub(crate) merges: &'a [(String, Merge)],
    pub(crate) expects: &'a [(String, Option<String>)],
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

    /// The group that what it emits belongs to.
    pub(crate) fn inner_group(&self, step: &Claimed) -> u64 {
        if self.fan.is_some() { step.fence.seq } else { step.group }
    }

    /// The step execution leaves nothing behind but context fields, events for one step, and what follows. Pure.
    pub(crate) fn is_plain(&self, step: &Claimed) -> bool {
        let is_plain = self.parts.is_empty()
            && self.fan.is_none()
            && self.unset.is_empty()
            && self.merges.is_empty()
            && self.expects.is_empty()
            && self.set.len() <= MAX_SHORT_FIELDS
            && self.caught.is_none()
            && !self.journalled
            && !self.has_traces;
        is_plain && !step.is_limited && !step.follow_steps && step.joined.is_none()
    }

    /// With [`Commit::is_plain`]: the one step execution that follows. Pure.
    pub(crate) fn only_successor(&self) -> Option<&(Route, Vec<u8>)> {
        let [successor] = &self.emits[..] else { return None };
        (self.joins.is_empty() && successor.0.limit.is_none()).then_some(successor)
    }

    /// With [`Commit::is_plain`]: a branch ends, and hands one event to a step that joins, or none. Pure.
    pub(crate) fn ends_branch(&self, step: &Claimed) -> bool {
        step.group != 0 && self.emits.is_empty() && self.joins.len() < 2
    }
}

impl Checkpoint {
    /// What was recorded, where that is one entry and all there is. Pure.
    pub(crate) fn only_entry(&self) -> Option<&(u64, Vec<u8>)> {
        let changes = self.changes();
        let is_plain = self.mark.is_none()
            && changes.set.is_empty()
            && changes.unset.is_empty()
            && changes.merges.is_empty()
            && changes.expects.is_empty()
            && self.let_go.is_empty()
            && self.waits.is_empty();
        let [entry] = &self.entries[..] else { return None };
        // Numbers count calls: up to here there is room for all of them.
        (is_plain && entry.0 <= crate::store::MAX_ENTRIES as u64).then_some(entry)
    }
}

/// More context fields than this are not written in the short way.
const MAX_SHORT_FIELDS: usize = 100;

/// Payloads one after the other: their lengths, a line feed, and the payloads.
pub(crate) fn cut_payloads(set: &[u8]) -> Option<Vec<Vec<u8>>> {
    let line = set.iter().position(|byte| *byte == b'\n')?;
    let (lengths, mut rest) = (std::str::from_utf8(&set[..line]).ok()?, &set[line + 1..]);
    let mut payloads = Vec::new();
    for length in lengths.split(' ') {
        let (payload, after) = rest.split_at_checked(length.parse().ok()?)?;
        payloads.push(payload.to_vec());
        rest = after;
    }
    rest.is_empty().then_some(payloads)
}

/// The same, written.
pub(crate) fn join_payloads<'a>(payloads: impl Iterator<Item = &'a Vec<u8>> + Clone) -> Vec<u8> {
    let lengths: Vec<String> = payloads.clone().map(|payload| payload.len().to_string()).collect();
    let mut whole = lengths.join(" ").into_bytes();
    whole.push(b'\n');
    payloads.for_each(|payload| whole.extend_from_slice(payload));
    whole
}

/// Reads what [`Store::collect`](crate::store::Store::collect) answered: the events that filled the buffer; None where it
/// is not full yet. Fails when it is no such answer.
pub fn collected(entry: &[u8]) -> crate::Result<Option<Vec<Vec<u8>>>> {
    match entry {
        b"c" => Ok(None),
        [b'c', set @ ..] if cut_payloads(set).is_some() => Ok(cut_payloads(set)),
        _ => Err(crate::Error::reply("an entry of the journal is not that of a collection")),
    }
}
