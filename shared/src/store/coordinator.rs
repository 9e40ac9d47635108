//! What a coordinator may do: take requests, and make sure that what is due happens and nothing is left behind.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::fork::{Fork, ForkPoint};
use super::{Across, CallerStore};
use crate::child::Parent;
use crate::durability::Durability;
use crate::error::Result;
use crate::request::{ChildEndedRequest, SendRequest, StartRequest};
use crate::run::Status;
use crate::step::{Answered, Cancelled, Forked, Paused, Resumed, Retried, Route, SendDeferral, Sent, Signalled};

/// What a coordinator may do.
#[async_trait]
pub trait CoordinatorStore: CallerStore + Across {
    /// Creates a run unless its id or key is known, and queues its start events.
    async fn start(&self, start: &Start) -> Result<Started>;
    /// Keeps a request that cannot be routed yet, unless it repeats an existing run.
    async fn defer(&self, start: &Start) -> Result<Deferral>;
    /// Moves an inbox entry to the rejected requests.
    async fn reject(&self, rejection: &Rejection) -> Result<()>;
    /// Delivers a signal to the oldest wait of that name whose filter it passes, or keeps it for the next; takes the
    /// inbox entry away with it.
    async fn signal(&self, run: &str, name: &str, payload: &[u8], origin: Option<&Origin>) -> Result<Signalled>;
    /// Gives a run events from outside: each begins an execution of its step. Takes the inbox entry away with it.
    async fn send(&self, run: &str, events: &[(Route, Vec<u8>)], origin: Option<&Origin>) -> Result<Sent>;
    /// Keeps an event for a run whose request is held. It goes back to the inbox, as a request without an id, once that
    /// request is no longer held, whatever its outcome. Takes the inbox entry away with it.
    async fn defer_send(&self, send: &SendRequest, origin: Option<&Origin>) -> Result<SendDeferral>;
    /// Cancels a run at once; its steps can commit nothing more. Takes the inbox entry away with it. The run
    /// stays readable for `retention`.
    async fn cancel(&self, run: &str, origin: Option<&Origin>, retention: Duration) -> Result<Cancelled>;
    /// Tells a run that a child run for which it waits has ended. A run that has failed meanwhile finds that when it is
    /// retried; other runs that no longer wait are not changed. Takes the inbox entry away with it.
    async fn child_ended(&self, ended: &ChildEndedRequest, entry: &str) -> Result<ChildTold>;
    /// Retries a failed run: the step execution that failed begins again, with `event` (a payload of [`crate::codec`])
    /// instead of its own if that is given, and so does whatever was active beside it. Takes the inbox entry away with
    /// it. Only the first part of a large run is queued at once, the rest by [`CoordinatorStore::fire`].
    async fn retry(&self, run: &str, event: Option<&[u8]>, origin: Option<&Origin>) -> Result<Retried>;
    /// Pauses a run: nothing new of it begins. What executes goes on and may commit; timers and signals take effect,
    /// and what they set off is held back too. A run whose request is held starts paused. Takes the inbox entry away
    /// with it.
    async fn pause(&self, run: &str, origin: Option<&Origin>) -> Result<Paused>;
    /// Answers the question with this [`OpenQuestion::id`](crate::question::OpenQuestion::id) and this name, if it is
    /// open. Takes the inbox entry away with it.
    async fn answer(&self, run: &str, answer: &AnswerTo<'_>, origin: Option<&Origin>) -> Result<Answered>;
    /// Resumes a paused run. Takes the inbox entry away with it. Only the first part of a large run is queued again at
    /// once, the rest by [`CoordinatorStore::fire`].
    async fn resume(&self, run: &str, origin: Option<&Origin>) -> Result<Resumed>;
    /// Where a run can be forked: at this step execution; with none, at its start if it has no other step execution,
    /// otherwise where it failed, or at the only step execution that has not ended.
    async fn forkable(&self, run: &str, seq: Option<u64>) -> Result<ForkPoint>;
    /// Forks a run: creates one that continues from a point of it. Takes the inbox entry away with it.
    async fn fork(&self, fork: &Fork, origin: Option<&Origin>) -> Result<Forked>;
    /// Takes back what dead and silent workers held, and wakes workers for what is queued.
    async fn reap(&self, reap: &Reap) -> Result<Reaped>;
    /// Fires the timers that are due.
    async fn fire(&self, fire: &Fire) -> Result<Fired>;
    /// Looks for what runs need and lack (keys deleted by hand, a backup restored, a bug), in one slice of
    /// the namespace; repairs it from the runs' state, or fails the run if that is impossible.
    async fn audit(&self, audit: &Audit) -> Result<Audited>;
    /// The workers whose lease connection is closed, with the connection's id.
    async fn disconnected(&self) -> Result<Vec<(String, u64)>>;
    /// Opens the connection on which a coordinator hears of timers that are due before all others.
    async fn alarm_reader(&self) -> Result<Box<dyn AlarmReader>>;
    /// Opens a blocking reader on the inbox, for one coordinator.
    async fn inbox_reader(&self, coordinator: &str) -> Result<Box<dyn InboxReader>>;
    /// Takes over inbox entries that another coordinator left for `idle`.
    async fn reclaim_inbox(&self, coordinator: &str, idle: Duration) -> Result<Vec<InboxEntry>>;
}

/// A start, with what only the coordinator can say.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The request.
    pub request: StartRequest,
    /// The run's id.
    pub run: String,
    /// The version to pin the run to.
    pub version: u32,
    /// The steps that take the start event; never empty.
    pub routes: Vec<Route>,
    /// The inbox entry to take away with it.
    pub entry: Option<String>,
    /// The ticket of the reservation under which the run is created, if its idempotency key may be in another partition:
    /// `start` does not read the key then. See [`Across::reserve`].
    pub ticket: Option<String>,
    /// The fields of its initial context, on top of those from another run: field and value.
    pub context: Vec<(String, Vec<u8>)>,
    /// How long its idempotency key is known.
    pub key_ttl: Duration,
    /// How long the run may take from its first step on before it fails.
    pub timeout: Option<Duration>,
    /// How safe its progress must be before it goes on.
    pub durability: Durability,
}

impl Start {
    /// Its inbox entry, which is in its own partition, and its one step, if a step that takes the run's input begins at
    /// once and the start has nothing else.
    pub(crate) fn is_plain(&self) -> Option<(&str, &Route)> {
        let Self { request, routes, entry, ticket, context, timeout, durability, .. } = self;
        let has_more = request.parent.is_some()
            || request.session.is_some()
            || request.key.is_some()
            || request.context_from.is_some()
            || request.delay_ms > 0
            || request.reply.is_some()
            || request.follow_steps
            || durability.waits();
        let entry = entry.as_deref().filter(|entry| !entry.is_empty() && !entry.contains('@'))?;
        let [route] = &**routes else { return None };
        let is_plain =
            !has_more && ticket.is_none() && context.is_empty() && timeout.is_none() && route.limit.is_none();
        is_plain.then_some((entry, route))
    }
}

/// The outcome of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// The run was created.
    New(String),
    /// The id or key was known; this is the run.
    Known(String),
    /// Its context was to come from this run, which does not exist; the request is still in the inbox.
    NoSource(String),
    /// Too many runs of this session are active; the request is still in the inbox.
    LineFull(String),
    /// Its ticket is void: the key must be reserved again. The request is still in the inbox.
    Void,
}

/// The outcome of a request that cannot be routed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferral {
    /// It is kept, and was taken from the inbox.
    Kept,
    /// Its id or key was known; it was taken from the inbox.
    Known,
    /// Too many are kept; it is still in the inbox.
    Full,
}

/// Where a request about a run comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The inbox entry, which is taken away with it; empty if there is none.
    pub entry: String,
    /// The id that its sender has given it: within a day it is taken once, under the run's id in the request. Empty if
    /// it has none.
    pub request: String,
    /// The list for its receipts: its name, in the partition of the run. Empty if it has none.
    pub reply: String,
}

impl Origin {
    /// An inbox entry to which its sender gave no id.
    pub fn entry(entry: impl Into<String>) -> Self {
        Self { entry: entry.into(), ..Self::default() }
    }

    /// A request with an id, and no entry.
    pub fn request(request: impl Into<String>) -> Self {
        Self { request: request.into(), ..Self::default() }
    }
}

/// A request that cannot be taken.
#[derive(Clone, Debug, Default)]
pub struct Rejection {
    /// The inbox entry.
    pub entry: String,
    /// Only show it as a run: the request is kept in `rejected` of another partition, whose inbox it came from.
    pub only_shown: bool,
    /// It was deferred under this run id.
    pub deferred: Option<String>,
    /// The run id to show it under.
    pub run: Option<String>,
    /// The parent that waits for it as a child run, which is told.
    pub parent: Option<Parent>,
    /// The run that it is about and the id that its sender gave it, if it has one: the outcome is kept under them.
    pub request: Option<(String, String)>,
    /// The name of the list for its receipts, in this partition. The lists of a held request are known.
    pub reply: Option<String>,
    /// Why.
    pub reason: String,
    /// The request's fields, shortened.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The outcome of the end of a child run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildTold {
    /// The parent was told.
    Told,
    /// The parent was told before.
    Gone,
    /// No step waits for it any more.
    Over,
}

/// An inbox entry.
#[derive(Clone, Debug)]
pub struct InboxEntry {
    /// Its id, which other inboxes may give too.
    pub id: String,
    /// The partition whose inbox has it.
    pub inbox: u16,
    /// Its fields. Clones share them.
    pub fields: Arc<Vec<(Vec<u8>, Vec<u8>)>>,
}

/// Which workers to give up, and the limits of one call.
#[derive(Clone, Debug)]
pub struct Reap {
    /// At most this many holds of each worker are taken back in one call.
    pub limit: usize,
    /// A step that lost its worker more often than this while it was executed alone, and no attempt ended well in between,
    /// fails its run.
    pub max_losses: u32,
    /// How long runs that fail this way stay readable.
    pub retention: Duration,
    /// Workers whose lease connection was seen closed: the worker and the connection's id.
    pub suspects: Vec<(String, u64)>,
}

/// The outcome of a reap.
#[derive(Clone, Debug, Default)]
pub struct Reaped {
    /// Step executions queued again.
    pub requeued: u64,
    /// More is left: call again at once.
    pub more: bool,
    /// Workers that were given up.
    pub reaped: Vec<String>,
    /// How many workers have a lease.
    pub workers: u64,
    /// For each of [`Reaped::reaped`], how long ago its lease had run out; None if it had not.
    pub expired: Vec<Option<Duration>>,
    /// Runs that failed because their steps killed their workers.
    pub ended: Vec<Ended>,
}

/// A run that a duty of the coordinator has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its workflow.
    pub workflow: String,
    /// How it has ended.
    pub status: Status,
}

/// The limits of one call that fires timers.
#[derive(Clone, Debug)]
pub struct Fire {
    /// At most this many timers are fired in one call.
    pub limit: usize,
    /// How long runs that fail because of their timeout stay readable.
    pub retention: Duration,
}

/// The outcome of firing timers.
#[derive(Clone, Debug, Default)]
pub struct Fired {
    /// Timers fired.
    pub fired: u64,
    /// More is left: call again at once.
    pub more: bool,
    /// How long until the next timer is due.
    pub next_due: Option<Duration>,
    /// How long the first of those that were fired had been due.
    pub late: Duration,
    /// Runs whose time was over.
    pub ended: Vec<Ended>,
}

/// One slice of an audit.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Whether to repair what is found, or only to report it.
    pub repair: bool,
    /// Where to continue: 0 for the beginning, then [`Audited::next`].
    pub from: u64,
    /// A step that lost its worker more often than this while it was executed alone, and no attempt ended well in between,
    /// fails its run.
    pub max_losses: u32,
    /// How long runs that fail this way stay readable.
    pub retention: Duration,
}

/// The outcome of one slice of an audit.
#[derive(Clone, Debug, Default)]
pub struct Audited {
    /// Where the next slice begins; None when this was the last.
    pub next: Option<u64>,
    /// How many keys (or runs and workers) were examined.
    pub examined: u64,
    /// What was found, and repaired if requested.
    pub breaches: Vec<Breach>,
}

/// A breach: something that a run or a worker needs and lacks.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Breach {
    /// The run, or the worker.
    pub of: String,
    /// What is wrong with it.
    pub what: String,
}

impl Breach {
    /// The kinds of breaches: see [`Breach::kind`].
    pub const KINDS: [&str; 8] = ["hold", "queue", "timer", "wait", "turn", "session", "key", "run"];

    /// What was missing, in one word, for metrics: one of [`Breach::KINDS`]. `run` if the run could not go on, and has failed.
    pub fn kind(&self) -> &'static str {
        // In this order: a sentence about a session may speak of a turn.
        let kinds: [(&str, &[&str]); 7] = [
            (
                "run",
                &["cannot be read", "its hash with its status", "its input is gone", "its step executions are gone"],
            ),
            ("session", &["session ", "the turn of run", "whose turn it is"]),
            ("hold", &["is held by worker", "among the holds", "holds were left behind"]),
            ("queue", &["queue", "is not named as such"]),
            ("timer", &["never expire", "is not set", "without its deadline"]),
            ("turn", &["turn"]),
            ("wait", &["waits for", "waited for", "question that is not listed"]),
        ];
        let found = kinds.iter().find(|(_, parts)| parts.iter().any(|part| self.what.contains(part)));
        found.map_or("key", |(kind, _)| kind)
    }
}

/// Waits until a timer is set that is due before all others, and within a minute.
#[async_trait]
pub trait AlarmReader: Send {
    /// Waits up to `limit`. An alarm may have been missed, or be outdated: call [`CoordinatorStore::fire`] afterwards
    /// either way. May be dropped at any time. After an error the reader is unusable and must be opened again.
    async fn next(&mut self, limit: Duration) -> Result<()>;
}

/// Waits for requests.
#[async_trait]
pub trait InboxReader: Send {
    /// Waits up to about a second for entries.
    async fn next(&mut self) -> Result<Vec<InboxEntry>>;
}

/// An answer to a question.
#[derive(Clone, Copy, Debug)]
pub struct AnswerTo<'a> {
    /// Identifies the question in its run: `<seq>.<number>`.
    pub question: &'a str,
    /// The question's name.
    pub name: &'a str,
    /// The answer, as a payload of [`crate::codec`] that reads as a [`crate::question::GivenAnswer`].
    pub payload: &'a [u8],
    /// Who answers; empty if the request does not say.
    pub by: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaches_have_kinds() {
        for (what, kind) in [
            ("step execution 3 is held by worker w, which is not there", "hold"),
            ("the worker has no lease, and its holds were left behind", "hold"),
            ("step execution 3 is queued and not in its queue", "queue"),
            ("the worker would be given nothing of the queue rag:1", "queue"),
            ("step execution 3 waits for a timer that is not set", "timer"),
            ("it has ended and would never expire", "timer"),
            ("step execution 3 waits for go without its deadline", "timer"),
            ("step execution 3 waits for a signal go that would not reach it", "wait"),
            ("step execution 3 has what it waited for and sleeps on", "wait"),
            ("step execution 3 waits for a turn that would not reach it", "turn"),
            ("session s does not know that it is its turn", "session"),
            ("run r, whose turn it is, is not under way", "session"),
            ("its history is gone", "key"),
            ("step execution 3 cannot be read: its event is damaged", "run"),
        ] {
            let breach = Breach { of: "r".into(), what: what.into() };
            assert_eq!(breach.kind(), kind, "{what}");
            assert!(Breach::KINDS.contains(&kind));
        }
    }
}
