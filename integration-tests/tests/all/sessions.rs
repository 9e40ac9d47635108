//! Sessions on whole fleets.

use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_integration_tests::both::Both;
use stepfleet_integration_tests::durable::{Talk, talk};
use stepfleet_integration_tests::fleet::{Fleet, Process};
use stepfleet_integration_tests::found;
use stepfleet_shared::client::{Client, RunHandle};
use stepfleet_shared::run::Status;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(90);

async fn say(client: &Client, session: &str, texts: &[String]) -> Vec<RunHandle> {
    let mut runs = Vec::new();
    for text in texts {
        runs.push(client.start("talk", text).session(session).enqueue().await.unwrap());
    }
    runs
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("text {n}")).collect()
}

async fn said(client: &Client, session: &str) -> Vec<String> {
    client.session(session).state::<Talk>().await.unwrap().map_or_else(Vec::new, |talk| talk.said)
}

#[tokio::test]
async fn several_talks_go_on_at_once_and_each_in_its_order() {
    Both::new(|worker| worker.serve(talk::workflow()))
        .play(async |stage| {
            let mut runs = Vec::new();
            for session in ["ann", "bob", "cy"] {
                runs.push((session, say(&stage.client, session, &texts(12)).await));
            }
            for (session, runs) in &runs {
                for (n, run) in runs.iter().enumerate() {
                    assert_eq!(run.result::<usize>(LIMIT).await.unwrap(), n + 1, "{session}");
                }
                assert_eq!(said(&stage.client, session).await, texts(12));
                let status = stage.client.session(*session).status().await.unwrap().unwrap();
                assert_eq!((status.running, status.waiting.len(), status.completed), (None, 0, 12));
            }
        })
        .await;
}

#[tokio::test]
async fn runs_whose_places_were_waited_for_keep_their_order_with_several_coordinators() {
    let fleet = Fleet::new().await;
    let _coordinators: Vec<_> = (0..3).map(|_| fleet.coordinator()).collect();
    let _worker = fleet.worker(WORKER, &[]);
    fleet.workers_ready(1).await;
    for text in texts(40) {
        let run = fleet.client.start("talk", &text).session("s").enqueue().await.unwrap();
        let run = run.accepted(LIMIT).await.unwrap();
        assert_eq!(run.session.as_deref(), Some("s"));
    }
    fleet.client.start("talk", "the last").session("s").enqueue().await.unwrap().wait(LIMIT).await.unwrap();
    let all: Vec<_> = texts(40).into_iter().chain(["the last".to_owned()]).collect();
    assert_eq!(said(&fleet.client, "s").await, all);
}

#[tokio::test]
async fn a_start_that_nobody_accepts_says_what_it_waits_for() {
    let fleet = Fleet::new().await;
    let run = fleet.client.start("talk", "Hello").session("s").enqueue().await.unwrap();
    let error = run.accepted(Duration::from_millis(50)).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(error.to_string().contains("it waits for a coordinator to take its request in"), "{error}");
}

#[tokio::test]
async fn a_run_that_fails_leaves_nothing_behind_until_it_is_retried() {
    Both::new(|worker| worker.serve(talk::workflow()))
        .play(async |stage| {
            let runs = say(&stage.client, "s", &["one", "nonsense", "two"].map(str::to_owned)).await;
            assert_eq!(runs[2].result::<usize>(LIMIT).await.unwrap(), 2);
            assert_eq!(runs[1].wait(LIMIT).await.unwrap().status, Status::Failed);
            assert_eq!(said(&stage.client, "s").await, ["one", "two"]);
        })
        .await;
}

#[tokio::test]
async fn a_talk_goes_on_in_its_order_while_its_workers_are_killed() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let start = || fleet.worker(WORKER, &[("STEPFLEET_CONCURRENCY", "2")]);
    let mut workers: Vec<Process> = (0..3).map(|_| start()).collect();
    fleet.workers_ready(3).await;
    let runs = say(&fleet.client, "s", &texts(30)).await;
    for n in [3, 9, 17] {
        runs[n].wait(LIMIT).await.unwrap();
        workers.remove(0).kill();
        workers.push(start());
    }
    for (n, run) in runs.iter().enumerate() {
        assert_eq!(run.result::<usize>(LIMIT).await.unwrap(), n + 1);
    }
    assert_eq!(said(&fleet.client, "s").await, texts(30));
}

fn stepfleet(url: &str, args: &[&str]) -> String {
    let mut command = std::process::Command::new(STEPFLEET);
    let output = command.args(args).env("STEPFLEET_REDIS", url).env("NO_COLOR", "1").output().expect("it starts");
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn the_command_line_starts_runs_in_a_session_and_shows_what_they_wait_for() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator_process(STEPFLEET);
    let _worker = fleet.worker(WORKER, &[]);
    fleet.workers_ready(1).await;
    let url = &fleet.redis.url;
    stepfleet(url, &["start", "talk", "--input", "\"one\"", "--session", "s", "--id", "first", "--wait"]);
    fleet
        .client
        .start("talk", "two")
        .id("second")
        .session("s")
        .delay(Duration::from_secs(3600))
        .enqueue()
        .await
        .unwrap();
    // It waits at a gate.
    for (id, workflow, input) in [("third", "steady", "0"), ("fourth", "talk", "\"four\"")] {
        stepfleet(url, &["start", workflow, "--input", input, "--session", "s", "--id", id]);
        found(async || fleet.client.run(id).status().await.unwrap()).await;
    }
    let shown = stepfleet(url, &["show", "fourth"]);
    assert!(shown.contains("session   s") && shown.contains("for its turn in session s, behind run third"), "{shown}");
    assert!(!stepfleet(url, &["show", "third"]).contains("for its turn"));
    let told = stepfleet(url, &["session", "s"]);
    assert!(told.contains("turn      third") && told.contains("waiting   fourth"), "{told}");
    assert!(told.contains(r#"context   {"said":["one"]}"#), "{told}");
    let told: Value = serde_json::from_str(&stepfleet(url, &["session", "s", "--json"])).unwrap();
    assert_eq!((&told["running"], &told["completed"]), (&json!("third"), &json!(1)));
    let error = fleet.client.run("fourth").wait(Duration::ZERO).await.unwrap_err().to_string();
    assert!(error.contains("it waits for its turn in session s"), "{error}");
}
