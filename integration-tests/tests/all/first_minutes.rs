//! What a newcomer meets on the command line.

use std::process::{Command, Output, Stdio};

use stepfleet_integration_tests::fleet::{Fleet, Process};
use stepfleet_integration_tests::until;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");

fn stepfleet(url: &str, args: &[&str]) -> Output {
    Command::new(STEPFLEET).args(args).env("STEPFLEET_REDIS", url).stdin(Stdio::null()).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_says_at_once_that_the_fleet_does_not_know_the_workflow() {
    let fleet = Fleet::new().await;
    let url = &fleet.redis.url;
    let lonely = stepfleet(url, &["start", "sqares", "--id", "early"]);
    assert!(lonely.status.success(), "there is no fleet yet: callers and workers start together: {lonely:?}");
    let _worker = fleet.worker(WORKER, &[]);
    until(async || !fleet.store.workers().await.unwrap().is_empty()).await;

    let refused = stepfleet(url, &["start", "sqares", "--id", "typo", "--wait"]);
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("did you mean \"squares\"?"), "{said}");
    assert!(said.contains("--hold") && said.contains("Nothing was sent"), "{said}");
    assert_eq!(fleet.store.waiting_requests().await.unwrap(), 1, "only the first one");
    let held = stepfleet(url, &["start", "sqares", "--id", "typo", "--hold"]);
    assert!(held.status.success(), "{held:?}");
    assert_eq!(fleet.store.waiting_requests().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_what_is_missing() {
    let fleet = Fleet::new().await;
    let url = fleet.redis.url.clone();
    let told = async |waiting: &Process, what: &str| until(async || waiting.log().contains(what)).await;
    let settings = [("STEPFLEET_REDIS", url.as_str())];
    let start = ["start", "squares", "--input", r#"{"count": 3}"#, "--id", "r", "--wait"];
    let mut waiting = Process::start(STEPFLEET.as_ref(), &start, &settings);
    told(&waiting, "run r waits for a coordinator to take its request in").await;
    let _coordinator = fleet.coordinator();
    told(&waiting, "run r waits for a worker that serves its workflow: no worker has registered").await;
    let _worker = fleet.worker(WORKER, &[]);
    assert!(waiting.ended().await.success());
    assert!(waiting.log().contains("\"sum\":14"), "{}", waiting.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_workers_are_gone_is_started_with_a_note() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let worker = fleet.worker(WORKER, &[]);
    until(async || !fleet.store.workers().await.unwrap().is_empty()).await;
    drop(worker);
    until(async || fleet.store.workers().await.unwrap().iter().all(|worker| worker.lease_ms <= 0)).await;
    let started = stepfleet(&fleet.redis.url, &["start", "squares"]);
    let said = text(&started.stderr);
    assert!(started.status.success() && said.contains("No live worker serves the workflow \"squares\" now"), "{said}");
}

/// Builds and tests a project of `stepfleet new` against this checkout, with the crates that are already compiled for these tests.
#[test]
fn a_new_project_is_built_and_its_test_passes() {
    let checkout = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("hello");
    let new = |name: &std::path::Path| {
        let arguments = ["new", name.to_str().unwrap(), "--path", checkout];
        Command::new(STEPFLEET).args(arguments).output().expect("it starts")
    };
    let made = new(&project);
    assert!(made.status.success() && text(&made.stdout).contains("cargo run"), "{made:?}");
    let again = new(&project);
    assert!(!again.status.success() && text(&again.stderr).contains("already exists"), "{again:?}");
    let here = project.join("src/main.rs");
    assert!(std::fs::read_to_string(here).unwrap().contains("async fn hello"));

    std::fs::copy(format!("{checkout}/Cargo.lock"), project.join("Cargo.lock")).unwrap();
    let target = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--quiet", "--offline"]).current_dir(&project).env("CARGO_TARGET_DIR", target);
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS");
    let tested = cargo.output().expect("cargo starts");
    assert!(tested.status.success(), "{}\n{}", text(&tested.stdout), text(&tested.stderr));
    assert!(text(&tested.stdout).contains("1 passed"), "{tested:?}");
}

#[test]
fn without_arguments_it_says_what_to_do_next_and_shells_and_man_are_served() {
    let next = stepfleet("redis://127.0.0.1:1", &[]);
    assert!(next.status.success() && text(&next.stdout).lines().count() == 3, "{next:?}");
    assert!(text(&next.stdout).contains("stepfleet dev"));
    for (shell, mark) in [("bash", "complete -F"), ("zsh", "#compdef stepfleet"), ("fish", "complete -c stepfleet")] {
        let script = text(&stepfleet("", &["completions", shell]).stdout);
        assert!(script.contains(mark) && script.contains("rejected"), "{shell}: {script}");
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(text(&stepfleet("", &["man"]).stdout).contains(".TH"));
    assert!(stepfleet("", &["man", "--dir", folder.path().to_str().unwrap()]).status.success());
    let page = std::fs::read_to_string(folder.path().join("stepfleet-start.1")).unwrap();
    assert!(page.contains("Start a run") && !folder.path().join("stepfleet-dev-server.1").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_rejected_is_listed_with_its_reason() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let mut redis = fleet.redis.connection().await;
    for (id, input) in [("first", "{"), ("second", "[")] {
        let mut add = redis::cmd("XADD");
        add.arg("sf:{0}:inbox").arg("*").arg(&["op", "start", "workflow", "squares", "id", id, "input", input]);
        let () = add.exec_async(&mut redis).await.unwrap();
    }
    let url = &fleet.redis.url;
    let all = async || {
        let listed = stepfleet(url, &["rejected", "--json"]);
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
        Some(listed).filter(|listed| listed.as_array().unwrap().len() == 2)
    };
    let listed = stepfleet_integration_tests::found(all).await;
    assert_eq!(
        (&listed[0]["id"], &listed[0]["op"], &listed[0]["workflow"]),
        (&"second".into(), &"start".into(), &"squares".into())
    );
    assert!(listed[1]["reason"].as_str().unwrap().contains("EOF"), "{listed}");
    assert_eq!(listed[1]["fields"]["input"], "{");
    let table = text(&stepfleet(url, &["rejected", "--limit", "1"]).stdout);
    assert!(
        table.contains("second") && !table.contains("first") && table.contains("cannot be read as JSON"),
        "{table}"
    );
    let at = listed[0]["at_ms"].as_u64().unwrap();
    let later = stepfleet(url, &["rejected", "--since", "2999-01-01"]);
    assert_eq!(text(&later.stdout), "Nothing was rejected.\n");
    assert_eq!(text(&stepfleet(url, &["rejected", "--before", "1d"]).stdout), "Nothing was rejected.\n");
    assert!(at > 0 && text(&stepfleet(url, &["rejected", "--since", "1h"]).stdout).contains("first"));
    let wrong = stepfleet(url, &["rejected", "--since", "yesterday"]);
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("10m, 1h"), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_found_by_time_and_text_and_shown_with_their_steps() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _worker = fleet.worker(WORKER, &[]);
    let url = &fleet.redis.url;
    let watching = Process::start(STEPFLEET.as_ref(), &["runs", "--watch"], &[("STEPFLEET_REDIS", url)]);
    for (id, workflow, input) in [("good-1", "squares", r#"{"count":3}"#), ("bad-1", "broken", r#"{"n":0}"#)] {
        stepfleet(url, &["start", workflow, "--id", id, "--input", input, "--wait"]);
    }
    until(async || watching.log().contains("good-1") && watching.log().contains("failed: ")).await;
    let ids = |arguments: &[&str]| {
        let listed = stepfleet(url, &[&["runs", "--json"], arguments].concat());
        let listed: serde_json::Value =
            serde_json::from_slice(&listed.stdout).unwrap_or_else(|e| panic!("{e}: {listed:?}"));
        listed.as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&["--since", "1h"]), ["bad-1", "good-1"]);
    assert_eq!(ids(&["--before", "1h"]), [""; 0]);
    assert_eq!(ids(&["--text", "GOOD"]), ["good-1"]);
    assert_eq!(ids(&["--text", "no such customer", "--status", "failed"]), ["bad-1"]);
    let wrong = stepfleet(url, &["runs", "--status", "done"]);
    assert!(text(&wrong.stderr).contains("[possible values: queued, running"), "{wrong:?}");

    let shown = text(&stepfleet(url, &["show", "good-1"]).stdout);
    assert!(shown.contains("SEQ") && shown.lines().filter(|line| line.contains("square ")).count() == 3, "{shown}");
    let shown = stepfleet(url, &["show", "bad-1", "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let steps = shown["steps"].as_array().unwrap();
    let failed = steps.iter().find(|step| step["state"] == "failed").unwrap_or_else(|| panic!("{shown}"));
    assert!(failed["error"].as_str().unwrap().contains("no such customer") && failed["worker"].is_string(), "{shown}");
    assert!(failed["attempt"].as_u64().unwrap() >= 1 && failed["ended_ms"].as_u64().unwrap() > 0, "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_under_way_is_shown() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _worker = fleet.worker(WORKER, &[]);
    let run = fleet.client.start("gated", &serde_json::json!({})).id("r").enqueue().await.unwrap();
    let live = async || fleet.store.live_steps(run.id()).await.unwrap().into_iter().next();
    let step = stepfleet_integration_tests::found(async || {
        let step = live().await?;
        (step.attempt > 0).then_some(step)
    })
    .await;
    let shown = text(&stepfleet(&fleet.redis.url, &["show", "r"]).stdout);
    assert!(
        shown.contains(&step.step) && (shown.contains("running") || shown.contains("waits for signals")),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_shows_what_it_takes_and_rejects_and_says_good_bye() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let arguments = ["dev", "--port", "0", "--dir", dir];
    let mut dev = Process::start(STEPFLEET.as_ref(), &arguments, &[]);
    let url = stepfleet_integration_tests::found(async || {
        let log = dev.log();
        let at = log.find("ready at ")? + "ready at ".len();
        log[at..].split_once(". Data").map(|(url, _)| url.to_owned())
    })
    .await;
    let second = Command::new(STEPFLEET).args(arguments).stdin(Stdio::null()).output().expect("it starts");
    let said = text(&second.stderr);
    assert!(!second.status.success() && said.lines().count() == 1, "{said}");
    assert!(said.contains("is already running in") && said.contains(&url), "{said}");

    let _worker = Process::start(WORKER.as_ref(), &[], &[("STEPFLEET_REDIS", &url)]);
    let wrong = ["start", "squares", "--id", "typo", "--input", "{}", "--hold"];
    assert!(stepfleet(&url, &wrong).status.success());
    stepfleet(&url, &["start", "squares", "--id", "mine", "--input", r#"{"count":2}"#, "--wait"]);
    let client = stepfleet_shared::Client::connect(&url).unwrap();
    let strange = [(b"op".to_vec(), b"dance".to_vec()), (b"id".to_vec(), b"strange".to_vec())];
    client.partitions().await.unwrap().first().enqueue(&strange).await.unwrap();
    until(async || dev.log().contains("mine  squares:1  completed")).await;
    until(async || dev.log().contains("strange  dance  rejected: operation \"dance\" is not known")).await;
    dev.signal(stepfleet_integration_tests::fleet::Signal::INT);
    assert!(dev.ended().await.success());
    assert!(dev.log().contains("Good-bye. Runs are kept in"), "{}", dev.log());
}
