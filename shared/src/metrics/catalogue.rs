//! Every metric that there is. The table of `docs/metrics.md` is made from it.

/// What kind of metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows: use `rate` or `increase`.
    Count,
    /// It rises and falls.
    Gauge,
    /// A histogram of durations, in seconds.
    Times,
}

/// A kind of process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// A worker.
    Worker,
    /// A coordinator, or `stepfleet dev`.
    Coordinator,
}

impl Process {
    /// Its name, in the label `process`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Coordinator => "coordinator",
        }
    }
}

/// Who shows a metric, and what a query over several processes makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Both kinds of process, each its own.
    ByEach,
    /// Workers, each its own.
    ByWorkers,
    /// Coordinators, each its own: what one has counted no other one has.
    ByCoordinators,
    /// By the process that ended the run.
    ByWhoEndsIt,
    /// Every coordinator, and all the same, as they read it from Redis.
    FromRedis,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, with its unit.
    pub name: &'static str,
    /// What kind.
    pub kind: Kind,
    /// Its labels, in order.
    pub labels: &'static [&'static str],
    /// Who shows it.
    pub shown: Shown,
    /// What it says.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $name:literal $kind:ident [$($label:literal),*] $shown:ident: $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Metric = Metric {
                name: $name, kind: Kind::$kind, labels: &[$($label),*], shown: Shown::$shown, help: $help,
            };
        )*
        /// All of them.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    BUILD = "stepfleet_build_info" Gauge ["version", "process"] ByEach:
        "Always 1; the labels say which version of Stepfleet the process was built with, and what it is";
    STARTED = "stepfleet_start_time_seconds" Gauge [] ByEach:
        "When the process started, in seconds since 1970";
    REDIS_ERRORS = "stepfleet_redis_errors_total" Count ["kind"] ByEach:
        "Calls that Redis refused or did not answer, and that a task of the process makes again";
    REDIS_OUTAGE = "stepfleet_redis_outage" Gauge ["kind"] ByEach:
        "1 while a task of the process cannot do its work because of such an error, else 0";
    REDIS_OUTAGE_TIME = "stepfleet_redis_outage_seconds" Gauge [] ByEach:
        "How long the longest current outage has lasted; 0 if there is none";

    CLAIMS = "stepfleet_claims_total" Count ["workflow", "step"] ByWorkers:
        "Attempts that a worker has begun";
    ATTEMPTS = "stepfleet_attempts_total" Count ["workflow", "step", "outcome"] ByWorkers:
        "Attempts that have ended, by outcome";
    STEP_DURATION = "stepfleet_step_duration_seconds" Times ["workflow", "step"] ByWorkers:
        "How long the code of a step ran in one attempt, without the commit";
    QUEUE_TIME = "stepfleet_step_queue_seconds" Times ["workflow", "step"] ByWorkers:
        "How long a step execution was in its queue before a worker claimed it, on the clock of Redis; a step that follows another in the same slot is in no queue";
    SLOTS = "stepfleet_slots" Gauge [] ByWorkers:
        "How many steps the worker can execute at once";
    SLOTS_BUSY = "stepfleet_slots_busy" Gauge [] ByWorkers:
        "How many of its slots execute a step, or are about to";
    LEASES_LOST = "stepfleet_leases_lost_total" Count [] ByWorkers:
        "How often the worker's lease ran out: it lost everything that it held, and registered again";
    STEPS_ROLLED_BACK = "stepfleet_steps_rolled_back_total" Count [] ByWorkers:
        "Step executions that the worker had committed and that Redis expects again, because it came back without its latest writes; the worker hands them back, and their runs continue from there";

    RUNS_STARTED = "stepfleet_runs_started_total" Count ["workflow"] ByCoordinators:
        "Runs that were created";
    RUNS_ENDED = "stepfleet_runs_ended_total" Count ["workflow", "status"] ByWhoEndsIt:
        "Runs that have ended: workers count those that their steps completed or failed, coordinators those that were cancelled, took too long or killed their workers";
    REQUESTS = "stepfleet_requests_total" Count ["outcome"] ByCoordinators:
        "Requests that were processed, by outcome; one that is held for a worker is counted again when it starts or is rejected";
    REJECTED = "stepfleet_requests_rejected_total" Count ["reason"] ByCoordinators:
        "Requests that could not be taken, by the kind of reason";
    WORKERS_LOST = "stepfleet_workers_lost_total" Count ["partition"] ByCoordinators:
        "Workers that were given up because their connection was closed or their lease ran out; one that works in several partitions is lost in each";
    REQUEUED = "stepfleet_steps_requeued_total" Count ["partition"] ByCoordinators:
        "Step executions that lost workers held, and that were queued again";
    RECOVERY = "stepfleet_recovery_seconds" Times [] ByCoordinators:
        "Time from when a worker's connection was first seen closed, or its lease ran out, until everything that it held in a partition was queued again";
    TIMERS_FIRED = "stepfleet_timers_fired_total" Count ["partition"] ByCoordinators:
        "Timers that were fired: retries, deadlines, timeouts, and the deletion of finished runs";
    TIMER_LATENESS = "stepfleet_timer_lateness_seconds" Times [] ByCoordinators:
        "How late the first timer was in each pass that fired some, on the clock of Redis";
    REPAIRS = "stepfleet_audit_repairs_total" Count ["kind"] ByCoordinators:
        "What audits found missing and repaired";

    QUEUE_DEPTH = "stepfleet_queue_depth" Gauge ["workflow", "version"] FromRedis:
        "Step executions that wait in the queue of a workflow's version";
    QUEUE_OLDEST = "stepfleet_queue_oldest_seconds" Gauge ["workflow", "version"] FromRedis:
        "How long the oldest of them has waited; 0 if there is none";
    QUEUE_WORKERS = "stepfleet_queue_workers" Gauge ["workflow", "version"] FromRedis:
        "Live workers that serve the queue";
    WORKERS = "stepfleet_workers" Gauge ["state"] FromRedis:
        "Live workers: those that hold a step execution are busy, the others idle";
    INBOX = "stepfleet_inbox_requests" Gauge [] FromRedis:
        "Requests that no coordinator has taken in yet";
    HELD = "stepfleet_held_requests" Gauge [] FromRedis:
        "Requests that wait for a worker that serves their workflow";
    RUNS_KEPT = "stepfleet_runs_kept" Gauge [] FromRedis:
        "Runs that are in Redis: live ones, and finished ones whose time is not over";
    TIMERS_PENDING = "stepfleet_timers_pending" Gauge [] FromRedis:
        "Timers that are set, also those that delete finished runs";
    TIMERS_OVERDUE = "stepfleet_timers_overdue_seconds" Gauge [] FromRedis:
        "How long the first timer has been due and not fired; 0 if none is due";
}
