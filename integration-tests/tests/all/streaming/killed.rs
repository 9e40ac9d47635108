//! Workers that are killed while they stream, and a program that reads the stream.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use stepfleet_integration_tests::fleet::{Fleet, Process};
use stepfleet_integration_tests::signals::{let_go, wait_for_arrival};
use stepfleet_integration_tests::until;
use stepfleet_shared::client::RunHandle;
use stepfleet_shared::published::{Position, Published, Streams, What};

use super::{LIMIT, shown};

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");

/// Waits until the stream has this text.
async fn says(run: &RunHandle, text: &str) {
    let (mut follower, mut streams) = (run.follow(), Streams::default());
    while let Some(entry) = follower.next().await.unwrap() {
        if streams.add(&entry).is_some_and(|stream| stream.text == text) {
            return;
        }
    }
    panic!("the run has ended and never said {text:?}");
}

async fn all(fleet: &Fleet, run: &str) -> Vec<Published> {
    fleet.store.published(run, Position::BEGINNING, 1000).await.unwrap()
}

/// The end of a run whose first worker is killed in the middle of its answer.
async fn killed_in_the_middle(fleet: &Fleet, id: &str, wavers: bool) -> (String, Vec<Published>) {
    let mut workers: Vec<Process> = (0..2).map(|_| fleet.worker(WORKER, &[])).collect();
    fleet.workers_ready(2).await;
    let run = fleet.client.start("telling", &json!({ "wavers": wavers })).id(id).enqueue().await.unwrap();
    let follower = run.follow();
    let mut redis = fleet.redis.connection().await;
    let victim = wait_for_arrival(&mut redis, id).await;
    says(&run, "Once upon a time ").await;
    let at = workers.iter().position(|worker| worker.id() == victim).expect("one of the workers");
    workers[at].kill();
    assert_ne!(wait_for_arrival(&mut redis, id).await, victim);
    let_go(&mut redis, id, 1).await;
    let told: String = run.result(LIMIT).await.unwrap();
    let mut followed = Vec::new();
    let mut follower = follower;
    while let Some(entry) = follower.next().await.unwrap() {
        followed.push(entry);
    }
    assert_eq!(followed, all(fleet, id).await, "whoever comes later sees the same");
    drop(workers);
    (told, followed)
}

#[tokio::test]
async fn a_reader_sees_each_piece_once_although_the_worker_is_killed() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let (told, entries) = killed_in_the_middle(&fleet, "same", false).await;
    assert_eq!(told, "Once upon a time there was an otter.");
    assert_eq!(shown(&entries, "story").concat(), told, "{entries:?}");
    let attempts: Vec<u32> = entries.iter().filter_map(attempt).collect();
    assert!(attempts.contains(&1) && attempts.last() > Some(&1), "{attempts:?}");
}

fn attempt(entry: &Published) -> Option<u32> {
    match &entry.what {
        What::Piece { by, .. } => Some(by.attempt),
        _ => None,
    }
}

#[tokio::test]
async fn a_reader_is_told_when_the_next_attempt_writes_something_else() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let url = fleet.redis.url.clone();
    let settings = [("STEPFLEET_REDIS", url.as_str())];
    let reading = async {
        until(async || fleet.store.run("other").await.unwrap().is_some()).await;
        Process::start(Path::new(STEPFLEET), &["follow", "other", "--stream", "story"], &settings)
    };
    let (reading, (told, entries)) = tokio::join!(reading, killed_in_the_middle(&fleet, "other", true));
    assert_eq!(told, "Once upon a hill there was an otter.");
    assert_eq!(shown(&entries, "story").concat(), format!("Once upon a time |{told}"), "{entries:?}");
    let mut reading = reading;
    assert!(reading.ended().await.success(), "{}", reading.log());
    let log = reading.log();
    assert!(log.starts_with("Once upon a time \n"), "{log}");
    assert!(log.contains("attempt 2 writes something else") && log.ends_with(&format!("{told}\n")), "{log}");
    // Long after the end.
    let again = Command::new(STEPFLEET).args(["follow", "other", "--events"]).env("STEPFLEET_REDIS", &url).output();
    let again = String::from_utf8_lossy(&again.unwrap().stdout).into_owned();
    assert!(again.contains("superseded story 1.1.1") && again.contains("(the last)"), "{again}");
}
