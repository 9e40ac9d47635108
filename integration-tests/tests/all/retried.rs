//! Runs that failed because of a wrong deployment, and those that people retry, each on the memory store and on a real
//! Redis, with three workers.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::found;
use stepfleet_integration_tests::redis::redis_cli;
use stepfleet_shared::history::Kind;
use stepfleet_shared::run::{Run, Status};

const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(30);

/// How often something was done, by run and name.
static DONE: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

fn count(run: &str, name: &str) -> u64 {
    let mut done = DONE.lock().unwrap();
    let count = done.entry(format!("{run} {name}")).or_default();
    *count += 1;
    *count
}

#[derive(Event, Serialize, Deserialize)]
struct Asked {
    #[serde(default)]
    customer: u64,
}

#[derive(Event, Serialize, Deserialize)]
struct Packed {
    reserved: u64,
}

#[derive(Event, Serialize, Deserialize)]
struct Answered {
    answer: Value,
}

/// The first, correct version.
struct Right;

#[workflow(start = Asked, stop = Answered, name = "orders", version = 1)]
impl Right {
    #[step]
    async fn reserve(&self, ctx: &Context, ev: Asked) -> Outcome<Packed> {
        let run = ctx.run_id().to_owned();
        let reserved = ctx.step("reserve", async || Ok(count(&run, "reserve"))).await?;
        let word: String = ctx.wait_for("approval").await?;
        if word == "refuse" && ev.customer == 0 {
            return Err(Terminal("there is no customer 0"))?;
        }
        Ok(Packed { reserved })
    }

    #[step]
    async fn ship(&self, ev: Packed) -> Outcome<Answered> {
        Ok(Answered { answer: ev.reserved.into() })
    }
}

/// The same version with other code: its body disagrees with the journal.
struct Disagrees;

#[workflow(start = Asked, stop = Answered, name = "orders", version = 1)]
impl Disagrees {
    #[step]
    async fn reserve(&self, ctx: &Context, _: Asked) -> Outcome<Packed> {
        ctx.step("book", async || Ok(())).await?;
        Ok(Packed { reserved: 0 })
    }

    #[step]
    async fn ship(&self, ev: Packed) -> Outcome<Answered> {
        Ok(Answered { answer: ev.reserved.into() })
    }
}

/// And another one: the step is gone.
struct Renamed;

#[workflow(start = Asked, stop = Answered, name = "orders", version = 1)]
impl Renamed {
    #[step]
    async fn book(&self, _: Asked) -> Outcome<Answered> {
        Ok(Answered { answer: Value::Null })
    }
}

fn right(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Right)
}

fn disagrees(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Disagrees)
}

fn renamed(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Renamed)
}

/// Ids that no two plays share.
fn id(stage: &Stage, name: &str) -> String {
    format!("{name}-{}", if stage.redis.is_some() { "redis" } else { "memory" })
}

/// A run that has reserved, and waits.
async fn waiting(stage: &Stage, id: &str) {
    stage.client.start("orders", &json!({})).id(id).enqueue().await.unwrap();
    found(async || (stage.store.waits(id).await.unwrap().len() == 1).then_some(())).await;
}

/// With a plain Redis command, if there is a Redis.
async fn retry(stage: &Stage, id: &str) {
    match &stage.redis {
        Some(redis) => {
            drop(redis_cli(&redis.url, &["XADD", "sf:{0}:inbox", "*", "op", "retry", "run", id, "request", "q"]));
        }
        None => drop(stage.client.run(id).retry().await.unwrap()),
    }
    found(async || (told(stage, id, Kind::Retried).await > 0).then_some(())).await;
}

async fn told(stage: &Stage, id: &str, kind: Kind) -> usize {
    stage.store.history(id, 0, 1000).await.unwrap().iter().filter(|record| record.kind == kind).count()
}

async fn failed(stage: &Stage, id: &str) -> Run {
    let run = stage.client.run(id).wait(LIMIT).await.unwrap();
    assert_eq!(run.status, Status::Failed, "{run:?}");
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_a_wrong_deployment_failed_goes_on_with_the_right_one() {
    Both::new(right)
        .play(async |stage| {
            for (wrong, name, error) in [
                (disagrees as fn(Worker) -> Result<Worker, WorkerError>, "disagrees", "reserve"),
                (renamed, "renamed", "has no step reserve any more"),
            ] {
                let id = id(stage, name);
                stage.stop_workers().await;
                stage.add_worker_that_serves(right);
                waiting(stage, &id).await;
                stage.stop_workers().await;
                stage.add_worker_that_serves(wrong);
                stage.client.run(&id).signal("approval", &"fine").await.unwrap();
                let run = failed(stage, &id).await;
                assert!(run.error.as_deref().is_some_and(|told| told.contains(error)), "{run:?}");
                stage.stop_workers().await;
                stage.add_worker_that_serves(right);
                retry(stage, &id).await;
                let result: Value = stage.client.run(&id).result(LIMIT).await.unwrap();
                assert_eq!(result["answer"], 1, "it was reserved once");
                assert_eq!(count(&id, "reserve"), 2, "this is the second time");
                assert_eq!((told(stage, &id, Kind::Failed).await, told(stage, &id, Kind::Completed).await), (1, 1));
            }
        })
        .await;
}

fn stepfleet(stage: &Stage, args: &[&str]) -> Option<Output> {
    let url = &stage.redis.as_ref()?.url;
    Some(Command::new(STEPFLEET).args(args).env("STEPFLEET_REDIS", url).output().expect("it starts"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn people_retry_one_run_or_all_of_a_workflow_that_failed() {
    Both::new(right)
        .play(async |stage| {
            if stage.redis.is_none() {
                return;
            }
            let ids = ["one", "two", "three"];
            for id in ids {
                waiting(stage, id).await;
                stage.client.run(id).signal("approval", &"refuse").await.unwrap();
                failed(stage, id).await;
            }
            let stepfleet = |args: &[&str]| stepfleet(stage, args).expect("there is a Redis");
            // It fails again, because it gets the same event.
            let output = stepfleet(&["retry", "one"]);
            assert!(output.status.success() && said(&output).contains("run one goes on"), "{}", said(&output));
            found(async || (told(stage, "one", Kind::Failed).await == 2).then_some(())).await;
            let output = stepfleet(&["retry", "one", "--input", r#"{"customer": 12}"#]);
            assert!(output.status.success(), "{}", said(&output));
            let result: Value = stage.client.run("one").result(LIMIT).await.unwrap();
            assert_eq!(result["answer"], 1);
            assert!(said(&stepfleet(&["follow", "one"])).contains("retried"));

            let output = stepfleet(&["retry", "one"]);
            assert!(!output.status.success(), "{}", said(&output));
            assert!(said(&output).contains("only a run that has failed can be retried"), "{}", said(&output));
            let output = stepfleet(&["retry", "nobody"]);
            assert!(!output.status.success() && said(&output).contains("there is no run nobody"), "{}", said(&output));

            let bulk = ["retry", "--workflow", "orders", "--status", "failed", "--json"];
            let output = stepfleet(&[&bulk[..], &["--limit", "1"]].concat());
            let found_first: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!((&found_first["retried"], &found_first["refused"]), (&json!(["three"]), &json!([])));
            found(async || (told(stage, "three", Kind::Failed).await == 2).then_some(())).await;
            let output = stepfleet(&bulk);
            let found_all: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(found_all["retried"], json!(["three", "two"]), "{}", said(&output));
            for (id, times) in [("two", 2), ("three", 3)] {
                found(async || (told(stage, id, Kind::Failed).await == times).then_some(())).await;
                assert_eq!(count(id, "reserve"), 2, "it was reserved once");
            }
            assert!(!stepfleet(&["retry", "--workflow", "orders"]).status.success(), "of which status");
        })
        .await;
}

/// It gives up its third call, the first time.
#[durable(retries = 0)]
async fn patient(ctx: &Context, (): ()) -> Outcome<u64> {
    let run = ctx.run_id();
    let twice = RetryPolicy::fixed(Duration::from_millis(1)).attempts(2);
    let found: Outcome<u64> = ctx
        .step("find", async || count(run, "find").checked_sub(9).ok_or(Error::msg("none")))
        .retry(twice.clone())
        .await;
    ctx.step("note", async || Ok(count(run, "note"))).await?;
    let charged =
        ctx.step("charge", async || Some(count(run, "charge")).filter(|n| *n > 2).ok_or(Error::msg("no"))).retry(twice);
    Ok(charged.await? + found.unwrap_or(100))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_failed_as_a_call_was_given_up_on_tries_that_call_again() {
    Both::new(|worker| worker.serve(patient::workflow()))
        .play(async |stage| {
            let id = id(stage, "patient");
            stage.client.start("patient", &()).id(&id).enqueue().await.unwrap();
            failed(stage, &id).await;
            let counts =
                || ["find", "note", "charge"].map(|name| *DONE.lock().unwrap().get(&format!("{id} {name}")).unwrap());
            assert_eq!(counts(), [2, 1, 2]);
            retry(stage, &id).await;
            let result: u64 = stage.client.run(&id).result(LIMIT).await.unwrap();
            assert_eq!(result, 103, "the body had gone on with the error of the first call, which it is given again");
            assert_eq!(counts(), [2, 1, 3]);
        })
        .await;
}
