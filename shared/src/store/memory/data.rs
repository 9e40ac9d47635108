//! The state of the store: runs with their step executions, queues, timers and workers, and what transitions share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::entity::EntityData;
use super::publish::Told;
use super::receipts::Receipts;
use super::run::{Actor, Execution, KeptSignal, Left, Phase, RunData, RunEnd, Steps, Work};
use super::session::SessionData;
use super::stream::{EntryId, Stream};
use super::timers::{Timer, Timers};
use crate::history::{Kind, Record};
use crate::names::QueueName;
use crate::published::StepState;
use crate::request::{SendRequest, StartRequest};
use crate::run::Status;
use crate::step::{Fence, Line};
use crate::store::{Registration, RequestFate, Reservation};

const HISTORY_MAX: usize = 100_000;
/// How many kinds of leftover events the history lists one by one.
const MAX_LEFT: usize = 100;

/// How long workers are told what to abandon, in ms: longer than any lease.
const TOLD_FOR: u64 = 600_000;

/// The group of step executions outside any fan-out.
pub(super) const RUN: u64 = 0;

/// Names and values of an inbox entry.
pub(super) type Fields = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    pub(super) runs: BTreeMap<String, RunData>,
    /// Creation time and id of each run.
    pub(super) created: BTreeSet<(u64, String)>,
    /// The run of each workflow and idempotency key.
    pub(super) keys: BTreeMap<(String, String), Lead>,
    /// The run that each repeated start request leads to, by the run id in that request.
    pub(super) aliases: BTreeMap<String, Lead>,
    /// Where the request that reserved a key is, in a namespace of several partitions.
    pub(super) reservations: BTreeMap<(String, String), Reservation>,
    /// Voided reservations, by run and ticket: they create no run. The value is the time they expire.
    pub(super) voided: BTreeMap<(String, String), u64>,
    /// Entries of other partitions' inboxes that were processed.
    pub(super) taken: BTreeSet<String>,
    /// Entities by kind and key.
    pub(super) entities: BTreeMap<(String, String), EntityData>,
    pub(super) sessions: BTreeMap<String, SessionData>,
    pub(super) inbox: Stream<Fields>,
    pub(super) rejected: VecDeque<(u64, Fields)>,
    pub(super) deferred: BTreeMap<String, Waiting>,
    pub(super) queues: BTreeMap<QueueName, Queue>,
    pub(super) timers: Timers,
    pub(super) workers: BTreeMap<String, Member>,
    pub(super) registrations: BTreeMap<QueueName, Registration>,
    /// Queues that have new entries, or had some when last read.
    pub(super) ready: BTreeSet<QueueName>,
    /// The same for requeued entries.
    pub(super) urgent: BTreeSet<QueueName>,
    /// The same for entries to execute alone.
    pub(super) lonely: BTreeSet<QueueName>,
    /// The worker that drains to execute one of them, and until when, unless it renews.
    pub(super) drain: Option<(String, u64)>,
    /// When the last worker of each queue left.
    pub(super) departed: BTreeMap<QueueName, u64>,
    /// The open lease connections.
    pub(super) connections: BTreeSet<u64>,
    pub(super) last_connection: u64,
    /// The outcome of requests with an id, by the run they named and the id, and until when it is kept.
    pub(super) requests: BTreeMap<(String, String), (RequestFate, u64)>,
    /// Receipts by list.
    pub(super) replies: BTreeMap<String, Receipts>,
    /// The lists that get a receipt when a run ends, or when a deferred request is settled.
    pub(super) followers: BTreeMap<String, BTreeSet<String>>,
    /// Events sent to runs whose requests are deferred.
    pub(super) sent: BTreeMap<String, Vec<SendRequest>>,
    /// Runs whose requests are deferred and that will start paused.
    pub(super) held_paused: BTreeSet<String>,
    /// Signals that arrived before a wait, by run and name.
    pub(super) signals: BTreeMap<(String, String), VecDeque<KeptSignal>>,
    /// What workers should abandon, with the time of the decision: a run, or `<run> <group>`.
    pub(super) cancelled: BTreeSet<(u64, String)>,
    /// The slot that the next successor is handed to directly, within one transition.
    pub(super) taker: Option<Taker>,
    pub(super) news: News,
}

/// What others may be waiting for. The store announces it after the transition.
#[derive(Clone, Debug, Default)]
pub(super) struct News {
    /// Something was queued or published, or arrived in the inbox.
    pub(super) arrived: bool,
    /// Runs that ended.
    pub(super) ended: Vec<String>,
}

/// Leads to a run until it expires.
#[derive(Clone, Debug)]
pub(super) struct Lead {
    pub(super) run: String,
    pub(super) expires: u64,
}

/// A deferred request.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) request: StartRequest,
    pub(super) since: u64,
}

/// The queue of one workflow version: its step events.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    pub(super) requeued: Stream<QueueEntry>,
    pub(super) alone: Stream<QueueEntry>,
    pub(super) new: Stream<QueueEntry>,
}

/// The streams of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Requeued entries, including those that waited for a timer.
    Requeued,
    /// New entries.
    New,
    /// Entries to execute alone: only a worker that executes nothing else takes them.
    Alone,
}

impl Lane {
    /// The lanes that any free slot takes from, in this order.
    pub(super) const SHARED: [Self; 2] = [Self::Requeued, Self::New];
    pub(super) const ALL: [Self; 3] = [Self::Requeued, Self::New, Self::Alone];
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum QueueEntry {
    /// A step execution to begin.
    Step { run: String, seq: u64 },
    /// Branches of a large fan-out to write.
    Fan { run: String, group: u64 },
}

/// The position of a queue entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueuePlace {
    pub(super) lane: Lane,
    pub(super) entry: EntryId,
}

/// When new step executions begin.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begins {
    Now,
    /// When the session gives the run its turn. Until then the phase is `Queued`, but no queue has an entry.
    InTurn,
    At(u64),
}

/// A registered worker. It stays registered while it has a lease, valid or expired.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) since: u64,
    pub(super) host: String,
    pub(super) pid: u32,
    pub(super) concurrency: usize,
    pub(super) queues: Vec<QueueName>,
    pub(super) lease_until: u64,
    /// The connection that renews the lease; 0 before the first heartbeat.
    pub(super) client: u64,
    pub(super) slots: BTreeMap<u32, Slot>,
    /// Some of its slots were reaped already.
    pub(super) has_several: bool,
}

/// One slot of a worker.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// The number of the call that wrote the slot.
    pub(super) call: u64,
    /// If that call was a commit: whether its fence was good.
    pub(super) is_good: bool,
    pub(super) held: Option<Held>,
}

/// Records that a worker took a step execution. The execution tells whether the worker still holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) run: String,
    pub(super) seq: u64,
    pub(super) attempt: u32,
}

impl Held {
    pub(super) fn fence(&self, slot: u32, call: u64) -> Fence {
        Fence { run: self.run.clone(), seq: self.seq, attempt: self.attempt, claim: call, slot, line: Line::default() }
    }
}

/// The slot whose step execution ends, which takes a successor.
#[derive(Clone, Debug)]
pub(super) struct Taker {
    pub(super) worker: String,
    pub(super) call: u64,
    pub(super) slot: u32,
    pub(super) taken: Option<Held>,
    /// The fan-out whose staged branches the slot takes next.
    pub(super) branches: Option<u64>,
}

impl Data {
    /// The step executions of a live run.
    pub(super) fn steps(&mut self, run: &str) -> Option<&mut Steps> {
        self.runs.get_mut(run)?.steps.as_mut()
    }

    pub(super) fn lane(&mut self, queue: &QueueName, lane: Lane) -> &mut Stream<QueueEntry> {
        let queue = self.queues.entry(queue.clone()).or_default();
        match lane {
            Lane::Requeued => &mut queue.requeued,
            Lane::New => &mut queue.new,
            Lane::Alone => &mut queue.alone,
        }
    }

    /// Queues that may have entries in this lane.
    pub(super) fn ready(&mut self, lane: Lane) -> &mut BTreeSet<QueueName> {
        match lane {
            Lane::Requeued => &mut self.urgent,
            Lane::New => &mut self.ready,
            Lane::Alone => &mut self.lonely,
        }
    }

    pub(super) fn append(&mut self, now: u64, queue: &QueueName, lane: Lane, entry: QueueEntry) -> QueuePlace {
        self.news.arrived = true;
        self.ready(lane).insert(queue.clone());
        QueuePlace { lane, entry: self.lane(queue, lane).append(now, entry) }
    }

    /// Requeues an existing step execution, ahead of new ones.
    pub(super) fn queue_again(&mut self, now: u64, run: &str, seq: u64) {
        let Some(queue) = self.runs.get(run).map(RunData::queue) else { return };
        let execution = self.steps(run).and_then(|steps| steps.executions.get(&seq));
        let lane = if execution.is_some_and(Execution::is_suspect) { Lane::Alone } else { Lane::Requeued };
        let place = self.append(now, &queue, lane, QueueEntry::Step { run: run.to_owned(), seq });
        if let Some(execution) = self.steps(run).and_then(|steps| steps.executions.get_mut(&seq)) {
            execution.phase = Phase::Queued(place);
        }
    }

    /// Queues the entry that triggers writing the next branches of a large fan-out.
    pub(super) fn queue_fan(&mut self, now: u64, run: &str, group: u64, lane: Lane) {
        let Some(queue) = self.runs.get(run).map(RunData::queue) else { return };
        let place = self.append(now, &queue, lane, QueueEntry::Fan { run: run.to_owned(), group });
        if let Some(fan) = self.steps(run).and_then(|steps| steps.groups.get_mut(&group)) {
            fan.entry = Some(place);
        }
    }

    /// Creates step executions, numbered in order. The first that may begin at once goes to the taker, if there is one.
    pub(super) fn create(&mut self, now: u64, run: &str, begins: Begins, works: Vec<Work>) {
        let Some(queue) = self.runs.get(run).map(RunData::queue) else { return };
        for work in works {
            let Some(steps) = self.steps(run) else { return };
            steps.last += 1;
            let seq = steps.last;
            let has_turn = self.take_turn(run, seq, &work.route);
            let phase = match begins {
                _ if !has_turn => Phase::Turn,
                Begins::Now => self.hand_over(now, run, seq).unwrap_or_else(|| {
                    let entry = QueueEntry::Step { run: run.to_owned(), seq };
                    Phase::Queued(self.append(now, &queue, Lane::New, entry))
                }),
                Begins::InTurn => Phase::Queued(QueuePlace { lane: Lane::New, entry: EntryId::default() }),
                Begins::At(due) => {
                    self.timers.set(due, Timer::step(run, seq, 0));
                    Phase::Waiting { due }
                }
            };
            let attempt = u32::from(matches!(phase, Phase::Held { .. }));
            let fresh = Execution {
                phase,
                attempt: 0,
                failures: 0,
                losses: 0,
                shared_losses: 0,
                mark: None,
                journal: BTreeMap::new(),
                kept: None,
                keeper: None,
                published: Told::default(),
                work,
            };
            if let Some(steps) = self.steps(run) {
                steps.executions.insert(seq, fresh);
            }
            self.tell(now, run, seq, StepState::Waiting, "-");
            if let Some(execution) = self.steps(run).and_then(|steps| steps.executions.get_mut(&seq)) {
                execution.attempt = attempt;
            }
        }
    }

    fn hand_over(&mut self, now: u64, run: &str, seq: u64) -> Option<Phase> {
        let taker = self.taker.as_mut().filter(|taker| taker.taken.is_none())?;
        taker.taken = Some(Held { run: run.to_owned(), seq, attempt: 1 });
        Some(Phase::Held { worker: taker.worker.clone(), since: now, claim: taker.call, slot: taker.slot })
    }

    pub(super) fn note(&mut self, now: u64, kind: Kind, attempt: &Actor, detail: String) {
        let Some(run) = self.runs.get_mut(&attempt.run) else { return };
        run.history.push_back(Record {
            at_ms: now,
            kind,
            seq: attempt.seq,
            attempt: attempt.number,
            step: attempt.step.clone(),
            worker: attempt.worker.clone(),
            detail,
        });
        if run.history.len() > HISTORY_MAX {
            run.history.pop_front();
        }
    }

    /// Has the next heartbeat of each worker name `what`.
    pub(super) fn tell_workers(&mut self, now: u64, what: String) {
        self.cancelled.retain(|(at, _)| at + TOLD_FOR > now);
        self.cancelled.insert((now, what));
    }

    pub(super) fn fail_run(&mut self, now: u64, attempt: &Actor, error: String, retention: u64) {
        self.tell_workers(now, attempt.run.clone());
        self.note(now, Kind::Failed, attempt, error.clone());
        self.finish(now, attempt, RunEnd::Failed { error, step: attempt.step.clone() }, retention);
    }

    pub(super) fn finish(&mut self, now: u64, attempt: &Actor, end: RunEnd, retention: u64) {
        let Some(run) = self.runs.get_mut(&attempt.run) else { return };
        run.shown.finished_ms = Some(now);
        let mut steps = run.steps.take();
        self.end_kin(now, &attempt.run, &end, steps.as_mut());
        let Some(run) = self.runs.get_mut(&attempt.run) else { return };
        let left = steps.as_ref().map(Steps::left).unwrap_or_default();
        let has_completed = matches!(end, RunEnd::Completed(_));
        match end {
            RunEnd::Completed(result) => {
                run.shown.status = Status::Completed;
                run.shown.result = Some(result);
            }
            RunEnd::Failed { error, step } => {
                run.shown.status = Status::Failed;
                run.shown.error = Some(error);
                run.shown.error_step = Some(step);
                run.shown.error_attempt = Some(attempt.number);
                run.stopped = steps.map(|steps| Steps { failed: Some(attempt.seq).filter(|seq| *seq > 0), ..steps });
            }
            RunEnd::Cancelled => {
                run.shown.status = Status::Cancelled;
                run.shown.error = Some("cancelled on request".to_owned());
                run.stopped = steps;
            }
        }
        run.published.end(now, run.shown.status);
        self.timers.set(now.saturating_add(retention), Timer::expire(&attempt.run));
        self.news.arrived = true;
        self.timers.remove(&Timer::timeout(&attempt.run));
        self.news.ended.push(attempt.run.clone());
        let lists = self.lists_of(&attempt.run);
        self.tell_end(now, &attempt.run, &lists);
        if has_completed {
            self.followers.remove(&attempt.run);
        }
        self.tell_kept(now, &attempt.run);
        self.begin_undo(now, &attempt.run, has_completed);
        if has_completed {
            self.tell_left(now, &attempt.run, &left);
        }
        self.leave_session(now, &attempt.run, has_completed, retention);
    }

    /// Records in the history the events that no step received, because their join, set or buffer stayed incomplete.
    fn tell_left(&mut self, now: u64, run: &str, left: &[Left]) {
        let of = |step: &str| Actor { run: run.into(), seq: 0, number: 0, step: step.into(), worker: "-".into() };
        for Left { step, count, what, .. } in left.iter().take(MAX_LEFT) {
            self.note(now, Kind::Left, &of(step), format!("{count} {what}"));
        }
        if left.len() > MAX_LEFT {
            self.note(now, Kind::Left, &of("-"), format!("{} more", left.len() - MAX_LEFT));
        }
    }

    pub(super) fn forget(&mut self, run: &str) {
        self.signals.retain(|(of, _), _| of != run);
        self.forget_but_signals(run);
    }

    /// Removes a run, but keeps the signals kept for the next run with its id.
    pub(super) fn forget_but_signals(&mut self, run: &str) {
        if let Some(gone) = self.runs.remove(run) {
            self.created.remove(&(gone.shown.created_ms, run.to_owned()));
            self.followers.remove(run);
        }
    }
}
