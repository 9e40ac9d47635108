//! Runs that people pause and resume, each on the memory store and on a real Redis, with three workers.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::found;
use stepfleet_integration_tests::redis::redis_cli;
use stepfleet_shared::run::Status;
use tokio::sync::Semaphore;

const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(30);

/// A worker that executes `pack` says so, and waits until it may end.
static BEGUN: Semaphore = Semaphore::const_new(0);
static MAY_END: Semaphore = Semaphore::const_new(0);

#[derive(Event, Serialize, Deserialize)]
struct Asked {}

#[derive(Event, Serialize, Deserialize)]
struct Packed {
    boxes: u64,
}

#[derive(Event, Serialize, Deserialize)]
struct Shipped {
    boxes: u64,
}

struct Orders;

#[workflow(start = Asked, stop = Shipped, name = "orders")]
impl Orders {
    #[step]
    async fn pack(&self, _: Asked) -> Outcome<Packed> {
        BEGUN.add_permits(1);
        MAY_END.acquire().await.expect("it is not closed").forget();
        Ok(Packed { boxes: 3 })
    }

    #[step]
    async fn ship(&self, ctx: &Context, ev: Packed) -> Outcome<Shipped> {
        let more: u64 = ctx.wait_for("more").await?;
        Ok(Shipped { boxes: ev.boxes + more })
    }
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Orders)
}

async fn status(stage: &Stage, id: &str) -> Option<Status> {
    stage.client.run(id).status().await.unwrap().map(|run| run.status)
}

/// With a plain Redis command, if there is a Redis.
async fn ask(stage: &Stage, operation: &str, id: &str) {
    match &stage.redis {
        Some(redis) => drop(redis_cli(&redis.url, &["XADD", "sf:{0}:inbox", "*", "op", operation, "run", id])),
        None if operation == "pause" => drop(stage.client.run(id).pause().await.unwrap()),
        None => drop(stage.client.run(id).resume().await.unwrap()),
    }
}

async fn begun(stage: &Stage, id: &str) {
    stage.client.start("orders", &json!({})).id(id).enqueue().await.unwrap();
    BEGUN.acquire().await.unwrap().forget();
}

async fn stands(stage: &Stage, id: &str, expected: Status) {
    found(async || (status(stage, id).await == Some(expected)).then_some(())).await;
}

/// Waits until this many step executions of the run have committed.
async fn done(stage: &Stage, id: &str, count: usize) {
    let is_done = |record: &stepfleet_shared::history::Record| record.kind == stepfleet_shared::history::Kind::Done;
    found(async || {
        let history = stage.store.history(id, 0, 100).await.unwrap();
        (history.iter().filter(|record| is_done(record)).count() == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_begins_in_a_fleet_while_a_run_is_paused() {
    Both::new(serve)
        .play(async |stage| {
            begun(stage, "r").await;
            ask(stage, "pause", "r").await;
            stands(stage, "r", Status::Paused).await;
            MAY_END.add_permits(1);
            done(stage, "r", 1).await;
            // Others are not held up, and come after it in the queue.
            begun(stage, "other").await;
            MAY_END.add_permits(1);
            let other = stage.client.run("other");
            other.signal("more", &4).await.unwrap().taken(LIMIT).await.unwrap();
            assert_eq!(other.result::<Value>(LIMIT).await.unwrap(), json!({"boxes": 7}));
            let run = stage.client.run("r");
            run.signal("more", &5).await.unwrap().taken(LIMIT).await.unwrap();
            assert!(stage.store.waits("r").await.unwrap().is_empty(), "nothing waits, as nothing has begun");
            let error = run.wait(Duration::ZERO).await.unwrap_err().to_string();
            assert!(error.contains("it waits for somebody to resume it"), "{error}");
            ask(stage, "resume", "r").await;
            assert_eq!(run.result::<Value>(LIMIT).await.unwrap(), json!({"boxes": 8}));
        })
        .await;
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn stepfleet(url: &str, args: &[&str]) -> Output {
    Command::new(STEPFLEET).args(args).env("STEPFLEET_REDIS", url).output().expect("it starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn people_pause_and_resume_one_run_or_all_of_a_workflow() {
    // Nothing is executed: this test is about the requests.
    let coordinator = Both::new(serve).workers(0);
    coordinator
        .play(async |stage| {
            let Some(redis) = &stage.redis else { return };
            let stepfleet = |args: &[&str]| stepfleet(&redis.url, args);
            for id in ["one", "two", "three"] {
                stage.client.start("orders", &json!({})).id(id).enqueue().await.unwrap();
            }
            found(async || (stage.store.deferred().await.unwrap().len() == 3).then_some(())).await;
            let output = stepfleet(&["pause", "one"]);
            assert!(output.status.success() && said(&output).contains("run one is paused"), "{}", said(&output));
            let output = stepfleet(&["pause", "nobody"]);
            assert!(!output.status.success() && said(&output).contains("there is no run nobody"), "{}", said(&output));
            register(stage).await;
            stands(stage, "one", Status::Paused).await;
            for id in ["two", "three"] {
                stands(stage, id, Status::Queued).await;
            }
            let output = stepfleet(&["pause", "--workflow", "orders", "--status", "running"]);
            assert!(said(&output).contains("0 of 0 runs were paused"), "{}", said(&output));
            let output = stepfleet(&["pause", "--workflow", "orders", "--json"]);
            let paused: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(paused["paused"].as_array().map(Vec::len), Some(2), "{paused}");
            assert_eq!(status(stage, "two").await, Some(Status::Paused));
            assert!(said(&stepfleet(&["show", "two"])).contains("stepfleet resume two"));
            assert_eq!(said(&stepfleet(&["runs", "--status", "paused"])).matches("orders").count(), 3);
            let output = stepfleet(&["resume", "two"]);
            assert!(output.status.success() && said(&output).contains("run two goes on"), "{}", said(&output));
            let output = stepfleet(&["resume", "--workflow", "orders"]);
            assert!(said(&output).contains("2 of 2 runs were resumed"), "{}", said(&output));
            for id in ["one", "two", "three"] {
                assert_eq!(status(stage, id).await, Some(Status::Queued));
            }
            stage.client.run("one").cancel().await.unwrap();
            stands(stage, "one", Status::Cancelled).await;
            let output = stepfleet(&["pause", "one"]);
            assert!(!output.status.success() && said(&output).contains("run one has ended"), "{}", said(&output));
            let output = stepfleet(&["resume", "one"]);
            assert!(!output.status.success() && said(&output).contains("run one has ended"), "{}", said(&output));
        })
        .await;
}

/// A worker serves the workflow and does nothing.
async fn register(stage: &Stage) {
    use stepfleet_shared::step::Route;
    use stepfleet_shared::store::{Introduction, Registration};
    let first = Route { step: "pack".into(), event: "Asked".into(), ..Route::default() };
    let served = Registration { workflow: "orders".into(), version: 1, start: vec![first], ..Registration::default() };
    let idler = Introduction { id: "idler".into(), serves: vec![served], ..Introduction::default() };
    stage.store.register(&idler, Duration::from_secs(3600)).await.unwrap();
}
