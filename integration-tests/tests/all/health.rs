//! The health endpoints of workers and coordinators, on a real Redis in trouble.

use std::path::Path;

use serde_json::{Value, json};
use stepfleet_integration_tests::fleet::{Fleet, Process, Signal};
use stepfleet_integration_tests::redis::{TestRedis, free_port};
use stepfleet_integration_tests::signals::{let_go, wait_for_arrival};
use stepfleet_integration_tests::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");

/// Status and body; None if nobody listens.
async fn ask(port: u16, request: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(format!("{request}\r\nhost: test\r\n\r\n").as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

async fn get(port: u16, path: &str) -> Option<(u16, String)> {
    ask(port, &format!("GET {path} HTTP/1.1")).await
}

/// A worker and a coordinator on this Redis, and their health addresses.
fn watched(url: &str) -> [(Process, u16); 2] {
    let ports = [free_port(), free_port()];
    let [at_worker, at_coordinator] = ports.map(|port| format!("127.0.0.1:{port}"));
    let settings = [("STEPFLEET_REDIS", url), ("RUST_LOG", "info")];
    let worker = Process::start(Path::new(WORKER), &[], &[&settings[..], &[("STEPFLEET_HEALTH", &at_worker)]].concat());
    let coordinator = Process::start(Path::new(STEPFLEET), &["coordinator", "--health", &at_coordinator], &settings);
    [(worker, ports[0]), (coordinator, ports[1])]
}

/// Waits until it is ready.
async fn ready(port: u16) {
    until(async || get(port, "/readyz").await == Some((200, "ready\n".to_owned()))).await;
}

/// Waits until it is not ready and says this.
async fn not_ready(port: u16, told: &[&str]) {
    let says_so = async || {
        let answer = get(port, "/readyz").await;
        answer.is_some_and(|(status, body)| status == 503 && told.iter().all(|told| body.contains(told)))
    };
    until(says_so).await;
    assert_eq!(get(port, "/livez").await, Some((200, "alive\n".to_owned())));
}

#[tokio::test]
async fn a_process_is_not_ready_while_redis_is_in_trouble_and_says_which() {
    let mut fleet = Fleet::on(TestRedis::process().await);
    let processes = watched(&fleet.redis.url);
    for (_, port) in &processes {
        ready(*port).await;
    }
    let mut redis = fleet.redis.connection().await;
    let mut replicas = redis::cmd("CONFIG");
    replicas.arg("SET").arg("min-replicas-to-write");
    let () = replicas.clone().arg("1").query_async(&mut redis).await.unwrap();
    for (_, port) in &processes {
        not_ready(*port, &["NOREPLICAS", "in partition 0, for ", "min-replicas-to-write requires"]).await;
    }
    let () = replicas.clone().arg("0").query_async(&mut redis).await.unwrap();
    for (_, port) in &processes {
        ready(*port).await;
    }
    fleet.redis.signal(Signal::STOP);
    for (_, port) in &processes {
        not_ready(*port, &["read in partition 0", "no answer within 800ms"]).await;
    }
    fleet.redis.signal(Signal::CONT);
    for (_, port) in &processes {
        ready(*port).await;
    }
    fleet.redis.kill();
    for (_, port) in &processes {
        not_ready(*port, &["read", "in partition 0", "refused", "check that the server runs"]).await;
    }
    fleet.redis.start_again().await;
    for (_, port) in &processes {
        ready(*port).await;
    }
}

#[tokio::test]
async fn a_process_that_has_never_reached_redis_is_alive_and_not_ready() {
    let mut redis = TestRedis::process().await;
    redis.kill();
    let processes = watched(&redis.url);
    for (_, port) in &processes {
        not_ready(*port, &["it has not finished starting", "opening", "refused"]).await;
    }
    redis.start_again().await;
    for (_, port) in &processes {
        ready(*port).await;
    }
}

/// Its steps block all its threads.
#[tokio::test]
async fn a_worker_that_is_blocked_answers() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let settings = [("STEPFLEET_HEALTH", address.as_str()), ("STEPFLEET_DRAIN_SECONDS", "600")];
    let worker = fleet.worker(WORKER, &settings);
    ready(port).await;
    // More than the worker has threads.
    for _ in 0..2 * std::thread::available_parallelism().unwrap().get() {
        fleet.client.start("blocking", &json!({ "n": 3600 })).enqueue().await.unwrap();
    }
    not_ready(port, &["no answer within 800ms"]).await;
    worker.signal(Signal::TERM);
    until(async || get(port, "/livez").await.is_some_and(|(status, _)| status == 200)).await;
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_is_not_ready_while_its_steps_end() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let mut worker = fleet.worker(WORKER, &[("STEPFLEET_HEALTH", &address), ("STEPFLEET_DRAIN_SECONDS", "600")]);
    ready(port).await;
    let run = fleet.client.start("gated", &json!({})).id("held").enqueue().await.unwrap();
    wait_for_arrival(&mut fleet.redis.connection().await, run.id()).await;
    worker.signal(Signal::TERM);
    not_ready(port, &["it was told to stop"]).await;
    let_go(&mut fleet.redis.connection().await, run.id(), 1).await;
    assert!(worker.ended().await.success());
}

#[tokio::test]
async fn what_is_asked_otherwise_is_refused_and_programs_are_told_in_json() {
    let fleet = Fleet::new().await;
    let [(worker, port), (_coordinator, _)] = watched(&fleet.redis.url);
    ready(port).await;
    let json = "GET /readyz HTTP/1.1\r\naccept: application/json";
    let (status, body) = ask(port, json).await.unwrap();
    assert_eq!((status, serde_json::from_str(&body).unwrap()), (200, json!({ "ready": true, "troubles": [] })));
    let mut redis = fleet.redis.connection().await;
    let mut set = redis::cmd("CONFIG");
    let () = set.arg("SET").arg("min-replicas-to-write").arg(1).query_async(&mut redis).await.unwrap();
    not_ready(port, &["NOREPLICAS"]).await;
    let (status, body) = ask(port, json).await.unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["ready"], &body["troubles"][0]["in"]), (503, &json!(false), &json!("partition 0")));
    assert!(body["troubles"][0]["since_ms"].as_u64().unwrap() > 1_700_000_000_000, "{body}");
    assert_eq!(get(port, "/elsewhere").await.unwrap().0, 404);
    assert_eq!(ask(port, "POST /readyz HTTP/1.1\r\ncontent-length: 0").await.unwrap().0, 405);
    // Silent clients do not hold others up for long.
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    until(async || get(port, "/livez").await.is_some_and(|(status, _)| status == 200)).await;
    let mut twice = Process::start(
        Path::new(STEPFLEET),
        &["coordinator", "--health", &format!("127.0.0.1:{port}")],
        &[("STEPFLEET_REDIS", &fleet.redis.url)],
    );
    assert!(!twice.ended().await.success());
    assert!(twice.log().contains("cannot listen on 127.0.0.1") && twice.log().contains("--health"), "{}", twice.log());
    drop(worker);
    until(async || get(port, "/livez").await.is_none()).await;
}
