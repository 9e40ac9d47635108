//! An input that its workflow cannot take is refused at intake, with the place of the mistake.

use std::time::Duration;

use schemars::JsonSchema;
use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::found;
use stepfleet_shared::run::{Run, Status};

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Event, Serialize, Deserialize, JsonSchema)]
struct Ordered {
    lines: Vec<Line>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Line {
    cents: u64,
}

#[derive(Event, Serialize, Deserialize)]
struct Sum {
    cents: u64,
}

struct Sums;

#[workflow(start = Ordered, stop = Sum, name = "sums")]
impl Sums {
    #[step]
    async fn add(&self, order: Ordered) -> Outcome<Sum> {
        Ok(Sum { cents: order.lines.iter().map(|line| line.cents).sum() })
    }
}

#[durable]
async fn first(_: &Context, order: Ordered) -> Outcome<u64> {
    Ok(order.lines[0].cents)
}

#[durable]
async fn nothing(_: &Context, (): ()) -> Outcome<u64> {
    Ok(7)
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Sums)?.serve(first::workflow())?.serve(nothing::workflow())
}

/// Fields of an inbox entry, as any Redis client writes them.
async fn ask(stage: &Stage, fields: &[(&str, &str)]) {
    if let Some(redis) = &stage.redis {
        let mut add = redis::cmd("XADD");
        add.arg("sf:{0}:inbox").arg("*").arg(fields);
        let _: String = add.query_async(&mut redis.connection().await).await.unwrap();
    } else {
        let fields = fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        stage.store.enqueue(&fields.collect::<Vec<_>>()).await.unwrap();
    }
}

async fn end(stage: &Stage, run: &str) -> Run {
    found(async || stage.store.run(run).await.unwrap().filter(|run| run.status.is_over())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_does_not_fit_is_rejected_with_its_place_and_no_run_is_started() {
    Both::new(serve)
        .play(async |stage| {
            let wrong = r#"{"lines":[{"cents":5},{"cents":"six"}]}"#;
            for workflow in ["sums", "first"] {
                ask(stage, &[("op", "start"), ("workflow", workflow), ("id", workflow), ("input", wrong)]).await;
                let run = end(stage, workflow).await;
                let error = run.error.unwrap();
                assert_eq!(run.status, Status::Rejected, "{error}");
                let begins = format!("the input does not fit its schema in {workflow} version 1 at /lines/1/cents: ");
                assert!(error.starts_with(&begins) && !error.contains("six"), "{error}");
                assert!(stage.store.history(workflow, 0, 10).await.unwrap().is_empty());
            }
            // The id is free again; and a request that repeats a run is not checked.
            let right = r#"{"lines":[{"cents":5},{"cents":6}]}"#;
            let start = [("op", "start"), ("workflow", "sums"), ("id", "sums"), ("key", "k")];
            ask(stage, &[&start[..], &[("input", right)]].concat()).await;
            let fine = async || stage.store.run("sums").await.unwrap().filter(|run| run.status == Status::Completed);
            assert_eq!(found(fine).await.result.unwrap(), br#"{"cents":11}"#);
            ask(stage, &[&start[..], &[("input", wrong)]].concat()).await;
            let other = [("op", "start"), ("workflow", "sums"), ("id", "other"), ("key", "k"), ("input", wrong)];
            ask(stage, &other).await;
            assert_eq!(found(async || stage.store.leads_to("other").await.unwrap()).await, "sums");
            let rejected = stage.client.start("sums", &json!({})).enqueue().await.unwrap();
            let missing = rejected.wait(LIMIT).await.unwrap().error.unwrap();
            assert!(missing.contains("\"lines\" is a required property"), "{missing}");
            ask(stage, &[("op", "start"), ("workflow", "nothing"), ("id", "nothing"), ("input", "null")]).await;
            assert_eq!(stage.client.run("nothing").result::<u64>(LIMIT).await.unwrap(), 7);
        })
        .await;
}

/// Whatever a worker has registered, runs still start.
#[tokio::test(flavor = "multi_thread")]
async fn a_useless_schema_stops_nothing() {
    Both::new(serve)
        .play_on_redis(async |stage| {
            let mut redis = stage.redis.as_ref().unwrap().connection().await;
            let registered: String =
                redis::cmd("HGET").arg("sf:{0}:workflows").arg("sums:1").query_async(&mut redis).await.unwrap();
            let mut registered: Value = serde_json::from_str(&registered).unwrap();
            for schema in [
                json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "type": 7 }),
                json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "https://nowhere.example/schema" }),
                json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "description": "x".repeat(100_000), "type": "null" }),
            ] {
                registered["graph"]["schemas"]["Ordered"] = schema;
                let mut set = redis::cmd("HSET");
                set.arg("sf:{0}:workflows").arg("sums:1").arg(registered.to_string());
                let () = set.query_async(&mut redis).await.unwrap();
                // Until the coordinator has read the new schema, the input that it refuses fails in the step.
                found(async || {
                    let run = stage.client.start("sums", &json!({ "lines": 7 })).enqueue().await.unwrap();
                    let run = run.wait(LIMIT).await.unwrap();
                    (run.status == Status::Failed).then_some(())
                })
                .await;
                registered["graph"]["schemas"]["Ordered"] = json!({
                    "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "required": ["lines"],
                    "properties": { "lines": { "type": "array" } }
                });
                let mut set = redis::cmd("HSET");
                set.arg("sf:{0}:workflows").arg("sums:1").arg(registered.to_string());
                let () = set.query_async(&mut redis).await.unwrap();
                found(async || {
                    let run = stage.client.start("sums", &json!({ "lines": 7 })).enqueue().await.unwrap();
                    let run = run.wait(LIMIT).await.unwrap();
                    (run.status == Status::Rejected).then_some(())
                })
                .await;
            }
        })
        .await;
}
