//! Durable functions that wait in the memory of their worker, and continue there without a replay.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::time::Duration;

use stepfleet::Worker;
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::until;

const LIMIT: Duration = Duration::from_secs(30);

/// How often something was done, by run and name.
static DONE: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

fn count(run: &str, name: &str) -> u64 {
    let mut done = DONE.lock().unwrap();
    let count = done.entry(format!("{run} {name}")).or_default();
    *count += 1;
    *count
}

fn counted(run: &str, name: &str) -> u64 {
    DONE.lock().unwrap().get(&format!("{run} {name}")).copied().unwrap_or(0)
}

/// Adds up this many numbers that come one after the other, in recorded calls and in the state.
#[durable(timeout = "1m")]
async fn adder(ctx: &Context, numbers: u64) -> Outcome<(u64, u64)> {
    count(ctx.run_id(), "bodies");
    let mut sum = 0;
    for n in 1..=numbers {
        let number: u64 = ctx.wait_for(&format!("number-{n}")).await?;
        sum = ctx.step("add", || async { Ok(sum + number) }).await?;
        count(ctx.run_id(), "added");
        ctx.state().incr("sum", i64::try_from(number).unwrap_or_default()).await?;
    }
    Ok((sum, ctx.state().get("sum").await?.unwrap_or_default()))
}

/// Counts when it is dropped.
struct Guard(String);

impl Drop for Guard {
    fn drop(&mut self) {
        count(&self.0, "dropped");
    }
}

/// Waits, and then works for ever, with a task beside it.
#[durable]
async fn endless(ctx: &Context, (): ()) -> Outcome<()> {
    count(ctx.run_id(), "bodies");
    let _: u64 = ctx.wait_for("number-1").await?;
    let _guard = Guard(ctx.run_id().to_owned());
    let (run, cancelled) = (ctx.run_id().to_owned(), ctx.cancelled().clone());
    tokio::spawn(async move {
        cancelled.cancelled().await;
        count(&run, "told");
    });
    ctx.step("work", async || {
        count(ctx.run_id(), "works");
        std::future::pending::<Outcome<()>>().await
    })
    .await
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(adder::workflow())?.serve(endless::workflow())
}

fn serve_and_keep_one(worker: Worker) -> Result<Worker, WorkerError> {
    worker.keeps(1).serve(adder::workflow())
}

/// Ids that no two plays share.
fn id(stage: &Stage, name: &str) -> String {
    format!("{name}-{}", if stage.redis.is_some() { "redis" } else { "memory" })
}

/// Waits until the run waits for its next number, which is this, and nothing executes.
async fn waits(stage: &Stage, run: &str, number: u64) {
    let name = format!("number-{number}");
    until(async || {
        let is_idle = stage.store.workers().await.unwrap().iter().all(|worker| worker.held == 0);
        is_idle && stage.store.waits(run).await.unwrap().iter().any(|wait| wait.name == name)
    })
    .await;
}

async fn give(stage: &Stage, run: &str, numbers: RangeInclusive<u64>) {
    for number in numbers {
        waits(stage, run, number).await;
        stage.client.run(run).signal(&format!("number-{number}"), &number).await.unwrap();
    }
}

async fn result(stage: &Stage, run: &str) -> (u64, u64) {
    stage.client.run(run).result(LIMIT).await.unwrap()
}

#[tokio::test]
async fn a_function_goes_on_in_its_worker_without_a_replay() {
    Both::new(serve)
        .workers(1)
        .play(async |stage| {
            let run = id(stage, "alone");
            stage.client.start("adder", &20u64).id(&run).enqueue().await.unwrap();
            give(stage, &run, 1..=20).await;
            assert_eq!(result(stage, &run).await, (210, 210));
            assert_eq!((counted(&run, "bodies"), counted(&run, "added")), (1, 20));
        })
        .await;
}

#[tokio::test]
async fn of_several_idle_workers_the_one_that_has_the_function_in_memory_is_woken() {
    Both::new(serve)
        .play_on_redis(async |stage| {
            let runs: Vec<String> = (0..3).map(|n| format!("one-of-three-{n}")).collect();
            for run in &runs {
                stage.client.start("adder", &10u64).id(run).enqueue().await.unwrap();
                give(stage, run, 1..=10).await;
                assert_eq!(result(stage, run).await, (55, 55));
            }
            // On a busy machine another worker may come first now and then; if anyone were woken, two in three would be replays.
            let bodies: u64 = runs.iter().map(|run| counted(run, "bodies")).sum();
            assert!(bodies < 10, "{bodies} bodies for 3 runs that waited 30 times");
        })
        .await;
}

#[tokio::test]
async fn a_function_whose_worker_is_gone_is_replayed_elsewhere() {
    Both::new(serve)
        .workers(1)
        .play(async |stage| {
            let run = id(stage, "gone");
            stage.client.start("adder", &9u64).id(&run).enqueue().await.unwrap();
            for numbers in [1..=3, 4..=6, 7..=9] {
                let next = numbers.end() + 1;
                give(stage, &run, numbers).await;
                if next < 10 {
                    waits(stage, &run, next).await;
                    stage.stop_workers().await;
                    stage.add_worker();
                    stage.workers_ready(1).await;
                }
            }
            assert_eq!(result(stage, &run).await, (45, 45));
            // Each replay repeats the earlier additions.
            assert_eq!((counted(&run, "bodies"), counted(&run, "added")), (3, 9 + 3 + 6));
        })
        .await;
}

#[tokio::test]
async fn a_function_that_has_made_room_for_another_is_replayed() {
    Both::new(serve_and_keep_one)
        .workers(1)
        .play(async |stage| {
            let (old, new) = (id(stage, "old"), id(stage, "new"));
            for run in [&old, &new] {
                stage.client.start("adder", &2u64).id(run).enqueue().await.unwrap();
                waits(stage, run, 1).await;
            }
            give(stage, &old, 1..=2).await;
            assert_eq!((result(stage, &old).await, counted(&old, "bodies")), ((3, 3), 2));
            // It has made room too.
            give(stage, &new, 1..=2).await;
            assert_eq!((result(stage, &new).await, counted(&new, "bodies")), ((3, 3), 2));
        })
        .await;
}

#[tokio::test]
async fn a_function_that_goes_on_in_memory_is_dropped_when_its_run_is_cancelled() {
    Both::new(serve)
        .workers(1)
        .play(async |stage| {
            let run = id(stage, "endless");
            stage.client.start("endless", &()).id(&run).enqueue().await.unwrap();
            give(stage, &run, 1..=1).await;
            until(async || counted(&run, "works") == 1).await;
            stage.client.run(&run).cancel().await.unwrap();
            until(async || counted(&run, "dropped") == 1 && counted(&run, "told") == 1).await;
            assert_eq!(counted(&run, "bodies"), 1);
        })
        .await;
}
