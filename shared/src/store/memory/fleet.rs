//! Workers and their leases; recovery of what the lost held; timers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::millis;
use super::state::{Entry, Execution, Hold, Lane, Member, Phase, Place, State};
use super::stream::EntryId;
use super::timers::Timer;
use crate::history::Kind;
use crate::names::QueueName;
use crate::published::StepState;
use crate::step::Fence;
use crate::store::{Beat, Introduction, Tick, Ticked};

/// How many holds one call of `leave` hands back.
const LEAVE_LIMIT: usize = 200;
/// How many workers whose lease ran out one tick deals with.
const EXPIRED_LIMIT: usize = 5;

/// How holds are given up.
struct Sweep {
    kind: Kind,
    limit: usize,
    /// None for holds that are handed back: they are no loss.
    max_losses: Option<u32>,
    retention: u64,
}

impl State {
    pub(super) fn register(&mut self, now: u64, worker: &Introduction, lease: u64) {
        let queues: Vec<QueueName> =
            worker.serves.iter().map(|served| QueueName::new(&served.workflow, served.version)).collect();
        for (queue, served) in queues.iter().zip(&worker.serves) {
            self.queues.entry(queue.clone()).or_default();
            self.registrations.insert(queue.clone(), served.clone());
        }
        let holds = self.workers.remove(&worker.id).map(|known| known.holds).unwrap_or_default();
        let member = Member {
            since: now,
            host: worker.host.clone(),
            pid: worker.pid,
            concurrency: worker.concurrency,
            queues,
            lease_until: now.saturating_add(lease),
            client: 0,
            holds,
        };
        self.workers.insert(worker.id.clone(), member);
    }

    /// Renews a lease that is still there; one that was swept is lost for good.
    /// Names the runs that were cancelled since `told`.
    pub(super) fn beat(&mut self, now: u64, worker: &str, lease: u64, client: u64, told: u64) -> Beat {
        let Some(member) = self.workers.get_mut(worker) else { return Beat::Lost };
        member.lease_until = now.saturating_add(lease);
        member.client = client;
        let since = self.cancelled.range((told, String::new())..);
        Beat::Renewed { cancelled: since.map(|(_, run)| run.clone()).collect() }
    }

    pub(super) fn holds(&self, worker: &str) -> Vec<Fence> {
        self.workers.get(worker).map(|member| first_holds(&member.holds, usize::MAX)).unwrap_or_default()
    }

    /// Gives back holds that the worker knows nothing of.
    pub(super) fn release(&mut self, now: u64, worker: &str, fences: &[Fence]) -> u64 {
        let released = Sweep { kind: Kind::Released, limit: usize::MAX, max_losses: None, retention: 0 };
        let mut moved = 0;
        for fence in fences {
            if self.drop_hold(worker, fence) {
                moved += u64::from(self.give_up(now, worker, fence, &released));
            }
        }
        moved
    }

    /// Takes one hold back from a worker that is not there.
    pub(super) fn lose(&mut self, now: u64, worker: &str, fence: &Fence, max_losses: u32, retention: u64) {
        let lost = Sweep { kind: Kind::Lost, limit: usize::MAX, max_losses: Some(max_losses), retention };
        self.give_up(now, worker, fence, &lost);
    }

    /// Opens a connection for beats.
    pub(super) fn connect(&mut self) -> u64 {
        self.last_connection += 1;
        self.connections.insert(self.last_connection);
        self.last_connection
    }

    /// True when all is handed back and the worker is forgotten.
    pub(super) fn leave(&mut self, now: u64, worker: &str) -> bool {
        let released = Sweep { kind: Kind::Released, limit: LEAVE_LIMIT, max_losses: None, retention: 0 };
        self.sweep(now, worker, &released).0
    }

    /// One slice of taking back all that a worker has. Answers whether nothing is left and the worker is forgotten,
    /// and how many entries were queued again.
    fn sweep(&mut self, now: u64, worker: &str, sweep: &Sweep) -> (bool, u64) {
        let Some(member) = self.workers.get_mut(worker) else { return (true, 0) };
        let queues = member.queues.clone();
        let slice = first_holds(&member.holds, sweep.limit);
        for fence in &slice {
            member.holds.remove(&(fence.run.clone(), fence.seq));
        }
        let any_left = !member.holds.is_empty();
        let mut moved = 0;
        for fence in &slice {
            moved += u64::from(self.give_up(now, worker, fence, sweep));
        }
        if any_left {
            return (false, moved);
        }
        for queue in &queues {
            for lane in Lane::ALL {
                let entries = self.lane(queue, lane).take_from(worker, sweep.limit);
                let count = entries.len();
                self.requeue_entries(now, lane, entries);
                moved += count as u64;
                if count >= sweep.limit {
                    return (false, moved);
                }
            }
        }
        self.departed.extend(queues.into_iter().map(|queue| (queue, now)));
        self.workers.remove(worker);
        (true, moved)
    }

    /// Queues a held step execution again, ahead of what is new. False where it was not held any more, or its run
    /// fails because of the loss.
    fn give_up(&mut self, now: u64, worker: &str, fence: &Fence, sweep: &Sweep) -> bool {
        if !self.is_held(worker, fence) {
            return false;
        }
        let Some(attempt) = self.attempt(worker, fence) else { return false };
        self.note(now, sweep.kind, &attempt, String::new());
        let Some(run) = self.runs.get_mut(&fence.run) else { return false };
        let execution = run.steps.as_mut().and_then(|steps| steps.executions.get_mut(&fence.seq));
        let Some(execution) = execution else { return false };
        if let Some(max_losses) = sweep.max_losses {
            execution.losses += 1;
            let losses = execution.losses;
            if losses > max_losses {
                let error = format!(
                    "step \"{}\" lost its worker {losses} times; it may be what kills them (memory, a crash in native code)",
                    attempt.step
                );
                self.tell(now, &fence.run, fence.seq, StepState::Failed, worker);
                self.fail_run(now, &attempt, error, sweep.retention);
                return false;
            }
        }
        self.tell(now, &fence.run, fence.seq, StepState::Waiting, "-");
        self.queue_again(now, &fence.run, fence.seq);
        true
    }

    /// Nothing becomes of an entry whose run has ended, or that was a second one for its step.
    fn requeue_entries(&mut self, now: u64, lane: Lane, entries: Vec<(EntryId, Entry)>) {
        for (id, entry) in entries {
            let here = Place { lane, entry: id };
            match entry {
                Entry::Step { run, seq } => {
                    let execution = self.steps(&run).and_then(|steps| steps.executions.get(&seq));
                    if execution.is_some_and(|execution| execution.phase == Phase::Queued(here)) {
                        self.queue_again(now, &run, seq);
                    }
                }
                Entry::Fan { run, scope } => {
                    let fan = self.steps(&run).and_then(|steps| steps.scopes.get(&scope));
                    if fan.is_some_and(|fan| fan.entry == Some(here)) {
                        self.queue_fan(now, &run, scope, Lane::Requeued);
                    }
                }
            }
        }
    }

    /// Takes back what dead and silent workers held; fires what is due.
    pub(super) fn tick(&mut self, now: u64, tick: &Tick) -> Ticked {
        let mut ticked = Ticked::default();
        let lost = Sweep {
            kind: Kind::Lost,
            limit: tick.limit,
            max_losses: Some(tick.max_losses),
            retention: millis(tick.retention),
        };
        let mut gone = self.expired(now);
        ticked.more = gone.len() >= EXPIRED_LIMIT;
        for (worker, client) in &tick.suspects {
            // The client says which connection was seen closed: the worker may have a new one by now.
            let is_gone = self.workers.get(worker).is_some_and(|member| member.client == *client);
            if is_gone && !gone.contains(worker) {
                gone.push(worker.clone());
            }
        }
        for worker in gone {
            let (over, moved) = self.sweep(now, &worker, &lost);
            ticked.requeued += moved;
            if over {
                ticked.swept.push(worker);
            } else {
                ticked.more = true;
            }
        }
        let due = self.timers.take_due(now, tick.limit);
        ticked.fired = due.len() as u64;
        ticked.more |= due.len() >= tick.limit;
        for timer in due {
            self.fire(now, timer, lost.retention);
        }
        let next = self.timers.next_due();
        ticked.next_due = next.map(|due| Duration::from_millis(due.saturating_sub(now)));
        ticked
    }

    /// The workers whose lease ran out, the longest gone first.
    fn expired(&self, now: u64) -> Vec<String> {
        let expired = self.workers.iter().filter(|(_, member)| member.lease_until <= now);
        let mut expired: Vec<_> = expired.map(|(id, member)| (member.lease_until, id.clone())).collect();
        expired.sort_unstable();
        expired.into_iter().take(EXPIRED_LIMIT).map(|(_, id)| id).collect()
    }

    fn fire(&mut self, now: u64, timer: Timer, retention: u64) {
        let (run, seq, attempt) = match timer {
            Timer::Expire { run } => return self.forget(&run),
            Timer::Timeout { run } => return self.fire_timeout(now, &run, retention),
            Timer::Close { run, .. } => return self.sweep_closed(now, &run),
            Timer::Wait { run, name, wait } => return self.fire_deadline(now, &run, &name, &wait),
            Timer::Step { run, seq, attempt } => (run, seq, attempt),
        };
        let steps = self.runs.get(&run).and_then(|run| run.steps.as_ref());
        let execution = steps.and_then(|steps| steps.executions.get(&seq));
        let waits = |e: &Execution| matches!(e.phase, Phase::Waiting { due } if due <= now) && e.attempt == attempt;
        if execution.is_some_and(waits) {
            self.tell(now, &run, seq, StepState::Waiting, "-");
            self.queue_again(now, &run, seq);
        }
    }

    /// Queues again what was given to a reader `idle` ms ago and not taken up, whoever the reader is.
    pub(super) fn orphans(&mut self, now: u64, idle: u64) -> u64 {
        let queues: Vec<QueueName> = self.queues.keys().cloned().collect();
        let mut moved = 0;
        for queue in &queues {
            for lane in Lane::ALL {
                let entries = self.lane(queue, lane).take_idle(now, idle, usize::MAX);
                moved += entries.len() as u64;
                self.requeue_entries(now, lane, entries);
            }
        }
        moved
    }
}

/// The fences of the first `most` holds, in the order in which they were taken.
fn first_holds(holds: &BTreeMap<(String, u64), Hold>, most: usize) -> Vec<Fence> {
    let mut all: Vec<_> = holds.iter().collect();
    all.sort_unstable_by_key(|(_, hold)| hold.order);
    let fence = |((run, seq), hold): (&(String, u64), &Hold)| hold.fence(run, *seq);
    all.into_iter().take(most).map(fence).collect()
}
