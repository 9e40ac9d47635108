//! A run, its step executions and fan-outs, as data.

use std::collections::{BTreeMap, VecDeque};

use super::child::{Child, Undo};
use super::data::QueuePlace;
use super::publish::{Publications, Told};
use super::question::Asked;
use crate::child::Parent;
use crate::history::Record;
use crate::names::QueueName;
use crate::run::Run;
use crate::step::{Join, JoinBuffer, Route, Wait};

/// After this many losses without an attempt that ended well, a step execution is executed alone.
const SUSPECT: u32 = 3;

#[derive(Clone, Debug)]
pub(super) struct RunData {
    pub(super) shown: Run,
    pub(super) context: BTreeMap<String, Vec<u8>>,
    /// How many times the context was changed.
    pub(super) context_version: u64,
    /// The initial context.
    pub(super) begun: BTreeMap<String, Vec<u8>>,
    /// The journal of the only step execution of a completed run.
    pub(super) kept_journal: BTreeMap<u64, Vec<u8>>,
    /// The version of the session's context that the run's context started from; None before its turn.
    pub(super) based: Option<u64>,
    /// The run it was forked from.
    pub(super) forked: Option<String>,
    /// The step execution that a fork began with, if not the first.
    pub(super) forked_at: Option<u64>,
    pub(super) history: VecDeque<Record>,
    pub(super) published: Publications,
    /// Whether followers get the states of its steps.
    pub(super) follow_steps: bool,
    /// None once the run has ended, which voids all fences.
    pub(super) steps: Option<Steps>,
    /// The steps of a run that ended without completing, kept for a retry or a fork.
    pub(super) stopped: Option<Steps>,
    pub(super) timeout: Option<Timeout>,
    /// The run that waits for it.
    pub(super) parent: Option<Parent>,
    /// Its compensations, which are carried out last to first.
    pub(super) undo: Vec<Undo>,
}

/// How long a run may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeout {
    pub(super) whole: u64,
    /// None while the run waits for its turn in its session.
    pub(super) due: Option<u64>,
}

impl RunData {
    pub(super) fn new(shown: Run) -> Self {
        Self {
            shown,
            context: BTreeMap::new(),
            context_version: 0,
            begun: BTreeMap::new(),
            kept_journal: BTreeMap::new(),
            based: None,
            forked: None,
            forked_at: None,
            history: VecDeque::new(),
            published: Publications::default(),
            follow_steps: false,
            steps: None,
            stopped: None,
            timeout: None,
            parent: None,
            undo: Vec::new(),
        }
    }

    pub(super) fn queue(&self) -> QueueName {
        QueueName::new(&self.shown.workflow, self.shown.version)
    }
}

/// Events of one kind that are left over when a run completes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Left {
    /// The name of its key in Redis, which determines the order in the history.
    place: String,
    pub(super) step: String,
    pub(super) count: usize,
    /// Which join, set or buffer they belong to.
    pub(super) what: String,
}

impl Steps {
    /// The events that no step received, because their join, set or buffer stayed incomplete.
    pub(super) fn left(&self) -> Vec<Left> {
        let left = |place: String, step: &String, count, what| Left { place, step: step.clone(), count, what };
        let joins = self.joined.iter().map(|((group, step), events)| {
            left(format!("{group}:{step}"), step, events.len(), format!("join {group}"))
        });
        let sets = self.parts.iter().map(|((group, step, slot), events)| {
            left(format!("{group}:{step}+{slot}"), step, events.len(), format!("set {group} {slot}"))
        });
        let buffers = self.collected.iter().map(|((group, step, name), events)| {
            left(format!("{group}:{step}*{name}"), step, events.len(), format!("buffer {group} {name}"))
        });
        let mut all: Vec<Left> = joins.chain(sets).chain(buffers).filter(|left| left.count > 0).collect();
        all.sort();
        all
    }
}

/// The step executions of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps {
    /// The highest seq assigned.
    pub(super) last: u64,
    pub(super) executions: BTreeMap<u64, Execution>,
    /// The run itself and each open fan-out, by the seq that opened it.
    pub(super) groups: BTreeMap<u64, Fanout>,
    /// Events joined so far, by fan-out and joining step.
    pub(super) joined: BTreeMap<(u64, String), Vec<Vec<u8>>>,
    /// Open waits by name, oldest first.
    pub(super) waits: BTreeMap<String, VecDeque<PendingWait>>,
    /// How many turns of each limited step are taken.
    pub(super) turns: BTreeMap<String, u64>,
    /// Step executions that wait for a turn of each limited step.
    pub(super) queues: BTreeMap<String, VecDeque<u64>>,
    /// Parts of incomplete sets, by group, step and slot.
    pub(super) parts: BTreeMap<(u64, String, u32), VecDeque<Vec<u8>>>,
    /// Buffers of collecting steps, by group, step and name.
    pub(super) collected: BTreeMap<(u64, String, String), VecDeque<Vec<u8>>>,
    /// Branches of fan-outs that are staged but not yet written.
    pub(super) staged: BTreeMap<u64, VecDeque<(Route, Vec<u8>)>>,
    /// The run is paused.
    pub(super) is_paused: bool,
    /// The run waits for its turn in its session.
    pub(super) in_line: bool,
    /// The step execution that failed the run.
    pub(super) failed: Option<u64>,
    /// Open questions, by the wait for the answer: step execution and number.
    pub(super) asked: BTreeMap<(u64, u64), Asked>,
    /// Journal entries that the failed step execution failed with; a retry removes them.
    pub(super) forget: Vec<u64>,
    /// Child runs that the run waits for, by the wait: step execution and number.
    pub(super) children: BTreeMap<(u64, u64), Child>,
}

impl Steps {
    /// Whether no step execution may begin.
    pub(super) fn is_held_back(&self) -> bool {
        self.is_paused || self.in_line
    }

    /// Whether the step execution exists, has not ended, and is in no closed fan-out.
    pub(super) fn is_waiting(&self, seq: u64) -> bool {
        let execution = self.executions.get(&seq).filter(|execution| execution.phase != Phase::Ending);
        execution.is_some_and(|execution| self.groups_of(execution.work.group).is_some())
    }
}

#[derive(Clone, Debug)]
pub(super) struct Execution {
    pub(super) phase: Phase,
    /// The current attempt; 0 before the first.
    pub(super) attempt: u32,
    /// Attempts that ended with an error.
    pub(super) failures: u32,
    /// How many workers were lost, since an attempt ended well, while they held nothing else.
    pub(super) losses: u32,
    /// How many were lost while they also held others.
    pub(super) shared_losses: u32,
    /// The last checkpoint with a mark: attempt, claim, and mark.
    pub(super) mark: Option<(u32, u64, u64)>,
    /// What its body has recorded, by call number.
    pub(super) journal: BTreeMap<u64, Vec<u8>>,
    /// What its failed attempts leave for later ones.
    pub(super) kept: Option<FailedBefore>,
    /// While it waits: the worker that has its body in memory, and the numbers of its waits.
    pub(super) keeper: Option<(String, Vec<u64>)>,
    pub(super) published: Told,
    pub(super) work: Work,
}

impl Execution {
    /// Whether it may be killing its workers, and so is executed alone.
    pub(super) fn is_suspect(&self) -> bool {
        self.losses + self.shared_losses >= SUSPECT
    }

    /// Resets the losses: an attempt has ended without losing its worker.
    pub(super) fn ended_well(&mut self) {
        (self.losses, self.shared_losses) = (0, 0);
    }
}

/// What later attempts can see of failed ones.
#[derive(Clone, Debug)]
pub(super) struct FailedBefore {
    /// When the first failed attempt began.
    pub(super) began: u64,
    /// The error of the last failed attempt.
    pub(super) error: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Queued(QueuePlace),
    Held {
        worker: String,
        since: u64,
        /// The number of the call that took the hold.
        claim: u64,
        slot: u32,
    },
    /// Waits for a timer.
    Waiting {
        due: u64,
    },
    /// Suspended until one of its waits has a journal entry.
    Suspended {
        /// Without deadlines: the open waits have them.
        waits: Vec<Wait>,
    },
    /// Waits for a turn: its step is at its limit of concurrent executions.
    Turn,
    /// Ends with the current transition.
    Ending,
}

/// An open wait.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PendingWait {
    pub(super) seq: u64,
    pub(super) number: u64,
    pub(super) due: Option<u64>,
    pub(super) filter: Vec<(String, String)>,
}

/// A signal that arrived before its wait.
#[derive(Clone, Debug)]
pub(super) struct KeptSignal {
    pub(super) attributes: Vec<String>,
    pub(super) payload: Vec<u8>,
}

/// A step and the event it works on.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) group: u64,
    pub(super) route: Route,
    pub(super) event: EventSource,
}

#[derive(Clone, Debug)]
pub(super) enum EventSource {
    /// The run's input.
    Input,
    Payload(Vec<u8>),
    /// An event from outside the run.
    Outside(Vec<u8>),
    /// The events that a fan-out joined.
    Joined(JoinBuffer),
    /// One event for each slot of the set.
    Set(Vec<Vec<u8>>),
}

/// A fan-out, or the run itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Fanout {
    /// None for the run itself.
    pub(super) parent: Option<u64>,
    /// The joining steps, which begin when it ends or earlier.
    pub(super) joins: Vec<Head>,
    /// How many of its step executions and nested fan-outs have not ended.
    pub(super) live: u64,
    /// The queue entry that triggers writing its next branches.
    pub(super) entry: Option<QueuePlace>,
}

/// A step that joins a fan-out.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) join: Join,
    pub(super) has_begun: bool,
}

/// The attempt that a history record names.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    pub(super) run: String,
    pub(super) seq: u64,
    pub(super) number: u32,
    pub(super) step: String,
    pub(super) worker: String,
}

/// How a run ended.
pub(super) enum RunEnd {
    Completed(Vec<u8>),
    Failed { error: String, step: String },
    Cancelled,
}
