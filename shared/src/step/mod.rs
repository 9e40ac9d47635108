//! Step executions: what a worker claims, and what it commits.

mod commit;
mod outside;
mod payloads;
mod route;

use std::time::Duration;

pub use bytes::Bytes;

use crate::codec::Content;
use crate::durability::Durability;
use crate::names::QueueName;

pub(crate) use self::commit::Changes;
pub use self::commit::{
    Checkpoint, Checkpointed, Collect, Commit, CommitStatus, Failure, Fan, Join, LetGo, Merge, Part, Unreadable, Upon,
    Wait,
};
pub use self::outside::{
    Answered, Cancelled, Forked, OpenWait, Paused, Resumed, Retried, SendDeferral, Sent, Signalled,
};
pub use self::payloads::collected;
pub(crate) use self::payloads::{cut_payloads, join_payloads};
pub use self::route::{Fence, Line, Route};

/// A step execution that this worker holds.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts that have nothing to do with each other")]
pub struct Claimed {
    /// The token that a commit needs.
    pub fence: Fence,
    /// How many attempts before this one ended with an error (losses of a worker are not counted).
    pub failures: u32,
    /// The error of the last one.
    pub last_error: Option<String>,
    /// How long before the claim the first of them began; zero if there is none.
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
    /// For a step that takes a set of events: the events, in the order of its slots.
    pub parts: Option<Vec<Vec<u8>>>,
    /// The workflow.
    pub workflow: String,
    /// The workflow's version, which the run is pinned to.
    pub version: u32,
    /// The encoding of the result.
    pub content: Content,
    /// The run's followers get the states of its steps: a commit is to name the events that the step emitted.
    pub follow_steps: bool,
    /// How safe the run's progress must be before the step begins, and before it goes on from what it records.
    pub durability: Durability,
    /// The run's context, if the step asked for it: field and payload. Large values are shared, not copied, by the
    /// steps that follow each other.
    pub context: Vec<(String, Bytes)>,
    /// The version of the context; 0 if the step did not ask for it.
    pub context_version: u64,
    /// The step has a limit of concurrent executions.
    pub is_limited: bool,
    /// The event came from outside of the run: it may be anything.
    pub is_outside: bool,
    /// It may have killed its last workers: nothing else may execute beside it.
    pub alone: bool,
    /// Why it cannot be executed: something else wrote into the store's keys.
    pub damage: Option<String>,
    /// What earlier attempts have recorded, and what has ended their waits, by the number of the call: entries of
    /// [`crate::journal`].
    pub journal: Vec<(u64, Vec<u8>)>,
    /// The worker has said that it keeps the body ([`Body::Kept`]): the journal has only the outcomes of its waits; event
    /// and context are left out.
    pub kept: bool,
    /// How long it was in its queue, on the store's clock. None if it was in none, as when it follows another in its slot; and from
    /// the memory store, in which nothing is late.
    pub queued: Option<Duration>,
}

/// Where the body of a waiting step continues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// It was dropped, and continues wherever its journal is replayed.
    #[default]
    Dropped,
    /// In the memory of its worker, if that worker is the next to claim it.
    Kept,
}

/// Where the events that a fan-out joined are kept until the joining step has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinBuffer {
    /// The fan-out.
    pub group: u64,
    /// How many events, in order of arrival.
    pub count: u64,
}

/// The free slots that a worker wants to fill.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    /// The slots, each of which gets at most one step execution.
    pub slots: Vec<u32>,
    /// The worker executes nothing, and will execute nothing else while it executes one with [`Claimed::alone`]: such a
    /// one is then all it gets.
    pub alone: bool,
    /// The queue that was served last: the next one by name comes first.
    pub after: Option<QueueName>,
}

/// What a claim took.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// The step executions, each for one of the slots.
    pub steps: Vec<Claimed>,
    /// The runs of step executions that the store believed to be in these slots, one for each: it came back without its
    /// latest writes, and they were queued again.
    pub vacated: Vec<String>,
}

/// What a slot takes when its step execution has ended.
#[derive(Clone, Debug, Default)]
pub struct Refill {
    /// The slot.
    pub next: Next,
    /// Like [`Claim::after`].
    pub after: Option<QueueName>,
}

/// Which step execution a slot takes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Next {
    /// None: the worker is stopping.
    #[default]
    Nothing,
    /// The successor, if there is one: it goes straight to the slot, without the queue. Otherwise one from a queue.
    Following,
    /// One from a queue, so that other runs have their turn; the successor if none waits.
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
