//! What a coordinator may do: take requests in, and see to it that what is due happens and nothing stays behind.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::fork::{Fork, ForkPoint};
use super::{Across, CallerStore};
use crate::child::Parent;
use crate::error::Result;
use crate::request::{ChildEndedRequest, SendRequest, StartRequest};
use crate::run::Status;
use crate::step::{Answered, Cancelled, Forked, Paused, Resumed, Retried, Route, SendDeferral, Sent, Signalled};

/// What a coordinator may do.
#[async_trait]
pub trait CoordinatorStore: CallerStore + Across {
    /// Creates a run unless its id or key is known, and queues its start events.
    async fn start(&self, start: &Start) -> Result<Started>;
    /// Keeps a request that cannot be routed yet, unless it repeats a run that is there.
    async fn defer(&self, start: &Start) -> Result<Deferral>;
    /// Takes an inbox entry away and keeps it among the rejected.
    async fn reject(&self, rejection: &Rejection) -> Result<()>;
    /// Delivers to the oldest wait of that name whose filter it passes, or keeps it for the next; takes the inbox entry
    /// away with it.
    async fn signal(&self, run: &str, name: &str, payload: &[u8], origin: Option<&Origin>) -> Result<Signalled>;
    /// Gives a run events from outside: each begins an execution of its step. Takes the inbox entry away with it.
    async fn send(&self, run: &str, events: &[(Route, Vec<u8>)], origin: Option<&Origin>) -> Result<Sent>;
    /// Keeps an event for a run whose request is held. It goes back to the inbox, as a request without an id, once that request is held
    /// no more, whatever became of it. Takes the inbox entry away with it.
    async fn defer_send(&self, send: &SendRequest, origin: Option<&Origin>) -> Result<SendDeferral>;
    /// Stops a run where it stands; its steps can commit nothing more. Takes the inbox entry away with it. The run
    /// stays readable for `retention`.
    async fn cancel(&self, run: &str, origin: Option<&Origin>, retention: Duration) -> Result<Cancelled>;
    /// Tells a run that a child run which it waits for has ended. One that has failed meanwhile finds that when it is retried; to others that
    /// wait no more nothing happens. Takes the inbox entry away with it.
    async fn child_ended(&self, ended: &ChildEndedRequest, entry: &str) -> Result<ChildTold>;
    /// Has a failed run go on from where it failed: the step execution that failed begins anew, with `event` instead of its own where
    /// that is given (a payload of [`crate::codec`]), and so does whatever was under way beside it. Takes the inbox entry away with
    /// it. Of a large run only the first part is taken up at once, and the rest by [`CoordinatorStore::fire`].
    async fn retry(&self, run: &str, event: Option<&[u8]>, origin: Option<&Origin>) -> Result<Retried>;
    /// Has nothing new of a run begin. What is executed goes on and may commit; timers and signals have their effect, and what they
    /// make go on is held back too. A run whose request is held starts paused. Takes the inbox entry away with it.
    async fn pause(&self, run: &str, origin: Option<&Origin>) -> Result<Paused>;
    /// Gives an answer to the question with this [`OpenQuestion::id`](crate::question::OpenQuestion::id) and this name, where it is open.
    /// Takes the inbox entry away with it.
    async fn answer(&self, run: &str, answer: &AnswerTo<'_>, origin: Option<&Origin>) -> Result<Answered>;
    /// Has a run that is paused go on. Takes the inbox entry away with it. Of a large run only the first part is queued again at once,
    /// and the rest by [`CoordinatorStore::fire`].
    async fn resume(&self, run: &str, origin: Option<&Origin>) -> Result<Resumed>;
    /// Where a run can be forked: at this step execution; with none at its start where that is all that there is of it, else where it
    /// has failed, or at the only step execution that has not ended.
    async fn forkable(&self, run: &str, seq: Option<u64>) -> Result<ForkPoint>;
    /// Creates a run that goes on from a point of another. Takes the inbox entry away with it.
    async fn fork(&self, fork: &Fork, origin: Option<&Origin>) -> Result<Forked>;
    /// Takes back what dead and silent workers held, and wakes workers for what is queued.
    async fn reap(&self, reap: &Reap) -> Result<Reaped>;
    /// Fires the timers that are due.
    async fn fire(&self, fire: &Fire) -> Result<Fired>;
    /// Looks for what runs need and is not there (keys deleted by hand, a backup restored, a bug), in one slice of
    /// all there is; makes it again from the runs' state, or fails the run where that cannot be done.
    async fn audit(&self, audit: &Audit) -> Result<Audited>;
    /// Those workers whose lease connection is closed, with the connection's id.
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
    /// What was asked for.
    pub request: StartRequest,
    /// The run's id.
    pub run: String,
    /// The version to pin the run to.
    pub version: u32,
    /// The steps that take the start event; never empty.
    pub routes: Vec<Route>,
    /// The inbox entry to take away with it.
    pub entry: Option<String>,
    /// The ticket of the reservation under which the run is created, where its idempotency key is one of several partitions':
    /// the key is not looked at then. See [`Across::reserve`].
    pub ticket: Option<String>,
    /// What its context begins with, beside what it has from another run: field and value.
    pub context: Vec<(String, Vec<u8>)>,
    /// How long its idempotency key is known.
    pub key_ttl: Duration,
    /// How long the run may take from its first step on; then it fails.
    pub timeout: Option<Duration>,
}

impl Start {
    /// Its inbox entry, which is one of its own partition, and its one step, where a step that takes the run's input begins at
    /// once and there is nothing else to it.
    pub(crate) fn is_plain(&self) -> Option<(&str, &Route)> {
        let Self { request, routes, entry, ticket, context, timeout, .. } = self;
        let has_more = request.parent.is_some()
            || request.session.is_some()
            || request.key.is_some()
            || request.context_from.is_some()
            || request.delay_ms > 0
            || request.reply.is_some()
            || request.follow_steps;
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
    /// Its context was to begin with that of this run, and nobody knows it; the request is still in the inbox.
    NoSource(String),
    /// As many runs of this session are under way as may be; the request is still in the inbox.
    LineFull(String),
    /// Its ticket is void: the key has to be reserved anew. The request is still in the inbox.
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
    /// The inbox entry, which is taken away with it; empty where there is none.
    pub entry: String,
    /// The id that its sender has given it: within a day it is taken once, for the run as it was asked for. Empty where it has none.
    pub request: String,
    /// The list for its receipts: its name, in the partition of the run. Empty where it has none.
    pub reply: String,
}

impl Origin {
    /// An inbox entry without an id of its sender's.
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
    /// It is only shown as a run: the request is kept among the rejected of another partition, whose inbox it came from.
    pub only_shown: bool,
    /// It was deferred under this run id.
    pub deferred: Option<String>,
    /// The run id to show it under.
    pub run: Option<String>,
    /// The run that waits for it, as for a child run: it is told.
    pub parent: Option<Parent>,
    /// The run that it is about and the id that its sender gave it, where it has one: whoever asks for that is told.
    pub request: Option<(String, String)>,
    /// The list for its receipts: its name, in this partition. Those of a request that was held are known.
    pub reply: Option<String>,
    /// Why.
    pub reason: String,
    /// What was asked for, shortened.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The outcome of the end of a child run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildTold {
    /// Whoever waited for it was told.
    Told,
    /// An earlier try has told so.
    Gone,
    /// Nobody waits for it any more.
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

/// Whom to give up, and the limits of one call.
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

/// What was taken back.
#[derive(Clone, Debug, Default)]
pub struct Reaped {
    /// Step executions queued again.
    pub requeued: u64,
    /// More is waiting: call again at once.
    pub more: bool,
    /// Workers that were given up.
    pub reaped: Vec<String>,
    /// How many workers have a lease.
    pub workers: u64,
    /// For each of [`Reaped::reaped`], how long ago its lease had run out; None where it had not.
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
    /// How long runs that fail because their time is over stay readable.
    pub retention: Duration,
}

/// What was fired.
#[derive(Clone, Debug, Default)]
pub struct Fired {
    /// Timers fired.
    pub fired: u64,
    /// More is waiting: call again at once.
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
    /// Whether to mend what is found, or only to tell.
    pub repair: bool,
    /// Where to go on: 0 for the beginning, then [`Audited::next`].
    pub from: u64,
    /// A step that lost its worker more often than this while it was executed alone, and no attempt ended well in between,
    /// fails its run.
    pub max_losses: u32,
    /// How long runs that fail this way stay readable.
    pub retention: Duration,
}

/// What one slice of an audit came to.
#[derive(Clone, Debug, Default)]
pub struct Audited {
    /// Where the next slice begins; None when this was the last.
    pub next: Option<u64>,
    /// How many keys (or runs and workers) were looked at.
    pub examined: u64,
    /// What was found, and mended where that was asked for.
    pub breaches: Vec<Breach>,
}

/// Something that a run needs and that is not there.
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

    /// What was missing, in one word, for metrics: one of [`Breach::KINDS`]. `run` where the run could not go on, and has failed.
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
    /// Waits up to `limit`. An alarm may have been missed, or be of no use by now: to be followed by [`CoordinatorStore::fire`] either
    /// way. May be dropped at any time. After an error the reader is unusable and must be opened again.
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
    /// What tells the question from others of its run: `<seq>.<number>`.
    pub question: &'a str,
    /// The question's name.
    pub name: &'a str,
    /// The answer, as a payload of [`crate::codec`] that reads as a [`crate::question::GivenAnswer`].
    pub payload: &'a [u8],
    /// Who answers; empty where nobody says so.
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
