//! Runs without faults around them: chains, fan-outs, joins, loops, retries, errors.

use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_integration_tests::fleet::Fleet;
use stepfleet_shared::history::Kind;
use stepfleet_shared::run::{Run, Status};

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const LIMIT: Duration = Duration::from_secs(60);

async fn result(fleet: &Fleet, workflow: &str, input: Value) -> Value {
    let run = fleet.client.start(workflow, &input).enqueue().await.unwrap();
    run.result(LIMIT).await.unwrap()
}

async fn end(fleet: &Fleet, workflow: &str, input: Value) -> Run {
    let run = fleet.client.start(workflow, &input).enqueue().await.unwrap();
    run.wait(LIMIT).await.unwrap()
}

#[tokio::test]
async fn a_chain_keeps_its_typed_state_from_worker_to_worker() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    // One step at a time and three workers: the steps of a run meet different workers.
    let _workers: Vec<_> = (0..3).map(|_| fleet.worker(WORKER, &[("STEPFLEET_CONCURRENCY", "1")])).collect();
    let mut runs = Vec::new();
    for n in 0..30 {
        runs.push(fleet.client.start("chain", &json!({ "n": n })).id(format!("chain-{n}")).enqueue().await.unwrap());
    }
    for (n, run) in runs.iter().enumerate() {
        let end: Value = run.result(LIMIT).await.unwrap();
        assert_eq!(end["answer"], format!("hello {n} chain-{n}"));
        let history = fleet.store.history(run.id(), 0, 100).await.unwrap();
        let kinds: Vec<_> = history.iter().map(|r| (r.kind, r.step.as_str())).collect();
        let expected = [
            (Kind::Start, "-"),
            (Kind::Done, "greet"),
            (Kind::Done, "count"),
            (Kind::Done, "answer"),
            (Kind::Completed, "answer"),
        ];
        assert_eq!(kinds, expected);
    }
}

#[tokio::test]
async fn fan_outs_join_whatever_their_size_and_shape() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _workers: Vec<_> = (0..2).map(|_| fleet.worker(WORKER, &[])).collect();
    // 200 is the most that fits into one commit; 1,500 is staged in chunks.
    for count in [0u64, 1, 2, 200, 201, 1500] {
        let sum = result(&fleet, "squares", json!({ "count": count })).await;
        assert_eq!(sum, json!({ "count": count, "sum": (1..=count).map(|n| n * n).sum::<u64>() }));
    }
    let even = result(&fleet, "squares", json!({ "count": 7, "even_only": true })).await;
    assert_eq!(even, json!({ "count": 3, "sum": 4 + 16 + 36 }), "branches that return nothing are left out");
    assert_eq!(result(&fleet, "nested", json!({ "n": 5 })).await["answer"], "[0, 1, 3, 6, 10]");
    assert_eq!(result(&fleet, "nested", json!({ "n": 0 })).await["answer"], "[]");
    assert_eq!(result(&fleet, "loop", json!({ "n": 40 })).await["answer"], "41");
}

#[tokio::test]
async fn nothing_of_a_run_is_left_but_what_its_caller_can_read() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _worker = fleet.worker(WORKER, &[]);
    let run = fleet.client.start("squares", &json!({ "count": 300 })).id("r").enqueue().await.unwrap();
    let _: Value = run.result(LIMIT).await.unwrap();
    let mut redis = fleet.redis.connection().await;
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("sf:{0}:*r*").query_async(&mut redis).await.unwrap();
    keys.retain(|key| key.ends_with(":r") || key.contains(":r:"));
    keys.sort();
    assert_eq!(keys, ["sf:{0}:history:r", "sf:{0}:input:r", "sf:{0}:run:r"]);
    for stream in ["queue", "requeued"] {
        let length: u64 =
            redis::cmd("XLEN").arg(format!("sf:{{0}}:{stream}:squares:1")).query_async(&mut redis).await.unwrap();
        assert_eq!(length, 0, "{stream}");
    }
}

#[tokio::test]
async fn a_step_is_tried_again_and_failed_attempts_leave_nothing_behind() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _worker = fleet.worker(WORKER, &[]);
    let run = fleet.client.start("flaky", &json!({ "n": 3 })).enqueue().await.unwrap();
    let end: Value = run.result(LIMIT).await.unwrap();
    assert_eq!(end["answer"], "attempt 4 saw 0");
    let history = fleet.store.history(run.id(), 0, 100).await.unwrap();
    let retries: Vec<_> = history.iter().filter(|r| r.kind == Kind::Retry).map(|r| r.detail.clone()).collect();
    assert_eq!(retries.len(), 3);
    assert!(retries[2].ends_with("failure 3"), "{retries:?}");

    let failed = self::end(&fleet, "flaky", json!({ "n": 9 })).await;
    assert_eq!((failed.status, failed.error_attempt), (Status::Failed, Some(5)));
    assert_eq!(failed.error.as_deref(), Some("failure 5"));
}

#[tokio::test]
async fn each_way_to_fail_ends_the_run_with_a_clear_error_and_leaves_the_worker_alive() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let worker = fleet.worker(WORKER, &[]);
    let cases = [
        (0, 1, "no such customer"),
        (1, 2, "panicked: a bug in the step"),
        (2, 2, "took longer than its timeout of 500ms"),
        (3, 2, "... (10000000 bytes)"),
        (4, 1, "the result has"),
        (5, 1, "the run ended without its stop event"),
        (6, 2, "the disk is gone"),
    ];
    for (n, attempts, message) in cases {
        let run = end(&fleet, "broken", json!({ "n": n })).await;
        let error = run.error.unwrap_or_default();
        assert_eq!(run.status, Status::Failed);
        assert!(error.contains(message), "case {n}: {error}");
        assert_eq!((run.error_step.as_deref(), run.error_attempt), (Some("fail"), Some(attempts)), "case {n}");
    }
    let undecodable = end(&fleet, "chain", json!({ "n": "not a number" })).await;
    assert!(undecodable.error.unwrap().contains("the event Begin cannot be read"));
    assert_eq!(result(&fleet, "chain", json!({ "n": 1 })).await["answer"].as_str().map(|a| &a[..7]), Some("hello 1"));
    assert_eq!(fleet.store.workers().await.unwrap()[0].pid, worker.id(), "the worker was replaced");
}

#[tokio::test]
async fn a_run_that_is_put_off_begins_when_it_is_due_on_redis_clock() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _worker = fleet.worker(WORKER, &[]);
    let delay = Duration::from_millis(400);
    let run = fleet.client.start("chain", &json!({ "n": 1 })).delay(delay).enqueue().await.unwrap();
    let ended = run.wait(LIMIT).await.unwrap();
    assert_eq!(ended.status, Status::Completed);
    assert!(ended.started_ms.unwrap() >= ended.created_ms + 400, "{ended:?}");
}
