//! Workers and coordinators that are killed, stopped and continued, as real processes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_coordinator::Config;
use stepfleet_integration_tests::fleet::{Fleet, Process, Signal};
use stepfleet_integration_tests::signals::{let_go, wait_for_arrival};
use stepfleet_integration_tests::until;
use stepfleet_shared::history::{Kind, Record};

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(90);

/// Asserts that every step execution was committed, and none twice.
pub(crate) fn assert_committed_once(history: &[Record]) {
    let mut commits: BTreeMap<u64, u32> = BTreeMap::new();
    for record in history.iter().filter(|r| r.kind == Kind::Done) {
        *commits.entry(record.seq).or_default() += 1;
    }
    let twice: Vec<_> = commits.iter().filter(|(_, n)| **n > 1).collect();
    assert!(twice.is_empty(), "committed more than once: {twice:?}");
}

/// Which of the processes has this id.
fn take(workers: &mut Vec<Process>, pid: u32) -> Process {
    let at = workers.iter().position(|w| w.id() == pid).expect("one of the workers");
    workers.remove(at)
}

#[tokio::test]
async fn a_worker_killed_in_the_middle_of_a_step_is_noticed_long_before_its_lease_ends() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let mut workers: Vec<_> = (0..2).map(|_| fleet.worker(WORKER, &[])).collect();
    fleet.workers_ready(2).await;
    let run = fleet.client.start("gated", &json!({})).id("mid").enqueue().await.unwrap();
    let mut redis = fleet.redis.connection().await;
    let victim = wait_for_arrival(&mut redis, "mid").await;
    take(&mut workers, victim).kill();
    let lease_left = fleet.store.workers().await.unwrap().iter().find(|w| w.pid == victim).map(|w| w.lease_ms);
    let heir = wait_for_arrival(&mut redis, "mid").await;
    assert_ne!(heir, victim);
    let_go(&mut redis, "mid", 1).await;
    let end: Value = run.result(LIMIT).await.unwrap();
    assert_eq!(end["answer"], "attempt 2 after None", "what the dead attempt wrote must not be seen");
    let history = fleet.store.history("mid", 0, 100).await.unwrap();
    let lost: Vec<_> = history.iter().filter(|r| r.kind == Kind::Lost).collect();
    assert_eq!(lost.len(), 1, "{history:?}");
    let done = history.iter().find(|r| r.kind == Kind::Done).unwrap();
    // The lease was renewed at most a second before the kill: waiting for its end would have taken at least 3.5 s.
    if let Some(left) = lease_left {
        let waited = done.began_ms().unwrap() - lost[0].at_ms;
        assert!(left > 0 && i64::try_from(waited).unwrap() < left, "the lease's end was waited for");
    }
    assert_committed_once(&history);
}

#[tokio::test]
async fn a_worker_killed_between_steps_loses_nothing_that_was_committed() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let mut workers: Vec<_> = (0..2).map(|_| fleet.worker(WORKER, &[])).collect();
    fleet.workers_ready(2).await;
    let run = fleet.client.start("gated_chain", &json!({ "n": 7 })).id("between").enqueue().await.unwrap();
    let mut redis = fleet.redis.connection().await;
    let victim = wait_for_arrival(&mut redis, "between").await;
    take(&mut workers, victim).kill();
    assert_ne!(wait_for_arrival(&mut redis, "between").await, victim);
    let_go(&mut redis, "between", 1).await;
    let end: Value = run.result(LIMIT).await.unwrap();
    assert_eq!(end["answer"], "first ran 1 times before, n was 7");
    assert_committed_once(&fleet.store.history("between", 0, 100).await.unwrap());
}

#[tokio::test]
async fn workers_killed_inside_a_fan_out_of_500_lose_no_branch_and_repeat_no_commit() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let settings = [("STEPFLEET_CONCURRENCY", "8")];
    let mut workers: Vec<_> = (0..4).map(|_| fleet.worker(WORKER, &settings)).collect();
    fleet.workers_ready(4).await;
    let run = fleet.client.start("gated_branches", &json!({ "count": 500 })).id("fan").enqueue().await.unwrap();
    let mut redis = fleet.redis.connection().await;
    // Three of the four die, each while it holds a branch that waits.
    for _ in 0..3 {
        let victim = loop {
            let pid = wait_for_arrival(&mut redis, "fan").await;
            if workers.iter().any(|w| w.id() == pid) && workers.len() > 1 {
                break pid;
            }
        };
        take(&mut workers, victim).kill();
        let_go(&mut redis, "fan", 5).await;
    }
    // Attempts of dead workers may have used up to three of these signals.
    let_go(&mut redis, "fan", 150).await;
    let sum: Value = run.result(LIMIT).await.unwrap();
    assert_eq!(sum, json!({ "count": 500, "sum": 500 * 501 / 2 }));
    let history = fleet.store.history("fan", 0, 10_000).await.unwrap();
    assert!(history.iter().filter(|r| r.kind == Kind::Lost).count() >= 3);
    assert_eq!(history.iter().filter(|r| r.kind == Kind::Done && r.step == "branch").count(), 500);
    assert_committed_once(&history);
}

#[tokio::test]
async fn a_zombie_that_wakes_up_after_its_lease_commits_nothing() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let zombie = fleet.worker(WORKER, &[("STEPFLEET_WORKER_NAME", "zombie")]);
    fleet.workers_ready(1).await;
    let run = fleet.client.start("gated", &json!({})).id("z").enqueue().await.unwrap();
    let mut redis = fleet.redis.connection().await;
    assert_eq!(wait_for_arrival(&mut redis, "z").await, zombie.id());
    zombie.signal(Signal::STOP);
    let heir = fleet.worker(WORKER, &[("STEPFLEET_WORKER_NAME", "heir")]);
    assert_eq!(wait_for_arrival(&mut redis, "z").await, heir.id(), "the lease did not run out");
    // The zombie wakes up while the other attempt is executing, and may continue first.
    zombie.signal(Signal::CONT);
    let_go(&mut redis, "z", 1).await;
    fleet.workers_ready(2).await;
    let_go(&mut redis, "z", 1).await;
    let end: Value = run.result(LIMIT).await.unwrap();
    assert_eq!(end["answer"], "attempt 2 after None");
    let history = fleet.store.history("z", 0, 100).await.unwrap();
    let done = history.iter().find(|r| r.kind == Kind::Done).unwrap();
    assert!(done.worker.starts_with("heir"), "{history:?}");
    assert_committed_once(&history);
    assert!(zombie.log().contains("the lease ran out"), "the zombie did not notice:\n{}", zombie.log());
}

#[tokio::test]
async fn steps_that_block_every_thread_for_longer_than_the_lease_keep_their_holds() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _worker = fleet.worker(WORKER, &[("TOKIO_WORKER_THREADS", "1")]);
    fleet.workers_ready(1).await;
    let run = fleet.client.start("blocking", &json!({ "n": 7 })).id("b").enqueue().await.unwrap();
    assert_eq!(run.result::<Value>(LIMIT).await.unwrap()["answer"], "attempt 1");
    let history = fleet.store.history("b", 0, 100).await.unwrap();
    assert!(history.iter().all(|r| r.kind != Kind::Lost), "{history:?}");
}

#[tokio::test]
async fn a_run_goes_on_when_its_coordinator_is_killed_and_others_take_over() {
    let fleet = Fleet::new().await;
    let mut first = fleet.coordinator_process(STEPFLEET);
    let mut workers = vec![fleet.worker(WORKER, &[])];
    fleet.workers_ready(1).await;
    let mut redis = fleet.redis.connection().await;
    let run = fleet.client.start("gated_chain", &json!({ "n": 1 })).id("c").enqueue().await.unwrap();
    let victim = wait_for_arrival(&mut redis, "c").await;
    first.kill();
    // Without any coordinator: requests wait in the inbox, and a dead worker's step waits for recovery.
    let later = fleet.client.start("chain", &json!({ "n": 2 })).id("later").enqueue().await.unwrap();
    take(&mut workers, victim).kill();
    workers.push(fleet.worker(WORKER, &[]));
    // Three take over, and one of them is killed at once: the others do its work.
    let mut three: Vec<_> = (0..3).map(|_| fleet.coordinator_process(STEPFLEET)).collect();
    three[0].kill();
    wait_for_arrival(&mut redis, "c").await;
    let_go(&mut redis, "c", 1).await;
    assert_eq!(run.result::<Value>(LIMIT).await.unwrap()["answer"], "first ran 1 times before, n was 1");
    assert_eq!(later.result::<Value>(LIMIT).await.unwrap()["answer"], "hello 2 later");
    assert_committed_once(&fleet.store.history("c", 0, 100).await.unwrap());
}

#[tokio::test]
async fn a_worker_told_to_stop_lets_its_steps_end_and_takes_no_more() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let mut worker = fleet.worker(WORKER, &[]);
    fleet.workers_ready(1).await;
    let mut redis = fleet.redis.connection().await;
    let run = fleet.client.start("gated", &json!({})).id("t").enqueue().await.unwrap();
    wait_for_arrival(&mut redis, "t").await;
    worker.signal(Signal::TERM);
    until(async || worker.log().contains("told to stop")).await;
    let_go(&mut redis, "t", 1).await;
    assert_eq!(run.result::<Value>(LIMIT).await.unwrap()["answer"], "attempt 1 after None");
    assert!(worker.ended().await.success(), "{}", worker.log());
    assert!(fleet.store.workers().await.unwrap().is_empty(), "it is still listed");
}

#[tokio::test]
async fn a_second_signal_hands_back_at_once_without_waiting_for_any_lease() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator_with(Config { liveness: Duration::from_secs(3600), ..Config::default() });
    let mut worker = fleet.worker(WORKER, &[]);
    fleet.workers_ready(1).await;
    let mut redis = fleet.redis.connection().await;
    let run = fleet.client.start("gated", &json!({})).id("h").enqueue().await.unwrap();
    wait_for_arrival(&mut redis, "h").await;
    worker.signal(Signal::TERM);
    until(async || worker.log().contains("told to stop")).await;
    worker.signal(Signal::TERM);
    assert!(worker.ended().await.success(), "{}", worker.log());
    let history = fleet.store.history("h", 0, 100).await.unwrap();
    assert_eq!(history.last().map(|r| r.kind), Some(Kind::Released), "{history:?}");
    let _heir = fleet.worker(WORKER, &[]);
    wait_for_arrival(&mut redis, "h").await;
    let_go(&mut redis, "h", 1).await;
    assert_eq!(run.result::<Value>(LIMIT).await.unwrap()["answer"], "attempt 2 after None");
}

#[tokio::test]
async fn a_hundred_children_outlive_the_workers_of_their_parent_and_of_each_other() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let mut workers: Vec<_> = (0..3).map(|_| fleet.worker(WORKER, &[])).collect();
    fleet.workers_ready(3).await;
    let run = fleet.client.start("family", &json!({ "members": 100, "waits": true })).id("f").enqueue().await.unwrap();
    let members = async || {
        let listed = fleet.client.runs().workflow("member").list(1000).await.unwrap();
        listed.into_iter().map(|run| run.id).collect::<Vec<_>>()
    };
    until(async || members().await.len() >= 50).await;
    workers.remove(0).kill();
    until(async || members().await.len() == 100).await;
    for (n, member) in members().await.into_iter().enumerate() {
        fleet.client.run(member).signal("go", &"now").await.unwrap();
        if n == 50 {
            workers.remove(0).kill();
        }
    }
    assert_eq!(run.result::<u64>(LIMIT).await.unwrap(), 5050);
    let members = members().await;
    assert_eq!(members.len(), 100, "each child was started once");
    for run in members.iter().map(String::as_str).chain(["f"]) {
        let history = fleet.store.history(run, 0, 10_000).await.unwrap();
        let ends = history.iter().filter(|record| record.kind == Kind::Completed).count();
        assert_eq!(ends, 1, "{run}: {history:?}");
        assert_committed_once(&history);
    }
}
