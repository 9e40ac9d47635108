//! Runs stay with the version that they began with, each on the memory store and on a real Redis, with three workers.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::found;
use stepfleet_shared::fleet::{Serving, serving, serving_of};
use stepfleet_shared::request::StartRequest;
use stepfleet_shared::run::{Run, Status};
use stepfleet_shared::step::Route;
use stepfleet_shared::store::Start;

const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Event, Serialize, Deserialize)]
struct Asked {}
#[derive(Event, Serialize, Deserialize)]
struct Middle {}
#[derive(Event, Serialize, Deserialize)]
struct Answered {
    version: u32,
}

/// While it is closed, the second step of version 1 fails, and is tried again soon. One for each test.
static GATES: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

struct First<const GATE: usize>;

#[workflow(start = Asked, stop = Answered, name = "lines", version = 1)]
impl<const GATE: usize> First<GATE> {
    #[step]
    async fn begin(&self, _: Asked) -> Outcome<Middle> {
        Ok(Middle {})
    }

    #[step(retries = 1_000_000, backoff = "20ms", factor = 1)]
    async fn end(&self, _: Middle) -> Outcome<Answered> {
        if GATES[GATE].load(Ordering::SeqCst) { Ok(Answered { version: 1 }) } else { Err(Error::msg("closed")) }
    }
}

struct Second;

#[workflow(start = Asked, stop = Answered, name = "lines", version = 2)]
impl Second {
    #[step]
    async fn answer(&self, _: Asked) -> Outcome<Answered> {
        Ok(Answered { version: 2 })
    }
}

/// Somebody renamed a step, and left the version as it was.
struct Renamed;

#[workflow(start = Asked, stop = Answered, name = "lines", version = 1)]
impl Renamed {
    #[step]
    async fn begin(&self, _: Asked) -> Outcome<Middle> {
        Ok(Middle {})
    }

    #[step]
    async fn finish(&self, _: Middle) -> Outcome<Answered> {
        Ok(Answered { version: 1 })
    }
}

fn old<const GATE: usize>(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(First::<GATE>)
}

fn new(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Second)
}

fn both<const GATE: usize>(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(First::<GATE>)?.serve(Second)
}

fn renamed(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Renamed)
}

/// A run of version 1 whose second step has failed at least once.
async fn begun(stage: &Stage, id: &str) {
    stage.client.start("lines", &json!({})).id(id).enqueue().await.unwrap();
    found(async || {
        let history = stage.store.history(id, 0, 1000).await.unwrap();
        history.iter().any(|record| record.step == "end").then_some(())
    })
    .await;
}

/// Starts a run of version 2; a coordinator may learn half a second late that it is served.
async fn new_run(stage: &Stage) -> String {
    found(async || {
        let run = stage.client.start("lines", &json!({})).enqueue().await.unwrap();
        let run = found(async || run.status().await.unwrap()).await;
        if run.version != 2 {
            stage.store.cancel(&run.id, None, Duration::from_secs(60)).await.unwrap();
        }
        (run.version == 2).then_some(run.id)
    })
    .await
}

async fn state(stage: &Stage, id: &str) -> Run {
    stage.store.run(id).await.unwrap().expect("the run is there")
}

async fn version_of(stage: &Stage, id: &str) -> Serving {
    let run = state(stage, id).await;
    let (queues, workers) = (stage.store.queues().await.unwrap(), stage.store.workers().await.unwrap());
    let all = serving(&queues, &workers, stage.store.now_ms().await.unwrap());
    serving_of(&all, &run.workflow, run.version).expect("it was registered").clone()
}

fn stepfleet(stage: &Stage, args: &[&str]) -> Option<Output> {
    let url = &stage.redis.as_ref()?.url;
    Some(Command::new(STEPFLEET).args(args).env("STEPFLEET_REDIS", url).output().expect("it starts"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_visibly_for_its_version_and_goes_on_when_it_is_served_again() {
    Both::new(old::<0>)
        .play(async |stage| {
            GATES[0].store(false, Ordering::SeqCst);
            begun(stage, "kept").await;
            assert!(!version_of(stage, "kept").await.is_unserved());
            let before = stage.store.now_ms().await.unwrap();
            stage.stop_workers().await;
            for _ in 0..3 {
                stage.add_worker_that_serves(new);
            }
            stage.workers_ready(3).await;
            let other = new_run(stage).await;
            let result: Value = stage.client.run(other).result(LIMIT).await.unwrap();
            assert_eq!(result["version"], 2);

            GATES[0].store(true, Ordering::SeqCst);
            let waits =
                found(async || Some(version_of(stage, "kept").await).filter(|serving| serving.waiting > 0)).await;
            assert!(waits.is_unserved());
            let since = waits.unserved_since_ms.expect("it is known since when");
            assert!((before..=stage.store.now_ms().await.unwrap()).contains(&since), "{since} is not after {before}");
            let kept = state(stage, "kept").await;
            assert_eq!((kept.status, kept.version), (Status::Running, 1));
            if let Some(output) = stepfleet(stage, &["show", "kept"]) {
                assert!(said(&output).contains("none serves lines version 1, for "), "{}", said(&output));
                assert!(said(&output).contains("(version 2 is served)"), "{}", said(&output));
                let runs = said(&stepfleet(stage, &["runs", "--status", "running"]).unwrap());
                assert!(runs.contains("kept waits for a worker: none serves lines version 1, for "), "{runs}");
                let runs = stepfleet(stage, &["runs", "--json", "--status", "running"]).unwrap();
                let runs: Value = serde_json::from_slice(&runs.stdout).unwrap();
                assert_eq!(runs[0]["unserved"]["since_ms"], json!(since), "{runs}");
                let doctor = said(&stepfleet(stage, &["doctor"]).unwrap());
                assert!(doctor.contains("no worker serves lines version 1 ("), "{doctor}");
                assert!(doctor.contains(" waiting, no worker for "), "{doctor}");
                let listed = said(&stepfleet(stage, &["workflows"]).unwrap());
                let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
                assert_eq!(rows[1][..4], ["lines", "1", "none", "for"], "{listed}");
                assert_eq!(rows[2], ["lines", "2", "3", "0", "Asked", "Answered"], "{listed}");
            }

            stage.add_worker_that_serves(old::<0>);
            let result: Value = stage.client.run("kept").result(LIMIT).await.unwrap();
            assert_eq!(result["version"], 1);
            assert!(!version_of(stage, "kept").await.is_unserved());
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_are_served_side_by_side_by_several_workers_and_by_one() {
    Both::new(old::<1>)
        .workers(1)
        .play(async |stage| {
            GATES[1].store(false, Ordering::SeqCst);
            begun(stage, "early").await;
            for serve in [new, both::<1>] {
                stage.add_worker_that_serves(serve);
            }
            stage.workers_ready(3).await;
            let late = new_run(stage).await;
            let result: Value = stage.client.run(late).result(LIMIT).await.unwrap();
            assert_eq!(result["version"], 2);
            assert!(!state(stage, "early").await.status.is_over());
            GATES[1].store(true, Ordering::SeqCst);
            let result: Value = stage.client.run("early").result(LIMIT).await.unwrap();
            assert_eq!(result["version"], 1);
            assert_eq!(state(stage, "early").await.version, 1);
            // One worker serves both versions.
            GATES[1].store(false, Ordering::SeqCst);
            stage.stop_workers().await;
            stage.add_worker_that_serves(both::<1>);
            stage.workers_ready(1).await;
            let old = stage.client.run("lone");
            let request = StartRequest { id: Some("lone".into()), ..StartRequest::new("lines", "{}") };
            let routes = vec![Route { step: "begin".into(), event: "Asked".into(), ..Route::default() }];
            let key_ttl = Duration::ZERO;
            let lone = "lone".to_owned();
            let start = Start { request, run: lone, version: 1, routes, key_ttl, ..Start::default() };
            stage.store.start(&start).await.unwrap();
            let new = stage.client.start("lines", &json!({})).enqueue().await.unwrap();
            GATES[1].store(true, Ordering::SeqCst);
            for (run, version) in [(old, 1), (new, 2)] {
                assert_eq!(run.result::<Value>(LIMIT).await.unwrap()["version"], version);
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_gone_under_its_version_fails_the_run_clearly() {
    Both::new(old::<2>)
        .play(async |stage| {
            begun(stage, "broken").await;
            stage.stop_workers().await;
            for _ in 0..3 {
                stage.add_worker_that_serves(renamed);
            }
            let run = stage.client.run("broken").wait(LIMIT).await.unwrap();
            assert_eq!((run.status, run.error_step.as_deref()), (Status::Failed, Some("end")));
            let error = run.error.unwrap();
            assert!(error.contains("lines version 1 has no step end any more"), "{error}");
            assert!(error.contains("give the new code a higher one"), "{error}");
        })
        .await;
}
