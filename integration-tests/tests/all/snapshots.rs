//! The context of a run as JSON, and runs that begin with the context of others; on the memory store and on a real
//! Redis, with three workers.

use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::fleet::Process;
use stepfleet_integration_tests::until;
use stepfleet_shared::history::Kind;
use stepfleet_shared::run::Status;

const LIMIT: Duration = Duration::from_secs(30);
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");

#[derive(Event, Serialize, Deserialize)]
struct Asked {}

#[derive(Event, Serialize, Deserialize)]
struct Counted {
    count: u64,
}

#[derive(Serialize, Deserialize, Default)]
struct Memory {
    count: u64,
    notes: Vec<String>,
}

/// The counter of LlamaIndex's documentation.
struct Counter;

#[workflow(start = Asked, stop = Counted)]
impl Counter {
    #[step]
    async fn count(&self, ctx: &Context<Memory>, _: Asked) -> Outcome<Counted> {
        ctx.state()
            .edit(|memory| {
                memory.count += 1;
                memory.notes.push(format!("run {}", memory.count));
            })
            .await?;
        Ok(Counted { count: ctx.state().load().await?.count })
    }
}

/// Writes its state, and waits for ever.
struct Stuck;

#[derive(Event, Serialize, Deserialize)]
struct Written;

#[workflow(start = Asked, stop = Counted)]
impl Stuck {
    #[step]
    async fn write(&self, ctx: &Context<Memory>, _: Asked) -> Outcome<Written> {
        ctx.state().edit(|memory| memory.count = 41).await?;
        Ok(Written)
    }

    #[step]
    async fn wait(&self, _: Written) -> Outcome<Counted> {
        std::future::pending().await
    }
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Counter)?.serve(Stuck)
}

async fn count(run: &stepfleet_shared::client::RunHandle) -> u64 {
    let end: Value = run.result(LIMIT).await.unwrap();
    end["count"].as_u64().unwrap()
}

async fn worker_of(stage: &Stage, run: &str) -> String {
    let history = stage.store.history(run, 0, 10).await.unwrap();
    history.into_iter().find(|record| record.kind == Kind::Done).unwrap().worker
}

#[tokio::test(flavor = "multi_thread")]
async fn three_runs_on_three_workers_count_to_three() {
    Both::new(serve)
        .workers(1)
        .play(async |stage| {
            let (mut last, mut workers) = (None::<String>, Vec::new());
            for n in 1..=3u64 {
                let mut start = stage.client.start("counter", &json!({})).id(format!("count-{n}"));
                if let Some(last) = &last {
                    start = start.context_from(last);
                }
                let run = start.enqueue().await.unwrap();
                assert_eq!(count(&run).await, n);
                workers.push(worker_of(stage, run.id()).await);
                last = Some(run.id().to_owned());
                // The next step runs elsewhere.
                stage.stop_workers().await;
                stage.add_worker();
                stage.workers_ready(1).await;
            }
            workers.sort();
            workers.dedup();
            assert_eq!(workers.len(), 3, "{workers:?}");
            let snapshot = stage.client.run("count-3").snapshot().await.unwrap().unwrap();
            assert_eq!(Value::from(snapshot.context), json!({ "count": 3, "notes": ["run 1", "run 2", "run 3"] }));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_goes_out_as_json_and_comes_in_again() {
    Both::new(serve)
        .play(async |stage| {
            let first = stage.client.start("counter", &json!({})).id("first").enqueue().await.unwrap();
            assert_eq!(count(&first).await, 1);
            let text = serde_json::to_string(&first.snapshot().await.unwrap()).unwrap();
            let mut snapshot: stepfleet_shared::snapshot::Snapshot = serde_json::from_str(&text).unwrap();
            assert_eq!(
                (snapshot.run.as_str(), snapshot.workflow.as_str(), snapshot.status),
                ("first", "counter", Status::Completed)
            );
            snapshot.context["count"] = json!(100);
            let second = stage.client.start("counter", &json!({})).context(&snapshot.context).enqueue().await.unwrap();
            assert_eq!(count(&second).await, 101);
            // The given fields go on top of those of the other run.
            let third = stage.client.start("counter", &json!({})).context_from("first").context(&json!({ "count": 7 }));
            let third = third.id("third").enqueue().await.unwrap();
            assert_eq!(count(&third).await, 8);
            let context = third.snapshot().await.unwrap().unwrap().context;
            assert_eq!(context["notes"], json!(["run 1", "run 8"]));
            assert!(stage.client.run("nobody").snapshot().await.unwrap().is_none());
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_can_continue_the_context_of_an_active_or_cancelled_one() {
    Both::new(serve)
        .play(async |stage| {
            let stuck = stage.client.start("stuck", &json!({})).id("stuck").enqueue().await.unwrap();
            until(async || !stage.store.context("stuck").await.unwrap().is_empty()).await;
            let beside = stage.client.start("counter", &json!({})).context_from("stuck").enqueue().await.unwrap();
            assert_eq!(count(&beside).await, 42);
            stuck.cancel().await.unwrap();
            assert_eq!(stuck.wait(LIMIT).await.unwrap().status, Status::Cancelled);
            let after = stage.client.start("counter", &json!({})).context_from("stuck").enqueue().await.unwrap();
            assert_eq!(count(&after).await, 42);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_source_and_an_invalid_context_are_rejected() {
    Both::new(serve)
        .play(async |stage| {
            let lost =
                stage.client.start("counter", &json!({})).id("lost").context_from("nobody").enqueue().await.unwrap();
            let lost = lost.wait(LIMIT).await.unwrap();
            assert_eq!(lost.status, Status::Rejected);
            let why =
                "its context was to come from run nobody, which does not exist: it was never started, or has expired";
            assert_eq!(lost.error.as_deref(), Some(why));
            let fields = [("op", "start"), ("workflow", "counter"), ("id", "bad"), ("context", "[1]")];
            let fields: Vec<_> = fields.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect();
            stage.store.enqueue(&fields).await.unwrap();
            let bad = stage.client.run("bad").wait(LIMIT).await.unwrap();
            assert!(bad.error.as_deref().unwrap().starts_with("the context cannot be read as JSON"), "{:?}", bad.error);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_prints_snapshots_and_starts_with_them() {
    Both::new(serve)
        .play(async |stage| {
            let Some(redis) = &stage.redis else { return };
            let cli = async |arguments: &[&str]| {
                let mut all = vec!["--redis", redis.url.as_str()];
                all.extend_from_slice(arguments);
                let mut process = Process::start(std::path::Path::new(STEPFLEET), &all, &[]);
                let status = process.ended().await;
                (status.success(), process.log())
            };
            let (fine, said) = cli(&["start", "counter", "--id", "one", "--context", "{\"count\": 5}", "--wait"]).await;
            assert!(fine && said.contains("{\"count\":6}"), "{said}");
            let (fine, said) = cli(&["snapshot", "one", "--context"]).await;
            let context: Value = serde_json::from_str(&said).unwrap();
            assert!(fine && context == json!({ "count": 6, "notes": ["run 6"] }), "{said}");
            let (fine, said) = cli(&["start", "counter", "--context-from", "one", "--wait"]).await;
            assert!(fine && said.contains("{\"count\":7}"), "{said}");
            let (fine, said) = cli(&["snapshot", "nobody"]).await;
            assert!(!fine && said.contains("there is no run nobody"), "{said}");
        })
        .await;
}
