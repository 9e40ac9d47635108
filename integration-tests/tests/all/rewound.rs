//! A Redis that comes back without what an attempt has saved and while the attempt goes on: it commits nothing on top of that.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use stepfleet::Worker;
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::fleet::Fleet;
use stepfleet_integration_tests::redis::TestRedis;
use tokio::sync::Semaphore;

const LIMIT: Duration = Duration::from_secs(60);

/// A place where a body waits for the test.
struct Gate {
    arrived: Semaphore,
    opened: Semaphore,
}

impl Gate {
    fn closed() -> Self {
        Self { arrived: Semaphore::new(0), opened: Semaphore::new(0) }
    }

    async fn pass(&self) {
        self.arrived.add_permits(1);
        self.opened.acquire().await.expect("it stays").forget();
    }

    async fn arrival(&self) {
        self.arrived.acquire().await.expect("it stays").forget();
    }

    /// For all who come.
    fn open(&self) {
        self.opened.add_permits(100);
    }
}

/// Before a body saves anything, and after it.
#[derive(Clone)]
struct Gates(Arc<[Gate; 2]>);

impl Gates {
    fn new() -> Self {
        Self(Arc::new([Gate::closed(), Gate::closed()]))
    }
}

#[derive(Event, Clone, Serialize, Deserialize)]
struct Asked(u32);
/// By which attempt, and what was saved.
#[derive(Event, Debug, PartialEq, Serialize, Deserialize)]
struct Told(u32, Vec<u32>);
#[derive(Event, Serialize, Deserialize)]
struct Noted(u32);

/// Saves a note with a checkpoint, and ends.
struct Notes(Gates);

#[workflow(start = Asked, stop = Told)]
impl Notes {
    #[step]
    async fn note(&self, ctx: &Context, ev: Asked) -> Outcome<Noted> {
        let [before, after] = &*self.0.0;
        before.pass().await;
        ctx.state().push("notes", &ev.0).await?;
        ctx.checkpoint().await?;
        after.pass().await;
        Ok(Noted(ctx.attempt()))
    }

    #[step]
    async fn tell(&self, ctx: &Context, ev: Noted) -> Outcome<Told> {
        Ok(Told(ev.0, ctx.state().get("notes").await?.unwrap_or_default()))
    }
}

/// Its two branches put a number into a buffer for two, the second one later.
struct Pairs(Gates);

#[derive(Event, Clone, Serialize, Deserialize)]
struct Number(u32);

#[workflow(start = Asked, stop = Told)]
impl Pairs {
    #[step(sends = [Number])]
    async fn deal(&self, ctx: &Context, ev: Asked) -> Outcome<()> {
        ctx.send(&Number(ev.0))?;
        ctx.send(&Number(ev.0 + 1))
    }

    #[step(concurrency = 1)]
    async fn pair(&self, ctx: &Context, ev: Number) -> Outcome<Option<Told>> {
        let [before, after] = &*self.0.0;
        before.pass().await;
        let pair = ctx.collect("pair", 2, &ev).await?;
        after.pass().await;
        Ok(pair.map(|pair| Told(ctx.attempt(), pair.iter().map(|number| number.0).collect())))
    }
}

/// Sets Redis back to the moment before the body saved something, and lets the body end.
async fn rewound<T: DeserializeOwned>(
    workflow: &str,
    serve: impl FnOnce(Worker, Gates) -> Result<Worker, WorkerError>,
) -> T {
    let mut fleet = Fleet::on(TestRedis::process().await);
    let coordinator = fleet.coordinator();
    let gates = Gates::new();
    let worker = serve(Worker::connect(&fleet.redis.url).unwrap(), gates.clone()).unwrap();
    let worker = tokio::spawn(worker.run_until(std::future::pending()));
    let [before, after] = &*gates.0;
    let run = fleet.client.start(workflow, &Asked(7)).enqueue().await.unwrap();
    before.arrival().await;
    let files = fleet.redis.copy_answered_files().await;
    before.open();
    after.arrival().await;
    // It would take the worker for lost.
    drop(coordinator);
    fleet.redis.kill();
    fleet.redis.start_again_from(files).await;
    after.open();
    let told = run.result(LIMIT).await.unwrap();
    worker.abort();
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_checkpoint_redis_has_forgotten_runs_again() {
    let told: Told = rewound("notes", |worker, gates| worker.serve(Notes(gates))).await;
    assert_eq!(told, Told(2, vec![7]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_redis_has_forgotten_is_put_into_its_buffer_again() {
    let told: Told = rewound("pairs", |worker, gates| worker.serve(Pairs(gates))).await;
    assert_eq!(told, Told(1, vec![7, 8]));
}
