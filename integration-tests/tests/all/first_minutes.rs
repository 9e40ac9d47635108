//! What somebody new to it meets on the command line.

use std::process::{Command, Output, Stdio};

use stepfleet_integration_tests::fleet::{Fleet, Process};
use stepfleet_integration_tests::until;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");

fn stepfleet(url: &str, args: &[&str]) -> Output {
    Command::new(STEPFLEET).args(args).env("STEPFLEET_REDIS", url).stdin(Stdio::null()).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_says_at_once_that_nobody_knows_the_workflow_where_a_fleet_is_there() {
    let fleet = Fleet::new().await;
    let url = &fleet.redis.url;
    let lonely = stepfleet(url, &["start", "sqares", "--id", "early"]);
    assert!(lonely.status.success(), "there is no fleet yet: callers and workers start together: {lonely:?}");
    let _worker = fleet.worker(WORKER, &[]);
    until(async || !fleet.store.workers().await.unwrap().is_empty()).await;

    let refused = stepfleet(url, &["start", "sqares", "--id", "typo", "--wait"]);
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("did you mean \"squares\"?"), "{said}");
    assert!(said.contains("--hold") && said.contains("Nothing was sent"), "{said}");
    assert_eq!(fleet.store.waiting_requests().await.unwrap(), 1, "only the first one");
    let held = stepfleet(url, &["start", "sqares", "--id", "typo", "--hold"]);
    assert!(held.status.success(), "{held:?}");
    assert_eq!(fleet.store.waiting_requests().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_what_is_missing() {
    let fleet = Fleet::new().await;
    let url = fleet.redis.url.clone();
    let told = async |waiting: &Process, what: &str| until(async || waiting.log().contains(what)).await;
    let settings = [("STEPFLEET_REDIS", url.as_str())];
    let start = ["start", "squares", "--input", r#"{"count": 3}"#, "--id", "r", "--wait"];
    let mut waiting = Process::start(STEPFLEET.as_ref(), &start, &settings);
    told(&waiting, "run r waits for a coordinator that takes its request in").await;
    let _coordinator = fleet.coordinator();
    told(&waiting, "run r waits for a worker that serves its workflow: no worker has registered").await;
    let _worker = fleet.worker(WORKER, &[]);
    assert!(waiting.ended().await.success());
    assert!(waiting.log().contains("\"sum\":14"), "{}", waiting.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_whose_workers_are_gone_is_started_and_that_is_said() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let worker = fleet.worker(WORKER, &[]);
    until(async || !fleet.store.workers().await.unwrap().is_empty()).await;
    drop(worker);
    until(async || fleet.store.workers().await.unwrap().iter().all(|worker| worker.lease_ms <= 0)).await;
    let started = stepfleet(&fleet.redis.url, &["start", "squares"]);
    let said = text(&started.stderr);
    assert!(started.status.success() && said.contains("No live worker serves the workflow \"squares\" now"), "{said}");
}
