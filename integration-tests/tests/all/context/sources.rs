//! Runs that begin with a context, their own or that of another run.

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::Both;
use stepfleet_integration_tests::until;
use stepfleet_shared::run::Status;

use super::{Answered, Asked, LIMIT};

/// Returns the count in its context.
struct Counter;

#[workflow(start = Asked, stop = Answered)]
impl Counter {
    #[step]
    async fn count(&self, ctx: &Context, _ev: Asked) -> Outcome<Answered> {
        Ok(Answered { answer: json!(ctx.state().incr("count", 1).await?) })
    }
}

fn serve_counter(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Counter)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_a_worker_keep_their_context_and_its_source() {
    Both::new(serve_counter)
        .workers(0)
        .play(async |stage| {
            let start = || stage.client.start("counter", &json!({"n": 0}));
            let all = [start().context_from("b").id("c"), start().context_from("a").id("b"), start().id("a")];
            let mut runs = Vec::new();
            for start in all {
                runs.push(start.context(&json!({"count": 5})).enqueue().await.unwrap());
            }
            until(async || stage.store.deferred().await.unwrap().len() >= 3).await;
            stage.add_worker();
            for run in runs {
                assert_eq!(run.result::<Value>(LIMIT).await.unwrap()["answer"], 6, "{}", run.id());
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_rejected_is_no_source() {
    Both::new(serve_counter)
        .play(async |stage| {
            let fields = [("op", "start"), ("workflow", "counter"), ("context", "[1]"), ("id", "bad")];
            let fields = fields.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
            stage.store.enqueue(&fields).await.unwrap();
            assert_eq!(stage.client.run("bad").wait(LIMIT).await.unwrap().status, Status::Rejected);
            let run =
                stage.client.start("counter", &json!({"n": 0})).context_from("bad").id("also").enqueue().await.unwrap();
            let end = run.wait(LIMIT).await.unwrap();
            assert_eq!(end.status, Status::Rejected);
            assert!(end.error.unwrap().contains("run bad"));
        })
        .await;
}
