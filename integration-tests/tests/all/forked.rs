//! Runs that people fork, each on the memory store and on a real Redis, with three workers.

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
use stepfleet_shared::run::Status;

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

fn done(run: &str, name: &str) -> u64 {
    DONE.lock().unwrap().get(&format!("{run} {name}")).copied().unwrap_or(0)
}

/// Reserves and quotes beside each other (calls 1 and 2), waits for a word or too long (3 and 4), ships (5).
#[durable]
async fn order(ctx: &Context, items: u64) -> Outcome<Value> {
    let run = ctx.run_id().to_owned();
    ctx.state().incr("begun", 1).await?;
    let reserve = ctx.step("reserve", async || Ok(count(&run, "reserve") + items));
    let quote = ctx.step("quote", async || Ok(count(&run, "quote")));
    let (reserved, quoted) = ctx.join((reserve, quote)).await?;
    let word = ctx.wait_for("word").timeout(Duration::from_secs(3600)).await;
    let word: String = word?;
    if word == "refuse" {
        return Err(Terminal("it was refused"))?;
    }
    let shipped = ctx.step("ship", async || Ok(count(&run, "ship"))).await?;
    Ok(json!({ "reserved": reserved, "quoted": quoted, "word": word, "shipped": shipped }))
}

#[derive(Event, Serialize, Deserialize)]
struct Asked {}

#[derive(Event, Serialize, Deserialize)]
struct Packed {
    boxes: u64,
}

#[derive(Event, Serialize, Deserialize)]
struct Shipped {
    boxes: u64,
    weight: u64,
}

struct Parcels;

#[workflow(start = Asked, stop = Shipped, name = "parcels")]
impl Parcels {
    #[step]
    async fn pack(&self, ctx: &Context, _: Asked) -> Outcome<Packed> {
        count(ctx.run_id(), "pack");
        ctx.state().set("weight", &7).await?;
        Ok(Packed { boxes: 0 })
    }

    #[step]
    async fn ship(&self, ctx: &Context, ev: Packed) -> Outcome<Shipped> {
        if ev.boxes == 0 {
            return Err(Terminal("there is nothing to ship"))?;
        }
        let weight = ctx.state().get("weight").await?.unwrap_or(0);
        Ok(Shipped { boxes: ev.boxes, weight })
    }
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(order::workflow())?.serve(Parcels)
}

/// Ids that no two plays share.
fn id(stage: &Stage, name: &str) -> String {
    format!("{name}-{}", if stage.redis.is_some() { "redis" } else { "memory" })
}

async fn ended(stage: &Stage, id: &str, word: &str) -> Status {
    stage.client.run(id).signal("word", &word).await.unwrap();
    stage.client.run(id).wait(LIMIT).await.unwrap().status
}

async fn told(stage: &Stage, id: &str) -> Vec<String> {
    let history = stage.store.history(id, 0, 100).await.unwrap();
    history.into_iter().filter(|record| record.kind == Kind::Forked).map(|record| record.detail).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_function_that_has_ended_goes_on_from_a_call_in_a_fork() {
    Both::new(serve)
        .play(async |stage| {
            for (name, word, status) in [("good", "fine", Status::Completed), ("bad", "refuse", Status::Failed)] {
                let source = id(stage, name);
                stage.client.start("order", &40).id(&source).enqueue().await.unwrap();
                assert_eq!(ended(stage, &source, word).await, status);
                let run = stage.client.run(&source);
                // At the wait: recorded work is not done again, and the fork waits for another word.
                let (fork, asked) = run.fork().call(3).enqueue().await.unwrap();
                asked.taken(LIMIT).await.unwrap();
                found(async || (stage.store.waits(fork.id()).await.unwrap().len() == 1).then_some(())).await;
                assert_eq!(ended(stage, fork.id(), "other").await, Status::Completed);
                let result: Value = fork.result(LIMIT).await.unwrap();
                assert_eq!(result, json!({ "reserved": 41, "quoted": 1, "word": "other", "shipped": 1 }));
                assert_eq!((done(fork.id(), "reserve"), done(fork.id(), "ship")), (0, 1));
                let context = fork.snapshot().await.unwrap().unwrap();
                assert_eq!(serde_json::to_value(&context).unwrap()["context"]["begun"], 1, "its own beginning");
                assert_eq!(told(stage, fork.id()).await, [format!("from {source} at call 3")]);
                // With another input, from the beginning.
                let (fork, asked) =
                    run.fork().call(1).input(&1).id(id(stage, &format!("anew-{name}"))).enqueue().await.unwrap();
                asked.taken(LIMIT).await.unwrap();
                assert_eq!(ended(stage, fork.id(), "fine").await, Status::Completed);
                assert_eq!(fork.result::<Value>(LIMIT).await.unwrap()["reserved"], 2);
                assert_eq!(done(fork.id(), "reserve"), 1);
                // With everything that is recorded: it ends as before.
                let (fork, asked) = run.fork().enqueue().await.unwrap();
                asked.taken(LIMIT).await.unwrap();
                assert_eq!(fork.wait(LIMIT).await.unwrap().status, status);
                assert_eq!(done(fork.id(), "ship"), 0);
                let error = run.fork().call(9).enqueue().await.unwrap().1.taken(LIMIT).await.unwrap_err().to_string();
                assert!(error.contains("step execution 1 has not recorded call 9"), "{error}");
                assert_eq!(run.status().await.unwrap().unwrap().status, status, "it stays as it is");
                assert_eq!(told(stage, &source).await.len(), 3);
            }
        })
        .await;
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn people_fork_runs_with_plain_commands() {
    Both::new(serve)
        .play(async |stage| {
            let Some(redis) = &stage.redis else { return };
            let stepfleet = |args: &[&str]| {
                Command::new(STEPFLEET).args(args).env("STEPFLEET_REDIS", &redis.url).output().expect("it starts")
            };
            for id in ["p-1", "p-2"] {
                stage.client.start("parcels", &json!({})).id(id).enqueue().await.unwrap();
                assert_eq!(stage.client.run(id).wait(LIMIT).await.unwrap().status, Status::Failed);
            }
            // The step that failed, with another event, and the current context.
            let input = r#"{"boxes": 3}"#;
            let ask = ["XADD", "sf:{0}:inbox", "*", "op", "fork", "run", "p-1", "as", "p-3", "input", input];
            redis_cli(&redis.url, &ask);
            found(async || stage.client.run("p-3").status().await.unwrap()).await;
            let result: Value = stage.client.run("p-3").result(LIMIT).await.unwrap();
            assert_eq!(result, json!({ "boxes": 3, "weight": 7 }));
            assert_eq!((done("p-1", "pack"), done("p-3", "pack")), (1, 0));
            assert_eq!(redis_cli(&redis.url, &["HGET", "sf:{0}:run:p-3", "forked"]).trim(), "p-1");
            // Without an id, the fork's id follows from the entry.
            let entry = redis_cli(&redis.url, &["XADD", "sf:{0}:inbox", "*", "op", "fork", "run", "p-1", "seq", "1"]);
            let made = format!("p-1-fork-{}", entry.trim());
            found(async || stage.client.run(&made).status().await.unwrap()).await;
            assert_eq!(stage.client.run(&made).wait(LIMIT).await.unwrap().status, Status::Failed);
            assert_eq!(done(&made, "pack"), 1);
            let output = stepfleet(&["fork", "p-1", "--as", "p-4", "--input", input]);
            assert!(
                output.status.success() && said(&output).contains("run p-4 goes on from run p-1"),
                "{}",
                said(&output)
            );
            let output = stepfleet(&["fork", "p-1", "--as", "p-2"]);
            assert!(
                !output.status.success() && said(&output).contains("a run p-2 already exists"),
                "{}",
                said(&output)
            );
            let output = stepfleet(&["fork", "p-3", "--seq", "2"]);
            assert!(!output.status.success() && said(&output).contains("has committed"), "{}", said(&output));
            let output = stepfleet(&["fork", "--workflow", "parcels", "--status", "failed", "--limit", "2"]);
            assert!(said(&output).contains("2 of 2 runs were forked"), "{}", said(&output));
            assert!(said(&stepfleet(&["follow", "p-3"])).contains("from p-1"));
        })
        .await;
}
