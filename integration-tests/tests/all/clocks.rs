//! Workers and coordinators whose clocks are hours off: leases, delays and retries use Redis' clock alone.
//!
//! Needs the program `faketime`, which `make test` installs with apt; elsewhere the test says that it did not run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_integration_tests::fleet::{Fleet, Process};
use stepfleet_shared::history::Kind;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(60);

fn with_clock(offset: &str, program: &str, arguments: &[&str], redis: &str) -> Process {
    let mut all = vec!["-f", offset, program];
    all.extend_from_slice(arguments);
    // faketime starts the program as a child.
    Process::wrapped(Path::new("faketime"), &all, &[("STEPFLEET_REDIS", redis), ("RUST_LOG", "info")])
}

/// A `faketime` that was killed leaves these behind; a later one that gets its process id does not start.
fn remove_leftovers() {
    for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        let name = entry.file_name().display().to_string();
        let id = name.strip_prefix("faketime_shm_").or_else(|| name.strip_prefix("sem.faketime_sem_"));
        if id.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[tokio::test]
async fn clocks_that_are_hours_off_change_nothing() {
    let there = Command::new("faketime").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        eprintln!("NOT RUN: the program faketime is not installed");
        return;
    }
    remove_leftovers();
    let fleet = Fleet::new().await;
    let redis = fleet.redis.url.clone();
    let workers = ["+3h", "-3h"].map(|offset| with_clock(offset, WORKER, &[], &redis));
    let _coordinators = ["+5h", "-5h"].map(|offset| with_clock(offset, STEPFLEET, &["coordinator"], &redis));
    fleet.workers_ready(2).await;
    // Makes sure that the clock is faked: otherwise this shows nothing.
    let date = Command::new("faketime").args(["-f", "+3h", "date", "+%s"]).output().unwrap();
    let fake: u64 = String::from_utf8(date.stdout).unwrap().trim().parse().unwrap();
    let before = fleet.store.now_ms().await.unwrap();
    assert!(fake * 1000 > before + 10_000_000);

    let late =
        fleet.client.start("chain", &json!({ "n": 1 })).delay(Duration::from_millis(300)).enqueue().await.unwrap();
    let flaky = fleet.client.start("flaky", &json!({ "n": 1 })).enqueue().await.unwrap();
    let long = fleet.client.start("loop", &json!({ "n": 300 })).enqueue().await.unwrap();
    for run in [&late, &flaky, &long] {
        let _: Value = run.result(LIMIT).await.unwrap();
    }
    let after = fleet.store.now_ms().await.unwrap();
    for run in [&late, &flaky, &long] {
        let history = fleet.store.history(run.id(), 0, 1000).await.unwrap();
        assert!(history.iter().all(|record| (before..=after).contains(&record.at_ms)), "{history:?}");
        assert!(history.iter().all(|record| record.kind != Kind::Lost), "{history:?}");
    }
    let run = late.status().await.unwrap().unwrap();
    let waited = run.started_ms.unwrap() - run.created_ms;
    assert!((300..10_000).contains(&waited), "the delay lasted {waited} ms");
    // No worker was considered dead too early, or alive beyond its lease.
    for worker in fleet.store.workers().await.unwrap() {
        assert!((1..=5000).contains(&worker.lease_ms), "{worker:?}");
    }
    assert_eq!(fleet.store.workers().await.unwrap().len(), workers.len());
}
