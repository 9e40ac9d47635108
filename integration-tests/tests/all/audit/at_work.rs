//! Audits of a fleet at work: its own, and those that its operator requests.

use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_coordinator::Config;
use stepfleet_integration_tests::fleet::{Fleet, Process};
use stepfleet_integration_tests::redis::connect;
use tokio_util::sync::CancellationToken;

use super::{STEPFLEET, Stage, WORKER};

/// Keys of a working fleet vanish again and again; its coordinators audit all the time.
#[tokio::test]
async fn a_fleet_at_work_ends_every_run() {
    let fleet = Fleet::new().await;
    let _workers: Vec<Process> = (0..3).map(|_| fleet.worker(WORKER, &[("STEPFLEET_CONCURRENCY", "4")])).collect();
    let _coordinators: Vec<_> = (0..2)
        .map(|_| fleet.coordinator_with(Config { audit: Duration::from_millis(50), ..Config::default() }))
        .collect();
    fleet.workers_ready(3).await;
    let mut runs = Vec::new();
    for n in 0..12 {
        runs.push(fleet.client.start("loop", &json!({ "n": 200 })).id(format!("l-{n}")).enqueue().await.unwrap());
    }
    let done = CancellationToken::new();
    let vandal = tokio::spawn(vandalise(fleet.redis.url.clone(), done.clone()));
    for run in &runs {
        // If the key cannot be made again, the run fails with a reason; otherwise it completes.
        let ended: Result<Value, _> = run.result(Duration::from_secs(120)).await;
        if let Err(error) = ended {
            assert!(error.to_string().contains("cannot go on"), "{}: {error}", run.id());
        }
    }
    done.cancel();
    assert!(vandal.await.unwrap() > 5);
}

async fn vandalise(url: String, done: CancellationToken) -> u64 {
    let client = redis::Client::open(url).unwrap();
    let mut redis = connect(&client).await.unwrap();
    let mut deeds = 0;
    for kind in [
        "queue:loop:3",
        "requeued:loop:3",
        "timers",
        "held:",
        "leases",
        "runs",
        "queues",
        "ready",
        "urgent",
        "serves:",
        "classes:",
        "clients",
        "idle:",
        "wake:",
    ]
    .iter()
    .cycle()
    {
        if done.run_until_cancelled(tokio::time::sleep(Duration::from_millis(30))).await.is_none() {
            break;
        }
        let pattern = format!("sf:{{0}}:{kind}*");
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut redis).await.unwrap();
        for key in keys {
            let _: u64 = redis::cmd("DEL").arg(key).query_async(&mut redis).await.unwrap();
            deeds += 1;
        }
    }
    deeds
}

/// A fleet's operator looks, and then repairs.
#[tokio::test]
async fn the_doctor_tells_of_breaches_and_mends_them_when_asked() {
    let stage = Stage::new().await;
    stage.delete("queue:w:1").await;
    let doctor = async |arguments: &[&str]| {
        let mut all = vec!["--redis", stage.fleet.redis.url.as_str(), "--json", "doctor", "--runs"];
        all.extend_from_slice(arguments);
        let mut process = Process::start(std::path::Path::new(STEPFLEET), &all, &[]);
        let code = process.ended().await;
        (code.success(), serde_json::from_str::<Value>(&process.log()).unwrap())
    };
    let (fine, found) = doctor(&[]).await;
    assert!(!fine);
    assert_eq!(
        found["breaches"],
        json!([{ "of": "r", "what": "step execution 1 is queued but missing from its queue" }])
    );
    assert_eq!(found["repaired"], false);
    let (fine, found) = doctor(&["--repair"]).await;
    assert!(fine);
    assert_eq!((found["breaches"].as_array().unwrap().len(), &found["repaired"]), (1, &json!(true)));
    assert_eq!(found["repaired_ever"], 1, "the look before it was none");
    let (fine, found) = doctor(&[]).await;
    assert!(fine);
    assert_eq!(found["breaches"], json!([]));
}
