//! The worker: claims step events, executes steps, commits their results.
//!
//! The way of a step through this folder: `claim` fills free slots and waits to be woken while there is no work,
//! `slots` keeps as many steps going as the worker may execute at once, `execute` runs the step's code (`drive` notices
//! when it only waits), `commit` turns its result into a transition. `lease` says from a separate thread that
//! the worker is alive; `ledger` knows what is held, and `reconcile` corrects a Redis that disagrees; `session` is one
//! life of a worker in the fleet, from registration to its last hand-back; `signals` ends it. `by_hand` is a worker for
//! the test kit, which moves only when called.

mod by_hand;
mod claim;
mod commit;
mod config;
mod drive;
mod execute;
mod failure;
mod foreign;
mod kept;
mod lease;
mod ledger;
#[cfg(feature = "logs")]
mod logs;
mod metrics;
mod nudge;
mod reconcile;
pub(crate) mod replaying;
mod session;
mod signals;
mod slots;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use stepfleet_shared::admission::{Admission, Creation, Refused};
use stepfleet_shared::durability::Durability;
use stepfleet_shared::env;
use stepfleet_shared::health::{Health, Listening, Token};
use stepfleet_shared::log;
use stepfleet_shared::metrics::{Process, Registry};
use stepfleet_shared::names::QueueName;
use stepfleet_shared::outage::Outages;
use stepfleet_shared::server::{Override, Refusal};
use stepfleet_shared::store::WorkerStore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::by_hand::ByHand;
pub use self::config::Config;
use crate::graph::GraphError;
use crate::workflow::{Served, Workflow};

/// Partitions, with what a worker may do in them.
type Partitions = stepfleet_shared::Partitions<dyn WorkerStore>;
type Colocated = stepfleet_shared::partitions::Colocated<dyn WorkerStore>;
type Home = stepfleet_shared::partitions::Home<dyn WorkerStore>;

/// How long the last hand-back may take.
const HAND_BACK: Duration = Duration::from_millis(1500);

const ALLOW_EVICTION: &str = "STEPFLEET_ALLOW_EVICTION";
const ALLOW_UNPERSISTED: &str = "STEPFLEET_ALLOW_UNPERSISTED";

/// Why a worker could not be set up or continue.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// A workflow's graph has mistakes.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The store refused something that waiting does not fix.
    #[error("{}", .0.sentence())]
    Store(#[from] stepfleet_shared::Error),
    /// The server would lose work, or is too old.
    #[error(transparent)]
    Unfit(#[from] Refusal),
    /// The same workflow and version is served twice.
    #[error("workflow {0} is served twice; give one of them another name or version")]
    Twice(QueueName),
    /// The worker serves no workflow.
    #[error("the worker serves no workflow; call serve() before run()")]
    Nothing,
    /// A setting in the environment cannot be used.
    #[error("{0}")]
    Setting(String),
    /// The process has no more threads.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// The sentence: it is what `main` prints when it returns the error.
impl fmt::Debug for WorkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A worker of the fleet: serves workflows until it is told to stop.
pub struct Worker {
    home: Home,
    /// With how many partitions to create the namespace if it is new.
    partitions: Option<u16>,
    config: Config,
    metrics_token: Option<Token>,
    served: HashMap<QueueName, Served>,
}

impl Worker {
    /// A worker set up from the environment: `STEPFLEET_REDIS`, or the file of
    /// `STEPFLEET_REDIS_FILE` (default `redis://127.0.0.1:6390`, the Redis of `stepfleet dev`), `STEPFLEET_NAMESPACE` (default `sf`), `STEPFLEET_CONCURRENCY`, `STEPFLEET_KEEPS`,
    /// `STEPFLEET_WORKER_NAME`, `STEPFLEET_DRAIN_SECONDS`, `STEPFLEET_ALLOW_EVICTION=1` and
    /// `STEPFLEET_ALLOW_UNPERSISTED=1` for [`Config::allow_eviction`] and [`Config::allow_unpersisted`],
    /// `STEPFLEET_HEALTH` (`127.0.0.1:9000`) for [`Config::health`], and `STEPFLEET_METRICS_TOKEN` or
    /// `STEPFLEET_METRICS_TOKEN_FILE` for [`Worker::metrics_token`]. With `STEPFLEET_PARTITIONS` it makes the namespace
    /// with this many partitions if it is new, and refuses one that has another number of them.
    pub fn from_env() -> Result<Self, WorkerError> {
        let (url, namespace) = (env::redis()?, env::namespace());
        let mut config = Config::default();
        if let Some(steps) = whole("STEPFLEET_CONCURRENCY")? {
            config.concurrency = steps;
        }
        if let Some(functions) = whole("STEPFLEET_KEEPS")? {
            config.keeps = functions;
        }
        if let Some(seconds) = whole("STEPFLEET_DRAIN_SECONDS")? {
            config.drain = Duration::from_secs(seconds);
        }
        if let Some(name) = var("STEPFLEET_WORKER_NAME") {
            config.name = name;
        }
        if let Some(address) = var("STEPFLEET_HEALTH") {
            config.health = Some(address.parse().map_err(|_| {
                WorkerError::Setting(format!(
                    "STEPFLEET_HEALTH is {address:?}; it must be an address with a port: 127.0.0.1:9000"
                ))
            })?);
        }
        let partitions = whole("STEPFLEET_PARTITIONS")?;
        config.allow_eviction = flag(ALLOW_EVICTION, var(ALLOW_EVICTION).as_deref())?;
        config.allow_unpersisted = flag(ALLOW_UNPERSISTED, var(ALLOW_UNPERSISTED).as_deref())?;
        let home = Home::at(&url, &namespace)?;
        let metrics_token = Token::from_env()?;
        Ok(Self { home, partitions, config, metrics_token, served: HashMap::new() })
    }

    /// A worker on this Redis, for all partitions of the namespace `sf`, with the default configuration. It waits until a coordinator
    /// has created the namespace.
    pub fn connect(url: &str) -> Result<Self, WorkerError> {
        Ok(Self::with(Home::at(url, "sf")?, Config::default()))
    }

    /// A worker on existing partitions, or on the one store of a namespace.
    #[doc(hidden)]
    pub fn new(partitions: impl Into<stepfleet_shared::Partitions<dyn WorkerStore>>, config: Config) -> Self {
        Self::with(Home::from(partitions.into()), config)
    }

    fn with(home: Home, config: Config) -> Self {
        Self { home, partitions: None, config, metrics_token: None, served: HashMap::new() }
    }

    /// Sets how many steps it executes at once.
    #[must_use]
    pub fn concurrency(mut self, steps: usize) -> Self {
        self.config.concurrency = steps;
        self
    }

    /// Sets how many durable functions that wait it keeps in memory: see [`Config::keeps`].
    #[must_use]
    pub fn keeps(mut self, functions: usize) -> Self {
        self.config.keeps = functions;
        self
    }

    /// Sets how long steps may go on after the worker was told to stop, before they are handed back.
    #[must_use]
    pub fn drain(mut self, limit: Duration) -> Self {
        self.config.drain = limit;
        self
    }

    /// Answers `/livez`, `/readyz` and `/metrics` over HTTP at this address: see [`Config::health`].
    #[must_use]
    pub fn health(mut self, address: SocketAddr) -> Self {
        self.config.health = Some(address);
        self
    }

    /// Asks for this token (`Authorization: Bearer <token>`) before it shows `/metrics`, or why it is not ready.
    ///
    /// Fails if it is empty, or not a single word of ASCII characters.
    pub fn metrics_token(mut self, token: &str) -> Result<Self, WorkerError> {
        self.metrics_token = Some(Token::new(token)?);
        Ok(self)
    }

    /// Starts although Redis may delete runs when memory runs short.
    #[must_use]
    pub fn allow_eviction(mut self) -> Self {
        self.config.allow_eviction = true;
        self
    }

    /// Starts although runs are lost when Redis restarts.
    #[must_use]
    pub fn allow_unpersisted(mut self) -> Self {
        self.config.allow_unpersisted = true;
        self
    }

    /// Serves a workflow. Fails when the workflow's graph cannot work.
    pub fn serve<W: Workflow>(mut self, workflow: W) -> Result<Self, WorkerError> {
        let served = Served::new(workflow)?;
        let queue = QueueName::new(&served.registration.workflow, served.registration.version);
        if self.served.insert(queue.clone(), served).is_some() {
            return Err(WorkerError::Twice(queue));
        }
        Ok(self)
    }

    /// Works until the process gets SIGTERM or SIGINT; then takes no more, lets steps end for [`Config::drain`], hands
    /// back the rest, and returns. A second signal hands back at once.
    ///
    /// Two seconds after the end of the drain, or after a second signal, the process exits, whatever hangs: a Redis
    /// that does not answer, code that blocks its thread, code of `main` after this call. Others take over what could
    /// not be handed back when the lease runs out.
    ///
    /// Logs to standard error, one line each: that it is ready, outages, failing steps, its end. `STEPFLEET_LOG` sets
    /// how much (`warn`, `off`, `info,my_crate=debug`; by default what `RUST_LOG` says, or `info`),
    /// `STEPFLEET_LOG_FORMAT=json` the format. If the process already has a `tracing` subscriber, that one gets all of
    /// it, and nothing is written here; nor is it without the feature `logs`.
    pub async fn run(self) -> Result<(), WorkerError> {
        #[cfg(feature = "logs")]
        logs::listen_if_nobody_does()?;
        let stop = CancellationToken::new();
        let now = CancellationToken::new();
        let _listening = signals::listen(stop.clone(), now.clone(), self.config.drain)?;
        self.work(stop, now).await?;
        log::info!("stopped");
        Ok(())
    }

    /// Works until `shutdown` completes, then stops like [`Worker::run`] after a signal. It leaves the process to the
    /// caller: it listens to no signals, and log lines go to the current `tracing` subscriber.
    pub async fn run_until(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), WorkerError> {
        let stop = CancellationToken::new();
        tokio::spawn({
            let stop = stop.clone();
            async move {
                shutdown.await;
                stop.cancel();
            }
        });
        self.work(stop, CancellationToken::new()).await
    }

    async fn work(mut self, stop: CancellationToken, now: CancellationToken) -> Result<(), WorkerError> {
        if self.served.is_empty() {
            return Err(WorkerError::Nothing);
        }
        stepfleet_shared::names::check_name("worker's name", &self.config.name)?;
        self.config.concurrency = self.config.concurrency.clamp(1, 10_000);
        let outages = Outages::default();
        let mut health = Health::new(&outages);
        let registry = self.config.health.map(|_| Registry::new(Process::Worker, &outages));
        if let Some(registry) = &registry {
            health = health.with_metrics(registry, self.metrics_token.take());
        }
        let (_alive, _listening) = (health.alive(), listen(&health, self.config.health)?);
        let admitted = self.admit(&outages).boxed();
        let Some(partitions) = stop.run_until_cancelled(admitted).await.transpose()? else { return Ok(()) };
        self.check_durability(&partitions).await?;
        health.at_work(&partitions);
        let told = stop.clone();
        let _telling = AbortOnDropHandle::new(tokio::spawn(async move {
            told.cancelled().await;
            health.stopping();
        }));
        let (served, slots) = (Arc::new(self.served), Arc::new(slots::Pool::new(self.config.concurrency)));
        let metrics = registry.map(|registry| Arc::new(metrics::Metrics::new(&registry, &served, &slots)));
        let (id, config, leases) = (new_id(&self.config), self.config, lease::Thread::start()?);
        let all = partitions.clone();
        let colocated = partitions.colocated();
        let address = self.home.address().map(str::to_owned);
        let arrivals = session::Arrivals::of(colocated.len(), address);
        let common =
            session::Common { config, partitions: all, served, slots, leases, outages, metrics, arrivals, stop, now };
        let common = Arc::new(common);
        let lives = colocated.into_iter().map(|colocated| serve(colocated, id.clone(), common.clone()).boxed());
        join_all(lives).await.into_iter().collect()
    }

    /// A server that cannot confirm what a workflow asks for would fail each of its runs. How many replicas there are may change.
    async fn check_durability(&self, partitions: &Partitions) -> Result<(), WorkerError> {
        for served in self.served.values().filter(|served| served.registration.durability.waits()) {
            let durability = served.registration.durability;
            for store in partitions.all() {
                // What cannot be asked now is found out when a run needs it.
                let lack = store.server().await.ok().flatten().and_then(|info| info.lacks(durability));
                let Some(lack) = lack else { continue };
                let told =
                    format!("workflow {} asks for durability {durability}, but {lack}", served.registration.workflow);
                match durability {
                    Durability::Replicas(_) => {
                        log::warn!("{told}; until that changes, its runs wait and new ones are rejected");
                    }
                    _ => return Err(WorkerError::Setting(told)),
                }
            }
        }
        Ok(())
    }

    /// Waits for Redis, and refuses one that would lose work. Once, not in each life: a server that is repaired while
    /// it is in use must not end its workers.
    async fn admit(&self, outages: &Outages) -> Result<Partitions, WorkerError> {
        let admission = Admission {
            eviction: Override {
                how: "set STEPFLEET_ALLOW_EVICTION=1 (in code: Worker::allow_eviction)",
                given: self.config.allow_eviction,
            },
            unpersisted: Override {
                how: "set STEPFLEET_ALLOW_UNPERSISTED=1 (in code: Worker::allow_unpersisted)",
                given: self.config.allow_unpersisted,
            },
            // A worker that comes first and creates another number of partitions would keep the coordinators out.
            creation: self.partitions.map_or(Creation::Wait, |count| Creation::Make(Some(count))),
        };
        admission.open(&self.home, outages).await.map_err(|refused| match refused {
            Refused::Store(error) => error.into(),
            Refused::Unfit(refusal) => refusal.into(),
        })
    }
}

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A setting that is a whole number.
fn whole<T: std::str::FromStr>(name: &str) -> Result<Option<T>, WorkerError> {
    let Some(text) = var(name) else { return Ok(None) };
    let wrong = |_| WorkerError::Setting(format!("{name} is {text:?}; it must be a whole number"));
    text.parse().map(Some).map_err(wrong)
}

fn listen(health: &Health, address: Option<SocketAddr>) -> Result<Option<Listening>, WorkerError> {
    let Some(address) = address else { return Ok(None) };
    let failed = |error| {
        WorkerError::Setting(format!(
            "the health endpoints cannot listen on {address} ({error}); give another address with STEPFLEET_HEALTH"
        ))
    };
    health.listen(address).map(Some).map_err(failed)
}

/// Serves partitions that share a server until told to stop. A worker whose lease ran out has lost all that it held there; it
/// registers again, under a new id.
async fn serve(colocated: Colocated, mut id: String, common: Arc<session::Common>) -> Result<(), WorkerError> {
    while !common.stop.is_cancelled() {
        // One partition that refuses the worker ends it: the others let their steps end.
        session::live(&colocated, &id, &common).await.inspect_err(|_| common.stop.cancel())?;
        id = new_id(&common.config);
    }
    Ok(())
}

fn new_id(config: &Config) -> String {
    format!("{}-{:08x}", config.name, rand::random::<u32>())
}

fn flag(name: &str, value: Option<&str>) -> Result<bool, WorkerError> {
    match value {
        None | Some("0" | "false") => Ok(false),
        Some("1" | "true") => Ok(true),
        Some(other) => Err(WorkerError::Setting(format!("{name} is {other:?}; it must be 1 or 0"))),
    }
}

fn host() -> String {
    let named = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    let name: String =
        named.unwrap_or_default().trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    if name.is_empty() { "worker".to_owned() } else { name }
}
