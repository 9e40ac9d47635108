//! The outcomes of requests about a run.

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
    /// Its deadline (ms since 1970, on the store's clock); None if it has none.
    pub due_ms: Option<u64>,
}

/// The outcome of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signalled {
    /// It ended a wait.
    Delivered,
    /// No step waits for it yet: it is kept.
    Kept,
    /// It was processed before.
    Gone,
    /// A request with this id was taken before.
    Repeated,
    /// Too many of that name are kept; it is still in the inbox.
    Full,
    /// The run has ended; the signal is still in the inbox.
    Over,
    /// There is no such run (yet); the signal is still in the inbox.
    Unknown,
}

/// The outcome of a request to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// The run is cancelled.
    Stopped,
    /// It had ended already.
    Over,
    /// The request was processed before.
    Gone,
    /// A request with this id was taken before.
    Repeated,
    /// There is no such run (yet); the request is still in the inbox.
    Unknown,
}

/// The outcome of a request to retry a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retried {
    /// The run continues from where it failed.
    GoesOn,
    /// The request was processed before.
    Gone,
    /// A request with this id was taken before.
    Repeated,
    /// The run is active; the request is still in the inbox, as in all the following cases.
    Live,
    /// It is paused.
    Paused,
    /// It waits for a worker that serves its workflow.
    Held,
    /// It has completed, was cancelled, or its request was rejected.
    Over,
    /// It cannot continue, for this reason.
    Refused(String),
    /// There is no such run (yet).
    Unknown,
}

/// The outcome of an answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The run goes on with it.
    Answered,
    /// The question is not open (any more); the answer is still in the inbox.
    Closed,
    /// It was processed before.
    Gone,
    /// A request with this id was taken before.
    Repeated,
    /// The run has ended; the answer is still in the inbox.
    Over,
    /// There is no such run (yet); the answer is still in the inbox.
    Unknown,
}

/// The outcome of a request to pause a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    /// Nothing new of it begins.
    Paused,
    /// It was paused already.
    Already,
    /// The request was processed before.
    Gone,
    /// A request with this id was taken before.
    Repeated,
    /// The run has ended; the request is still in the inbox.
    Over,
    /// There is no such run (yet); the request is still in the inbox.
    Unknown,
}

/// The outcome of a request to resume a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// The run goes on.
    GoesOn,
    /// It was not paused.
    Already,
    /// The request was processed before.
    Gone,
    /// A request with this id was taken before.
    Repeated,
    /// The run has ended; the request is still in the inbox.
    Over,
    /// There is no such run (yet); the request is still in the inbox.
    Unknown,
}

/// The outcome of a request to fork a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The fork was created.
    Made,
    /// It existed already.
    Known,
    /// The request was processed before.
    Gone,
    /// A request with this id was taken before.
    Repeated,
    /// The run has gone on since it was read: read it again. The request is still in the inbox, as in all the following
    /// cases.
    Changed,
    /// The fork's id is that of another run.
    Taken,
    /// The run waits for a worker that serves its workflow.
    Held,
    /// It cannot be forked like this, for this reason.
    Refused(String),
    /// There is no such run (yet).
    Unknown,
}

/// The outcome of events that were sent to a run from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Their steps begin.
    Delivered,
    /// They were processed before.
    Gone,
    /// A request with this id was taken before.
    Repeated,
    /// The run has reached its limit of step executions; the events are still in the inbox.
    Full,
    /// The run has ended; the events are still in the inbox.
    Over,
    /// There is no such run (yet); the events are still in the inbox.
    Unknown,
}

/// The outcome of an event for a run whose request was thought to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendDeferral {
    /// It is kept until the request is no longer held.
    Deferred,
    /// It was processed before.
    Gone,
    /// A request with this id was taken before.
    Repeated,
    /// Too many are kept for this run; the event is still in the inbox.
    Full,
    /// The run has started; the event is still in the inbox.
    Live,
    /// The run has ended; the event is still in the inbox.
    Over,
    /// There is no such run (yet); the event is still in the inbox.
    Unknown,
}
