//! What a worker process logs: by default, as JSON, and with its own subscriber.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_integration_tests::fleet::{Fleet, Process, Signal};
use stepfleet_integration_tests::redis::TestRedis;
use stepfleet_integration_tests::until;

const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const LIMIT: Duration = Duration::from_secs(90);

fn worker(url: &str, settings: &[(&str, &str)]) -> Process {
    let mut all = vec![("STEPFLEET_REDIS", url), ("STEPFLEET_PARTITIONS", "1"), ("STEPFLEET_WORKER_NAME", "w")];
    all.extend_from_slice(settings);
    Process::start(Path::new(WORKER), &[], &all)
}

/// The line that has all of these.
fn line(process: &Process, parts: &[&str]) -> Option<String> {
    process.log().lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
}

async fn says(process: &Process, parts: &[&str]) {
    until(async || line(process, parts).is_some()).await;
}

#[tokio::test]
async fn a_worker_logs_what_it_does_and_no_password() {
    let mut fleet = Fleet::on(TestRedis::process_with(&["--requirepass", "open-sesame"]).await);
    let _coordinator = fleet.coordinator();
    let mut worker = worker(&fleet.redis.url, &[]);
    let shown = fleet.redis.url.replace(":open-sesame@", "***@");
    assert_ne!(shown, fleet.redis.url);
    says(&worker, &["INFO", "ready, serves ", "flaky:1", &format!(", {shown}"), "worker=\"w-"]).await;
    let run = fleet.client.start("flaky", &json!({ "n": 1 })).id("f").enqueue().await.unwrap();
    run.result::<Value>(LIMIT).await.unwrap();
    says(&worker, &["WARN", "will be retried", "run=\"f\"", "step=\"attempt\"", "attempt=1", "failure 1", "delay="])
        .await;
    fleet.client.start("broken", &json!({ "n": 0 })).id("b").enqueue().await.unwrap();
    says(&worker, &["WARN", "failed for good", "run=\"b\"", "attempt=1", "no such customer"]).await;
    fleet.redis.kill();
    says(&worker, &["WARN", "waiting for Redis"]).await;
    fleet.redis.start_again().await;
    says(&worker, &["INFO", "Redis accepts calls again"]).await;
    worker.signal(Signal::TERM);
    assert!(worker.ended().await.success(), "{}", worker.log());
    let log = worker.log();
    let order = ["ready, serves", "told to stop", "stopped"].map(|text| log.find(text).expect(text));
    assert!(order.is_sorted() && !log.contains("open-sesame") && !log.contains('\u{1b}'), "{log}");
    assert!(log.lines().all(|line| line.starts_with("20")), "a line for each: {log}");
}

#[tokio::test]
async fn as_json_each_line_is_an_object_of_its_own() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let mut worker = worker(
        &fleet.redis.url,
        &[("STEPFLEET_LOG_FORMAT", "json"), ("STEPFLEET_LOG", "warn,stepfleet_integration_tests=info")],
    );
    let run = fleet.client.start("flaky", &json!({ "n": 1 })).id("f").enqueue().await.unwrap();
    run.result::<Value>(LIMIT).await.unwrap();
    worker.signal(Signal::TERM);
    assert!(worker.ended().await.success(), "{}", worker.log());
    let lines: Vec<Value> = worker.log().lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let [own, failed, again] = &lines[..] else { panic!("{lines:?}") };
    for (line, attempt) in [(own, 1), (failed, 1), (again, 2)] {
        let told = ["run", "workflow", "step", "seq", "attempt"].map(|field| &line[field]);
        assert_eq!(told, [&json!("f"), &json!("flaky"), &json!("attempt"), &json!(1), &json!(attempt)], "{line}");
        assert!(line["worker"].as_str().is_some_and(|id| id.starts_with("w-")), "{line}");
    }
    assert_eq!((&failed["level"], &failed["error"]), (&json!("WARN"), &json!("failure 1")));
    for line in [own, again] {
        assert_eq!((&line["message"], &line["asked"]), (&json!("the author's own line"), &json!(1)), "{line}");
    }
}

#[tokio::test]
async fn a_coordinator_writes_json_too() {
    let fleet = Fleet::new().await;
    for (arguments, settings) in
        [(vec!["coordinator", "--json"], vec![]), (vec!["coordinator"], vec![("STEPFLEET_LOG_FORMAT", "json")])]
    {
        let settings =
            [&settings[..], &[("STEPFLEET_REDIS", fleet.redis.url.as_str()), ("RUST_LOG", "debug")]].concat();
        let mut coordinator = Process::start(Path::new(STEPFLEET), &arguments, &settings);
        says(&coordinator, &["the coordinator is running"]).await;
        let mut add = redis::cmd("XADD");
        add.arg("sf:{0}:inbox").arg("*").arg("op").arg("dance").arg("id").arg("x");
        let () = add.query_async(&mut fleet.redis.connection().await).await.unwrap();
        says(&coordinator, &["rejected a request"]).await;
        coordinator.signal(Signal::TERM);
        assert!(coordinator.ended().await.success(), "{}", coordinator.log());
        let lines: Vec<Value> = coordinator.log().lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let rejected = lines.iter().find(|line| line["message"] == "rejected a request").unwrap();
        assert!(rejected["entry"].is_string() && rejected["reason"].is_string(), "{rejected}");
    }
}

#[tokio::test]
async fn a_subscriber_of_the_users_own_gets_all_and_nothing_is_written_beside_it() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let mut worker = worker(&fleet.redis.url, &[("TEST_OWN_SUBSCRIBER", "1"), ("STEPFLEET_LOG_FORMAT", "json")]);
    says(&worker, &["ready, serves "]).await;
    worker.signal(Signal::TERM);
    assert!(worker.ended().await.success(), "{}", worker.log());
    let log = worker.log();
    // It writes no time.
    let levels = ["INFO", "WARN"];
    assert!(log.lines().all(|line| levels.iter().any(|level| line.trim_start().starts_with(level))), "{log}");
    assert_eq!(log.matches("ready, serves").count(), 1, "{log}");
}

#[tokio::test]
async fn what_keeps_a_worker_from_starting_is_a_sentence() {
    for (setting, value, sentence) in [
        ("STEPFLEET_LOG_FORMAT", "xml", "Error: STEPFLEET_LOG_FORMAT is \"xml\"; it must be text or json\n"),
        ("STEPFLEET_CONCURRENCY", "many", "Error: STEPFLEET_CONCURRENCY is \"many\"; it must be a whole number\n"),
    ] {
        let mut worker = worker("redis://127.0.0.1:1", &[(setting, value)]);
        assert!(!worker.ended().await.success());
        assert_eq!(worker.log(), sentence);
    }
}

#[tokio::test]
async fn a_worker_that_waits_for_a_coordinator_says_how_to_start_one() {
    let fleet = Fleet::new().await;
    let settings = [("STEPFLEET_REDIS", fleet.redis.url.as_str()), ("STEPFLEET_LOG", "info")];
    let worker = Process::start(Path::new(WORKER), &[], &settings);
    says(&worker, &["WARN", "waiting for Redis", "no coordinator", "`stepfleet dev`"]).await;
    let _coordinator = fleet.coordinator();
    says(&worker, &["ready, serves "]).await;
}
