//! A Redis in cluster mode refuses calls that touch keys of several slots: a fleet that works there uses one hash tag.

use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_integration_tests::fleet::Fleet;
use stepfleet_integration_tests::redis::TestRedis;
use stepfleet_integration_tests::signals::wait_for_arrival;
use stepfleet_shared::run::Status;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn it_refuses_keys_of_another_slot() {
    let redis = TestRedis::cluster_of_one().await;
    let mut connection = redis.connection().await;
    let two: redis::RedisResult<u64> =
        redis::cmd("DEL").arg("sf:{0}:a").arg("sf:{1}:a").query_async(&mut connection).await;
    assert!(two.unwrap_err().to_string().contains("same slot"));
    let library = "#!lua name=x\nredis.register_function('x', function(k) redis.call('SET', k[1], 1) return redis.call('SET', 'sf:meta', 1) end)";
    let _: String = redis::cmd("FUNCTION").arg("LOAD").arg(library).query_async(&mut connection).await.unwrap();
    let call: redis::RedisResult<String> =
        redis::cmd("FCALL").arg("x").arg(1).arg("sf:{0}:a").query_async(&mut connection).await;
    assert!(call.unwrap_err().to_string().contains("same slot"));
}

#[tokio::test]
async fn a_fleet_keeps_to_one_slot() {
    let fleet = Fleet::on(TestRedis::cluster_of_one().await);
    let _coordinators = [fleet.coordinator(), fleet.coordinator()];
    let mut workers: Vec<_> = (0..3).map(|_| fleet.worker(WORKER, &[])).collect();
    fleet.workers_ready(3).await;
    let cases = [
        ("squares", json!({ "count": 1000 }), "count", json!(1000)),
        ("nested", json!({ "n": 5 }), "answer", json!("[0, 1, 3, 6, 10]")),
        ("loop", json!({ "n": 40 }), "answer", json!("41")),
        ("flaky", json!({ "n": 1 }), "answer", json!("attempt 2 saw 0")),
    ];
    for (workflow, input, field, expected) in cases {
        let run = fleet.client.start(workflow, &input).key(workflow).enqueue().await.unwrap();
        let end: Value = run.result(LIMIT).await.unwrap();
        assert_eq!(end[field], expected, "{workflow}");
    }
    let mut redis = fleet.redis.connection().await;
    let gated = fleet.client.start("gated", &json!({})).id("gated").enqueue().await.unwrap();
    let victim = wait_for_arrival(&mut redis, "gated").await;
    workers.iter_mut().find(|worker| worker.id() == victim).unwrap().kill();
    assert_ne!(wait_for_arrival(&mut redis, "gated").await, victim);
    gated.cancel().await.unwrap();
    assert_eq!(gated.wait(LIMIT).await.unwrap().status, Status::Cancelled);
}
