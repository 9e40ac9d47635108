//! Steps and routing, each on the store in memory and on a real Redis, with three workers.

use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_integration_tests::both::Both;
use stepfleet_worker::prelude::*;
use stepfleet_worker::runtime::WorkerError;

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Event, Serialize, Deserialize)]
struct Asked {
    n: u64,
}

#[derive(Event, Serialize, Deserialize)]
struct Answered {
    answer: Value,
}

/// The start event has two takers; both do their part of the answer.
struct TwoTakers;

#[derive(Event, Serialize, Deserialize)]
struct Part(u64);

#[workflow(start = Asked, stop = Answered)]
impl TwoTakers {
    #[step]
    async fn parts(&self, ev: Asked) -> Outcome<Vec<Part>> {
        Ok((0..ev.n).map(Part).collect())
    }

    #[step]
    async fn once(&self, ev: Part) -> Outcome<Number> {
        Ok(Number(ev.0))
    }

    #[step]
    async fn twice(&self, ev: Part) -> Outcome<Number> {
        Ok(Number(ev.0 * 100))
    }

    #[step]
    async fn sum(&self, all: Joined<Number>) -> Outcome<Answered> {
        Ok(Answered { answer: json!(all.iter().map(|n| n.0).sum::<u64>()) })
    }
}

#[derive(Event, Serialize, Deserialize)]
struct Number(u64);

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(TwoTakers)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_that_takes_an_event_gets_it() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("two_takers", &json!({ "n": 5 })).send().await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], 10 + 1000);
        })
        .await;
}
