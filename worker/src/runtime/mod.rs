//! The worker: claims step events, executes steps, commits what they leave behind.
//!
//! The way of a step through this folder: `claim` fills free slots and waits to be woken while nothing is to be had, `slots` keeps
//! as many steps going as the worker may execute at once, `execute` runs the step's code (`drive` notices when it
//! only waits), `commit` turns what it
//! returned into a transition. `lease` says from a thread of its own that the worker is alive; `ledger` knows what is
//! held, and `reconcile` tells a Redis that knows otherwise; `session` is one life of a worker in the fleet, from
//! registration to its last hand-back. `fitness` refuses a Redis that would lose work before any of this begins.
//! `by_hand` is a worker for the test kit, which moves only when it is told to.

mod by_hand;
mod claim;
mod commit;
mod drive;
mod execute;
mod failure;
mod fitness;
mod lease;
mod ledger;
mod nudge;
mod reconcile;
mod session;
mod slots;

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use stepfleet::names::QueueName;
use stepfleet::server::Refusal;
use stepfleet::store::WorkerStore;
use tokio_util::sync::CancellationToken;

pub(crate) use self::by_hand::ByHand;
use crate::graph::GraphError;
use crate::workflow::{Served, Workflow};

/// Partitions, with what a worker may do in them.
type Partitions = stepfleet::Partitions<dyn WorkerStore>;
type Colocated = stepfleet::partitions::Colocated<dyn WorkerStore>;
type Home = stepfleet::partitions::Home<dyn WorkerStore>;

const ALLOW_EVICTION: &str = "STEPFLEET_ALLOW_EVICTION";
const ALLOW_UNPERSISTED: &str = "STEPFLEET_ALLOW_UNPERSISTED";

/// How a worker behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the worker's id begins with: the host's name by default.
    pub name: String,
    /// How many steps it executes at once. By default four times the number of cores, for steps that mostly wait.
    pub concurrency: usize,
    /// How long the fleet believes in a worker that it hears nothing from. It is renewed three times as often.
    pub lease: Duration,
    /// How long steps may go on after the worker was told to stop, before they are handed back.
    pub drain: Duration,
    /// Start although Redis may delete runs when memory runs short (its `maxmemory-policy` is not `noeviction`).
    pub allow_eviction: bool,
    /// Start although runs are lost when Redis restarts (its append-only file is off or cannot be written).
    pub allow_unpersisted: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: host(),
            concurrency: 4 * std::thread::available_parallelism().map_or(2, usize::from),
            lease: Duration::from_secs(5),
            drain: Duration::from_secs(20),
            allow_eviction: false,
            allow_unpersisted: false,
        }
    }
}

/// Why a worker could not be set up or go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A workflow's graph has mistakes.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The store refused something that waiting does not mend.
    #[error(transparent)]
    Store(#[from] stepfleet::Error),
    /// The server would lose work, or is too old.
    #[error(transparent)]
    Unfit(#[from] Refusal),
    /// The same workflow and version was given twice.
    #[error("workflow {0} is served twice; give one of them another name or version")]
    Twice(QueueName),
    /// Nothing to serve.
    #[error("the worker serves no workflow; call serve() before run()")]
    Nothing,
    /// A setting in the environment cannot be used.
    #[error("{0}")]
    Setting(String),
    /// The process has no more threads.
    #[error("the lease thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// A worker of the fleet: serves workflows until it is told to stop.
pub struct Worker {
    home: Home,
    /// With how many partitions to make the namespace where it is new.
    partitions: Option<u16>,
    config: Config,
    served: HashMap<QueueName, Served>,
}

impl Worker {
    /// A worker set up from the environment: `STEPFLEET_REDIS` (default `redis://127.0.0.1:6379`),
    /// `STEPFLEET_NAMESPACE` (default `sf`), `STEPFLEET_CONCURRENCY`, `STEPFLEET_WORKER_NAME`, and
    /// `STEPFLEET_ALLOW_EVICTION=1` and `STEPFLEET_ALLOW_UNPERSISTED=1` for [`Config::allow_eviction`] and
    /// [`Config::allow_unpersisted`]. With `STEPFLEET_PARTITIONS` it makes the namespace with so many partitions where it is new, and
    /// refuses one that has another number of them.
    pub fn from_env() -> Result<Self, WorkerError> {
        let var = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let url = var("STEPFLEET_REDIS").unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
        let namespace = var("STEPFLEET_NAMESPACE").unwrap_or_else(|| "sf".to_owned());
        let mut config = Config::default();
        if let Some(concurrency) = var("STEPFLEET_CONCURRENCY") {
            config.concurrency = concurrency.parse().map_err(|_| {
                WorkerError::Setting(format!("STEPFLEET_CONCURRENCY is {concurrency:?}; it must be a whole number"))
            })?;
        }
        if let Some(name) = var("STEPFLEET_WORKER_NAME") {
            config.name = name;
        }
        let partitions = var("STEPFLEET_PARTITIONS").map(|count| {
            count.parse().map_err(|_| {
                WorkerError::Setting(format!("STEPFLEET_PARTITIONS is {count:?}; it must be a whole number"))
            })
        });
        config.allow_eviction = flag(ALLOW_EVICTION, var(ALLOW_EVICTION).as_deref())?;
        config.allow_unpersisted = flag(ALLOW_UNPERSISTED, var(ALLOW_UNPERSISTED).as_deref())?;
        let home = Home::at(&url, &namespace)?;
        Ok(Self { home, partitions: partitions.transpose()?, config, served: HashMap::new() })
    }

    /// A worker on this Redis, for all partitions of the namespace `sf`, with the default configuration. It waits until a coordinator
    /// has made the namespace.
    pub fn connect(url: &str) -> Result<Self, WorkerError> {
        Ok(Self { home: Home::at(url, "sf")?, partitions: None, config: Config::default(), served: HashMap::new() })
    }

    /// A worker on partitions, or on the one store of a namespace, that are there already.
    pub fn new(partitions: impl Into<stepfleet::Partitions<dyn WorkerStore>>, config: Config) -> Self {
        Self { home: Home::from(partitions.into()), partitions: None, config, served: HashMap::new() }
    }

    /// Sets how many steps it executes at once.
    #[must_use]
    pub fn concurrency(mut self, steps: usize) -> Self {
        self.config.concurrency = steps;
        self
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
    pub async fn run(self) -> Result<(), WorkerError> {
        let stop = CancellationToken::new();
        let now = CancellationToken::new();
        tokio::spawn(on_signals(stop.clone(), now.clone()));
        self.work(stop, now).await
    }

    /// Works until `shutdown` completes, then as [`Worker::run`] after a signal.
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
        stepfleet::names::check_name("worker's name", &self.config.name)?;
        self.config.concurrency = self.config.concurrency.clamp(1, 10_000);
        let Some(partitions) = stop.run_until_cancelled(self.admit().boxed()).await.transpose()? else { return Ok(()) };
        let (served, slots) = (Arc::new(self.served), Arc::new(slots::Pool::new(self.config.concurrency)));
        let (id, config, leases) = (new_id(&self.config), self.config, lease::Thread::start()?);
        let common = Arc::new(session::Common { config, served, slots, leases, stop, now });
        let lives =
            partitions.colocated().into_iter().map(|colocated| serve(colocated, id.clone(), common.clone()).boxed());
        join_all(lives).await.into_iter().collect()
    }

    /// Waits for Redis, and refuses one that would lose work. Once, and not for each life: a server that is mended while it is in
    /// use must not end its workers.
    async fn admit(&self) -> Result<Partitions, WorkerError> {
        let mut judged = BTreeSet::new();
        fitness::check(&self.home, &self.config, &mut judged).await?;
        let partitions = fitness::open(&self.home, self.partitions).await?;
        fitness::check(&Home::from(partitions.clone()), &self.config, &mut judged).await?;
        Ok(partitions)
    }
}

/// Serves partitions that share a server until told to stop. A worker whose lease ran out has lost all that it held there; it
/// begins anew, under a new id.
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

async fn on_signals(stop: CancellationToken, now: CancellationToken) {
    signal().await;
    tracing::info!("told to stop: taking no more, letting steps end (signal again to hand them back at once)");
    stop.cancel();
    signal().await;
    now.cancel();
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

#[cfg(not(unix))]
async fn signal() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

fn host() -> String {
    let named = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    let name: String =
        named.unwrap_or_default().trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    if name.is_empty() { "worker".to_owned() } else { name }
}
