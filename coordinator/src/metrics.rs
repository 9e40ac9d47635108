//! What a coordinator counts, and what it reads from Redis when it is scraped.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, try_join, try_join_all};
use stepfleet_shared::metrics::{Count, Counts, Gauges, Registry, Timer, catalogue};
use stepfleet_shared::run::Status;
use stepfleet_shared::store::{
    Breach, CoordinatorStore, Ended, Fired, Load, QueueLoad, Reaped, RedisStore, WorkerInfo,
};
use stepfleet_shared::{Result, log};

use crate::Partitions;
use crate::intake::Intake;
use crate::taken::{Became, Taken, Why};

pub(crate) struct Metrics {
    started: Counts,
    ended: Counts,
    /// In the order of [`outcomes`].
    requests: [Count; 5],
    /// In the order of [`Why::ALL`].
    rejected: [Count; Why::ALL.len()],
    /// By partition.
    partitions: Vec<OfPartition>,
    recovery: Timer,
    lateness: Timer,
    /// In the order of [`Breach::KINDS`].
    repairs: [Count; Breach::KINDS.len()],
}

struct OfPartition {
    lost: Count,
    requeued: Count,
    fired: Count,
}

fn outcomes(taken: Taken) -> [(&'static str, u64); 5] {
    [
        ("started", taken.started),
        ("known", taken.known),
        ("held", taken.deferred),
        ("steered", taken.steered),
        ("rejected", taken.rejected),
    ]
}

impl Metrics {
    pub(crate) fn new(registry: &Registry, partitions: &Partitions) -> Arc<Self> {
        let requests = registry.counts(&catalogue::REQUESTS);
        let rejected = registry.counts(&catalogue::REJECTED);
        let repairs = registry.counts(&catalogue::REPAIRS);
        let [lost, requeued, fired] =
            [&catalogue::WORKERS_LOST, &catalogue::REQUEUED, &catalogue::TIMERS_FIRED].map(|it| registry.counts(it));
        let of_partition = |partition: u16| {
            let partition = partition.to_string();
            let [lost, requeued, fired] = [&lost, &requeued, &fired].map(|counts| counts.of(&[&partition]));
            OfPartition { lost, requeued, fired }
        };
        let fleet = Arc::new(FleetGauges::new(registry));
        let read = partitions.clone();
        registry.read(move || -> BoxFuture<'static, ()> {
            let (fleet, partitions) = (fleet.clone(), read.clone());
            Box::pin(async move { fleet.read(&partitions).await })
        });
        Arc::new(Self {
            started: registry.counts(&catalogue::RUNS_STARTED),
            ended: registry.counts(&catalogue::RUNS_ENDED),
            requests: outcomes(Taken::default()).map(|(outcome, _)| requests.of(&[outcome])),
            rejected: Why::ALL.map(|(_, reason)| rejected.of(&[reason])),
            partitions: (0..partitions.count()).map(of_partition).collect(),
            recovery: registry.times(&catalogue::RECOVERY).of(&[]),
            lateness: registry.times(&catalogue::TIMER_LATENESS).of(&[]),
            repairs: Breach::KINDS.map(|kind| repairs.of(&[kind])),
        })
    }

    pub(crate) fn started(&self, workflow: &str) {
        self.started.of(&[workflow]).add(1);
    }

    fn ended(&self, workflow: &str, status: Status) {
        self.ended.of(&[workflow, status.as_str()]).add(1);
    }

    pub(crate) fn taken(&self, taken: Taken) {
        for (count, (_, more)) in self.requests.iter().zip(outcomes(taken)) {
            count.add(more);
        }
    }

    /// Counts requests that were held: those that still are were counted before.
    pub(crate) fn taken_of_held(&self, results: &[Result<Became>]) {
        let moved = results.iter().flatten().filter(|became| **became != Became::Deferred);
        self.taken(moved.fold(Taken::default(), |taken, became| taken.and(*became)));
    }

    pub(crate) fn rejected(&self, why: Why) {
        let at = Why::ALL.iter().position(|(other, _)| *other == why);
        if let Some(count) = at.and_then(|at| self.rejected.get(at)) {
            count.add(1);
        }
    }

    /// `closed_for`: how long ago the worker's connection was first seen closed.
    pub(crate) fn reaped(&self, partition: u16, reaped: &Reaped, closed_for: impl Fn(&str) -> Option<Duration>) {
        if let Some(counts) = self.partitions.get(usize::from(partition)) {
            counts.lost.add(reaped.reaped.len() as u64);
            counts.requeued.add(reaped.requeued);
        }
        for (worker, expired) in reaped.reaped.iter().zip(&reaped.expired) {
            if let Some(time) = expired.or_else(|| closed_for(worker)) {
                self.recovery.observe(time);
            }
        }
        self.all_ended(&reaped.ended);
    }

    pub(crate) fn fired(&self, partition: u16, fired: &Fired) {
        if fired.fired > 0 {
            self.lateness.observe(fired.late);
            if let Some(counts) = self.partitions.get(usize::from(partition)) {
                counts.fired.add(fired.fired);
            }
        }
        self.all_ended(&fired.ended);
    }

    fn all_ended(&self, all: &[Ended]) {
        for Ended { workflow, status } in all {
            self.ended(workflow, *status);
        }
    }

    pub(crate) fn repaired(&self, breaches: &[Breach]) {
        for breach in breaches {
            let at = Breach::KINDS.iter().position(|kind| *kind == breach.kind());
            if let Some(count) = at.and_then(|at| self.repairs.get(at)) {
                count.add(1);
            }
        }
    }
}

impl Intake {
    /// A run was cancelled: only its workflow is still to be read.
    pub(crate) async fn count_cancelled(&self, store: &dyn CoordinatorStore, run: &str) {
        match store.run(run).await {
            // A held request that had not started does not count as an ended run.
            Ok(Some(run)) if !run.workflow.is_empty() => self.metrics.ended(&run.workflow, Status::Cancelled),
            Ok(_) => {}
            Err(error) => log::debug!(run, %error, "a run that was cancelled is missing in the metrics"),
        }
    }
}

/// What is the same for all coordinators.
struct FleetGauges {
    depth: Gauges,
    oldest: Gauges,
    serving: Gauges,
    workers: Gauges,
    inbox: Gauges,
    held: Gauges,
    runs: Gauges,
    timers: Gauges,
    overdue: Gauges,
}

impl FleetGauges {
    fn new(registry: &Registry) -> Self {
        Self {
            depth: registry.gauges(&catalogue::QUEUE_DEPTH),
            oldest: registry.gauges(&catalogue::QUEUE_OLDEST),
            serving: registry.gauges(&catalogue::QUEUE_WORKERS),
            workers: registry.gauges(&catalogue::WORKERS),
            inbox: registry.gauges(&catalogue::INBOX),
            held: registry.gauges(&catalogue::HELD),
            runs: registry.gauges(&catalogue::RUNS_KEPT),
            timers: registry.gauges(&catalogue::TIMERS_PENDING),
            overdue: registry.gauges(&catalogue::TIMERS_OVERDUE),
        }
    }

    /// What cannot be read is not shown: an old number would look like a new one.
    async fn read(&self, partitions: &Partitions) {
        let Self { depth, oldest, serving, workers, inbox, held, runs, timers, overdue } = self;
        for gauges in [depth, oldest, serving, workers, inbox, held, runs, timers, overdue] {
            gauges.clear();
        }
        let loads = try_join_all(partitions.on_redis().iter().map(RedisStore::load));
        match try_join(loads, partitions.workers()).await {
            Ok((loads, workers)) => self.show(&added_up(loads), &workers),
            Err(error) => log::debug!(%error, "how much there is to do cannot be read"),
        }
    }

    fn show(&self, load: &Load, workers: &[WorkerInfo]) {
        let live: Vec<_> = workers.iter().filter(|worker| worker.lease_ms > 0).collect();
        for QueueLoad { workflow, version, waiting, oldest } in &load.queues {
            let name = format!("{workflow}:{version}");
            let serving = live.iter().filter(|worker| worker.serves.contains(&name)).count();
            let labels = [workflow.as_str(), &version.to_string()];
            self.depth.set(&labels, *waiting);
            self.oldest.set_time(&labels, *oldest);
            self.serving.set(&labels, serving as u64);
        }
        let busy = live.iter().filter(|worker| worker.held > 0).count();
        self.workers.set(&["busy"], busy as u64);
        self.workers.set(&["idle"], (live.len() - busy) as u64);
        self.inbox.set(&[], load.inbox);
        self.held.set(&[], load.held);
        self.runs.set(&[], load.runs);
        self.timers.set(&[], load.timers);
        self.overdue.set_time(&[], load.overdue);
    }
}

/// All partitions together.
fn added_up(loads: Vec<Load>) -> Load {
    let mut all = Load::default();
    for load in loads {
        all.inbox += load.inbox;
        all.held += load.held;
        all.runs += load.runs;
        all.timers += load.timers;
        all.overdue = all.overdue.max(load.overdue);
        for queue in load.queues {
            let is_same = |known: &&mut QueueLoad| (&known.workflow, known.version) == (&queue.workflow, queue.version);
            match all.queues.iter_mut().find(is_same) {
                Some(known) => {
                    known.waiting += queue.waiting;
                    known.oldest = known.oldest.max(queue.oldest);
                }
                None => all.queues.push(queue),
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_of_all_partitions_are_one() {
        let queue = |workflow: &str, waiting, seconds| QueueLoad {
            workflow: workflow.into(),
            version: 1,
            waiting,
            oldest: Duration::from_secs(seconds),
        };
        let load =
            |queues, overdue| Load { queues, inbox: 1, overdue: Duration::from_secs(overdue), ..Load::default() };
        let all = added_up(vec![load(vec![queue("a", 2, 9), queue("b", 0, 0)], 3), load(vec![queue("a", 5, 4)], 1)]);
        assert_eq!(all.queues, [queue("a", 7, 9), queue("b", 0, 0)]);
        assert_eq!((all.inbox, all.overdue), (2, Duration::from_secs(3)));
    }
}
