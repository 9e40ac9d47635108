//! Cancelling runs and sending them signals, from Rust, from redis-cli and from the command line.

use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_coordinator::Config;
use stepfleet_integration_tests::double::{call, claim, join_fleet, refill, start};
use stepfleet_integration_tests::fleet::{Fleet, Process, nothing_is_held};
use stepfleet_integration_tests::redis::redis_cli;
use stepfleet_integration_tests::seen;
use stepfleet_integration_tests::signals::{let_go, wait_for_arrival};
use stepfleet_shared::history::{Kind, Record};
use stepfleet_shared::journal::Entry;
use stepfleet_shared::run::Status;
use stepfleet_shared::step::{Body, Checkpoint, CommitStatus, Wait};

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_running_step_is_dropped_and_its_slot_is_free() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let workers: Vec<_> = (0..3).map(|_| fleet.worker(WORKER, &[("STEPFLEET_CONCURRENCY", "1")])).collect();
    fleet.workers_ready(3).await;
    let mut redis = fleet.redis.connection().await;
    let mut runs = Vec::new();
    for n in 0..3 {
        let id = format!("c-{n}");
        runs.push(fleet.client.start("gated", &json!({})).id(&id).enqueue().await.unwrap());
        wait_for_arrival(&mut redis, &id).await;
    }
    // All slots of the fleet are taken by steps that never return.
    for run in &runs {
        run.cancel().await.unwrap();
        let ended = run.wait(LIMIT).await.unwrap();
        assert_eq!(ended.status, Status::Cancelled);
        assert!(run.result::<Value>(LIMIT).await.unwrap_err().to_string().contains("cancelled on request"));
    }
    for n in 0..3 {
        let next = fleet.client.start("squares", &json!({ "count": 5 + n })).enqueue().await.unwrap();
        let _: Value = next.result(LIMIT).await.unwrap();
    }
    assert!(workers.iter().any(|worker| worker.log().contains("the step is dropped")));
    // Workers hand back their holds.
    nothing_is_held(&*fleet.store).await;
    for run in &runs {
        let history = fleet.store.history(run.id(), 0, 100).await.unwrap();
        assert_eq!(history.iter().map(|r| r.kind).collect::<Vec<_>>(), [Kind::Start, Kind::Cancelled]);
    }
}

#[tokio::test]
async fn branches_end_with_their_run_and_other_runs_go_on() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _workers: Vec<_> = (0..3).map(|_| fleet.worker(WORKER, &[("STEPFLEET_CONCURRENCY", "4")])).collect();
    fleet.workers_ready(3).await;
    let mut redis = fleet.redis.connection().await;
    let (one, other) = ("branches-1", "branches-2");
    let first = fleet.client.start("gated_branches", &json!({ "count": 300 })).id(one).enqueue().await.unwrap();
    wait_for_arrival(&mut redis, one).await;
    let second = fleet.client.start("gated_branches", &json!({ "count": 60 })).id(other).enqueue().await.unwrap();
    first.cancel().await.unwrap();
    assert_eq!(first.wait(LIMIT).await.unwrap().status, Status::Cancelled);
    let_go(&mut redis, other, 6).await;
    let _: Value = second.result(LIMIT).await.unwrap();
}

#[tokio::test]
async fn what_has_not_begun_or_has_ended() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let url = &fleet.redis.url;
    let waiting = fleet.client.start("squares", &json!({ "count": 1 })).id("waiting").enqueue().await.unwrap();
    redis_cli(url, &["XADD", "sf:{0}:inbox", "*", "op", "cancel", "run", "waiting"]);
    assert_eq!(waiting.wait(LIMIT).await.unwrap().status, Status::Cancelled);

    let _worker = fleet.worker(WORKER, &[]);
    fleet.workers_ready(1).await;
    let late = fleet.client.start("squares", &json!({ "count": 1 })).delay(Duration::from_secs(3600));
    let late = late.id("late").enqueue().await.unwrap();
    late.cancel().await.unwrap();
    assert_eq!(late.wait(LIMIT).await.unwrap().status, Status::Cancelled);

    let done = fleet.client.start("squares", &json!({ "count": 2 })).id("done").enqueue().await.unwrap();
    let end: Value = done.result(LIMIT).await.unwrap();
    done.cancel().await.unwrap();
    // The next request is processed after it.
    let after = fleet.client.start("squares", &json!({ "count": 1 })).enqueue().await.unwrap();
    let _: Value = after.result(LIMIT).await.unwrap();
    assert_eq!(done.result::<Value>(LIMIT).await.unwrap(), end);
}

#[tokio::test]
async fn requests_about_runs_that_nobody_knows_are_rejected_with_a_reason() {
    let fleet = Fleet::new().await;
    let config =
        Config { reclaim_idle: Duration::from_millis(200), reclaim: Duration::from_millis(20), ..Config::default() };
    let _coordinator = fleet.coordinator_with(config);
    let _worker = fleet.worker(WORKER, &[]);
    fleet.workers_ready(1).await;
    let done = fleet.client.start("squares", &json!({ "count": 2 })).id("done").enqueue().await.unwrap();
    let _: Value = done.result(LIMIT).await.unwrap();
    fleet.client.run("nobody").cancel().await.unwrap();
    fleet.client.run("nobody").signal("approval", &true).await.unwrap();
    done.signal("approval", &true).await.unwrap();
    let mut redis = fleet.redis.connection().await;
    let reasons = async || {
        let rejected: redis::streams::StreamRangeReply =
            redis::cmd("XRANGE").arg("sf:{0}:rejected").arg("-").arg("+").query_async(&mut redis).await.unwrap();
        rejected.ids.iter().filter_map(|entry| entry.get("reason")).collect::<Vec<String>>()
    };
    let mut reasons = seen(reasons, |reasons| reasons.len() == 3).await;
    reasons.sort();
    let unknown = "there is no run nobody; start it first, or check the id";
    assert_eq!(reasons, ["run done has ended: no step will take the signal approval", unknown, unknown]);
    let inbox: u64 = redis::cmd("XLEN").arg("sf:{0}:inbox").query_async(&mut redis).await.unwrap();
    assert_eq!(inbox, 0);
}

/// A step that waits, without the SDK.
#[tokio::test]
async fn signals_from_any_client_reach_the_step_that_waits_in_the_order_sent() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    join_fleet(store, "a", LIMIT).await;
    store.start(&start("r")).await.unwrap();
    let step = claim(store, "a", 1, 1).await.remove(0);
    let waits: Vec<_> = (1..4).map(|number| Wait { number, name: "answer".into(), ..Wait::default() }).collect();
    let checkpoint = Checkpoint { waits: waits.clone(), ..Checkpoint::default() };
    store.checkpoint("a", &step.fence, &checkpoint).await.unwrap();
    let (outcome, _) =
        store.suspend(&call("a", 2, false), &step, &waits, Body::Dropped, None, &refill(0)).await.unwrap();
    assert_eq!(outcome, CommitStatus::Committed);

    let _coordinators = [fleet.coordinator()];
    let url = &fleet.redis.url;
    redis_cli(url, &["XADD", "sf:{0}:inbox", "*", "op", "signal", "run", "r", "name", "answer", "input", "\"one\""]);
    let run = fleet.client.run("r");
    run.signal("answer", &"two").await.unwrap();
    let mut cli = Process::start(
        std::path::Path::new(STEPFLEET),
        &["--redis", url, "signal", "r", "answer", "--input", "\"three\""],
        &[],
    );
    assert!(cli.ended().await.success(), "{}", cli.log());
    let history = async || store.history("r", 0, 100).await.unwrap();
    let signals = |history: &[Record]| history.iter().filter(|record| record.kind == Kind::Signal).count();
    seen(history, |history| signals(history) == 3).await;
    let again = claim(store, "a", 3, 1).await.remove(0);
    let mut journal = again.journal;
    journal.sort();
    let value = |(_, entry): &(u64, Vec<u8>)| match Entry::read(entry).unwrap() {
        Entry::Signal { payload, .. } => stepfleet_shared::codec::decode("a signal", payload).unwrap(),
        other => panic!("{other:?}"),
    };
    let values: Vec<String> = journal.iter().map(value).collect();
    assert_eq!(values, ["one", "two", "three"]);
}

#[tokio::test]
async fn the_command_line_cancels_and_shows_the_outcome() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _worker = fleet.worker(WORKER, &[]);
    fleet.workers_ready(1).await;
    let cancel = async |id: &str| {
        let arguments = ["--redis", fleet.redis.url.as_str(), "cancel", id];
        let mut process = Process::start(std::path::Path::new(STEPFLEET), &arguments, &[]);
        (process.ended().await.success(), process.log())
    };
    let mut redis = fleet.redis.connection().await;
    fleet.client.start("gated", &json!({})).id("mine").enqueue().await.unwrap();
    wait_for_arrival(&mut redis, "mine").await;
    assert_eq!(cancel("mine").await, (true, "run mine is cancelled\n".into()));
    let done = fleet.client.start("squares", &json!({ "count": 1 })).id("done").enqueue().await.unwrap();
    let _: Value = done.result(LIMIT).await.unwrap();
    assert_eq!(cancel("done").await, (true, "run done had ended already, as completed\n".into()));
    let (fine, said) = cancel("nobody").await;
    assert!(!fine && said.contains("there is no run nobody; see stepfleet runs"), "{said}");
}

#[tokio::test]
async fn the_command_line_shows_unused_signals_and_rejections() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    fleet.store.start(&start("r")).await.unwrap();
    let tell = async |arguments: &[&str]| {
        let all = [&["--redis", fleet.redis.url.as_str()], arguments].concat();
        let mut process = Process::start(std::path::Path::new(STEPFLEET), &all, &[]);
        (process.ended().await.success(), process.log())
    };
    let given = tell(&["signal", "r", "word", "--input", "1"]).await;
    assert_eq!(
        given,
        (true, "run r keeps the signal word: no step waits for it yet, and the next one that does gets it\n".into())
    );
    let (fine, said) = tell(&["send", "r", "Nonsense"]).await;
    assert!(!fine && said.contains("no worker has registered w version 1"), "{said}");
    let (_, said) = tell(&["send", "r", "Nonsense", "--json"]).await;
    assert!(said.contains(r#""became":"rejected""#), "{said}");
    assert!(tell(&["cancel", "r"]).await.0);
    let (_, shown) = tell(&["show", "r"]).await;
    assert!(shown.contains("unused    signals word 1"), "{shown}");
}

#[tokio::test]
async fn the_command_line_lists_runs_by_workflow_and_status_page_by_page() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _worker = fleet.worker(WORKER, &[]);
    fleet.workers_ready(1).await;
    for n in 0..3 {
        let run =
            fleet.client.start("squares", &json!({ "count": 1 })).id(format!("good-{n}")).enqueue().await.unwrap();
        run.wait(LIMIT).await.unwrap();
        let run = fleet.client.start("broken", &json!({ "n": 0 })).id(format!("bad-{n}")).enqueue().await.unwrap();
        run.wait(LIMIT).await.unwrap();
    }
    let list = async |arguments: &[&str]| {
        let mut all = vec!["--redis", fleet.redis.url.as_str(), "--json", "runs"];
        all.extend_from_slice(arguments);
        let mut process = Process::start(std::path::Path::new(STEPFLEET), &all, &[]);
        assert!(process.ended().await.success(), "{}", process.log());
        let found: Vec<Value> = serde_json::from_str(&process.log()).unwrap();
        found.iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list(&["--status", "failed"]).await, ["bad-2", "bad-1", "bad-0"]);
    assert_eq!(list(&["--workflow", "squares", "--limit", "2"]).await, ["good-2", "good-1"]);
    assert_eq!(list(&["--workflow", "squares", "--limit", "2", "--skip", "2"]).await, ["good-0"]);
    assert_eq!(list(&["--status", "failed", "--status", "completed", "--limit", "10"]).await.len(), 6);
    assert!(list(&["--status", "failed", "--workflow", "squares"]).await.is_empty());
}
