//! What there is: runs with their step executions, queues, timers, workers. The transitions change it; this file has
//! what they share.

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
/// More than this many kinds of events that are left are not told one by one.
const MAX_LEFT: usize = 100;

/// How long workers are told of what they need not go on with, in ms: longer than any of their leases.
const TOLD_FOR: u64 = 600_000;

/// The group of what is in no fan-out.
pub(super) const RUN: u64 = 0;

/// Names and values of an inbox entry.
pub(super) type Fields = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    pub(super) runs: BTreeMap<String, RunData>,
    /// The runs by their creation.
    pub(super) created: BTreeSet<(u64, String)>,
    /// Workflow and idempotency key -> run.
    pub(super) keys: BTreeMap<(String, String), Lead>,
    /// Run id of a request that turned out to repeat another -> that one's run.
    pub(super) aliases: BTreeMap<String, Lead>,
    /// Where the request of a reserved key is; the keys of a namespace of several partitions.
    pub(super) reservations: BTreeMap<(String, String), Reservation>,
    /// Run and ticket of reservations under which no run is created any more, and until when that is remembered.
    pub(super) voided: BTreeMap<(String, String), u64>,
    /// Entries of other partitions' inboxes that were dealt with.
    pub(super) taken: BTreeSet<String>,
    /// By kind and key.
    pub(super) entities: BTreeMap<(String, String), EntityData>,
    pub(super) sessions: BTreeMap<String, SessionData>,
    pub(super) inbox: Stream<Fields>,
    pub(super) rejected: VecDeque<(u64, Fields)>,
    pub(super) deferred: BTreeMap<String, Waiting>,
    pub(super) queues: BTreeMap<QueueName, Queue>,
    pub(super) timers: Timers,
    pub(super) workers: BTreeMap<String, Member>,
    pub(super) registrations: BTreeMap<QueueName, Registration>,
    /// The queues that have new entries, or had when they were read last.
    pub(super) ready: BTreeSet<QueueName>,
    /// The same of those that are queued again.
    pub(super) urgent: BTreeSet<QueueName>,
    /// And of those that are to be executed alone.
    pub(super) lonely: BTreeSet<QueueName>,
    /// The worker that makes room for one of them, and until when if it says no more.
    pub(super) drain: Option<(String, u64)>,
    /// When a worker that served it last went.
    pub(super) departed: BTreeMap<QueueName, u64>,
    /// The lease connections that are open.
    pub(super) connections: BTreeSet<u64>,
    pub(super) last_connection: u64,
    /// The outcome of requests that had an id, by the run that they named and the id, and until when that is known.
    pub(super) requests: BTreeMap<(String, String), (RequestFate, u64)>,
    /// Lists of receipts.
    pub(super) replies: BTreeMap<String, Receipts>,
    /// The lists that get a receipt of the end of a run, or of a request that is held.
    pub(super) followers: BTreeMap<String, BTreeSet<String>>,
    /// Events that were sent to runs whose requests are held.
    pub(super) sent: BTreeMap<String, Vec<SendRequest>>,
    /// Runs whose requests are held, and that are to start paused.
    pub(super) held_paused: BTreeSet<String>,
    /// Signals that came before their wait, by run and name.
    pub(super) signals: BTreeMap<(String, String), VecDeque<KeptSignal>>,
    /// What workers need not go on with, by when: a run, or `<run> <group>`.
    pub(super) cancelled: BTreeSet<(u64, String)>,
    /// Who the next successor goes to straight away, within one transition.
    pub(super) taker: Option<Taker>,
    pub(super) news: News,
}

/// What others may be waiting for; told by the store once the transition is over.
#[derive(Clone, Debug, Default)]
pub(super) struct News {
    /// Something was queued or published, or came into the inbox.
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

/// A request that waits for a worker to serve it.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) request: StartRequest,
    pub(super) since: u64,
}

/// The step events of one version of a workflow.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    pub(super) requeued: Stream<QueueEntry>,
    pub(super) alone: Stream<QueueEntry>,
    pub(super) new: Stream<QueueEntry>,
}

/// The streams of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// What is queued again, or has waited for a timer.
    Requeued,
    /// What is new.
    New,
    /// What is to be executed alone: only a worker that executes nothing takes from it.
    Alone,
}

impl Lane {
    /// Those that any free slot takes from, in the order in which they are served.
    pub(super) const SHARED: [Self; 2] = [Self::Requeued, Self::New];
    pub(super) const ALL: [Self; 3] = [Self::Requeued, Self::New, Self::Alone];
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum QueueEntry {
    /// A step execution to begin.
    Step { run: String, seq: u64 },
    /// Branches of a large fan-out that are to be written.
    Fan { run: String, group: u64 },
}

/// Where an entry of a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueuePlace {
    pub(super) lane: Lane,
    pub(super) entry: EntryId,
}

/// When new step executions are to begin.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begins {
    Now,
    /// Once its run has its turn in its session: it is queued, and in no queue.
    InTurn,
    At(u64),
}

/// A worker that is registered. It is so for as long as it has a lease, good or run out.
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
    /// A part of its slots was taken back already.
    pub(super) has_several: bool,
}

/// What a worker has in one of its slots.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// The number of the call that wrote it.
    pub(super) call: u64,
    /// Where that call was a commit: its fence was good.
    pub(super) is_good: bool,
    pub(super) held: Option<Held>,
}

/// Notes that a worker took a step execution. Whether it still holds it, the execution says.
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

/// The slot whose step execution ends: what follows goes there.
#[derive(Clone, Debug)]
pub(super) struct Taker {
    pub(super) worker: String,
    pub(super) call: u64,
    pub(super) slot: u32,
    pub(super) taken: Option<Held>,
    /// The fan-out whose staged branches come next.
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

    /// The queues that have entries, as far as is known.
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

    /// Queues a step execution that is there already, ahead of what is new.
    pub(super) fn queue_again(&mut self, now: u64, run: &str, seq: u64) {
        let Some(queue) = self.runs.get(run).map(RunData::queue) else { return };
        let execution = self.steps(run).and_then(|steps| steps.executions.get(&seq));
        let lane = if execution.is_some_and(Execution::is_suspect) { Lane::Alone } else { Lane::Requeued };
        let place = self.append(now, &queue, lane, QueueEntry::Step { run: run.to_owned(), seq });
        if let Some(execution) = self.steps(run).and_then(|steps| steps.executions.get_mut(&seq)) {
            execution.phase = Phase::Queued(place);
        }
    }

    /// Queues the entry that has the next branches of a large fan-out written.
    pub(super) fn queue_fan(&mut self, now: u64, run: &str, group: u64, lane: Lane) {
        let Some(queue) = self.runs.get(run).map(RunData::queue) else { return };
        let place = self.append(now, &queue, lane, QueueEntry::Fan { run: run.to_owned(), group });
        if let Some(fan) = self.steps(run).and_then(|steps| steps.groups.get_mut(&group)) {
            fan.entry = Some(place);
        }
    }

    /// New step executions, numbered in the order given. The first that may begin at once goes to the taker, where there is one.
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

    /// The next heartbeat of each worker names it.
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

    /// What no step was given, since it never came to a whole.
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

    /// What is kept for its successor under the same id stays.
    pub(super) fn forget_but_signals(&mut self, run: &str) {
        if let Some(gone) = self.runs.remove(run) {
            self.created.remove(&(gone.shown.created_ms, run.to_owned()));
            self.followers.remove(run);
        }
    }
}
