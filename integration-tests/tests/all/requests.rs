//! Requests from any Redis client: taken, held, refused, repeated.

use std::time::Duration;

use redis::AsyncCommands;
use serde_json::{Value, json};
use stepfleet_coordinator::Config;
use stepfleet_integration_tests::fleet::Fleet;
use stepfleet_integration_tests::redis::redis_cli;
use stepfleet_integration_tests::{seen, until};
use stepfleet_shared::run::Status;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_run_is_started_and_its_result_read_with_redis_cli_alone() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _worker = fleet.worker(WORKER, &[]);
    let url = &fleet.redis.url;
    let input = r#"{"count": 3}"#;
    redis_cli(url, &["XADD", "sf:{0}:inbox", "*", "op", "start", "workflow", "squares", "id", "mine", "input", input]);
    // Without an id, the run has the id of the entry.
    let id = redis_cli(url, &["XADD", "sf:{0}:inbox", "*", "op", "start", "workflow", "squares", "input", input]);
    for id in ["mine", &id] {
        let key = format!("sf:{{0}}:run:{id}");
        fleet.client.run(id).wait(LIMIT).await.unwrap();
        assert_eq!(redis_cli(url, &["HGET", &key, "status"]), "completed");
        assert_eq!(redis_cli(url, &["HGET", &key, "result"]), r#"{"count":3,"sum":14}"#);
    }
}

#[tokio::test]
async fn input_and_result_can_be_messagepack() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _worker = fleet.worker(WORKER, &[]);
    let mut redis = fleet.redis.connection().await;
    let input: &[u8] = b"\x81\xa5count\x02";
    let id: String = redis::cmd("XADD")
        .arg(&["sf:{0}:inbox", "*", "op", "start", "workflow", "squares", "content", "msgpack", "input"])
        .arg(input)
        .query_async(&mut redis)
        .await
        .unwrap();
    fleet.client.run(&id).wait(LIMIT).await.unwrap();
    let result: Vec<u8> = redis.hget(format!("sf:{{0}}:run:{id}"), "result").await.unwrap();
    assert_eq!(result, b"\x82\xa5count\x02\xa3sum\x05");
}

#[tokio::test]
async fn the_same_id_or_key_is_the_same_run() {
    let fleet = Fleet::new().await;
    let _coordinators: Vec<_> = (0..3).map(|_| fleet.coordinator()).collect();
    let _worker = fleet.worker(WORKER, &[]);
    let mut handles = Vec::new();
    for n in 0..20 {
        handles.push(fleet.client.start("loop", &json!({ "n": n })).id("same").enqueue().await.unwrap());
        handles.push(fleet.client.start("loop", &json!({ "n": n })).key("order-7").enqueue().await.unwrap());
    }
    let mut answers = Vec::new();
    for handle in &handles {
        answers.push(handle.wait(LIMIT).await.unwrap().id);
    }
    answers.sort();
    answers.dedup();
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert_eq!(fleet.store.runs(0, 100).await.unwrap().len(), 2);
    let key: String = fleet.redis.connection().await.get("sf:{0}:key:loop:order-7").await.unwrap();
    assert!(answers.contains(&key));
}

#[tokio::test]
async fn what_cannot_be_taken_is_kept_with_the_reason_and_holds_nothing_up() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _worker = fleet.worker(WORKER, &[]);
    let mut redis = fleet.redis.connection().await;
    let bad: [(&[&str], &str); 5] = [
        (&["op", "start", "workflow", "chain", "input", "{bad", "id", "b1"], "the input cannot be read"),
        (&["op", "dance", "id", "b2"], "not known"),
        (&["op", "start", "id", "b3"], "no field workflow"),
        (&["op", "start", "workflow", "chain", "id", "b4", "delay", "soon"], "milliseconds"),
        (&["op", "start", "workflow", "chain", "id", "b5", "colour", "red"], "colour"),
    ];
    for (entry, _) in &bad {
        let _: String =
            redis::cmd("XADD").arg("sf:{0}:inbox").arg("*").arg(*entry).query_async(&mut redis).await.unwrap();
    }
    let large = "x".repeat(2_000_000);
    let entry: String = redis::cmd("XADD")
        .arg(&["sf:{0}:inbox", "*", "op", "start", "workflow", "chain", "id", "b6", "input", &large])
        .query_async(&mut redis)
        .await
        .unwrap();
    for (i, (_, reason)) in bad.iter().enumerate() {
        let run = fleet.client.run(format!("b{}", i + 1)).wait(LIMIT).await.unwrap();
        assert_eq!(run.status, Status::Rejected);
        assert!(run.error.as_deref().unwrap().contains(reason), "{run:?}");
        let refused = fleet.client.run(run.id).accepted(LIMIT).await.unwrap_err();
        assert!(refused.is_invalid() && refused.to_string().contains(reason), "{refused}");
    }
    assert!(fleet.client.run("b6").wait(LIMIT).await.unwrap().error.unwrap().contains("at most 1048576"));
    let kept: redis::streams::StreamRangeReply =
        redis::cmd("XRANGE").arg("sf:{0}:rejected").arg("-").arg("+").query_async(&mut redis).await.unwrap();
    assert_eq!(kept.ids.len(), 6);
    let last = kept.ids.iter().find(|e| e.get::<String>("entry").as_ref() == Some(&entry)).unwrap();
    assert!(last.get::<String>("input").is_none_or(|input| input.len() < 1000), "kept whole");
    let inbox: u64 = redis.xlen("sf:{0}:inbox").await.unwrap();
    assert_eq!(inbox, 0);
    // The same id, with a valid request.
    let run = fleet.client.start("chain", &json!({ "n": 1 })).id("b1").enqueue().await.unwrap();
    // The earlier request with this id was rejected.
    let status = async || run.wait(LIMIT).await.unwrap().status;
    assert_eq!(seen(status, |status| *status != Status::Rejected).await, Status::Completed);
}

#[tokio::test]
async fn a_workflow_that_nobody_serves_yet_is_waited_for_and_then_refused_with_the_nearest_name() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator_with(Config { grace: Duration::from_secs(2), ..Config::default() });
    let early = fleet.client.start("chain", &json!({ "n": 5 })).id("early").enqueue().await.unwrap();
    until(async || !fleet.store.deferred().await.unwrap().is_empty()).await;
    let _worker = fleet.worker(WORKER, &[]);
    assert_eq!(early.result::<Value>(LIMIT).await.unwrap()["answer"], "hello 5 early");
    let refused = fleet.client.start("chian", &json!({})).enqueue().await.err().expect("a fleet is there");
    assert!(refused.is_not_found() && refused.to_string().contains("did you mean \"chain\"?"), "{refused}");
    assert_eq!(fleet.store.waiting_requests().await.unwrap() + fleet.store.deferred().await.unwrap().len() as u64, 0);
    let unknown = fleet.client.start("chian", &json!({})).id("typo").hold().enqueue().await.unwrap();
    let moment = Duration::from_millis(100);
    until(async || fleet.store.is_deferred("typo").await.unwrap()).await;
    let waits = unknown.wait(moment).await.unwrap_err().to_string();
    assert!(waits.contains("did you mean \"chain\"?"), "whichever limit ends first says why: {waits}");
    let run = unknown.wait(LIMIT).await.unwrap();
    assert_eq!(run.status, Status::Rejected);
    let error = run.error.unwrap();
    assert!(error.contains("chain") && error.contains("count"), "{error}");
    assert!(fleet.store.deferred().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_run_gets_the_highest_version_that_a_live_worker_serves() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _worker = fleet.worker(WORKER, &[]);
    let run = fleet.client.start("loop", &json!({ "n": 1 })).enqueue().await.unwrap();
    assert_eq!(run.wait(LIMIT).await.unwrap().version, 3);
}
