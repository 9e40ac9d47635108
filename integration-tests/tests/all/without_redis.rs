//! Workflows run on the memory store: the same worker, the same coordinator, no Redis.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::Worker;
use stepfleet::runtime;
use stepfleet_coordinator::{Config, Coordinator};
use stepfleet_integration_tests::until;
use stepfleet_integration_tests::workflows;
use stepfleet_shared::Client;
use stepfleet_shared::history::Kind;
use stepfleet_shared::names::Namespace;
use stepfleet_shared::run::Status;
use stepfleet_shared::store::MemoryStore;
use stepfleet_shared::store::prelude::*;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(30);

struct Fleet {
    store: MemoryStore,
    client: Client,
    _coordinator: tokio_util::task::AbortOnDropHandle<()>,
}

impl Fleet {
    fn new() -> Self {
        let store = MemoryStore::new(Namespace::default());
        let coordinator = Coordinator::new(Arc::new(store.clone()), Config::default());
        let task = tokio::spawn(coordinator.run(std::future::pending()));
        let client = Client::with_store(Arc::new(store.clone()));
        Self { store, client, _coordinator: tokio_util::task::AbortOnDropHandle::new(task) }
    }

    /// A worker that serves the test workflows until told to stop.
    fn worker(&self, lease: Duration) -> (CancellationToken, tokio::task::JoinHandle<()>) {
        let config = runtime::Config::default().lease(lease).concurrency(8);
        let worker = Worker::new(Arc::new(self.store.clone()), config);
        // Workflows that talk to the test need its Redis; this test starts none of those.
        let worker = workflows::serve(worker, "redis://127.0.0.1:1").unwrap();
        let stop = CancellationToken::new();
        let told = stop.clone().cancelled_owned();
        (stop, tokio::spawn(async move { worker.run_until(told).await.unwrap() }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_fan_outs_joins_loops_and_retries() {
    let fleet = Fleet::new();
    let _workers = [fleet.worker(Duration::from_secs(5)), fleet.worker(Duration::from_secs(5))];
    let cases = [
        ("squares", json!({ "count": 3 }), json!({ "count": 3, "sum": 14 })),
        ("squares", json!({ "count": 0 }), json!({ "count": 0, "sum": 0 })),
        ("nested", json!({ "n": 5 }), json!({ "answer": "[0, 1, 3, 6, 10]" })),
        ("loop", json!({ "n": 40 }), json!({ "answer": "41" })),
        ("flaky", json!({ "n": 2 }), json!({ "answer": "attempt 3 saw 0" })),
    ];
    for (workflow, input, expected) in cases {
        let run = fleet.client.start(workflow, &input).enqueue().await.unwrap();
        let end: Value = run.result(LIMIT).await.unwrap();
        assert_eq!(end, expected, "{workflow}");
    }
    let large = fleet.client.start("squares", &json!({ "count": 1000 })).enqueue().await.unwrap();
    let end: Value = large.result(LIMIT).await.unwrap();
    assert_eq!(end["count"], 1000);
    assert_eq!(fleet.store.breaches(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_told_to_stop_leaves_nothing_behind_and_another_goes_on() {
    let fleet = Fleet::new();
    let (stop, first) = fleet.worker(Duration::from_secs(5));
    let run = fleet.client.start("loop", &json!({ "n": 3000 })).id("r").enqueue().await.unwrap();
    until(async || fleet.store.history("r", 0, 50).await.unwrap().len() >= 50).await;
    stop.cancel();
    first.await.unwrap();
    assert!(fleet.store.workers().await.unwrap().is_empty());
    assert_eq!(run.status().await.unwrap().unwrap().status, Status::Running);
    let (_stop, _second) = fleet.worker(Duration::from_secs(5));
    let end: Value = run.result(LIMIT).await.unwrap();
    assert_eq!(end["answer"], "3001");
    let history = fleet.store.history("r", 0, 10_000).await.unwrap();
    assert!(history.iter().all(|record| record.kind != Kind::Lost));
    assert_eq!(fleet.store.breaches(), Vec::<String>::new());
}
