//! The cost of the busy path, counted by Redis itself.

use std::collections::HashMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use stepfleet_integration_tests::double;
use stepfleet_integration_tests::fleet::Fleet;
use stepfleet_integration_tests::{seen, until};
use stepfleet_shared::step::{Checkpoint, Commit, CommitStatus, Upon};

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");

#[tokio::test]
async fn an_idle_worker_blocks_on_one_read_however_much_it_serves() {
    let fleet = Fleet::new().await;
    let mut redis = fleet.redis.connection().await;
    let workers: Vec<_> = (0..3).map(|_| fleet.worker(WORKER, &[])).collect();
    fleet.workers_ready(workers.len()).await;
    let mut idle: Vec<String> = fleet
        .store
        .workers()
        .await
        .unwrap()
        .into_iter()
        .map(|worker| format!("stepfleet-idle-{}", worker.id))
        .collect();
    idle.sort();
    let wanted: Vec<_> = idle.into_iter().map(|name| (name, "blpop".to_owned())).collect();
    seen(async || blocked(&mut redis).await, |blocked| *blocked == wanted).await;
}

/// The clients in a blocking call: name and command.
async fn blocked(redis: &mut MultiplexedConnection) -> Vec<(String, String)> {
    let list: String = redis::cmd("CLIENT").arg("LIST").query_async(redis).await.unwrap();
    let read = |line: &str| {
        let fields: HashMap<&str, &str> = line.split(' ').filter_map(|field| field.split_once('=')).collect();
        let is_blocked = fields.get("flags")?.contains('b');
        is_blocked.then(|| Some(((*fields.get("name")?).to_owned(), (*fields.get("cmd")?).to_owned())))?
    };
    let mut blocked: Vec<_> = list.lines().filter_map(read).collect();
    blocked.sort();
    blocked
}

/// How often each command was called by clients.
pub(crate) async fn calls(redis: &mut MultiplexedConnection) -> HashMap<String, u64> {
    let info: String = redis::cmd("INFO").arg("commandstats").query_async(redis).await.unwrap();
    info.lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        })
        .collect()
}

#[tokio::test]
async fn the_busy_path_is_one_call_for_each_step() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator();
    let _worker = fleet.worker(WORKER, &[("STEPFLEET_CONCURRENCY", "16")]);
    fleet.workers_ready(1).await;
    let (runs, turns) = (16, 250);
    let mut redis = fleet.redis.connection().await;
    // All runs are queued before the count begins, so that the worker is busy from there on; the coordinator's own
    // calls are not the worker's.
    let mut handles = Vec::new();
    for i in 0..runs {
        let run = fleet.client.start("loop", &json!({ "n": turns })).id(format!("r{i}")).delay(Duration::from_secs(1));
        handles.push(run.enqueue().await.unwrap());
    }
    until(async || fleet.store.runs(0, 100).await.unwrap().len() >= runs).await;
    // The timers are fired by hand, in one call.
    drop(coordinator);
    let mut fired = 0;
    until(async || {
        fired += fleet.store.fire(&double::fire()).await.unwrap().fired;
        fired == runs as u64
    })
    .await;
    let () = redis::cmd("CONFIG").arg("RESETSTAT").query_async(&mut redis).await.unwrap();
    for handle in &handles {
        let end: Value = handle.result(Duration::from_secs(60)).await.unwrap();
        assert_eq!(end["answer"], (turns + 1).to_string());
    }
    let counted = calls(&mut redis).await;
    let steps = u64::try_from(runs * (turns + 1)).unwrap();
    let calls = counted["fcall"];
    println!("{calls} FCALLs for {steps} steps, and blocking reads: {:?}", counted.get("blpop"));
    assert!(calls * 100 <= steps * 105, "{calls} FCALLs for {steps} steps");
    // Several commits travel in one call, but not too many.
    assert!(calls * 32 >= steps, "the count missed the steps: {calls} FCALLs for {steps} steps");
}

/// How many commands Redis executes for the end of an attempt that has recorded a call and saved its state, and names this.
async fn commands_of_an_end(upon: Option<Upon>) -> u64 {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    double::join_fleet(store, "a", Duration::from_secs(60)).await;
    store.start(&double::start("r")).await.unwrap();
    let step = double::claim(store, "a", 1, 1).await.remove(0);
    let saved = Checkpoint { mark: Some(1), entries: vec![(1, vec![1, 7])], ..Checkpoint::default() };
    store.checkpoint("a", &step.fence, &saved).await.unwrap();
    let mut redis = fleet.redis.connection().await;
    let () = redis::cmd("CONFIG").arg("RESETSTAT").query_async(&mut redis).await.unwrap();
    let commit = Commit { journalled: true, has_traces: true, upon, ..double::stop() };
    let (outcome, _) = double::complete(store, &double::call("a", 2, false), &step, &commit, 0).await;
    assert_eq!(outcome, CommitStatus::Committed);
    let calls = calls(&mut redis).await;
    assert_eq!(calls["fcall"], 1);
    calls
        .iter()
        .filter(|(name, _)| !name.starts_with("info") && !name.starts_with("config"))
        .map(|(_, count)| count)
        .sum()
}

#[tokio::test]
async fn what_an_attempt_is_built_upon_costs_one_command_and_nothing_where_it_is_built_upon_nothing() {
    let none = commands_of_an_end(None).await;
    assert_eq!(commands_of_an_end(Some(Upon::Entry(1))).await, none + 1);
    assert_eq!(commands_of_an_end(Some(Upon::Mark(1))).await, none + 1);
}
