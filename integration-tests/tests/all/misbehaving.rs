//! Steps that panic, block, hog memory, never return, or return too much: the run says what happened, and its worker
//! lives on.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_coordinator::Config;
use stepfleet_integration_tests::fleet::{Fleet, InProcess, Process};
use stepfleet_integration_tests::until;
use stepfleet_shared::history::{Kind, Record};
use stepfleet_shared::run::{Run, Status};

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const LIMIT: Duration = Duration::from_secs(60);
/// The longest error that is kept, with the note of its length.
const LONGEST_ERROR: usize = 2100;

/// A fleet of one worker process.
struct Alone {
    fleet: Fleet,
    worker: Process,
    _coordinator: InProcess,
}

impl Alone {
    async fn with(settings: &[(&str, &str)]) -> Self {
        let fleet = Fleet::new().await;
        let (coordinator, worker) = (fleet.coordinator(), fleet.worker(WORKER, settings));
        fleet.workers_ready(1).await;
        Self { fleet, worker, _coordinator: coordinator }
    }

    async fn end(&self, workflow: &str, input: Value) -> (Run, Vec<Record>) {
        let run = self.fleet.client.start(workflow, &input).enqueue().await.unwrap();
        let ended = run.wait(LIMIT).await.unwrap();
        (ended, self.fleet.store.history(run.id(), 0, 100).await.unwrap())
    }

    /// Asserts that the run failed after this many attempts; returns its error.
    async fn failure(&self, workflow: &str, how: &str, attempts: u32) -> (String, Vec<Record>) {
        let (run, history) = self.end(workflow, json!({ "how": how })).await;
        let error = run.error.unwrap_or_default();
        assert_eq!((run.status, run.error_attempt), (Status::Failed, Some(attempts)), "{how}: {error}");
        let failed: Vec<_> = history.iter().filter(|r| r.kind == Kind::Failed).map(|r| r.detail.as_str()).collect();
        assert_eq!(failed, [error.as_str()], "{how}: the history says otherwise");
        (error, history)
    }

    /// Asserts that the same process finishes another run.
    async fn lives_on(&self) {
        let (run, history) = self.end("chain", json!({ "n": 1 })).await;
        assert_eq!(run.status, Status::Completed, "{run:?}");
        let workers = self.fleet.store.workers().await.unwrap();
        assert_eq!(workers.iter().map(|w| w.pid).collect::<Vec<_>>(), [self.worker.id()], "it was replaced");
        assert!(history.iter().all(|record| record.kind != Kind::Lost), "{history:?}");
    }
}

#[tokio::test]
async fn a_step_that_panics_fails_its_run_and_nothing_else() {
    let alone = Alone::with(&[]).await;
    let (error, _) = alone.failure("unruly", "panic", 2).await;
    assert_eq!(error, "step misbehave panicked: a bug in the step");
    let (error, _) = alone.failure("unruly", "panic at length", 2).await;
    assert!(error.starts_with("step misbehave panicked: xxx") && error.len() < LONGEST_ERROR, "{error}");
    alone.lives_on().await;
}

#[tokio::test]
async fn a_step_that_uses_a_gibibyte_ends_well_and_leaves_its_worker_alive() {
    let alone = Alone::with(&[]).await;
    let (run, history) = alone.end("unruly", json!({ "how": "allocate", "mebibytes": 1024 })).await;
    let result: Value = serde_json::from_slice(&run.result.unwrap_or_default()).unwrap();
    assert_eq!(result["answer"], "touched 262144 pages");
    assert!(history.iter().all(|record| record.kind != Kind::Lost), "{history:?}");
    alone.lives_on().await;
}

/// Each worker that takes the step dies and is replaced, as by a supervisor.
async fn kills_its_workers(input: Value, worker: impl Fn(&Fleet) -> Process) {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator_with(Config { max_losses: 2, ..Config::default() });
    let run = fleet.client.start("unruly", &input).enqueue().await.unwrap();
    for _ in 0..3 {
        let mut victim = worker(&fleet);
        let status = victim.ended().await;
        assert!(std::os::unix::process::ExitStatusExt::signal(&status).is_some(), "{status}: {}", victim.log());
    }
    let ended = run.wait(LIMIT).await.unwrap();
    let error = ended.error.unwrap_or_default();
    assert_eq!(ended.status, Status::Failed, "{error}");
    assert!(error.contains("\"misbehave\" killed its worker 3 times while it was executed alone"), "{error}");
    let history = fleet.store.history(run.id(), 0, 100).await.unwrap();
    assert_eq!(history.iter().filter(|r| r.kind == Kind::Lost).count(), 3, "{history:?}");

    let _survivor = worker(&fleet);
    let after = fleet.client.start("chain", &json!({ "n": 1 })).enqueue().await.unwrap();
    assert_eq!(after.wait(LIMIT).await.unwrap().status, Status::Completed);
}

#[tokio::test]
async fn a_step_that_aborts_its_process_is_named_as_what_kills_its_workers() {
    kills_its_workers(json!({ "how": "abort" }), |fleet| fleet.worker(WORKER, &[])).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_step_that_runs_out_of_memory_is_named_as_what_kills_its_workers() {
    kills_its_workers(json!({ "how": "allocate", "mebibytes": 4096 }), |fleet| {
        let settings = [("STEPFLEET_REDIS", fleet.redis.url.as_str()), ("RUST_LOG", "info")];
        Process::start(Path::new("sh"), &["-c", "ulimit -v 2000000; exec \"$0\"", WORKER], &settings)
    })
    .await;
}

#[tokio::test]
async fn a_step_that_blocks_its_thread_for_longer_than_the_lease_keeps_its_hold_and_holds_no_other_run_up() {
    let alone = Alone::with(&[("TOKIO_WORKER_THREADS", "4"), ("STEPFLEET_CONCURRENCY", "4")]).await;
    let blocking = alone.fleet.client.start("blocking", &json!({ "n": 7 })).enqueue().await.unwrap();
    until(async || {
        alone.fleet.store.run(blocking.id()).await.unwrap().is_some_and(|run| run.status == Status::Running)
    })
    .await;
    for _ in 0..10 {
        alone.lives_on().await;
    }
    let others_ended = alone.fleet.store.now_ms().await.unwrap();
    let ended = blocking.wait(LIMIT).await.unwrap();
    assert_eq!(ended.status, Status::Completed, "{ended:?}");
    assert!(others_ended < ended.finished_ms.unwrap(), "the others had to wait for it");
    let history = alone.fleet.store.history(blocking.id(), 0, 100).await.unwrap();
    assert!(history.iter().all(|record| record.kind != Kind::Lost), "{history:?}");
    alone.lives_on().await;
}

#[tokio::test]
async fn a_step_that_never_returns_fails_at_its_timeout_and_holds_nothing_up() {
    let alone = Alone::with(&[("TOKIO_WORKER_THREADS", "4"), ("STEPFLEET_CONCURRENCY", "1")]).await;
    let (error, _) = alone.failure("endless", "await", 1).await;
    assert_eq!(error, "step go_on took longer than its timeout of 300ms");
    let (error, _) = alone.failure("endless", "panic when dropped", 1).await;
    assert_eq!(error, "step go_on took longer than its timeout of 300ms");
    alone.lives_on().await;
}

#[tokio::test]
async fn a_step_that_blocks_its_thread_for_ever_fails_at_its_timeout_and_its_slot_is_free() {
    // There is one slot: if it were not free again, nothing else could run.
    let alone = Alone::with(&[("TOKIO_WORKER_THREADS", "4"), ("STEPFLEET_CONCURRENCY", "1")]).await;
    for _ in 0..2 {
        let (error, _) = alone.failure("endless", "block", 1).await;
        assert!(error.starts_with("step go_on took longer than its timeout of 300ms and still blocks"), "{error}");
        assert!(error.contains("spawn_blocking"), "{error}");
        alone.lives_on().await;
    }
}

#[tokio::test]
async fn ten_megabytes_of_error_are_cut_in_run_and_history_with_a_note_of_how_long_it_was() {
    let alone = Alone::with(&[]).await;
    let (error, history) = alone.failure("unruly", "long error", 2).await;
    let kept: Vec<_> = history.iter().filter(|r| r.kind == Kind::Retry).map(|r| r.detail.as_str()).collect();
    assert_eq!(kept.len(), 1);
    for text in [error.as_str(), kept[0]] {
        assert!(text.len() < LONGEST_ERROR && text.ends_with("... (10000000 bytes)"), "{text}");
    }
    let whole: usize = history.iter().map(|record| record.detail.len()).sum();
    assert!(whole < 3 * LONGEST_ERROR, "the history has {whole} bytes");
    alone.lives_on().await;
}

#[tokio::test]
async fn ten_megabytes_in_one_value_are_refused_once_and_the_run_names_what_and_how_much() {
    let alone = Alone::with(&[]).await;
    let cases = [
        ("long field", "the context field notes has 10000005 bytes; at most 1048576 are allowed"),
        ("long edit", "the context field notes has 10000005 bytes; at most 1048576 are allowed"),
        ("long event", "the event Bulk has 10000011 bytes; at most 1048576 are allowed"),
        ("long result", "the result has 10000013 bytes; at most 1048576 are allowed"),
    ];
    for (how, sentence) in cases {
        let (error, history) = alone.failure("unruly", how, 1).await;
        assert!(error.starts_with(sentence), "{how}: {error}");
        assert!(history.iter().all(|record| record.kind != Kind::Retry), "{how} was tried again: {history:?}");
        alone.lives_on().await;
    }
}
