//! The configuration of a worker.

use std::net::SocketAddr;
use std::time::Duration;

use super::host;

/// The configuration of a worker. Start from the default and set fields, or chain methods:
///
/// ```
/// # use stepfleet::Config;
/// # use std::time::Duration;
/// let config = Config::default().concurrency(64).drain(Duration::from_secs(60));
/// assert_eq!(config.lease, Duration::from_secs(5));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What the worker's id begins with: the host's name by default.
    pub name: String,
    /// How many steps it executes at once. By default four times the number of cores, for steps that mostly wait.
    pub concurrency: usize,
    /// How many waiting durable functions it keeps in memory, for each partition. They go on without a replay. By default
    /// 1,000; with 0, each one is replayed.
    pub keeps: usize,
    /// The worker's lease: how long a silent worker keeps its steps. It is renewed three times in that time.
    pub lease: Duration,
    /// How long steps may go on after the worker was told to stop, before they are handed back.
    pub drain: Duration,
    /// Start although Redis may delete runs when memory runs short (its `maxmemory-policy` is not `noeviction`).
    pub allow_eviction: bool,
    /// Start although runs are lost when Redis restarts (its append-only file is off or cannot be written).
    pub allow_unpersisted: bool,
    /// The address at which to answer `/livez`, `/readyz` and `/metrics` over HTTP. None, the default: do not answer.
    /// Do not use an address that the internet can reach: there is no authentication, unless
    /// [`Worker::metrics_token`](crate::Worker::metrics_token) asks for a token.
    pub health: Option<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: host(),
            concurrency: 4 * std::thread::available_parallelism().map_or(2, usize::from),
            keeps: 1000,
            lease: Duration::from_secs(5),
            drain: Duration::from_secs(20),
            allow_eviction: false,
            allow_unpersisted: false,
            health: None,
        }
    }
}

impl Config {
    /// Sets [`Config::name`](#structfield.name).
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets [`Config::concurrency`](#structfield.concurrency).
    #[must_use]
    pub fn concurrency(mut self, steps: usize) -> Self {
        self.concurrency = steps;
        self
    }

    /// Sets [`Config::keeps`](#structfield.keeps).
    #[must_use]
    pub fn keeps(mut self, functions: usize) -> Self {
        self.keeps = functions;
        self
    }

    /// Sets [`Config::lease`](#structfield.lease).
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets [`Config::drain`](#structfield.drain).
    #[must_use]
    pub fn drain(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }
}
