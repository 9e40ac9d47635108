//! Steering a run, on the memory store and on a real Redis, with three workers: cancel, list, and read ended runs.

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::seen;
use stepfleet_shared::run::Status;
use tokio::sync::watch;

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Event, Serialize, Deserialize)]
struct Asked {
    how: String,
}

#[derive(Event, Serialize, Deserialize)]
struct Answered {
    answer: Value,
}

/// The endless steps: how many have begun, were told by their `Cancellation`, and were dropped.
static SEEN: LazyLock<watch::Sender<(u64, u64, u64)>> = LazyLock::new(|| watch::Sender::new((0, 0, 0)));

struct Dropped;

impl Drop for Dropped {
    fn drop(&mut self) {
        SEEN.send_modify(|seen| seen.2 += 1);
    }
}

struct Steered;

#[workflow(start = Asked, stop = Answered, retention = "1s")]
impl Steered {
    #[step(retries = 0)]
    async fn work(&self, ctx: &Context, ev: Asked) -> Outcome<Answered> {
        match ev.how.as_str() {
            "fail" => return Err(Error::msg("out of paper")),
            "answer" => return Ok(Answered { answer: json!(7) }),
            _ => {}
        }
        let told = ctx.cancelled();
        // The token tells work in another task.
        tokio::spawn(async move {
            told.cancelled().await;
            SEEN.send_modify(|seen| seen.1 += 1);
        });
        let _dropped = Dropped;
        SEEN.send_modify(|seen| seen.0 += 1);
        std::future::pending().await
    }
}

/// As [`Steered`], with a long retention.
struct Kept;

#[workflow(start = Asked, stop = Answered)]
impl Kept {
    #[step(retries = 0)]
    async fn work(&self, ev: Asked) -> Outcome<Answered> {
        if ev.how == "fail" {
            return Err(Error::msg("out of paper"));
        }
        Ok(Answered { answer: json!(7) })
    }
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Steered)?.serve(Kept)
}

async fn end(stage: &Stage, workflow: &str, id: &str, how: &str) -> Status {
    let run = stage.client.start(workflow, &json!({ "how": how })).id(id).enqueue().await.unwrap();
    run.wait(LIMIT).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_reaches_running_steps_by_token_and_by_dropping_them() {
    Both::new(serve)
        .concurrency(1)
        .play(async |stage| {
            let mut seen = SEEN.subscribe();
            let before = *seen.borrow_and_update();
            let mut runs = Vec::new();
            for n in 0..3 {
                let start = stage.client.start("steered", &json!({ "how": "never" })).id(format!("never-{n}"));
                runs.push(start.enqueue().await.unwrap());
            }
            // Each worker has one.
            seen.wait_for(|seen| seen.0 == before.0 + 3).await.unwrap();
            for run in &runs {
                run.cancel().await.unwrap();
            }
            for run in &runs {
                let ended = run.wait(LIMIT).await.unwrap();
                assert_eq!(ended.status, Status::Cancelled);
                assert_eq!(ended.error.as_deref(), Some("cancelled on request"));
            }
            seen.wait_for(|seen| (seen.1, seen.2) == (before.1 + 3, before.2 + 3)).await.unwrap();
            // Their slots are free.
            assert_eq!(end(stage, "kept", "next", "answer").await, Status::Completed);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_listed_by_workflow_and_status_page_by_page() {
    Both::new(serve)
        .play(async |stage| {
            for n in 0..4 {
                end(stage, "kept", &format!("good-{n}"), "answer").await;
                end(stage, "kept", &format!("bad-{n}"), "fail").await;
            }
            end(stage, "steered", "other", "fail").await;
            let ids = async |runs: stepfleet_shared::listing::Runs, limit| {
                runs.list(limit).await.unwrap().into_iter().map(|run| run.id).collect::<Vec<_>>()
            };
            let failed = || stage.client.runs().workflow("kept").status(Status::Failed);
            assert_eq!(ids(failed(), 2).await, ["bad-3", "bad-2"]);
            assert_eq!(ids(failed().skip(2), 10).await, ["bad-1", "bad-0"]);
            let both = stage.client.runs().workflow("kept").status(Status::Failed).status(Status::Completed);
            assert_eq!(ids(both, 100).await.len(), 8);
            assert!(ids(stage.client.runs().status(Status::Cancelled), 10).await.is_empty());
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_and_errors_are_there_until_their_retention_is_over() {
    Both::new(serve)
        .play(async |stage| {
            assert_eq!(end(stage, "kept", "good", "answer").await, Status::Completed);
            assert_eq!(end(stage, "kept", "bad", "fail").await, Status::Failed);
            assert_eq!(end(stage, "steered", "brief", "answer").await, Status::Completed);
            // The brief one is gone after a second; the others are there for a week.
            seen(async || stage.store.run("brief").await.unwrap(), Option::is_none).await;
            let good: Value = stage.client.run("good").result(LIMIT).await.unwrap();
            assert_eq!(good["answer"], 7);
            let bad = stage.store.run("bad").await.unwrap().unwrap();
            assert_eq!((bad.error.as_deref(), bad.error_step.as_deref()), (Some("out of paper"), Some("work")));
        })
        .await;
}
