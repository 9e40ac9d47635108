//! The configuration of a coordinator.

use std::time::Duration;

/// The configuration of a coordinator. The defaults suit production.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its name among the readers of the inbox; `<host>-<pid>` by default.
    pub id: String,
    /// How long a request may wait for a worker that serves its workflow before it is rejected. 60 s by default.
    pub grace: Duration,
    /// How long an idempotency key is known. A day by default.
    pub key_ttl: Duration,
    /// How old its knowledge of the fleet may be. 500 ms by default.
    pub fleet_age: Duration,
    /// The pause between two looks for workers whose lease ran out; a worker that is suspected is reaped at once. 500 ms by
    /// default.
    pub reap: Duration,
    /// The longest pause between two looks for due timers: an alarm announces a timer that is due earlier. 200 ms by
    /// default.
    pub fire: Duration,
    /// At most this many holds of a worker, or timers, are processed in one call. 500 by default.
    pub limit: usize,
    /// A step that killed its worker more often than this while it was executed alone, and no attempt ended well in between,
    /// fails its run. 3 by default: once or twice may be chance; that chance hits the same step four times, when
    /// nothing else is executed, is unlikely.
    pub max_losses: u32,
    /// How long runs that fail that way, or are cancelled, stay readable. 7 days by default.
    pub retention: Duration,
    /// The pause between two looks at the connections of the workers. 50 ms by default.
    pub liveness: Duration,
    /// How long a worker's connection must have been closed before the worker is given up. 100 ms by default.
    pub suspicion: Duration,
    /// The pause between two searches for requests that were delivered and not taken. 1 s by default.
    pub reclaim: Duration,
    /// How long a request must have been delivered and not taken before it counts as orphaned. 5 s by default.
    pub reclaim_idle: Duration,
    /// The pause between two looks at the requests that wait for a worker. 500 ms by default.
    pub deferred: Duration,
    /// The pause between two audits of all runs. 60 s by default. Within an audit, a coordinator pauses 50 times as
    /// long as each slice takes, but no longer than this.
    pub audit: Duration,
}

impl Default for Config {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            id: format!("{}-{}", gethostname::gethostname().to_string_lossy(), std::process::id()),
            grace: Duration::from_secs(60),
            key_ttl: DAY,
            fleet_age: Duration::from_millis(500),
            reap: Duration::from_millis(500),
            fire: Duration::from_millis(200),
            limit: 500,
            max_losses: 3,
            retention: 7 * DAY,
            liveness: Duration::from_millis(50),
            suspicion: Duration::from_millis(100),
            reclaim: Duration::from_secs(1),
            reclaim_idle: Duration::from_secs(5),
            deferred: Duration::from_millis(500),
            audit: Duration::from_secs(60),
        }
    }
}
