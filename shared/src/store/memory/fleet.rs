//! Workers and their leases, recovery of what lost workers held, and timers.

use std::time::Duration;

use super::data::{Data, Member};
use super::millis;
use super::run::{Execution, Phase};
use super::timers::Timer;
use crate::history::Kind;
use crate::names::QueueName;
use crate::published::StepState;
use crate::run::Status;
use crate::step::Fence;
use crate::store::{Ended, Fire, Fired, Heartbeat, Introduction, Reap, Reaped};

/// How many holds one call of `deregister` releases.
const DEREGISTER_LIMIT: usize = 200;
/// How many workers with an expired lease one `reap` considers.
const EXPIRED_LIMIT: usize = 5;

/// How holds are given up.
struct Recovery {
    kind: Kind,
    limit: usize,
    /// None if the worker releases its holds, which is no loss.
    max_losses: Option<u32>,
    retention: u64,
}

impl Data {
    pub(super) fn register(&mut self, now: u64, worker: &Introduction, lease: u64) {
        let queues: Vec<QueueName> =
            worker.serves.iter().map(|served| QueueName::new(&served.workflow, served.version)).collect();
        for (queue, served) in queues.iter().zip(&worker.serves) {
            self.queues.entry(queue.clone()).or_default();
            self.registrations.insert(queue.clone(), served.clone());
        }
        let slots = self.workers.remove(&worker.id).map(|known| known.slots).unwrap_or_default();
        let member = Member {
            since: now,
            host: worker.host.clone(),
            pid: worker.pid,
            concurrency: worker.concurrency,
            queues,
            lease_until: now.saturating_add(lease),
            client: 0,
            slots,
            has_several: false,
        };
        self.workers.insert(worker.id.clone(), member);
    }

    /// Renews a lease; one that was reaped is lost for good. Names what was cancelled since `told`, and tells the
    /// worker whether to drain.
    pub(super) fn heartbeat(&mut self, now: u64, worker: &str, lease: u64, client: u64, told: u64) -> Heartbeat {
        if !self.renew(now, worker, lease, client) {
            return Heartbeat::Lost;
        }
        let Some(member) = self.workers.get(worker) else { return Heartbeat::Lost };
        let serves_lonely = member.queues.iter().any(|queue| self.lonely.contains(queue));
        let since = self.cancelled.range((told, String::new())..);
        let cancelled = since.map(|(_, run)| run.clone()).collect();
        Heartbeat::Renewed { cancelled, drain: serves_lonely && self.makes_room(now, worker, lease) }
    }

    /// Renews the lease of a registered worker. False if it was reaped.
    pub(super) fn renew(&mut self, now: u64, worker: &str, lease: u64, client: u64) -> bool {
        let Some(member) = self.workers.get_mut(worker) else { return false };
        (member.lease_until, member.client) = (now.saturating_add(lease), client);
        true
    }

    /// Lets one worker at a time drain to execute a step alone. Each heartbeat extends its turn.
    fn makes_room(&mut self, now: u64, worker: &str, lease: u64) -> bool {
        let is_other = |(by, until): &(String, u64)| by != worker && *until > now;
        if self.drain.as_ref().is_some_and(is_other) {
            return false;
        }
        self.drain = Some((worker.to_owned(), now.saturating_add(lease.max(1))));
        true
    }

    pub(super) fn holds(&self, worker: &str) -> Vec<Fence> {
        let Some(member) = self.workers.get(worker) else { return Vec::new() };
        member.slots.iter().filter_map(|(slot, has)| Some(has.held.as_ref()?.fence(*slot, has.call))).collect()
    }

    /// Releases holds that the worker does not know of.
    pub(super) fn release(&mut self, now: u64, worker: &str, fences: &[Fence]) -> u64 {
        let released = Recovery { kind: Kind::Released, limit: usize::MAX, max_losses: None, retention: 0 };
        let mut moved = 0;
        for fence in fences {
            if self.drop_hold(worker, fence) {
                moved += u64::from(self.give_up(now, worker, fence, &released, false));
            }
        }
        moved
    }

    /// Releases what the store, restored to an earlier state, thinks the worker holds in these slots: the worker knows
    /// that they are free. Returns the runs of what it requeues.
    pub(super) fn vacate_claimed(&mut self, now: u64, worker: &str, slots: &[u32]) -> Vec<String> {
        let released = Recovery { kind: Kind::Released, limit: usize::MAX, max_losses: None, retention: 0 };
        let mut runs = Vec::new();
        for slot in slots {
            let Some(member) = self.workers.get_mut(worker) else { break };
            if member.slots.get(slot).is_none_or(|has| has.held.is_none()) {
                continue;
            }
            let fence = member.slots.remove(slot).and_then(|has| Some(has.held?.fence(*slot, has.call)));
            if let Some(fence) = fence.filter(|fence| self.give_up(now, worker, fence, &released, false)) {
                runs.push(fence.run);
            }
        }
        runs
    }

    /// Reclaims one hold from a worker that is gone.
    pub(super) fn lose(&mut self, now: u64, worker: &str, fence: &Fence, max_losses: u32, retention: u64) {
        let lost = Recovery { kind: Kind::Lost, limit: usize::MAX, max_losses: Some(max_losses), retention };
        self.give_up(now, worker, fence, &lost, false);
    }

    /// Opens a connection for heartbeats.
    pub(super) fn connect(&mut self) -> u64 {
        self.last_connection += 1;
        self.connections.insert(self.last_connection);
        self.last_connection
    }

    /// True once all holds are released and the worker is removed.
    pub(super) fn deregister(&mut self, now: u64, worker: &str) -> bool {
        let released = Recovery { kind: Kind::Released, limit: DEREGISTER_LIMIT, max_losses: None, retention: 0 };
        self.reap_worker(now, worker, &released).0
    }

    /// Takes back one slice of a worker's holds. Returns whether none is left and the worker is removed, and how many
    /// step executions were requeued.
    fn reap_worker(&mut self, now: u64, worker: &str, recovery: &Recovery) -> (bool, u64) {
        let Some(member) = self.workers.get_mut(worker) else { return (true, 0) };
        let queues = member.queues.clone();
        let slots: Vec<u32> = member.slots.keys().copied().take(recovery.limit).collect();
        let slice: Vec<Fence> = slots
            .into_iter()
            .filter_map(|slot| member.slots.remove(&slot).and_then(|has| Some(has.held?.fence(slot, has.call))))
            .collect();
        let any_left = !member.slots.is_empty();
        let is_single = slice.len() == 1 && !any_left && !member.has_several;
        member.has_several = any_left;
        let mut moved = 0;
        for fence in &slice {
            moved += u64::from(self.give_up(now, worker, fence, recovery, is_single));
        }
        if any_left {
            return (false, moved);
        }
        self.departed.extend(queues.into_iter().map(|queue| (queue, now)));
        self.workers.remove(worker);
        self.drain.take_if(|(by, _)| by == worker);
        (true, moved)
    }

    /// Requeues a held step execution, ahead of new ones. False if it was no longer held, or the loss fails its run.
    /// Only a step execution held `alone` is blamed for the loss of its worker; of several, any may be innocent.
    fn give_up(&mut self, now: u64, worker: &str, fence: &Fence, recovery: &Recovery, alone: bool) -> bool {
        if !self.is_held(worker, fence) {
            return false;
        }
        let Some(attempt) = self.attempt(worker, fence) else { return false };
        self.note(now, recovery.kind, &attempt, String::new());
        let Some(run) = self.runs.get_mut(&fence.run) else { return false };
        let execution = run.steps.as_mut().and_then(|steps| steps.executions.get_mut(&fence.seq));
        let Some(execution) = execution else { return false };
        match recovery.max_losses {
            None => execution.ended_well(),
            Some(_) if alone => execution.losses += 1,
            Some(_) => execution.shared_losses += 1,
        }
        let losses = execution.losses;
        if recovery.max_losses.is_some_and(|most| losses > most) {
            let error = format!(
                "step \"{}\" killed its worker {losses} times while it was executed alone \
                 (out of memory, or a crash in native code)",
                attempt.step
            );
            self.tell(now, &fence.run, fence.seq, StepState::Failed, worker);
            self.fail_run(now, &attempt, error, recovery.retention);
            return false;
        }
        self.tell(now, &fence.run, fence.seq, StepState::Waiting, "-");
        self.queue_again(now, &fence.run, fence.seq);
        true
    }

    /// Reclaims what dead and silent workers held.
    pub(super) fn reap(&mut self, now: u64, reap: &Reap) -> Reaped {
        let lost = Recovery {
            kind: Kind::Lost,
            limit: reap.limit,
            max_losses: Some(reap.max_losses),
            retention: millis(reap.retention),
        };
        let ended_before = self.news.ended.len();
        let mut gone = self.expired(now);
        let mut done = Reaped { more: gone.len() >= EXPIRED_LIMIT, ..Reaped::default() };
        for (worker, client) in &reap.suspects {
            // `client` names the connection that closed: the worker may have opened a new one since.
            let is_gone = self.workers.get(worker).is_some_and(|member| member.client == *client);
            if is_gone && !gone.contains(worker) {
                gone.push(worker.clone());
            }
        }
        for worker in gone {
            let until = self.workers.get(&worker).map(|member| member.lease_until).filter(|until| *until <= now);
            let (over, moved) = self.reap_worker(now, &worker, &lost);
            done.requeued += moved;
            if over {
                done.reaped.push(worker);
                done.expired.push(until.map(|until| Duration::from_millis(now - until)));
            } else {
                done.more = true;
            }
        }
        done.workers = self.workers.len() as u64;
        done.ended = self.ended_since(ended_before);
        done
    }

    /// Fires due timers.
    pub(super) fn fire(&mut self, now: u64, fire: &Fire) -> Fired {
        let late = self.timers.next_due().map_or(0, |due| now.saturating_sub(due));
        let due = self.timers.take_due(now, fire.limit);
        let ended_before = self.news.ended.len();
        let (fired, more) = (due.len() as u64, due.len() >= fire.limit);
        for timer in due {
            self.fire_timer(now, timer, millis(fire.retention));
        }
        let next = self.timers.next_due();
        let next_due = next.map(|due| Duration::from_millis(due.saturating_sub(now)));
        Fired { fired, more, next_due, late: Duration::from_millis(late), ended: self.ended_since(ended_before) }
    }

    /// The runs that this transition ended without completing them, skipping the first `count` that ended.
    fn ended_since(&self, count: usize) -> Vec<Ended> {
        let shown = self.news.ended.iter().skip(count).filter_map(|run| Some(&self.runs.get(run)?.shown));
        let ended = shown.filter(|run| run.status != Status::Completed);
        ended.map(|run| Ended { workflow: run.workflow.clone(), status: run.status }).collect()
    }

    /// Workers with an expired lease, longest expired first.
    fn expired(&self, now: u64) -> Vec<String> {
        let expired = self.workers.iter().filter(|(_, member)| member.lease_until <= now);
        let mut expired: Vec<_> = expired.map(|(id, member)| (member.lease_until, id.clone())).collect();
        expired.sort_unstable();
        expired.into_iter().take(EXPIRED_LIMIT).map(|(_, id)| id).collect()
    }

    fn fire_timer(&mut self, now: u64, timer: Timer, retention: u64) {
        let (run, seq, attempt) = match timer {
            Timer::Expire { run } => return self.forget(&run),
            Timer::Line { run } => return self.fire_line(now, &run),
            Timer::Session { name } => return self.expire_session(&name),
            Timer::Timeout { run } => return self.fire_timeout(now, &run, retention),
            Timer::Close { run, .. } => return self.discard_closed(now, &run),
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
}
