//! One scenario on both stores: in memory, and on a real Redis, each with a coordinator and three workers or more that
//! share nothing but the store.

use std::sync::Arc;
use std::time::Duration;

use stepfleet::Worker;
use stepfleet::runtime::{self, WorkerError};
use stepfleet_coordinator::{Config, Coordinator};
use stepfleet_shared::names::Namespace;
use stepfleet_shared::store::{MemoryStore, RedisStore, Store, WorkerStore};
use stepfleet_shared::{Client, Partitions};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::redis::TestRedis;
use crate::seen;

/// What plays a scenario.
pub struct Both {
    serve: fn(Worker) -> Result<Worker, WorkerError>,
    workers: usize,
    concurrency: usize,
}

/// One fleet, on one of the stores.
pub struct Stage {
    /// A caller.
    pub client: Client,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The Redis; none on the memory store.
    pub redis: Option<TestRedis>,
    /// The memory store; none on Redis.
    pub memory: Option<MemoryStore>,
    serve: fn(Worker) -> Result<Worker, WorkerError>,
    concurrency: usize,
    workers: Vec<Member>,
    _coordinator: AbortOnDropHandle<()>,
}

struct Member {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Both {
    /// Three workers that serve this, four steps at a time each.
    pub fn new(serve: fn(Worker) -> Result<Worker, WorkerError>) -> Self {
        Self { serve, workers: 3, concurrency: 4 }
    }

    /// This many workers.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// This many steps at a time for each.
    #[must_use]
    pub fn concurrency(mut self, steps: usize) -> Self {
        self.concurrency = steps;
        self
    }

    /// Plays the scenario on the memory store and then on Redis.
    pub async fn play(self, scenario: impl AsyncFn(&mut Stage)) {
        for redis in [None, Some(TestRedis::start().await)] {
            self.play_once(redis, &scenario).await;
        }
    }

    /// Plays a scenario that the memory store does not support.
    pub async fn play_on_redis(self, scenario: impl AsyncFn(&mut Stage)) {
        self.play_once(Some(TestRedis::start().await), &scenario).await;
    }

    async fn play_once(&self, redis: Option<TestRedis>, scenario: &impl AsyncFn(&mut Stage)) {
        let name = if redis.is_some() { "Redis" } else { "the memory store" };
        eprintln!("--- on {name}");
        let mut stage = Stage::set(self, redis).await;
        scenario(&mut stage).await;
        stage.close().await;
    }
}

impl Stage {
    async fn set(both: &Both, redis: Option<TestRedis>) -> Self {
        let memory = redis.is_none().then(|| MemoryStore::new(Namespace::default()));
        let store = connect(redis.as_ref(), memory.as_ref());
        let coordinator = Coordinator::new(connect(redis.as_ref(), memory.as_ref()), Config::default());
        let task = tokio::spawn(async move {
            coordinator.run(std::future::pending()).await;
        });
        let mut stage = Self {
            client: Client::with_store(store.clone()),
            store,
            redis,
            memory,
            serve: both.serve,
            concurrency: both.concurrency,
            workers: Vec::new(),
            _coordinator: AbortOnDropHandle::new(task),
        };
        for _ in 0..both.workers {
            stage.add_worker();
        }
        stage.workers_ready(both.workers).await;
        stage
    }

    /// A store with separate connections.
    pub fn another_store(&self) -> Arc<dyn Store> {
        connect(self.redis.as_ref(), self.memory.as_ref())
    }

    /// One more worker.
    pub fn add_worker(&mut self) {
        self.add_worker_that_serves(self.serve);
    }

    /// One more worker, which serves these workflows.
    pub fn add_worker_that_serves(&mut self, serve: fn(Worker) -> Result<Worker, WorkerError>) {
        let config = self.config();
        let worker = serve(Worker::new(self.another_store(), config)).expect("its workflows can work");
        self.set_to_work(worker);
    }

    /// One more worker, with this instead of a store, and this lease.
    pub fn add_worker_on(&mut self, store: Arc<dyn WorkerStore>, lease: Duration) {
        let config = self.config().lease(lease);
        let worker = Worker::new(Partitions::of_stores(vec![store]), config);
        self.set_to_work((self.serve)(worker).expect("its workflows can work"));
    }

    fn config(&self) -> runtime::Config {
        let name = format!("worker-{}", self.workers.len() + 1);
        runtime::Config::default().name(name).concurrency(self.concurrency)
    }

    fn set_to_work(&mut self, worker: Worker) {
        let stop = CancellationToken::new();
        let told = stop.clone().cancelled_owned();
        let task =
            tokio::spawn(async move { worker.run_until(told).await.expect("it works until it is told to stop") });
        self.workers.push(Member { stop, task });
    }

    /// Tells all workers to stop, and waits until they have.
    pub async fn stop_workers(&mut self) {
        for worker in &self.workers {
            worker.stop.cancel();
        }
        for worker in self.workers.drain(..) {
            worker.task.await.expect("it stops in good order");
        }
    }

    /// Waits until this many workers are registered.
    ///
    /// # Panics
    /// If they are not ready within two minutes.
    pub async fn workers_ready(&self, count: usize) {
        let workers = async || self.store.workers().await.expect("the store answers");
        seen(workers, |workers| workers.len() == count).await;
    }

    /// The reasons of rejected requests, once there are this many.
    ///
    /// # Panics
    /// If there are fewer after two minutes.
    pub async fn reasons(&self, count: usize) -> Vec<String> {
        seen(async || self.rejected().await, |reasons| reasons.len() >= count).await
    }

    async fn rejected(&self) -> Vec<String> {
        if let Some(memory) = &self.memory {
            let reason = |fields: Vec<(Vec<u8>, Vec<u8>)>| String::from_utf8_lossy(&fields[0].1).into_owned();
            return memory.rejected().into_iter().map(reason).collect();
        }
        let Some(redis) = &self.redis else { return Vec::new() };
        let mut connection = redis.connection().await;
        let mut range = redis::cmd("XRANGE");
        range.arg("sf:{0}:rejected").arg("-").arg("+");
        let reply: redis::streams::StreamRangeReply = range.query_async(&mut connection).await.expect("the stream");
        reply.ids.iter().filter_map(|entry| entry.get("reason")).collect()
    }

    async fn close(mut self) {
        self.stop_workers().await;
        if let Some(memory) = &self.memory {
            assert_eq!(memory.breaches(), Vec::<String>::new());
        }
    }
}

fn connect(redis: Option<&TestRedis>, memory: Option<&MemoryStore>) -> Arc<dyn Store> {
    match (redis, memory) {
        (Some(redis), _) => Arc::new(RedisStore::new(&redis.url, Namespace::default()).expect("the test's own URL")),
        (None, Some(memory)) => Arc::new(memory.clone()),
        (None, None) => unreachable!("a stage has a store"),
    }
}
