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

/// After this many losses without an attempt that ended well a step execution is tried alone.
const SUSPECT: u32 = 3;

#[derive(Clone, Debug)]
pub(super) struct RunData {
    pub(super) shown: Run,
    pub(super) context: BTreeMap<String, Vec<u8>>,
    /// How often it was changed.
    pub(super) context_version: u64,
    /// What it began with.
    pub(super) begun: BTreeMap<String, Vec<u8>>,
    /// What its only step execution had recorded, where it has completed.
    pub(super) kept_journal: BTreeMap<u64, Vec<u8>>,
    /// The version of the context of its session that its own began with; None before its turn.
    pub(super) based: Option<u64>,
    /// The run that it was forked from.
    pub(super) forked: Option<String>,
    /// The step execution that it began with, where that is another than the first.
    pub(super) forked_at: Option<u64>,
    pub(super) history: VecDeque<Record>,
    pub(super) published: Publications,
    /// Its followers are told where its steps stand.
    pub(super) follow_steps: bool,
    /// None once the run has ended: with it, no fence is good any more.
    pub(super) steps: Option<Steps>,
    /// The steps of a run that did not complete, kept so that it can be taken up again.
    pub(super) stopped: Option<Steps>,
    pub(super) timeout: Option<Timeout>,
    /// Who waits for it.
    pub(super) parent: Option<Parent>,
    /// Its compensations: the last is carried out first.
    pub(super) undo: Vec<Undo>,
}

/// How long a run may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeout {
    pub(super) whole: u64,
    /// None while it waits for its turn in its session.
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

/// Events that are left over when a run has completed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Left {
    /// As its key in Redis is named: they are told in this order.
    place: String,
    pub(super) step: String,
    pub(super) count: usize,
    /// Of what.
    pub(super) what: String,
}

impl Steps {
    /// What no step was given, since it never came to a whole.
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
    /// The highest seq given out.
    pub(super) last: u64,
    pub(super) executions: BTreeMap<u64, Execution>,
    /// The run itself, and each fan-out that is open, by the seq that opened it.
    pub(super) groups: BTreeMap<u64, Fanout>,
    /// Events that have joined so far, by fan-out and joining step.
    pub(super) joined: BTreeMap<(u64, String), Vec<Vec<u8>>>,
    /// Waits for signals, by name, oldest first.
    pub(super) waits: BTreeMap<String, VecDeque<PendingWait>>,
    /// How many turns of a limited step are taken.
    pub(super) turns: BTreeMap<String, u64>,
    /// Who waits for a turn of it.
    pub(super) queues: BTreeMap<String, VecDeque<u64>>,
    /// Events that wait for the others of their set, by group, step and slot.
    pub(super) parts: BTreeMap<(u64, String, u32), VecDeque<Vec<u8>>>,
    /// Buffers of steps that collect, by group, step and name.
    pub(super) collected: BTreeMap<(u64, String, String), VecDeque<Vec<u8>>>,
    /// Branches of large fan-outs that are not written yet.
    pub(super) staged: BTreeMap<u64, VecDeque<(Route, Vec<u8>)>>,
    /// Nothing new begins, by request.
    pub(super) is_paused: bool,
    /// It waits for its turn in its session.
    pub(super) in_line: bool,
    /// The step execution that failed the run.
    pub(super) failed: Option<u64>,
    /// What people are asked, by the wait for the answer: step execution and number.
    pub(super) asked: BTreeMap<(u64, u64), Asked>,
    /// Entries of its journal that it failed with.
    pub(super) forget: Vec<u64>,
    /// Child runs that it waits for, by the wait: step execution and number.
    pub(super) children: BTreeMap<(u64, u64), Child>,
}

impl Steps {
    /// Nothing new begins.
    pub(super) fn is_held_back(&self) -> bool {
        self.is_paused || self.in_line
    }

    /// The step execution is there and has not ended, nor the fan-out that it is a branch of been closed.
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
    /// Attempts since one ended well whose worker was lost and had nothing else.
    pub(super) losses: u32,
    /// The same where their worker had others too.
    pub(super) shared_losses: u32,
    /// The last checkpoint that had a mark: the attempt, its claim, and the mark.
    pub(super) mark: Option<(u32, u64, u64)>,
    /// What its body has recorded, by the number of the call that did.
    pub(super) journal: BTreeMap<u64, Vec<u8>>,
    /// Of its attempts that failed.
    pub(super) kept: Option<FailedBefore>,
    /// While it waits: the worker that has its body in memory, and the numbers of what it waits for.
    pub(super) keeper: Option<(String, Vec<u64>)>,
    pub(super) published: Told,
    pub(super) work: Work,
}

impl Execution {
    /// It may be what kills its workers, and is tried alone.
    pub(super) fn is_suspect(&self) -> bool {
        self.losses + self.shared_losses >= SUSPECT
    }

    /// An attempt has ended without the loss of its worker.
    pub(super) fn ended_well(&mut self) {
        (self.losses, self.shared_losses) = (0, 0);
    }
}

/// What later attempts can look back at.
#[derive(Clone, Debug)]
pub(super) struct FailedBefore {
    /// When the first attempt that failed began.
    pub(super) began: u64,
    /// Of the last one.
    pub(super) error: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Queued(QueuePlace),
    Held {
        worker: String,
        since: u64,
        /// The number of the call that took it.
        claim: u64,
        slot: u32,
    },
    /// For a timer.
    Waiting {
        due: u64,
    },
    /// Until one of its waits has an entry in the journal.
    Suspended {
        /// Without their deadlines, which open waits have.
        waits: Vec<Wait>,
    },
    /// Its step has as many executions under way as it may have.
    Turn,
    /// It ends with the transition that is under way.
    Ending,
}

/// A wait whose signal has not come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PendingWait {
    pub(super) seq: u64,
    pub(super) number: u64,
    pub(super) due: Option<u64>,
    pub(super) filter: Vec<(String, String)>,
}

/// A signal that came before its wait.
#[derive(Clone, Debug)]
pub(super) struct KeptSignal {
    pub(super) attributes: Vec<String>,
    pub(super) payload: Vec<u8>,
}

/// One step and the event that it is to work on.
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
    /// An event from outside of the run.
    Outside(Vec<u8>),
    /// All that a fan-out joined.
    Joined(JoinBuffer),
    /// One for each slot.
    Set(Vec<Vec<u8>>),
}

/// A fan-out, or the run itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Fanout {
    /// None for the run itself.
    pub(super) parent: Option<u64>,
    /// What begins when it ends, or before.
    pub(super) joins: Vec<Head>,
    /// How many of its step executions, and fan-outs opened in it, have not ended.
    pub(super) live: u64,
    /// Where the entry is that has its next branches written.
    pub(super) entry: Option<QueuePlace>,
}

/// A step that joins a fan-out.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) join: Join,
    pub(super) has_begun: bool,
}

/// One try at a step execution, for the history.
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
